"""Stochastic gradient descent, with momentum."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad.ops import update
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.slab import Segment


class SGD(Optimizer):
    """v = momentum * v + grad; p -= lr * v. PyTorch's form: the rate is outside the velocity (Sutskever et al. 2013 have it inside)."""

    slots = ("lr", "momentum")

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0) -> None:
        for name, value in (("lr", lr), ("momentum", momentum)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"SGD: {name} is {value}, expected a finite number that is not negative")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def update(self, run: Segment, hyper: Any) -> None:
        if hyper.array[1] == 0.0:
            update.sgd_(run.data, run.grad, hyper)
        else:
            update.sgd_momentum_(run.data, run.grad, self.moment("momentum_buffer", run), hyper)
