"""Clipping by the global norm: PyTorch's factor, once, over all parameters that have a gradient."""
from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import CaptureError, NonFiniteError, ShapeError
from minigrad.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)


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
    assert np.isclose(get_total_norm([p.grad for p in parameters]).item(), before, rtol=1e-12)
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
    assert clip_grad_norm_(with_gradients(None, None), 1.0).item() == get_total_norm([]).item() == 0


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


# ---- other norms, and clipping by value -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3.5, float("inf")])
def test_every_norm_is_pytorchs(gradients: list[Any], norm_type: float, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    ours = with_gradients(*gradients, None, dtype=np.dtype(dtype))
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=getattr(torch, dtype))) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g, dtype=getattr(torch, dtype))
    rtol = 50 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(get_total_norm([p.grad for p in ours[:-1]], norm_type).item(),
                               torch.nn.utils.get_total_norm([p.grad for p in theirs], norm_type).item(), rtol=rtol)
    np.testing.assert_allclose(clip_grad_norm_(ours, 0.25, norm_type).item(),
                               torch.nn.utils.clip_grad_norm_(theirs, 0.25, norm_type).item(), rtol=rtol)
    np.testing.assert_allclose(stacked(ours), np.concatenate([p.grad.numpy().ravel() for p in theirs]), rtol=rtol)


def test_a_known_norm_clips_as_the_one_that_is_found(gradients: list[Any]) -> None:
    together, apart = with_gradients(*gradients), with_gradients(*gradients)
    clip_grad_norm_(together, 0.25, float("inf"))
    clip_grads_with_norm_(apart, 0.25, get_total_norm([p.grad for p in apart], float("inf")))
    assert stacked(together).tobytes() == stacked(apart).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_put_into_the_interval_and_a_nan_stays(gradients: list[Any], dtype: Any) -> None:
    parameters = with_gradients(*gradients, [np.nan, np.inf, -np.inf, 0.1], None, dtype=dtype)
    before = stacked(parameters)
    clip_grad_value_(parameters, 0.3)
    np.testing.assert_array_equal(stacked(parameters), np.clip(before, -dtype(0.3), dtype(0.3)))


def test_nonsense_is_refused_with_the_way_out() -> None:
    parameters = with_gradients([1.0])
    for norm_type in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive number or inf"):
            clip_grad_norm_(parameters, 1.0, norm_type)
    with pytest.raises(ValueError, match="clip_value is -1"):
        clip_grad_value_(parameters, -1)
    with pytest.raises(CaptureError, match="leave it out, the optimiser refuses such a step"):
        mg.capture(lambda: clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True))()


# ---- in a captured step ---------------------------------------------------------------------------------------------------------------
def clipped(by: Any) -> tuple[nn.Parameter, Any]:
    """A parameter, and a step that clips its gradient, which is the step's argument, and returns it."""
    p: Any = nn.Parameter(np.zeros(5))

    def step(x: Any, *bound: Any) -> Any:
        p.grad = None
        (p * x).sum().backward()
        by([p], *bound)
        return p.grad * 1.0

    return p, step


@pytest.mark.parametrize("by", [
    lambda p, bound: clip_grad_norm_(p, bound),
    lambda p, bound: clip_grad_norm_(p, bound, 1),
    lambda p, bound: clip_grad_norm_(p, bound, float("inf")),
    lambda p, bound: clip_grad_value_(p, bound),
    lambda p, bound: clip_grads_with_norm_(p, bound, get_total_norm([q.grad for q in p])),
], ids=["norm", "norm 1", "norm inf", "value", "known norm"])
@pytest.mark.parametrize("kind", ["number", "array", "float32"])
def test_a_bound_that_is_an_argument_may_change(by: Any, kind: str, rng: np.random.Generator) -> None:
    _, plain = clipped(by)
    _, other = clipped(by)
    step = mg.capture(other)
    for bound in (0.1, 0.1, 0.1, 0.2, 0.1, 5.0, 0.3):
        x = rng.normal(size=5)
        given = bound if kind == "number" else np.float64(bound) if kind == "array" else np.float32(bound)
        assert step(x, given).tolist() == plain(x, mg.tensor(given) if kind != "number" else given).tolist()


def test_a_bound_in_the_closure_may_change(rng: np.random.Generator) -> None:
    bound = 0.1
    p: Any = nn.Parameter(np.zeros(5))

    @mg.capture
    def step(x: Any) -> Any:
        p.grad = None
        (p * x).sum().backward()
        clip_grad_norm_([p], bound)
        return p.grad * 1.0

    for bound in (0.1, 0.1, 0.1, 0.2, 0.1, 0.3):
        x = rng.normal(size=5)
        np.testing.assert_allclose(np.linalg.norm(step(x).array), bound, rtol=1e-4)


def test_models_that_were_clipped_are_let_go() -> None:
    parameters = with_gradients([3.0], [4.0])
    clip_grad_norm_(parameters, 1.0)
    watched = weakref.ref(parameters[0])
    del parameters
    gc.collect()
    assert watched() is None


# ---- one vector -----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 3, 20])
def test_parameters_become_a_vector_and_come_back(count: int, rng: np.random.Generator) -> None:
    shapes = [[(2, 3), (4,), (), (1, 1)][i % 4] for i in range(count)]
    parameters = [nn.Parameter(rng.normal(size=shape)) for shape in shapes]
    vector = parameters_to_vector(parameters)
    assert vector.tolist() == np.concatenate([p.array.ravel() for p in parameters]).tolist()
    weights = rng.normal(size=vector.shape)
    (vector * weights).sum().backward()
    assert stacked(parameters).tolist() == weights.tolist()
    vector_to_parameters(weights, parameters)
    assert parameters_to_vector(parameters).tolist() == weights.tolist()
    with pytest.raises(ShapeError, match="elements"):
        vector_to_parameters(weights[:-1], parameters)


def test_vectors_are_made_and_written_in_a_captured_step(rng: np.random.Generator) -> None:
    parameters = [nn.Parameter(rng.normal(size=shape)) for shape in ((2, 3), (4,))]

    @mg.capture
    def step(x: Any) -> Any:
        with mg.no_grad():
            vector = parameters_to_vector(parameters) * x
            vector_to_parameters(vector, parameters)
        return vector

    before = parameters_to_vector(parameters).array
    for _ in range(5):
        step(np.float64(2.0))
    assert parameters_to_vector(parameters).tolist() == (before * 32).tolist()
