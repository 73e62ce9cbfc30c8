"""Every reduction over the middle of (outer, n, inner): the same bits whole, in parts of rows and in parts of columns."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, cumulative, extrema, reduce, statistics

SHAPES = [(1, 1, 1), (1, 67, 1), (3, 257, 1), (5, 7, 3), (1, 33, 67), (37, 5, 17), (2, 1, 19), (1, 9, 200), (4, 0, 3), (0, 3, 2)]
FLOATS: dict[str, tuple[Any, Any]] = {  # kernel, and the dtype of what it gives if that is not its input's
    "sum": (reduce.sum_middle, None), "mean": (reduce.mean_middle, None), "prod": (statistics.product.floats, None),
    "largest": (extrema.largest.floats, None), "smallest": (extrema.smallest.floats, None), "log_sum_exp": (statistics.log_sum_exp, None),
    "place_of_largest": (extrema.place_of_largest.floats, np.int64), "place_of_smallest": (extrema.place_of_smallest.floats, np.int64),
}
WHOLE: dict[str, tuple[Any, Any, Any]] = {  # and what NumPy calls it
    "sum": (statistics.whole_sum, np.int64, np.sum), "prod": (statistics.product.integers, np.int64, np.prod),
    "any": (statistics.any_true, np.uint8, np.any), "all": (statistics.all_true, np.uint8, np.all),
    "largest": (extrema.largest.integers, None, np.max), "smallest": (extrema.smallest.integers, None, np.min),
    "place_of_largest": (extrema.place_of_largest.integers, np.int64, np.argmax),
    "place_of_smallest": (extrema.place_of_smallest.integers, np.int64, np.argmin),
}
NORMS = {2: statistics.norm_2, 1: statistics.norm_1, 0: statistics.norm_0, math.inf: statistics.norm_inf, -math.inf: statistics.norm_minus_inf,
         3: statistics.norm_p, 0.5: statistics.norm_p, -2: statistics.norm_minus_p}


def normal(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def layouts(text: str) -> list[abi.Layout]:
    return [abi.Layout(text, "o"), abi.Layout(text.replace("[", "(").replace("]", ")"), "i")]


def in_parts(through: Any, kernel: Any, text: str, shape: tuple[int, ...], x: Any, outs: list[Any], **immediates: float) -> list[bytes]:
    """What the whole call writes, after a check that every partition writes the same."""
    dims = dict(zip("oni", shape, strict=True))
    found = []
    for layout in layouts(text):
        for parts in (1, 2, 3):
            written = [np.full_like(out, 7) for out in outs]
            assert through(kernel, layout, dims, x, *written, parts=parts, immediates=immediates) == 1
            found.append([w.tobytes() for w in written])
    assert all(f == found[0] for f in found)
    for out, data in zip(outs, found[0], strict=True):
        out[...] = np.frombuffer(data, out.dtype).reshape(out.shape)
    return found[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLOATS)
def test_parts_have_the_bits_of_the_whole(name: str, shape: tuple[int, int, int], dtype: Any, through: Any) -> None:
    kernel, gives = FLOATS[name]
    if shape[1] == 0 and "est" in name:
        return  # nothing has no extreme
    out = np.zeros((shape[0], shape[2]), gives or dtype)
    in_parts(through, kernel, "x[o,n,i] out[o,i]", shape, normal(shape, dtype), [out])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", NORMS)
def test_norms_are_numpys_whole_and_in_parts(p: float, shape: tuple[int, int, int], dtype: Any, through: Any) -> None:
    if shape[1] == 0 and p < 0:
        return  # nothing has no such norm
    x, out = normal(shape, dtype), np.zeros((shape[0], shape[2]), dtype)
    in_parts(through, NORMS[p], "x[o,n,i] p:f out[o,i]", shape, x, [out], p=p)
    if shape[1]:
        exact = np.linalg.norm(x.astype(np.float64), ord=p, axis=1)
        np.testing.assert_allclose(out, exact, rtol=3e-7 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_numpys_whole_and_in_parts(shape: tuple[int, int, int], dtype: Any, through: Any) -> None:
    x = normal(shape, dtype)
    center, squares = np.zeros((2, shape[0], shape[2]), dtype)
    in_parts(through, statistics.moments, "x[o,n,i] mean[o,i] squares[o,i]", shape, x, [center, squares])
    if shape[1]:
        wide = x.astype(np.float64)
        np.testing.assert_allclose(center, wide.mean(1), rtol=1e-6 if dtype == np.float32 else 1e-12, atol=1e-7 if dtype == np.float32 else 1e-15)
        np.testing.assert_allclose(squares, wide.var(1) * shape[1], rtol=2e-7 if dtype == np.float32 else 1e-13, atol=1e-25)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_reduced_exactly(name: str, shape: tuple[int, int, int], dtype: Any, through: Any) -> None:
    kernel, gives, numpys = WHOLE[name]
    if shape[1] == 0 and "est" in name:
        return  # nothing has no extreme
    x = np.random.default_rng(0).integers(0 if np.dtype(dtype).kind == "u" else -3, 4, shape).astype(dtype)
    out = np.zeros((shape[0], shape[2]), gives or dtype)
    in_parts(through, kernel, "x[o,n,i] out[o,i]", shape, x, [out])
    if x.size or shape[0]:
        assert np.array_equal(out, numpys(x if gives is None else x.astype(np.int64), axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums_have_the_bits_of_numpys(shape: tuple[int, int, int], dtype: Any, reverse: int, through: Any) -> None:
    floating = np.dtype(dtype).kind == "f"
    x = (normal(shape, np.float64) * 100).astype(dtype)
    out = np.zeros(shape, dtype if floating else np.int64)
    kernel = cumulative.running_sum if floating else cumulative.running_count
    in_parts(through, kernel, "x[o,n,i] reverse:i out[o,n,i]", shape, x, [out], reverse=reverse)
    expected = np.cumsum(x[:, ::-1], 1, dtype=out.dtype)[:, ::-1] if reverse else np.cumsum(x, 1, dtype=out.dtype)
    assert out.tobytes() == expected.tobytes()
