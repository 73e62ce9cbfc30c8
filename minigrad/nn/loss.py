"""Losses as modules."""
from __future__ import annotations

from typing import Any

from minigrad.nn import functional
from minigrad.nn.module import Module
from minigrad.tape.tensor import Tensor


class MSELoss(Module):
    """The mean of (input - target) squared."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.mse_loss(input, target)


class CrossEntropyLoss(Module):
    """The mean of -log softmax(input)[target] over rows."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.cross_entropy(input, target)
