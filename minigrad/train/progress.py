"""How far an epoch is: a bar on a terminal where tqdm is installed, else a line at its end."""
from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def told(logs: Mapping[str, float]) -> str:
    """The figures in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in logs.items())


class Quiet:
    """Says nothing."""

    def begin(self, epoch: int, steps: int) -> None:
        """An epoch of so many steps begins."""

    def advance(self, steps: int) -> None:
        """So many more steps are done."""

    def end(self, logs: Mapping[str, float]) -> None:
        """The epoch is over, validation included."""


class Lines(Quiet):
    """One line an epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._title, self._start = "", 0.0

    def begin(self, epoch: int, steps: int) -> None:
        """Start the clock."""
        self._title, self._start = f"Epoch {epoch + 1}/{self.epochs}", time.perf_counter()

    def end(self, logs: Mapping[str, float]) -> None:
        """Print the line."""
        print(f"{self._title}  {told(logs)}  {time.perf_counter() - self._start:.2f} s", flush=True)


class Bar(Lines):
    """One bar of tqdm an epoch."""

    _bar: Any

    def begin(self, epoch: int, steps: int) -> None:
        """Open the bar."""
        from tqdm import tqdm

        super().begin(epoch, steps)
        self._bar = tqdm(total=steps, desc=self._title, unit="step", dynamic_ncols=True)

    def advance(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)

    def end(self, logs: Mapping[str, float]) -> None:
        """Leave the bar standing with the figures."""
        self._bar.set_postfix_str(told(logs))
        self._bar.close()


def progress(verbose: bool, epochs: int) -> Quiet:
    """The best that this process's streams can show."""
    if not verbose:
        return Quiet()
    return Bar(epochs) if sys.stderr.isatty() and find_spec("tqdm") is not None else Lines(epochs)
