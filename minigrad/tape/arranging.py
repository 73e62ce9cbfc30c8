"""Functions that arrange Tensors: put together, cut apart, repeated, padded; PyTorch's and NumPy's names."""
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import indexing as rows
from minigrad.ops import joining
from minigrad.ops import shape as shapes
from minigrad.ops.rules import INT64, c_strides
from minigrad.tape.handle import Handle
from minigrad.tape.indexing import checked, getitem, places
from minigrad.tape.shaping import Shaping, axis_of
from minigrad.tape.tensor import Tensor, tensor


def _lifted(x: Any, like: Any = None) -> Any:
    """A Tensor of what may be an array or numbers; in the dtype of a Tensor beside it."""
    return x if isinstance(x, Handle) else tensor(np.asarray(x, None if like is None else like.spec.dtype))


def _all(parts: Sequence[Any], name: str) -> list[Any]:
    """The parts as Tensors of one dtype: plain arrays take that of the Tensors. Raises ShapeError for none."""
    given = [*parts]
    if not given:
        raise ShapeError(f"{name}: expected at least one Tensor")
    like = next((x for x in given if isinstance(x, Handle)), None)
    return [_lifted(x, like) for x in given]


def cat(tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """The Tensors one after the other along an existing axis: all sizes but that one, and dtypes, must be equal."""
    parts = _all(tensors, "cat")
    at = axis_of(len(parts[0].spec.shape), dim if axis is None else axis, "cat")
    return parts[0].clone() if len(parts) == 1 else joining.cat(parts, at)  # type: ignore[no-any-return]


concatenate = concat = cat


def stack(tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """The Tensors, of one shape, side by side along a new axis."""
    parts = _all(tensors, "stack")
    shape = parts[0].spec.shape
    if any(x.spec.shape != shape for x in parts):
        raise ShapeError(f"stack: all shapes must be equal, got {', '.join(str(x.spec.shape) for x in parts)}: use cat along an axis they have")
    at = axis_of(len(shape) + 1, dim if axis is None else axis, "stack")
    return cat([x.unsqueeze(at) for x in parts], at)


def hstack(tensors: Sequence[Any]) -> Tensor:
    """The Tensors one after the other along their second axis, or along the first if they have one."""
    parts = [x if x.spec.shape else x.reshape(1) for x in _all(tensors, "hstack")]
    return cat(parts, 0 if len(parts[0].spec.shape) == 1 else 1)


def vstack(tensors: Sequence[Any]) -> Tensor:
    """The Tensors, rows if they have one axis, one below the other."""
    return cat([x if len(x.spec.shape) > 1 else x.reshape(1, -1) for x in _all(tensors, "vstack")], 0)


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Tensor:
    """A copy with `constant_values` around it; as numpy.pad.

    pad_width: (before, after) for each axis, one such pair for all, or one number. Negative widths cut away.
    """
    if mode != "constant":
        raise ValueError(f"pad: mode {mode!r}: only 'constant' is there")
    given = _lifted(x)
    shape = given.spec.shape
    widths = [tuple(int(n) for n in pair) for pair in np.broadcast_to(np.asarray(pad_width, int), (len(shape), 2))]
    sizes = [n + a + b for n, (a, b) in zip(shape, widths, strict=True)]
    if any(n < 0 for n in sizes):
        raise ShapeError(f"pad: widths {pad_width} cut away more than there is of {given.spec!r}")
    inner = getitem(given, tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(shape, widths, strict=True))) if shape else given
    strides = c_strides(tuple(sizes))
    start = sum(max(0, a) * s for (a, _), s in zip(widths, strides, strict=True))
    return shapes.place_strided(inner, start=start, shape=tuple(sizes), strides=strides, fill=float(constant_values))  # type: ignore[no-any-return]


def one_hot(labels: Any, num_classes: int = -1) -> Tensor:
    """A last axis of int64 with a 1 at each label and zeros elsewhere. Raises LabelError for a label that is not a class.

    num_classes: if left out, one more than the largest label, which cannot be done inside a captured step.
    """
    index = places(labels)
    count = operator.index(num_classes)
    if count == -1:
        count = int(np.asarray(index).max(initial=-1)) + 1
    return checked(rows.one_hot, index, count, index, classes=count, dtype=INT64)  # type: ignore[no-any-return]


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """The rows of weight (rows, features) at integer indices of any shape; the row `padding_idx` gets no gradient.

    As torch.nn.functional.embedding. Raises IndexRangeError for an index outside 0 to rows - 1, naming it.
    """
    index, size = places(input), weight.spec.shape[0]
    if len(weight.spec.shape) != 2:
        raise ShapeError(f"embedding: weight is {weight.spec!r}, expected (rows, features)")
    skip = None
    if padding_idx is not None:
        skip = padding_idx + size if padding_idx < 0 else padding_idx
        if not 0 <= skip < size:
            raise ShapeError(f"embedding: padding_idx {padding_idx} is no row of {weight.spec!r}")
    return checked(rows.embedding, index, size, weight, index, padding_idx=skip)  # type: ignore[no-any-return]


def tril(x: Any, diagonal: int = 0) -> Tensor:
    """A copy with zeros above the diagonal of the last two axes."""
    return _triangle(x, diagonal, False)


def triu(x: Any, diagonal: int = 0) -> Tensor:
    """A copy with zeros below the diagonal of the last two axes."""
    return _triangle(x, diagonal, True)


def _triangle(x: Any, diagonal: int, upper: bool) -> Tensor:
    given = _lifted(x)
    if len(given.spec.shape) < 2:
        raise ShapeError(f"{'triu' if upper else 'tril'}: expected at least 2 axes, got {given.spec!r}")
    m, n = given.spec.shape[-2:]
    below = np.tri(m, n, diagonal - upper, bool)
    mask = places((~below if upper else below).tolist())
    return rows.masked_keep(given, shapes.expand(shapes.reshape(mask, shape=(m, n)), shape=given.spec.shape))  # type: ignore[no-any-return]


def atleast_2d(x: Any) -> Tensor:
    """A view with at least two axes; new ones are in front."""
    given = _lifted(x)
    return given.reshape((1,) * (2 - len(given.spec.shape)) + given.spec.shape)  # type: ignore[no-any-return]


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates as grids: Tensor i, of one axis, repeated along all axes but the i-th; "xy" swaps the first two axes."""
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing {indexing!r}, expected 'ij' or 'xy'")
    parts = _all(tensors, "meshgrid")
    if any(len(x.spec.shape) != 1 for x in parts):
        raise ShapeError("meshgrid: each Tensor needs one axis")
    shape = tuple(x.spec.size for x in parts)
    grids = [x.reshape((1,) * i + (x.spec.size,) + (1,) * (len(parts) - i - 1)).expand(shape) for i, x in enumerate(parts)]
    return tuple(g.swapaxes(0, 1) for g in grids) if indexing == "xy" and len(parts) > 1 else tuple(grids)


# ---- methods as functions -----------------------------------------------------------------------------------------------------------
def _function(name: str) -> Callable[..., Any]:
    """The method of this name as a function of a Tensor or an array."""
    method = getattr(Shaping, name)

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return method(_lifted(x), *args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = method.__doc__
    return call


reshape = _function("reshape")
flatten = _function("flatten")
ravel = _function("ravel")
squeeze = _function("squeeze")
unsqueeze = expand_dims = _function("unsqueeze")
broadcast_to = _function("broadcast_to")
tile = _function("tile")
permute = _function("permute")
transpose = _function("transpose")
swapaxes = _function("swapaxes")
movedim = moveaxis = _function("movedim")
flip = _function("flip")
roll = _function("roll")
unbind = _function("unbind")
narrow = _function("narrow")
select = _function("select")
split = _function("split")
chunk = _function("chunk")
index_select = _function("index_select")
index_add = _function("index_add")
gather = _function("gather")
take_along_dim = take_along_axis = _function("take_along_dim")
scatter_add = _function("scatter_add")
masked_fill = _function("masked_fill")
masked_select = _function("masked_select")
