from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import Subset, TensorDataset, random_split
from minigrad.errors import DtypeError, ShapeError


def test_a_sample_is_a_tuple_of_rows_and_the_memory_is_shared() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([5, 6, 7])
    data = TensorDataset(x, mg.tensor(y))
    x[1, 0] = 9
    row, label = data[1]
    assert len(data) == 3 and row.tolist() == [9, 3] and label.item() == 6
    assert [len(part) for part in data[0:2]] == [2, 2]
    first, second = data.tensors
    assert isinstance(first, mg.Tensor) and first.dtype == np.float32 and second.tolist() == [5, 6, 7]


@pytest.mark.parametrize("arrays", [(), (np.zeros((3, 1)), np.zeros(2)), (np.float32(1),)])
def test_rows_must_be_equal_in_number(arrays: tuple[object, ...]) -> None:
    with pytest.raises(ShapeError, match="expected at least one array, all with the same number of rows"):
        TensorDataset(*arrays)


def test_only_numbers_are_held() -> None:
    with pytest.raises(DtypeError, match="TensorDataset: argument 1 holds str"):
        TensorDataset(np.zeros(2), np.array(["a", "b"]))
    with pytest.raises(ShapeError, match="argument 0: rows of different sizes"):
        TensorDataset([[1, 2], [3]])


def test_a_subset_has_its_rows_in_its_order() -> None:
    data = Subset(list("abcde"), [3, 0])
    assert len(data) == 2 and [data[0], data[1], data[-1]] == ["d", "a", "a"]
    with pytest.raises(IndexError, match="indices run from 0 to 5, the data set has 5 rows"):
        Subset(list("abcde"), [0, 5])
    with pytest.raises(ShapeError, match="expected one row of integers"):
        Subset(list("abcde"), [0.5])  # type: ignore[list-item]


@pytest.mark.parametrize(("lengths", "expected"), [([7, 3], [7, 3]), ([0.5, 0.25, 0.25], [6, 2, 2]), ([0.9, 0.1], [9, 1]), ([10], [10])])
def test_a_split_shares_no_row(lengths: list[float], expected: list[int], rng: np.random.Generator) -> None:
    parts = random_split(range(10), lengths, rng)
    assert [len(part) for part in parts] == expected
    assert sorted(part[i] for part in parts for i in range(len(part))) == list(range(10))


def test_the_seed_fixes_the_split() -> None:
    def rows(seed: int) -> list[int]:
        mg.manual_seed(seed)
        return [int(i) for i in random_split(range(30), [20, 10])[0].indices]

    assert rows(1) == rows(1) != rows(2)


@pytest.mark.parametrize(("lengths", "complaint"), [
    ([7, 4], "add up to 11, the data set has 10 rows"),
    ([0.5, 0.6], "add up to 1.1, expected 1"),
    ([11, -1], "expected none below 0"),
])
def test_lengths_must_add_up(lengths: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        random_split(range(10), lengths)


@pytest.mark.parametrize(("rows", "shares"), [(10, [0.5, 0.25, 0.25]), (11, [0.3, 0.3, 0.4]), (100, [0.07, 0.93]), (7, [0.2] * 5)])
def test_shares_are_cut_as_pytorch_does(rows: int, shares: list[float]) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.utils.data.random_split(range(rows), shares)
    assert [len(part) for part in random_split(range(rows), shares)] == [len(part) for part in theirs]
