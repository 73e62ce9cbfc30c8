"""Softmax and its logarithm along an axis, each followed by its derivative, which reads the output."""
from __future__ import annotations

import math
import operator

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import exp, mul, neg, sub
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.reduce import sum
from minigrad.ops.samples import Samples, several, shaped
from minigrad.ops.spec import Spec
from minigrad_kernels import softmax as kernels


def _along(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Inputs of one shape and dtype -> the same; `op.kernel` is a pair, for the last axis (rows) and for any other (columns)."""
    dtype, shape = rules.same_float(op, specs), rules.same_shape(op, specs)
    (axis,) = rules.axes_of(op, specs[0], operator.index(attributes["axis"]))
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])
    rows, columns = op.kernel
    names = [*(f"x{i}" for i in range(len(specs))), "out"]
    if inner == 1:
        kernel, share, dims, form = rows, "r", {"r": outer, "c": n}, "{}[r,c]"
    else:
        share, form = ("o", "{}[o,n,i]") if outer > 1 else ("i", "{}(o,n,i)")
        kernel, dims = columns, {"o": outer, "n": n, "i": inner}
    how = rules.layout(" ".join(form.format(name) for name in names), share)
    return Plan((specs[0],), (rules.step(kernel, how, [dtype] * len(names), range(len(names)), dims, flops=op.flops(specs, attributes)),))


def _axes(arity: int, low: float = -2.0, high: float = 2.0) -> Samples:
    def case(shape: tuple[int, ...], axis: int) -> Samples:
        return shaped(*[shape] * arity, low=low, high=high, axis=axis)

    return several(case((4, 3), -1), case((2, 19), 1), case((7,), 0), case((4, 3), 0), case((2, 5, 19), 1), case((3, 2, 2, 2), -3))


@op(kernel=(kernels.softmax, kernels.softmax_columns), shape=_along, samples=_axes(1), flops=per_element(28))
def softmax(x: Value, *, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along an axis, the maximum subtracted first."""
    e = np.exp(x - np.max(x.real, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


@softmax.vjp("x")
def _(g: Value, out: Value, axis: int) -> Value:
    return softmax_grad(g, out, axis=axis)


@op(kernel=(kernels.softmax_grad, kernels.softmax_columns_grad), shape=_along, samples=_axes(2), flops=per_element(4))
def softmax_grad(grad: Value, y: Value, *, axis: int = -1) -> Value:
    """y * (grad - <grad, y>) along an axis, for y = softmax(x)."""
    return y * (grad - np.sum(grad * y, axis=axis, keepdims=True))


@softmax_grad.vjp("grad")
def _(g: Value, y: Value, axis: int) -> Value:
    return softmax_grad(g, y, axis=axis)


@softmax_grad.vjp("y")
def _(g: Value, grad: Value, y: Value, axis: int) -> Value:
    along = sum(mul(grad, y), axis=axis, keepdims=True)
    across = sum(mul(g, y), axis=axis, keepdims=True)
    return sub(mul(g, sub(grad, along)), mul(across, grad))


@op(kernel=(kernels.log_softmax, kernels.log_softmax_columns), shape=_along, samples=_axes(1), flops=per_element(17))
def log_softmax(x: Value, *, axis: int = -1) -> Value:
    """log(softmax(x)) along an axis: x - max(x) - log(sum(exp(x - max(x))))."""
    shifted = x - np.max(x.real, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@log_softmax.vjp("x")
def _(g: Value, out: Value, axis: int) -> Value:
    return log_softmax_grad(g, out, axis=axis)


@op(kernel=(kernels.log_softmax_grad, kernels.log_softmax_columns_grad), shape=_along, samples=_axes(2, low=-3.0, high=-0.1), flops=per_element(16))
def log_softmax_grad(grad: Value, y: Value, *, axis: int = -1) -> Value:
    """grad - exp(y) * sum(grad) along an axis, for y = log_softmax(x)."""
    return grad - np.exp(y) * np.sum(grad, axis=axis, keepdims=True)


@log_softmax_grad.vjp("grad")
def _(g: Value, y: Value, axis: int) -> Value:
    return sub(g, sum(mul(g, exp(y)), axis=axis, keepdims=True))


@log_softmax_grad.vjp("y")
def _(g: Value, grad: Value, y: Value, axis: int) -> Value:
    return neg(mul(mul(g, exp(y)), sum(grad, axis=axis, keepdims=True)))
