"""Sums and means."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import scale
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import several, shaped
from minigrad.ops.shape import expand, reshape
from minigrad.ops.spec import Spec
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
