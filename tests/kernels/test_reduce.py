"""Sums, means, repetition and transposition against NumPy, whole and in parts."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, reduce

DTYPES = (np.float32, np.float64)
SHAPES = [(1, 1, 1), (1, 67, 1), (3, 4097, 1), (1, 9000, 1), (5, 7, 3), (1, 33, 67), (37, 5, 17), (2, 1, 19)]
ROWS, COLUMNS = abi.Layout("x[o,n,i] out[o,i]", "o"), abi.Layout("x(o,n,i) out(o,i)", "i")
REPEAT, TURN = abi.Layout("x[o,i] out[o,n,i]", "o"), abi.Layout("x[m,n] out[n,m]")


def normal(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def dims(shape: tuple[int, ...]) -> dict[str, int]:
    return dict(zip("oni", shape, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_sum_and_mean_are_numpys_and_the_same_in_parts(shape: tuple[int, int, int], dtype: Any, through: Any) -> None:
    x = normal(shape, dtype)
    o, n, i = shape
    for kernel, divisor in ((reduce.sum_middle, 1), (reduce.mean_middle, n)):
        whole = np.full((o, i), np.nan, dtype)
        kernel(x, whole)
        exact = x.astype(np.float64).sum(1) / divisor
        assert np.all(np.abs(whole - exact) <= np.finfo(dtype).eps * (2 + n / 16 if i == 1 else n) * np.abs(x).sum(1) / divisor)
        for layout in (ROWS, COLUMNS):
            for parts in (1, 2, 3):
                out = np.full((o, i), np.nan, dtype)
                assert through(kernel, layout, dims(shape), x, out, parts=parts) == 1
                assert out.tobytes() == whole.tobytes(), (layout, parts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_of_whole_numbers_is_exact(dtype: Any) -> None:
    x, out = np.ones((1, 100_003, 1), dtype), np.zeros((1, 1), dtype)
    reduce.sum_middle(x, out)
    assert out[0, 0] == 100_003


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 4095, 4096, 4097, 70_001])
def test_a_total_is_close_to_the_exact_sum(n: int, dtype: Any) -> None:
    x = normal((n,), dtype)
    assert abs(reduce.total(x) - math.fsum(x)) <= 300 * np.finfo(dtype).eps * np.abs(x.astype(np.float64)).sum() / 16


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_repeat_is_numpys(shape: tuple[int, int, int], dtype: Any, parts: int, through: Any) -> None:
    o, _, i = shape
    x, out = normal((o, i), dtype), np.full(shape, np.nan, dtype)
    assert through(reduce.repeat, REPEAT, dims(shape), x, out, parts=parts) == 1
    assert np.array_equal(out, np.broadcast_to(x[:, None], shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 67), (33, 65), (31, 32)])
def test_transpose_is_numpys(m: int, n: int, dtype: Any, through: Any) -> None:
    x, out = normal((m, n), dtype), np.full((n, m), np.nan, dtype)
    assert through(reduce.transpose, TURN, {"m": m, "n": n}, x, out) == 1
    assert np.array_equal(out, x.T)
