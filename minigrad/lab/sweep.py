"""How fast deep nets train: a step of one width against depth."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.lab.nets import deep_net

DEPTHS: Final = (1, 2, 5, 10, 20, 50, 100)
WIDTH: Final = 32
BATCH: Final = 32
ROUNDS: Final = 5
ROUND_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Speed:
    """One way to run the step at one depth."""

    depth: int
    mode: str
    us_per_step: float

    @property
    def samples_per_s(self) -> float:
        """Samples trained on in a second."""
        return BATCH / self.us_per_step * 1e6


def training_step(depth: int) -> tuple[Callable[[Any, Any], mg.Tensor], tuple[Any, Any]]:
    """A residual ReLU net of so many hidden layers, with clipping and momentum, and its batch."""
    rng = np.random.default_rng(depth)
    std = (WIDTH * depth) ** -0.5
    model = deep_net([WIDTH] * (depth + 1) + [1], nn.ReLU, residual=True, init=partial(nn.init.normal_, std=std))
    opt = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = rng.standard_normal((BATCH, WIDTH)).astype(np.float32)

    def step(x: Any, y: Any) -> mg.Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        opt.step()
        return loss

    return step, (mg.tensor(x), mg.tensor(np.sin(x[:, :1])))


def seconds(call: Callable[[], object]) -> float:
    """The median time of a call after a first one."""
    call()
    start = time.perf_counter()
    call()
    calls = max(1, int(ROUND_SECONDS / (time.perf_counter() - start)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        rounds.append((time.perf_counter() - start) / calls)
    return median(rounds)


def sweep(depths: Sequence[int] = DEPTHS) -> Iterator[list[Speed]]:
    """At each depth: eager, one captured call a step, and steps repeated inside the program."""
    for depth in depths:
        step, batch = training_step(depth)
        captured = mg.capture(step)
        inside = max(2, 1000 // depth)
        modes: dict[str, tuple[Callable[[], object], int]] = {
            "eager": (partial(step, *batch), 1),
            "captured": (partial(captured, *batch), 1),
            "repeat": (partial(captured.repeat, inside, *batch), inside),
        }
        yield [Speed(depth, mode, seconds(call) / steps * 1e6) for mode, (call, steps) in modes.items()]
