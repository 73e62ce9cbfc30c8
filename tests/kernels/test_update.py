"""Optimiser updates: NumPy's bits, the same in parts, and clipping in the same pass has the bits of two."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, norms, update

DTYPES = (np.float32, np.float64)
LENGTHS = (1, 15, 16, 17, 67, 1001)
HYPER = np.array([0.1, 0.9])
SGD, RMSPROP, ADAM = [0.1, 0.9, 0.1, 0.2, 0, 1, 2], [0.1, 0.9, 1e-3, 0.1, 0.8, 1, 3], [0.1, 0.9, 0.99, 1e-3, 0.1, 0, 1, 1, 4]
#: The arrays that each keeps beside the parameter, and its numbers.
UPDATES: dict[str, tuple[str, list[float]]] = {
    "sgd": ("", SGD), "sgd_momentum": ("v", SGD), "sgd_decayed": ("", SGD), "sgd_dampened": ("v", SGD),
    "rmsprop": ("s", RMSPROP), "rmsprop_momentum": ("sv", RMSPROP), "rmsprop_centered": ("sm", RMSPROP),
    "rmsprop_centered_momentum": ("smv", RMSPROP), "adagrad": ("s", [0.1, 0.1, 0.1, 1e-3, 1, 3]), "adam": ("mv", ADAM), "amsgrad": ("mvt", ADAM),
}
LAYOUTS = {name: abi.Layout(" ".join(["hyper[h]", "g[n]", *(f"{state}[n]" for state in states), "p[n]"]), "n")
           for name, (states, _) in UPDATES.items()}
LAYOUTS |= {f"clip_{name}": abi.Layout(f"factor[1] {how.text}", "n") for name, how in LAYOUTS.items()}
WATCHED = {name: abi.Layout(f"clock[4] {how.text} blocks(3,b) stats[m]", "b") for name, how in LAYOUTS.items()}


def kernel(name: str, watched: bool = False) -> Any:
    """The kernel of a rule, or after "clip_" that which clips first."""
    made = getattr(update, name.removeprefix("clip_"))
    if name.startswith("clip_"):
        return made.both if watched else made.clipped
    return made.watched if watched else made.plain


def arrays(name: str, n: int, dtype: Any) -> list[np.ndarray[Any, Any]]:
    """Gradient, states, all positive, and parameter."""
    rng, states = np.random.default_rng(0), UPDATES[name.removeprefix("clip_")][0]
    g, p = rng.normal(size=(2, n)).astype(dtype)
    return [g, *rng.uniform(0.5, 1, (len(states), n)).astype(dtype), p]


def numbers(name: str) -> np.ndarray[Any, Any]:
    return np.array(UPDATES[name.removeprefix("clip_")][1], np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_sgd_is_the_formula_with_each_operation_rounded(n: int, dtype: Any) -> None:
    lr, momentum = HYPER.astype(dtype)
    g, p = arrays("sgd", n, dtype)
    expected = p - lr * g
    update.sgd.plain(HYPER, g, p)
    assert p.tobytes() == expected.tobytes()
    g, v, p = arrays("sgd_momentum", n, dtype)
    velocity = momentum * v + g
    expected = p - lr * velocity
    update.sgd_momentum.plain(HYPER, g, v, p)
    assert (v.tobytes(), p.tobytes()) == (velocity.tobytes(), expected.tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_clipping_in_the_same_pass_has_the_bits_of_two(name: str, factor: float, n: int, dtype: Any) -> None:
    by = np.array([factor])
    apart, together = arrays(name, n, dtype), arrays(name, n, dtype)
    norms.clip(by, apart[0])
    kernel(name)(numbers(name), *apart)
    kernel(f"clip_{name}")(by, numbers(name), *together)
    assert [a.tobytes() for a in together] == [a.tobytes() for a in apart]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_an_update_in_parts_has_the_bits_of_the_whole(name: str, n: int, dtype: Any, through: Any) -> None:
    head = [np.array([0.37]), numbers(name)] if name.startswith("clip") else [numbers(name)]
    whole = arrays(name, n, dtype)
    kernel(name)(*head, *whole)
    for parts in (1, 2, 3):
        parted = arrays(name, n, dtype)
        assert through(kernel(name), LAYOUTS[name], {"n": n, "h": head[-1].size}, *head, *parted, parts=parts) == 1
        assert [a.tobytes() for a in parted] == [a.tobytes() for a in whole]


@pytest.mark.parametrize(("name", "dtype"), [*((name, np.float32) for name in (*UPDATES, "clip_sgd_momentum")), ("clip_adam", np.float64)])
@pytest.mark.parametrize("due", [0, 1])
def test_a_watched_update_has_the_bits_of_a_plain_one_and_the_groups_of_its_blocks(due: int, name: str, dtype: Any, through: Any) -> None:
    head = [np.array([0.37]), numbers(name)] if name.startswith("clip") else [numbers(name)]
    lengths = (1, 15, 16, 17, 67, 1001)
    starts = np.cumsum([0, *[-(-n // 16) * 16 for n in lengths]])
    n = int(starts[-2]) + lengths[-1]
    blocks = np.array([starts[:-1], lengths, 8 * np.arange(len(lengths))[::-1]])
    plain = arrays(name, n, dtype)
    before = plain[-1].copy()
    kernel(name)(*head, *plain)
    for parts in (1, 2):
        watched, stats = arrays(name, n, dtype), np.full(8 * len(lengths), -1.0)
        clock = np.array([due, 5, 3, 0])
        dims = {"n": n, "h": head[-1].size, "b": len(lengths), "m": stats.size}
        assert through(kernel(name, watched=True), WATCHED[name], dims, clock, *head, *watched, blocks, stats, parts=parts) == 1
        for start, count, at in blocks.T:
            part = slice(start, start + count)
            assert [a[part].tobytes() for a in watched] == [a[part].tobytes() for a in plain]
            p, change = plain[-1][part].astype(float), (plain[-1][part] - before[part]).astype(float)
            expected = [*[-1.0] * 5, *([p.sum(), p @ p, change @ change] if due else [-1.0] * 3)]
            assert stats[at:at + 8] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("t", [1, 2, 3, 17, 1000, 12345])
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_the_corrections_of_adam_are_those_of_the_step(beta: float, t: int) -> None:
    g, m, v, p = np.ones((4, 1))
    update.adam.plain(np.array([1.0, beta, beta, 0.0, 0.0, 0.0, 0.0, 0.0, t]), g, m, v, p)
    assert p[0] == pytest.approx(1 - np.sqrt(-np.expm1(t * np.log(beta)) if beta else 1.0) / (-np.expm1(t * np.log(beta)) if beta else 1.0), rel=1e-9)


def test_a_variance_that_rounding_makes_negative_counts_as_zero() -> None:
    g = np.full(16, 0.1, np.float32)
    square, mean, p = g * g * np.float32(0.999), g.copy(), np.ones(16, np.float32)
    update.rmsprop_centered.plain(np.array([0.1, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]), g, square, mean, p)
    assert np.isfinite(p).all()


def test_a_number_is_counted_and_taken_from_a_table_that_goes_round() -> None:
    clock, table, hyper = np.array([5.0]), np.arange(4.0), np.zeros(3)
    update.count(0, clock)
    update.schedule(1, clock, table, hyper)
    assert clock.tolist() == [6] and hyper.tolist() == [0, 2, 0]
