"""Nets that differ in their seed only, trained side by side; where a step of one is refused, one after the other, up to that step."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.data import index_batches
from minigrad.errors import NonFiniteError

Array = NDArray[Any]
BATCH = 32


@dataclass
class Learner:
    """A net that tells two classes apart, its optimiser, and how its training went.

    costs: of every step; accuracies: on all data before training and after every table of steps; refused: the first step whose gradients were not
    finite, from 1 on, where training ended.
    """

    model: nn.Sequential
    lr: float = 0.01
    clip: float | None = None
    costs: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    refused: int | None = None

    def __post_init__(self) -> None:
        parameters = list(self.model.parameters())
        opt = optim.SGD(parameters, lr=self.lr, momentum=0.9)

        def step(x: Any, y: Any) -> mg.Tensor:
            opt.zero_grad()
            cost = F.binary_cross_entropy_with_logits(self.model(x), y)
            cost.backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(parameters, self.clip)
            opt.step()
            return cost

        self.step = mg.capture(step)

    def accuracy(self, x: Array, y: Array) -> float:
        """The share of points on the right side."""
        with mg.no_grad():
            return float(np.mean((self.model(x).numpy() > 0) == y))

    def look(self, x: Array, y: Array, wanted: bool) -> None:
        """Take down the accuracy, if it is wanted."""
        if wanted:
            self.accuracies.append(self.accuracy(x, y))


def epochs(rows: int, count: int, seed: int) -> list[Array]:
    """An index table of whole batches for each epoch, in a new order each; rows that do not fill a batch sit the epoch out."""
    rng = np.random.default_rng(seed)
    return [index_batches(rows, BATCH, rng)[0] for _ in range(count)]


def trained(make: Callable[[int], Learner], seeds: Iterable[int], x: Array, y: Array, tables: Sequence[Array],
            look: bool = True) -> list[Learner]:
    """A learner of each seed, trained by the tables.

    look: whether to take the accuracy before training and after each table; a model with running statistics would count that as a batch.
    """
    try:
        return _side_by_side([make(seed) for seed in seeds], x, y, tables, look)
    except NonFiniteError:
        learners = [make(seed) for seed in seeds]
    for learner in learners:
        _alone(learner, x, y, tables, look)
    return learners


def _side_by_side(learners: list[Learner], x: Array, y: Array, tables: Sequence[Array], look: bool) -> list[Learner]:
    for learner in learners:
        learner.look(x, y, look)
    for table in tables:
        costs = mg.run_many([learner.step for learner in learners], len(table), x, y, index=table)
        for learner, mine in zip(learners, costs.tolist(), strict=True):
            learner.costs += mine
            learner.look(x, y, look)
    return learners


def _alone(learner: Learner, x: Array, y: Array, tables: Sequence[Array], look: bool) -> None:
    learner.look(x, y, look)
    for table in tables:
        for rows in table:
            try:
                learner.costs.append(learner.step(x[rows], y[rows]).item())
            except NonFiniteError:
                learner.refused = len(learner.costs) + 1
                return
        learner.look(x, y, look)
