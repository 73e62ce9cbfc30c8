"""Rows by index against NumPy, whole and in parts; a place that does not exist is refused before anything is written."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, indexing

TAKE = abi.Layout("x[o,n,i] index[m] out(o,m,i)", "m", status=True)
PLACE = abi.Layout("x(o,m,i) index[m] skip:i out(o,n,i)", "i", status=True)
PUT = abi.Layout("x(o,n,i) index[m] value(o,m,i) out(o,n,i)", "i", status=True)
CLEAR = abi.Layout("x(o,n,i) index[m] out(o,n,i)", "i", status=True)


@pytest.mark.parametrize("places", [np.int32, np.int64])
@pytest.mark.parametrize(("o", "n", "i", "m"), [(1, 5, 40, 60), (3, 4, 1, 7), (2, 3, 17, 0), (1, 1, 70, 33)])
def test_rows_are_numpys_in_any_number_of_parts(o: int, n: int, i: int, m: int, places: Any, through: Any, rng: np.random.Generator) -> None:
    x, index, value = rng.normal(size=(o, n, i)), rng.integers(-n, n, m).astype(places), rng.normal(size=(o, m, i)).astype(np.float64)
    dims = {"o": o, "n": n, "i": i, "m": m}
    placed, put, cleared = np.zeros_like(x), x.copy(), x.copy()
    for at, row in enumerate(index):
        placed[:, row] += value[:, at]
    for at, row in enumerate(index):
        put[:, row] = value[:, at]
    cleared[:, index] = 0
    for parts in (1, 2, 3):
        out, rows = np.full((o, n, i), np.nan), np.full((o, m, i), np.nan)
        assert through(indexing.take_rows, TAKE, dims, x, index, rows, parts=parts) == 1 and np.array_equal(rows, x[:, index])
        assert through(indexing.place_rows, PLACE, dims, value, index, out, parts=parts, immediates={"skip": -1}) == 1 and np.array_equal(out, placed)
        assert through(indexing.put_rows, PUT, dims, x, index, value, out, parts=parts) == 1 and np.array_equal(out, put)
        assert through(indexing.clear_rows, CLEAR, dims, x, index, out, parts=parts) == 1 and np.array_equal(out, cleared)


@pytest.mark.parametrize("bad", [3, -4])
def test_a_place_that_does_not_exist_is_refused_before_anything_is_written(bad: int, through: Any) -> None:
    x, index, value = np.ones((2, 3, 4)), np.array([0, 1, bad]), np.ones((2, 3, 4))
    dims = {"o": 2, "n": 3, "i": 4, "m": 3}
    out = np.full((2, 3, 4), 7.0)
    assert through(indexing.take_rows, TAKE, dims, x, index, out) == 0
    assert through(indexing.place_rows, PLACE, dims, value, index, out, immediates={"skip": -1}) == 0
    assert through(indexing.put_rows, PUT, dims, x, index, value, out) == 0
    assert through(indexing.clear_rows, CLEAR, dims, x, index, out) == 0
    assert np.all(out == 7.0)


def test_a_mask_moves_every_bit() -> None:
    bits = np.array([0x7FF4000000000001, 0x3FF0000000000003, 0x8000000000000000], np.uint64)
    out = np.zeros(3, np.uint64)
    indexing.masked_keep(bits, np.array([True, True, False]), 0, out)
    assert out.tolist() == [*bits[:2].tolist(), 0]
    indexing.masked_fill(bits, np.array([False, True, False]), bits[2:], out)
    assert out.tolist() == [bits[0], bits[2], bits[2]]
