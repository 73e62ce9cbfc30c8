"""Normalisation over the batch, forward, backward and with given statistics, and what running statistics become of it.

S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift", ICML 2015.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import rules
from minigrad.ops.elementwise import add, div, mul, neg, scale, sub
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.ranges import take_range
from minigrad.ops.reduce import mean as average
from minigrad.ops.reduce import sum as total
from minigrad.ops.samples import Samples, several, shaped
from minigrad.ops.shape import reshape
from minigrad.ops.spec import Spec
from minigrad.ops.standard import centred, curved, ones, turned, unit, zeros
from minigrad_kernels import normalize, normalize_runs

SHAPES = ((5, 3), (4, 17), (2, 3, 5), (2, 2, 19), (3, 1), (1, 2, 3))


class Kernels(NamedTuple):
    """Of (rows, columns), and of (items, channels, length)."""

    columns: Any
    channels: Any


def _channels(rank: int) -> tuple[int, ...]:
    """The axes that a batch of this rank is normalised over."""
    return (0,) if rank == 2 else (0, 2)


def _per_channel(x: Value, rank: int) -> Value:
    """A value for each channel, in a shape that broadcasts along a batch of this rank."""
    return x if rank == 2 else reshape(x, shape=(*x.spec.shape, 1))


def _batch(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Batches x (and grad), and for each channel a number in every other input -> a batch, or a number for each channel."""
    dtype = rules.same_float(op, specs)
    shape = next(spec.shape for name, spec in zip(op.inputs, specs, strict=True) if name == "x")
    if len(shape) not in (2, 3):
        raise ShapeError(f"{op.name}: expected 2D or 3D input (got {len(shape)}D input): x is (batch, features) or (batch, channels, length), "
                         f"got {rules.listed(op, specs)}")
    for name, spec in zip(op.inputs, specs, strict=True):
        if name not in ("grad", "x") and spec.shape != shape[1:2]:
            raise ShapeError(f"{op.name}: expected {spec.shape[0] if len(spec.shape) == 1 else spec.shape} features, got {shape[1]} "
                             f"(got {rules.listed(op, specs)}): make the layer for {shape[1]} features")
        if name == "grad" and spec.shape != shape:
            raise ShapeError(f"{op.name}: grad and x need one shape, got {rules.listed(op, specs)}")
    outs = {"batch_moments": (2, shape[1]), "batch_norm_scale_grad": shape[1:2]}
    out = Spec.of(outs.get(op.name, shape), dtype)
    rows, channels, length = (*shape, 1)[:3]
    batch = "(r,c)" if length == 1 else "(r,c,l)"
    texts = [f"{name}{batch if name in ('grad', 'x') else '[c]'}" for name in op.inputs]
    texts += [f"{name}:f" for name in op.defaults]
    texts.append({"batch_moments": "out(2,c)", "batch_norm_scale_grad": "out[c]"}.get(op.name, f"out{batch}"))
    kernel = op.kernel.columns if length == 1 else op.kernel.channels
    call = rules.step(kernel, rules.layout(" ".join(texts), "c"), [dtype] * (len(specs) + 1), range(len(specs) + 1),
                      {"r": rows, "c": channels, "l": length}, attributes, op.flops(specs, attributes))
    return Plan((out,), (call,))


def _batches(*inputs: str, **attributes: Any) -> Samples:
    """A batch of every shape for inputs grad and x, positive numbers for a variance, and numbers of both signs for the others."""

    def cases(rng: np.random.Generator) -> Any:
        for shape in SHAPES:
            low = {"variance": 0.5}
            yield tuple(rng.uniform(low.get(name, -2), 2, shape if name in ("grad", "x") else shape[1]) for name in inputs), attributes

    return cases


def _spread(x: Value, rank: int) -> Value:
    """In NumPy: `_per_channel`."""
    return x if rank == 2 else x[:, None]


