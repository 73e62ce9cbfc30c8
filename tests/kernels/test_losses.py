"""Losses and their gradients against NumPy at odd lengths, whole and in parts."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, losses, softmax

DTYPES = (np.float32, np.float64)
MSE, CLASSES = abi.Layout("x[n] target[n] out[1]"), abi.Layout("x[r,c] labels[r] ignore:i out[1]", status=True)
MSE_GRAD = abi.Layout("g[1] x[n] target[n] count:i out[n]", "n")
CLASSES_GRAD = abi.Layout("g[1] x[r,c] labels[r] ignore:i out[r,c]")
NONE = {"ignore": -100}


def normal(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    return (3 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 15, 17, 4095, 4097, 10_001])
def test_mse_and_its_gradient_are_numpys_and_the_same_in_parts(n: int, dtype: Any, through: Any) -> None:
    x, target, g = normal((n,), dtype), normal((n,), dtype, 1), np.array([0.7], dtype)
    out, d = np.empty(1, dtype), np.full_like(x, np.nan)
    losses.mse(x, target, out)
    difference = x.astype(np.float64) - target
    np.testing.assert_allclose(out[0], np.mean(difference ** 2), rtol=(2 + min(n, 4096) / 16) * np.finfo(dtype).eps)
    losses.mse_grad(g, x, target, n, d)
    np.testing.assert_allclose(d, float(g[0]) * 2 / n * difference, rtol=1e-5 if dtype is np.float32 else 1e-12, atol=1e-10)
    other = np.empty(1, dtype)
    assert through(losses.mse, MSE, {"n": n}, x, target, other) == 1
    assert other.tobytes() == out.tobytes()
    for parts in (1, 2, 3):
        parted = np.full_like(x, np.nan)
        assert through(losses.mse_grad, MSE_GRAD, {"n": n}, g, x, target, parted, parts=parts, immediates={"count": n}) == 1
        assert parted.tobytes() == d.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (1, 2), (5, 10), (17, 15), (3, 67)])
def test_cross_entropy_and_its_gradient_are_numpys(rows: int, classes: int, dtype: Any, through: Any) -> None:
    x, g = normal((rows, classes), dtype), np.array([0.7], dtype)
    labels = np.random.default_rng(2).integers(0, classes, rows)
    labels[:2] = [0, classes - 1][:rows]
    out, d = np.empty(1, dtype), np.full_like(x, np.nan)
    dims = {"r": rows, "c": classes}
    assert through(losses.softmax_cross_entropy, CLASSES, dims, x, labels, out, immediates=NONE) == 1
    assert through(losses.softmax_cross_entropy_grad, CLASSES_GRAD, dims, g, x, labels, d, immediates=NONE) == 1
    exact = x.astype(np.float64)
    shifted = exact - exact.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out[0], -log_softmax[np.arange(rows), labels].mean(), rtol=60 * eps, atol=60 * eps)
    np.testing.assert_allclose(d, float(g[0]) / rows * (np.exp(log_softmax) - np.eye(classes)[labels]), atol=60 * eps)
    np.testing.assert_allclose(d.sum(1), 0, atol=60 * eps)


@pytest.mark.parametrize("label", [-1, 3, 2 ** 40])
@pytest.mark.parametrize("row", [0, 4])
def test_a_label_that_is_no_class_is_refused_before_anything_is_written(row: int, label: int, through: Any) -> None:
    x, labels, out = normal((5, 3), np.float32), np.zeros(5, np.int64), np.array([123.0], np.float32)
    labels[row] = label
    assert through(losses.softmax_cross_entropy, CLASSES, {"r": 5, "c": 3}, x, labels, out, immediates=NONE) == 0
    assert out[0] == 123


def test_a_certain_and_right_answer_costs_nothing_and_a_wrong_one_its_distance() -> None:
    x, out = np.array([[1000.0, 0.0, 0.0]], np.float32), np.empty(1, np.float32)
    for label, cost in ((0, 0.0), (1, 1000.0)):
        losses.softmax_cross_entropy(x, np.array([label]), -100, out)
        assert out[0] == cost


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ignore", [-100, 1, 2 ** 40])
def test_ignored_rows_leave_the_bits_of_the_others_and_have_no_gradient(ignore: int, dtype: Any) -> None:
    x, labels, g = normal((6, 19), dtype), np.array([3, 0, 18, 2, 7, 0]), np.array([0.7], dtype)
    ignored = np.array([True, False, False, True, False, True])
    spoilt = np.where(ignored, ignore, labels)
    x[0] = np.nan
    few, all_ = np.empty(1, dtype), np.empty(1, dtype)
    assert losses.softmax_cross_entropy(x[~ignored], labels[~ignored], -100, few) == losses.softmax_cross_entropy(x, spoilt, ignore, all_) == 1
    assert few.tobytes() == all_.tobytes()
    part, whole = np.empty_like(x[~ignored]), np.full_like(x, np.nan)
    losses.softmax_cross_entropy_grad(g, x[~ignored], labels[~ignored], -100, part)
    losses.softmax_cross_entropy_grad(g, x, spoilt, ignore, whole)
    assert whole[~ignored].tobytes() == part.tobytes() and not whole[ignored].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_over_no_rows_is_nan_and_its_gradient_zero(dtype: Any) -> None:
    x, out, d = normal((3, 4), dtype), np.empty(1, dtype), np.full((3, 4), np.nan, dtype)
    labels = np.full(3, -100)
    assert losses.softmax_cross_entropy(x, labels, -100, out) == 1 and np.isnan(out[0])
    losses.softmax_cross_entropy_grad(np.ones(1, dtype), x, labels, -100, d)
    assert not d.any()
    assert losses.softmax_cross_entropy(x[:0], labels[:0], -100, out) == 1 and np.isnan(out[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (2, 3, 20), (0, 4, 2)])
def test_nll_picks_and_its_gradient_puts_back(shape: tuple[int, int, int], dtype: Any) -> None:
    x, g = normal(shape, dtype), normal((shape[0], shape[2]), dtype, 1)
    labels = np.random.default_rng(2).integers(0, shape[1], g.shape)
    labels[::2, ::3] = -7
    out, d = np.full_like(g, np.nan), np.full_like(x, np.nan)
    assert losses.nll(x, labels, -7, out) == losses.nll_grad(g, labels, -7, d) == 1
    hot = (labels[:, None] == np.arange(shape[1])[:, None]).astype(dtype)
    assert np.array_equal(out, -(x * hot).sum(1)) and np.array_equal(d, -g[:, None] * hot)


def test_a_label_without_a_class_is_refused_by_each_kernel_that_looks_one_up() -> None:
    labels, row = np.array([[0, 1, 4]]), np.full((1, 3), 123.0)
    assert losses.nll(np.zeros((1, 4, 3)), labels, -100, row) == 0 and (row == 123).all()
    wide = np.full((1, 4, 3), 123.0)
    assert losses.nll_grad(row, labels, -100, wide) == 0 and (wide == 123).all()
    assert losses.label_weights(labels[0], np.ones(4), -100, row[0]) == 0 and (row == 123).all()
    assert losses.label_weights(labels[0], np.array([2.0]), 1, row[0]) == 1 and row.tolist() == [[2, 0, 2]]
    assert losses.label_weights(labels[0], np.arange(5.0), 1, row[0]) == 1 and row.tolist() == [[0, 0, 4]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("delta", "slope"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0)])
def test_huber_is_quadratic_then_linear(delta: float, slope: float, dtype: Any) -> None:
    d = np.concatenate([normal((60,), dtype), [0, -0.0, delta, -delta, np.inf, -np.inf, np.nan, 1e30]]).astype(dtype)
    out, gradient, ones = np.empty_like(d), np.empty_like(d), np.ones_like(d)
    losses.huber(d, delta, slope, out)
    losses.huber_grad(ones, d, delta, slope, gradient)
    exact = d.astype(np.float64)
    with np.errstate(all="ignore"):
        value = np.where(np.abs(exact) < delta, 0.5 * slope / (delta or 1) * exact ** 2, slope * (np.abs(exact) - delta / 2))
        rise = slope * np.where(np.abs(exact) < delta, exact / (delta or 1), np.sign(exact))
    np.testing.assert_allclose(out, value, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(gradient, rise, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_logits_is_accurate_at_both_ends(dtype: Any) -> None:
    x = np.array([-1e30, -1e4, -40, -9, -0.5, 0, 0.5, 9, 40, 1e4, 1e30], dtype)
    out, gradient, ones = np.empty_like(x), np.empty_like(x), np.ones_like(x)
    for target in (0.0, 1.0):
        t = np.full_like(x, target)
        losses.binary_cross_entropy_with_logits(x, t, out)
        losses.binary_cross_entropy_with_logits_grad(ones, x, t, gradient)
        z = (x if target == 0 else -x).astype(np.longdouble)
        np.testing.assert_allclose(out, np.logaddexp(0, z).astype(np.float64), rtol=8 * np.finfo(dtype).eps)
        with np.errstate(over="ignore"):
            expected = (1 / (1 + np.exp(-z)) * (1 if target == 0 else -1)).astype(np.float64)
        np.testing.assert_allclose(gradient, expected, rtol=8 * np.finfo(dtype).eps, atol=1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_stops_at_a_hundred(dtype: Any) -> None:
    p, t = np.array([0, 1, 0, 1, 0.5, np.nan, 1.5], dtype), np.array([0, 1, 1, 0, 0.5, 1, 0], dtype)
    out, gradient = np.empty_like(p), np.empty_like(p)
    losses.binary_cross_entropy(p, t, out)
    np.testing.assert_allclose(out, [0, 0, 100, 100, np.log(2), np.nan, np.nan], rtol=1e-6)
    losses.binary_cross_entropy_grad(np.ones_like(p), p, t, gradient)
    np.testing.assert_allclose(gradient[:5], [0, 0, -1e12, 1e12, 0], rtol=1e-6)


def test_a_loss_of_log_probabilities_is_that_of_the_logits() -> None:
    x, labels = normal((9, 19), np.float64), np.random.default_rng(2).integers(0, 19, 9)
    logs, picked, mean = np.empty_like(x), np.empty((9, 1)), np.empty(1)
    softmax.log_softmax(x, logs)
    assert losses.nll(logs.reshape(9, 19, 1), labels.reshape(9, 1), -100, picked) == losses.softmax_cross_entropy(x, labels, -100, mean) == 1
    np.testing.assert_allclose(picked.mean(), mean[0], rtol=1e-14)
