"""Elementary functions, element by element: roots, logarithms, angles, rounding, extrema. Bounds are for float32 and float64 alike."""
from __future__ import annotations

import math
from functools import partial

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import NUMBERS, div, exp, mul, neg, scale
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import broadcasting, reals, several, shaped
from minigrad_kernels import elementwise as kernels


@op(kernel=kernels.filled, shape=partial(rules.elementwise, kinds="fi"), samples=reals(-3, 3, value=0.5))
def filled(x: Value, *, value: float) -> Value:
    """A number in every place of x's shape, in x's dtype."""
    return np.full(np.shape(x), value) + 0 * x


@filled.vjp("x")
def _(g: Value) -> Value:
    return filled(g, value=0.0)


@op(kernel=kernels.shift, shape=rules.elementwise, samples=reals(-3, 3, by=0.3), flops=per_element(1))
def shift(x: Value, *, by: float) -> Value:
    """x + by, for a Python number that is part of the op."""
    return x + by


@shift.vjp("x")
def _(g: Value) -> Value:
    return g


# ---- roots and reciprocals ----------------------------------------------------------------------------------------------------------
@op(kernel=kernels.square, shape=NUMBERS, samples=reals(-3, 3, edges=(0.0, -0.0)), flops=per_element(1))
def square(x: Value) -> Value:
    """x * x."""
    return x * x


@square.vjp("x")
def _(g: Value, x: Value) -> Value:
    return scale(mul(g, x), by=2.0)


@op(kernel=kernels.sqrt, shape=rules.elementwise, samples=reals(0.01, 9, edges=(1e-30, 1e30)), flops=per_element(1))
def sqrt(x: Value) -> Value:
    """Square root, correctly rounded; NaN below 0."""
    return np.sqrt(x)


@sqrt.vjp("x")
def _(g: Value, out: Value) -> Value:
    return div(g, scale(out, by=2.0))


@op(kernel=kernels.rsqrt, shape=rules.elementwise, samples=reals(0.1, 9, edges=(1e-6, 1e6)), flops=per_element(2))
def rsqrt(x: Value) -> Value:
    """1 / sqrt(x), within 1.5 ulp; inf at 0, NaN below."""
    return 1 / np.sqrt(x)


@rsqrt.vjp("x")
def _(g: Value, x: Value, out: Value) -> Value:
    return scale(div(mul(g, out), x), by=-0.5)


@op(kernel=kernels.reciprocal, shape=rules.elementwise, samples=several(reals(0.5, 3), reals(-3, -0.5)), flops=per_element(1))
def reciprocal(x: Value) -> Value:
    """1 / x; inf at 0, of its sign."""
    return 1 / x


@reciprocal.vjp("x")
def _(g: Value, out: Value) -> Value:
    return neg(mul(mul(g, out), out))


# ---- exponentials and logarithms --------------------------------------------------------------------------------------------------
@op(kernel=kernels.exp2, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 10.0, -10.0)), flops=per_element(14))
def exp2(x: Value) -> Value:
    """2 to the power x, within 1 ulp, exact for whole x."""
    return np.exp(x * np.log(2.0)) if np.iscomplexobj(x) else np.exp2(x)


@exp2.vjp("x")
def _(g: Value, out: Value) -> Value:
    return scale(mul(g, out), by=math.log(2))


@op(kernel=kernels.expm1, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 1e-9, -1e-9)), flops=per_element(14))
def expm1(x: Value) -> Value:
    """exp(x) - 1, within 2 ulp, where x is tiny as well."""
    return np.expm1(x)


@expm1.vjp("x")
def _(g: Value, out: Value) -> Value:
    return mul(g, shift(out, by=1.0))


@op(kernel=kernels.log1p, shape=rules.elementwise, samples=reals(-0.9, 9, edges=(0.0, 1e-9, -1e-9)), flops=per_element(14))
def log1p(x: Value) -> Value:
    """log(1 + x), within 2 ulp, where x is tiny as well; -inf at -1, NaN below."""
    return np.log1p(x)


@log1p.vjp("x")
def _(g: Value, x: Value) -> Value:
    return div(g, shift(x, by=1.0))


