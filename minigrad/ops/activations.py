"""Activations, each followed by its derivative, an op of its own.

The derivative of a monotonic function reads the output, so that the tape keeps that, and not the input.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import add, exp, mul, neg, scale, sub
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import reals, several
from minigrad.ops.spec import Spec
from minigrad_kernels import activations as kernels
from minigrad_kernels.activations import CUBE, INV_SQRT_TAU, LINEAR


@op(kernel=kernels.relu, shape=rules.elementwise, samples=reals(-3, 3), flops=per_element(1))
def relu(x: Value) -> Value:
    """max(x, 0); the gradient at 0 is 0."""
    return np.where(x.real > 0, x, 0)


@relu.vjp("x")
def _(g: Value, out: Value) -> Value:
    return relu_grad(g, out)


@op(kernel=kernels.relu_grad, shape=rules.elementwise, samples=reals(-3, 3, arity=2), flops=per_element(1))
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


# ---- linear on both sides ------------------------------------------------------------------------------------------------------------
def _rising(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """An elementwise op whose output has the sign of its input, which its derivative relies on. Raises ValueError."""
    for name, value in attributes.items():
        if not value >= 0:
            raise ValueError(f"{op.name}: {name} is {value}, expected a number that is not negative: the derivative reads the output's sign")
    return rules.elementwise(op, specs, attributes)


@op(kernel=kernels.leaky_relu, shape=_rising, samples=several(reals(-3, 3), reals(-3, 3, negative_slope=0.25)), flops=per_element(2))
def leaky_relu(x: Value, *, negative_slope: float = 0.01) -> Value:
    """x where it is positive, else negative_slope * x."""
    return np.where(x.real > 0, x, negative_slope * x)


@leaky_relu.vjp("x")
def _(g: Value, out: Value, negative_slope: float) -> Value:
    return leaky_relu_grad(g, out, negative_slope=negative_slope)


@op(kernel=kernels.leaky_relu_grad, shape=_rising, samples=reals(-3, 3, arity=2, negative_slope=0.25), flops=per_element(2))
def leaky_relu_grad(grad: Value, y: Value, *, negative_slope: float = 0.01) -> Value:
    """grad where y = leaky_relu(x) is positive, else negative_slope * grad."""
    return np.where(y.real > 0, grad, negative_slope * grad)


@leaky_relu_grad.vjp("grad")
def _(g: Value, y: Value, negative_slope: float) -> Value:
    return leaky_relu_grad(g, y, negative_slope=negative_slope)


@op(kernel=kernels.hardtanh, shape=rules.elementwise, samples=several(reals(-3, 3), reals(-3, 9, min_val=0.0, max_val=6.0)), flops=per_element(2))
def hardtanh(x: Value, *, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    """x, but not below min_val nor above max_val; the gradient there, and at both, is 0."""
    return np.where(x.real < min_val, min_val, np.where(x.real > max_val, max_val, x))


@hardtanh.vjp("x")
def _(g: Value, out: Value, min_val: float, max_val: float) -> Value:
    return hardtanh_grad(g, out, min_val=min_val, max_val=max_val)


@op(kernel=kernels.hardtanh_grad, shape=rules.elementwise, flops=per_element(2),
    samples=several(reals(-3, 3, arity=2), reals(-3, 9, arity=2, min_val=0.0, max_val=6.0)))
def hardtanh_grad(grad: Value, y: Value, *, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    """grad where y = hardtanh(x) is between the limits, else 0."""
    return np.where((y.real > min_val) & (y.real < max_val), grad, 0)


@hardtanh_grad.vjp("grad")
def _(g: Value, y: Value, min_val: float, max_val: float) -> Value:
    return hardtanh_grad(g, y, min_val=min_val, max_val=max_val)


# ---- exponential on the left ---------------------------------------------------------------------------------------------------------
@op(kernel=kernels.elu, shape=_rising, samples=several(reals(-3, 3), reals(-9, 3, edges=(-40.0,), alpha=1.7, scale=1.1)), flops=per_element(14))
def elu(x: Value, *, alpha: float = 1.0, scale: float = 1.0) -> Value:
    """scale * x where it is positive, else alpha * (exp(x) - 1): ELU, and with two other numbers SELU."""
    return np.where(x.real > 0, scale * x, alpha * np.expm1(x))


@elu.vjp("x")
def _(g: Value, out: Value, alpha: float, scale: float) -> Value:
    return elu_grad(g, out, alpha=alpha, scale=scale)


@op(kernel=kernels.elu_grad, shape=_rising, samples=several(reals(-0.9, 3, arity=2), reals(-1.6, 3, arity=2, alpha=1.7, scale=1.1)),
    flops=per_element(3))
def elu_grad(grad: Value, y: Value, *, alpha: float = 1.0, scale: float = 1.0) -> Value:
    """scale * grad where y = elu(x) is positive, else grad * (y + alpha)."""
    return np.where(y.real > 0, scale * grad, grad * (y + alpha))


@elu_grad.vjp("grad")
def _(g: Value, y: Value, alpha: float, scale: float) -> Value:
    return elu_grad(g, y, alpha=alpha, scale=scale)


@elu_grad.vjp("y")
def _(g: Value, grad: Value, y: Value) -> Value:
    return relu_grad(mul(g, grad), neg(y))


@op(kernel=kernels.softplus, shape=rules.elementwise, samples=several(reals(-30, 30), reals(-3, 3, beta=2.5, threshold=4.0)), flops=per_element(30))
def softplus(x: Value, *, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """log(1 + exp(beta * x)) / beta, or x where beta * x is above the threshold, as PyTorch's."""
    z = beta * x
    return np.where(z.real > threshold, x, (np.where(z.real > 0, z, 0) + np.log1p(np.exp(np.where(z.real > 0, -z, z)))) / beta)


