"""A net with everything that a step can move: parameters, running statistics, random numbers, an optimiser and a clip bound."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn


class Net:
    """A net, its optimiser and its step; `left` is what a step may leave behind."""

    def __init__(self, make: Callable[[Any], Any], *, p: float = 0.0) -> None:
        mg.manual_seed(5)
        self.model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(p), nn.Linear(6, 2))
        self.opt = make(self.model.parameters())
        self.clip = 1.0
        self.layers: list[Any] = [self.model]

    def step(self, x: Any, y: Any) -> Any:
        self.opt.zero_grad()
        loss = F.mse_loss(self.layers[0](x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.opt.step()
        return loss

    def left(self) -> list[bytes]:
        return [np.asarray(v).tobytes() for v in self.model.state_dict().values()]