# ---- over the batch --------------------------------------------------------------------------------------------------------------
@op(kernel=Kernels(normalize.normalize_columns, normalize_runs.normalize_channels), shape=_batch, samples=_batches("x", "weight", "bias", eps=0.1),
    flops=per_element(8))
def batch_norm(x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance of each channel of x (batch, channels[, length])."""
    axes = _channels(np.ndim(x))
    return unit(x, axes, eps)[0] * _spread(weight, np.ndim(x)) + _spread(bias, np.ndim(x))


@batch_norm.vjp("x")
def _(g: Value, x: Value, weight: Value, eps: float) -> Value:
    return batch_norm_grad(g, x, weight, eps=eps)


@batch_norm.vjp("weight")
def _(g: Value, x: Value, eps: float) -> Value:
    return batch_norm_scale_grad(g, x, eps=eps)


@batch_norm.vjp("bias")
def _(g: Value, x_spec: Spec) -> Value:
    return total(g, axis=_channels(len(x_spec.shape)))


@op(kernel=Kernels(normalize.normalize_columns_grad, normalize_runs.normalize_channels_grad), shape=_batch,
    samples=_batches("grad", "x", "weight", eps=0.1), flops=per_element(14))
def batch_norm_grad(grad: Value, x: Value, weight: Value, *, eps: float) -> Value:
    """The gradient of `batch_norm` for x."""
    return _spread(weight, np.ndim(x)) * turned(grad, x, _channels(np.ndim(x)), eps)


@batch_norm_grad.vjp("grad")
def _(g: Value, x: Value, weight: Value, eps: float) -> Value:
    return batch_norm_grad(g, x, weight, eps=eps)


@batch_norm_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, weight: Value, eps: float) -> Value:
    rank = len(x.spec.shape)
    normal = batch_norm(x, ones(weight), zeros(weight), eps=eps)
    return curved(g, mul(grad, _per_channel(weight, rank)), x, normal, _channels(rank), eps)


@batch_norm_grad.vjp("weight")
def _(g: Value, grad: Value, x: Value, weight: Value, eps: float) -> Value:
    return total(mul(g, batch_norm_grad(grad, x, ones(weight), eps=eps)), axis=_channels(len(x.spec.shape)))


@op(kernel=Kernels(normalize.scale_columns_grad, normalize_runs.scale_channels_grad), shape=_batch, samples=_batches("grad", "x", eps=0.1),
    flops=per_element(10))
def batch_norm_scale_grad(grad: Value, x: Value, *, eps: float) -> Value:
    """The gradient of `batch_norm` for its weight: the sum of grad times the normalised x, for each channel."""
    axes = _channels(np.ndim(x))
    return np.sum(grad * unit(x, axes, eps)[0], axis=axes)


@batch_norm_scale_grad.vjp("grad")
def _(g: Value, x: Value, eps: float) -> Value:
    return batch_norm(x, g, zeros(g), eps=eps)


@batch_norm_scale_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, eps: float) -> Value:
    return batch_norm_grad(grad, x, g, eps=eps)


@op(kernel=Kernels(normalize.moments_columns, normalize_runs.moments_channels), shape=_batch,
    samples=several(*(shaped(shape) for shape in (*SHAPES, (2, 3)) if math.prod(shape) > shape[1])), flops=per_element(4))
def batch_moments(x: Value) -> Value:
    """(2, channels): the mean of each channel, and its variance with one degree of freedom less than numbers."""
    axes = _channels(np.ndim(x))
    distance = centred(x, axes)
    return np.stack([np.mean(x, axis=axes), np.sum(distance * distance, axis=axes) / (np.size(x) // max(1, np.shape(x)[1]) - 1)])


@batch_moments.vjp("x")
def _(g: Value, x: Value, x_spec: Spec) -> Value:
    rank, channels = len(x_spec.shape), x_spec.shape[1:2]
    numbers = x_spec.size // max(1, channels[0])
    first, second = (_per_channel(take_range(g, start=i * channels[0], shape=channels), rank) for i in (0, 1))
    distance = sub(x, average(x, axis=_channels(rank), keepdims=True))
    return add(mul(distance, scale(second, by=2 / (numbers - 1) if numbers > 1 else math.nan)), scale(first, by=1 / max(1, numbers)))


@op(kernel=Kernels(normalize.apply_columns, normalize_runs.apply_channels), shape=_batch,
    samples=_batches("x", "mean", "variance", "weight", "bias", eps=0.1), flops=per_element(8))
def batch_norm_by(x: Value, mean: Value, variance: Value, weight: Value, bias: Value, *, eps: float) -> Value:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with a given mean and variance for each channel of x (batch, channels[, length])."""
    of_each = [_spread(v, np.ndim(x)) for v in (mean, variance, weight, bias)]
    return (x - of_each[0]) / np.sqrt(of_each[1] + eps) * of_each[2] + of_each[3]


@batch_norm_by.vjp("x")
def _(g: Value, mean: Value, variance: Value, weight: Value, eps: float) -> Value:
    return batch_norm_by(g, zeros(mean), variance, weight, zeros(mean), eps=eps)


@batch_norm_by.vjp("mean")
def _(g: Value, mean: Value, variance: Value, weight: Value, eps: float) -> Value:
    none = zeros(mean)
    return neg(total(batch_norm_by(g, none, variance, weight, none, eps=eps), axis=_channels(len(g.spec.shape))))


@batch_norm_by.vjp("variance")
def _(g: Value, x: Value, mean: Value, variance: Value, weight: Value, eps: float) -> Value:
    moved = total(mul(g, batch_norm_by(x, mean, variance, weight, zeros(mean), eps=eps)), axis=_channels(len(g.spec.shape)))
    return scale(div(moved, add(variance, eps)), by=-0.5)


@batch_norm_by.vjp("weight")
def _(g: Value, x: Value, mean: Value, variance: Value, eps: float) -> Value:
    return total(mul(g, batch_norm_by(x, mean, variance, ones(mean), zeros(mean), eps=eps)), axis=_channels(len(g.spec.shape)))


@batch_norm_by.vjp("bias")
def _(g: Value) -> Value:
    return total(g, axis=_channels(len(g.spec.shape)))


# ---- running statistics ------------------------------------------------------------------------------------------------------------
def _running(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    mean, variance, moments = specs[:3]
    dtype = rules.same_dtype(op, specs[:3])
    if len(mean.shape) != 1 or variance.shape != mean.shape or moments.shape != (2, *mean.shape):
        raise ShapeError(f"{op.name}: expected mean and variance (channels,) and moments (2, channels), got {rules.listed(op, specs)}")
    counted = len(specs) == 4
    how = rules.layout(f"moments[2,c] {'count[1]' if counted else 'momentum:f'} mean[c] variance[c]")
    dtypes, operands = ([dtype, rules.INT64, dtype, dtype], [2, 3, 0, 1]) if counted else ([dtype] * 3, [2, 0, 1])
    return Plan((), (rules.step(op.kernel, how, dtypes, operands, {"c": mean.size}, attributes),))


@op(kernel=normalize_runs.running, shape=_running, samples=shaped((5,), (5,), (2, 5), momentum=0.1), mutates=("mean", "variance"), commit=True)
def running_(mean: Value, variance: Value, moments: Value, *, momentum: float) -> Value:
    """mean and variance += momentum of the way to the moments."""
    return (1 - momentum) * mean + momentum * moments[0]


def _counted(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=5), rng.normal(size=5), rng.normal(size=(2, 5)), np.array(3)), {}


@op(kernel=normalize_runs.average, shape=_running, samples=_counted, mutates=("mean", "variance"), commit=True, integers=("count",))
def running_average_(mean: Value, variance: Value, moments: Value, count: Value) -> Value:
    """mean and variance += 1 / count of the way to the moments."""
    return (1 - 1 / count) * mean + 1 / count * moments[0]
