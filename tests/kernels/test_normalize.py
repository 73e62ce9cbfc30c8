"""Normalisation kernels: bits do not depend on how a call is shared, and a large mean does not cost digits."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, normalize, normalize_runs

DTYPES = (np.float32, np.float64)
EPS = {"eps": 1e-5}


def numbers(*shapes: tuple[int, ...], dtype: Any) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 15, 33, 100])
def test_columns_in_parts(columns: int, dtype: Any, through: Any) -> None:
    g, x, w, b = numbers((9, columns), (9, columns), (columns,), (columns,), dtype=dtype)
    found = []
    for parts in (1, 2, 3):
        y, dx, dw, m = np.empty_like(x), np.empty_like(x), np.empty_like(w), np.empty((2, columns), dtype)
        dims = {"r": 9, "c": columns}
        assert through(normalize.normalize_columns, abi.Layout("x(r,c) w[c] b[c] eps:f out(r,c)", "c"), dims, x, w, b, y, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize.normalize_columns_grad, abi.Layout("g(r,c) x(r,c) w[c] eps:f out(r,c)", "c"), dims, g, x, w, dx, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize.scale_columns_grad, abi.Layout("g(r,c) x(r,c) eps:f out[c]", "c"), dims, g, x, dw, parts=parts, immediates=EPS) == 1
        assert through(normalize.moments_columns, abi.Layout("x(r,c) out(2,c)", "c"), dims, x, m, parts=parts) == 1
        found.append([a.tobytes() for a in (y, dx, dw, m)])
    assert found == [found[0]] * 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [2, 16, 19])
def test_channels_in_parts(length: int, dtype: Any, through: Any) -> None:
    channels = 37
    g, x, w, b = numbers((3, channels, length), (3, channels, length), (channels,), (channels,), dtype=dtype)
    found = []
    for parts in (1, 2, 3):
        y, dx, dw, m = np.empty_like(x), np.empty_like(x), np.empty_like(w), np.empty((2, channels), dtype)
        dims = {"i": 3, "c": channels, "l": length}
        assert through(normalize_runs.normalize_channels, abi.Layout("x(i,c,l) w[c] b[c] eps:f out(i,c,l)", "c"), dims, x, w, b, y, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize_runs.normalize_channels_grad, abi.Layout("g(i,c,l) x(i,c,l) w[c] eps:f out(i,c,l)", "c"), dims, g, x, w, dx,
                       parts=parts, immediates=EPS) == 1
        assert through(normalize_runs.scale_channels_grad, abi.Layout("g(i,c,l) x(i,c,l) eps:f out[c]", "c"), dims, g, x, dw, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize_runs.moments_channels, abi.Layout("x(i,c,l) out(2,c)", "c"), dims, x, m, parts=parts) == 1
        found.append([a.tobytes() for a in (y, dx, dw, m)])
    assert found == [found[0]] * 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 17, 100])
def test_rows_in_parts(n: int, dtype: Any, through: Any) -> None:
    rows = 37
    g, x, w, b = numbers((rows, n), (rows, n), (n,), (n,), dtype=dtype)
    found = []
    for parts in (1, 2, 3):
        y, dx, dw, m = np.empty_like(x), np.empty_like(x), np.empty_like(w), np.empty((rows, 2))
        dims = {"r": rows, "n": n}
        assert through(normalize_runs.normalize_rows, abi.Layout("x[r,n] w[n] b[n] eps:f out[r,n]", "r"), dims, x, w, b, y, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize_runs.normalize_rows_grad, abi.Layout("g[r,n] x[r,n] w[n] eps:f out[r,n]", "r"), dims, g, x, w, dx, parts=parts,
                       immediates=EPS) == 1
        assert through(normalize_runs.row_moments, abi.Layout("x[r,n] eps:f out[r,2]", "r"), dims, x, m, parts=parts, immediates=EPS) == 1
        assert through(normalize_runs.scale_rows_grad, abi.Layout("g(r,n) x(r,n) m[r,2] out[n]", "n"), dims, g, x, m, dw, parts=parts) == 1
        found.append([a.tobytes() for a in (y, dx, dw, m)])
    assert found == [found[0]] * 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_mean_costs_no_digits(dtype: Any) -> None:
    """What one pass, mean(x^2) - mean(x)^2, loses altogether; a mean itself has no digits beyond those of x."""
    digits = 2 * np.finfo(np.float64).eps * 1e8 if dtype == np.float64 else 1e-7
    x = (np.random.default_rng(0).normal(size=(64, 20)) + (1e4 if dtype == np.float32 else 1e8)).astype(dtype)
    wide = x.astype(np.longdouble)
    expected = (wide - wide.mean(0)) / wide.std(0)
    w, b, out = np.ones(20, dtype), np.zeros(20, dtype), np.empty_like(x)
    normalize.normalize_columns(x, w, b, 0.0, out)
    np.testing.assert_allclose(out, expected.astype(np.float64), rtol=2 * np.finfo(dtype).eps, atol=digits)
    turned = np.empty((20, 64), dtype)
    normalize_runs.normalize_rows(np.ascontiguousarray(x.T), np.ones(64, dtype), np.zeros(64, dtype), 0.0, turned)
    np.testing.assert_allclose(turned.T, expected.astype(np.float64), rtol=2 * np.finfo(dtype).eps, atol=digits)
