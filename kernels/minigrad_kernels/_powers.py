"""pow, log2, log10 and exp2, branch-free, for scalars and SIMD vectors with the same bits; `scalar` is the public face.

x**y is exp(y log x), which multiplies the rounding of the logarithm by up to 745: so the logarithm is taken as a sum of two numbers, the
second far below the last place of the first (Dekker 1971). Coefficients were interpolated at Chebyshev nodes in 50 digits;
tests/kernels/test_scalar.py derives them again.
"""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba.core import types
from numba.extending import overload

from . import _exp_log
from ._exp_log import LOG2E, by_dtype, exp
from ._jit import POLICY
from ._vector import joined
from .simd import (
    Vector,
    abs_,
    copysign,
    first,
    floor,
    fma,
    from_bits,
    horner,
    inline,
    lane,
    overloaded,
    select,
    splat,
    to_bits,
    to_float,
)

Function = Callable[..., Any]
Pair = tuple[float, float]

LN2: Final = 0.6931471805599453
# Each a sum of two numbers of the format.
LN2_32: Final = (0.6931471824645996, -1.9046542121259336e-09)
LN2_64: Final = (0.6931471805599453, 2.3190468138462996e-17)
LOG2E_32: Final = (1.4426950216293335, 1.925963033500011e-08)
LOG2E_64: Final = (1.4426950408889634, 2.0355273740931033e-17)
LOG10E_32: Final = (0.4342944920063019, -1.0103049952192578e-08)
LOG10E_64: Final = (0.4342944819032518, 1.098319650216765e-17)
LOG10_2_32: Final = (0.3010300099849701, -1.432098883924482e-08)
LOG10_2_64: Final = (0.3010299956639812, -2.8037281277851704e-18)
TWO_THIRDS_32: Final = (0.6666666865348816, -1.9868215517249155e-08)
TWO_THIRDS_64: Final = (0.6666666666666666, 3.700743415417188e-17)
#: The s**2 up to which the polynomials hold: that of m = sqrt(2), and a little.
LARGEST_SQUARE: Final = 0.0295
# log(m) = 2 s + s z (2/3 + z P(z)) with s = (m - 1) / (m + 1), z = s**2
RATIO_32: Final = (0.19122430398325344, 0.22204689410867448, 0.28571532463591487, 0.3999999990414776)
RATIO_64: Final = (0.11725771221811145, 0.11705988156500907, 0.13334813971292003, 0.15384594791762352, 0.1818181833699257,
                   0.2222222222164882, 0.2857142857142938, 0.4)


@inline
def added(x, y, low):
    """x + y + low as a sum of two, for |x| >= |y| or x == 0."""
    total = x + y
    rest = (x - total) + y + low
    high = total + rest
    return high, (total - high) + rest


@inline
def multiplied(x, x_low, y, y_low):
    """(x + x_low) * (y + y_low) as a sum of two."""
    high = x * y
    return high, fma(x, y_low, fma(x_low, y, fma(x, y, -high)))


def _logarithms(digits: int, fraction: int, root: int, smallest: float, two_thirds: Pair, ratio: tuple[float, ...]) -> Function:
    """For a binary format: x > 0 as e, m's logarithm, and what that rounded away, where x = 2**e m and sqrt(1/2) <= m < sqrt(2).

    `digits`, `fraction`, `root` and `smallest` are as in `_exp_log`; a subnormal is scaled up first.
    """
    lift = digits + 1
    up = 2.0**lift

    @inline
    def logarithm(x):
        subnormal = x < smallest
        scaled = to_bits(select(subnormal, x * up, x)) - root
        e = to_float(scaled >> digits) - select(subnormal, lift, 0)
        f = from_bits((scaled & fraction) + root) - 1.0
        below = 2.0 + f
        s = f / below
        s_low = fma(-s, below, f) - s * (f - (below - 2.0))
        s_low = s_low / below
        z, z_low = multiplied(s, s_low, s, s_low)
        cubic, cubic_low = multiplied(z, z_low, s, s_low)
        tail = z * horner(z, ratio)
        q, q_low = added(splat(two_thirds[0], x), tail, splat(two_thirds[1], x))
        rest, rest_low = multiplied(cubic, cubic_low, q, q_low)
        high, low = added(2.0 * s, rest, fma(2.0, s_low, rest_low))
        return e, high, low

    return logarithm


_logarithm32 = _logarithms(23, 0x7FFFFF, 0x3F3504F3, 2.0**-126, TWO_THIRDS_32, RATIO_32)
_logarithm64 = _logarithms(52, 0xFFFFFFFFFFFFF, 0x3FE6A09E667F3BCD, 2.0**-1022, TWO_THIRDS_64, RATIO_64)


# --- logarithms to other bases ------------------------------------------------------------------------------------------------------
@inline
def _at_the_edges(x, y):
    return select(x > 0.0, select(x < np.inf, y, x), select(x == 0.0, -np.inf, np.nan))


def _log2_form(logarithm: Function, log2e: Pair) -> Function:
    def log2(x):
        e, m, m_low = logarithm(x)
        high, low = multiplied(m, m_low, splat(log2e[0], x), splat(log2e[1], x))
        high, low = added(e, high, low)
        return _at_the_edges(x, high)

    return log2


def _log10_form(logarithm: Function, log10e: Pair, log10_2: Pair) -> Function:
    def log10(x):
        e, m, m_low = logarithm(x)
        high, low = multiplied(m, m_low, splat(log10e[0], x), splat(log10e[1], x))
        whole, whole_low = multiplied(e, e * 0.0, splat(log10_2[0], x), splat(log10_2[1], x))
        high, low = added(whole, high, whole_low + low)
        return _at_the_edges(x, high)

    return log10


