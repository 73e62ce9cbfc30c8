"""Loops over arrays: every length, every offset, in place, and broadcasting, with the bits of one element alone."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import loops, scalar, simd

DTYPES = (np.float32, np.float64)
UNARY = loops.map1(lambda x: scalar.tanh(x) * 0.5, "unary")
UNARY_BY_LANE = loops.map1(lambda x: scalar.tanh(x) * 0.5, "unary_by_lane", vector=False)
BINARY = loops.zip2_all(lambda x, y: simd.fma(x, y, x) / y, "binary")
TERNARY = loops.zip3(lambda x, y, z: x * y - z, "ternary")
SCALED = loops.map1_scalar(lambda x, c: x * c + 0.1, "scaled")


def normal(count: int, dtype: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count).astype(dtype)


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32 if x.dtype == np.float32 else np.uint64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", range(68))
def test_every_length_and_offset_has_the_bits_of_single_elements(length: int, dtype: Any) -> None:
    for offset in (0, 1, 3):
        x = normal(80, dtype)[offset : offset + length]
        guarded = np.full(length + 2, 9, dtype)
        UNARY(x, guarded[1:-1])
        alone = np.empty_like(x)
        UNARY_BY_LANE(x, alone)
        assert np.array_equal(bits(guarded[1:-1]), bits(alone))
        assert guarded[0] == guarded[-1] == 9


@pytest.mark.parametrize("dtype", DTYPES)
def test_cutting_changes_nothing(dtype: Any) -> None:
    x, y, whole, cut = normal(1000, dtype), normal(1000, dtype, 1), np.empty(1000, dtype), np.empty(1000, dtype)
    BINARY.both(x, y, whole)
    edges = [0, 1, 2, 19, 50, 51, 68, 333, 334, 997, 1000]
    for start, end in pairwise(edges):
        BINARY.both(x[start:end], y[start:end], cut[start:end])
    assert np.array_equal(bits(whole), bits(cut))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 67])
def test_broadcasting_equals_a_full_operand(length: int, dtype: Any) -> None:
    x, one, out, expected = normal(length, dtype), normal(1, dtype, 1), np.empty(length, dtype), np.empty(length, dtype)
    full = np.full(length, one[0])
    BINARY.left(one, x, out)
    BINARY.both(full, x, expected)
    assert np.array_equal(bits(out), bits(expected))
    BINARY.right(x, one, out)
    BINARY.both(x, full, expected)
    assert np.array_equal(bits(out), bits(expected))


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_may_be_an_input(dtype: Any) -> None:
    x, y, z = (normal(67, dtype, seed) for seed in range(3))
    expected = x * y - z
    for target in range(3):
        operands = [x.copy(), y.copy(), z.copy()]
        TERNARY(*operands, operands[target])
        assert np.array_equal(operands[target], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_takes_the_arrays_dtype(dtype: Any) -> None:
    x, out = normal(67, dtype), np.empty(67, dtype)
    SCALED(x, 0.3, out)
    assert np.array_equal(out, x * dtype(0.3) + dtype(0.1))


@pytest.mark.parametrize("make", [loops.map1, loops.zip2, loops.zip3])
def test_a_branch_runs_lane_by_lane(make: Any) -> None:
    def leaky(x, *rest):
        return x if x > 0 else 0.01 * x

    f = {loops.map1: lambda x: leaky(x), loops.zip2: lambda x, y: leaky(x) + y, loops.zip3: lambda x, y, z: leaky(x) + y * z}[make]
    inputs = [normal(37, np.float32, seed) for seed in range({loops.map1: 1, loops.zip2: 2, loops.zip3: 3}[make])]
    out = np.empty(37, np.float32)
    make(scalar.generic(f), "leaky", vector=False)(*inputs, out)
    x = inputs[0]
    expected = np.where(x > 0, x, np.float32(0.01) * x)
    if len(inputs) == 2:
        expected = expected + inputs[1]
    elif len(inputs) == 3:
        expected = expected + inputs[1] * inputs[2]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("make", [loops.loop, loops.element_loop])
@pytest.mark.parametrize("pattern", [a + b for a, b in product("v1ck", repeat=2) if "v" in a + b])
def test_every_pattern_of_operands(pattern: str, make: Any) -> None:
    kernel = make(lambda x, y: x * y - 0.5, f"pattern_{make.__name__}_{pattern}", pattern)
    for length in (0, 1, 16, 67):
        x, y = (normal(length, np.float64, seed) if letter == "v" else 0.25 - seed for seed, letter in enumerate(pattern))
        out = np.empty(length)
        kernel(*[np.array([operand]) if letter == "1" else operand for letter, operand in zip(pattern, (x, y), strict=True)], out)
        assert np.array_equal(out, x * y - 0.5)


def test_a_number_as_it_is_may_steer_the_function() -> None:
    def repeated(x, count):
        total = x
        while count > 1:
            total, count = total + x, count - 1
        return total

    x, out = normal(37, np.float32), np.empty(37, np.float32)
    loops.loop(repeated, "repeated", "vk")(x, 4.0, out)
    assert np.array_equal(out, x * 4)


def test_elements_of_several_dtypes() -> None:
    x, y, out = normal(37, np.float32), np.arange(37), np.empty(37, np.bool_)
    loops.element_loop(lambda x, y: x * y > 1, "mixed_elements", "vv")(x, y, out)
    assert np.array_equal(out, x * y > 1)


def test_forms_are_made_once() -> None:
    assert BINARY.form("1v") is BINARY.left and BINARY.both is not BINARY.right
