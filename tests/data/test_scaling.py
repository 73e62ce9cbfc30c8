from __future__ import annotations

import numpy as np
import pytest

from minigrad.data import standardize
from minigrad.errors import ShapeError


def test_columns_get_mean_0_and_deviation_1_and_constants_0(rng: np.random.Generator) -> None:
    x = (rng.normal(5, 3, (200, 3)) * [1, 100, 0] + [0, 0, 0.1]).astype(np.float32)
    scaled = standardize(x)
    assert scaled.dtype == np.float32
    assert np.allclose(scaled.mean(0), 0, atol=1e-6) and np.allclose(scaled.std(0)[:2], 1, atol=1e-5) and np.all(np.abs(scaled[:, 2]) < 1e-6)


def test_held_out_rows_are_scaled_by_the_same_figures() -> None:
    train, test = standardize(np.array([[0], [2]]), [[4]])
    assert train.tolist() == [[-1], [1]] and test.tolist() == [[3]] and train.dtype == np.float64
    with pytest.raises(ShapeError, match="rows of shape"):
        standardize(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="expected at least one row"):
        standardize(np.zeros((0, 3)))