@op(kernel=kernels.log2, shape=rules.elementwise, samples=reals(0.01, 9, edges=(1.0, 1e-30, 1e30)), flops=per_element(24))
def log2(x: Value) -> Value:
    """Logarithm to the base 2, within 1 ulp, exact for powers of two; -inf at 0, NaN below."""
    return np.log(x) / np.log(2.0)


@log2.vjp("x")
def _(g: Value, x: Value) -> Value:
    return div(scale(g, by=1 / math.log(2)), x)


@op(kernel=kernels.log10, shape=rules.elementwise, samples=reals(0.01, 9, edges=(1.0, 1e-30, 1e30)), flops=per_element(24))
def log10(x: Value) -> Value:
    """Logarithm to the base 10, within 1 ulp; -inf at 0, NaN below."""
    return np.log10(x)


@log10.vjp("x")
def _(g: Value, x: Value) -> Value:
    return div(scale(g, by=1 / math.log(10)), x)


# ---- angles and the error function --------------------------------------------------------------------------------------------------
@op(kernel=kernels.sin, shape=rules.elementwise, samples=several(reals(-9, 9, edges=(0.0, -0.0)), reals(-900, 900)), flops=per_element(20))
def sin(x: Value) -> Value:
    """Sine of an angle in radians, of any size, within 2 ulp."""
    return np.sin(x)


@sin.vjp("x")
def _(g: Value, x: Value) -> Value:
    return mul(g, cos(x))


@op(kernel=kernels.cos, shape=rules.elementwise, samples=several(reals(-9, 9, edges=(0.0, -0.0)), reals(-900, 900)), flops=per_element(20))
def cos(x: Value) -> Value:
    """Cosine of an angle in radians, of any size, within 2 ulp."""
    return np.cos(x)


@cos.vjp("x")
def _(g: Value, x: Value) -> Value:
    return neg(mul(g, sin(x)))


@op(kernel=kernels.tan, shape=rules.elementwise, samples=reals(-1.2, 1.2, edges=(0.0, -0.0)), flops=per_element(21))
def tan(x: Value) -> Value:
    """Tangent of an angle in radians, of any size, within 4 ulp."""
    return np.tan(x)


@tan.vjp("x")
def _(g: Value, out: Value) -> Value:
    return mul(g, shift(square(out), by=1.0))


@op(kernel=kernels.erf, shape=rules.elementwise, samples=reals(-4, 4, edges=(0.0, -0.0, 1.0)), flops=per_element(30))
def erf(x: Value) -> Value:
    """The error function, within 1.5 ulp."""
    real = np.vectorize(math.erf, otypes=[float])(x.real)
    return real + 1j * (x.imag * 2 / math.sqrt(math.pi) * np.exp(-x.real ** 2)) if np.iscomplexobj(x) else real


@erf.vjp("x")
def _(g: Value, x: Value) -> Value:
    return scale(mul(g, exp(neg(square(x)))), by=2 / math.sqrt(math.pi))


# ---- signs and rounding -------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.abs_, shape=NUMBERS, samples=several(reals(0.1, 3), reals(-3, -0.1)), flops=per_element(1))
def abs(x: Value) -> Value:
    """The absolute value; the gradient at 0 is 0."""
    return np.where(x.real < 0, -x, x)


@abs.vjp("x")
def _(g: Value, x: Value) -> Value:
    return mul(g, sign(x))


def _flat(g: Value) -> Value:
    """The gradient of what is constant but for steps."""
    return filled(g, value=0.0)


@op(kernel=kernels.sign, shape=NUMBERS, samples=reals(0.1, 3))
def sign(x: Value) -> Value:
    """1 where x is positive, -1 where it is negative, x itself where it is 0 or NaN; the gradient is 0."""
    return np.sign(x.real) + 0 * x


@op(kernel=kernels.floor, shape=rules.elementwise, samples=reals(-3, 3))
def floor(x: Value) -> Value:
    """The next whole number below; the gradient is 0."""
    return np.floor(x.real) + 0 * x


@op(kernel=kernels.ceil, shape=rules.elementwise, samples=reals(-3, 3))
def ceil(x: Value) -> Value:
    """The next whole number above; the gradient is 0."""
    return np.ceil(x.real) + 0 * x


