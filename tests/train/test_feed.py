from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.data import DataLoader, Dataset, Subset, TensorDataset
from minigrad.errors import DataError, DtypeError, ShapeError
from minigrad.train import Trainer

ROWS = 21
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
Y = np.arange(ROWS) % 2


class Pairs(Dataset):
    """The same rows, fetched one by one."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: Any) -> tuple[NDArray[np.float32], int]:
        return X[index], int(Y[index])


class Dicts:
    """A data set of dicts."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": X[index], "label": int(Y[index])}


class Indexed:
    """A data set of nobody's class."""

    def __init__(self) -> None:
        self.pairs = Pairs()

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self.pairs[index]


def trainer() -> Trainer:
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))


def collate(samples: list[dict[str, Any]]) -> tuple[NDArray[np.float32], list[int]]:
    return np.stack([sample["image"] for sample in samples]), [sample["label"] for sample in samples]


def in_order() -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    return [(X[i:i + 8], Y[i:i + 8]) for i in range(0, ROWS, 8)]


def shuffled(made: DataLoader) -> DataLoader:
    made.shuffle = True
    return made


GIVEN: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "arrays": lambda: ((X, Y), {"batch_size": 8}),
    "float64 arrays": lambda: ((X.astype(np.float64), Y), {"batch_size": 8}),
    "Tensors": lambda: ((mg.tensor(X), mg.tensor(Y)), {"batch_size": 8}),
    "lists": lambda: ((X.tolist(), Y.tolist()), {"batch_size": 8}),
    "loader": lambda: ((DataLoader(TensorDataset(X, Y), 8),), {}),
    "loader of a subset": lambda: ((DataLoader(Subset(TensorDataset(X[::-1], Y[::-1]), np.arange(ROWS)[::-1]), 8),), {}),
    "loader of samples": lambda: ((DataLoader(Pairs(), 8),), {}),
    "TensorDataset": lambda: ((TensorDataset(X, Y),), {"batch_size": 8}),
    "Dataset": lambda: ((Pairs(),), {"batch_size": 8}),
    "a data set of nobody's class": lambda: ((Indexed(),), {"batch_size": 8}),
    "loader of dicts with a collate_fn": lambda: ((DataLoader(Dicts(), 8, collate_fn=collate),), {}),
    "list of batches": lambda: ((in_order(),), {}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_the_same_rows_train_to_the_same_bits_however_they_come(name: str) -> None:
    reference = trainer()
    expected = reference.fit(X, Y, 8, epochs=3, shuffle=False, verbose=0)
    made = trainer()
    args, options = GIVEN[name]()
    history = made.fit(*args, **{**options, "epochs": 3, "shuffle": False, "verbose": 0})
    assert history.history == expected.history
    assert all(np.array_equal(a, b) for a, b in zip(made.model.state_dict().values(), reference.model.state_dict().values(), strict=True))
    assert made.evaluate(*args, **options) == reference.evaluate(X, Y, batch_size=8)
    if name != "list of batches":
        inputs = args[:1]
        assert np.array_equal(made.predict(*inputs, **options), reference.predict(X))


@pytest.mark.parametrize("name", ["arrays", "loader", "TensorDataset", "Dataset"])
def test_a_loaders_shuffle_is_the_trainers(name: str) -> None:
    expected = trainer().fit(X, Y, 8, epochs=2, verbose=0)
    args, options = GIVEN[name]()
    given = shuffled(args[0]) if isinstance(args[0], DataLoader) else args[0]
    assert trainer().fit(given, *args[1:], **{**options, "epochs": 2, "verbose": 0}).history == expected.history


def test_validation_data_may_be_anything_too() -> None:
    figures = [trainer().fit(X, Y, verbose=0, validation_data=given).history["val_loss"][0]
               for given in ((X, Y), [X, Y], [(X, Y)], DataLoader(TensorDataset(X, Y), 256), TensorDataset(X, Y))]
    assert len(set(figures)) == 1
    two = trainer().fit(X, Y, 7, verbose=0, shuffle=False, validation_data=[(X[:14], Y[:14]), (X[14:], Y[14:])]).history["val_loss"]
    assert two == pytest.approx(trainer().fit(X, Y, 7, verbose=0, shuffle=False, validation_data=(X, Y)).history["val_loss"])


def test_a_validation_split_is_the_last_rows() -> None:
    apart = trainer().fit(X[:16], Y[:16], 8, epochs=2, verbose=0, validation_data=(X[16:], Y[16:]))
    assert trainer().fit(X, Y, 8, epochs=2, verbose=0, validation_split=0.2).history == apart.history


def test_an_iterator_gives_one_epoch() -> None:
    def batches() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        yield from in_order()

    assert trainer().fit(batches(), verbose=0).history == trainer().fit(X, Y, 8, shuffle=False, verbose=0).history
    made = trainer()
    with pytest.raises(DataError, match="no batches in epoch 1: an iterator gives its batches once only"):
        made.fit(batches(), epochs=2, verbose=0)
    assert made.history.epoch == [0]


def test_no_rows_predict_no_rows() -> None:
    assert trainer().predict(X[:0]).shape == (0, 2)


@pytest.mark.parametrize(("args", "options", "error", "complaint"), [
    ((X, Y[:-1]), {}, ShapeError, "fit: x has 21 rows and y has 20: expected the same number, and at least one"),
    ((X[:0], Y[:0]), {}, ShapeError, "x has 0 rows: expected at least one"),
    ((np.float32(1), Y), {}, ShapeError, r"x has shapes \[\(\)\], expected rows"),
    (((X, X[:3]), Y), {}, ShapeError, r"x has shapes \[\(21, 3\), \(3, 3\)\]"),
    (([[1, 2], [3]], [0, 1]), {}, ShapeError, "fit: x: rows of different sizes"),
    ((X, np.array(["a"] * ROWS)), {}, DtypeError, "fit: y holds str32, expected numbers"),
    ((X, np.where(Y, np.nan, 1.0)), {}, DataError, "fit: 10 of 21 rows of y have a NaN, first row 1"),
    ((X,), {}, DataError, "fit: y is missing"),
    ((DataLoader(TensorDataset(X, Y)), Y), {}, DataError, "y is given beside a DataLoader"),
    ((DataLoader(TensorDataset(X, Y)),), {"batch_size": 4}, ValueError, "batch_size is 4 beside a DataLoader, which makes its own batches"),
    ((DataLoader(TensorDataset(X, Y), 50, drop_last=True),), {}, DataError, "21 rows, batch_size is 50 and drop_last leaves out"),
    ((TensorDataset(X),), {}, DataError, r"no answers: expected a TensorDataset\(x, y\)"),
    ((X, Y), {"batch_size": 0}, ValueError, "fit: batch_size is 0, expected a whole number from 1 on"),
    ((X, Y), {"validation_split": 1.5}, ValueError, "validation_split is 1.5, expected a number between 0 and 1"),
    ((X[:1], Y[:1]), {"validation_split": 0.5}, DataError, "validation_split=0.5 of 1 rows leaves 0 to train on"),
    ((X, Y), {"validation_data": (X, Y[:1])}, ShapeError, "fit: validation_data: x has 21 rows and y has 1"),
    (([(X, Y), (X, Y[:2])],), {}, ShapeError, "fit: batch 1: x has 21 rows and y has 2"),
    ((iter([X]),), {}, DataError, r"fit: batch 0 is one ndarray, expected \(x, y\)"),
    ((iter([{"x": X, "y": Y}]),), {}, DataError, r"batch 0 is a dict of x, y, expected \(x, y\)"),
])
def test_what_cannot_be_trained_on_is_refused(args: tuple[Any, ...], options: dict[str, Any], error: type[Exception], complaint: str) -> None:
    made = trainer()
    with pytest.raises(error, match=complaint):
        made.fit(*args, **options, verbose=0)
    assert made.history.epoch == []