@softplus.vjp("x")
def _(g: Value, x: Value, beta: float, threshold: float) -> Value:
    return softplus_grad(g, x, beta=beta, threshold=threshold)


@op(kernel=kernels.softplus_grad, shape=rules.elementwise,
    samples=several(reals(-9, 9, arity=2), reals(-3, 3, arity=2, beta=2.5, threshold=4.0)), flops=per_element(17))
def softplus_grad(grad: Value, x: Value, *, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """grad * sigmoid(beta * x), or grad where beta * x is above the threshold."""
    return np.where((beta * x).real > threshold, grad, grad / (1 + np.exp(-beta * x)))


@softplus_grad.vjp("grad")
def _(g: Value, x: Value, beta: float, threshold: float) -> Value:
    return softplus_grad(g, x, beta=beta, threshold=threshold)


@softplus_grad.vjp("x")
def _(g: Value, grad: Value, x: Value, beta: float, threshold: float) -> Value:
    # Above the threshold the slope is 1, and y (1 - y) is 0 as it should be.
    return scale(sigmoid_grad(mul(g, grad), softplus_grad(1.0, x, beta=beta, threshold=threshold)), by=beta)


@op(kernel=kernels.logsigmoid, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 40.0, -40.0)), flops=per_element(28))
def logsigmoid(x: Value) -> Value:
    """log(sigmoid(x)), without overflow."""
    return np.where(x.real < 0, x, 0) - np.log1p(np.exp(np.where(x.real < 0, x, -x)))


@logsigmoid.vjp("x")
def _(g: Value, out: Value) -> Value:
    return logsigmoid_grad(g, out)


@op(kernel=kernels.logsigmoid_grad, shape=rules.elementwise, samples=reals(-4, -0.01, arity=2), flops=per_element(15))
def logsigmoid_grad(grad: Value, y: Value) -> Value:
    """grad * (1 - exp(y)), for y = logsigmoid(x)."""
    return -grad * np.expm1(y)


@logsigmoid_grad.vjp("grad")
def _(g: Value, y: Value) -> Value:
    return logsigmoid_grad(g, y)


@logsigmoid_grad.vjp("y")
def _(g: Value, grad: Value, y: Value) -> Value:
    return neg(mul(mul(g, grad), exp(y)))


# ---- x times a share of it -----------------------------------------------------------------------------------------------------------
@op(kernel=kernels.silu, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 40.0, -40.0)), flops=per_element(16))
def silu(x: Value) -> Value:
    """x * sigmoid(x), also called swish."""
    return x / (1 + np.exp(-x))


@silu.vjp("x")
def _(g: Value, x: Value) -> Value:
    return silu_grad(g, x)


