"""Data sets by row number, and ways to cut them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.spec import Spec
from minigrad.tape.handle import wrap
from minigrad.tape.tensor import Tensor

Array = NDArray[Any]


class Dataset:
    """Base of data sets: write `__len__` and `__getitem__(i)`, which gives sample i as numbers, arrays, Tensors, or a tuple or dict of them."""

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} needs a __len__ method")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(f"{type(self).__name__} needs a __getitem__ method")


class TensorDataset(Dataset):
    """Arrays or Tensors with the same number of rows; sample i is the tuple of their rows i. The memory is shared, not copied.

    Raises ShapeError if the rows differ, DtypeError for anything but numbers.
    """

    def __init__(self, *tensors: Any) -> None:
        self.arrays = tuple([plain(values, f"TensorDataset: argument {i}") for i, values in enumerate(tensors)])
        shapes = [a.shape for a in self.arrays]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(f"TensorDataset: shapes {shapes}: expected at least one array, all with the same number of rows")

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the set is made of, as Tensors on the same memory where it is C-contiguous."""
        return tuple([tensor_on(a) for a in self.arrays])

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple([tensor_on(np.array(a[index], order="C")) for a in self.arrays])


class Subset(Dataset):
    """The rows of `dataset` at `indices`, in that order. Raises IndexError for a row that is not there."""

    def __init__(self, dataset: Any, indices: Sequence[int] | Array) -> None:
        self.dataset = dataset
        found = np.asarray(indices)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise ShapeError(f"Subset: indices are {found.dtype.name}{list(found.shape)}, expected one row of integers")
        self.indices: NDArray[np.int64] = found.astype(np.int64)
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < len(dataset):
            raise IndexError(f"Subset: indices run from {found.min()} to {found.max()}, the data set has {len(dataset)} rows")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[int(self.indices[index])]


def random_split(dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None) -> list[Subset]:
    """Cut `dataset` at random into subsets that share no row.

    lengths: how many rows each gets, all rows together; or shares that add up to 1, where rows that are left over go to the first ones.
    generator: where the order comes from (default: that of `mg.manual_seed`). Raises ValueError if the lengths do not add up.
    """
    total, wanted = len(dataset), list(lengths)
    if any(length < 0 for length in wanted):
        raise ValueError(f"random_split: lengths are {wanted}, expected none below 0")
    if any(isinstance(length, float) for length in wanted):
        if abs(sum(wanted) - 1) > 1e-6:
            raise ValueError(f"random_split: shares {wanted} add up to {sum(wanted)}, expected 1")
        counts = [int(total * share + 1e-9) for share in wanted]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        counts = [int(length) for length in wanted]
    if sum(counts) != total:
        raise ValueError(f"random_split: lengths {counts} add up to {sum(counts)}, the data set has {total} rows")
    order = (generator or config.generator()).permutation(total)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count:end]) for count, end in zip(counts, ends, strict=True)]


class Columns(NamedTuple):
    """A data set that lies in arrays: which rows of them it consists of (None: all, in order), and whether a sample is a tuple."""

    arrays: tuple[Array, ...]
    indices: NDArray[np.int64] | None
    in_tuple: bool


@overload
def columns_of(dataset: TensorDataset) -> Columns: ...


@overload
def columns_of(dataset: Any) -> Columns | None: ...


def columns_of(dataset: Any) -> Columns | None:
    """The arrays behind a data set, so that whole batches can be gathered at once; None if only its own `__getitem__` knows."""
    if type(dataset) is TensorDataset:
        return Columns(dataset.arrays, None, in_tuple=True)
    if isinstance(dataset, np.ndarray | Tensor):
        return Columns((plain(dataset, "dataset"),), None, in_tuple=False)
    below: Columns | None = columns_of(dataset.dataset) if type(dataset) is Subset else None
    if below is None:
        return None
    return below._replace(indices=dataset.indices if below.indices is None else below.indices[dataset.indices])


def plain(values: Any, who: str) -> Array:
    """Numbers as an array in this machine's byte order, without copying where that can be. Raises ShapeError or DtypeError."""
    try:
        array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{who}: rows of different sizes do not make an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"{who} holds {array.dtype.name}, expected numbers")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def tensor_on(array: Array) -> Tensor:
    """A Tensor on the array's memory if it is C-contiguous, else on a copy."""
    # Not ascontiguousarray, which would give a number an axis.
    whole = np.asarray(array, order="C")
    return wrap(whole, Spec.of(whole.shape, whole.dtype))  # type: ignore[no-any-return]
