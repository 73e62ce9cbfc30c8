"""Dropout: which elements are zero, what the others become, and the gradient through the same mask."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import DtypeError
from minigrad.tape.random import state


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_an_element_is_zero_or_scaled_and_the_gradient_has_its_mask(p: float, rng: np.random.Generator) -> None:
    x = mg.tensor(rng.normal(size=(40, 50)), requires_grad=True)
    y = F.dropout(x, p)
    zero = y.array == 0
    assert abs(zero.mean() - p) < 0.06
    assert np.array_equal(y.array[~zero], (x.array * (1 / (1 - p)))[~zero])
    g = rng.normal(size=x.shape)
    y.backward(mg.tensor(g))
    assert x.grad is not None and np.array_equal(x.grad.array, np.where(zero, 0, g * (1 / (1 - p))))


def test_the_second_derivative_has_the_same_mask() -> None:
    x = mg.tensor(np.arange(1.0, 21.0), requires_grad=True)
    y = F.dropout(x, 0.5)
    g: Any
    h: Any
    (g,) = mg.autograd.grad((y * y).sum(), [x], create_graph=True)
    (h,) = mg.autograd.grad(g.sum(), [x])
    assert np.array_equal(h.array, np.where(y.array == 0, 0.0, 8.0))


def test_evaluation_and_p_0_give_the_input_and_draw_nothing() -> None:
    x = mg.ones(3)
    before = state().tolist()
    layer = nn.Dropout(0.9).eval()
    assert layer(x) is x and F.dropout(x, 0.0) is x and F.dropout(x, 0.5, training=False) is x
    assert state().tolist() == before


def test_p_1_gives_zeros_and_a_zero_gradient() -> None:
    x = mg.ones(5, requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.sum().backward()
    assert y.tolist() == [0] * 5 and x.grad is not None and x.grad.tolist() == [0] * 5


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_p_that_is_no_probability_is_refused_before_anything_is_drawn(p: float) -> None:
    before = state().tolist()
    for make in (lambda: nn.Dropout(p), lambda: F.dropout(mg.ones(3), p)):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            make()
    assert state().tolist() == before


def test_integers_are_refused_with_the_layer_named() -> None:
    before = state().tolist()
    model = nn.Sequential(nn.Dropout(0.5))
    with pytest.raises(DtypeError, match=r"in 0: dropout: the input is int64"):
        model(mg.tensor([1, 2]))
    assert state().tolist() == before


def test_a_changed_p_and_mode_are_seen_by_a_captured_step() -> None:
    model = nn.Sequential(nn.Dropout(0.5))
    step = mg.capture(lambda x: model(x))
    x = np.ones(4000, np.float32)

    def zeros() -> Any:
        return [float((step(x).array == 0).mean()) for _ in range(3)]

    assert zeros() == pytest.approx([0.5] * 3, abs=0.05)
    model[0].p = 0.1
    assert zeros() == pytest.approx([0.1] * 3, abs=0.03)
    model.eval()
    assert zeros() == [0.0] * 3
    model.train()
    assert zeros() == pytest.approx([0.1] * 3, abs=0.03)


def test_its_semantics_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = np.linspace(-2, 2, 1000)
    ours, theirs = F.dropout(mg.tensor(x), 0.3).array, torch.nn.functional.dropout(torch.tensor(x), 0.3).numpy()
    both = (ours != 0) & (theirs != 0)
    np.testing.assert_array_equal(ours[both], theirs[both])
    assert repr(nn.Dropout(0.3)).startswith("Dropout(p=0.3")
