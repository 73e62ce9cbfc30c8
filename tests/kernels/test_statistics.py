"""Variances that do not cancel, norms that do not overflow, log-sum-exp of infinities."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import statistics

COLUMNS = [False, True]


def middle(x: np.ndarray[Any, Any], columns: bool) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(np.broadcast_to(x[None, :, None], (1, x.size, 2 if columns else 1)))


def run(kernel: Any, x: np.ndarray[Any, Any], columns: bool, *numbers: float) -> Any:
    given = middle(x, columns)
    out = np.zeros((1, given.shape[2]), x.dtype)
    kernel(given, *numbers, out)
    return out[0, 0]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 31, 1000, 4099])
def test_a_large_mean_does_not_swallow_the_variance(n: int, dtype: Any, columns: bool) -> None:
    x = (np.random.default_rng(n).normal(size=n) + (1e4 if dtype == np.float32 else 1e9)).astype(dtype)
    given = middle(x, columns)
    center, squares = np.zeros((2, 1, given.shape[2]), dtype)
    statistics.moments(given, center, squares)
    wide = x.astype(np.longdouble)
    exact = np.sum((wide - wide.mean()) ** 2)
    np.testing.assert_allclose(squares[0, 0], float(exact), rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_squares_of_float32_neither_overflow_nor_vanish(size: float, columns: bool) -> None:
    x = np.full(100, size, np.float32)
    np.testing.assert_allclose(run(statistics.norm_2, x, columns, 2.0), 10 * size, rtol=1e-6)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("n", [1, 16, 35, 130])
def test_log_sum_exp_of_infinities(n: int, columns: bool) -> None:
    low = np.full(n, -np.inf)
    assert run(statistics.log_sum_exp, low, columns) == -np.inf
    one = low.copy()
    one[n // 2] = 3.0
    assert run(statistics.log_sum_exp, one, columns) == 3.0
    one[n - 1] = np.inf
    assert run(statistics.log_sum_exp, one, columns) == np.inf
    one[0] = np.nan
    assert np.isnan(run(statistics.log_sum_exp, one, columns))
    assert run(statistics.log_sum_exp, np.full(n, 1000.0), columns) == pytest.approx(1000 + np.log(n))


@pytest.mark.parametrize("kernel", [statistics.norm_2, statistics.norm_1, statistics.norm_inf, statistics.norm_minus_inf])
def test_a_nan_makes_a_norm_nan(kernel: Any) -> None:
    for n in (1, 17, 100):
        for at in {0, n // 2, n - 1}:
            x = np.ones(n, np.float32)
            x[at] = np.nan
            assert np.isnan(run(kernel, x, False, 2.0)) and np.isnan(run(kernel, x, True, 2.0))
