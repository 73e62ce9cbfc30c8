"""Arithmetic, exp and log, element by element, with NumPy's broadcasting; `maths` has what is built on these."""
from __future__ import annotations

from functools import partial

import numpy as np

from minigrad.ops import rules
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import broadcasting, reals, shaped
from minigrad_kernels import elementwise as kernels
from minigrad_kernels import ranges

#: Of floats, and of integers, whose result is an integer.
NUMBERS = partial(rules.elementwise, kinds="fi")


@op(kernel=kernels.add, shape=NUMBERS, samples=broadcasting(-3, 3), flops=per_element(1))
def add(x: Value, y: Value) -> Value:
    """x + y."""
    return x + y


@add.vjp("x")
@add.vjp("y")
def _(g: Value) -> Value:
    return g


@op(kernel=kernels.sub, shape=NUMBERS, samples=broadcasting(-3, 3), flops=per_element(1))
def sub(x: Value, y: Value) -> Value:
    """x - y."""
    return x - y


@sub.vjp("x")
def _(g: Value) -> Value:
    return g


@sub.vjp("y")
def _(g: Value) -> Value:
    return neg(g)


@op(kernel=kernels.mul, shape=NUMBERS, samples=broadcasting(-3, 3), flops=per_element(1))
def mul(x: Value, y: Value) -> Value:
    """x * y."""
    return x * y


@mul.vjp("x")
def _(g: Value, y: Value) -> Value:
    return mul(g, y)


@mul.vjp("y")
def _(g: Value, x: Value) -> Value:
    return mul(g, x)


@op(kernel=kernels.div, shape=rules.elementwise, samples=broadcasting(-3, 3, second=(0.5, 3)), flops=per_element(1))
def div(x: Value, y: Value) -> Value:
    """x / y, as IEEE: division by zero gives inf or NaN."""
    return x / y


@div.vjp("x")
def _(g: Value, y: Value) -> Value:
    return div(g, y)


@div.vjp("y")
def _(g: Value, y: Value, out: Value) -> Value:
    return neg(div(mul(g, out), y))


@op(kernel=kernels.neg, shape=NUMBERS, samples=reals(-3, 3, edges=(0.0, -0.0)), flops=per_element(1))
def neg(x: Value) -> Value:
    """-x."""
    return -x


@neg.vjp("x")
def _(g: Value) -> Value:
    return neg(g)


@op(kernel=kernels.scale, shape=rules.elementwise, samples=reals(-3, 3, by=0.3), flops=per_element(1))
def scale(x: Value, *, by: float) -> Value:
    """x * by, for a Python number that is part of the op."""
    return x * by


@scale.vjp("x")
def _(g: Value, by: float) -> Value:
    return scale(g, by=by)


@op(kernel=kernels.exp, shape=rules.elementwise, samples=reals(-9, 9, edges=(0.0, 80.0, -80.0)), flops=per_element(12))
def exp(x: Value) -> Value:
    """e to the power x; float32 within 1.0 ulp."""
    return np.exp(x)


@exp.vjp("x")
def _(g: Value, out: Value) -> Value:
    return mul(g, out)


@op(kernel=kernels.log, shape=rules.elementwise, samples=reals(0.01, 9, edges=(1.0, 1e-30, 1e30)), flops=per_element(12))
def log(x: Value) -> Value:
    """Natural logarithm; float32 within 1.0 ulp."""
    return np.log(x)


@log.vjp("x")
def _(g: Value, x: Value) -> Value:
    return div(g, x)


@op(kernel=ranges.copy, shape=rules.same, samples=reals(-3, 3, edges=(0.0, -0.0)))
def clone(x: Value) -> Value:
    """A copy of x, of any dtype."""
    return x + 0


@clone.vjp("x")
def _(g: Value) -> Value:
    return g


@op(kernel=ranges.copy, shape=rules.inplace, samples=shaped((3, 5), (3, 5)), mutates=("x",))
def copy_(x: Value, source: Value) -> Value:
    """Write `source` into x, which has its shape and dtype."""
    return source


@op(kernel=kernels.add.both, shape=partial(rules.inplace, operands=(0, 1, 0)), samples=shaped((3, 5), (3, 5)), mutates=("x",), flops=per_element(1))
def add_(x: Value, y: Value) -> Value:
    """x += y, for operands of one shape and dtype."""
    return x + y


# NumPy's and PyTorch's longer names
subtract, multiply, negative = sub, mul, neg
divide = true_divide = div
