"""Products, variances, norms, log-sum-exp and truth over the middle of (outer, n, inner); see `along` for the order of operations.

Variances and norms add in float64, so that a float32 result is as good as rounded once and squares of float32 do not overflow.
"""
from __future__ import annotations

import operator
from typing import Final

from . import along, loops
from ._jit import jit
from .along import Kernel, Kinds, narrow, piece, put
from .reduce import fold, line, widen
from .scalar import exp, log
from .simd import abs_, copysign, inline, lanes, load, load_tail, maximum, minimum, select, splat, sqrt

INF: Final = float("inf")


@inline
def _itself(v, c):
    return v


# ---- products, truth ------------------------------------------------------------------------------------------------------------------
product: Final = Kinds(
    along.without_number(along.middle(_itself, operator.mul, 1.0, 1.0, _itself, "product_of"), "product"),
    along.whole_middle(lambda a, v: a * int(v), 1, "whole_product"))
whole_sum: Final[Kernel] = along.whole_middle(lambda a, v: a + int(v), 0, "whole_sum")
any_true: Final[Kernel] = along.whole_middle(lambda a, v: a | (v != 0), 0, "any_true")
all_true: Final[Kernel] = along.whole_middle(lambda a, v: a & (v != 0), 1, "all_true")


# ---- norms ----------------------------------------------------------------------------------------------------------------------------
@inline
def _size(v, p):
    return abs_(v)


@inline
def _wide_size(v, p):
    return abs_(widen(v))


@inline
def _square(v, p):
    wide = widen(v)
    return wide * wide


@inline
def _present(v, p):
    return select(v == 0.0, 0.0, 1.0)


@inline
def _power(v, p):
    return exp(p * log(abs_(widen(v))))


@inline
def _root(total, p):
    return exp(log(total) / p)


@inline
def _square_root(total, p):
    return sqrt(total)


#: kernel(x, p, out) by what p is: the power of a general one is exp(p log |x|), whose neutral element is 0, or inf if p is negative.
norm_2: Final[Kernel] = along.middle(_square, operator.add, 0.0, 0.0, _square_root, "norm_2")
norm_1: Final[Kernel] = along.middle(_wide_size, operator.add, 0.0, 0.0, _itself, "norm_1")
norm_0: Final[Kernel] = along.middle(_present, operator.add, 0.0, 0.0, _itself, "norm_0")
norm_inf: Final[Kernel] = along.middle(_size, maximum, 0.0, 0.0, _itself, "norm_inf")
norm_minus_inf: Final[Kernel] = along.middle(_size, minimum, INF, INF, _itself, "norm_minus_inf")
norm_p: Final[Kernel] = along.middle(_power, operator.add, 0.0, 0.0, _root, "norm_p")
norm_minus_p: Final[Kernel] = along.middle(_power, operator.add, 0.0, INF, _root, "norm_minus_p")


@inline
def _slope(x, y, p):
    ratio = narrow(exp((p - 1.0) * log(widen(abs_(x) / y))), x)
    return select(x == 0.0, x, copysign(ratio, x))


@jit
def norm_slope(x, y, p, out):
    """out = sign(x) (|x| / y)**(p - 1), 0 where x is 0: the derivative of the p-norm y."""
    step = lanes(out)
    for i in range(0, out.size, step):
        count = min(step, out.size - i)
        put(out, i, count, _slope(piece(x, i, count, 1.0), piece(y, i, count, 1.0), p))


#: out = sign(x) where |x| is y, else 0: the derivative of a maximum or minimum y of sizes, if no other is as large.
sign_at: Final[Kernel] = loops.zip2(lambda x, y: select(abs_(x) == y, select(x > 0.0, 1.0, select(x < 0.0, -1.0, x)), 0.0), "sign_at")
#: out = 1 where x is y or both are NaN, else 0.
equals: Final[Kernel] = loops.zip2(lambda x, y: select((x == y) | ((x != x) & (y != y)), 1.0, 0.0), "equals")
#: out = x / y, 0 where y is 0.
div_or_zero: Final[Kernel] = loops.zip2(lambda x, y: select(y == 0.0, 0.0, x / y), "div_or_zero")


# ---- variances ------------------------------------------------------------------------------------------------------------------------
@inline
def _wide(v, c):
    return widen(v)


_row_sum: Final[Kernel] = along.row(_wide, operator.add, 0.0, 0.0, "row_sum")


