"""Activations, each followed by its derivative; arrays 1-D, numbers behind them, out last and allowed to be an input.

A derivative called f(g, y) reads the forward pass's output, one called f(g, x) its input, for functions that are not monotonic.
"""
from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from . import loops, scalar
from ._exp_log import by_dtype, exp_negative
from .loops import Kernel
from .scalar import ERF_32, ERF_64, ERFC_32, ERFC_64, expm1, log1p
from .simd import abs_, fma, horner, inline, select

# max(x, 0), and a NaN stays: NaN <= 0 does not hold.
relu: Final[Kernel] = loops.map1(lambda x: select(x <= 0.0, 0.0, x), "relu")
relu_grad: Final[Kernel] = loops.zip2(lambda g, y: select(y > 0.0, g, 0.0), "relu_grad")

sigmoid: Final[Kernel] = loops.map1(scalar.sigmoid, "sigmoid")
sigmoid_grad: Final[Kernel] = loops.zip2(lambda g, y: g * (y * (1.0 - y)), "sigmoid_grad")

tanh: Final[Kernel] = loops.map1(scalar.tanh, "tanh")
tanh_grad: Final[Kernel] = loops.zip2(lambda g, y: g * (1.0 - y * y), "tanh_grad")

leaky_relu: Final[Kernel] = loops.loop(lambda x, slope: select(x > 0.0, x, slope * x), "leaky_relu", "vc")
leaky_relu_grad: Final[Kernel] = loops.loop(lambda g, y, slope: select(y > 0.0, g, slope * g), "leaky_relu_grad", "vvc")

elu: Final[Kernel] = loops.loop(lambda x, alpha, scale: select(x > 0.0, scale * x, alpha * expm1(x)), "elu", "vcc")
elu_grad: Final[Kernel] = loops.loop(lambda g, y, alpha, scale: select(y > 0.0, scale * g, g * (y + alpha)), "elu_grad", "vvcc")

# Two selections and no minimum or maximum, of which a NaN would be the second.
hardtanh: Final[Kernel] = loops.loop(lambda x, low, high: select(x < low, low, select(x > high, high, x)), "hardtanh", "vcc")
hardtanh_grad: Final[Kernel] = loops.loop(lambda g, y, low, high: select((y > low) & (y < high), g, 0.0), "hardtanh_grad", "vvcc")


# ---- of the logistic function ------------------------------------------------------------------------------------------------------
@inline
def logistic(x):
    """(sigmoid(x), 1 - sigmoid(x)), both to the last bits: neither is what the other leaves of 1."""
    e = exp_negative(-abs_(x))
    large = 1.0 / (1.0 + e)
    small = e * large
    return select(x < 0.0, small, large), select(x < 0.0, large, small)


@inline
def log1p_exp(x):
    """log(1 + exp(x)); neither overflows nor loses what is small."""
    return select(x < 0.0, 0.0, x) + log1p(exp_negative(-abs_(x)))


def _silu(x):
    s, _ = logistic(x)
    return x * s


def _silu_grad(g, x):
    s, rest = logistic(x)
    return g * (s + x * (s * rest))


silu: Final[Kernel] = loops.map1(_silu, "silu")
silu_grad: Final[Kernel] = loops.zip2(_silu_grad, "silu_grad")


def _softplus(x, beta, threshold):
    z = beta * x
    return select(z > threshold, x, log1p_exp(z) / beta)


def _softplus_grad(g, x, beta, threshold):
    z = beta * x
    return g * select(z > threshold, 1.0, scalar.sigmoid(z))


softplus: Final[Kernel] = loops.loop(_softplus, "softplus", "vcc")
softplus_grad: Final[Kernel] = loops.loop(_softplus_grad, "softplus_grad", "vvcc")

logsigmoid: Final[Kernel] = loops.map1(lambda x: -log1p_exp(-x), "logsigmoid")
# 1 - sigmoid(x) = 1 - exp(y)
logsigmoid_grad: Final[Kernel] = loops.zip2(lambda g, y: -g * expm1(y), "logsigmoid_grad")

# ---- of the normal distribution ----------------------------------------------------------------------------------------------------
SQRT_HALF: Final = math.sqrt(0.5)
INV_SQRT_TAU: Final = 1 / math.sqrt(2 * math.pi)
# GELU's approximation: x sigmoid(2 sqrt(2 / pi) (x + CUBE x**3)), as (1 + tanh(u)) / 2 = sigmoid(2 u). Hendrycks and Gimpel, arXiv:1606.08415
LINEAR: Final = 2 * math.sqrt(2 / math.pi)
CUBE: Final = 0.044715


def _normal_form(near, far, end):
    def normal(x):
        square = x * x
        # Where there is a tail, exp also gets what rounding took from the square: it would cost x**2 / 4 ulp.
        lost = select(abs_(x) < 2.0 * end, fma(x, x, -square), 0.0)
        density = exp_negative(-0.5 * square) * fma(lost, -0.5, 1.0)
        a = abs_(x) * SQRT_HALF
        z = a * a
        tail = select(a < 1.0, 0.5 - 0.5 * fma(a, horner(z, near), a), 0.5 * density * horner((a - 2.0) / (a + 2.0), far))
        return density * INV_SQRT_TAU, select(a > end, 0.0, tail)

    return normal


@by_dtype(_normal_form(ERF_32, ERFC_32, 4.0), _normal_form(ERF_64, ERFC_64, 6.0))
def normal(x: Any) -> Any:
    """Density and lower tail of the standard normal distribution at -|x|, with the polynomials of `scalar.erf`.

    The tail is 0 where they end, at |x| = 5.6 in float32 and 8.5 in float64: there it is 8e-9 and 1e-17.
    """
    return np.exp(-0.5 * x * x) * INV_SQRT_TAU, 0.5 * np.vectorize(math.erfc)(np.abs(x) * SQRT_HALF)


def _gelu(x):
    _, tail = normal(x)
    return x * select(x < 0.0, tail, 1.0 - tail)


def _gelu_grad(g, x):
    density, tail = normal(x)
    return g * fma(x, density, select(x < 0.0, tail, 1.0 - tail))


def _gelu_tanh(x):
    s, _ = logistic(x * (LINEAR + LINEAR * CUBE * (x * x)))
    return x * s


def _gelu_tanh_grad(g, x):
    square = x * x
    s, rest = logistic(x * (LINEAR + LINEAR * CUBE * square))
    bend = s * rest
    return g * select(bend == 0.0, s, s + x * (bend * (LINEAR + 3.0 * LINEAR * CUBE * square)))  # the square may be inf


gelu: Final[Kernel] = loops.map1(_gelu, "gelu")
gelu_grad: Final[Kernel] = loops.zip2(_gelu_grad, "gelu_grad")
gelu_tanh: Final[Kernel] = loops.map1(_gelu_tanh, "gelu_tanh")
gelu_tanh_grad: Final[Kernel] = loops.zip2(_gelu_tanh_grad, "gelu_tanh_grad")
