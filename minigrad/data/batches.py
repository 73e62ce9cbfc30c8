"""An epoch as rows to take."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def index_batches(count: int, batch_size: int, rng: np.random.Generator | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row numbers 0 to count - 1 as a table (steps, batch_size), and those of the last short batch, which may be empty.

    They are shuffled by `rng`, or in order without one.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    order: NDArray[Any] = np.arange(count, dtype=np.int64)
    if rng is not None:
        rng.shuffle(order)
    whole = count // batch_size * batch_size
    return order[:whole].reshape(-1, batch_size), order[whole:]
