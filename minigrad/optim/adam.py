"""Adam, and AdamW, whose weight decay does not go through the moments."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minigrad.ops import update
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.live import Numbers
from minigrad.tape.slab import Segment


class Adam(Optimizer):
    """m = b1 * m + (1 - b1) * d; v = b2 * v + (1 - b2) * d**2, with d = grad + weight_decay * p (Kingma & Ba 2015); then by `eps_mode`

    "torch": p -= lr / (1 - b1**t) * m / (sqrt(v) / sqrt(1 - b2**t) + eps), the paper's algorithm 1, or
    "hat":   p -= lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps), the form at the end of its section 2, as Keras has it.

    t is the number of the step of the parameter's group, from 1 on; betas are (b1, b2). amsgrad: the largest v so far in the place of v
    (Reddi, Kale & Kumar 2018). maximize: d = -grad + weight_decay * p. decoupled_weight_decay: as `AdamW`. PyTorch's defaults; Keras has
    epsilon 1e-7. State: step, exp_avg, exp_avg_sq, with amsgrad max_exp_avg_sq.
    """

    slots = ("lr", "betas", "eps", "weight_decay", "maximize", "decoupled_weight_decay", "eps_mode")
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"eps_mode": ("torch", "hat")}
    keeps = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False, *, maximize: bool = False, eps_mode: str = "torch",
                 decoupled_weight_decay: bool = False) -> None:
        if len(betas) != 2:
            raise ValueError(f"Invalid betas: {betas}: {type(self).__name__} takes two numbers")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                                  "maximize": maximize, "eps_mode": eps_mode, "decoupled_weight_decay": decoupled_weight_decay})

    def update(self, run: Segment, numbers: Numbers) -> None:
        kept = [self.moment("exp_avg", run), self.moment("exp_avg_sq", run)]
        if numbers["amsgrad"]:
            kept.append(self.moment("max_exp_avg_sq", run))
        self.apply(update.amsgrad_ if numbers["amsgrad"] else update.adam_, run, *kept, numbers.tensor)


class AdamW(Adam):
    """`Adam` with p *= 1 - lr * weight_decay before the step, and d = grad (Loshchilov & Hutter 2019)."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, eps_mode: str = "torch") -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, eps_mode=eps_mode, decoupled_weight_decay=True)
