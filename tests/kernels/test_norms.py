"""The global norm, clipping and the guard against NumPy; partial sums have the same bits however the call is shared."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, norms

DTYPES = (np.float32, np.float64)
SQUARES, CLIP = abi.Layout("x[n] blocks(2,b) partials[b]", "b"), abi.Layout("factor[1] x[n]", "n")


def normal(n: int, dtype: Any) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=n).astype(dtype)


def blocks_of(*sizes: int) -> np.ndarray[Any, Any]:
    """Blocks one after the other, an element left out between them."""
    starts = np.cumsum([0, *(n + 1 for n in sizes[:-1])])
    return np.ascontiguousarray(np.stack([starts, np.array(sizes)]).astype(np.int64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1,), (67,), (4096,) * 9, (4096, 4096, 4096, 4096, 17), (16, 16, 16, 15, 16, 16, 16, 16), (3,) * 40])
def test_each_block_is_summed_alone_and_with_the_same_bits(sizes: tuple[int, ...], dtype: Any, through: Any) -> None:
    blocks = blocks_of(*sizes)
    x = normal(int(blocks.sum(0)[-1]), dtype)
    partials = np.full(len(sizes), np.nan)
    norms.sum_squares(x, blocks, partials)
    np.testing.assert_allclose(partials, [np.sum(x[a:a + n].astype(np.float64) ** 2) for a, n in blocks.T], rtol=1e-14)
    for b, (start, n) in enumerate(blocks.T):
        alone = np.zeros(1)
        norms.sum_squares(x, np.array([[start], [n]]), alone)
        assert alone[0] == partials[b]
    for parts in (1, 2, 3):
        other = np.full(len(sizes), np.nan)
        assert through(norms.sum_squares, SQUARES, {"n": x.size, "b": len(sizes)}, x, blocks, other, parts=parts) == 1
        assert other.tobytes() == partials.tobytes()


def test_the_norm_is_the_root_of_the_partials_in_order() -> None:
    partials, out = np.array([1e16, 1.0, -1e16, 3.0]), np.zeros(1)
    norms.norm(partials, out)
    assert out[0] == np.sqrt(((1e16 + 1.0) - 1e16) + 3.0)


@pytest.mark.parametrize(("total", "bound"), [(0.0, 1.0), (1.0, 1.0), (10.0, 1.0), (1e300, 1e-3), (np.inf, 1.0), (np.nan, 1.0), (3.0, 0.0)])
def test_the_factor_is_pytorchs(total: float, bound: float) -> None:
    out = np.zeros(1)
    norms.clip_factor(np.array([total]), np.array([bound]), out)
    assert np.array_equal(out[0], np.minimum(1.0, bound / (total + 1e-6)), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 15, 17, 1001])
@pytest.mark.parametrize("factor", [1.0, 0.3, 0.0, np.nan])
def test_clipping_rounds_the_factor_once_and_is_the_same_in_parts(factor: float, n: int, dtype: Any, through: Any) -> None:
    for parts in (1, 2, 3):
        x = normal(n, dtype)
        expected = x * dtype(factor)
        assert through(norms.clip, CLIP, {"n": n}, np.array([factor]), x, parts=parts) == 1
        assert np.array_equal(x, expected, equal_nan=True)


def test_a_factor_of_one_leaves_even_a_signalling_pattern_as_it_was() -> None:
    x = np.array([0x7F800001] * 19, np.uint32).view(np.float32)
    norms.clip(np.array([1.0]), x)
    assert np.all(x.view(np.uint32) == 0x7F800001)


@pytest.mark.parametrize(("total", "passes"), [(0.0, 1), (1.7e308, 1), (np.inf, 0), (-np.inf, 0), (np.nan, 0)])
def test_the_guard_passes_what_is_finite(total: float, passes: int) -> None:
    assert norms.guard(np.array([total])) == passes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, np.inf])
def test_every_power_is_added_and_its_root_taken(p: float, dtype: Any) -> None:
    for n in (1, 15, 16, 17, 1001):
        x, out = normal(n, dtype), np.zeros(1)
        size = np.abs(x.astype(np.float64))
        norms.add_powers(p, x, np.array([0.25]), out)
        np.testing.assert_allclose(out[0], max(0.25, size.max()) if p == np.inf else 0.25 + np.sum(size**p), rtol=1e-13)
        norms.root(p, out.copy(), out)
        np.testing.assert_allclose(out[0], max(0.25, size.max()) if p == np.inf else (0.25 + np.sum(size**p)) ** (1 / p), rtol=1e-13)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_every_norm(bad: float, p: float) -> None:
    for at in (0, 18):
        x, out = np.ones(19), np.zeros(1)
        x[at] = bad
        norms.add_powers(p, x, np.zeros(1), out)
        assert np.array_equal(out[0], abs(bad), equal_nan=True)
    norms.add_powers(p, np.ones(3), np.array([np.nan]), out)
    assert np.isnan(out[0])
