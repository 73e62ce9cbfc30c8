"""Moves between strided places against NumPy: any rank, any strides, whole and in parts, every bit of an element."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.ops.rules import c_strides, move
from minigrad_kernels import machine


def run(step: Any, arrays: list[Any], parts: int) -> None:
    """Every part of a call, the last one first."""
    words = np.array([*step.words, *[arrays[i].ctypes.data for i in step.operands]], np.int64)
    entry = step.entry.load()
    for part in reversed(range(parts)):
        program = np.array([entry.index, machine.PARALLEL, machine.HEADER_WORDS + words.size, *words])
        state = machine.new_state()
        assert machine.calls().run(program.ctypes.data, program.size, 0, 1, part, parts, state.ctypes.data, machine.table_address()) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "order"), [((7, 5), (1, 0)), ((40, 67), (1, 0)), ((3, 40, 5), (2, 1, 0)), ((33, 4, 34), (1, 2, 0)),
                         ((2,) * 9, (8, 3, 5, 0, 2, 7, 1, 4, 6)),
                                              ((100,), (0,)), ((0, 3), (1, 0)), ((), ())])
def test_any_order_of_axes_whole_and_in_parts(shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> None:
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    expected = x.transpose(order).copy()
    strides = [c_strides(shape)[a] for a in order]
    for parts in (1, 2, 3):
        out = np.full(expected.shape, 77, dtype)
        run(move(out.dtype, (0, 1), out.shape, (0, strides), (0, c_strides(out.shape))), [x, out], parts)
        assert np.array_equal(out, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slices_are_taken_and_put_back(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
    key = tuple(slice(None, None, data.draw(st.sampled_from([1, 2, 3, -1, -2]))) for _ in shape)
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    part = x[key]
    start, strides = int(part.reshape(-1)[0]), [s // 8 for s in part.strides]
    parts = data.draw(st.integers(1, 3))
    out, back = np.zeros(part.shape, int), np.zeros(shape, int)
    run(move(out.dtype, (0, 1), out.shape, (start, strides), (0, c_strides(out.shape))), [x, out], parts)
    run(move(out.dtype, (0, 1), out.shape, (0, c_strides(out.shape)), (start, strides)), [out, back], parts)
    expected = np.zeros(shape, int)
    expected[key] = part
    assert np.array_equal(out, part) and np.array_equal(back, expected)


def test_the_payload_of_a_nan_arrives() -> None:
    bits = np.array([0x7FF4000000000001, 0xFFF8000000000123], np.uint64)
    x, out = bits.view(np.float64), np.zeros(2)
    run(move(x.dtype, (0, 1), (2,), (1, (-1,)), (0, (1,))), [x, out], 1)
    assert np.array_equal(out.view(np.uint64), bits[::-1])


