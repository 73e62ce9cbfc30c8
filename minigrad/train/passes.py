"""One pass over the data: natively in pieces where batches are rows of arrays, else batch by batch."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.nn.module import Module
from minigrad.program.step import CapturedStep
from minigrad.tape import live
from minigrad.tape.mode import no_grad
from minigrad.tape.tensor import Tensor
from minigrad.train.feed import Feed, Rows

Array = NDArray[Any]

#: Of native work between looks at Ctrl-C, callbacks' wishes and the progress bar.
PIECE_SECONDS: Final = 0.05


class Part(NamedTuple):
    """Some steps that were done: what the step returned of each, stacked, and the answers of all their rows."""

    results: tuple[Array, ...]
    answers: Array

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.results[0])


class Pass:
    """A step, captured unless `capture` is False, that is run over all batches of a feed."""

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], capture: bool) -> None:
        self.function = step
        self.step: Callable[..., tuple[Tensor, ...]] = CapturedStep(step) if capture else step
        self._seconds = 0.0  # of one step, measured

    def parts(self, feed: Feed) -> Iterator[Part]:
        """Run every batch once."""
        if isinstance(feed, Rows) and isinstance(self.step, CapturedStep):
            columns, (table, rest) = feed.columns, feed.epoch()
            for piece in self._pieces(table):
                results = self.step.scan(*columns, index=piece)
                yield Part(tuple([values(x) for x in results]), columns[-1][piece.reshape(-1)])
            batches = iter([tuple([column[rest] for column in columns])] if len(rest) else [])
        else:
            batches = feed.batches()
        for batch in batches:
            yield self.one(batch)

    def one(self, batch: tuple[Array, ...]) -> Part:
        """Run one batch."""
        return Part(tuple([values(x)[None] for x in self.step(*batch)]), batch[-1])

    def _pieces(self, table: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The table's rows in runs that take about `PIECE_SECONDS` each, as the last one showed."""
        done = 0
        while done < len(table):
            # The first two steps are recorded.
            size = max(1, int(PIECE_SECONDS / self._seconds)) if self._seconds else 2
            piece = table[done:done + size]
            began = time.perf_counter()
            yield piece
            self._seconds = max((time.perf_counter() - began) / len(piece), 1e-9)
            done += size


def values(x: Tensor) -> Array:
    """Outside the graph, as an array."""
    return x.detach().numpy()


@contextmanager
def inference(model: Module) -> Iterator[None]:
    """The model in eval mode and off the tape; each module gets back the mode that it had, and programs hold that held before.

    Switching there and back counts as a change, for which programs are recorded anew. So the way there leads to a count of its own, the same
    each time from the same state, and the way back to the count that was, unless something else has changed in between.
    """
    training = {id(module): module for module in model.modules() if module.training}
    mode, before = model.training, live.counter.value
    there = before
    model.eval()
    if training:
        there = live.counter.value = _detours.to(before, frozenset(training))
    try:
        with no_grad():
            yield
    finally:
        undisturbed = live.counter.value == there
        model.train(mode)
        for module in model.modules():
            if module.training is not (id(module) in training):
                module.training = id(module) in training
        live.counter.value = before if undisturbed else max(live.counter.value, before + 1)


class _Detours:
    """Counts below zero, each far from the next, for states that are left the way they were entered."""

    def __init__(self) -> None:
        self._next = 0
        self._last: tuple[Any, int] = (None, 0)

    def to(self, *state: Any) -> int:
        """The count of this state: that of last time if it is the same."""
        if self._last[0] != state:
            self._next -= 1 << 40
            self._last = (state, self._next)
        return self._last[1]


_detours: Final = _Detours()
