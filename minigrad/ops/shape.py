"""Ops that change a shape, the order of elements, or the dtype."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.op import Value, op
from minigrad.ops.samples import several, shaped
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import elementwise, reduce


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


@op(kernel=reduce.transpose, shape=rules.transpose, samples=several(shaped((3, 4)), shaped((33, 65))))
def transpose(x: Value) -> Value:
    """The transpose of a matrix, as a copy."""
    return np.transpose(x)


@transpose.vjp("x")
def _(g: Value) -> Value:
    return transpose(g)


@op(kernel=elementwise.cast, shape=rules.cast, samples=shaped((3, 4), dtype=np.float64))
def cast(x: Value, *, dtype: Any) -> Value:
    """x in another dtype, rounded to nearest."""
    return x.astype(np.result_type(dtype, x.dtype) if np.iscomplexobj(x) else dtype)


@cast.vjp("x")
def _(g: Value, x_spec: Spec) -> Value:
    return cast(g, dtype=x_spec.dtype)
