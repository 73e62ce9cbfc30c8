"""Views and copies of a Tensor in other shapes and orders, and what stands in brackets behind one.

A Tensor is C-contiguous. What selects a run of its memory in its order is a view: reshape, view, flatten, ravel, squeeze, unsqueeze, x[3], x[2:5],
x[0, 1:4]. A view shares memory and version with its base, and gradients follow what is written through either. What changes the order
of elements is a copy: permute, transpose, swapaxes, movedim, .T, flip, slices with steps or of inner axes, index arrays, masks.
"""
from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.errors import AxisError, ShapeError
from minigrad.ops import indexing as rows
from minigrad.ops import shape as shapes
from minigrad.ops.elementwise import add, clone
from minigrad.ops.joining import cat, narrow
from minigrad.ops.rules import c_strides
from minigrad.ops.spec import Shape
from minigrad.tape.handle import Handle, excerpt
from minigrad.tape.indexing import checked, getitem, nonzero, places, setitem, take
from minigrad.tape.inplace import overwrite

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


def sizes(shape: Sequence[Any]) -> Shape:
    """A shape from what a method was given: sizes, or one sequence of them."""
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    return tuple(operator.index(n) for n in given)


def axis_of(rank: int, axis: Any, name: str) -> int:
    """The axis counted from the front. Raises AxisError."""
    at = operator.index(axis)
    if not -rank <= at < rank:
        raise AxisError(f"{name}: axis {at} does not exist: there are axes {-rank} to {rank - 1}" if rank else f"{name}: a scalar has no axes")
    return at % rank


