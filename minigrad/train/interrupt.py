"""Ctrl-C at a step's border."""
from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """While it is entered, the first Ctrl-C is kept until `check`, where it raises KeyboardInterrupt; a second one raises at once.

    Only in the main thread, and only where Ctrl-C means Python's own KeyboardInterrupt; elsewhere everything is left as it is.
    """

    def __init__(self) -> None:
        self.heard = False
        self._ours = False

    def __enter__(self) -> Self:
        self._ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.check()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was heard."""
        if self.heard:
            raise KeyboardInterrupt
