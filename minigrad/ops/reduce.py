"""Sums, means, and the ops that change a shape."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import scale
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import several, shaped
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import elementwise as elementwise_kernels
from minigrad_kernels import reduce as kernels

_AXES = several(shaped((3, 4, 5)), shaped((3, 4, 5), axis=0), shaped((3, 4, 5), axis=-1, keepdims=True), shaped((3, 4, 5), axis=(0, 2)),
                shaped((3, 4, 5), axis=1), shaped((2, 3, 2, 3), axis=(0, 2)), shaped((17,)), shaped((), axis=None), shaped((5000,)))


def _restore(g: Value, spec: Spec, axis: Any) -> Value:
    """A reduced gradient, repeated along the axes that were reduced."""
    rank = len(spec.shape)
    axes = range(rank) if axis is None else [a % rank for a in (axis if isinstance(axis, tuple) else (axis,))]
    kept = tuple(1 if i in axes else n for i, n in enumerate(spec.shape))
    return expand(g if g.spec.shape == kept else reshape(g, shape=kept), shape=spec.shape)


@op(kernel=kernels.sum_middle, shape=rules.reduction, samples=_AXES, flops=per_element(1))
def sum(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The sum over `axis` (all axes if None)."""
    return np.sum(x, axis=axis, keepdims=keepdims)


@sum.vjp("x")
def _(g: Value, x_spec: Spec, axis: Any) -> Value:
    return _restore(g, x_spec, axis)


@op(kernel=kernels.mean_middle, shape=rules.reduction, samples=_AXES, flops=per_element(1))
def mean(x: Value, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Value:
    """The mean over `axis` (all axes if None)."""
    return np.mean(x, axis=axis, keepdims=keepdims)


@mean.vjp("x")
def _(g: Value, x_spec: Spec, axis: Any) -> Value:
    return _restore(scale(g, by=g.spec.size / x_spec.size), x_spec, axis)


@op(shape=rules.expand, samples=several(shaped((3, 1), shape=(2, 3, 4)), shaped((), shape=(2, 3)), shaped((4,), shape=(3, 4)),
                                        shaped((2, 1, 3, 1), shape=(2, 5, 3, 7)), shaped((2, 3), shape=(2, 3))))
def expand(x: Value, *, shape: Shape) -> Value:
    """x repeated to `shape`, as numpy.broadcast_to."""
    return np.broadcast_to(x, shape)


@expand.vjp("x")
def _(g: Value) -> Value:
    return g  # the engine sums over what was repeated


@op(shape=rules.reshape, samples=several(shaped((3, 4), shape=(2, 6)), shaped((3, 4), shape=(-1,)), shaped((1,), shape=())))
def reshape(x: Value, *, shape: Shape) -> Value:
    """A view of x with another shape; one size may be -1."""
    return np.reshape(x, shape)


@reshape.vjp("x")
def _(g: Value, x_spec: Spec) -> Value:
    return reshape(g, shape=x_spec.shape)


@op(kernel=kernels.transpose, shape=rules.transpose, samples=several(shaped((3, 4)), shaped((33, 65))))
def transpose(x: Value) -> Value:
    """The transpose of a matrix, as a copy."""
    return np.transpose(x)


@transpose.vjp("x")
def _(g: Value) -> Value:
    return transpose(g)


@op(kernel=elementwise_kernels.cast, shape=rules.cast, samples=shaped((3, 4), dtype=np.float64))
def cast(x: Value, *, dtype: Any) -> Value:
    """x in another dtype, rounded to nearest."""
    return x.astype(np.result_type(dtype, x.dtype) if np.iscomplexobj(x) else dtype)


@cast.vjp("x")
def _(g: Value, x_spec: Spec) -> Value:
    return cast(g, dtype=x_spec.dtype)
