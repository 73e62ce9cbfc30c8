"""Products with zeros, variances and norms where their derivative has an edge, log-sum-exp of -inf, truth, and what is not a float."""
from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import cumulative, reduce, statistics
from minigrad.ops.op import Op

Array = np.ndarray[Any, np.dtype[Any]]


def gradient(op: Op, x: Any, **attributes: Any) -> Array:
    leaf = mg.tensor(np.asarray(x, np.float64), requires_grad=True)
    op(leaf, **attributes).sum().backward()
    assert leaf.grad is not None
    return np.array(leaf.grad.array)


# ---- products ---------------------------------------------------------------------------------------------------------------------
def without(x: Array, *left_out: int) -> float:
    return float(np.prod(np.delete(x, left_out)))


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_the_gradient_of_a_product_is_the_product_of_the_others(n: int, zeros: int, rng: np.random.Generator) -> None:
    x = rng.integers(1, 4, n).astype(np.float64)
    x[rng.permutation(n)[:zeros]] = 0.0
    assert gradient(statistics.prod, x).tolist() == [without(x, i) for i in range(n)]


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_the_second_and_third_derivative_of_a_product_hold_with_zeros(zeros: int, rng: np.random.Generator) -> None:
    x = rng.integers(1, 4, 6).astype(np.float64)
    x[:zeros] = 0.0
    leaf = mg.tensor(x, requires_grad=True)
    (first,) = mg.autograd.grad(statistics.prod(leaf), [leaf], create_graph=True)
    for i, j, k in permutations(range(6), 3):
        assert first is not None
        (second,) = mg.autograd.grad(first[i], [leaf], create_graph=True)
        assert second is not None
        (third,) = mg.autograd.grad(second[j], [leaf], retain_graph=True)
        assert third is not None
        assert second.array[j] == without(x, i, j)
        assert third.array[k] == without(x, i, j, k)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (0, 1), (1, 2)])
def test_the_gradient_of_products_along_axes_is_pytorchs(axis: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0.5, 2, (4, 3, 5)) * np.random.default_rng(1).integers(0, 6, (4, 3, 5)).clip(0, 1)
    peer = torch.tensor(x, requires_grad=True)
    total = peer
    for a in sorted(range(3) if axis is None else np.atleast_1d(axis), reverse=True):
        total = total.prod(dim=int(a))
    total.sum().backward()
    np.testing.assert_allclose(gradient(statistics.prod, x, axis=axis), peer.grad.numpy(), rtol=1e-13)


# ---- variances, norms, log-sum-exp --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [statistics.var, statistics.std])
def test_a_divisor_of_zero_divides_as_numpys(op: Op) -> None:
    assert np.isnan(op(mg.tensor([3.0])).item())
    assert op(mg.tensor([3.0, 4.0]), correction=5).item() == math.inf
    assert np.isnan(op(mg.zeros(0)).item())
    assert op(mg.tensor([3.0]), correction=0).item() == 0


def test_of_equal_values_the_deviation_has_no_slope() -> None:
    assert gradient(statistics.std, [2.0, 2.0, 2.0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_makes_no_variance_negative(axis: int, rng: np.random.Generator) -> None:
    for dtype in (np.float32, np.float64):
        x = np.array(np.broadcast_to(rng.normal(size=(1, 30) if axis == 0 else (30, 1)), (30, 30)), dtype)
        spread = statistics.std(mg.tensor(x), axis=axis).array
        assert np.all(spread >= 0) and np.all(spread <= 1e-6)


@pytest.mark.parametrize("axis", [None, 0, (0, 2), (1, 3), (0, 1), -1])
@pytest.mark.parametrize("correction", [0, 1, 2.5])
def test_variance_is_numpys_over_any_axes(axis: Any, correction: float, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 5, 7, 4)) + 1e6
    found = statistics.var(mg.tensor(x), axis=axis, correction=correction)
    distance = x - x.mean(axis=axis, keepdims=True)
    count = x.size // max(found.spec.size, 1)
    np.testing.assert_allclose(found.array, (distance**2).sum(axis) / (count - correction), rtol=1e-9)


@pytest.mark.parametrize("p", [2, 1, 3, 1.5, 0.5, math.inf, -math.inf, 0])
def test_the_gradient_of_a_norm_is_0_at_0(p: float) -> None:
    assert gradient(statistics.vector_norm, [0.0, 0.0, -0.0], p=p).tolist() == [0, 0, 0]


@pytest.mark.parametrize("p", [2, 1, 3, math.inf, -math.inf])
def test_the_gradient_of_a_norm_with_ties_and_zeros_is_pytorchs(p: float) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[3.0, -3.0, 1.0, 0.0], [-1.0, 1.0, 1.0, -2.0], [2.0, 2.0, 2.0, -2.0]])
    peer = torch.tensor(x, requires_grad=True)
    torch.linalg.vector_norm(peer, ord=p, dim=1).sum().backward()
    np.testing.assert_allclose(gradient(statistics.vector_norm, x, p=p, axis=1), peer.grad.numpy(), rtol=1e-14)


