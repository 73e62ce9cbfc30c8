"""`x[key]` and `x[key] = value`, with NumPy's keys: integers, slices, `...`, None, integer arrays and masks, in any mixture.

Integers and slices that select a run of memory give a view; anything else is a copy that is recorded as such. Index arrays are inputs
of an op, so they may differ between calls of a captured step; integers, slices and lists are part of the program.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import CaptureError, DtypeError, IndexRangeError, LabelError, ShapeError
from minigrad.ops import indexing, ranges, rules
from minigrad.ops import shape as shapes
from minigrad.ops.op import Op
from minigrad.ops.spec import Shape, Spec
from minigrad.tape.handle import Handle, excerpt, wrap
from minigrad.tape.inplace import overwrite
from minigrad.tape.mode import caller, local
from minigrad.tape.record import constant


# ---- indices ----------------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def _listed(kind: type, flat: tuple[Any, ...], shape: Shape) -> Any:
    """A list in a key as a Tensor; the same list is the same Tensor, so that a captured step finds its constant again."""
    return places(np.array(flat, kind).reshape(shape))


def places(index: Any) -> Any:
    """An index or a mask as a Tensor of int64, int32 or bool. Raises DtypeError."""
    if isinstance(index, Handle):
        kind = index.spec.dtype.kind
        if kind not in "iub":
            raise DtypeError(f"an index is {index.spec.dtype.name}, expected integers or bool: convert it with .long()")
        return index if kind == "b" or index.spec.dtype.name in ("int32", "int64") else shapes.cast(index, dtype=rules.INT64)
    if isinstance(index, np.ndarray):
        if index.dtype.kind not in "iub":
            raise DtypeError(f"an index is {index.dtype.name}, expected integers or bool: convert it with .astype(np.int64)")
        dtype = index.dtype.newbyteorder("=") if index.dtype.kind == "b" or index.dtype.name in ("int32", "int64") else rules.INT64
        native = np.ascontiguousarray(index, dtype).reshape(index.shape)
        return wrap(native, Spec.of(native.shape, native.dtype))
    array = np.asarray(index)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise DtypeError(f"an index is {index!r}, expected integers, slices, ..., None, or arrays of integers or bool")
    return _listed(bool if array.dtype.kind == "b" else np.int64, tuple(array.reshape(-1).tolist()), array.shape)


def checked(op: Op, index: Any, count: int, /, *inputs: Any, **attributes: Any) -> Any:
    """Run an op that fails if `index` names a place outside -count to count - 1, and say which one it was."""
    try:
        return op(*inputs, **attributes)
    except (IndexRangeError, LabelError) as error:
        values = index.array
        low = 0 if isinstance(error, LabelError) else -count
        at = tuple(int(i) for i in np.argwhere((values < low) | (values >= count))[0])
        where = f"[{', '.join(map(str, at))}]" if at else ""
        prefix = f"in {local.mode.path}: " if local.mode.path else ""
        raise type(error)(f"{prefix}{op.name}: index{where} is {values[at]}, out of range for size {count}: "
                          f"the places are {low} to {count - 1}") from None


def nonzero(mask: Handle) -> tuple[Any, ...]:
    """The places where a mask is set, one index for each axis. Raises CaptureError inside a captured step: their number depends on values."""
    if local.mode.listener is not None:
        raise CaptureError(f"a mask at {caller()} selects inside a captured step, where a replay could not follow the number of elements: "
                           "use mg.where(mask, x, other) or masked_fill, which keep the shape")
    return tuple(places(found) for found in np.nonzero(mask.array))


# ---- keys -------------------------------------------------------------------------------------------------------------------------
class Selection(NamedTuple):
    """A key on an array of known shape: a strided part of it, and the indices of some of that part's axes."""

    start: int
    shape: Shape
    strides: tuple[int, ...]
    indices: tuple[tuple[int, Any], ...]  # (axis of the part, index)
    front: bool  # whether the indexed axes go to the front, as NumPy's do when something stands between them


class _Truth(NamedTuple):
    """A mask without axes: a new axis, and what it selects of that."""

    index: Any


def _items(key: Any) -> list[Any]:
    """The key's items, masks given as what they select."""
    items: list[Any] = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or isinstance(item, slice | EllipsisType):
            items.append(item)
        elif isinstance(item, bool | np.bool_):
            items.append(_Truth(places([0] if item else [])))
        elif isinstance(item, int | np.integer):
            items.append(int(item))
        else:
            index = places(item)
            if index.spec.dtype.kind == "b" and not index.spec.shape:
                items.append(_Truth(*nonzero(shapes.reshape(index, shape=(1,)))))
            else:
                items.append(index)
    return items


