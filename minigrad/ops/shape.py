"""Ops that change a shape, the order of elements, or the dtype."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.ops import rules
from minigrad.ops.op import Value, op
from minigrad.ops.samples import Case, several, shaped
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


@op(shape=rules.permute, samples=several(shaped((2, 3, 4), axes=(2, 0, 1)), shaped((3, 4), axes=(0, 1)), shaped((2, 3, 4, 5), axes=(0, 2, 1, 3)),
                                         shaped((33, 5, 35), axes=(2, -2, 0)), shaped((2, 3, 2, 3, 2, 3), axes=(5, 3, 1, 4, 2, 0)),
                                         shaped((), axes=())))
def permute(x: Value, *, axes: tuple[int, ...]) -> Value:
    """x with its axes in another order, as a copy; each axis is named once."""
    return np.transpose(x, axes)


@permute.vjp("x")
def _(g: Value, axes: tuple[int, ...]) -> Value:
    return permute(g, axes=inverse(axes))


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes `axes`."""
    rank = len(axes)
    return tuple(sorted(range(rank), key=lambda i: axes[i] % rank))


# ---- slices ------------------------------------------------------------------------------------------------------------------------
def _window(x: Value, start: int, shape: Shape, strides: Sequence[int]) -> Value:
    """A view of a contiguous array's elements; strides in elements."""
    flat = np.reshape(x, -1)
    if math.prod(shape) == 0:
        return np.zeros(shape, flat.dtype)
    return as_strided(flat[start:], shape, [s * flat.itemsize for s in strides])


def _slices(rng: np.random.Generator) -> Iterator[Case]:
    """Arrays and the geometry of parts of them, with another array for the part."""
    for whole, start, shape, strides in (((4, 5), 1, (4, 2), (5, 2)), ((4, 5), 19, (5, 4), (-1, -5)), ((7,), 6, (4,), (-2,)),
                                         ((3, 4, 5), 2, (3, 1, 3), (20, 5, 1)), ((2, 3, 2, 3, 2), 70, (2, 3, 2, 3, 2), (-36, -12, -6, -2, 1)),
                                         ((6,), 2, (), ()), ((4, 5), 0, (0, 2), (5, 1))):
        yield (rng.uniform(-2, 2, whole), rng.uniform(-2, 2, shape)), {"start": start, "shape": shape, "strides": strides}


def _takes(rng: np.random.Generator) -> Iterator[Case]:
    for (x, _), where in _slices(rng):
        yield (x,), where


def _places(rng: np.random.Generator) -> Iterator[Case]:
    for at, ((x, value), where) in enumerate(_slices(rng)):
        yield (value,), {**where, "shape": x.shape, **({"fill": 0.5} if at == 1 else {})}


def _puts(rng: np.random.Generator) -> Iterator[Case]:
    for arrays, where in _slices(rng):
        yield arrays, {"start": where["start"], "strides": where["strides"]}


@op(shape=rules.take_strided, samples=_takes)
def take_strided(x: Value, *, start: int, shape: Shape, strides: tuple[int, ...]) -> Value:
    """A copy, of `shape`, of the elements of x at start + i * strides, counted in C order; no element twice."""
    return np.array(_window(x, start, shape, strides))


@take_strided.vjp("x")
def _(g: Value, x_spec: Spec, start: int, strides: tuple[int, ...]) -> Value:
    return place_strided(g, start=start, shape=x_spec.shape, strides=strides)


@op(shape=rules.place_strided, samples=_places)
def place_strided(value: Value, *, start: int, shape: Shape, strides: tuple[int, ...], fill: float = 0.0) -> Value:
    """`shape` full of `fill`, with the elements of `value` at start + i * strides."""
    out = np.full(shape, fill, np.asarray(value).dtype)
    _window(out, start, np.shape(value), strides)[...] = value
    return out


@place_strided.vjp("value")
def _(g: Value, value_spec: Spec, start: int, strides: tuple[int, ...]) -> Value:
    return take_strided(g, start=start, shape=value_spec.shape, strides=strides)


@op(shape=rules.put_strided, samples=_puts)
def put_strided(x: Value, value: Value, *, start: int, strides: tuple[int, ...]) -> Value:
    """x with its elements at start + i * strides replaced by those of `value`."""
    out = np.array(x, np.result_type(x, value))
    _window(out, start, np.shape(value), strides)[...] = value
    return out


@put_strided.vjp("x")
def _(g: Value, value_spec: Spec, start: int, strides: tuple[int, ...]) -> Value:
    return clear_strided(g, start=start, shape=value_spec.shape, strides=strides)


@put_strided.vjp("value")
def _(g: Value, value_spec: Spec, start: int, strides: tuple[int, ...]) -> Value:
    return take_strided(g, start=start, shape=value_spec.shape, strides=strides)


@op(shape=rules.clear_strided, samples=_takes)
def clear_strided(x: Value, *, start: int, shape: Shape, strides: tuple[int, ...]) -> Value:
    """x with zeros at start + i * strides for i in `shape`."""
    out = np.array(x)
    _window(out, start, shape, strides)[...] = 0
    return out


@clear_strided.vjp("x")
def _(g: Value, start: int, shape: Shape, strides: tuple[int, ...]) -> Value:
    return clear_strided(g, start=start, shape=shape, strides=strides)


@op(kernel=elementwise.cast, shape=rules.cast, samples=shaped((3, 4), dtype=np.float64))
def cast(x: Value, *, dtype: Any) -> Value:
    """x in another dtype, rounded to nearest."""
    return x.astype(np.result_type(dtype, x.dtype) if np.iscomplexobj(x) else dtype)


@cast.vjp("x")
def _(g: Value, x_spec: Spec) -> Value:
    return cast(g, dtype=x_spec.dtype)
