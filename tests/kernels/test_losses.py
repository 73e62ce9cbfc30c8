"""Losses and their gradients against NumPy at odd lengths, whole and in parts."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, losses

DTYPES = (np.float32, np.float64)
MSE, CLASSES = abi.Layout("x[n] target[n] out[1]"), abi.Layout("x[r,c] labels[r] out[1]", status=True)
MSE_GRAD = abi.Layout("g[1] x[n] target[n] count:i out[n]", "n")
CLASSES_GRAD = abi.Layout("g[1] x[r,c] labels[r] out[r,c]")


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
    assert through(losses.softmax_cross_entropy, CLASSES, dims, x, labels, out) == 1
    assert through(losses.softmax_cross_entropy_grad, CLASSES_GRAD, dims, g, x, labels, d) == 1
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
    assert through(losses.softmax_cross_entropy, CLASSES, {"r": 5, "c": 3}, x, labels, out) == 0
    assert out[0] == 123


def test_a_certain_and_right_answer_costs_nothing_and_a_wrong_one_its_distance() -> None:
    x, out = np.array([[1000.0, 0.0, 0.0]], np.float32), np.empty(1, np.float32)
    for label, cost in ((0, 0.0), (1, 1000.0)):
        losses.softmax_cross_entropy(x, np.array([label]), out)
        assert out[0] == cost
