"""Activations, each followed by its derivative, an op of its own that reads the output: the tape keeps that, and not the input."""
from __future__ import annotations

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import mul, scale, sub
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import reals
from minigrad_kernels import activations as kernels


@op(kernel=kernels.relu, shape=rules.elementwise, samples=reals(-3, 3), flops=per_element(1))
def relu(x: Value) -> Value:
    """max(x, 0); the gradient at 0 is 0."""
    return np.where(x.real > 0, x, 0)


@relu.vjp("x")
def _(g: Value, out: Value) -> Value:
    return relu_grad(g, out)


@op(kernel=kernels.relu_grad, shape=rules.elementwise, samples=reals(0.1, 3, arity=2), flops=per_element(1))
def relu_grad(grad: Value, y: Value) -> Value:
    """grad where y = relu(x) is positive, else 0."""
    return np.where(y.real > 0, grad, 0)


@relu_grad.vjp("grad")
def _(g: Value, y: Value) -> Value:
    return relu_grad(g, y)


@op(kernel=kernels.sigmoid, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 40.0, -40.0)), flops=per_element(14))
def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)); float32 within 2.5 ulp."""
    return 1 / (1 + np.exp(-x))


@sigmoid.vjp("x")
def _(g: Value, out: Value) -> Value:
    return sigmoid_grad(g, out)


@op(kernel=kernels.sigmoid_grad, shape=rules.elementwise, samples=reals(0.1, 0.9, arity=2), flops=per_element(3))
def sigmoid_grad(grad: Value, y: Value) -> Value:
    """grad * y * (1 - y), for y = sigmoid(x)."""
    return grad * (y * (1 - y))


@sigmoid_grad.vjp("grad")
def _(g: Value, y: Value) -> Value:
    return sigmoid_grad(g, y)


@sigmoid_grad.vjp("y")
def _(g: Value, grad: Value, y: Value) -> Value:
    return mul(mul(g, grad), sub(1.0, scale(y, by=2.0)))


@op(kernel=kernels.tanh, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 20.0, -20.0)), flops=per_element(14))
def tanh(x: Value) -> Value:
    """Hyperbolic tangent; float32 within 1.5 ulp."""
    return np.tanh(x)


@tanh.vjp("x")
def _(g: Value, out: Value) -> Value:
    return tanh_grad(g, out)


@op(kernel=kernels.tanh_grad, shape=rules.elementwise, samples=reals(-0.9, 0.9, arity=2), flops=per_element(3))
def tanh_grad(grad: Value, y: Value) -> Value:
    """grad * (1 - y * y), for y = tanh(x)."""
    return grad * (1 - y * y)


@tanh_grad.vjp("grad")
def _(g: Value, y: Value) -> Value:
    return tanh_grad(g, y)


@tanh_grad.vjp("y")
def _(g: Value, grad: Value, y: Value) -> Value:
    return scale(mul(mul(g, grad), y), by=-2.0)
