"""Comparisons, logic and choice, element by element, with NumPy's broadcasting. What is true or false is a Tensor of bools."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from minigrad.ops import rules
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import Case, Samples, broadcasting, reals
from minigrad_kernels import compare as kernels

COMPARISON = partial(rules.elementwise, kinds="fib", out=rules.BOOL)
CHOICE = partial(rules.elementwise, kinds="fib")
TEST = partial(rules.elementwise, out=rules.BOOL)
BITS = partial(rules.elementwise, kinds="ib")

_SHAPES = (((17,), (17,)), ((67,), (67,)), ((3, 4), (4,)), ((3, 1), (1, 5)), ((), (2, 3)), ((2, 3), ()), ((1,), (1,)))


def _drawn(*draw: Callable[[np.random.Generator, Any], Any], shapes: Any = _SHAPES) -> Samples:
    """A case for each tuple of shapes, the operands drawn by one function each."""

    def cases(rng: np.random.Generator) -> Iterator[Case]:
        for sizes in shapes:
            yield tuple(np.asarray(one(rng, size)) for one, size in zip(draw, sizes, strict=True)), {}

    return cases


def _bools(rng: np.random.Generator, size: Any) -> Any:
    return rng.random(size) < 0.5


def _few(rng: np.random.Generator, size: Any) -> Any:
    """Integers that are often equal."""
    return rng.integers(-2, 3, size)


def _floats(rng: np.random.Generator, size: Any) -> Any:
    return rng.uniform(-2, 2, size)


_FEW = _drawn(_few, _few)


@op(kernel=kernels.eq, shape=COMPARISON, samples=_FEW, flops=per_element(1))
def eq(x: Value, y: Value) -> Value:
    """x == y; of floats, integers and bools."""
    return x.real == y.real


@op(kernel=kernels.ne, shape=COMPARISON, samples=_FEW, flops=per_element(1))
def ne(x: Value, y: Value) -> Value:
    """x != y; of floats, integers and bools."""
    return x.real != y.real


@op(kernel=kernels.lt, shape=COMPARISON, samples=broadcasting(-3, 3), flops=per_element(1))
def lt(x: Value, y: Value) -> Value:
    """x < y; of floats, integers and bools."""
    return x.real < y.real


@op(kernel=kernels.le, shape=COMPARISON, samples=_FEW, flops=per_element(1))
def le(x: Value, y: Value) -> Value:
    """x <= y; of floats, integers and bools."""
    return x.real <= y.real


@op(kernel=kernels.gt, shape=COMPARISON, samples=broadcasting(-3, 3), flops=per_element(1))
def gt(x: Value, y: Value) -> Value:
    """x > y; of floats, integers and bools."""
    return x.real > y.real


@op(kernel=kernels.ge, shape=COMPARISON, samples=_FEW, flops=per_element(1))
def ge(x: Value, y: Value) -> Value:
    """x >= y; of floats, integers and bools."""
    return x.real >= y.real


# ---- logic: a number is true unless it is 0 --------------------------------------------------------------------------------------
@op(kernel=kernels.logical_and, shape=rules.logical, samples=_drawn(_bools, _few))
def logical_and(x: Value, y: Value) -> Value:
    """Whether x and y are both true; of any dtypes, a number is true unless it is 0."""
    return np.logical_and(x.real, y.real)


@op(kernel=kernels.logical_or, shape=rules.logical, samples=_drawn(_bools, _few))
def logical_or(x: Value, y: Value) -> Value:
    """Whether x or y is true; of any dtypes, a number is true unless it is 0."""
    return np.logical_or(x.real, y.real)


@op(kernel=kernels.logical_xor, shape=rules.logical, samples=_drawn(_few, _bools))
def logical_xor(x: Value, y: Value) -> Value:
    """Whether one of x and y is true and the other is not; of any dtypes, a number is true unless it is 0."""
    return np.logical_xor(x.real, y.real)


@op(kernel=kernels.logical_not, shape=rules.logical, samples=_drawn(_few, shapes=(((67,),), ((),), ((3, 4),))))
def logical_not(x: Value) -> Value:
    """Whether x is not true; of any dtype, a number is true unless it is 0."""
    return np.logical_not(x.real)


@op(kernel=kernels.bitwise_and, shape=BITS, samples=_FEW)
def bitwise_and(x: Value, y: Value) -> Value:
    """x & y, bit by bit, of integers; of bools whether both are true."""
    return x & y


@op(kernel=kernels.bitwise_or, shape=BITS, samples=_FEW)
def bitwise_or(x: Value, y: Value) -> Value:
    """x | y, bit by bit, of integers; of bools whether one is true."""
    return x | y


@op(kernel=kernels.bitwise_xor, shape=BITS, samples=_FEW)
def bitwise_xor(x: Value, y: Value) -> Value:
    """x ^ y, bit by bit, of integers; of bools whether they differ."""
    return x ^ y


@op(kernel=kernels.bitwise_not, shape=partial(rules.elementwise, kinds="i"), samples=_drawn(_few, shapes=(((67,),), ((),), ((3, 4),))))
def bitwise_not(x: Value) -> Value:
    """~x, bit by bit, of integers; of bools see `logical_not`."""
    return ~x


# ---- tests of one operand --------------------------------------------------------------------------------------------------------
_UNUSUAL = reals(-3, 3, edges=(np.inf, -np.inf, 0.0))


@op(kernel=kernels.isnan, shape=TEST, samples=_UNUSUAL)
def isnan(x: Value) -> Value:
    """Whether an element is NaN."""
    return np.isnan(x.real)


@op(kernel=kernels.isinf, shape=TEST, samples=_UNUSUAL)
def isinf(x: Value) -> Value:
    """Whether an element is infinite, of either sign."""
    return np.isinf(x.real)


@op(kernel=kernels.isfinite, shape=TEST, samples=_UNUSUAL)
def isfinite(x: Value) -> Value:
    """Whether an element is neither infinite nor NaN."""
    return np.isfinite(x.real)


# ---- choice ----------------------------------------------------------------------------------------------------------------------
_WHERE = _drawn(_bools, _floats, _floats, shapes=(((17,),) * 3, ((67,),) * 3, ((3, 4), (4,), (3, 1)), ((2, 3), (), (2, 3)), ((2, 3), (2, 3), ()),
                                                  ((2, 3), (), ()), ((), (2, 3), (3,)), ((3, 1), (1, 5), ()), ((), (), ())))


@op(kernel=kernels.where, shape=CHOICE, samples=_WHERE, integers=("condition",))
def where(condition: Value, x: Value, y: Value) -> Value:
    """x where the condition, a Tensor of bools, holds, else y.

    The operand that is not chosen gets a gradient of exactly 0, whatever its value: a NaN there does not spread.
    """
    return np.where(condition, x, y)


@where.vjp("x")
def _(g: Value, condition: Value) -> Value:
    return where(condition, g, 0.0)


@where.vjp("y")
def _(g: Value, condition: Value) -> Value:
    return where(condition, 0.0, g)


# NumPy's and PyTorch's longer names
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge
