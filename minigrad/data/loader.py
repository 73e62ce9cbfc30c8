"""DataLoader: a data set batch by batch."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.data.batches import index_batches
from minigrad.data.dataset import Columns, columns_of, plain, tensor_on
from minigrad.errors import DataError, ShapeError
from minigrad.tape.tensor import Tensor, tensor


class DataLoader:
    """Batches of `dataset` as Tensors, the last short one included unless `drop_last`; each iteration is an epoch.

    dataset: anything with `__len__` and `__getitem__`; batches of a TensorDataset, a Subset of one or an array are gathered at once.
    shuffle: a new order each epoch, from `generator` (a `np.random.Generator`; default: that of `mg.manual_seed`).
    collate_fn: makes a batch of a list of samples (default: `default_collate`). num_workers: 0, for batches are made in this process.
    """

    def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, drop_last: bool = False,
                 generator: np.random.Generator | None = None, collate_fn: Callable[[list[Any]], Any] | None = None, num_workers: int = 0) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"DataLoader: a {type(dataset).__name__} is not a data set: it needs __len__ and __getitem__")
        if num_workers != 0:
            raise ValueError(f"DataLoader: num_workers is {num_workers}, expected 0: batches are made in this process")
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"DataLoader: batch_size is {batch_size!r}, expected a whole number from 1 on")
        if generator is not None and not isinstance(generator, np.random.Generator):
            raise TypeError(f"DataLoader: generator is a {type(generator).__name__}, expected a np.random.Generator, as np.random.default_rng(0)")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), shuffle, drop_last
        self.generator, self.collate_fn, self.num_workers = generator, collate_fn, num_workers

    @property
    def columns(self) -> Columns | None:
        """The arrays that whole batches are gathered from; None where samples are fetched one by one."""
        return columns_of(self.dataset) if self.collate_fn is None else None

    def epoch(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers of the next epoch: a table (steps, batch_size), and those of the last short batch, which may be empty."""
        rng = (self.generator or config.generator()) if self.shuffle else None
        table, rest = index_batches(len(self.dataset), self.batch_size, rng)
        return table, rest[:0] if self.drop_last else rest

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        columns, (table, rest) = self.columns, self.epoch()
        for indices in [*table, rest] if len(rest) else table:
            if columns is None:
                yield (self.collate_fn or default_collate)([self.dataset[int(i)] for i in indices])
            else:
                rows = indices if columns.indices is None else columns.indices[indices]
                batch = [tensor_on(np.take(a, rows, axis=0)) for a in columns.arrays]
                yield tuple(batch) if columns.in_tuple else batch[0]

    def __repr__(self) -> str:
        order = "shuffled" if self.shuffle else "in order"
        return f"DataLoader({len(self.dataset)} rows, batch_size={self.batch_size}, {order}, {len(self)} batches)"


def default_collate(samples: list[Any]) -> Any:
    """One batch of a list of samples: numbers, arrays and Tensors are stacked, tuples, lists and dicts member by member, strings listed.

    Python floats become the default dtype, ints int64. Raises ShapeError or DataError, naming the sample that differs from the first.
    """
    if not samples:
        raise DataError("default_collate: no samples")
    first = samples[0]
    if isinstance(first, str | bytes):
        return list(samples)
    if isinstance(first, Mapping):
        for i, sample in enumerate(samples):
            if not isinstance(sample, Mapping) or sample.keys() != first.keys():
                raise DataError(f"default_collate: sample {i} of the batch is {_kind(sample)}, the first is {_kind(first)}")
        return {name: default_collate([sample[name] for sample in samples]) for name in first}
    if isinstance(first, tuple | list):
        for i, sample in enumerate(samples):
            if not isinstance(sample, tuple | list) or len(sample) != len(first):
                raise DataError(f"default_collate: sample {i} of the batch is {_kind(sample)}, the first is {_kind(first)}")
        members = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        return type(first)(*members) if hasattr(first, "_fields") else tuple(members)
    if isinstance(first, bool | int | float):
        return tensor(samples)
    rows = [plain(sample, f"default_collate: sample {i} of the batch") for i, sample in enumerate(samples)]
    for i, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise ShapeError(f"default_collate: sample {i} of the batch has shape {row.shape}, the first {rows[0].shape}: "
                             "pad them, or pass collate_fn=")
    return tensor_on(np.stack(rows))


def _kind(sample: Any) -> str:
    """A sample's form, for error texts."""
    if isinstance(sample, Mapping):
        return f"a dict of {', '.join(map(str, sample))}"
    if isinstance(sample, Tensor | np.ndarray):
        return f"of shape {sample.shape}"
    size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
    return f"a {type(sample).__name__}{size}"
