"""Inputs over an op's mathematical domain, for the tests that every op goes through."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Case = tuple[tuple[np.ndarray[Any, np.dtype[Any]], ...], dict[str, Any]]
Samples = Callable[[np.random.Generator], Iterator[Case]]

#: Sizes around the vector width, and one that no vector divides.
LENGTHS = (1, 3, 16, 17, 67)


def reals(low: float, high: float, *, arity: int = 1, edges: tuple[float, ...] = (), **attributes: Any) -> Samples:
    """Elementwise cases: `arity` float64 arrays of one shape, uniform in [low, high] with the edges among them, of several lengths."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for n in LENGTHS:
            arrays = [rng.uniform(low, high, n) for _ in range(arity)]
            if n > len(edges):
                arrays[0][:len(edges)] = edges
            yield tuple(arrays), attributes
        yield tuple(rng.uniform(low, high, (3, 4, 5)) for _ in range(arity)), attributes
        yield tuple(rng.uniform(low, high, ()) for _ in range(arity)), attributes

    return cases


def broadcasting(low: float, high: float, *, second: tuple[float, float] | None = None) -> Samples:
    """Two operands: equal shapes, and each way of broadcasting one, the other, or both."""
    low2, high2 = second or (low, high)

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (((17,), (17,)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 5)), ((), (2, 3)), ((2, 3), ()), ((2, 1, 4), (3, 1)), ((1,), (1,))):
            yield (rng.uniform(low, high, a), rng.uniform(low2, high2, b)), {}

    return cases


def shaped(*shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0, **attributes: Any) -> Samples:
    """One case: an array for each shape."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        yield tuple(rng.uniform(low, high, shape) for shape in shapes), attributes

    return cases


def several(*samples: Samples) -> Samples:
    """The cases of each, one after the other."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for some in samples:
            yield from some(rng)

    return cases


def labelled(rows: int, classes: int, *, with_grad: bool = False) -> Samples:
    """Logits (rows, classes) and int64 labels, with a scalar in front if wanted."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        logits, labels = rng.uniform(-4, 4, (rows, classes)), rng.integers(0, classes, rows)
        yield ((rng.uniform(0.5, 2.0, ()), logits, labels) if with_grad else (logits, labels)), {}

    return cases