@inline
def _about_mean(total, error, n):
    """Squares of distances from a point, as those from the mean; rounding must not make them negative."""
    squares = total - error * error / n
    return select(squares < 0.0, 0.0, squares)


@inline
def _row_distances(x, center):
    """The sum of the distances from `center`, and that of their squares."""
    step = lanes(x)
    two = x.size // (2 * step) * (2 * step)
    p = splat(0.0, widen(load_tail(x, 0, 0, 0.0)))
    q, pp, qq = p, p, p
    for i in range(0, two, 2 * step):
        v, w = widen(load(x, i)) - center, widen(load(x, i + step)) - center
        p, q = p + v, q + w
        pp, qq = pp + v * v, qq + w * w
    total, squares = fold(p + q), fold(pp + qq)
    for i in range(two, x.size):
        distance = x[i] - center
        total += distance
        squares += distance * distance
    return total, squares


@jit
def moments(x, mean, squares):
    """mean (outer, inner) of x (outer, n, inner), and the sum of squared distances from it.

    The corrected two-pass algorithm (Chan, Golub, LeVeque 1983): a first mean, then distances from it, whose sum is its error n times.
    """
    outer, n, inner = x.shape
    for o in range(outer):
        at = o * x.strides[0]
        if inner == 1 and x.strides[1] == x.itemsize:
            source = line(x, at, n)
            center = _row_sum(source, 0.0) / n
            error, total = _row_distances(source, center)
            mean[o, 0], squares[o, 0] = center + error / n, _about_mean(total, error, n)
            continue
        means, sums = line(mean, o * mean.strides[0], inner), line(squares, o * squares.strides[0], inner)
        step = lanes(means)
        zero = splat(0.0, widen(load_tail(means, 0, 0, 0.0)))
        for i in range(0, inner, step):
            count = min(step, inner - i)
            center = zero
            for j in range(n):
                center = center + widen(piece(line(x, at + j * x.strides[1], inner), i, count, 0.0))
            center = center / n
            error, total = zero, zero
            for j in range(n):
                distance = widen(piece(line(x, at + j * x.strides[1], inner), i, count, 0.0)) - center
                error = error + distance
                total = total + distance * distance
            put(means, i, count, narrow(center + error / n, means))
            put(sums, i, count, narrow(_about_mean(total, error, n), sums))


@jit
def pool(between, within, count, out):
    """out = within + count * between: squared distances from the mean of groups of `count`, from those of the groups' means and inside them."""
    for i in range(out.size):
        out[i] = within[i] + count * between[i]


#: kernel(squares, divisor, out)
variance: Final[Kernel] = loops.map1_scalar(operator.truediv, "variance")
deviation: Final[Kernel] = loops.map1_scalar(lambda s, divisor: sqrt(s / divisor), "deviation")


# ---- log-sum-exp ----------------------------------------------------------------------------------------------------------------------
@inline
def _finite(high):
    return select(abs_(high) == INF, 0.0, high)


@inline
def _minus_exp(v, c):
    return exp(v - c)


_row_highest: Final[Kernel] = along.row(_itself, maximum, -INF, -INF, "row_highest")
_row_exp_sum: Final[Kernel] = along.row(_minus_exp, operator.add, 0.0, -INF, "row_exp_sum")


@jit
def log_sum_exp(x, out):
    """out (outer, inner) = log(sum(exp(x))) over n, exp taken of the distance from the largest; -inf of nothing and of -inf alone."""
    outer, n, inner = x.shape
    for o in range(outer):
        at = o * x.strides[0]
        target = line(out, o * out.strides[0], inner)
        if inner == 1 and x.strides[1] == x.itemsize:
            source = line(x, at, n)
            shift = _finite(_row_highest(source, 0.0))
            target[0] = log(_row_exp_sum(source, shift)) + shift
            continue
        step = lanes(target)
        for i in range(0, inner, step):
            count = min(step, inner - i)
            high = splat(-INF, target)
            for j in range(n):
                high = maximum(high, piece(line(x, at + j * x.strides[1], inner), i, count, 0.0))
            shift = _finite(high)
            total = splat(0.0, target)
            for j in range(n):
                total = total + exp(piece(line(x, at + j * x.strides[1], inner), i, count, 0.0) - shift)
            put(target, i, count, log(total) + shift)


#: out = exp(x - y), 0 where x is -inf: the derivative of the log-sum-exp y.
exp_sub: Final[Kernel] = loops.zip2(lambda x, y: select(x == -INF, 0.0, exp(x - y)), "exp_sub")
