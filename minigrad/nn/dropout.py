"""Dropout."""
from __future__ import annotations

from typing import Any

from minigrad.errors import DtypeError
from minigrad.nn.module import Module
from minigrad.ops import random
from minigrad.tape.mode import local
from minigrad.tape.random import draw
from minigrad.tape.record import lift
from minigrad.tape.tensor import Tensor


def _checked(p: float) -> float:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return float(p)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p; the input itself if not training.

    input: float, any shape. Raises ValueError for a p outside [0, 1]. N. Srivastava et al., "Dropout", JMLR 15 (2014).
    """
    _checked(p)
    (x,) = lift(random.dropout, (input,))
    if not x.spec.is_float:
        raise DtypeError(f"{f'in {local.mode.path}: ' if local.mode.path else ''}dropout: the input is {x.spec.dtype.name}, "
                         "expected float32 or float64: convert it, e.g. x.astype(mg.float32)")
    return random.dropout(x, draw(), p=float(p)) if training and p > 0 else x  # type: ignore[return-value]


class Dropout(Module):
    """Zero each element with probability p and divide the others by 1 - p while training; in evaluation mode the input itself."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _checked(p)

    def forward(self, x: Any) -> Any:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
