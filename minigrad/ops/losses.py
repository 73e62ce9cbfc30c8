"""Losses, each followed by its gradient, an op of its own."""
from __future__ import annotations

import numpy as np

from minigrad.errors import LabelError
from minigrad.ops import rules
from minigrad.ops.elementwise import mul, neg, scale, sub
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.reduce import sum
from minigrad.ops.samples import labelled, several, shaped
from minigrad.ops.spec import Spec
from minigrad_kernels import losses as kernels
from minigrad_kernels import softmax as softmax_kernels


@op(kernel=kernels.mse, shape=rules.loss, samples=several(shaped((4, 3), (4, 3)), shaped((67,), (67,))), flops=per_element(3))
def mse(x: Value, target: Value) -> Value:
    """Mean of (x - target) squared."""
    return np.mean((x - target) ** 2)


@mse.vjp("x")
def _(g: Value, x: Value, target: Value) -> Value:
    return mse_grad(g, x, target)


@mse.vjp("target")
def _(g: Value, x: Value, target: Value) -> Value:
    return neg(mse_grad(g, x, target))


@op(kernel=kernels.mse_grad, shape=rules.loss_grad, samples=shaped((), (4, 3), (4, 3)), flops=per_element(2))
def mse_grad(grad: Value, x: Value, target: Value) -> Value:
    """grad * 2 / n * (x - target)."""
    return grad * 2 / x.size * (x - target)


@mse_grad.vjp("grad")
def _(g: Value, x: Value, target: Value) -> Value:
    return sum(mul(g, mse_grad(1.0, x, target)))


@mse_grad.vjp("x")
def _(g: Value, grad: Value, x_spec: Spec) -> Value:
    return scale(mul(grad, g), by=2 / x_spec.size)


@mse_grad.vjp("target")
def _(g: Value, grad: Value, x_spec: Spec) -> Value:
    return scale(mul(grad, g), by=-2 / x_spec.size)


@op(kernel=softmax_kernels.softmax, shape=rules.rowwise, samples=several(shaped((4, 3)), shaped((2, 19))), flops=per_element(14))
def softmax(x: Value) -> Value:
    """exp(x) / sum(exp(x)) along the last axis, the row's maximum subtracted first."""
    e = np.exp(x - np.max(x.real, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


@softmax.vjp("x")
def _(g: Value, out: Value) -> Value:
    return softmax_grad(g, out)


@op(kernel=softmax_kernels.softmax_grad, shape=rules.rowwise, samples=several(shaped((4, 3), (4, 3)), shaped((2, 19), (2, 19))),
    flops=per_element(4))
def softmax_grad(grad: Value, y: Value) -> Value:
    """y * (grad - <grad, y>) along the last axis, for y = softmax(x)."""
    return y * (grad - np.sum(grad * y, axis=-1, keepdims=True))


@softmax_grad.vjp("grad")
def _(g: Value, y: Value) -> Value:
    return softmax_grad(g, y)


@softmax_grad.vjp("y")
def _(g: Value, grad: Value, y: Value) -> Value:
    along = sum(mul(grad, y), axis=-1, keepdims=True)
    across = sum(mul(g, y), axis=-1, keepdims=True)
    return sub(mul(g, sub(grad, along)), mul(across, grad))


@op(kernel=kernels.softmax_cross_entropy, integers=("labels",), shape=rules.class_loss, samples=several(labelled(4, 3), labelled(2, 19)),
    flops=per_element(14),
    fails=LabelError("softmax_cross_entropy: a label is negative or not below the number of classes: "
                     "labels are class indices 0 to classes - 1"))
def softmax_cross_entropy(x: Value, labels: Value) -> Value:
    """Mean over rows of log(sum(exp(x))) - x[label]: logits (rows, classes), int64 labels (rows,)."""
    high = np.max(x.real, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(x - high), axis=1)) + high[:, 0] - x[np.arange(len(x)), labels])


@softmax_cross_entropy.vjp("x")
def _(g: Value, x: Value, labels: Value) -> Value:
    return softmax_cross_entropy_grad(g, x, labels)


@op(kernel=kernels.softmax_cross_entropy_grad, integers=("labels",), shape=rules.class_loss_grad,
    samples=several(labelled(4, 3, with_grad=True), labelled(2, 19, with_grad=True)), flops=per_element(16))
def softmax_cross_entropy_grad(grad: Value, x: Value, labels: Value) -> Value:
    """grad / rows * (softmax(x) - onehot(labels))."""
    return grad / len(x) * (softmax.definition(x) - np.eye(x.shape[1])[labels])


@softmax_cross_entropy_grad.vjp("grad")
def _(g: Value, x: Value, labels: Value) -> Value:
    return sum(mul(g, softmax_cross_entropy_grad(1.0, x, labels)))


@softmax_cross_entropy_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, x_spec: Spec) -> Value:
    return scale(mul(grad, softmax_grad(g, softmax(x))), by=1 / x_spec.shape[0])
