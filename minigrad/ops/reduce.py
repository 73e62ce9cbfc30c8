"""Sums and means, and what all reductions share: shapes with reduced axes kept, gradients repeated along them."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import scale
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import Samples, several, shaped
from minigrad.ops.shape import expand, reshape
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import reduce as kernels
from minigrad_kernels.along import Kinds
from minigrad_kernels.statistics import whole_sum


def along_axes(**attributes: Any) -> Samples:
    """Cases of a reduction: one run of axes at either end and in the middle, two runs, all, none, a scalar, single elements, primes."""
    axes: list[tuple[Shape, Any]] = [((3, 4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), -1), ((3, 4, 5), (0, 2)), ((3, 4, 5), 1), ((2, 3, 2, 3), (0, 2)),
                                     ((17,), None), ((), None), ((1,), 0), ((2, 3), ()), ((7, 67), 0), ((67, 7), -1), ((1, 131), 1)]
    return several(*(shaped(shape, axis=axis, keepdims=i % 2 == 1, **attributes) for i, (shape, axis) in enumerate(axes)))


def kept_shape(spec: Spec, axis: Any) -> Shape:
    """The shape with 1 for each reduced axis."""
    rank = len(spec.shape)
    axes = range(rank) if axis is None else [a % rank for a in (axis if isinstance(axis, tuple) else (axis,))]
    return tuple(1 if i in axes else n for i, n in enumerate(spec.shape))


def with_axes(reduced: Value, spec: Spec, axis: Any) -> Value:
    """What a reduction of `spec` gave, with its axes kept, so that it broadcasts against the input."""
    shape = kept_shape(spec, axis)
    return reduced if reduced.spec.shape == shape else reshape(reduced, shape=shape)


def repeated(g: Value, spec: Spec, axis: Any) -> Value:
    """A reduced gradient, repeated along the axes that were reduced."""
    return expand(with_axes(g, spec, axis), shape=spec.shape)


@op(kernel=Kinds(kernels.sum_middle, whole_sum), shape=partial(rules.reduction, gives=rules.counted), flops=per_element(1),
    samples=several(along_axes(), shaped((5000,)), shaped((0, 3), axis=0), shaped((2, 0))))
def sum(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The sum over `axis` (all axes if None); of whole numbers and truth values in int64."""
    return np.sum(x, axis=axis, keepdims=keepdims)


@sum.vjp("x")
def _(g: Value, x_spec: Spec, axis: Any) -> Value:
    return repeated(g, x_spec, axis)


@op(kernel=kernels.sum_middle, shape=rules.over_rows, flops=per_element(1),
    samples=several(shaped((3, 4)), shaped((67, 7)), shaped((1, 131)), shaped((5, 1)), shaped((0, 3))))
def sum_rows(x: Value) -> Value:
    """The sum over the rows of a matrix: `sum` along axis 0 for the bias of each layer, without attributes to look its plan up by."""
    return np.sum(x, axis=0)


@sum_rows.vjp("x")
def _(g: Value, x_spec: Spec) -> Value:
    return repeated(g, x_spec, 0)


@op(kernel=kernels.mean_middle, shape=rules.reduction, samples=several(along_axes(), shaped((5000,)), shaped((0, 3), axis=1)), flops=per_element(1))
def mean(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The mean over `axis` (all axes if None); NaN of nothing."""
    total = np.sum(x, axis=axis, keepdims=keepdims)
    with np.errstate(invalid="ignore"):
        return total / np.float64(np.size(x) / max(np.size(total), 1))


@mean.vjp("x")
def _(g: Value, x_spec: Spec, axis: Any) -> Value:
    return repeated(scale(g, by=g.spec.size / max(x_spec.size, 1)), x_spec, axis)
