"""What a captured step runs and allocates, for people."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from minigrad import display
from minigrad.ops.spec import Shape
from minigrad.program.encode import Program
from minigrad.tape.handle import Array
from minigrad_kernels.machine import BARRIER, PARALLEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS: Final = ("", "op", "module", "operands", "bytes", "FLOP", "line", "how")
SHOWN: Final = 200  # rows of a long program in a notebook, at its beginning and at its end together
BARS: Final = 16  # ops of a picture


class Row(NamedTuple):
    """One kernel call of a program."""

    instruction: int  # calls that form a chain share one
    op: str
    module: str  # the path of the module in whose forward it ran
    shapes: tuple[Shape, ...]  # of its inputs
    nbytes: int  # read and written
    flops: int
    line: str  # where it was called
    chained: bool  # runs block by block with its neighbours, so that what one writes the next reads from cache
    again: bool  # computed a second time, to stay within memory_budget
    shared: bool  # among workers
    waits: bool  # for all workers, when it is done

    @property
    def how(self) -> str:
        """In words, what is special about it."""
        words = {"chained": self.chained, "computed again": self.again, "shared": self.shared}
        return ", ".join(word for word, applies in words.items() if applies)


class Recording(NamedTuple):
    """One signature of a captured step: its arguments, how often Python ran it, and its program, if there is one yet."""

    key: Any
    runs: int
    program: Program | None

    @property
    def rows(self) -> list[Row]:
        """The kernel calls in the order in which they run; none before there is a program."""
        return list(_rows(self.program)) if self.program is not None else []

    @property
    def flops(self) -> Array:
        """Floating-point operations of each call."""
        return np.array([row.flops for row in self.rows], np.int64)

    @property
    def nbytes(self) -> Array:
        """Bytes that each call reads and writes."""
        return np.array([row.nbytes for row in self.rows], np.int64)

    @property
    def title(self) -> str:
        """The arguments, and the totals."""
        specs = f"({', '.join(map(repr, self.key[1])) or 'no arguments'})"
        program = self.program
        if program is None:
            return f"{specs}: run eagerly {_times(self.runs)}, not replayed yet"
        rows = self.rows
        again, chained = sum(row.again for row in rows), sum(row.chained for row in rows)
        chains = sum(len(unit) > 1 for unit in program.units)
        return (f"{specs}: recorded {_times(self.runs)}; {len(program.units)} instructions, {sum(row.flops for row in rows) / 1e6:.3g} MFLOP, "
                f"{sum(row.nbytes for row in rows):,} bytes read and written; {program.arena_bytes:,} bytes of arena, {program.nbytes:,} in all"
                + (f"; {chained} calls in {chains} chain{'s' * (chains > 1)}" if chains else "")
                + (f"; {again} computed again to save memory" if again else "")
                + ("; shared among workers" if program.worth_sharing else ""))

    def cells(self) -> list[tuple[str, ...]]:
        """The table: a chain's number stands at its first call, a + at the others."""
        rows = self.rows
        follows = [before is not None and before.instruction == row.instruction for before, row in zip([None, *rows], rows, strict=False)]
        return [("+" if behind else str(row.instruction), row.op, row.module, " ".join(str(list(shape)).replace(" ", "") for shape in row.shapes),
                 f"{row.nbytes:,}", f"{row.flops:,}", row.line, row.how) for behind, row in zip(follows, rows, strict=True)]


class Explanation:
    """The programs of one captured step: a table when shown, `recordings` with rows and arrays, `plot()` a picture."""

    def __init__(self, name: str, recordings: Sequence[tuple[Any, int, Program | None]]) -> None:
        self.name = name
        self.recordings = [Recording(*recording) for recording in recordings]

    def _head(self) -> str:
        return f"{self.name}: {len(self.recordings)} signature{'s' * (len(self.recordings) != 1)}"

    def __repr__(self) -> str:
        return "\n\n".join([self._head(), *["\n".join(_text(recording)) for recording in self.recordings]])

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._head())}</p>"]
        for recording in self.recordings:
            parts.append(f"<p>{escape(recording.title)}</p>")
            if recording.program is not None:
                parts.append(display.table(COLUMNS, recording.cells(), SHOWN))
        return "".join(parts)

    def plot(self, recording: int = 0) -> Figure:
        """Operations and memory traffic by op, summed over the program of one recording; needs matplotlib."""
        if not -len(self.recordings) <= recording < len(self.recordings) or not (rows := self.recordings[recording].rows):
            raise ValueError(f"{self.name} has no program to plot as recording {recording}: call the step twice first")
        ops = dict.fromkeys(row.op for row in rows)
        totals = {op: (sum(r.flops for r in rows if r.op == op), sum(r.nbytes for r in rows if r.op == op)) for op in ops}
        largest = sorted(ops, key=lambda op: totals[op], reverse=True)[:BARS]
        shown = [op for op in reversed(ops) if op in largest]
        picture = display.figure("Explanation.plot", 9.0, 1.4 + 0.26 * len(shown))
        from matplotlib.ticker import EngFormatter

        panels = (("operations of a step (FLOP)", display.BLUE), ("memory read and written by a step (bytes)", display.ORANGE))
        for i, (axis, (label, colour)) in enumerate(zip(picture.subplots(1, 2, sharey=True), panels, strict=True)):
            axis.barh(shown, [totals[op][i] for op in shown], color=colour)
            axis.set(xlabel=label)
            axis.xaxis.set_major_formatter(EngFormatter())
            display.grid(axis)
        picture.axes[0].set_ylabel("op, in the order of the step")
        return picture


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _rows(program: Program) -> Iterator[Row]:
    for i, unit in enumerate(program.units):
        flags = int(program.words[program.starts[program.first + i] + 1])
        for step, source in unit:
            yield Row(i, source.op.name, source.path, source.shapes, source.nbytes, step.flops, source.line, len(unit) > 1, source.again,
                      bool(flags & PARALLEL) and program.worth_sharing, bool(flags & BARRIER) and program.worth_sharing)


def _text(recording: Recording) -> Iterator[str]:
    yield recording.title
    if recording.program is not None:
        for number, op, module, operands, nbytes, flops, line, how in [COLUMNS, *recording.cells()]:
            yield f"{number:>5}  {op:<28} {module[-20:]:<20} {operands[:36]:<36} {nbytes:>12} {flops:>12}  {line:<20}  {how}".rstrip()
