from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import DataLoader, Dataset, Subset, TensorDataset, default_collate
from minigrad.errors import DataError, DtypeError, ShapeError


class Squares(Dataset):
    """Sample i is (i as an array of two, i * i)."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> tuple[np.ndarray[Any, Any], int]:
        return np.full(2, index, np.float32), index * index


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize(("rows", "size", "drop_last", "sizes"), [
    (1000, 32, False, [32] * 31 + [8]), (1000, 32, True, [32] * 31), (8, 4, False, [4, 4]), (3, 5, False, [3]), (3, 5, True, []), (0, 5, False, []),
])
def test_the_last_batch_is_short_or_dropped(rows: int, size: int, drop_last: bool, sizes: list[int]) -> None:
    for data in (TensorDataset(np.zeros((rows, 2))), Squares(rows)):
        loader = DataLoader(data, batch_size=size, drop_last=drop_last)
        assert [len(batch[0]) for batch in loader] == sizes and len(loader) == len(sizes)


@pytest.mark.parametrize("shuffle", [False, True])
def test_gathered_and_collated_batches_are_the_same(shuffle: bool) -> None:
    count = 23
    samples = [Squares(count)[i] for i in range(count)]
    arrays = TensorDataset(np.stack([x for x, _ in samples]), np.array([y for _, y in samples]))
    some = [7, 3, 3, 20, 11]
    for ours, theirs in ((Squares(count), arrays), (Subset(Squares(count), some), Subset(Subset(arrays, range(1, count)), np.array(some) - 1))):
        batches = []
        for data in (ours, theirs):
            mg.manual_seed(3)
            batches.append([[part.tolist() for part in batch] for batch in DataLoader(data, batch_size=4, shuffle=shuffle)])
        assert batches[0] == batches[1]


def test_each_epoch_has_another_order_that_the_seed_fixes() -> None:
    def epochs(loader: DataLoader) -> list[list[int]]:
        return [[int(i) for (batch,) in loader for i in batch.tolist()] for _ in range(2)]

    rows = TensorDataset(np.arange(50))
    mg.manual_seed(1)
    first = epochs(DataLoader(rows, 8, shuffle=True))
    mg.manual_seed(1)
    assert first == epochs(DataLoader(rows, 8, shuffle=True)) and first[0] != first[1] and sorted(first[0]) == list(range(50))
    own = [epochs(DataLoader(rows, 8, shuffle=True, generator=np.random.default_rng(5))) for _ in range(2)]
    assert own[0] == own[1] != first


def test_arrays_keep_their_dtype_and_come_without_a_tuple() -> None:
    (batch,) = DataLoader(np.asfortranarray(np.arange(6, dtype=">i4").reshape(3, 2)), batch_size=3)
    assert isinstance(batch, mg.Tensor) and batch.dtype == np.dtype(np.int32) and batch.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_collate_follows_the_samples_form() -> None:
    samples = [{"x": np.ones(2), "id": f"n{i}", "y": Pair(float(i), [i, i > 0])} for i in range(2)]
    made = default_collate(samples)
    assert made["x"].tolist() == [[1, 1], [1, 1]] and made["x"].dtype == np.float64 and made["id"] == ["n0", "n1"]
    assert isinstance(made["y"], Pair) and made["y"].left.dtype == mg.get_default_dtype() and made["y"].left.tolist() == [0, 1]
    counts, flags = made["y"].right
    assert counts.dtype == np.int64 and flags.dtype == np.bool_
    assert default_collate([mg.tensor([1.0]), mg.tensor([2.0])]).shape == (2, 1)
    assert default_collate([np.float64(1), np.float64(2)]).shape == (2,)


@pytest.mark.parametrize(("samples", "error", "complaint"), [
    ([], DataError, "no samples"),
    ([(1, 2), (1, 2, 3)], DataError, "sample 1 of the batch is a tuple of 3, the first is a tuple of 2"),
    ([{"a": 1}, {"b": 1}], DataError, "sample 1 of the batch is a dict of b, the first is a dict of a"),
    ([np.zeros(2), np.zeros(3)], ShapeError, r"sample 1 of the batch has shape \(3,\), the first \(2,\): pad them"),
    ([None, None], DtypeError, "sample 0 of the batch holds object, expected numbers"),
])
def test_samples_that_differ_are_named(samples: list[Any], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        default_collate(samples)


def test_a_collate_function_of_ones_own() -> None:
    loader = DataLoader(TensorDataset(np.arange(4)), batch_size=2, collate_fn=lambda samples: sum(int(x.item()) for (x,) in samples))
    assert list(loader) == [1, 5] and "4 rows, batch_size=2, in order, 2 batches" in repr(loader)


@pytest.mark.parametrize(("options", "error", "complaint"), [
    ({"batch_size": 0}, ValueError, "batch_size is 0, expected a whole number from 1 on"),
    ({"batch_size": 2.5}, ValueError, "batch_size is 2.5"),
    ({"num_workers": 2}, ValueError, "num_workers is 2, expected 0"),
    ({"generator": 3}, TypeError, "generator is a int, expected a np.random.Generator"),
    ({"dataset": iter([])}, TypeError, "is not a data set: it needs __len__ and __getitem__"),
])
def test_nonsense_is_refused(options: dict[str, Any], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        DataLoader(**{"dataset": [1, 2], **options})


@pytest.mark.parametrize(("rows", "size", "drop_last"), [(1000, 32, False), (1000, 32, True), (7, 7, False), (3, 8, True)])
def test_batches_are_those_of_pytorch(rows: int, size: int, drop_last: bool) -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    x, y = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), np.arange(rows)
    theirs = data.DataLoader(data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), size, drop_last=drop_last)
    ours = DataLoader(TensorDataset(x, y), size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert [part.tolist() for part in mine] == [part.tolist() for part in other]


def test_collated_batches_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    samples = [{"x": np.full(2, i, np.float32), "n": i, "f": i / 2, "ok": i > 0, "name": f"s{i}", "pair": (i, [i, i + 1])} for i in range(3)]
    theirs, ours = torch.utils.data.default_collate(samples), default_collate(samples)
    for name in ("x", "n", "f", "ok"):
        assert ours[name].tolist() == theirs[name].tolist()
    assert ours["name"] == theirs["name"]
    assert [part.tolist() for part in (ours["pair"][0], *ours["pair"][1])] == [part.tolist() for part in (theirs["pair"][0], *theirs["pair"][1])]
