"""Products, variances, norms, log-sum-exp, and whether anything or everything is true."""
from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import rules
from minigrad.ops.elementwise import mul, neg, scale, sub
from minigrad.ops.extrema import flattened
from minigrad.ops.maths import sign
from minigrad.ops.op import Attributes, Op, Plan, Step, Value, op, per_element
from minigrad.ops.ranges import place_range, put_range, take_range
from minigrad.ops.reduce import along_axes, mean, repeated, sum, with_axes
from minigrad.ops.samples import Case, broadcasting, several, shaped
from minigrad.ops.shape import reshape, transpose
from minigrad.ops.spec import Spec
from minigrad_kernels import reduce
from minigrad_kernels import statistics as kernels

Axis = int | tuple[int, ...] | None


@op(kernel=kernels.div_or_zero, shape=rules.elementwise, samples=broadcasting(-3, 3, second=(0.5, 3)), flops=per_element(1))
def div_or_zero(x: Value, y: Value) -> Value:
    """x / y, and 0 where y is 0."""
    return np.where(y.real == 0, 0, x / np.where(y.real == 0, 1, y))


@div_or_zero.vjp("x")
def _(g: Value, y: Value) -> Value:
    return div_or_zero(g, y)


@div_or_zero.vjp("y")
def _(g: Value, y: Value, out: Value) -> Value:
    return neg(div_or_zero(mul(g, out), y))


# ---- products ---------------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.product, shape=partial(rules.reduction, gives=rules.counted), flops=per_element(1),
    samples=several(along_axes(low=0.5, high=1.5), along_axes(), shaped((0, 3), axis=0), shaped((64,), low=0.5, high=1.5), shaped((2, 3, 2), axis=1),
                    shaped((2, 3, 2, 2, 3), low=0.5, high=1.5, axis=(0, 2, 4))))
