"""Where batches come from: rows of arrays, which can be gathered natively, or batches that somebody else makes."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.data.batches import index_batches
from minigrad.data.dataset import Columns, Dataset, plain
from minigrad.data.loader import DataLoader
from minigrad.errors import DataError, ShapeError
from minigrad.tape.tensor import Tensor

Array = NDArray[Any]
Batch = tuple[Array, ...]  # the model's inputs, and where there are answers, those behind them
Epoch = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Rows:
    """Rows of arrays, by number; each call of `epoch` says in which order."""

    columns: Batch
    epoch: Callable[[], Epoch]
    steps: int
    size: int  # rows of a batch

    def batches(self) -> Iterator[Batch]:
        """One epoch, batch by batch."""
        table, rest = self.epoch()
        for indices in [*table, rest] if len(rest) else table:
            yield tuple([column[indices] for column in self.columns])


@dataclass(frozen=True)
class Batches:
    """Batches as an iterable makes them."""

    source: Iterable[Any]
    who: str
    answers: bool

    @property
    def steps(self) -> int | None:
        """How many, if it says so."""
        return len(self.source) if isinstance(self.source, Sized) else None

    def batches(self) -> Iterator[Batch]:
        """One epoch. Raises DataError or ShapeError, naming the batch, for what is not a batch."""
        for i, batch in enumerate(self.source):
            where = f"{self.who}: batch {i}"
            parts = batch if isinstance(batch, tuple | list) else (batch,)
            if isinstance(batch, dict) or (self.answers and len(parts) < 2):
                kind = f"a dict of {', '.join(map(str, batch))}" if isinstance(batch, dict) else f"one {type(batch).__name__}"
                raise DataError(f"{where} is {kind}, expected (x, y): give the DataLoader a collate_fn that returns such a tuple")
            columns = tuple([plain(part, where) for part in parts])
            if not self.answers and len(columns) > 1:
                columns = columns[:-1]
            checked(columns, where, self.answers)
            yield columns


Feed = Rows | Batches


def feed(who: str, x: Any, y: Any, batch_size: int | None, shuffle: bool, default_size: int) -> Feed:
    """The batches of arrays x and y, or of a DataLoader, Dataset or iterable of batches (x, y). Raises for what cannot be trained on.

    x: an array, or a tuple of arrays for a model of several inputs.
    """
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise ValueError(f"{who}: batch_size is {batch_size!r}, expected a whole number from 1 on")
    if is_source(x, lists=y is None):
        if y is not None:
            raise DataError(f"{who}: y is given beside a {type(x).__name__}, whose batches have their answers in them: leave y out")
        return sourced(who, x, batch_size, shuffle, default_size, answers=True)
    if y is None:
        raise DataError(f"{who}: y is missing: give the answers, or a DataLoader of batches (x, y)")
    columns = (*inputs(x, who), plain(y, f"{who}: y"))
    checked(columns, who, answers=True)
    return rows(columns, batch_size or default_size, shuffle)


def input_feed(who: str, x: Any, batch_size: int | None, default_size: int) -> Feed:
    """As `feed`, for inputs without answers; of a batch with several members the last is taken for answers and left out."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"{who}: batch_size is {batch_size!r}, expected a whole number from 1 on")
    if is_source(x, lists=False):
        return sourced(who, x, batch_size, False, default_size, answers=False)
    return rows(inputs(x, who), batch_size or default_size, False)


def is_source(x: Any, lists: bool) -> bool:
    """Whether x makes samples or batches itself, rather than being an array, a list of numbers or a tuple of arrays.

    lists: count a list of pairs of arrays for a list of batches.
    """
    if isinstance(x, DataLoader | Dataset):
        return True
    if isinstance(x, np.ndarray | Tensor | np.generic):
        return False
    if isinstance(x, list | tuple):
        return lists and bool(x) and all(isinstance(batch, tuple | list) and len(batch) > 1 and all(_is_array(part) for part in batch) for batch in x)
    return not hasattr(x, "__array__") and (hasattr(x, "__iter__") or (hasattr(x, "__len__") and hasattr(x, "__getitem__")))


