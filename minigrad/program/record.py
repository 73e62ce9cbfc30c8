"""Recording: one eager run of a step, heard op by op."""
from __future__ import annotations

import gc
import sys
import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad.errors import CaptureError
from minigrad.ops import elementwise
from minigrad.ops.op import Op, Plan
from minigrad.ops.random import advance_, draw_key
from minigrad.ops.spec import Spec
from minigrad.tape.backward import forget
from minigrad.tape.handle import Handle, Leaf, twin
from minigrad.tape.mode import Listener, caller, local, no_grad
from minigrad.tape.record import Record, next_serial
from minigrad_kernels._host import CACHE_LINE


class Operand:
    """Memory that an op read or wrote: an address, and what is there.

    Memory made inside the step has an address of the recording's own, which no other memory of the step shares: the real one is free for
    others as soon as eager mode lets go of it, and recording keeps nothing alive that eager mode would not.
    """

    __slots__ = ("address", "spec", "owner")

    def __init__(self, address: int, spec: Spec, owner: Handle | None = None) -> None:
        self.address = address
        self.spec = spec
        self.owner = owner  # keeps somebody else's memory alive; None for the step's own


def _memory(x: Handle) -> Any:
    """The array that owns the memory: that of a view lives as long as any view of it, the view's own array only as long as the view."""
    return x.array if x.array.base is None else x.array.base


class Ran(NamedTuple):
    """One op that ran: what it read and made, and where it was written."""

    op: Op
    plan: Plan
    inputs: tuple[Operand, ...]
    out: Operand | None
    path: str
    line: str
    again: bool = False  # computed a second time, to save memory
    backward: str = ""  # the op whose rule it is a part of, whose path and line these are; "" in the forward pass


#: Where the addresses of a recording begin: above all that a process can have.
FIRST: Final = 1 << 62