@op(kernel=kernels.silu_grad, shape=rules.elementwise, samples=reals(-9, 9, arity=2), flops=per_element(20))
def silu_grad(grad: Value, x: Value) -> Value:
    """grad * (s + x * s * (1 - s)), for s = sigmoid(x)."""
    s = 1 / (1 + np.exp(-x))
    return grad * (s + x * s * (1 - s))


@silu_grad.vjp("grad")
def _(g: Value, x: Value) -> Value:
    return silu_grad(g, x)


@silu_grad.vjp("x")
def _(g: Value, grad: Value, x: Value) -> Value:
    s = sigmoid(x)
    return mul(sigmoid_grad(mul(g, grad), s), add(2.0, mul(x, sub(1.0, scale(s, by=2.0)))))


def _normal(x: Any) -> tuple[Any, Any]:
    """Density and distribution function of the standard normal distribution; of a complex number exact to first order in its imaginary part."""
    density = np.exp(-0.5 * x * x) * INV_SQRT_TAU
    below = 0.5 * np.vectorize(math.erfc, otypes=[float])(-x.real * math.sqrt(0.5))
    return density, below + 1j * x.imag * density.real if np.iscomplexobj(x) else below


@op(kernel=kernels.gelu, shape=rules.elementwise, samples=reals(-5, 5, edges=(0.0, 9.0, -9.0)), flops=per_element(45))
def gelu(x: Value) -> Value:
    """x * Phi(x), Phi the standard normal distribution function."""
    return x * _normal(x)[1]


@gelu.vjp("x")
def _(g: Value, x: Value) -> Value:
    return gelu_grad(g, x)


@op(kernel=kernels.gelu_grad, shape=rules.elementwise, samples=reals(-5, 5, arity=2), flops=per_element(48))
def gelu_grad(grad: Value, x: Value) -> Value:
    """grad * (Phi(x) + x * phi(x)), phi the density of Phi."""
    density, below = _normal(x)
    return grad * (below + x * density)


@gelu_grad.vjp("grad")
def _(g: Value, x: Value) -> Value:
    return gelu_grad(g, x)


@gelu_grad.vjp("x")
def _(g: Value, grad: Value, x: Value) -> Value:
    square = mul(x, x)
    return mul(mul(g, grad), mul(sub(2.0, square), scale(exp(scale(square, by=-0.5)), by=INV_SQRT_TAU)))


@op(kernel=kernels.gelu_tanh, shape=rules.elementwise, samples=reals(-5, 5, edges=(0.0, 9.0, -9.0)), flops=per_element(20))
def gelu_tanh(x: Value) -> Value:
    """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2: the approximation of gelu (Hendrycks and Gimpel, arXiv:1606.08415)."""
    return x / (1 + np.exp(-LINEAR * (x + CUBE * x * x * x)))


@gelu_tanh.vjp("x")
def _(g: Value, x: Value) -> Value:
    return gelu_tanh_grad(g, x)


@op(kernel=kernels.gelu_tanh_grad, shape=rules.elementwise, samples=reals(-5, 5, arity=2), flops=per_element(27))
def gelu_tanh_grad(grad: Value, x: Value) -> Value:
    """grad times the derivative of gelu_tanh at x."""
    s = 1 / (1 + np.exp(-LINEAR * (x + CUBE * x * x * x)))
    return grad * (s + x * s * (1 - s) * LINEAR * (1 + 3 * CUBE * x * x))


@gelu_tanh_grad.vjp("grad")
def _(g: Value, x: Value) -> Value:
    return gelu_tanh_grad(g, x)


@gelu_tanh_grad.vjp("x")
def _(g: Value, grad: Value, x: Value) -> Value:
    # With y = x s(u): y'' = s' (2 u' + x ((1 - 2 s) u'**2 + u''))
    square = mul(x, x)
    s = sigmoid(scale(add(x, scale(mul(square, x), by=CUBE)), by=LINEAR))
    slope = scale(add(1.0, scale(square, by=3 * CUBE)), by=LINEAR)
    bend = add(mul(sub(1.0, scale(s, by=2.0)), mul(slope, slope)), scale(x, by=6 * CUBE * LINEAR))
    return mul(sigmoid_grad(mul(g, grad), s), add(scale(slope, by=2.0), mul(x, bend)))
