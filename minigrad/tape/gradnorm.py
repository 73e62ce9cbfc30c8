"""The global norm over runs of gradients: one kernel call a run, partials combined in order."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from minigrad.ops import norms
from minigrad.ops.spec import Spec
from minigrad.tape import live, observe
from minigrad.tape.handle import Handle, Leaf, wrap
from minigrad.tape.mode import local
from minigrad.tape.slab import Segment, moved, segments

FLOAT64 = np.dtype(np.float64)


class Group:
    """The parameters of one norm or one optimiser, and the runs of those that have a gradient, found again when that changes."""

    def __init__(self, parameters: Iterable[Handle]) -> None:
        self.parameters = tuple(parameters)
        self._present: list[bool] = []
        self._looked = -1  # live.gradients when the leaves were last looked at
        self._moved = -1  # slab.moved when the runs were found
        self._runs: list[Segment] = []
        self._partials: Any = None
        self._windows: list[Any] = []

    def runs(self) -> list[Segment]:
        """The runs of parameters whose gradient is there."""
        listener = local.mode.listener
        if listener is None:
            if self._looked == live.gradients.value:
                return self._runs
            self._looked = live.gradients.value
        else:
            for p in self.parameters:
                if p.leaf is not None:
                    listener.looked(p.leaf)
        present = [p.leaf is not None and p.leaf.present for p in self.parameters]
        if present != self._present or self._moved != moved.value:
            self._moved = moved.value
            self._runs = segments([p for p, there in zip(self.parameters, present, strict=True) if there])
            self._present = present
            counts = [run.blocks.spec.shape[1] for run in self._runs]
            self._partials = wrap(np.zeros(sum(counts)), Spec.of((sum(counts),), FLOAT64))
            ends = np.cumsum([0, *counts])
            self._windows = [wrap(self._partials.array[a:b], Spec.of((int(b - a),), FLOAT64), self._partials.clock)
                             for a, b in pairwise(ends)]
        return self._runs

    def gradients(self) -> list[Any]:
        """The gradients that are there, as they stand in their slots."""
        self.runs()
        return [p.leaf.slot for p, there in zip(self.parameters, self._present, strict=True) if there and p.leaf is not None]

    def norm(self) -> Any:
        """The 2-norm over all gradients, a float64 scalar."""
        for run, window in zip(self.runs(), self._windows, strict=True):
            observer = observe.of(run.leaves) if observe.active else None
            if observer is not None and observer.grads:
                observer.gradients(run, window)
            else:
                norms.sum_squares_(run.grad, run.blocks, window)
        return norms.norm(self._partials)

    def finite_by(self) -> Any:
        """The norm that already covers these very gradients, or None: clipping leaves it for the optimiser's guard."""
        found, replays = None, live.replays.value
        for p in self.parameters:
            leaf = p.leaf
            if leaf is None or not leaf.present:
                continue
            norm = leaf.norm
            if norm is None or leaf.normed != leaf.slot.clock[0] + replays or (found is not None and norm is not found):  # type: ignore[union-attr]
                return None
            found = norm
        return found

    def remember(self, total: Any) -> None:
        """Say that `total` is the norm of what these gradients were made from."""
        replays = live.replays.value
        for p in self.parameters:
            leaf = p.leaf
            if leaf is not None and leaf.present:
                leaf.norm, leaf.normed = total, leaf.slot.clock[0] + replays  # type: ignore[union-attr]


#: Groups that are kept by their first parameter.
GROUPS: Final = 8


def group_of(parameters: Sequence[Handle]) -> Group:
    """The group of exactly these parameters, in this order. The first of them keeps a few, since a loop asks for the same one each step."""
    first = parameters[0]
    if first.leaf is None:
        first.leaf = Leaf()
    if first.leaf.groups is None:
        first.leaf.groups = {}
    known = first.leaf.groups
    key = tuple([id(p) for p in parameters])
    found: Group | None = known.get(key)
    if found is None:
        if len(known) >= GROUPS:
            known.pop(next(iter(known)))
        found = known[key] = Group(parameters)  # keeps the parameters alive, so their ids stay theirs
    return found
