"""A new net is new data: once the entries of its kinds of layers are there, a hundred nets compile and load nothing."""
from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad_kernels import _cache, abi

ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh)


def train(depth: int, width: int, batch: int, activation: Any, residual: bool, momentum: float) -> list[float]:
    """Three steps of a net: one recorded, two replayed."""
    def block() -> nn.Module:
        inner = nn.Sequential(nn.Linear(width, width), activation())
        return nn.Residual(inner, scale=depth ** -0.5) if residual else inner

    model = nn.Sequential(nn.Linear(3, width), *[block() for _ in range(depth)], nn.Linear(width, 5))
    opt = optim.SGD(model.parameters(), lr=0.01, momentum=momentum)

    @mg.capture
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        opt.step()
        return loss

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(batch, 3)).astype(np.float32), rng.integers(0, 5, batch)
    return [float(step(x, y)) for _ in range(3)]


@pytest.mark.slow
def test_a_hundred_different_nets_compile_nothing() -> None:
    for activation, residual, momentum in product(ACTIVATIONS, (False, True), (0.0, 0.9)):
        train(2, 4, 4, activation, residual, momentum)
    for width, batch in product((1, 7), (1, 7)):
        train(1, width, batch, nn.ReLU, True, 0.9)
    before = _cache.stats.misses, _cache.stats.hits, len(abi.loaded())
    assert before[2] > 0
    rng = np.random.default_rng(0)
    nets: set[tuple[int, int, int, Any, bool, float]] = set()
    while len(nets) < 100:
        depth, width, batch = (int(rng.integers(1, high)) for high in (9, 41, 34))
        nets.add((depth, width, batch, ACTIVATIONS[rng.integers(3)], bool(rng.integers(2)), float(rng.choice([0.0, 0.9]))))
    for net in sorted(nets, key=repr):
        losses = train(*net)
        assert np.isfinite(losses).all() and len(set(losses)) > 1, net
        assert (_cache.stats.misses, _cache.stats.hits, len(abi.loaded())) == before, net
