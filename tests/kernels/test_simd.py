"""Loads, stores and operators of SIMD vectors: what they touch, and the same bits in a vector, in one lane and in a scalar."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

from minigrad_kernels import loops, simd
from minigrad_kernels._host import VECTOR_BYTES
from minigrad_kernels._jit import jit

DTYPES = (np.float32, np.float64)
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 1e30, np.inf, -np.inf, np.nan)


def pairs(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of edge cases, and random numbers behind them."""
    edges = np.array(EDGES, dtype)
    noise = np.random.default_rng(0).normal(size=(2, 200)).astype(dtype)
    return np.concatenate([np.repeat(edges, edges.size), noise[0]]), np.concatenate([np.tile(edges, edges.size), noise[1]])


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal with zeros told apart by sign and any NaN equal to any other."""
    return bool(np.array_equal(x, y, equal_nan=True) and np.array_equal(np.signbit(x)[~np.isnan(x)], np.signbit(y)[~np.isnan(y)]))


def run(f: Callable[..., Any], *inputs: np.ndarray, vector: bool = True) -> np.ndarray:
    out = np.empty_like(inputs[0])
    make: Any = (loops.map1, loops.zip2, loops.zip3)[len(inputs) - 1]
    with np.errstate(all="ignore"):
        make(f, "test_kernel", vector=vector)(*inputs, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda x, y: x + y, np.add),
        (lambda x, y: x - y, np.subtract),
        (lambda x, y: x * y, np.multiply),
        (lambda x, y: x / y, np.divide),
        (simd.copysign, np.copysign),
        (lambda x, y: simd.select((x < y) & ~(x == y), 1.0, 0.0), np.less),
        (lambda x, y: simd.select((x <= y) | (x != y), 1.0, 0.0), lambda x, y: (x <= y) | (x != y)),
        (lambda x, y: simd.select((x > y) ^ (x >= y), x, y), lambda x, y: np.where(x == y, x, y)),
        (lambda x, y: simd.sqrt(simd.abs_(x)) - y, lambda x, y: np.sqrt(np.abs(x)) - y),
        (lambda x, y: simd.round_even(x) * y, lambda x, y: np.rint(x) * y),
        (lambda x, y: simd.floor(x) - simd.ceil(y), lambda x, y: np.floor(x) - np.ceil(y)),
        (lambda x, y: simd.trunc(-x) * +y, lambda x, y: np.trunc(-x) * y),
        (lambda x, y: x**3 + y**0, lambda x, y: x * (x * x) + 1),
        (lambda x, y: (x > y) + x, lambda x, y: (x > y).astype(x.dtype) + x),
    ],
)
def test_operators_have_numpys_bits(ours: Any, numpys: Any, dtype: Any, vector: bool) -> None:
    x, y = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(numpys(x, y)).astype(dtype)
    assert same_bits(run(ours, x, y, vector=vector), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximum_and_minimum_hand_on_a_nan(dtype: Any) -> None:
    x, y = pairs(dtype)
    assert np.array_equal(run(simd.maximum, x, y), np.maximum(x, y), equal_nan=True)
    assert np.array_equal(run(simd.minimum, x, y), np.minimum(x, y), equal_nan=True)


def test_fma_rounds_once() -> None:
    x = np.full(20, 1 + 2.0**-12, np.float32)
    assert np.all(run(lambda x, y, z: simd.fma(x, y, z), x, x, -x * x) == np.float32(2.0**-24))
    assert np.all(run(lambda x, y, z: x * y + z, x, x, -x * x) == 0)


@pytest.mark.parametrize("vector", [True, False])
def test_a_constant_never_widens_float32(vector: bool) -> None:
    x = np.linspace(-2, 2, 37, dtype=np.float32)
    got = run(lambda x: (x * 0.1 + 1) / 3.0 - 0.7, x, vector=vector)
    assert np.array_equal(got, (x * np.float32(0.1) + np.float32(1)) / np.float32(3) - np.float32(0.7))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_go_to_integers_and_back(dtype: Any) -> None:
    x, _ = pairs(dtype)
    digits = 23 if dtype is np.float32 else 52
    assert same_bits(run(lambda x: simd.from_bits(simd.to_bits(x)), x), x)
    integers: Any = np.int32 if dtype is np.float32 else np.int64
    assert np.array_equal(run(lambda x: simd.to_float(simd.to_bits(x) >> digits), x), (x.view(integers) >> digits).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tail_reads_and_writes_its_lanes_only(dtype: Any) -> None:
    @jit
    def move(x, count, out):
        simd.store_tail(out, 3, count, simd.load_tail(x, 1, count, 7.0) + 1.0)

    full = VECTOR_BYTES // np.dtype(dtype).itemsize
    for count in range(full + 1):
        x, out = np.arange(full + 4, dtype=dtype), np.full(full + 8, -1, dtype)
        move(x, count, out)
        assert np.array_equal(out[3 : 3 + count], x[1 : 1 + count] + 1)
        assert np.all(out[:3] == -1)
        assert np.all(out[3 + count :] == -1)


def test_the_lanes_behind_a_tail_hold_the_fill() -> None:
    @jit
    def widen(x, count, out):
        simd.store(out, 0, simd.load_tail(x, 0, count, 7.0))

    x, out = np.arange(16, dtype=np.float64), np.empty(VECTOR_BYTES // 8)
    widen(x, 1, out)
    assert out[0] == 0
    assert np.all(out[1:] == 7)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros(8)[::2]])
def test_only_plain_rows_are_loaded(array: np.ndarray) -> None:
    @jit
    def read(x, out):
        simd.store(out, 0, simd.load(x, 0))

    with pytest.raises(TypingError, match="1-D C-contiguous"):
        read(array, np.zeros(16))


def test_dtypes_do_not_mix() -> None:
    with pytest.raises(TypingError):
        loops.zip2(operator.add, "mixed")(np.zeros(4), np.zeros(4, np.float32), np.zeros(4))
    with pytest.raises(TypingError, match="fma takes vectors of one type"):
        loops.zip2(lambda x, y: simd.fma(x, y, 1.0), "mixed_fma")(np.zeros(4), np.zeros(4, np.float32), np.zeros(4))
