"""Recording: one eager run of a step, heard op by op."""
from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

from minigrad.errors import CaptureError
from minigrad.ops.op import Op, Plan
from minigrad.tape.handle import Handle, Leaf, twin
from minigrad.tape.mode import Listener, caller, local


class Ran(NamedTuple):
    """One op that ran: what it read and made, and where it was written."""

    op: Op
    plan: Plan
    inputs: tuple[Handle, ...]
    out: Handle | None
    path: str
    line: str


class Recorder(Listener):
    """Hears every op of a step. Keeps what it heard alive, so that during recording an address is one array."""

    def __init__(self) -> None:
        self.items: list[Ran] = []
        self._made: list[tuple[weakref.ref[Handle], int]] = []
        self.clocks: list[list[int]] = []  # versions that optimisers moved
        self.fresh: dict[int, Leaf] = {}  # leaves whose gradient was set to None inside
        self._given: set[int] = set()
        self.slots: set[int] = set()  # addresses of gradients that were written
        self.leaves: dict[int, Leaf] = {}  # whose slots these are
        self.entry: dict[int, tuple[Leaf, bool]] = {}  # leaves whose gradient from before the step was looked at

    def ran(self, op: Op, plan: Plan, inputs: tuple[Handle, ...], out: Handle | None) -> None:
        made = None
        if out is not None:
            # Twins, so that what the step keeps alive itself can be told from what is heard here.
            made = twin(out)
            if out.address not in self.slots:
                self._made.append((weakref.ref(out), len(self.items)))
        self.items.append(Ran(op, plan, tuple([twin(x) for x in inputs]), made, local.mode.path, caller()))

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

    def leaked(self) -> Ran | None:
        """An op whose result is still alive somewhere outside, though the step has ended and its results were let go; None if there is none."""
        for leaf in self.leaves.values():
            leaf.norm = None  # holds a Tensor that the step made
        if any(made() is not None for made, _ in self._made):
            gc.collect()
        return next((self.items[i] for made, i in self._made if made() is not None), None)


def signature(ran: list[Ran], arguments: list[Any]) -> list[Any]:
    """What a replay would do, comparable between two recordings: ops, plans, and where each operand comes from."""
    labels: dict[int, Any] = {x.address: ("argument", i) for i, x in enumerate(arguments)}
    lines: list[Any] = []
    for index, item in enumerate(ran):
        lines.append((item.op.name, item.plan.key, tuple([labels.get(x.address, x.address) for x in item.inputs])))
        if item.out is not None:
            labels.setdefault(item.out.address, ("made by", index))  # a view from its base's start has its base's label already
    return lines


def difference(before: list[Any], now: list[Any], recorder: Recorder) -> str:
    """Where the second recording departs from the first, in words."""
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    item = recorder.items[min(at, len(recorder.items) - 1)] if recorder.items else None
    what = f"{item.op.name}{f' in {item.path}' if item.path else ''} at {item.line}" if item else "an op"
    return (f"the step did something else when it was run again, first at op {at}: {what}. A captured step must do the same each time: "
            "pass a number that changes as an array, np.float32(x), and make Tensors from arguments, not inside")
