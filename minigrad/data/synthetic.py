"""Points in the plane that no straight line separates."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.errors import DataError

Points = tuple[NDArray[Any], NDArray[np.int64]]


def make_circles(n_samples: int = 100, *, shuffle: bool = True, noise: float | None = None, random_state: int | None = None,
                 factor: float = 0.8) -> Points:
    """A circle of radius 1, class 0, around one of radius `factor`, class 1: x (n_samples, 2) of the default dtype, y int64.

    noise: standard deviation of what is added to x. The same random_state gives the points of scikit-learn's make_circles.
    """
    if not 0 <= factor < 1:
        raise DataError(f"make_circles: factor is {factor}, expected 0 to 1, 1 excluded")
    outer, inner = _halves("make_circles", n_samples)
    rings = []
    for count, radius in ((outer, 1.0), (inner, factor)):
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        rings.append(np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1))
    return _finished(rings, shuffle, noise, random_state)


def make_moons(n_samples: int = 100, *, shuffle: bool = True, noise: float | None = None, random_state: int | None = None) -> Points:
    """Two half circles that reach into each other: x (n_samples, 2) of the default dtype, y int64, 0 for the upper one.

    noise: standard deviation of what is added to x. The same random_state gives the points of scikit-learn's make_moons.
    """
    upper, lower = (np.linspace(0, np.pi, count) for count in _halves("make_moons", n_samples))
    moons = [np.stack([np.cos(upper), np.sin(upper)], axis=1), np.stack([1 - np.cos(lower), 1 - np.sin(lower) - 0.5], axis=1)]
    return _finished(moons, shuffle, noise, random_state)


def make_xor(n_samples: int = 4, *, shuffle: bool = False, noise: float | None = None, random_state: int | None = None) -> Points:
    """The corners 00, 01, 10, 11 in turn, and whether their bits differ: x (n_samples, 2) of the default dtype, y int64.

    noise: standard deviation of what is added to x.
    """
    _halves("make_xor", n_samples)
    bits = np.arange(n_samples)[:, None] >> np.array([1, 0]) & 1
    x, y = _disordered(bits.astype(np.float64), bits[:, 0] ^ bits[:, 1], shuffle, noise, random_state)
    return x, y


def _halves(who: str, count: int) -> tuple[int, int]:
    """The rows of each class, the second with the odd one."""
    if count < 1:
        raise DataError(f"{who}: n_samples is {count}, expected at least 1")
    return count // 2, count - count // 2


def _finished(classes: list[NDArray[np.float64]], shuffle: bool, noise: float | None, random_state: int | None) -> Points:
    y = np.repeat(np.arange(len(classes)), [len(points) for points in classes])
    return _disordered(np.concatenate(classes), y, shuffle, noise, random_state)


def _disordered(x: NDArray[np.float64], y: NDArray[Any], shuffle: bool, noise: float | None, random_state: int | None) -> Points:
    """Shuffled first, then noisy, both from one RandomState: the order in which scikit-learn draws. Without a seed, from `mg.manual_seed`."""
    if noise is not None and noise < 0:
        raise DataError(f"noise is {noise}, expected a standard deviation, 0 or more")
    rng: Any = config.generator() if random_state is None else np.random.RandomState(random_state)
    order = np.arange(len(x))
    if shuffle:
        rng.shuffle(order)
    x, y = x[order], y[order]
    if noise is not None:
        x = x + rng.normal(scale=noise, size=x.shape)
    return x.astype(config.get_default_dtype()), y.astype(np.int64)
