"""A run of neighbouring elements of an array's memory: a view of it, and the array with that run replaced."""
from __future__ import annotations

import math

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op
from minigrad.ops.samples import several, shaped
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import ranges as kernels


def _inside(op: Op, spec: Spec, start: int, size: int) -> None:
    if not 0 <= start <= start + size <= spec.size:
        raise ShapeError(f"{op.name}: elements {start} to {start + size} are not inside {spec!r}, which has {spec.size}")


def _take(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    start, shape = attributes["start"], tuple(attributes["shape"])
    _inside(op, specs[0], start, math.prod(shape))
    return Plan((specs[0].with_shape(shape),), (), alias=0, start=start)


def _put(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    dtype, (x, value), start = rules.same_dtype(op, specs), specs, attributes["start"]
    _inside(op, x, start, value.size)
    how = rules.layout("x[n] value[m] start:i out[n]")
    return Plan((x,), (rules.step(op.kernel, how, [dtype] * 3, [0, 1, 2], {"n": x.size, "m": value.size}, {"start": start}),))


@op(shape=_take, samples=several(shaped((4, 5), start=5, shape=(2, 5)), shaped((7,), start=0, shape=()), shaped((3, 2), start=1, shape=(4,))))
def take_range(x: Value, *, start: int, shape: Shape) -> Value:
    """A view, of `shape`, of the elements of x from `start` on, in C order."""
    return np.reshape(x, -1)[start:start + math.prod(shape)].reshape(shape)


@take_range.vjp("x")
def _(g: Value, x_spec: Spec, start: int) -> Value:
    return place_range(g, start=start, shape=x_spec.shape)


@op(kernel=kernels.put_range, shape=_put, samples=several(shaped((4, 5), (2, 5), start=5), shaped((7,), (), start=3)))
def put_range(x: Value, value: Value, *, start: int) -> Value:
    """x with the elements from `start` on, in C order, replaced by those of `value`."""
    out = np.array(x, np.result_type(x, value))
    out.reshape(-1)[start:start + np.size(value)] = np.reshape(value, -1)
    return out


@put_range.vjp("x")
def _(g: Value, value_spec: Spec, start: int) -> Value:
    return clear_range(g, start=start, size=value_spec.size)


@put_range.vjp("value")
def _(g: Value, value_spec: Spec, start: int) -> Value:
    return take_range(g, start=start, shape=value_spec.shape)


def _place(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    (value,), start = specs, attributes["start"]
    out = value.with_shape(tuple(attributes["shape"]))
    _inside(op, out, start, value.size)
    how = rules.layout("value[m] start:i out[n]")
    return Plan((out,), (rules.step(op.kernel, how, [value.dtype] * 2, [0, 1], {"n": out.size, "m": value.size}, {"start": start}),))


def _clear(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    (x,), start, size = specs, attributes["start"], attributes["size"]
    _inside(op, x, start, size)
    how = rules.layout("x[n] start:i size:i out[n]")
    return Plan((x,), (rules.step(op.kernel, how, [x.dtype] * 2, [0, 1], {"n": x.size}, {"start": start, "size": size}),))


@op(kernel=kernels.place_range, shape=_place, samples=several(shaped((2, 5), start=5, shape=(4, 5)), shaped((), start=3, shape=(7,))))
def place_range(value: Value, *, start: int, shape: Shape) -> Value:
    """Zeros of `shape` with the elements of `value` from `start` on, in C order."""
    out = np.zeros(math.prod(shape), np.asarray(value).dtype)
    out[start:start + np.size(value)] = np.reshape(value, -1)
    return out.reshape(shape)


@place_range.vjp("value")
def _(g: Value, value_spec: Spec, start: int) -> Value:
    return take_range(g, start=start, shape=value_spec.shape)


@op(kernel=kernels.clear_range, shape=_clear, samples=several(shaped((4, 5), start=5, size=10), shaped((7,), start=3, size=1)))
def clear_range(x: Value, *, start: int, size: int) -> Value:
    """x with `size` elements from `start` on, in C order, set to zero."""
    out = np.array(x)
    out.reshape(-1)[start:start + size] = 0
    return out


@clear_range.vjp("x")
def _(g: Value, start: int, size: int) -> Value:
    return clear_range(g, start=start, size=size)