@op(kernel=kernels.trunc, shape=rules.elementwise, samples=reals(-3, 3))
def trunc(x: Value) -> Value:
    """The next whole number towards 0; the gradient is 0."""
    return np.trunc(x.real) + 0 * x


@op(kernel=kernels.round_even, shape=rules.elementwise, samples=reals(-3, 3))
def round(x: Value) -> Value:
    """The nearest whole number, of two the even one; the gradient is 0."""
    return np.round(x.real) + 0 * x


for _step in (sign, floor, ceil, trunc, round):
    _step.vjp("x")(_flat)


# ---- extrema ------------------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.maximum, shape=NUMBERS, samples=broadcasting(-3, 3), flops=per_element(1))
def maximum(x: Value, y: Value) -> Value:
    """The larger of x and y, NaN if one is; where they are equal each gets half of the gradient."""
    return np.where(x.real > y.real, x, y)


@maximum.vjp("x")
def _(g: Value, x: Value, y: Value) -> Value:
    return larger(g, x, y)


@maximum.vjp("y")
def _(g: Value, x: Value, y: Value) -> Value:
    return larger(g, y, x)


@op(kernel=kernels.minimum, shape=NUMBERS, samples=broadcasting(-3, 3), flops=per_element(1))
def minimum(x: Value, y: Value) -> Value:
    """The smaller of x and y, NaN if one is; where they are equal each gets half of the gradient."""
    return np.where(x.real < y.real, x, y)


@minimum.vjp("x")
def _(g: Value, x: Value, y: Value) -> Value:
    return larger(g, y, x)


@minimum.vjp("y")
def _(g: Value, x: Value, y: Value) -> Value:
    return larger(g, x, y)


@op(kernel=kernels.larger, shape=rules.elementwise, samples=several(shaped((3, 4), (4,), (3, 1)), shaped((17,), (17,), (17,))), flops=per_element(2))
def larger(grad: Value, x: Value, y: Value) -> Value:
    """grad where x > y, half of it where they are equal, else 0; all of it where one is NaN."""
    return np.where(x.real == y.real, 0.5 * grad, np.where(x.real < y.real, 0, grad))


@larger.vjp("grad")
def _(g: Value, x: Value, y: Value) -> Value:
    return larger(g, x, y)


@op(kernel=kernels.clamp, shape=rules.elementwise, samples=several(reals(-3, 3, min=-1.0, max=2.0), reals(-3, 3, min=0.5), reals(-3, 3, max=-0.5)),
    flops=per_element(2))
def clamp_between(x: Value, *, min: float = -math.inf, max: float = math.inf) -> Value:
    """x, but no less than `min` and no more than `max`, which wins where they cross; the gradient is 1 inside, the bounds included."""
    return np.where(x.real < min, min, np.where(x.real > max, max, x))


@clamp_between.vjp("x")
def _(g: Value, x: Value, min: float, max: float) -> Value:
    return clamp_grad(g, x, min=min, max=max)


@op(kernel=kernels.clamp_grad, shape=rules.elementwise, samples=reals(-3, 3, arity=2, min=-1.0, max=2.0), flops=per_element(2))
def clamp_grad(grad: Value, x: Value, *, min: float = -math.inf, max: float = math.inf) -> Value:
    """grad where min <= x <= max, else 0."""
    return np.where((x.real >= min) & (x.real <= max), grad, 0)


@clamp_grad.vjp("grad")
def _(g: Value, x: Value, min: float, max: float) -> Value:
    return clamp_grad(g, x, min=min, max=max)


def clamp(x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """x, but no less than `min` and no more than `max`, numbers, Tensors or None; where they cross, `max` wins.

    Beside numbers the gradient is 1 inside, the bounds included, and 0 outside; beside Tensors it is that of `maximum` and `minimum`.
    """
    if min is None and max is None:
        raise ValueError("clamp: neither min nor max was given")
    if x.spec.is_float and all(bound is None or isinstance(bound, int | float | np.generic) for bound in (min, max)):
        return clamp_between(x, **{name: float(bound) for name, bound in (("min", min), ("max", max)) if bound is not None})
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


# NumPy's names
absolute, clip = abs, clamp
