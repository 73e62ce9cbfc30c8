"""Random kernels through the uniform entry: the bits are the same in any number of parts."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, random

KEY = np.array([11, 22])
MADE = abi.Layout("key[2] whole[m] out[n]", "n")
LIKE = abi.Layout("p[n] key[2] whole[m] out[n]", "n")
DROPPED = abi.Layout("x[n] key[2] whole[m] threshold:i scale:f out[n]", "n")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 1001])
def test_parts_have_the_bits_of_the_whole(n: int, dtype: Any, through: Any) -> None:
    x = np.random.default_rng(0).uniform(0, 1, n).astype(dtype)
    how = {"threshold": 2 ** 51, "scale": 4 / 3}
    found = []
    for parts in (1, 2, 3, 7):
        outs = [np.full(n, np.nan, dtype) for _ in range(4)]
        dims = {"n": n, "m": n}
        assert through(random.uniform, MADE, dims, KEY, outs[0], outs[0], parts=parts) == 1
        assert through(random.normal, MADE, dims, KEY, outs[1], outs[1], parts=parts) == 1
        assert through(random.bernoulli, LIKE, dims, x, KEY, outs[2], outs[2], parts=parts) == 1
        assert through(random.dropout, DROPPED, dims, x, KEY, outs[3], outs[3], parts=parts, immediates=how) == 1
        found.append([out.tobytes() for out in outs])
    assert found == [found[0]] * 4


def test_the_state_moves_by_what_is_asked() -> None:
    state, key = np.array([5, 7]), np.zeros(2, np.int64)
    random.draw_key(state, 3, key)
    random.advance(state, 4)
    assert key.tolist() == [5, 10] and state.tolist() == [5, 11]


def test_one_number_at_a_time_is_the_stream_of_the_key() -> None:
    stream = np.empty(67)
    random.uniform(KEY, stream, stream)
    assert [random.random_at(KEY, i) for i in range(67)] == stream.tolist()
    assert [(random.random_bits(KEY, i) >> 11 & 2 ** 53 - 1) * 2.0 ** -53 for i in range(67)] == stream.tolist()
