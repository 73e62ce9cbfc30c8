"""sin, cos and tan, branch-free but for huge arguments, for scalars and SIMD vectors with the same bits; `scalar` is the public face.

x = n pi/2 + r with n whole and |r| <= pi/4, so each is plus or minus the sine or cosine of r. With pi/2 in three parts of full length,
x - n p1 is exact (both are multiples of the last place of p1, and their difference is small), and what p2 and p3 take off is rounded once
each: Cody and Waite 1980. That holds as long as n is short; beyond, libm reduces against as many digits of pi as the exponent asks for.
Coefficients were interpolated at Chebyshev nodes in 50 digits; tests/kernels/test_scalar.py derives them again.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import types

from . import simd
from ._exp_log import by_dtype
from .simd import Mask, abs_, fma, horner, inline, select, to_bits

Function = Callable[..., Any]

TWO_OVER_PI: Final = 0.6366197723675814
HALF_PI_32: Final = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
HALF_PI_64: Final = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
#: The r**2 up to which the polynomials hold: (pi/4)**2 and a little.
LARGEST_SQUARE: Final = 0.617
# (sin(r) / r - 1) / r**2 by r**2
SIN_32: Final = (2.7249851596168045e-06, -0.00019840086163020333, 0.008333331873650577, -0.16666666663852564)
SIN_64: Final = (-7.586682497157786e-13, 1.6058531370931902e-10, -2.505210623088241e-08, 2.755731921933466e-06, -0.0001984126984126506,
                 0.008333333333333331, -0.16666666666666666)
# (cos(r) - 1 + r**2 / 2) / r**4 by r**2
COS_32: Final = (-2.7300897268581585e-07, 2.4800599899457505e-05, -0.0013888887671132451, 0.04166666666431893)
COS_64: Final = (-1.1382611119025631e-11, 2.087614597263508e-09, -2.755731727031051e-07, 2.480158729876295e-05, -0.0013888888888887395,
                 0.041666666666666664)


@simd.intrinsic
def any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether the mask holds in at least one lane."""
    if not isinstance(mask, Mask):
        return None
    kind = ir.IntType(mask.lanes)
    return types.boolean(mask), lambda context, builder, sig, args: builder.icmp_unsigned("!=", builder.bitcast(args[0], kind), kind(0))


def _forms(digits: int, half_pi: tuple[float, ...], sines: tuple[float, ...], cosines: tuple[float, ...], limit: float
           ) -> tuple[Function, Function, Function]:
    """sin, cos and tan for a binary format with `digits` stored digits, reduced here up to `limit`.

    Adding 1.5 * 2**digits to x * 2/pi rounds it to n and leaves n in the low bits.
    """
    whole = 1.5 * 2.0**digits
    first, second, third = (-part for part in half_pi)
    far_sin, far_cos, far_tan = simd.llvm1("sin"), simd.llvm1("cos"), simd.llvm1("tan")

    @inline
    def parts(x):
        """The sine and cosine of r, and n."""
        t = fma(x, TWO_OVER_PI, whole)
        n = t - whole
        r = fma(n, third, fma(n, second, fma(n, first, x)))
        z = r * r
        half = 0.5 * z
        near_one = 1.0 - half
        return fma(r * z, horner(z, sines), r), near_one + fma(z * z, horner(z, cosines), (1.0 - near_one) - half), to_bits(t)

    def sin(x):
        s, c, n = parts(x)
        y = select((n & 1) == 0, s, c)
        y = select(x == 0.0, x, select((n & 2) == 0, y, -y))
        huge = abs_(x) > limit
        if any_lane(huge):
            y = select(huge, far_sin(x), y)
        return y

    def cos(x):
        s, c, n = parts(x)
        y = select((n & 1) == 0, c, s)
        y = select(((n + 1) & 2) == 0, y, -y)
        huge = abs_(x) > limit
        if any_lane(huge):
            y = select(huge, far_cos(x), y)
        return y

    def tan(x):
        s, c, n = parts(x)
        even = (n & 1) == 0
        y = select(x == 0.0, x, select(even, s, -c) / select(even, c, s))
        huge = abs_(x) > limit
        if any_lane(huge):
            y = select(huge, far_tan(x), y)
        return y

    return sin, cos, tan


_sin32, _cos32, _tan32 = _forms(23, HALF_PI_32, SIN_32, COS_32, 1e5)
_sin64, _cos64, _tan64 = _forms(52, HALF_PI_64, SIN_64, COS_64, 1e9)


@by_dtype(_sin32, _sin64)
def sin(x: Any) -> Any:
    """Sine of an angle in radians of any size, within 2 ulp."""
    return np.sin(x)


@by_dtype(_cos32, _cos64)
def cos(x: Any) -> Any:
    """Cosine of an angle in radians of any size, within 2 ulp."""
    return np.cos(x)


@by_dtype(_tan32, _tan64)
def tan(x: Any) -> Any:
    """Tangent of an angle in radians of any size, within 4 ulp."""
    return np.tan(x)
