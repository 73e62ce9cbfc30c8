from __future__ import annotations

import numpy as np
import pytest

from minigrad.data import index_batches


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (2, 3), (1, 1)])
def test_every_row_is_taken_once(count: int, size: int, rng: np.random.Generator) -> None:
    table, rest = index_batches(count, size, rng)
    assert table.shape == (count // size, size) and len(rest) == count % size
    assert table.dtype == rest.dtype == np.int64
    assert sorted([*table.ravel(), *rest]) == list(range(count))


def test_without_a_generator_the_order_stays() -> None:
    table, rest = index_batches(5, 2)
    assert table.tolist() == [[0, 1], [2, 3]] and rest.tolist() == [4]


def test_each_epoch_has_another_order(rng: np.random.Generator) -> None:
    assert not np.array_equal(index_batches(100, 10, rng)[0], index_batches(100, 10, rng)[0])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        index_batches(5, 0)
