"""RMSprop and Adagrad: a step divided by the root of squared gradients."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad.ops import update
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.live import Numbers
from minigrad.tape.slab import Segment


class RMSprop(Optimizer):
    """s = alpha * s + (1 - alpha) * d**2; p -= lr * d / (sqrt(s) + eps), with d = grad + weight_decay * p (Hinton 2012).

    centered: divides by sqrt(s - a**2) + eps, a the running mean of d (Graves 2013); where rounding makes the difference negative it counts
    as zero. momentum: b = momentum * b + d / (...); p -= lr * b. maximize: d = -grad + weight_decay * p. PyTorch's defaults; Keras has
    lr 0.001, rho (alpha) 0.9, epsilon 1e-7. State: step, square_avg, grad_avg if centered, momentum_buffer if there is momentum.
    """

    slots = ("lr", "alpha", "eps", "weight_decay", "momentum", "maximize")
    keeps = ("square_avg", "momentum_buffer", "grad_avg")

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
                 momentum: float = 0.0, centered: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "maximize": maximize})

    def update(self, run: Segment, numbers: Numbers) -> None:
        kept = [self.moment("square_avg", run)]
        if numbers["centered"]:
            kept.append(self.moment("grad_avg", run))
        if numbers["momentum"]:
            kept.append(self.moment("momentum_buffer", run))
            chosen = update.rmsprop_centered_momentum_ if numbers["centered"] else update.rmsprop_momentum_
        else:
            chosen = update.rmsprop_centered_ if numbers["centered"] else update.rmsprop_
        self.apply(chosen, run, *kept, numbers.tensor)


class Adagrad(Optimizer):
    """s += d**2; p -= lr / (1 + (t - 1) * lr_decay) * d / (sqrt(s) + eps), with d = grad + weight_decay * p (Duchi, Hazan & Singer 2011).

    s starts at initial_accumulator_value; t is the number of the step, from 1 on. maximize: d = -grad + weight_decay * p.
    State: step, sum.
    """

    slots = ("lr", "lr_decay", "weight_decay", "eps", "maximize")
    keeps = ("sum",)

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10, *, maximize: bool = False) -> None:
        if not 0 <= initial_accumulator_value < float("inf"):
            raise ValueError(f"Invalid initial_accumulator_value value: {initial_accumulator_value}: Adagrad takes a finite number that is "
                             "not negative")
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "maximize": maximize})

    def update(self, run: Segment, numbers: Numbers) -> None:
        self.apply(update.adagrad_, run, self.moment("sum", run, float(numbers["initial_accumulator_value"])), numbers.tensor)