def sourced(who: str, x: Any, batch_size: int | None, shuffle: bool, default_size: int, answers: bool) -> Feed:
    """The batches of a source."""
    if isinstance(x, Dataset) or (not isinstance(x, DataLoader) and not hasattr(x, "__iter__")):
        x = DataLoader(x, batch_size or default_size, shuffle)
    elif batch_size is not None:
        raise ValueError(f"{who}: batch_size is {batch_size} beside a {type(x).__name__}, which makes its own batches: leave it out")
    if not isinstance(x, DataLoader):
        return Batches(x, who, answers)
    if len(x) == 0:
        raise DataError(f"{who}: no batches: the data set has {len(x.dataset)} rows, batch_size is {x.batch_size}"
                        f"{' and drop_last leaves out what is less' if x.drop_last else ''}")
    found = x.columns
    if found is None:
        return Batches(x, who, answers)
    if answers and len(found.arrays) < 2:
        raise DataError(f"{who}: the data set has no answers: expected a TensorDataset(x, y)")
    columns = found.arrays if answers or len(found.arrays) == 1 else found.arrays[:-1]
    checked(columns, who, answers)
    return Rows(columns, _mapped(x, found), len(x), x.batch_size)


def rows(columns: Batch, size: int, shuffle: bool) -> Rows:
    """All rows of arrays, in an order that follows from `mg.manual_seed` if shuffled."""
    count = len(columns[0])
    return Rows(columns, lambda: index_batches(count, size, config.generator() if shuffle else None), -(-count // size), size)


def held_out(x: Any, y: Any, share: float) -> tuple[Batch, Array, tuple[Batch, Array]]:
    """Inputs and answers without their last rows, a share of all, and these. Raises ValueError or DataError if that cannot be."""
    if y is None or not 0 < share < 1:
        raise ValueError(f"fit: validation_split is {share}, expected a number between 0 and 1, beside x and y: cut a data set with random_split")
    xs, answers = inputs(x, "fit"), plain(y, "fit: y")
    checked((*xs, answers), "fit", answers=True)
    kept = int(len(answers) * (1 - share))
    if not 0 < kept < len(answers):
        raise DataError(f"fit: validation_split={share} of {len(answers)} rows leaves {kept} to train on")
    return tuple([part[:kept] for part in xs]), answers[:kept], (tuple([part[kept:] for part in xs]), answers[kept:])


def inputs(x: Any, who: str) -> Batch:
    """The model's inputs as arrays with the same number of rows."""
    several = isinstance(x, tuple) and bool(x) and all(_is_array(part) for part in x)
    columns = tuple([plain(part, f"{who}: x[{i}]") for i, part in enumerate(x)]) if several else (plain(x, f"{who}: x"),)
    if any(column.ndim == 0 for column in columns) or len({len(column) for column in columns}) > 1:
        raise ShapeError(f"{who}: x has shapes {[column.shape for column in columns]}, expected rows, the same number in each")
    return columns


def checked(columns: Batch, where: str, answers: bool) -> None:
    """Raises ShapeError unless all have the same number of rows, and at least one; DataError if an answer is NaN."""
    y = columns[-1]
    counts = [len(column) if column.ndim else 0 for column in columns]
    if len(set(counts)) > 1:
        raise ShapeError(f"{where}: x has {counts[0]} rows and y has {counts[-1]}: expected the same number, and at least one" if len(counts) == 2
                         else f"{where}: {counts} rows: expected the same number in each, and at least one")
    if counts[0] == 0:
        raise ShapeError(f"{where}: x has 0 rows: expected at least one")
    if answers and y.dtype.kind == "f":
        bad = np.flatnonzero(np.isnan(y).reshape(len(y), -1).any(axis=1))
        if len(bad):
            raise DataError(f"{where}: {len(bad)} of {len(y)} rows of y have a NaN, first row {bad[0]}: leave them out, or fill them")


def _mapped(loader: DataLoader, found: Columns) -> Callable[[], Epoch]:
    """The loader's epochs, as rows of the arrays."""
    indices = found.indices
    if indices is None:
        return loader.epoch

    def epoch() -> Epoch:
        table, rest = loader.epoch()
        return indices[table], indices[rest]

    return epoch


def _is_array(values: Any) -> bool:
    return isinstance(values, np.ndarray | Tensor)
