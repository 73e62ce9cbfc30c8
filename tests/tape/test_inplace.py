"""Augmented assignment: a leaf is written where it is, under no_grad only; a result gives way to a new one."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import GraphError


def test_a_hand_written_update_reaches_the_parameters() -> None:
    layer = nn.Linear(3, 2)
    layer(mg.ones(4, 3)).sum().backward()
    before = {name: p.array.copy() for name, p in layer.named_parameters()}
    with mg.no_grad():
        p: Any
        for p in layer.parameters():
            p -= 0.5 * p.grad
    for name, p in layer.named_parameters():
        assert np.array_equal(p.array, before[name] - np.float32(0.5) * p.grad.array)


def test_a_leaf_that_requires_gradients_is_not_written_while_recording() -> None:
    w = mg.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match="in-place operation"):
        w += 1.0
    assert w.tolist() == [1, 1, 1]


def test_a_result_stays_differentiable() -> None:
    w = mg.ones(3, requires_grad=True)
    y = w * 2.0
    y *= 3.0
    y.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [6, 6, 6]
