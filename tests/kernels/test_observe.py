"""Groups of statistics against their definition in NumPy; the norm's bits are those of `norms.sum_squares`, the row's those of the step."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad.ops.observe import group_of
from minigrad_kernels import abi, norms, observe

DTYPES = (np.float32, np.float64)
GRADIENTS = abi.Layout("clock[4] x[n] blocks(3,b) partials[b] stats[m]", "b")
SIGNAL = abi.Layout("low:f high:f clock[4] x[rows,n] stats[8]")
SIZES = [(1,), (67,), (4096, 4096, 17), (16, 15, 16, 16, 16), (3,) * 9]


def clock(due: int = 1) -> np.ndarray[Any, Any]:
    return np.array([due, 0, 1, 0])


def spoiled(x: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """With zeros everywhere, and something not finite, or nothing more."""
    x.reshape(-1)[::3] = 0.0
    if what != "finite":
        x.reshape(-1)[x.size // 2] = float(what)
    return x


def table(sizes: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Blocks with a gap between them; the groups stand the other way round."""
    starts = np.cumsum([0, *(n + 1 for n in sizes[:-1])])
    return np.array([starts, sizes, 8 * np.arange(len(sizes))[::-1]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("what", ["finite", "nan", "inf"])
def test_gradients_have_their_groups_and_the_bits_of_the_norm(what: str, sizes: tuple[int, ...], dtype: Any, through: Any) -> None:
    blocks = table(sizes)
    x = spoiled(np.random.default_rng(0).normal(size=blocks[:2].sum(0)[-1]).astype(dtype), what)
    expected = np.full(len(sizes), np.nan)
    dims = {"n": x.size, "b": len(sizes), "m": 8 * len(sizes)}
    assert through(norms.sum_squares, abi.Layout("x[n] blocks(2,b) partials[b]", "b"), dims, x, blocks[:2].copy(), expected) == 1
    for due, parts in ((1, 1), (1, 2), (0, 1)):
        partials, stats = np.full(len(sizes), np.nan), np.full(8 * len(sizes), -1.0)
        assert through(observe.gradients, GRADIENTS, dims, clock(due), x, blocks, partials, stats, parts=parts) == 1
        assert partials.tobytes() == expected.tobytes()
        for start, n, at in blocks.T:
            wanted = [*group_of(x[start:start + n])[:5], *[np.nan] * 3] if due else np.full(8, -1.0)
            np.testing.assert_allclose(stats[at:at + 8], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 16), (5, 17), (100, 67), (7, 0)])
@pytest.mark.parametrize("what", ["finite", "nan", "-inf"])
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (-0.5, 1.0), (0.0, np.inf)])
def test_a_signal_has_its_group(low: float, high: float, what: str, shape: tuple[int, int], dtype: Any, through: Any) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    if x.size:
        x[:, ::2] = 0.0  # dead units, and a live one that is 0 somewhere
        spoiled(x, what)
    stats = np.full(8, -1.0)
    assert through(observe.signal, SIGNAL, {"rows": shape[0], "n": shape[1]}, clock(), x, stats, immediates={"low": low, "high": high}) == 1
    np.testing.assert_allclose(stats, group_of(x, dtype(low), dtype(high)), rtol=1e-12, atol=1e-12)


def test_a_unit_of_nothing_but_nans_is_not_dead(through: Any) -> None:
    x, stats = np.array([[np.nan, 0.0, 1.0]] * 2, np.float32), np.zeros(8)
    assert through(observe.signal, SIGNAL, {"rows": 2, "n": 3}, clock(), x, stats, immediates={"low": -np.inf, "high": np.inf}) == 1
    assert stats[6] == pytest.approx(1 / 3)


def test_tiny_values_do_not_vanish_in_the_sums(through: Any) -> None:
    x, stats = np.full((2, 3), 1e-30, np.float32), np.zeros(8)
    assert through(observe.signal, SIGNAL, {"rows": 2, "n": 3}, clock(), x, stats, immediates={"low": -np.inf, "high": np.inf}) == 1
    assert np.sqrt(stats[1] / 6) == pytest.approx(1e-30, rel=1e-6)


def test_blocks_of_one_parameter_are_gathered_in_one_group() -> None:
    x = np.random.default_rng(0).normal(size=100)
    stats = np.concatenate([group_of(part) for part in (x[:40], x[40:90], x[90:])])
    now = np.full(24, -1.0)
    observe.gather(0, 5, clock(), stats, np.array([[0, 16], [16, 24], [8, 0]]), now)
    rest = [-1.0] * 3
    np.testing.assert_allclose(now, [*group_of(x[90:])[:5], *rest, *group_of(x[:90])[:5], *rest, *[-1.0] * 8], rtol=1e-12)
    observe.gather(7, 8, clock(0), stats, np.array([[0], [24], [0]]), now)
    assert now[7] == -1.0
    observe.gather(7, 8, clock(), stats, np.array([[0], [24], [0]]), now)
    assert now[7] == 100.0


def test_every_third_step_leaves_a_row() -> None:
    rows, now = np.zeros((3, 16)), np.zeros(16)
    ticks = np.array([1, 0, 3, rows.ctypes.data])
    for step in range(7):
        now[1:] = step
        observe.record(now, ticks)
        assert np.isnan(now).all() == (step % 3 == 0)
    assert rows.tolist() == [[step] * 16 for step in (0, 3, 6)] and ticks.tolist() == [0, 7, 3, rows.ctypes.data + rows.nbytes]


@pytest.mark.parametrize("n", [1, 15, 16, 67])
def test_weights_without_a_known_change_say_so(n: int) -> None:
    x, stats = np.random.default_rng(0).normal(size=n), np.zeros(8)
    observe.weights(clock(), x, np.array([[0], [n], [0]]), stats)
    np.testing.assert_allclose(stats, [*[0] * 5, x.sum(), x @ x, np.nan], rtol=1e-12, atol=1e-12)
