"""x ** y: of two Tensors, of a Tensor and a number, and of a number and a Tensor."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from minigrad.ops import rules
from minigrad.ops.compare import eq, ge, logical_and, ne, where
from minigrad.ops.elementwise import log, mul, scale
from minigrad.ops.maths import filled, reciprocal, rsqrt, shift, sqrt, square
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import broadcasting, reals, several
from minigrad_kernels import elementwise as kernels

#: Whole exponents from 3 up to this are products; beyond, the general power is as accurate and faster.
MOST_PRODUCTS: Final = 64


@op(kernel=kernels.power, shape=rules.elementwise, samples=broadcasting(0.2, 3, second=(-3, 3)), flops=per_element(45))
def tensor_power(x: Value, y: Value) -> Value:
    """x to the power y, within 1 ulp; 1 where y is 0, NaN where x is negative and y not whole.

    Where x is 0 the gradient of y is 0 if y >= 0; where y is 0 that of x is 0.
    """
    return np.power(x, y)


@tensor_power.vjp("x")
def _(g: Value, x: Value, y: Value) -> Value:
    return where(ne(y, 0.0), mul(mul(g, y), tensor_power(x, shift(y, by=-1.0))), 0.0)


@tensor_power.vjp("y")
def _(g: Value, x: Value, y: Value, out: Value) -> Value:
    return where(logical_and(eq(x, 0.0), ge(y, 0.0)), 0.0, mul(mul(g, out), log(x)))


@op(kernel=kernels.power_by, shape=rules.elementwise, flops=per_element(45),
    samples=several(reals(0.2, 3, exponent=2.7), reals(0.2, 3, exponent=-1.3), reals(0.2, 3, exponent=0.0), reals(-3, -0.2, exponent=-3.0)))
def power_by(x: Value, *, exponent: float) -> Value:
    """x to the power of a Python number that is part of the op, within 1 ulp; NaN where x is negative and the exponent not whole."""
    return x ** (int(exponent) if float(exponent).is_integer() else exponent)


@power_by.vjp("x")
def _(g: Value, x: Value, exponent: float) -> Value:
    return mul(g, scale(power(x, exponent - 1), by=exponent)) if exponent else filled(g, value=0.0)


@op(kernel=kernels.power_by_squaring, shape=rules.elementwise, flops=per_element(12),
    samples=several(reals(-2, 2, edges=(0.0, -0.0), exponent=3.0), reals(-1.5, 1.5, exponent=10.0)))
def whole_power(x: Value, *, exponent: float) -> Value:
    """x to the power of a whole number from 1 on, as products: exact where the result fits, within 1.5 ulp up to 64."""
    return x ** int(exponent)


@whole_power.vjp("x")
def _(g: Value, x: Value, exponent: float) -> Value:
    return mul(g, scale(power(x, exponent - 1), by=exponent))


def power(x: Value, exponent: Any) -> Value:
    """x to the power `exponent`; a number or a Tensor each. Numbers 2, 0.5, -1, -0.5 and whole ones have kernels of their own."""
    if not isinstance(exponent, int | float | np.integer | np.floating) or isinstance(x, int | float | np.generic):
        return tensor_power(x, exponent)
    number = float(exponent)
    short = {2.0: square, 0.5: sqrt, -1.0: reciprocal, -0.5: rsqrt}.get(number)
    if short is not None:
        return short(x)
    return whole_power(x, exponent=number) if number.is_integer() and 1 <= number <= MOST_PRODUCTS else power_by(x, exponent=number)


pow = power
