"""How far an epoch is: a bar on a terminal where tqdm is installed, else a line at its end."""
from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal

Verbosity = Literal["auto", 0, 1, 2] | bool
LINES: Final = 100  # that "auto" prints at most


def told(logs: Mapping[str, float]) -> str:
    """The figures in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in logs.items())


class Quiet:
    """Says nothing."""

    def begin(self, epoch: int, steps: int | None) -> None:
        """An epoch of so many steps begins, or of nobody knows how many."""

    def advance(self, steps: int) -> None:
        """So many more steps are done."""

    def end(self, logs: Mapping[str, float]) -> None:
        """The epoch is over, validation included."""

    def tell(self, words: str) -> None:
        """Someone has something to say."""

    def close(self) -> None:
        """Training has ended, maybe inside an epoch."""


class Lines(Quiet):
    """One line an epoch, or for the last of `every` epochs and the last of all."""

    def __init__(self, epochs: int, every: int = 1) -> None:
        self.epochs, self.every = epochs, every
        self._title, self._start, self._told = "", 0.0, True

    def begin(self, epoch: int, steps: int | None) -> None:
        """Start the clock."""
        self._told = (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs
        self._title, self._start = f"Epoch {epoch + 1}/{self.epochs}", time.perf_counter()

    def end(self, logs: Mapping[str, float]) -> None:
        """Print the line."""
        if self._told:
            print(f"{self._title}  {told(logs)}  {time.perf_counter() - self._start:.2f} s", flush=True)

    def tell(self, words: str) -> None:
        """Print it."""
        print(words, flush=True)


class Bar(Lines):
    """One bar of tqdm an epoch."""

    _bar: Any = None

    def begin(self, epoch: int, steps: int | None) -> None:
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
        self.close()

    def tell(self, words: str) -> None:
        """Print it above the bar."""
        from tqdm import tqdm

        tqdm.write(words)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress(verbose: Verbosity, epochs: int) -> Quiet:
    """What shows an epoch: 0 nothing; 1 a bar on a terminal where tqdm is installed, else a line; 2 a line.

    "auto" is 1, but where there are more than a hundred epochs it shows a hundred lines.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose is {verbose!r}, expected 'auto', 0, 1 or 2")
    if not verbose:
        return Quiet()
    every = -(-epochs // LINES) if verbose == "auto" else 1
    bar = verbose != 2 and every <= 1 and sys.stderr.isatty() and find_spec("tqdm") is not None
    return Bar(epochs) if bar else Lines(epochs, max(every, 1))
