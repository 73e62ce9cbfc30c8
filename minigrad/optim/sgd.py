"""Stochastic gradient descent, with momentum."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minigrad.ops import update
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.live import Numbers
from minigrad.tape.slab import Segment


class SGD(Optimizer):
    """v = momentum * v + (1 - dampening) * d; p -= lr * v, with d = grad + weight_decay * p.

    PyTorch's form: the rate is outside the velocity (Sutskever et al. 2013 have it inside), and the first d is not dampened. nesterov:
    p -= lr * (d + momentum * v). maximize: d = -grad + weight_decay * p. State: momentum_buffer, if there is momentum.
    """

    slots = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
    keeps = ("momentum_buffer",)
    counted = False

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def check(self, values: Mapping[str, Any]) -> None:
        super().check(values)
        if values["nesterov"] and (values["momentum"] <= 0 or values["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def counts(self, numbers: Numbers) -> bool:
        """Only dampening, which spares the first gradient, has to know; velocities that are there already say that it is past."""
        cells = numbers.tensor.array
        counted = bool(cells[1] and cells[2])
        if counted and not numbers.tensor.array[numbers.age] and any((self.keeps[0], id(p)) in self._held for p in numbers["params"]):
            numbers.tensor.array[numbers.age] = 1.0
        return counted

    def update(self, run: Segment, numbers: Numbers) -> None:
        hyper = numbers.tensor
        _, momentum, dampening, decay, nesterov, maximize, _ = hyper.array.tolist()
        decays = decay or maximize
        if not momentum:
            self.apply(update.sgd_decayed_ if decays else update.sgd_, run, hyper)
            return
        velocity = self.moment("momentum_buffer", run)
        plain = not (decays or dampening or nesterov)
        self.apply(update.sgd_momentum_ if plain else update.sgd_dampened_, run, velocity, hyper)