def select(spec: Spec, key: Any) -> Selection:
    """What a key means for an array of this spec. Raises IndexRangeError, ShapeError or DtypeError."""
    items = _items(key)
    used = sum(len(i.spec.shape) if isinstance(i, Handle) and i.spec.dtype.kind == "b" else not isinstance(i, _Truth | EllipsisType | None)
               for i in items)
    rank = len(spec.shape)
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ShapeError("a key can hold one ellipsis (...) only")
    if used > rank:
        raise ShapeError(f"too many indices: {spec!r} has {rank} axes, the key names {used}")
    rest = [slice(None)] * (rank - used)
    items = [*items[:dots[0]], *rest, *items[dots[0] + 1:]] if dots else [*items, *rest]
    strides_of = rules.c_strides(spec.shape)
    start, axis = 0, 0
    shape: list[int] = []
    strides: list[int] = []
    indices: list[tuple[int, Any]] = []
    advanced: list[int] = []  # places in the key of integers and arrays
    for at, item in enumerate(items):
        if item is None or isinstance(item, _Truth):
            if item is not None:
                advanced.append(at)
                indices.append((len(shape), item.index))
            shape.append(1)
            strides.append(0)
            continue
        if isinstance(item, Handle):
            advanced.append(at)
            found: tuple[Any, ...] = (item,)
            if item.spec.dtype.kind == "b":
                wanted = spec.shape[axis:axis + len(item.spec.shape)]
                if item.spec.shape != wanted:
                    raise ShapeError(f"a mask has shape {item.spec.shape}, the axes that it selects from {wanted}")
                found = nonzero(item)
            for one in found:
                indices.append((len(shape), one))
                shape.append(spec.shape[axis])
                strides.append(strides_of[axis])
                axis += 1
            continue
        size = spec.shape[axis]
        if isinstance(item, slice):
            first, stop, by = item.indices(size)
            shape.append(len(range(first, stop, by)))
            strides.append(strides_of[axis] * by)
            start += first * strides_of[axis] if shape[-1] else 0
        else:
            advanced.append(at)
            if not -size <= item < size:
                raise IndexRangeError(f"index {item} is out of range for axis {axis} of {spec!r}: the places are {-size} to {size - 1}")
            start += item % size * strides_of[axis]
        axis += 1
    front = bool(indices) and advanced != [*range(advanced[0], advanced[-1] + 1)]
    return Selection(start if math.prod(shape) else 0, tuple(shape), tuple(strides), tuple(indices), front)


def _is_run(shape: Shape, strides: Sequence[int]) -> bool:
    """Whether the part is one run of memory in its order."""
    return math.prod(shape) <= 1 or all(n == 1 or s == c for n, s, c in zip(shape, strides, rules.c_strides(shape), strict=True))


# ---- reading ----------------------------------------------------------------------------------------------------------------------
def _part(x: Handle, chosen: Selection) -> Any:
    """The strided part: x itself, a view, or a copy."""
    if _is_run(chosen.shape, chosen.strides):
        if math.prod(chosen.shape) == x.spec.size:
            return x if chosen.shape == x.spec.shape else shapes.reshape(x, shape=chosen.shape)
        return ranges.take_range(x, start=chosen.start, shape=chosen.shape)
    return excerpt(shapes.take_strided(x, start=chosen.start, shape=chosen.shape, strides=chosen.strides), x,
                   lambda base, part: shapes.put_strided(base, part, start=chosen.start, strides=chosen.strides))


def _joined(x: Spec, indices: Sequence[tuple[int, Any]]) -> Any:
    """Indices of neighbouring axes, broadcast, as one index of their product."""
    if len(indices) == 1:
        return indices[0][1]
    every = [index.spec.shape for _, index in indices]
    try:
        shape = np.broadcast_shapes(*every)
    except ValueError:
        raise ShapeError(f"index arrays of shapes {', '.join(map(str, every))} do not broadcast together") from None
    total: Any = None
    for axis, index in indices:
        size = x.shape[axis]
        wide = index if index.spec.shape == shape else shapes.expand(index, shape=shape)
        if total is None:
            total = checked(indexing.fit_index, wide, size, wide, size=size)
        else:
            total = checked(indexing.join_index, wide, size, total, wide, size=size)
    return total


class _Rows(NamedTuple):
    """The part with the indexed axes made one: what to index, by what, and the way back."""

    x: Any
    index: Any
    axis: int
    axes: tuple[int, ...] | None  # the order that the part was brought into first
    shape: Shape  # and its shape then


