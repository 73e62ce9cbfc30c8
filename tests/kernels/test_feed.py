"""What crosses a program's border: bytes at an address that moves with the step, and rows by index."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import feed, machine


def at(step: int) -> np.ndarray[Any, Any]:
    """The state of a program's worker 0 on a step."""
    state = machine.new_state()
    state[machine.STEP] = step
    return state


@pytest.mark.parametrize("width", [1, 7, 64, 1001])
@pytest.mark.parametrize("step", [0, 1, 4])
def test_feed_copies_the_row_of_the_step(step: int, width: int) -> None:
    rows, out, state = np.random.default_rng(0).integers(0, 256, (5, width)).astype(np.uint8), np.zeros(width, np.uint8), at(step)
    feed.feed(rows.ctypes.data, width, 0, 0, state.ctypes.data, out)
    assert np.array_equal(out, rows[step])


def test_a_stride_of_zero_feeds_the_same_bytes_at_every_step() -> None:
    row, out, state = np.arange(9, dtype=np.uint8), np.zeros(9, np.uint8), at(1000)
    feed.feed(row.ctypes.data, 0, 0, 0, state.ctypes.data, out)
    assert np.array_equal(out, row)


@pytest.mark.parametrize("step", [0, 2])
def test_emit_writes_the_row_of_the_step_and_no_other(step: int) -> None:
    rows, x, state = np.zeros((4, 7), np.uint8), np.arange(1, 8, dtype=np.uint8), at(step)
    feed.emit(rows.ctypes.data, 7, state.ctypes.data, x)
    assert np.array_equal(rows[step], x) and rows.sum() == x.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("step", [0, 2])
def test_with_a_table_of_indices_it_is_numpys_fancy_indexing(step: int, dtype: Any) -> None:
    rng, state = np.random.default_rng(0), at(step)
    data, indices = rng.normal(size=(11, 5)).astype(dtype), rng.integers(0, 11, (3, 7))
    out = np.zeros((7, 5), dtype)
    feed.feed(data.ctypes.data, 0, indices.ctypes.data, 7, state.ctypes.data, out.reshape(-1).view(np.uint8))
    assert np.array_equal(out, data[indices[step]])


def test_a_table_without_rows_feeds_nothing() -> None:
    data, indices, out, state = np.zeros(5, np.uint8), np.zeros((3, 1), np.int64), np.zeros(0, np.uint8), at(1)
    feed.feed(data.ctypes.data, 0, indices.ctypes.data, 0, state.ctypes.data, out)
    assert not data.any()
