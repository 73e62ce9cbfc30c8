"""Largest and smallest values and their places. A NaN is larger and smaller than all numbers, as in NumPy."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import div, mul
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.reduce import along_axes, kept_shape, sum, with_axes
from minigrad.ops.samples import broadcasting, several, shaped
from minigrad.ops.spec import Spec
from minigrad_kernels import extrema as kernels
from minigrad_kernels import statistics

_SAMPLES = several(along_axes(), shaped((5000,)), shaped((3, 0), axis=0))


def flattened(x: Any, axis: Any) -> Any:
    """For definitions: the reduced axes as one last axis, behind the others."""
    kept = kept_shape(Spec.of(np.shape(x), np.dtype(np.float64)), axis)
    axes = range(np.ndim(x)) if axis is None else [a % np.ndim(x) for a in (axis if isinstance(axis, tuple) else (axis,))]
    behind = np.moveaxis(x, [*axes], [*range(-len(axes), 0)]) if len(axes) else np.asarray(x)[..., None]
    rest = behind.shape[:behind.ndim - max(len(axes), 1)]
    return behind.reshape(*rest, np.prod(behind.shape[len(rest):], dtype=int)), kept


def _at(place: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """For definitions: the elements of x that `place` (numpy.argmax, numpy.argmin) finds by their real parts."""
    flat, kept = flattened(x, axis)
    found = np.take_along_axis(flat, place(flat.real, axis=-1)[..., None], -1)[..., 0] if flat.size else np.zeros(flat.shape[:-1])
    return found.reshape(kept) if keepdims else found


def _shared(g: Value, x: Value, out: Value, x_spec: Spec, axis: Any) -> Value:
    """The gradient, divided evenly among the elements that are the extreme."""
    ties = equals(x, with_axes(out, x_spec, axis))
    return mul(ties, div(with_axes(g, x_spec, axis), sum(ties, axis=axis, keepdims=True)))


@op(kernel=statistics.equals, shape=rules.elementwise, flops=per_element(1), samples=several(shaped((3, 4), (3, 4)), broadcasting(-2, 2)))
def equals(x: Value, y: Value) -> Value:
    """1 where x is y or both are NaN, else 0, in their dtype; its derivative is 0."""
    return 1.0 * ((x.real == y.real) | ((x != x) & (y != y)))


@op(kernel=kernels.largest, shape=partial(rules.reduction, gives=rules.itself, empty=False), samples=_SAMPLES, flops=per_element(1))
def amax(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The largest value over `axis` (all axes if None), NaN if there is one; equal ones share the gradient, as PyTorch's amax."""
    return _at(np.argmax, x, axis, keepdims)


@amax.vjp("x")
def _(g: Value, x: Value, out: Value, x_spec: Spec, axis: Any) -> Value:
    return _shared(g, x, out, x_spec, axis)


@op(kernel=kernels.smallest, shape=partial(rules.reduction, gives=rules.itself, empty=False), samples=_SAMPLES, flops=per_element(1))
def amin(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The smallest value over `axis` (all axes if None), NaN if there is one; equal ones share the gradient, as PyTorch's amin."""
    return _at(np.argmin, x, axis, keepdims)


@amin.vjp("x")
def _(g: Value, x: Value, out: Value, x_spec: Spec, axis: Any) -> Value:
    return _shared(g, x, out, x_spec, axis)


_PLACES = several(*(shaped(shape, axis=axis, keepdims=i % 2 == 1) for i, (shape, axis) in enumerate(
    [((3, 4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), 1), ((3, 4, 5), -1), ((), None), ((131,), 0), ((67, 7), 0), ((7, 67), 1), ((0, 3), 1)])))


@op(kernel=kernels.place_of_largest, shape=rules.place, samples=_PLACES, flops=per_element(1), integers=("x",))
def argmax(x: Value, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Where along `axis` (in the flattened array if None) the first largest value or the first NaN is, in int64."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@op(kernel=kernels.place_of_smallest, shape=rules.place, samples=_PLACES, flops=per_element(1), integers=("x",))
def argmin(x: Value, *, axis: int | None = None, keepdims: bool = False) -> Value:
    """Where along `axis` (in the flattened array if None) the first smallest value or the first NaN is, in int64."""
    return np.argmin(x, axis=axis, keepdims=keepdims)
