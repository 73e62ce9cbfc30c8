"""Clipping by the global norm: PyTorch's factor, once, over all parameters that have a gradient."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import NonFiniteError
from minigrad.nn.utils import clip_grad_norm_, get_total_norm


def with_gradients(*gradients: Any, dtype: Any = np.float64) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        p = nn.Parameter(np.zeros(np.shape(gradient), dtype))
        if gradient is not None:
            p.grad = mg.tensor(np.array(gradient, dtype))
        made.append(p)
    return made


def stacked(parameters: list[nn.Parameter]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.ravel(p.grad.numpy()) for p in parameters if p.grad is not None])


@pytest.fixture
def gradients(rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    return [rng.normal(size=shape) for shape in [(7, 3), (5000,), (1,), (17,)]]


def test_the_norm_is_over_all_gradients_and_comes_back_as_it_was(gradients: list[Any]) -> None:
    parameters = with_gradients(*gradients)
    before = np.sqrt(sum(np.sum(g ** 2) for g in gradients))
    assert np.isclose(get_total_norm(parameters).item(), before, rtol=1e-12)
    assert np.isclose(clip_grad_norm_(parameters, 0.25).item(), before, rtol=1e-12)


@pytest.mark.parametrize("bound", [0.25, 1.0, 50.0, 0.0])
def test_the_factor_is_the_bound_over_the_norm_plus_a_millionth(gradients: list[Any], bound: float) -> None:
    parameters = with_gradients(*gradients)
    norm = clip_grad_norm_(parameters, bound).item()
    assert bound < norm
    np.testing.assert_allclose(stacked(parameters), np.concatenate([g.ravel() for g in gradients]) * (bound / (norm + 1e-6)), rtol=1e-12)


def test_a_bound_above_the_norm_changes_nothing(gradients: list[Any]) -> None:
    parameters = with_gradients(*gradients)
    before = stacked(parameters).tobytes()
    clip_grad_norm_(parameters, 1e6)
    assert stacked(parameters).tobytes() == before


def test_clipping_twice_is_clipping_once_but_for_the_millionth(gradients: list[Any]) -> None:
    parameters = with_gradients(*gradients)
    clip_grad_norm_(parameters, 0.25)
    once = stacked(parameters)
    assert clip_grad_norm_(parameters, 0.25).item() <= 0.25
    np.testing.assert_allclose(stacked(parameters), once, rtol=1.01e-6 / 0.25)


def test_large_float32_gradients_are_clipped_not_zeroed() -> None:
    parameters = with_gradients([1e20, -1e20], [1e20, 1e20], dtype=np.float32)
    assert clip_grad_norm_(parameters, 1.0).item() == pytest.approx(2e20)
    np.testing.assert_allclose(stacked(parameters), [0.5, -0.5, 0.5, 0.5], rtol=1e-6)


def test_what_has_no_gradient_does_not_count_and_gets_none() -> None:
    parameters = with_gradients([3.0], None, [4.0])
    assert clip_grad_norm_(parameters, 1.0).item() == 5
    assert parameters[1].grad is None
    assert get_total_norm(with_gradients(None, None)).item() == 0


def test_one_tensor_and_a_generator_are_taken() -> None:
    first, second = with_gradients([3.0], [4.0])
    assert clip_grad_norm_(first, 10.0).item() == 3
    assert clip_grad_norm_((p for p in (first, second)), 10.0).item() == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_raises_if_asked_and_changes_nothing(bad: float) -> None:
    parameters = with_gradients([1.0, bad], [2.0])
    with pytest.raises(NonFiniteError, match="not clipped"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert np.array_equal(stacked(parameters), [1.0, bad, 2.0], equal_nan=True)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="got no parameters"):
        clip_grad_norm_([], 1.0)
    for bound in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a number that is not negative"):
            clip_grad_norm_(with_gradients([1.0]), bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pytorch_clips_to_the_same_numbers(gradients: list[Any], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    ours = with_gradients(*gradients, dtype=np.dtype(dtype))
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=getattr(torch, dtype))) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g, dtype=getattr(torch, dtype))
    clip_grad_norm_(ours, 0.25)
    torch.nn.utils.clip_grad_norm_(theirs, 0.25)
    np.testing.assert_allclose(stacked(ours), np.concatenate([p.grad.numpy().ravel() for p in theirs]), rtol=20 * float(np.finfo(dtype).eps))