def test_a_count_has_no_slope() -> None:
    assert gradient(statistics.vector_norm, [3.0, 0.0], p=0).tolist() == [0, 0]


def test_a_norm_of_nothing() -> None:
    for p in (2, 1, 0, 3, math.inf):
        assert statistics.vector_norm(mg.zeros(0, 3), p=p, axis=0).tolist() == [0, 0, 0]
    with pytest.raises(ShapeError, match="of nothing there is no norm"):
        statistics.vector_norm(mg.zeros(0), p=-1)
    with pytest.raises(ShapeError, match="p is NaN"):
        statistics.vector_norm(mg.zeros(3), p=math.nan)


def test_log_sum_exp_of_rows_of_minus_infinity() -> None:
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf], [800.0, 800.0]])
    assert statistics.logsumexp(mg.tensor(x), axis=1).tolist() == [-np.inf, 0.0, 800 + math.log(2)]
    np.testing.assert_allclose(gradient(statistics.logsumexp, x, axis=1), np.array([[0, 0], [1, 0], [0.5, 0.5]]), rtol=1e-12)


# ---- what is not a float, and nothing -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("axis", [None, 0, (0, 2), -1])
def test_whole_numbers_and_truth_values(axis: Any, dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype is np.bool_ else 4, (4, 3, 5)).astype(dtype)
    for op, numpys in ((reduce.sum, np.sum), (statistics.prod, np.prod)):
        found = op(mg.tensor(x), axis=axis)
        assert found.dtype == np.int64 and np.array_equal(found.array, numpys(x, axis=axis, dtype=np.int64))
    for op, truth in ((statistics.any, np.any), (statistics.all, np.all)):
        found = op(mg.tensor(x), axis=axis)
        assert found.dtype == np.bool_ and np.array_equal(found.array, truth(x, axis=axis))
    if not isinstance(axis, tuple):
        found = cumulative.cumsum(mg.tensor(x), axis=axis)
        assert found.dtype == np.int64 and np.array_equal(found.array, np.cumsum(x, axis, dtype=np.int64))


def test_a_sum_beyond_float64_is_exact() -> None:
    x = np.array([2**53, 1, 1, 1])
    assert reduce.sum(mg.tensor(x)).item() == 2**53 + 3


@pytest.mark.parametrize("op", [reduce.mean, statistics.var, statistics.std, statistics.vector_norm, statistics.logsumexp])
def test_ops_of_floats_say_how_to_convert(op: Op) -> None:
    with pytest.raises(DtypeError, match=rf"{op.name}: x is int64.*x.astype"):
        op(mg.tensor([1, 2]))


def test_truth_of_floats() -> None:
    assert statistics.any(mg.tensor([0.0, -0.0])).item() is False
    assert statistics.any(mg.tensor([0.0, np.nan])).item() is True
    assert statistics.all(mg.tensor([1.0, np.nan, np.inf])).item() is True


@pytest.mark.parametrize(("op", "nothing"), [(reduce.sum, 0.0), (statistics.prod, 1.0), (reduce.mean, math.nan), (statistics.logsumexp, -math.inf),
                                             (statistics.any, False), (statistics.all, True)])
def test_of_nothing(op: Op, nothing: float) -> None:
    for shape, axis in (((0,), None), ((3, 0), 1), ((0, 3), 0), ((2, 0, 3), (0, 1))):
        found = op(mg.zeros(*shape), axis=axis)
        np.testing.assert_array_equal(found.array, np.full(found.shape, nothing))
        if op.vjps[0] is not None:
            assert gradient(op, np.zeros(shape), axis=axis).shape == shape
    assert op(mg.zeros(0, 3), axis=1).shape == (0,)