@by_dtype(_log2_form(_logarithm32, LOG2E_32), _log2_form(_logarithm64, LOG2E_64))
def log2(x: Any) -> Any:
    """Logarithm to the base 2, within 1 ulp, exact for powers of two; -inf at 0, NaN below."""
    return np.log2(x)


@by_dtype(_log10_form(_logarithm32, LOG10E_32, LOG10_2_32), _log10_form(_logarithm64, LOG10E_64, LOG10_2_64))
def log10(x: Any) -> Any:
    """Logarithm to the base 10, within 1 ulp; -inf at 0, NaN below."""
    return np.log10(x)


@inline
def scaled(x, exponent, digits, bias):
    """x * 2**exponent for whole exponents within twice the range, as 2**(n // 2) * 2**(n - n // 2): neither leaves it."""
    half = exponent >> 1
    return x * from_bits((half + bias) << digits) * from_bits((exponent - half + bias) << digits)


def _exp2_form(digits: int, bias: int) -> Function:
    whole, beyond = 1.5 * 2.0**digits, 1.25 * (bias + digits)

    def exp2(x):
        x = select(x > beyond, beyond, select(x < -beyond, -beyond, x))
        t = x + whole
        return scaled(exp((x - (t - whole)) * LN2), to_bits(t) - to_bits(splat(whole, x)), digits, bias)

    return exp2


@by_dtype(_exp2_form(23, 127), _exp2_form(52, 1023))
def exp2(x: Any) -> Any:
    """2**x, within 1.5 ulp, exact for whole x."""
    return np.exp2(x)


# --- powers -------------------------------------------------------------------------------------------------------------------------
def _pow_form(digits: int, bias: int, logarithm: Function, ln2: Pair, short_ln2: tuple[float, float], coefficients: tuple[float, ...]
              ) -> Function:
    whole, beyond, step_high, step_low = 1.5 * 2.0**digits, 0.75 * (bias + digits), -short_ln2[0], -short_ln2[1]

    def pow(x, y):
        a = abs_(x)
        e, m, m_low = logarithm(a)
        twos, twos_low = multiplied(e, e * 0.0, splat(ln2[0], x), splat(ln2[1], x))
        high, low = added(twos, m, twos_low + m_low)
        high = select(a == 0.0, -np.inf, select(a == np.inf, np.inf, high))
        product = y * high
        inside = abs_(product) < beyond  # beyond it the result is 0 or inf, and what follows would be NaN
        rest = select(inside, fma(y, low, fma(y, high, -product)), 0.0)
        product = select(inside, product, select(product == product, copysign(splat(beyond, x), product), product))
        # e**(product + rest), as in `exp`, and the rest joins what is left after the twos.
        t = fma(product, LOG2E, whole)
        n = t - whole
        r, r_low = added(fma(n, step_high, product), n * step_low, rest)
        near, _ = added(splat(1.0, x), r, fma(r * r, horner(r, coefficients), r_low))
        power = scaled(near, to_bits(t) - to_bits(splat(whole, x)), digits, bias)
        integer = floor(y) == y
        power = select(a == 1.0, select(y == y, 1.0, y), select(x == x, power, x))
        power = select(integer & (floor(0.5 * y) * 2.0 != y), copysign(power, x), power)
        power = select((x < 0.0) & (a < np.inf) & ~integer, np.nan, power)
        return select((y == 0.0) | (x == 1.0), 1.0, power)

    return pow


_pow32 = inline(_pow_form(23, 127, _logarithm32, LN2_32, _exp_log.LN2_32, _exp_log.EXP_32))
_pow64 = inline(_pow_form(52, 1023, _logarithm64, LN2_64, _exp_log.LN2_64, _exp_log.EXP_64))


def pow(x: Any, y: Any) -> Any:
    """x**y, within 1 ulp, with NumPy's edges: 1 for y = 0 whatever x is, NaN for a negative x and a y that is not whole."""
    return np.power(x, y)


def _overload_pow(x, y):
    kind = joined(x, y)
    if isinstance(kind, Vector):
        form = _pow32 if kind.dtype == types.float32 else _pow64
        # A number becomes a vector beside one.
        return lambda x, y: form(select(y == y, x, x), select(x == x, y, y))
    if isinstance(x, types.Float):
        return lambda x, y: first(pow(lane(x), y))
    return lambda x, y: first(pow(lane(float(x)), y))


overload(pow, jit_options={**POLICY, "forceinline": True})(_overload_pow)  # type: ignore[typeddict-item]
overloaded.add(pow)


def _overload_operator(x, y):
    """`x ** y` beside a vector, but for the whole constants that `_vector` makes products of."""
    return (lambda x, y: pow(x, y)) if isinstance(joined(x, y), Vector) else None


overload(operator.pow, jit_options={**POLICY, "forceinline": True})(_overload_operator)  # type: ignore[typeddict-item]


@inline
def power_by_squaring(x, exponent):
    """x**exponent for a whole exponent from 1 on, a number: exact where the result fits, else within 1 ulp up to 64.

    The products are kept as a sum of two numbers.
    """
    left = int(exponent)
    square, square_low = x, splat(0.0, x)
    power, power_low = splat(1.0, x), square_low
    while left > 0:
        if left & 1:
            power, power_low = multiplied(power, power_low, square, square_low)
        left >>= 1
        if left > 0:
            square, square_low = multiplied(square, square_low, square, square_low)
    total = power + power_low
    return select((total != total) | (power == 0.0), power, total)  # what lies below an infinity is NaN; a zero keeps its sign