class Recorder(Listener):
    """Hears every op of a step."""

    def __init__(self, arguments: Sequence[Handle] = ()) -> None:
        self.items: list[Ran] = []
        self._next = FIRST
        self._own: dict[int, tuple[int, weakref.ref[Any]]] = {}  # by real address: that of the recording, and the memory it holds for
        self._others: dict[tuple[int, Spec], Operand] = {}
        self._made: list[tuple[weakref.ref[Handle], int]] = []
        self.clocks: list[list[int]] = []  # versions that optimisers moved
        self.prepare: Counter[Callable[[int], None]] = Counter()  # what has to be ready for each run, and how many times over
        self.at_once = sys.maxsize  # runs that can be prepared for
        self.fresh: dict[int, Leaf] = {}  # leaves whose gradient was set to None inside
        self._given: set[int] = set()
        self.slots: set[int] = set()  # addresses of gradients that were written
        self.leaves: dict[int, Leaf] = {}  # whose slots these are
        self.draws: list[Handle] = []  # the random state, once for each key that was taken from it
        self.entry: dict[int, tuple[Leaf, bool]] = {}  # leaves whose gradient from before the step was looked at
        self.shows: list[tuple[str, Operand]] = []  # what `debug_print` shows of a run, with its label
        self.guards: list[Any] = []  # optimisers that looked at the norm of their gradients
        self.dropped = False  # one of them dropped its step, so that this is not what a program does
        self._lines: list[tuple[int, str]] = []  # by number of the record to come, where it was made
        self.arguments = [self._new(x) for x in arguments]

    def _new(self, x: Handle) -> Operand:
        """A place of its own for memory that the step makes."""
        operand = Operand(self._next, x.spec)
        self._next += max(CACHE_LINE, -(-x.spec.nbytes // CACHE_LINE) * CACHE_LINE)
        self._own[x.address] = (operand.address, weakref.ref(_memory(x)))
        return operand

    def operand(self, x: Handle) -> Operand:
        """Where `x` is: memory that the step made, or somebody else's, which is kept alive from now on."""
        own = self._own.get(x.address)
        if own is not None:
            if own[1]() is not None:
                return Operand(own[0], x.spec)
            del self._own[x.address]
        found = self._others.get((x.address, x.spec))
        if found is None:
            found = self._others[x.address, x.spec] = Operand(x.address, x.spec, twin(x))
        return found

    def ran(self, op: Op, plan: Plan, inputs: tuple[Handle, ...], out: Handle | None) -> None:
        operands = tuple([self.operand(x) for x in inputs])
        made = None
        if out is not None:
            if out.address not in self.slots:
                self._made.append((weakref.ref(out), len(self.items)))
            if plan.alias is not None:
                made = self._view(operands[plan.alias], out, out.address - inputs[plan.alias].address)
            else:
                made = self.operand(out) if out.address in self.slots else self._new(out)
        mode = local.mode
        if mode.turn is None:
            line = caller()
            if mode.grad:
                self._lines.append((next_serial(), line))
            self.items.append(Ran(op, plan, operands, made, mode.path, line))
        else:
            self.items.append(Ran(op, plan, operands, made, mode.turn.path, self.line_of(mode.turn) or caller(), backward=mode.turn.op.name))

    def line_of(self, record: Record) -> str:
        at = bisect_right(self._lines, record.serial, key=itemgetter(0)) - 1
        return self._lines[at][1] if at >= 0 else ""

    def _view(self, base: Operand, out: Handle, shift: int) -> Operand:
        if base.owner is not None:
            return Operand(out.address, out.spec, base.owner)
        if shift:
            self._own[out.address] = (base.address + shift, weakref.ref(_memory(out)))
        return Operand(base.address + shift, out.spec)

    def cleared(self, leaf: Leaf) -> None:
        self.fresh[id(leaf)] = leaf

    def looked(self, leaf: Leaf) -> None:
        self.leaves[id(leaf)] = leaf
        if id(leaf) not in self.fresh and id(leaf) not in self.entry:
            self.entry[id(leaf)] = (leaf, leaf.present)

    def kept(self, slot: Handle) -> None:
        self.slots.add(slot.address)

    def gave(self, leaf: Leaf) -> None:
        self._given.add(id(leaf))

    def parted(self, leaf: Leaf) -> None:
        if id(leaf) in self._given:
            raise CaptureError(f"a gradient that was read inside a captured step is replaced at {caller()} while it is still held: "
                               "a replay has one place for both, so compute with it before, or return it")

    def ticked(self, clock: list[int]) -> None:
        self.clocks.append(clock)

    def prepares(self, prepare: Callable[[int], None], at_once: int) -> None:
        self.prepare[prepare] += 1
        self.at_once = min(self.at_once, at_once // self.prepare[prepare])

    def drew(self, state: Handle, key: Handle) -> None:
        """In a program the state stands still until the commit part, so the n-th key is taken n ahead of it."""
        self.ran(draw_key, _planned(draw_key, state, ahead=len(self.draws)), (state,), key)
        self.draws.append(state)

    def guarded(self, optimizer: Any) -> None:
        self.guards.append(optimizer)
        if len(self.guards) > 1 and any(one.nonfinite == "skip" for one in self.guards):
            raise CaptureError(f"two optimisers take a step at {caller()} in one captured step, and one of them has nonfinite='skip': what the "
                               "other does is one program with it. Capture one optimiser step per function, or let both raise")

    def refused(self) -> None:
        self.dropped = True

    def shown(self, label: str, x: Handle) -> None:
        """Each run shows what `x`, of which nobody else knows, holds at its end."""
        self.shows.append((label, self.operand(x)))

    def signature(self) -> list[Any]:
        """What a replay would do, comparable between two recordings: ops, plans, and where each operand comes from."""
        ran = [(item.op.name, item.plan.key, tuple([x.address for x in item.inputs]), item.out and item.out.address) for item in self.items]
        return [*ran, *[(label, x.address) for label, x in self.shows]]

    def finished(self) -> None:
        """The step has returned. All of its draws are committed at once."""
        forget(local.mode)
        for state in self.draws[-1:]:
            self.ran(advance_, _planned(advance_, state, by=len(self.draws)), (state,), None)

    def leaked(self) -> Ran | None:
        """An op whose result is still alive somewhere outside, though the step has ended and its results were let go; None if there is none."""
        for leaf in self.leaves.values():
            leaf.norm = None  # holds a Tensor that the step made
        if any(made() is not None for made, _ in self._made):
            gc.collect()
        return next((self.items[i] for made, i in self._made if made() is not None), None)


def _planned(op: Op, state: Handle, **attributes: Any) -> Plan:
    """The plan of an op that did not run."""
    key = (state.spec, *attributes.items())
    return op.plans.get(key) or op.remember(key, op.plan((state.spec,), attributes))


def difference(before: list[Any], now: list[Any], recorder: Recorder) -> str:
    """Where the second recording departs from the first, in words."""
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    item = recorder.items[min(at, len(recorder.items) - 1)] if recorder.items else None
    what = f"{item.op.name}{f' in {item.path}' if item.path else ''} at {item.line}" if item else "an op"
    return (f"the step did something else when it was run again, first at op {at}: {what}. A captured step must do the same each time: "
            "pass a number that changes as an array, np.float32(x), and make Tensors from arguments, not inside")


def debug_print(input: Any, label: str = "") -> None:
    """Print a Tensor's values. In a captured step each run prints them: after the step, or after all steps of `repeat` and `scan`."""
    recorder = local.mode.listener
    if not isinstance(input, Handle):
        raise TypeError(f"debug_print shows Tensors, got a {type(input).__name__}: print shows other things, in a captured step while recording")
    display(label, input.array)
    if isinstance(recorder, Recorder):
        mode = local.mode
        before, mode.destination = mode.destination, None
        with no_grad():
            recorder.shown(label, elementwise.clone(input))
        mode.destination = before


def display(label: str, values: Any) -> None:
    """What `debug_print` prints."""
    print(f"{label}: " if label else "", np.array2string(values, separator=", ", threshold=200), sep="")
