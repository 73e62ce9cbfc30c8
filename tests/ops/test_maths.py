"""Elementwise ops as PyTorch has them: promotion, ties, choices without NaN, powers at their edges; errors that name the cast."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, ShapeError

NAN, INF = float("nan"), float("inf")


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def gradients(out: mg.Tensor, *leaves: mg.Tensor) -> list[Any]:
    return [None if g is None else g.tolist() for g in mg.autograd.grad(out.sum(), list(leaves))]


# ---- dtypes --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("f", [mg.add, mg.sub, mg.mul, mg.maximum, mg.minimum])
def test_integers_stay_integers_and_become_floats_beside_floats(f: Callable[..., mg.Tensor]) -> None:
    i, x = mg.tensor([1, -2, 3]), mg.tensor(np.array([0.5, 2.5, -1.0], np.float32))
    assert f(i, i).dtype == mg.int64 and f(i, 2).dtype == mg.int64
    assert f(i, x).dtype == mg.float32 and f(x, i).tolist() == f(x, i.astype(mg.float32)).tolist()
    assert f(i, 2.5).dtype == mg.get_default_dtype()
    assert f(i.astype(np.int32), i).dtype == mg.int64 and f(i.astype(np.int32), 2).dtype == np.int32


def test_integers_are_divided_in_the_default_dtype() -> None:
    i = mg.tensor([1, 2, 4])
    assert (i / 2).tolist() == [0.5, 1.0, 2.0] and (i / i).dtype == mg.get_default_dtype() and (1 / i).tolist() == [1.0, 0.5, 0.25]
    with pytest.raises(DtypeError, match=r"div: x is int64, expected float32 or float64 .*x.astype\(mg.float32\)"):
        mg.div(i, i)


def test_bools_count_as_ones_beside_numbers_only() -> None:
    b, x = mg.tensor([True, False]), leaf(2.0, 3.0)
    assert (b * x).tolist() == [2.0, 0.0] and gradients(b * x, x) == [[1.0, 0.0]]
    assert (b + 1).tolist() == [2, 1] and b.astype(mg.float32).tolist() == [1.0, 0.0] and x.astype(np.bool_).tolist() == [True, True]
    with pytest.raises(DtypeError, match=r"add: x is bool, expected float32 or float64, int32 or int64"):
        mg.add(b, b)


@pytest.mark.parametrize("f", [mg.exp, mg.sqrt, mg.sin, mg.floor, mg.isnan])
def test_functions_of_floats_name_the_cast(f: Callable[..., mg.Tensor]) -> None:
    with pytest.raises(DtypeError, match=r"x is int64, expected float32 or float64 .*x.astype\(mg.float32\)"):
        f(mg.tensor([1, 2]))


def test_two_float_dtypes_are_not_compared_in_silence() -> None:
    with pytest.raises(DtypeError, match="eq: float32 and float64 are not mixed"):
        mg.eq(mg.tensor(np.ones(3)), mg.tensor(np.ones(3, np.float32)))


def test_a_condition_must_be_of_bools() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(DtypeError, match=r"where: condition is float64, expected bool .*condition != 0"):
        mg.where(x, x, 0.0)
    with pytest.raises(ShapeError, match="where: shapes do not broadcast"):
        mg.where(mg.tensor([True, False, True]), x, 0.0)


# ---- gradients where PyTorch has made a choice -----------------------------------------------------------------------------------
def test_what_is_not_chosen_gets_a_gradient_of_zero_whatever_stands_there() -> None:
    condition, x, y = mg.tensor([True, False]), leaf(1.0, NAN), leaf(INF, 2.0)
    out = mg.where(condition, x, y)
    assert out.tolist() == [1.0, 2.0]
    first, second = mg.autograd.grad(out, [x, y], mg.tensor(np.array([INF, -INF])))
    assert first is not None and second is not None
    assert first.tolist() == [INF, 0.0] and second.tolist() == [0.0, -INF]


def test_where_broadcasts_all_three() -> None:
    condition, x, y = mg.tensor(np.array([[True], [False]])), leaf(1.0, 2.0, 3.0), leaf(-1.0)
    out = mg.where(condition, x, y)
    assert out.tolist() == [[1.0, 2.0, 3.0], [-1.0, -1.0, -1.0]]
    assert gradients(out, x, y) == [[1.0, 1.0, 1.0], [3.0]]
    assert mg.where(condition, 1, 0).tolist() == [[1], [0]] and mg.where(True, x, y).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum])
def test_equal_operands_share_the_gradient(f: Callable[..., mg.Tensor]) -> None:
    x, y = leaf(1.0, 2.0, 3.0), leaf(3.0, 2.0, 1.0)
    first, second = gradients(f(x, y), x, y)
    assert first[1] == second[1] == 0.5 and sorted(first) == [0.0, 0.5, 1.0]


def test_a_bound_itself_lies_inside() -> None:
    x = leaf(-2.0, -1.0, 0.0, 1.0, 2.0, NAN)
    assert gradients(mg.clamp(x, -1, 1), x) == [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
    assert gradients(mg.clamp(x, max=0.0), x) == [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
    assert mg.clamp(x, 1.0, -1.0).tolist()[:5] == [-1.0] * 5
    assert mg.clip(mg.tensor([1, 5, 9]), 2, 8).tolist() == [2, 5, 8]
    low = leaf(0.0)
    assert gradients(mg.clamp(x, min=low), low)[0][0] == 2.5 + 1.0  # two below, one tie, and the NaN
    with pytest.raises(ValueError, match="neither min nor max"):
        mg.clamp(x)


@pytest.mark.parametrize("f", [mg.sign, mg.floor, mg.ceil, mg.trunc, mg.round])
def test_steps_have_a_gradient_of_zero(f: Callable[..., mg.Tensor]) -> None:
    x = leaf(-1.5, 0.0, 2.5)
    assert gradients(f(x) * INF, x) == [[0.0, 0.0, 0.0]]
    assert gradients(abs(x), x) == [[-1.0, 0.0, 1.0]]


# ---- powers ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exponent", [-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 2, 2.5, 3, 7, 64, 65, 100])
def test_a_power_by_a_number_is_that_by_a_tensor(exponent: float) -> None:
    x = mg.tensor(np.linspace(0.3, 2, 37), requires_grad=True)
    y = mg.tensor(np.full(37, float(exponent)))
    np.testing.assert_allclose(x**exponent, x.detach().array**exponent, rtol=1e-14)
    np.testing.assert_allclose(x**y, x.detach().array**exponent, rtol=1e-14)
    (by_number,), (by_tensor,) = gradients(x**exponent, x), gradients(x**y, x)
    np.testing.assert_allclose(by_number, by_tensor, rtol=1e-13)


def test_a_negative_base_has_whole_powers_only() -> None:
    x = mg.tensor([-2.0, -2.0, -2.0, -2.0])
    assert (x**3).tolist() == [-8.0] * 4 and (x**-3).tolist() == [-0.125] * 4
    assert np.array_equal((x ** mg.tensor([3.0, 2.0, -1.0, 0.5])).array, [-8, 4, -0.5, NAN], equal_nan=True)


def test_zero_to_the_power_zero_is_one_and_its_gradients_are_zero() -> None:
    x, y = leaf(0.0, 0.0, 2.0), leaf(0.0, 2.0, 0.0)
    assert (x**y).tolist() == [1.0, 0.0, 1.0]
    assert gradients(x**y, x, y) == [[0.0, 0.0, 0.0], [0.0, 0.0, float(np.log(2.0))]]
    assert (x**0).tolist() == [1.0, 1.0, 1.0] and gradients(x**0, x) == [[0.0, 0.0, 0.0]]


def test_a_number_to_the_power_of_a_tensor() -> None:
    y = leaf(0.0, 3.0, -1.0)
    assert (2**y).tolist() == [1.0, 8.0, 0.5]
    np.testing.assert_allclose(gradients(2**y, y)[0], np.log(2) * np.array([1, 8, 0.5]), rtol=1e-15)


# ---- against PyTorch ---------------------------------------------------------------------------------------------------------------
UNARY = ("abs", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "erf",
         "floor", "ceil", "trunc", "round")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow")
BOOLEAN = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")


@pytest.mark.parametrize("name", UNARY)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.array([0.0, 0.5, 1.0, 2.5, 7.25, -0.3, -2.5, 100.0])
    x, theirs = mg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, expected = getattr(mg, name)(x), getattr(torch, name)(theirs)
    y.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(y.detach().array, expected.detach().numpy(), rtol=1e-14, atol=1e-15)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.array, theirs.grad.numpy(), rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(getattr(x, name)().array, y.array)


@pytest.mark.parametrize("name", BINARY)
def test_gradients_of_two_operands_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    edges = np.array([0.0, 1.0, 2.0, -1.0, -2.5, 0.5])
    a, b = np.repeat(edges, edges.size), np.tile(edges, edges.size)
    x, y = mg.tensor(a, requires_grad=True), mg.tensor(b, requires_grad=True)
    p, q = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    out, expected = getattr(mg, name)(x, y), getattr(torch, name)(p, q)
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(out.detach().array, expected.detach().numpy(), rtol=1e-14)
    assert x.grad is not None and y.grad is not None
    np.testing.assert_allclose(x.grad.array, p.grad.numpy(), rtol=1e-14)
    np.testing.assert_allclose(y.grad.array, q.grad.numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", BOOLEAN)
def test_truths_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    values = [0.0, -0.0, 1.0, NAN, INF, -INF]
    x, p = mg.tensor(np.array(values)), torch.tensor(values, dtype=torch.float64)
    out = getattr(mg, name)(x.reshape(-1, 1), x)
    assert out.dtype == np.bool_ and not out.requires_grad
    assert out.tolist() == getattr(torch, name)(p.reshape(-1, 1), p).tolist()


def test_what_is_not_finite() -> None:
    x = mg.tensor([1.0, NAN, INF, -INF])
    assert mg.isnan(x).tolist() == [False, True, False, False]
    assert mg.isinf(x).tolist() == [False, False, True, True]
    assert mg.isfinite(x).tolist() == [True, False, False, False]


# ---- captured ----------------------------------------------------------------------------------------------------------------------
def test_a_captured_choice_follows_the_values() -> None:
    w = mg.tensor(np.array([1.0, -2.0, 3.0], np.float32), requires_grad=True)

    def step(x: mg.Tensor, i: mg.Tensor) -> Any:
        w.grad = None
        h = x * w * i
        loss = mg.where((h > 0) & (h < 5), h**3, mg.clamp(mg.sin(h), -0.5, 0.5) + 2**h).sum()
        loss.backward()
        return loss, w.grad, h == x, ~(h > 0)

    captured, rng = mg.capture(step), np.random.default_rng(0)
    for _ in range(4):
        arguments = mg.tensor(rng.normal(size=3).astype(np.float32)), mg.tensor(rng.integers(-2, 3, 3))
        for ours, eager in zip(captured(*arguments), step(*arguments), strict=True):
            assert ours.dtype == eager.dtype and ours.array.tobytes() == eager.array.tobytes()
