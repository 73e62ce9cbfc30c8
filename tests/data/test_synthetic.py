from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import make_circles, make_moons, make_xor
from minigrad.errors import DataError


@pytest.mark.parametrize("name", ["make_circles", "make_moons"])
@pytest.mark.parametrize("options", [{}, {"n_samples": 101, "noise": 0.1}, {"n_samples": 7, "shuffle": False}, {"n_samples": 2, "noise": 0.5}])
def test_the_points_are_those_of_scikit_learn(name: str, options: dict[str, Any]) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    ours = {"make_circles": make_circles, "make_moons": make_moons}[name]
    expected_x, expected_y = getattr(datasets, name)(random_state=3, **options)
    x, y = ours(random_state=3, **options)
    assert x.dtype == mg.get_default_dtype() and y.dtype.name == "int64"
    assert np.allclose(x, expected_x, rtol=1e-6, atol=1e-7) and np.array_equal(y, expected_y)


def test_circles_have_their_radii() -> None:
    x, y = make_circles(50, factor=0.5)
    assert np.allclose(np.hypot(*x.T), np.where(y == 1, 0.5, 1.0), atol=1e-6) and y.sum() == 25


def test_xor_is_the_truth_table_and_goes_round() -> None:
    x, y = make_xor()
    assert x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and y.tolist() == [0, 1, 1, 0]
    x, y = make_xor(200, noise=0.05, shuffle=True, random_state=0)
    assert np.array_equal(y, np.round(x).sum(axis=1) % 2) and not np.array_equal(y[:4], [0, 1, 1, 0])


@pytest.mark.parametrize("make", [make_circles, make_moons, make_xor])
def test_without_a_state_the_points_follow_from_the_seed(make: Callable[..., Any]) -> None:
    made = []
    for seed in (1, 1, 2):
        mg.manual_seed(seed)
        made.append(make(20, noise=0.1)[0].tobytes())
    assert made[0] == made[1] != made[2]


def test_nonsense_is_refused() -> None:
    with pytest.raises(DataError, match="make_moons: n_samples is 0"):
        make_moons(0)
    with pytest.raises(DataError, match="factor is 1"):
        make_circles(factor=1.0)
    with pytest.raises(DataError, match="noise is -1"):
        make_xor(noise=-1)
