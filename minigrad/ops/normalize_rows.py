"""Normalisation of each row over the last axes, with weights of their shape.

J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import rules
from minigrad.ops.elementwise import mul
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import Case, Samples
from minigrad.ops.spec import Shape, Spec
from minigrad.ops.standard import curved, ones, turned, unit, zeros
from minigrad_kernels import normalize_runs


def _tail(x: Value, count: int) -> tuple[int, ...]:
    """The last `count` axes."""
    return tuple(range(np.ndim(x) - count, np.ndim(x)))


def _rows(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """x (and grad), and numbers of the shape of its last axes in every other input -> the shape of x."""
    dtype = rules.same_float(op, specs)
    x = specs[op.inputs.index("x")]
    inner = specs[op.inputs.index("weight")].shape
    if not inner or x.shape[-len(inner):] != inner:
        raise ShapeError(f"{op.name}: expected x to end in the sizes {inner} that are normalised over (got {rules.listed(op, specs)}): "
                         f"make the layer for {x.shape[-max(1, len(inner)):]}")
    if any(spec.shape != (x.shape if name == "grad" else inner) for name, spec in zip(op.inputs, specs, strict=True) if name != "x"):
        raise ShapeError(f"{op.name}: weight and bias need one shape, grad that of x (got {rules.listed(op, specs)})")
    size = math.prod(inner)
    texts = [f"{name}{'[r,n]' if name in ('grad', 'x') else '[n]'}" for name in op.inputs] + ["eps:f", "out[r,n]"]
    call = rules.step(op.kernel, rules.layout(" ".join(texts), "r"), [dtype] * (len(specs) + 1), range(len(specs) + 1),
                      {"r": math.prod(x.shape[:len(x.shape) - len(inner)]), "n": size}, attributes, op.flops(specs, attributes))
    return Plan((x,), (call,))


def _scale_rows(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    dtype, (grad, x), inner = rules.same_float(op, specs), specs, tuple(attributes["shape"])
    rules.same_shape(op, specs)
    dims = {"r": math.prod(x.shape[:len(x.shape) - len(inner)]), "n": math.prod(inner)}
    moments = Spec.of((dims["r"], 2), rules.FLOAT64)
    find = rules.step(normalize_runs.row_moments, rules.layout("x[r,n] eps:f out[r,2]", "r"), [dtype, rules.FLOAT64], [1, 3], dims,
                      {"eps": attributes["eps"]}, 4 * x.size)
    how = rules.layout("grad(r,n) x(r,n) moments[r,2] out[n]", "n")
    add_up = rules.step(op.kernel, how, [dtype, dtype, rules.FLOAT64, dtype], [0, 1, 3, 2], dims, flops=4 * x.size)
    return Plan((grad.with_shape(inner),), (find, add_up), (moments,))


_ROWS = (((4, 5), (5,)), ((3, 17), (17,)), ((2, 3, 4), (3, 4)), ((2, 3, 4), (4,)), ((7,), (7,)), ((2, 1), (1,)))


def _layers(with_grad: bool, second: bool) -> Samples:
    """Rows of several shapes, with weights and, if wanted, a second array of their shape."""
    def cases(rng: np.random.Generator) -> Any:
        for shape, inner in _ROWS:
            made: Case = (tuple(rng.uniform(-2, 2, s) for s in [shape] * (1 + with_grad) + [inner] * (1 + second)), {"eps": 0.1})
            yield made

    return cases


@op(kernel=normalize_runs.normalize_rows, shape=_rows, samples=_layers(with_grad=False, second=True), flops=per_element(8))
def layer_norm(x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance over the last axes of x, those that weight has."""
    return unit(x, _tail(x, np.ndim(weight)), eps)[0] * weight + bias


@layer_norm.vjp("x")
def _(g: Value, x: Value, weight: Value, eps: float) -> Value:
    return layer_norm_grad(g, x, weight, eps=eps)


@layer_norm.vjp("weight")
def _(g: Value, x: Value, weight_spec: Spec, eps: float) -> Value:
    return layer_norm_scale_grad(g, x, shape=weight_spec.shape, eps=eps)


@layer_norm.vjp("bias")
def _(g: Value) -> Value:
    return g  # the engine sums over what was repeated


@op(kernel=normalize_runs.normalize_rows_grad, shape=_rows, samples=_layers(with_grad=True, second=False), flops=per_element(14))
def layer_norm_grad(grad: Value, x: Value, weight: Value, *, eps: float) -> Value:
    """The gradient of `layer_norm` for x."""
    return turned(grad * weight, x, _tail(x, np.ndim(weight)), eps)


@layer_norm_grad.vjp("grad")
def _(g: Value, x: Value, weight: Value, eps: float) -> Value:
    return mul(layer_norm_grad(g, x, ones(weight), eps=eps), weight)


@layer_norm_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, weight: Value, eps: float) -> Value:
    rank, inner = len(x.spec.shape), len(weight.spec.shape)
    normal = layer_norm(x, ones(weight), zeros(weight), eps=eps)
    return curved(g, mul(grad, weight), x, normal, tuple(range(rank - inner, rank)), eps)


@layer_norm_grad.vjp("weight")
def _(g: Value, grad: Value, x: Value, weight: Value, eps: float) -> Value:
    return mul(layer_norm_grad(g, x, ones(weight), eps=eps), grad)  # the engine sums over what was repeated


def _layer_grads(rng: np.random.Generator) -> Any:
    for shape, inner in _ROWS:
        yield (rng.uniform(-2, 2, shape), rng.uniform(-2, 2, shape)), {"shape": inner, "eps": 0.1}


@op(kernel=normalize_runs.scale_rows_grad, shape=_scale_rows, samples=_layer_grads, flops=per_element(8))
def layer_norm_scale_grad(grad: Value, x: Value, *, shape: Shape, eps: float) -> Value:
    """The gradient of `layer_norm` for its weight, which has `shape`: the sum of grad times the normalised x over all rows."""
    lead = np.ndim(x) - len(shape)
    return np.sum(grad * unit(x, _tail(x, len(shape)), eps)[0], axis=tuple(range(lead)))


@layer_norm_scale_grad.vjp("grad")
def _(g: Value, x: Value, eps: float) -> Value:
    return layer_norm(x, g, zeros(g), eps=eps)


@layer_norm_scale_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, eps: float) -> Value:
    return layer_norm_grad(grad, x, g, eps=eps)
