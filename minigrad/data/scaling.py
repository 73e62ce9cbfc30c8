"""Columns on one scale."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.data.dataset import plain
from minigrad.errors import ShapeError

Array = NDArray[Any]


def standardize(x: Any, *others: Any) -> Any:
    """Every column of x less its mean, over its standard deviation, which is taken over the rows in float64; a constant column becomes 0.

    others: arrays of the same columns that are scaled by the same figures, as held-out rows are. Gives one array, or a list with all.
    Keeps float dtypes; integers become float64.
    """
    first = plain(x, "standardize")
    if first.ndim < 1 or not len(first):
        raise ShapeError(f"standardize: x has shape {first.shape}, expected at least one row")
    mean, deviation = first.mean(axis=0, dtype=np.float64), first.std(axis=0, dtype=np.float64)
    # A constant column's deviation is the rounding error of its mean.
    deviation = np.where(deviation <= 16 * np.finfo(np.float64).eps * np.abs(mean), 1.0, deviation)
    scaled: list[Array] = []
    for values in (x, *others):
        array = plain(values, "standardize")
        if array.shape[1:] != first.shape[1:]:
            raise ShapeError(f"standardize: rows of shape {array.shape[1:]} beside x's {first.shape[1:]}")
        scaled.append(((array - mean) / deviation).astype(array.dtype if array.dtype.kind == "f" else np.float64))
    return scaled if others else scaled[0]
