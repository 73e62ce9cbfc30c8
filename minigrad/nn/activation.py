"""Activations as modules."""
from __future__ import annotations

from typing import Any

from minigrad.nn.module import Module
from minigrad.ops import activations


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return activations.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return activations.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return activations.tanh(x)
