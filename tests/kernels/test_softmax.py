"""Softmax, its logarithm and their gradients against NumPy at odd lengths, whole and in parts."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, softmax

DTYPES = (np.float32, np.float64)
SHAPES = [(1, 1), (3, 2), (5, 10), (17, 15), (33, 67), (2, 1000)]
FORWARD, BACKWARD = abi.Layout("x[r,c] out[r,c]", "r"), abi.Layout("g[r,c] y[r,c] out[r,c]", "r")


def normal(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    return (3 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def exact(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(x.astype(np.longdouble) - x.max(-1, keepdims=True))
    found: np.ndarray[Any, Any] = (e / e.sum(-1, keepdims=True)).astype(np.float64)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_its_gradient_are_numpys_and_the_same_in_parts(shape: tuple[int, int], dtype: Any, through: Any) -> None:
    x, g = normal(shape, dtype), normal(shape, dtype, 1)
    y, d = np.full_like(x, np.nan), np.full_like(x, np.nan)
    softmax.softmax(x, y)
    np.testing.assert_allclose(y, exact(x), rtol=60 * np.finfo(dtype).eps)
    softmax.softmax_grad(g, y, d)
    y64, g64 = y.astype(np.float64), g.astype(np.float64)
    np.testing.assert_allclose(d, y64 * (g64 - (g64 * y64).sum(1, keepdims=True)), atol=20 * np.finfo(dtype).eps * np.abs(g).max())
    for parts in (1, 2, 3):
        other = np.full_like(x, np.nan)
        assert through(softmax.softmax, FORWARD, dict(zip("rc", shape, strict=True)), x, other, parts=parts) == 1
        assert other.tobytes() == y.tobytes()
        assert through(softmax.softmax_grad, BACKWARD, dict(zip("rc", shape, strict=True)), g, y, other, parts=parts) == 1
        assert other.tobytes() == d.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-3e4, 3e4, np.finfo(np.float32).max / 2])
def test_a_row_far_from_zero_does_not_overflow(shift: float, dtype: Any) -> None:
    x = np.array([[0.0, 0.0, -1e30, 0.0]], dtype) + dtype(shift)
    out = np.empty_like(x)
    softmax.softmax(x, out)
    assert np.isfinite(out).all() and abs(out.sum() - 1) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 3, 16, 18])
def test_a_bad_logit_spoils_its_own_row_only(at: int, bad: float, dtype: Any) -> None:
    x = normal((3, 19), dtype)
    x[1, at] = bad
    out = np.empty_like(x)
    softmax.softmax(x, out)
    assert np.isnan(out[1, at]) and np.isfinite(out[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_masked_logit_has_no_share(dtype: Any) -> None:
    x = np.array([[1.0, -np.inf, 1.0]], dtype)
    out = np.empty_like(x)
    softmax.softmax(x, out)
    assert out[0, 1] == 0 and np.allclose(out[0, [0, 2]], 0.5)


BOXES = [(1, 2, 3), (3, 7, 16), (2, 5, 17), (1, 10, 67), (4, 1, 5)]
ROWS = {"softmax": (softmax.softmax, softmax.softmax_grad), "log_softmax": (softmax.log_softmax, softmax.log_softmax_grad)}
COLUMNS = {"softmax": (softmax.softmax_columns, softmax.softmax_columns_grad),
           "log_softmax": (softmax.log_softmax_columns, softmax.log_softmax_columns_grad)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", BOXES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_along_another_axis_it_is_the_same_but_for_rounding_and_the_same_in_parts(name: str, shape: tuple[int, int, int], dtype: Any,
                                                                                  through: Any) -> None:
    outer, n, inner = shape
    x, g = normal(shape, dtype), normal(shape, dtype, 1)
    rows = [np.ascontiguousarray(a.transpose(0, 2, 1)).reshape(outer * inner, n) for a in (x, g)]
    y, d, row_y, row_d = np.full_like(x, np.nan), np.full_like(x, np.nan), np.empty_like(rows[0]), np.empty_like(rows[0])
    ROWS[name][0](rows[0], row_y)
    ROWS[name][1](rows[1], row_y, row_d)
    COLUMNS[name][0](x, y)
    COLUMNS[name][1](g, y, d)
    for found, expected in ((y, row_y), (d, row_d)):
        np.testing.assert_allclose(found.transpose(0, 2, 1).reshape(outer * inner, n), expected, rtol=60 * np.finfo(dtype).eps,
                                   atol=60 * np.finfo(dtype).eps)
    for share, form in (("o", "{}[o,n,i]"), ("i", "{}(o,n,i)")):
        for parts in (1, 2, 3):
            other = np.full_like(x, np.nan)
            how = abi.Layout(" ".join(form.format(a) for a in ("x", "out")), share)
            assert through(COLUMNS[name][0], how, dict(zip("oni", shape, strict=True)), x, other, parts=parts) == 1
            assert other.tobytes() == y.tobytes()
            how = abi.Layout(" ".join(form.format(a) for a in ("g", "y", "out")), share)
            assert through(COLUMNS[name][1], how, dict(zip("oni", shape, strict=True)), g, y, other, parts=parts) == 1
            assert other.tobytes() == d.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_log_softmax_and_its_gradient_are_numpys(shape: tuple[int, int], dtype: Any) -> None:
    x, g = normal(shape, dtype), normal(shape, dtype, 1)
    y, d = np.empty_like(x), np.empty_like(x)
    softmax.log_softmax(x, y)
    softmax.log_softmax_grad(g, y, d)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, np.log(exact(x)), rtol=20 * eps, atol=20 * eps)
    expected = g.astype(np.float64) - np.exp(y.astype(np.float64)) * g.astype(np.float64).sum(1, keepdims=True)
    np.testing.assert_allclose(d, expected, atol=20 * eps * np.abs(g).sum(1).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_of_logits_far_apart_is_finite(dtype: Any) -> None:
    x = np.array([[1e4, -1e4, 0.0], [1e30, -1e30, 0.0], [-1e30, -1e30, -1e30]], dtype)
    out = np.empty_like(x)
    softmax.log_softmax(x, out)
    np.testing.assert_allclose(out, [[0, -2e4, -1e4], [0, -2e30, -1e30], [-np.log(3)] * 3], rtol=1e-6)
