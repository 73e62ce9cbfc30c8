"""Comparisons, logic and choice against NumPy, for every dtype, and with operands of one element."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import compare
from minigrad_kernels.loops import Zip

FLOATS = np.array([0.0, -0.0, 1.0, -1.0, 1e-40, np.inf, -np.inf, np.nan, 3.5, -3.5])


def operands(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    values = FLOATS.astype(dtype) if np.dtype(dtype).kind == "f" else np.array([0, 1, -1, 7, -7, 2**31 - 1]).astype(dtype)
    return np.repeat(values, values.size), np.tile(values, values.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize(("kernels", "numpys"), [
    (compare.eq, np.equal), (compare.ne, np.not_equal), (compare.lt, np.less), (compare.le, np.less_equal), (compare.gt, np.greater),
    (compare.ge, np.greater_equal), (compare.logical_and, np.logical_and), (compare.logical_or, np.logical_or),
    (compare.logical_xor, np.logical_xor),
])
def test_comparisons_and_logic_are_numpys(kernels: Zip, numpys: Any, dtype: Any) -> None:
    x, y = operands(dtype)
    out = np.empty(x.size, np.bool_)
    kernels.both(x, y, out)
    assert np.array_equal(out, numpys(x, y))
    for one in x[::7]:
        kernels.left(np.array([one]), y, out)
        assert np.array_equal(out, numpys(one, y))
        kernels.right(y, np.array([one]), out)
        assert np.array_equal(out, numpys(y, one))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_])
@pytest.mark.parametrize(("kernels", "numpys"), [(compare.bitwise_and, np.bitwise_and), (compare.bitwise_or, np.bitwise_or),
                                                (compare.bitwise_xor, np.bitwise_xor)])
def test_bits_are_numpys(kernels: Zip, numpys: Any, dtype: Any) -> None:
    x, y = operands(dtype)
    out = np.empty_like(x)
    kernels.both(x, y, out)
    assert np.array_equal(out, numpys(x, y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_truth_and_its_contrary(dtype: Any) -> None:
    x, _ = operands(dtype)
    out = np.empty(x.size, np.bool_)
    compare.truth(x, out)
    assert np.array_equal(out, x.astype(np.bool_))
    compare.logical_not(x, out)
    assert np.array_equal(out, np.logical_not(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "numpys"), [(compare.isnan, np.isnan), (compare.isinf, np.isinf), (compare.isfinite, np.isfinite)])
def test_what_is_not_finite_is_found(kernel: Any, numpys: Any, dtype: Any) -> None:
    out = np.empty(FLOATS.size, np.bool_)
    kernel(FLOATS.astype(dtype), out)
    assert np.array_equal(out, numpys(FLOATS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_where_is_numpys_in_every_form(dtype: Any) -> None:
    x, y = operands(dtype)
    condition = np.random.default_rng(0).random(x.size) < 0.5
    out = np.empty_like(x)
    for pattern in ("vvv", "v1v", "vv1", "v11", "1vv", "1v1", "11v"):
        given = [a[:1] if letter == "1" else a for letter, a in zip(pattern, (condition, x, y), strict=True)]
        compare.where.form(pattern)(*given, out)
        assert np.array_equal(out, np.where(*given), equal_nan=np.dtype(dtype).kind == "f")
