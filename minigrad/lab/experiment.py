"""What an experiment is: a run that says, tables, draws and checks; what it leaves goes into a page."""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minigrad import display

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Check(NamedTuple):
    """A figure against the range that it has to lie in."""

    what: str
    value: str
    wanted: str
    passed: bool
    source: str = ""  # where the range comes from


class Table(NamedTuple):
    """Rows under a head."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A figure, and what to look at in it."""

    name: str
    caption: str
    figure: Figure


class Text(NamedTuple):
    """A paragraph."""

    words: str


@dataclass
class Lab:
    """Where one experiment runs: its options, and what it has said, drawn and checked so far.

    quick: a rehearsal, which runs everything on a small scale; then no check counts.
    asks: whether `ask` may ask, because someone sits at a terminal.
    """

    options: argparse.Namespace
    quick: bool = False
    asks: bool = False
    items: list[Check | Table | Picture | Text] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    @property
    def checks(self) -> list[Check]:
        """What was checked so far."""
        return [item for item in self.items if isinstance(item, Check)]

    @property
    def draws(self) -> bool:
        """Whether pictures can be drawn; without matplotlib an experiment leaves them out."""
        return find_spec("matplotlib") is not None

    def ask(self, question: str) -> str:
        """What is typed at the terminal; empty where nobody can be asked."""
        if not self.asks:
            return ""
        try:
            return input(question).strip()
        except EOFError:
            print()
            return ""

    def say(self, words: str, shown: str | None = None) -> None:
        """Print a paragraph, or `shown` in its place, and keep it for the page; an empty one is left out."""
        if words:
            print(words if shown is None else shown, flush=True)
            self.items.append(Text(words))

    def found(self, words: str) -> str:
        """A conclusion: the words themselves; none in a rehearsal, which is too small to show it."""
        return "" if self.quick else words

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> None:
        """Print a table and keep it; numbers are shown with four digits."""
        text = [[f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell) for cell in row] for row in rows]
        self.items.append(Table(caption, head, text))
        widths = [max(map(len, column)) for column in zip(head, *text, strict=True)]
        print("\n".join([*([caption] if caption else []), *["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))
                                                            for line in (head, *text)]]), flush=True)

    def check(self, what: str, value: float, low: float = -np.inf, high: float = np.inf, *, source: str = "") -> bool:
        """Whether low <= value <= high, printed as PASS or FAIL; NaN fails."""
        passed = bool(low <= value <= high)
        wanted = (f"{low:.6g} to {high:.6g}" if np.isfinite(low) and np.isfinite(high) and low != high else f"{low:.9g}" if low == high
                  else f"at least {low:.6g}" if np.isfinite(low) else f"at most {high:.6g}")
        value_text = "none" if self.quick and not np.isfinite(value) else f"{value:.9g}"  # a rehearsal is too short for some figures
        return self._checked(Check(what, value_text, wanted, passed, source))

    def check_close(self, what: str, value: float, wanted: float, *, rtol: float = 0.0, atol: float = 0.0, source: str = "") -> bool:
        """Whether |value - wanted| <= atol + rtol * |wanted|."""
        passed = bool(abs(value - wanted) <= atol + rtol * abs(wanted))
        within = " + ".join([*([f"{atol:.1g}"] if atol else []), *([f"{100 * rtol:.3g} %"] if rtol else [])])
        return self._checked(Check(what, f"{value:.9g}", f"{wanted:.9g} within {within}" if within else f"exactly {wanted:.9g}", passed, source))

    def check_true(self, what: str, value: bool, wanted: str = "yes", *, source: str = "") -> bool:
        """Whether something holds."""
        return self._checked(Check(what, "yes" if value else "no", wanted, bool(value), source))

    def _checked(self, check: Check) -> bool:
        self.items.append(check)
        mark = "check" if self.quick else "PASS" if check.passed else "FAIL"
        print(f"{mark:<5} {check.what}: {check.value} (wanted: {check.wanted})", flush=True)
        return check.passed

    def picture(self, name: str, figure: Figure | Callable[[], Figure], caption: str) -> None:
        """Keep a figure, or what a function draws; `name` becomes its file's. A function is not called where there is no matplotlib."""
        if callable(figure):
            if not self.draws:
                return
            figure = figure()
        self.items.append(Picture(name, caption, figure))

    def progress(self, steps: Iterable[Any], what: str) -> Iterable[Any]:
        """The same items, with a bar on a terminal where tqdm is installed."""
        try:
            from tqdm import tqdm
        except ImportError:
            return steps
        return tqdm(steps, desc=what, leave=False, disable=None)  # type: ignore[no-any-return]


class Experiment(NamedTuple):
    """One command of the lab."""

    number: str  # "000", or a word
    name: str  # "gradient-check"
    title: str
    run: Callable[[Lab], None]
    add_options: Callable[[argparse.ArgumentParser], None] | None = None


def figure(who: str, width: float = 8.0, height: float = 4.8) -> Figure:
    """An empty picture for an experiment."""
    return display.figure(f"lab {who}", width, height)
