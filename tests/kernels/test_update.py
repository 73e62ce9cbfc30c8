"""Optimiser updates: NumPy's bits, the same in parts, and clipping in the same pass has the bits of two."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, norms, update

DTYPES = (np.float32, np.float64)
LENGTHS = (1, 15, 16, 17, 67, 1001)
HYPER = np.array([0.1, 0.9])
LAYOUTS = {name: abi.Layout(text, "n") for name, text in {
    "sgd": "hyper[h] g[n] p[n]",
    "sgd_momentum": "hyper[h] g[n] v[n] p[n]",
    "clip_sgd": "factor[1] hyper[h] g[n] p[n]",
    "clip_sgd_momentum": "factor[1] hyper[h] g[n] v[n] p[n]",
}.items()}


def arrays(name: str, n: int, dtype: Any) -> list[np.ndarray[Any, Any]]:
    g, v, p = np.random.default_rng(0).normal(size=(3, n)).astype(dtype)
    return [g, v, p] if "momentum" in name else [g, p]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_sgd_is_the_formula_with_each_operation_rounded(n: int, dtype: Any) -> None:
    lr, momentum = HYPER.astype(dtype)
    g, p = arrays("sgd", n, dtype)
    expected = p - lr * g
    update.sgd(HYPER, g, p)
    assert p.tobytes() == expected.tobytes()
    g, v, p = arrays("sgd_momentum", n, dtype)
    velocity = momentum * v + g
    expected = p - lr * velocity
    update.sgd_momentum(HYPER, g, v, p)
    assert (v.tobytes(), p.tobytes()) == (velocity.tobytes(), expected.tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", ["sgd", "sgd_momentum"])
@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_clipping_in_the_same_pass_has_the_bits_of_two(name: str, factor: float, n: int, dtype: Any) -> None:
    by = np.array([factor])
    apart, together = arrays(name, n, dtype), arrays(name, n, dtype)
    norms.clip(by, apart[0])
    getattr(update, name)(HYPER, *apart)
    getattr(update, f"clip_{name}")(by, HYPER, *together)
    assert [a.tobytes() for a in together] == [a.tobytes() for a in apart]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_an_update_in_parts_has_the_bits_of_the_whole(name: str, n: int, dtype: Any, through: Any) -> None:
    head = [np.array([0.37]), HYPER] if name.startswith("clip") else [HYPER]
    whole = arrays(name, n, dtype)
    getattr(update, name)(*head, *whole)
    for parts in (1, 2, 3):
        parted = arrays(name, n, dtype)
        assert through(getattr(update, name), LAYOUTS[name], {"n": n, "h": 2}, *head, *parted, parts=parts) == 1
        assert [a.tobytes() for a in parted] == [a.tobytes() for a in whole]