def prod(x: Value, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """The product over `axis` (all axes if None); of whole numbers and truth values in int64. The gradient divides by nothing."""
    return np.prod(x, axis=axis, keepdims=keepdims)


@prod.vjp("x")
def _(g: Value, x: Value, x_spec: Spec, axis: Any) -> Value:
    if x_spec.size == 0:
        return repeated(g, x_spec, axis)
    groups = rules.runs(x_spec.shape, [i in rules.axes_of(prod, x_spec, axis) for i in range(len(x_spec.shape))])
    merged = reshape(x, shape=tuple(n for n, _ in groups))
    return reshape(_others(g, merged, [at for at, (_, mark) in enumerate(groups) if mark]), shape=x_spec.shape)


def _others(g: Value, x: Value, axes: list[int]) -> Value:
    """g times the product of all other elements along `axes`, one axis after the other."""
    shape = x.spec.shape
    if not axes:
        return reshape(g, shape=shape)
    if len(axes) > 1:
        part = prod(x, axis=axes[-1])
        g = _others(g, part, axes[:-1])
    outer, n, inner = math.prod(shape[:axes[-1]]), shape[axes[-1]], math.prod(shape[axes[-1] + 1:])
    if outer == 1:
        return reshape(_tree(reshape(g, shape=(1, inner)), reshape(x, shape=(n, inner))), shape=shape)
    lines = reshape(transpose(reshape(x, shape=(outer, n * inner))), shape=(n, inner * outer))
    upstream = reshape(transpose(reshape(g, shape=(outer, inner))), shape=(1, inner * outer))
    return reshape(transpose(reshape(_tree(upstream, lines), shape=(n * inner, outer))), shape=shape)


def _tree(g: Value, x: Value) -> Value:
    """g (1, m) times the product of all other rows of x (n, m).

    Products of halves go up to the root, what is outside each half comes down: bilinear steps, right for zeros and for any derivative.
    """
    levels = [x]
    while (n := levels[-1].spec.shape[0]) > 1:
        left, right = _halves(levels[-1])
        levels.append(_times(left, right, n // 2))
    outside = g
    for level in reversed(levels[:-1]):
        n, m = level.spec.shape
        left, right = _halves(level)
        to_left, to_right = _times(outside, right, n // 2), mul(_head(outside, n // 2), _head(left, n // 2))
        outside = put_range(place_range(to_left, start=0, shape=(n, m)), to_right, start=left.spec.size)
    return outside


def _halves(x: Value) -> tuple[Value, Value]:
    """The upper rows, one more if their number is odd, and the lower rows."""
    n, m = x.spec.shape
    return _head(x, n - n // 2), take_range(x, start=(n - n // 2) * m, shape=(n // 2, m))


def _head(x: Value, rows: int) -> Value:
    return x if x.spec.shape[0] == rows else take_range(x, start=0, shape=(rows, x.spec.shape[1]))


def _times(x: Value, y: Value, rows: int) -> Value:
    """x with its first `rows` rows multiplied by y, which has so many."""
    product = mul(_head(x, rows), y)
    return product if x.spec.shape[0] == rows else put_range(x, product, start=0)


# ---- variances --------------------------------------------------------------------------------------------------------------------
def _spread(finish: Any) -> rules.Rule:
    """Moments run by run from the right, pooled; then `finish` divides the squared distances by their number less `correction`."""

    def rule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
        dtype, spec = rules.same_float(op, specs), specs[0]
        axes = rules.axes_of(op, spec, attributes["axis"])
        out = Spec.of(rules.reduced(spec, axes, attributes["keepdims"]), dtype)
        steps: list[Step] = []
        temps: list[Spec] = []

        def temp(shape: tuple[int, ...]) -> int:
            temps.append(Spec.of(shape, dtype))
            return 1 + len(temps)

        means, squares, count = 0, -1, 1
        for part in rules.folds(spec, axes):
            shape = (part.outer, part.inner)
            center, between = temp(shape), temp(shape)
            steps.append(part.step(kernels.moments, "x[o,n,i] mean[o,i] squares[o,i]", [dtype] * 3, [means, center, between]))
            if squares >= 0:
                within, pooled = temp(shape), temp(shape)
                steps += [part.step(reduce.sum_middle, "x[o,n,i] out[o,i]", [dtype] * 2, [squares, within]),
                          rules.step(kernels.pool, rules.layout("between[n] within[n] count:f out[n]", "n"), [dtype] * 3, [between, within, pooled],
                                     {"n": math.prod(shape)}, {"count": float(count)})]
                between = pooled
            means, squares, count = center, between, count * part.n
        steps.append(rules.step(finish, rules.layout("squares[n] divisor:f out[n]", "n"), [dtype] * 2, [squares, 1], {"n": out.size},
                                {"divisor": max(count - float(attributes["correction"]), 0.0)}))
        return Plan((out,), tuple(steps), tuple(temps))

    return rule


def _distances(x: Value, x_spec: Spec, axis: Any, correction: float, reduced_size: int) -> tuple[Value, float]:
    """x less its mean, and one over the divisor of the variance."""
    divisor = max(x_spec.size / max(reduced_size, 1) - correction, 0.0)
    return sub(x, mean(x, axis=axis, keepdims=True)), 1 / divisor if divisor else math.inf


def _variance(x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    """For definitions."""
    flat, kept = flattened(x, axis)
    distance = flat - np.mean(flat, axis=-1, keepdims=True)
    found = np.sum(distance * distance, axis=-1) / max(flat.shape[-1] - correction, 0.0)
    return found.reshape(kept) if keepdims else found


_SPREADS = several(*(shaped(shape, axis=axis, correction=correction, keepdims=correction == 0) for correction in (0, 1, 1.5) for shape, axis in
                     (((3, 4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), -1), ((3, 4, 5), (0, 2)), ((2, 3, 2, 3), (0, 2)), ((67, 7), 0), ((5000,), 0))))


@op(kernel=kernels.moments, shape=_spread(kernels.variance), samples=_SPREADS, flops=per_element(4))
def var(x: Value, *, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Value:
    """The variance over `axis` (all axes if None), its divisor the number of elements less `correction`, or 0 if that is less."""
    return _variance(x, axis, correction, keepdims)


@var.vjp("x")
def _(g: Value, x: Value, x_spec: Spec, axis: Any, correction: float) -> Value:
    distance, by = _distances(x, x_spec, axis, correction, g.spec.size)
    return mul(scale(distance, by=2 * by), with_axes(g, x_spec, axis))


@op(kernel=kernels.moments, shape=_spread(kernels.deviation), samples=_SPREADS, flops=per_element(4))
def std(x: Value, *, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Value:
    """The square root of `var`; where it is 0 the gradient is 0."""
    return np.sqrt(_variance(x, axis, correction, keepdims))


@std.vjp("x")
def _(g: Value, x: Value, out: Value, x_spec: Spec, axis: Any, correction: float) -> Value:
    distance, by = _distances(x, x_spec, axis, correction, g.spec.size)
    return mul(scale(distance, by=by), with_axes(div_or_zero(g, out), x_spec, axis))


# ---- norms ------------------------------------------------------------------------------------------------------------------------
_NORMS = {2.0: kernels.norm_2, 1.0: kernels.norm_1, 0.0: kernels.norm_0, math.inf: kernels.norm_inf, -math.inf: kernels.norm_minus_inf}


def _norm(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    dtype, spec, p = rules.same_float(op, specs), specs[0], float(attributes["p"])
    axes = rules.axes_of(op, spec, attributes["axis"])
    out = rules.reduced(spec, axes, attributes["keepdims"])
    if math.isnan(p):
        raise ShapeError(f"{op.name}: p is NaN: give a number, or inf or -inf")
    if p < 0 and spec.size == 0 and math.prod(out) > 0:
        raise ShapeError(f"{op.name}: {spec!r} has no elements to reduce, and of nothing there is no norm with p={p:g}: p >= 0 gives 0")
    kernel = _NORMS.get(p, kernels.norm_p if p > 0 else kernels.norm_minus_p)
    later = kernels.norm_1 if p == 0 else kernel  # counts are added
    return rules.folded(spec, axes, out, dtype, lambda at: later if at else kernel, "x[o,n,i] p:f out[o,i]", {"p": p})


def _absolute(x: Any) -> Any:
    """For definitions: complex-differentiable."""
    return np.where(x.real < 0, -x, x)


def _norms(rng: np.random.Generator) -> Iterator[Case]:
    for p in (2, 1, 3, 1.5, 0.5, -1, -2, -2.5, math.inf, -math.inf, 0):
        for shape, axis in (((3, 4, 5), None), ((3, 4, 5), 0), ((3, 4, 5), -1), ((2, 3, 2, 3), (0, 2)), ((67,), 0), ((), None)):
            yield (rng.uniform(0.25, 3, shape) * rng.choice([-1.0, 1.0], shape),), {"p": p, "axis": axis, "keepdims": p == 2}
    yield (rng.normal(size=(0, 3)),), {"axis": 0}
    yield (rng.normal(size=(3, 4)),), {"axis": 1}
    yield (rng.normal(size=(9, 70)) * 1e-3,), {"axis": 0, "p": 3}


@op(kernel=kernels.norm_2, shape=_norm, samples=_norms, flops=per_element(2))
def vector_norm(x: Value, *, p: float = 2.0, axis: Axis = None, keepdims: bool = False) -> Value:
    """sum(|x|**p)**(1/p) over `axis` (all axes if None): the p-norm of vectors, as numpy.linalg.norm and torch.linalg.vector_norm.

    p = inf and -inf are the largest and smallest |x|, p = 0 counts what is not 0. The gradient is 0 at 0.
    """
    flat, kept = flattened(_absolute(x), axis)
    if p == 0 or not flat.shape[-1]:
        found = 1.0 * np.sum(flat != 0, axis=-1)
    elif math.isinf(p):
        place = (np.argmax if p > 0 else np.argmin)(flat.real, axis=-1)
        found = np.take_along_axis(flat, place[..., None], -1)[..., 0]
    else:
        found = np.sum(flat ** p, axis=-1) ** (1 / p)
    return found.reshape(kept) if keepdims else found


@vector_norm.vjp("x")
def _(g: Value, x: Value, out: Value, x_spec: Spec, p: float, axis: Any) -> Value:
    total, upstream = with_axes(out, x_spec, axis), with_axes(g, x_spec, axis)
    if p == 2:
        return mul(x, div_or_zero(upstream, total))
    if p == 0:
        return repeated(scale(g, by=0.0), x_spec, axis)
    if p == 1:
        return mul(sign(x), upstream)
    if math.isinf(p):
        signs = sign_at(x, total)
        return mul(signs, div_or_zero(upstream, sum(mul(signs, signs), axis=axis, keepdims=True)))
    return mul(norm_slope(x, total, p=p), upstream)


@op(kernel=kernels.sign_at, shape=rules.elementwise, samples=several(shaped((3, 4), (3, 4)), broadcasting(-2, 2)), flops=per_element(1))
def sign_at(x: Value, y: Value) -> Value:
    """The sign of x where |x| is y, else 0; its derivative is 0."""
    return np.where(_absolute(x).real == y.real, np.sign(x.real), 0.0)


@op(kernel=kernels.norm_slope, shape=rules.elementwise, flops=per_element(30),
    samples=several(*(shaped((17,), (17,), low=0.5, p=p) for p in (3, 1.5, -1)), shaped((3, 4), (3, 1), low=0.5, p=1)))
def norm_slope(x: Value, y: Value, *, p: float) -> Value:
    """sign(x) (|x| / y)**(p - 1), and 0 where x is 0: the derivative of the p-norm y of x by x."""
    return np.where(x.real == 0, 0, np.sign(x.real) * (np.where(x.real == 0, 1, _absolute(x)) / y) ** (p - 1))


@norm_slope.vjp("x")
def _(g: Value, x: Value, out: Value, p: float) -> Value:
    return scale(mul(g, div_or_zero(out, x)), by=p - 1)


@norm_slope.vjp("y")
def _(g: Value, y: Value, out: Value, p: float) -> Value:
    return scale(mul(g, div_or_zero(out, y)), by=1 - p)


# ---- log-sum-exp ------------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.log_sum_exp, shape=rules.reduction, samples=several(along_axes(low=-9, high=9), shaped((0, 3), axis=0)), flops=per_element(14))
def logsumexp(x: Value, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) over `axis` (all axes if None), without overflow; -inf of nothing and of -inf alone."""
    flat, kept = flattened(x, axis)
    high = np.max(flat.real, axis=-1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isinf(high), 0.0, high)
    with np.errstate(divide="ignore"):
        found = (np.log(np.sum(np.exp(flat - shift), axis=-1, keepdims=True)) + shift)[..., 0]
    return found.reshape(kept) if keepdims else found


@logsumexp.vjp("x")
def _(g: Value, x: Value, out: Value, x_spec: Spec, axis: Any) -> Value:
    return mul(exp_sub(x, with_axes(out, x_spec, axis)), with_axes(g, x_spec, axis))


@op(kernel=kernels.exp_sub, shape=rules.elementwise, samples=broadcasting(-3, 3), flops=per_element(13))
def exp_sub(x: Value, y: Value) -> Value:
    """exp(x - y), and 0 where x is -inf."""
    nothing = np.isneginf(x.real)
    return np.where(nothing, 0, np.exp(np.where(nothing, 0, x) - np.where(nothing, 0, y)))


@exp_sub.vjp("x")
def _(g: Value, out: Value) -> Value:
    return mul(g, out)


@exp_sub.vjp("y")
def _(g: Value, out: Value) -> Value:
    return neg(mul(g, out))


# ---- truth ------------------------------------------------------------------------------------------------------------------------
_TRUTHS = several(along_axes(low=-1.0, high=1.0), shaped((0, 3), axis=0), shaped((4, 5), low=0.0, high=0.0, axis=1))


@op(kernel=kernels.any_true, shape=partial(rules.reduction, gives=rules.truth), samples=_TRUTHS, integers=("x",))
def any(x: Value, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether anything is not 0 over `axis` (all axes if None); a NaN is not 0. bool, of any dtype."""
    return np.any(x, axis=axis, keepdims=keepdims)


@op(kernel=kernels.all_true, shape=partial(rules.reduction, gives=rules.truth), samples=_TRUTHS, integers=("x",))
def all(x: Value, *, axis: Axis = None, keepdims: bool = False) -> Value:
    """Whether everything is not 0 over `axis` (all axes if None); a NaN is not 0. bool, of any dtype."""
    return np.all(x, axis=axis, keepdims=keepdims)