class Shaping(Handle):
    """Shapes, order and parts of a Tensor."""

    __slots__ = ()

    def _base(self) -> Any:
        """What views are taken of: itself, but for gradients."""
        return self

    # ---- views
    def reshape(self, *shape: Any) -> Tensor:
        """A view with another shape; one size may be -1."""
        return shapes.reshape(self._base(), shape=sizes(shape))  # type: ignore[no-any-return]

    view = reshape

    def reshape_as(self, other: Handle) -> Tensor:
        """A view with the shape of `other`."""
        return self.reshape(other.spec.shape)

    view_as = reshape_as

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """A view with the axes from `start_dim` to `end_dim` made one; a scalar becomes one element."""
        shape = self.spec.shape or (1,)
        first, last = axis_of(len(shape), start_dim, "flatten"), axis_of(len(shape), end_dim, "flatten")
        if first > last:
            raise AxisError(f"flatten: start_dim {start_dim} is behind end_dim {end_dim}")
        return self.reshape((*shape[:first], math.prod(shape[first:last + 1]), *shape[last + 1:]))

    def ravel(self) -> Tensor:
        """A view with one axis."""
        return self.reshape((self.spec.size,))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """A view with axis `dim` split into several, of which one size may be -1."""
        shape = self.spec.shape
        at, parts = axis_of(len(shape), dim, "unflatten"), list(sizes)
        known = math.prod(n for n in parts if n != -1)
        if parts.count(-1) == 1 and known:
            parts[parts.index(-1)] = shape[at] // known
        if math.prod(parts) != shape[at]:
            raise ShapeError(f"unflatten: sizes {tuple(sizes)} do not make up the {shape[at]} of axis {at}")
        return self.reshape((*shape[:at], *parts, *shape[at + 1:]))

    def squeeze(self, dim: Any = None) -> Tensor:
        """A view without the axes of size 1, or without those of size 1 among `dim`."""
        shape = self.spec.shape
        wanted = range(len(shape)) if dim is None else [axis_of(len(shape), d, "squeeze") for d in (dim if isinstance(dim, tuple | list) else (dim,))]
        return self.reshape(tuple(n for i, n in enumerate(shape) if n != 1 or i not in wanted))

    def unsqueeze(self, dim: Any) -> Tensor:
        """A view with a new axis of size 1 at `dim` of the result; several with a tuple, as numpy.expand_dims."""
        dims = dim if isinstance(dim, tuple | list) else (dim,)
        rank = len(self.spec.shape) + len(dims)
        new = {axis_of(rank, d, "unsqueeze") for d in dims}
        if len(new) < len(dims):
            raise AxisError(f"unsqueeze: {tuple(dims)} names one axis twice")
        left = iter(self.spec.shape)
        return self.reshape(tuple(1 if i in new else next(left) for i in range(rank)))

    expand_dims = unsqueeze

    # ---- repetition
    def expand(self, *shape: Any) -> Tensor:
        """The values repeated to a shape, as numpy.broadcast_to; -1 keeps a size. A copy where something is repeated."""
        wanted = sizes(shape)
        lead = len(wanted) - len(self.spec.shape)
        return shapes.expand(self._base(), shape=tuple(  # type: ignore[no-any-return]
            self.spec.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted)))

    broadcast_to = expand

    def expand_as(self, other: Handle) -> Tensor:
        """The values repeated to the shape of `other`."""
        return self.expand(other.spec.shape)

    def repeat(self, *counts: Any) -> Tensor:
        """A copy repeated `counts` times along each axis; counts in front make new axes. As torch.Tensor.repeat."""
        times = sizes(counts)
        lead = len(times) - len(self.spec.shape)
        if lead < 0 or any(n < 0 for n in times):
            raise ShapeError(f"repeat: {times} needs a count, not negative, for each of the {len(self.spec.shape)} axes")
        shape = (*(1,) * lead, *self.spec.shape)
        spread = tuple(n for size in shape for n in (1, size))
        wide = shapes.expand(self._base().reshape(spread), shape=tuple(n for k, size in zip(times, shape, strict=True) for n in (k, size)))
        whole: Tensor = shapes.reshape(wide, shape=tuple(k * size for k, size in zip(times, shape, strict=True)))
        return whole if whole.spec.size != self.spec.size else whole.clone()

    def tile(self, *counts: Any) -> Tensor:
        """As `repeat`; counts that are missing in front are 1."""
        times = sizes(counts)
        return self.repeat((1,) * (len(self.spec.shape) - len(times)) + times)

    # ---- order
    def permute(self, *axes: Any) -> Tensor:
        """A copy with the axes in another order."""
        return excerpt(shapes.permute(self, axes=sizes(axes)))  # type: ignore[no-any-return]

    def transpose(self, *axes: Any) -> Tensor:
        """A copy: two axes swapped if two are given, all reversed if none is, as PyTorch's and NumPy's; or an order of all."""
        rank = len(self.spec.shape)
        if not axes:
            return self.permute(tuple(range(rank))[::-1])
        order = sizes(axes)
        if len(order) == 2 and len(axes) == 2:
            return self.swapaxes(*order)
        return self.permute(order)

    def swapaxes(self, axis0: int, axis1: int) -> Tensor:
        """A copy with two axes swapped."""
        order = list(range(len(self.spec.shape)))
        a, b = axis_of(len(order), axis0, "swapaxes"), axis_of(len(order), axis1, "swapaxes")
        order[a], order[b] = order[b], order[a]
        if len(order) == 2 and a != b:
            return excerpt(shapes.transpose(self))  # type: ignore[no-any-return]
        return self.permute(order)

    swapdims = swapaxes

    def t(self) -> Tensor:
        """A copy of a matrix with its axes swapped."""
        if len(self.spec.shape) > 2:
            raise ShapeError(f"t: expected at most 2 axes, got {self.spec!r}: use transpose(dim0, dim1)")
        return self.T

    def movedim(self, source: Any, destination: Any) -> Tensor:
        """A copy with axes moved from `source` to `destination`, the others in their order; as numpy.moveaxis."""
        rank = len(self.spec.shape)
        old = [axis_of(rank, a, "movedim") for a in (source if isinstance(source, tuple | list) else (source,))]
        new = [axis_of(rank, a, "movedim") for a in (destination if isinstance(destination, tuple | list) else (destination,))]
        if len(old) != len(new) or len(set(old)) < len(old) or len(set(new)) < len(new):
            raise AxisError(f"movedim: {source} and {destination} must name as many axes, each once")
        rest = iter(a for a in range(rank) if a not in old)
        at = dict(zip(new, old, strict=True))
        return self.permute(tuple(at[i] if i in at else next(rest) for i in range(rank)))

    moveaxis = movedim

    @property
    def T(self) -> Tensor:  # noqa: N802  NumPy's name
        """A copy with the axes reversed: the transpose of a matrix."""
        return excerpt(shapes.transpose(self)) if len(self.spec.shape) == 2 else self.transpose()

    @property
    def mT(self) -> Tensor:  # noqa: N802  NumPy's name
        """A copy with the last two axes swapped."""
        return self.swapaxes(-2, -1)

    def flip(self, *dims: Any) -> Tensor:
        """A copy with the order along the axes reversed; all axes if none is given."""
        shape = self.spec.shape
        turned = {axis_of(len(shape), d, "flip") for d in sizes(dims)} if dims else set(range(len(shape)))
        turned -= {i for i in turned if shape[i] == 1}
        if not turned or 0 in shape:
            return clone(self)  # type: ignore[no-any-return]
        strides = c_strides(shape)
        last = builtins.sum((shape[i] - 1) * strides[i] for i in turned)
        # Not as a slice, which writes would go through.
        return shapes.take_strided(self, start=last, shape=shape,  # type: ignore[no-any-return]
                                   strides=tuple(-s if i in turned else s for i, s in enumerate(strides)))

    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        """A copy with the elements moved `shifts` places along the axes, those that fall out coming in again; of the flat order without axes."""
        if dims is None:
            return self.ravel().roll(shifts, 0).reshape(self.spec.shape)
        made: Any = self
        steps, axes = (x if isinstance(x, tuple | list) else (x,) for x in (shifts, dims))
        if len(steps) != len(axes):
            raise AxisError(f"roll: {shifts} and {dims} must name as many shifts as axes")
        for by, dim in zip(steps, axes, strict=True):
            at = axis_of(len(self.spec.shape), dim, "roll")
            size = self.spec.shape[at]
            cut = -by % size if size else 0
            if cut:
                made = cat([narrow(made, at, cut, size - cut), narrow(made, at, 0, cut)], at)
        return clone(made) if made is self else made  # type: ignore[no-any-return]

    # ---- parts
    def __getitem__(self, key: Any) -> Tensor:
        """A part: a view for integers and slices that select a run of memory, else a copy. As NumPy, masks and index arrays included."""
        return getitem(self._base(), key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write values into a part, in place; they are repeated to its shape and converted to its dtype."""
        setitem(self, key, value)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.spec.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind())

    def __contains__(self, value: Any) -> builtins.bool:
        found = np.asarray(value.detach() if isinstance(value, Handle) else value)  # type: ignore[attr-defined]
        return bool((np.asarray(self.detach()) == found).any())  # type: ignore[attr-defined]

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The parts along an axis, without it: views for the first axis."""
        at = axis_of(len(self.spec.shape), dim, "unbind")
        return tuple(self[(*(slice(None),) * at, i)] for i in range(self.spec.shape[at]))

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` places along an axis from `start` on: a view where they are a run of memory."""
        at = axis_of(len(self.spec.shape), dim, "narrow")
        size = self.spec.shape[at]
        first = start + size if start < 0 else start
        if not 0 <= first <= first + length <= size:
            raise ShapeError(f"narrow: {length} places from {start} on are not inside axis {at} of size {size}")
        return excerpt(narrow(self._base(), at, first, length))  # type: ignore[no-any-return]

    def select(self, dim: int, index: int) -> Tensor:
        """The place `index` of an axis, without it."""
        at = axis_of(len(self.spec.shape), dim, "select")
        return self[(*(slice(None),) * at, index)]

    def split(self, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Parts along an axis: of one size, the last one smaller if need be, or of these sizes. Views for the first axis."""
        at = axis_of(len(self.spec.shape), dim, "split")
        size = self.spec.shape[at]
        if isinstance(split_size, tuple | list):
            parts = [operator.index(n) for n in split_size]
            if builtins.sum(parts) != size or builtins.any(n < 0 for n in parts):
                raise ShapeError(f"split: sizes {tuple(parts)} do not add up to the {size} of axis {at}")
        else:
            each = operator.index(split_size)
            if each < 1:
                raise ShapeError(f"split: parts of size {each}; at least 1 is needed")
            parts = [min(each, size - i) for i in range(0, size, each)] or [0]
        starts = [builtins.sum(parts[:i]) for i in range(len(parts))]
        return tuple(self.narrow(at, start, n) for start, n in zip(starts, parts, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` parts of one size, the last one smaller if need be; as torch.chunk."""
        if chunks < 1:
            raise ShapeError(f"chunk: {chunks} chunks; at least 1 is needed")
        size = self.spec.shape[axis_of(len(self.spec.shape), dim, "chunk")]
        return self.split(max(1, -(-size // chunks)), dim)

    # ---- by index
    def index_select(self, dim: int, index: Any) -> Tensor:
        """The rows at an integer index of one axis, along `dim`."""
        return take(self._base(), places(index), axis_of(len(self.spec.shape), dim, "index_select"))  # type: ignore[no-any-return]

    def index_add(self, dim: int, index: Any, source: Any) -> Tensor:
        """A copy with the rows of `source` added at an integer index along `dim`; equal places add up."""
        at, where = axis_of(len(self.spec.shape), dim, "index_add"), places(index)
        placed = checked(rows.place_rows, where, self.spec.shape[at], source, where, shape=self.spec.shape, axis=at)
        return add(self, placed)  # type: ignore[no-any-return]

    def gather(self, dim: int, index: Any) -> Tensor:
        """out[i][j] = x[index[i][j]][j] for dim 0, and so on: the index has x's axes, and no larger sizes but along `dim`."""
        at, where = axis_of(len(self.spec.shape), dim, "gather"), places(index)
        x = self._base()
        if len(where.spec.shape) == len(self.spec.shape):
            for axis, n in enumerate(where.spec.shape):
                if axis != at and n < x.spec.shape[axis]:
                    x = narrow(x, axis, 0, n)
        return checked(rows.gather_along, where, self.spec.shape[at], x, where, axis=at)  # type: ignore[no-any-return]

    def take_along_dim(self, index: Any, dim: int) -> Tensor:
        """As `gather`, x and index repeated against each other along the other axes; as numpy.take_along_axis."""
        rank, where = len(self.spec.shape), places(index)
        at = axis_of(rank, dim, "take_along_dim")
        if len(where.spec.shape) != rank:
            raise ShapeError(f"take_along_dim: the index has {len(where.spec.shape)} axes, x has {rank}")
        other = [tuple(1 if i == at else n for i, n in enumerate(t.spec.shape)) for t in (self, where)]
        common = np.broadcast_shapes(*other)
        x, where = (shapes.expand(t, shape=(*common[:at], t.spec.shape[at], *common[at + 1:])) for t in (self._base(), where))
        return checked(rows.gather_along, where, x.spec.shape[at], x, where, axis=at)  # type: ignore[no-any-return]

    def scatter_add(self, dim: int, index: Any, src: Any) -> Tensor:
        """A copy to which src[i][j] is added at [index[i][j]][j] for dim 0, and so on; equal places add up in their order."""
        at, where = axis_of(len(self.spec.shape), dim, "scatter_add"), places(index)
        shape, given = self.spec.shape, where.spec.shape
        if len(given) != len(shape) or len(src.spec.shape) != len(shape) or builtins.any(
                n > m or (i != at and n > k) for i, (n, m, k) in enumerate(zip(given, src.spec.shape, shape, strict=True))):
            raise ShapeError(f"scatter_add: index {given} is larger than src {src.spec.shape} or, but for axis {at}, than x {shape}")
        for axis, n in enumerate(given):
            src = narrow(src, axis, 0, n)
        placed = checked(rows.scatter_along, where, shape[at], src, where, axis=at, size=shape[at])
        if placed.spec.shape != shape:
            placed = shapes.place_strided(placed, start=0, shape=shape, strides=tuple(math.prod(shape[i + 1:]) for i in range(len(shape))))
        return add(self, placed)  # type: ignore[no-any-return]

    def scatter_add_(self, dim: int, index: Any, src: Any) -> Tensor:
        """`scatter_add` in place; returns itself."""
        return overwrite(self, "scatter_add_", lambda: self.scatter_add(dim, index, src))  # type: ignore[no-any-return]

    def index_add_(self, dim: int, index: Any, source: Any) -> Tensor:
        """`index_add` in place; returns itself."""
        return overwrite(self, "index_add_", lambda: self.index_add(dim, index, source))  # type: ignore[no-any-return]

    # ---- masks
    def masked_fill(self, mask: Any, value: Any) -> Tensor:
        """A copy with `value`, a number or one element, where the mask, repeated to the shape, is set."""
        where = places(mask)
        if where.spec.shape != self.spec.shape:
            where = shapes.expand(where, shape=self.spec.shape)
        return rows.masked_fill(self, where, value)  # type: ignore[no-any-return]

    def masked_fill_(self, mask: Any, value: Any) -> Tensor:
        """`masked_fill` in place; returns itself."""
        return overwrite(self, "masked_fill_", lambda: self.masked_fill(mask, value))  # type: ignore[no-any-return]

    def masked_select(self, mask: Any) -> Tensor:
        """The elements where the mask is set, with one axis. Not inside a captured step: their number depends on values."""
        where = places(mask)
        shape = np.broadcast_shapes(self.spec.shape, where.spec.shape)
        x, where = (t if t.spec.shape == shape else shapes.expand(t, shape=shape) for t in (self._base(), where))
        (found,) = nonzero(shapes.reshape(where, shape=(where.spec.size,)))
        return take(shapes.reshape(x, shape=(x.spec.size,)), found, 0)  # type: ignore[no-any-return]