def _rows(part: Any, chosen: Selection) -> _Rows:
    marked = [axis for axis, _ in chosen.indices]
    axes = None
    if chosen.front and marked != [*range(len(marked))]:
        axes = (*marked, *[a for a in range(len(chosen.shape)) if a not in marked])
        part = shapes.permute(part, axes=axes)
    first = 0 if chosen.front else marked[0]
    shape = part.spec.shape
    index = _joined(Spec.of(chosen.shape, part.spec.dtype), chosen.indices)
    if len(marked) > 1:
        part = shapes.reshape(part, shape=(*shape[:first], math.prod(shape[first:first + len(marked)]), *shape[first + len(marked):]))
    return _Rows(part, index, first, axes, shape)


def getitem(x: Handle, key: Any) -> Any:
    """x[key]: a view where integers and slices select a run of memory, else a copy."""
    chosen = select(x.spec, key)
    part = _part(x, chosen)
    if chosen.indices:
        rows = _rows(part, chosen)
        return take(rows.x, rows.index, rows.axis)
    return shapes.reshape(x, shape=x.spec.shape) if part is x else part


def take(x: Any, index: Any, axis: int) -> Any:
    """Rows of x at an index."""
    return checked(indexing.take_rows, index, x.spec.shape[axis], x, index, axis=axis)


# ---- writing ----------------------------------------------------------------------------------------------------------------------
def _fitting(value: Any, spec: Spec, shape: Shape) -> Any:
    """A value as a Tensor of this dtype and shape, repeated where needed. Raises ShapeError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        made = constant(float(value), spec.dtype)
    elif isinstance(value, Handle):
        made = value if value.spec.dtype == spec.dtype else shapes.cast(value, dtype=spec.dtype)
    elif isinstance(value, np.ndarray) and value.dtype != spec.dtype and value.dtype.isnative and value.dtype.kind in "fiub":
        native = np.ascontiguousarray(value).reshape(value.shape)
        made = shapes.cast(wrap(native, Spec.of(native.shape, native.dtype)), dtype=spec.dtype)
    else:
        array = np.asarray(value, spec.dtype)
        native = np.ascontiguousarray(array).reshape(array.shape)
        made = wrap(native, Spec.of(native.shape, native.dtype))
    given = made.spec.shape
    while len(given) > len(shape) and given[0] == 1:
        given = given[1:]
    if given != made.spec.shape:
        made = shapes.reshape(made, shape=given)
    if given == shape:
        return made
    try:
        fits = np.broadcast_shapes(given, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"cannot assign a value of shape {made.spec.shape} to a part of shape {shape}")
    return shapes.expand(made, shape=shape)


def setitem(x: Handle, key: Any, value: Any) -> None:
    """x[key] = value, in place: the memory of x and of all its views, and their graphs."""
    mask = key if isinstance(key, Handle) and key.spec.dtype.kind == "b" and key.spec.shape == x.spec.shape else None
    size = value.spec.size if isinstance(value, Handle) else np.size(value)
    if mask is not None and size == 1:
        fill = _fitting(value, x.spec, ()) if not isinstance(value, Handle) else _fitting(shapes.reshape(value, shape=()), x.spec, ())
        overwrite(x, "setitem", lambda: indexing.masked_fill(x, mask, fill))
        return
    chosen = select(x.spec, key)
    if not chosen.indices:
        if math.prod(chosen.shape) == 0:
            _fitting(value, x.spec, chosen.shape)  # raises if it does not fit
        elif _is_run(chosen.shape, chosen.strides):
            target = _part(x, chosen)
            overwrite(target, "setitem", lambda: _fitting(value, x.spec, chosen.shape))
        else:
            overwrite(x, "setitem", lambda: shapes.put_strided(x, _fitting(value, x.spec, chosen.shape), start=chosen.start, strides=chosen.strides))
        return
    overwrite(x, "setitem", _replacing(x, chosen, value))


def _replacing(x: Any, chosen: Selection, value: Any) -> Callable[[], Any]:
    """The whole of x with the rows at the indices replaced."""

    def compute() -> Any:
        part = _part(x, chosen)
        rows = _rows(part, chosen)
        places_shape = rows.index.spec.shape
        wanted = (*rows.x.spec.shape[:rows.axis], *places_shape, *rows.x.spec.shape[rows.axis + 1:])
        given = _fitting(value, x.spec, wanted)
        made = checked(indexing.put_rows, rows.index, rows.x.spec.shape[rows.axis], rows.x, rows.index, given, axis=rows.axis)
        if made.spec.shape != rows.shape:
            made = shapes.reshape(made, shape=rows.shape)
        if rows.axes is not None:
            made = shapes.permute(made, axes=shapes.inverse(rows.axes))
        if part is x or (chosen.shape == x.spec.shape and _is_run(chosen.shape, chosen.strides)):
            return made
        if _is_run(chosen.shape, chosen.strides):
            return ranges.put_range(x, made, start=chosen.start)
        return shapes.put_strided(x, made, start=chosen.start, strides=chosen.strides)

    return compute

