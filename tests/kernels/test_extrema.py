"""Where NaNs, infinities and equal values stand: along rows and columns of every length around a vector's."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import extrema

LENGTHS = (1, 2, 7, 16, 17, 33, 64, 65, 130)


def reduced(kernel: Any, x: np.ndarray[Any, Any], columns: bool) -> tuple[Any, int]:
    """Value and place of one line, put where only `columns` says."""
    shape = (1, x.size, 3) if columns else (1, x.size, 1)
    middle = np.ascontiguousarray(np.broadcast_to(x[None, :, None], shape))
    value, place = np.zeros((1, shape[2]), x.dtype), np.full((1, shape[2]), -1)
    kernel[0].floats(middle, value)
    kernel[1].floats(middle, place)
    assert len({v.tobytes() for v in value[0]}) == 1 and len(set(place[0])) == 1
    return value[0, 0], int(place[0, 0])


LARGEST, SMALLEST = (extrema.largest, extrema.place_of_largest), (extrema.smallest, extrema.place_of_smallest)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 5.0, -5.0])
def test_a_special_value_is_found_wherever_it_is(special: float, n: int, dtype: Any, columns: bool) -> None:
    for at in {0, n // 2, n - 1, max(n - 2, 0)}:
        x = np.random.default_rng(n).uniform(-1, 1, n).astype(dtype)
        x[at] = special
        for kernel, value, place in ((LARGEST, np.max, np.argmax), (SMALLEST, np.min, np.argmin)):
            found = reduced(kernel, x, columns)
            np.testing.assert_equal(found, (value(x), place(x)))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_of_equal_values_and_of_nans_the_first_counts(n: int, columns: bool) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        x = rng.integers(0, 3, n).astype(np.float32)
        for kernel, place in ((LARGEST, np.argmax), (SMALLEST, np.argmin)):
            assert reduced(kernel, x, columns)[1] == place(x)
        x[rng.integers(0, n, 2)] = np.nan
        for kernel, place in ((LARGEST, np.argmax), (SMALLEST, np.argmin)):
            assert reduced(kernel, x, columns)[1] == place(x)


@pytest.mark.parametrize("fill", [np.inf, -np.inf, 0.0])
@pytest.mark.parametrize("n", LENGTHS)
def test_lines_of_one_value(n: int, fill: float) -> None:
    for kernel in (LARGEST, SMALLEST):
        for columns in (False, True):
            assert reduced(kernel, np.full(n, fill), columns) == (fill, 0)
