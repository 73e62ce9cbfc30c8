"""Whole quotients and what they leave, with the signs of Python's // and %."""
from __future__ import annotations

from functools import partial

import numpy as np

from minigrad.ops import rules
from minigrad.ops.elementwise import mul, neg
from minigrad.ops.maths import filled
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import broadcasting
from minigrad_kernels import division as kernels

NUMBERS = partial(rules.elementwise, kinds="fi")
_DIVIDED = broadcasting(-3, 3, second=(0.6, 1.4))


@op(kernel=kernels.floor_divide, shape=NUMBERS, samples=_DIVIDED, flops=per_element(1))
def floor_divide(x: Value, y: Value) -> Value:
    """The largest whole number not above x / y, as Python's x // y; integers divided by 0 give 0. The gradient is 0."""
    return np.floor_divide(x.real, y.real) + 0 * x + 0 * y


@floor_divide.vjp("x")
def _(g: Value) -> Value:
    return filled(g, value=0.0)


@floor_divide.vjp("y")
def _(g: Value) -> Value:
    return filled(g, value=0.0)


@op(kernel=kernels.remainder, shape=NUMBERS, samples=_DIVIDED, flops=per_element(1))
def remainder(x: Value, y: Value) -> Value:
    """x - (x // y) * y, with the sign of y, as Python's x % y; of integers by 0 it is 0."""
    return x - np.floor_divide(x.real, y.real) * y if np.iscomplexobj(x) or np.iscomplexobj(y) else np.remainder(x, y)


@remainder.vjp("x")
def _(g: Value) -> Value:
    return g


@remainder.vjp("y")
def _(g: Value, x: Value, y: Value) -> Value:
    return neg(mul(g, floor_divide(x, y)))
