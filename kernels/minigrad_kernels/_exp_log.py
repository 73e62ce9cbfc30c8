"""exp, log and their shifted kin, branch-free, for scalars and SIMD vectors with the same bits; `scalar` is the public face.

Coefficients without a source were interpolated at Chebyshev nodes in 50 digits; tests/kernels/test_scalar.py derives them again.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from ._jit import POLICY
from .simd import Vector, abs_, copysign, first, fma, from_bits, horner, inline, lane, overloaded, select, to_bits, to_float

Function = Callable[..., Any]


def by_dtype(form32: Function, form64: Function) -> Callable[[Function], Function]:
    """Make the decorated definition callable from compiled code, as `form32` or `form64`; plain Python goes on calling the definition."""

    def decorate(definition: Function) -> Function:
        def form(x):  # Numba compares the signature
            if isinstance(x, types.Integer):
                return lambda x: definition(float(x))
            kind = x.dtype if isinstance(x, Vector) else x
            if kind not in (types.float32, types.float64):
                raise TypingError(f"{definition.__name__} takes float32 or float64, not {x}")
            if isinstance(x, Vector):
                return form32 if kind == types.float32 else form64
            return lambda x: first(definition(lane(x)))

        overload(definition, jit_options={**POLICY, "forceinline": True})(form)  # type: ignore[typeddict-item]
        overloaded.add(definition)
        return definition

    return decorate


# --- exp ----------------------------------------------------------------------------------------------------------------------------

LOG2E: Final = 1.4426950408889634
# ln 2 in two parts, the first so short that its product with an exponent is exact: Cephes expf, fdlibm e_exp.c
LN2_32: Final = (0.693359375, -2.12194440e-4)
LN2_64: Final = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
# (exp(r) - 1 - r) / r**2 on |r| <= 1.001 ln(2) / 2
EXP_32: Final = (0.0013926250831497612, 0.008363232883682618, 0.04166655421298415, 0.1666657666611993, 0.5)
EXP_64: Final = (2.0914755325893202e-09, 2.5105312729622103e-08, 2.755727347871858e-07, 2.755725517000089e-06, 2.4801587325677462e-05,
                 0.0001984126987500228, 0.0013888888888883711, 0.008333333333326083, 0.04166666666666667, 0.1666666666666667, 0.5)


def _exp_forms(digits: int, bias: int, ln2: tuple[float, float], coefficients: tuple[float, ...], lowest: float, highest: float
               ) -> tuple[Function, Function, Function, Function]:
    """exp, exp of what is not positive, exp(x) + 1 and exp(x) - 1 near 0, for a binary format with `digits` stored digits and this exponent bias.

    x = n ln 2 + r with n whole, so exp(x) = 2**n exp(r). Adding 1.5 * 2**digits to x / ln 2 rounds it to n and leaves n in the low bits,
    where a shift makes it an exponent. Beyond `lowest` and `highest` the result is 0 and inf; the 0 is selected, for the CPU takes
    10 x longer over a product that underflows.
    """
    whole, lift = 1.5 * 2.0**digits, (bias + 1) // 2
    high, low = -ln2[0], -ln2[1]
    even, raised, plain = whole + 2 * bias, whole + bias + lift, whole + bias
    polynomial, sink = (*coefficients, 1.0, 1.0), 2.0**-lift

    def exp(x):
        # 2**n as 2**(n // 2) * 2**(n - n // 2): neither leaves the range, the first product is exact, the second rounds once.
        x = select(x > highest, highest, x)
        vanished = x < lowest
        x = select(vanished, 0.0, x)
        t = fma(x, LOG2E, even)
        n = t - even
        r = fma(n, low, fma(n, high, x))
        exponent = to_bits(t)
        half = exponent >> 1
        return select(vanished, 0.0, horner(r, polynomial) * from_bits(half << digits) * from_bits((exponent - half) << digits))

    def exp_negative(x):
        # 2**n as 2**(n + lift) * 2**-lift: one exponent to make instead of two.
        vanished = x < lowest
        x = select(vanished, 0.0, x)
        t = fma(x, LOG2E, raised)
        n = t - raised
        r = fma(n, low, fma(n, high, x))
        return select(vanished, 0.0, horner(r, polynomial) * from_bits(to_bits(t) << digits) * sink)

    def exp1p_near(x):
        t = fma(x, LOG2E, plain)
        n = t - plain
        r = fma(n, low, fma(n, high, x))
        return fma(horner(r, polynomial), from_bits(to_bits(t) << digits), 1.0)

    def expm1_near(x):
        # 2**n q + (2**n - 1) with q = exp(r) - 1, which no cancellation touches.
        t = fma(x, LOG2E, plain)
        n = t - plain
        r = fma(n, low, fma(n, high, x))
        power = from_bits(to_bits(t) << digits)
        return fma(power, fma(r * r, horner(r, coefficients), r), power - 1.0)

    return exp, exp_negative, exp1p_near, expm1_near


_exp32, _exp_negative32, _exp1p_near32, _expm1_near32 = _exp_forms(23, 127, LN2_32, EXP_32, -104.0, 89.0)
_exp64, _exp_negative64, _exp1p_near64, _expm1_near64 = _exp_forms(52, 1023, LN2_64, EXP_64, -746.0, 710.0)


@by_dtype(_exp32, _exp64)
def exp(x: Any) -> Any:
    """e**x, within 1 ulp."""
    return np.exp(x)


@by_dtype(_exp_negative32, _exp_negative64)
def exp_negative(x: Any) -> Any:
    """e**x for x <= 0 or NaN only, with the bits of `exp` and fewer instructions."""
    return np.exp(x)


@by_dtype(_exp1p_near32, _exp1p_near64)
def exp1p_near(x: Any) -> Any:
    """e**x + 1 for |x| <= 40 only."""
    return np.exp(x) + 1


@by_dtype(_expm1_near32, _expm1_near64)
def expm1_near(x: Any) -> Any:
    """e**x - 1 for |x| <= 40 only."""
    return np.expm1(x)


def _expm1(x):
    far = abs_(x) > 40.0
    return copysign(select(far, exp(x) - 1.0, expm1_near(select(far, 0.0, x))), x)  # only -0.0 needs it


@by_dtype(_expm1, _expm1)
def expm1(x: Any) -> Any:
    """e**x - 1, within 2 ulp, x itself where x is tiny."""
    return np.expm1(x)


# --- log ----------------------------------------------------------------------------------------------------------------------------

# log(1 + f) = f - f**2 / 2 + f**3 P(f) for sqrt(1/2) <= 1 + f < sqrt(2): Cephes logf
LOG_32: Final = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
                 -2.4999993993e-1, 3.3333331174e-1)
# log(1 + f) = f - (f**2 / 2 - s (f**2 / 2 + s**2 P(s**2))), s = f / (2 + f): fdlibm e_log.c
LOG_64: Final = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01, 2.857142874366239149e-01,
                 3.999999999940941908e-01, 6.666666666666735130e-01)


def _log1p_32(f, e_low):
    square = f * f
    return f + fma(square, -0.5, fma(f * square, horner(f, LOG_32), e_low))


def _log1p_64(f, e_low):
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    return f - (half - fma(s, fma(z, horner(z, LOG_64), half), e_low))


def _log_form(digits: int, fraction: int, root: int, smallest: float, ln2: tuple[float, float], log1p: Function) -> Function:
    """log for a binary format with `digits` stored digits, masked by `fraction`; `root` is the bits of sqrt(1/2), `smallest` the least normal.

    x = 2**e m with sqrt(1/2) <= m < sqrt(2), so log(x) = e ln 2 + log(m). A subnormal is scaled up first.
    """
    lift, high, low = digits + 1, ln2[0], ln2[1]
    up, near_one = 2.0**lift, inline(log1p)

    def log(x):
        subnormal = x < smallest
        scaled = to_bits(select(subnormal, x * up, x)) - root
        e = to_float(scaled >> digits) - select(subnormal, lift, 0)
        f = from_bits((scaled & fraction) + root) - 1.0
        y = fma(e, high, near_one(f, e * low))
        return select(x > 0.0, select(x < np.inf, y, x), select(x == 0.0, -np.inf, np.nan))

    return log


_log32 = _log_form(23, 0x7FFFFF, 0x3F3504F3, 2.0**-126, LN2_32, _log1p_32)
_log64 = _log_form(52, 0xFFFFFFFFFFFFF, 0x3FE6A09E667F3BCD, 2.0**-1022, LN2_64, _log1p_64)


@by_dtype(_log32, _log64)
def log(x: Any) -> Any:
    """Natural logarithm, within 1 ulp; -inf at 0, NaN below."""
    return np.log(x)


def _log1p(x):
    u = 1.0 + x
    lost = select(x < 1.0, x - (u - 1.0), 1.0 - (u - x))  # what the sum rounded away
    y = log(u) + lost / u
    return select((x == 0.0) | (u == np.inf), x, select(u == 0.0, -np.inf, y))


@by_dtype(_log1p, _log1p)
def log1p(x: Any) -> Any:
    """log(1 + x), within 2 ulp, x itself where x is tiny; -inf at -1, NaN below."""
    return np.log1p(x)
