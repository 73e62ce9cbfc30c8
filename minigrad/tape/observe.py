"""What a recording of a training looks at: groups of statistics of parameters and signals, taken in the step and left in a row behind it.

An `Observer` owns the memory. Clipping and optimisers ask it to take gradients and updates in the passes that they make anyway; `health.watch`
asks it to take signals, and reads the rows.
"""
from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.ops import norms, observe, update
from minigrad.ops.observe import CLOCK, GROUP
from minigrad.ops.op import Op
from minigrad.ops.spec import Spec
from minigrad.tape import live
from minigrad.tape.handle import Array, Handle, address_of, wrap
from minigrad.tape.mode import local, no_grad
from minigrad.tape.slab import BLOCK, Segment

INT64: Final = np.dtype(np.int64)
FLOAT64: Final = np.dtype(np.float64)
DUE, STEP, EVERY, NEXT = range(CLOCK)
#: Bytes of rows that are taken at a time, unless one run needs more of them: the recording grows by such pieces.
PIECE: Final = 1 << 24

#: Recordings that are going on. While there are none, nothing else is looked at.
active: Final[list[Observer]] = []


def those_of(parameters: Iterable[Handle]) -> list[Observer]:
    """The recordings of which one of these is a parameter."""
    ids = {id(p) for p in parameters}
    return [one for one in active if not ids.isdisjoint(one.slots)]


def of(parameters: Iterable[Handle]) -> Observer | None:
    """The recording of which one of these is a parameter. Raises ValueError if they are of several: one pass fills the row of one."""
    found = those_of(parameters)
    if len(found) > 1:
        raise ValueError(f"an optimiser, or a clipping, goes over the parameters of {len(found)} watched models at once: watch a module that "
                         "holds them both, or give each an optimiser and a clipping of its own")
    return found[0] if found else None


def refused() -> None:
    """A step was refused: what was taken in it is not the next one's."""
    for one in active:
        one.now.array[:] = np.nan


def look(runs: Iterable[Segment]) -> None:
    """Have recordings take gradients as they are, before they are changed otherwise than by the factor of their norm."""
    for run in runs:
        observer = of(run.leaves)
        if observer is not None:
            observer.missed(run)


class Table(NamedTuple):
    """Where the groups of a run's blocks go: into the row itself, or into groups of their own that are gathered from there."""

    blocks: Any  # int64 (3, blocks): start, length, place in `stats`
    stats: Any
    bounds: Any  # int64 (3, parameters): first, end, place in the row; None if `stats` is the row
    partials: Any  # for sums of squares that nobody asked for


class Observer:
    """One recording: a clock, the row of the step that is going on, and the rows so far.

    A row has a group for each parameter, if anything of parameters is wanted, and one for each signal.
    """

    def __init__(self, parameters: Sequence[Handle], signals: int, every: int, grads: bool, weights: bool) -> None:
        self.parameters = tuple(parameters)  # kept alive, so that an id stays theirs
        self.slots = {id(p): i for i, p in enumerate(self.parameters)}
        self.grads, self.weights = grads, weights
        count = len(self.parameters) if grads or weights else 0
        # The step's number; parameters; signals; and a place for what nobody asked for.
        self.width = GROUP * (1 + count + signals + 1)
        self.now = wrap(np.full(self.width, np.nan), Spec.of((self.width,), FLOAT64))
        # All that the recording writes has one version, which nobody asks for: a captured step counts on each that it changes.
        self.clock = wrap(np.array([1, 0, every, 0]), Spec.of((CLOCK,), INT64), self.now.clock)
        self._ticks: Any = (ctypes.c_int64 * CLOCK).from_address(self.clock.address)  # reading one takes 40 ns, through NumPy 100
        self._signals = 1 + count
        self._pieces: list[tuple[Array, int]] = []  # rows that are full, or were left, and how many of them hold something
        self._piece: Array = np.empty((0, self.width))
        self._begin = self._end = 0  # its addresses
        self._stride = 8 * self.width
        self._tables: dict[Any, Table] = {}
        self._looked: dict[int, int] = {}  # by parameter: the version of its gradient that was taken, until it is updated
        self._updated: set[int] = set()  # parameters whose weights were
        self.windows = [self._window(self._signals + i) for i in range(signals)]

    # ---- rows
    @property
    def due(self) -> bool:
        """Whether the step that is going on is recorded."""
        return bool(self._ticks[DUE])

    @property
    def at_once(self) -> int:
        """Steps that may be taken before `prepare` is called again."""
        return min(live.HORIZON, max(1, PIECE // self._stride) * int(self._ticks[EVERY]))

    def _used(self) -> int:
        return (self._ticks[NEXT] - self._begin) // self._stride if self._begin else 0

    def prepare(self, steps: int) -> None:
        """Have room for the rows of so many steps, `at_once` at most."""
        if self._ticks[NEXT] + steps * self._stride <= self._end:
            return
        rows, used = -(-steps // self._ticks[EVERY]) + 1, self._used()
        if used + rows > len(self._piece):
            if used:
                self._pieces.append((self._piece, used))
            self._piece = np.empty((max(rows, PIECE // self._stride), self.width))
            self._ticks[NEXT] = self._begin = address_of(self._piece)
            self._end = self._begin + self._piece.nbytes

    def rows(self) -> NDArray[np.float64]:
        """All rows so far, (steps, numbers): a copy."""
        return np.concatenate([piece[:used] for piece, used in [*self._pieces, (self._piece, self._used())]])

    def __len__(self) -> int:
        """How many rows there are so far."""
        return sum(used for _, used in self._pieces) + self._used()

    def clear(self) -> None:
        """Forget the rows; the count of steps goes on."""
        self._pieces.clear()
        self._ticks[NEXT] = self._begin

    def of_parameter(self, index: int) -> slice:
        """Where in a row the group of a parameter is."""
        return slice(GROUP * (1 + index), GROUP * (2 + index))

    def of_signal(self, index: int) -> slice:
        """Where in a row the group of a signal is."""
        return slice(GROUP * (self._signals + index), GROUP * (self._signals + index + 1))

    def _window(self, place: int) -> Any:
        return wrap(self.now.array[GROUP * place:GROUP * (place + 1)], Spec.of((GROUP,), FLOAT64), self.now.clock)

    # ---- what steps call
    def signal(self, index: int, x: Any, low: float = -inf, high: float = inf, flat: bool = False) -> None:
        """Take a signal, saturated at low and high; or, flat, the gradient of one."""
        if local.mode.listener is None and not self.due:
            return
        with no_grad():
            observe.signal_(x, self.clock, self.windows[index], low=low, high=high, flat=flat)

    def gradients(self, run: Segment, partials: Any) -> None:
        """`norms.sum_squares_` of a run into `partials`, and what is wanted of its gradients in the same pass.

        Those that were taken already, and then at most clipped, stay as they were taken.
        """
        fresh = self._fresh(run)
        if not fresh:
            norms.sum_squares_(run.grad, run.blocks, partials)
            return
        table = self._table(run, fresh)
        observe.gradients_(run.grad, self.clock, table.blocks, partials, table.stats)
        if table.bounds is not None:
            observe.gather_(table.stats, self.clock, table.bounds, self.now)
        self._looked.update((id(p), _version(p)) for p in fresh)

    def _fresh(self, run: Segment) -> list[Handle]:
        """Our parameters in a run whose gradients backward, or the user, has written since they were taken; clipping writes past versions."""
        return [p for p in run.leaves if id(p) in self.slots and self._looked.get(id(p)) != _version(p)]

    def missed(self, run: Segment) -> None:
        """Take gradients that no norm has looked at."""
        if self.grads and self._fresh(run):
            self.gradients(run, self._table(run, run.leaves).partials)

    def update(self, op: Op, run: Segment, others: tuple[Any, ...]) -> bool:
        """Run an optimiser's update and take the weights and their change in the same pass; whether there is such a pass."""
        watched = update.WATCHED.get(op)
        if watched is None or not self.weights:
            return False
        table = self._table(run, run.leaves)
        watched(run.data, run.grad, *others, self.clock, table.blocks, table.stats)
        self._gathered(table)
        self._updated.update(id(p) for p in run.leaves)
        return True

    def updated(self, run: Segment) -> None:
        """Take weights whose update was another's."""
        if self.weights and not all(id(p) in self._updated for p in run.leaves):
            table = self._table(run, run.leaves)
            observe.weights_(run.data, self.clock, table.blocks, table.stats)
            self._gathered(table)
        self._updated.update(id(p) for p in run.leaves)

    def _gathered(self, table: Table) -> None:
        if table.bounds is not None:
            observe.gather_late_(table.stats, self.clock, table.bounds, self.now)

    def end(self) -> None:
        """A step was taken."""
        for i in self._updated:  # the others' gradients wait, clipped perhaps, for another optimiser
            self._looked.pop(i, None)
        self._updated.clear()
        listener = local.mode.listener
        self.prepare(1)
        if listener is not None:
            listener.prepares(self.prepare, self.at_once)
        observe.record_(self.now, self.clock)

    def _table(self, run: Segment, wanted: Sequence[Handle]) -> Table:
        """The table of a run, in which the groups of those that are not wanted, or not ours, go nowhere."""
        nowhere = self.width - GROUP
        ids = {id(p) for p in wanted}
        # Sizes and a dtype say where in a run its parameters are. Their ids would not: those of strangers may be others' later.
        key = (run.data.spec.dtype, tuple([(p.spec.size, GROUP * (1 + self.slots[id(p)]) if id(p) in ids and id(p) in self.slots else nowhere)
                                           for p in run.leaves]))
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = self._made(run, [place for _, place in key[1]], nowhere)
        return found

    def _made(self, run: Segment, places: Sequence[int], nowhere: int) -> Table:
        starts, lengths = run.blocks.array
        counts = [-(-p.spec.size // BLOCK) for p in run.leaves]
        if all(count <= 1 for count in counts):
            where = [place for place, count in zip(places, counts, strict=True) if count]
            return Table(_integers([starts, lengths, where]), self.now, None, self._doubles(len(starts)))
        ends = GROUP * np.cumsum([0, *counts])
        wanted = [i for i, place in enumerate(places) if place != nowhere]
        bounds = [[int(ends[i]) for i in wanted], [int(ends[i + 1]) for i in wanted], [places[i] for i in wanted]]
        blocks = _integers([starts, lengths, GROUP * np.arange(len(starts))])
        return Table(blocks, self._doubles(int(ends[-1])), _integers(bounds), self._doubles(len(starts)))

    def _doubles(self, count: int) -> Any:
        return wrap(np.empty(count), Spec.of((count,), FLOAT64), self.now.clock)


def _version(p: Handle) -> int:
    """A number that moves whenever the gradient is written, but for clipping."""
    return p.leaf.slot.clock[0] + live.replays.value  # type: ignore[union-attr, no-any-return]


def _integers(rows: Any) -> Any:
    array = np.ascontiguousarray(np.array(rows, np.int64))
    return wrap(array, Spec.of(array.shape, INT64))
