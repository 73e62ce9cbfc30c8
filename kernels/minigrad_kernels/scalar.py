"""Elementary functions of one element, on scalars and SIMD vectors alike, with the same bits; and `generic`, which gives them to a user.

Compiled code gets branch-free polynomials; plain Python gets each definition's own NumPy body. Bounds are in ulp, hold for float32 and
float64 over the whole domain, subnormals included, and are swept in tests/kernels/test_scalar.py.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np
from numba.extending import is_jitted

from . import simd
from ._angles import cos as cos
from ._angles import sin as sin
from ._angles import tan as tan
from ._exp_log import by_dtype, exp1p_near, exp_negative
from ._exp_log import exp as exp
from ._exp_log import expm1 as expm1
from ._exp_log import log as log
from ._exp_log import log1p as log1p
from ._powers import exp2 as exp2
from ._powers import log2 as log2
from ._powers import log10 as log10
from ._powers import pow as pow
from ._powers import power_by_squaring as power_by_squaring
from .simd import abs_, copysign, fma, horner, inline, select

# tanh(x) / x = 1 + z P(z), z = x**2 <= 0.6**2, where the other form begins to lose digits
TANH_32: Final = (-0.006269119719649729, 0.02111095904951479, -0.053873948848643334, 0.13332915366987452, -0.3333333033273155)
TANH_64: Final = (-1.833596211003942e-05, 8.154737806525365e-05, -0.0002322510406793851, 0.0005880541548418729, -0.001455464802800745,
                  0.0035920831663434575, -0.008863232113541474, 0.02186948838378093, -0.05396825396475762, 0.13333333333330197,
                  -0.33333333333333326)
# erf(x) / x - 1 = P(x**2) for |x| <= 1
ERF_32: Final = (7.875875062685488e-05, -0.000801686428716587, 0.005189087423433974, -0.026854212010626412, 0.11283594715160218,
                 -0.37612626666720334, 0.12837916584835093)
ERF_64: Final = (5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08, -1.6350312701054695e-07, 1.6461000484121368e-06,
                 -1.4925595266831182e-05, 0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145, -0.026866170645076792,
                 0.11283791670954879, -0.3761263890318375, 0.1283791670955126)
# exp(x**2) (1 - erf(x)) = P((x - 2) / (x + 2)) for 1 <= x <= 4 (float64: 6), from where on erf is 1
ERFC_32: Final = (-0.0008379754387023134, 0.006811140131085635, 0.0037323717589395444, -0.07896830612793473, 0.2416582015255602,
                  -0.4271859897684867, 0.25539567631050575)
ERFC_64: Final = (3.917059299925389e-06, 1.820143195975009e-06, -1.4067532694582058e-05, -2.7647305443610053e-05, 2.754312818566672e-05,
                  0.00017436697232946864, 4.3554202452705896e-05, -0.0009819773208131022, -0.0008471431980760424, 0.006997461747753573,
                  0.00373289240349224, -0.07897858101585253, 0.24165819424246987, -0.4271858474139579, 0.25539567631050575)


def _tanh_form(coefficients: tuple[float, ...]) -> Callable[..., Any]:
    def tanh(x):
        a, z = abs_(x), x * x
        near = fma(a * z, horner(z, coefficients), a)
        far = 1.0 - 2.0 / exp1p_near(2.0 * select(a > 20.0, 20.0, a))  # from 20 on it is 1 to the last bit
        return copysign(select(a < 0.6, near, far), x)

    return tanh


@by_dtype(_tanh_form(TANH_32), _tanh_form(TANH_64))
def tanh(x: Any) -> Any:
    """Hyperbolic tangent, within 1.5 ulp, odd to the bit."""
    return np.tanh(x)


def _sigmoid(x):
    e = exp_negative(-abs_(x))
    numerator = select(x < 0.0, e, 1.0)
    return fma(-numerator, e / (1.0 + e), numerator)  # numerator / (1 + e), whose own rounding would cost another ulp


@by_dtype(_sigmoid, _sigmoid)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), within 2 ulp; underflows gradually."""
    e = np.exp(-np.abs(x))
    return np.where(np.less(x, 0), e, 1) / (1 + e)


def _erf_form(near: tuple[float, ...], far: tuple[float, ...], one: float) -> Callable[..., Any]:
    def erf(x):
        a = abs_(x)
        a = select(a > one, one, a)
        z = a * a
        tail = exp_negative(-z) * horner((a - 2.0) / (a + 2.0), far)
        return copysign(select(a < 1.0, fma(a, horner(z, near), a), 1.0 - tail), x)

    return erf


@by_dtype(_erf_form(ERF_32, ERFC_32, 4.0), _erf_form(ERF_64, ERFC_64, 6.0))
def erf(x: Any) -> Any:
    """The error function, within 1.5 ulp, odd to the bit."""
    return np.vectorize(math.erf)(x)


# --- a user's function --------------------------------------------------------------------------------------------------------------


@inline
def _where(condition, x, y):
    return select(condition, x, y)


@inline
def _clip(x, low, high):
    return simd.minimum(simd.maximum(x, low), high)


@inline
def _sign(x):
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, x))


@inline
def _square(x):
    return x * x


@inline
def _isfinite(x):
    return abs_(x) < np.inf


# What `math` and `np` mean inside a user's function. The last row has no polynomial here: libm, a call a lane.
_MEANING: Final[dict[str, Any]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log10": log10, "log1p": log1p, "tanh": tanh, "erf": erf,
    "sin": sin, "cos": cos, "tan": tan, "pow": pow, "power": pow,
    "sqrt": simd.sqrt, "floor": simd.floor, "ceil": simd.ceil, "trunc": simd.trunc, "rint": simd.round_even,
    "fabs": abs_, "abs": abs_, "absolute": abs_, "copysign": copysign, "sign": _sign, "square": _square,
    "maximum": simd.maximum, "minimum": simd.minimum, "where": _where, "clip": _clip, "isnan": simd.isnan, "isfinite": _isfinite,
    **{name: simd.llvm1(name) for name in ("sinh", "cosh")},
}  # fmt: skip
_OURS: Final = {id(getattr(module, name)): ours for name, ours in _MEANING.items() for module in (math, np) if hasattr(module, name)}

#: Stands for both `math` and `np`; a name that is not ours (`pi`, `inf`) comes from `math`, else from NumPy.
namespace: Final = ModuleType(f"{__name__}.namespace")
namespace.__dict__.update(_MEANING, __getattr__=lambda name: getattr(math, name, None) or getattr(np, name))


def generic(function: Any) -> Callable[..., Any]:
    """A copy of a user's scalar function, in which functions of `math` and NumPy are ours, in it and in the functions that it calls.

    Lambdas, closures and notebook cells will do: nothing reads the source. Compile the result with `loops`.
    """
    return _copy(function.py_func if is_jitted(function) else function, frozenset())


def _copy(function: Any, outer: frozenset[int]) -> FunctionType:
    outer |= {id(function)}
    names = _names(function.__code__)
    scope = {name: _meant(value, outer) for name, value in function.__globals__.items() if name in names}
    cells = tuple(CellType(_meant(cell.cell_contents, outer)) for cell in function.__closure__ or ())
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)


def _names(code: CodeType) -> set[str]:
    """The globals and attributes that a function mentions, and those of the functions inside it."""
    return set(code.co_names).union(*(_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _meant(value: Any, outer: frozenset[int]) -> Any:
    """What a name of a user's function stands for in the copy; `outer` are the functions being copied, against recursion."""
    if value is math or value is np:
        return namespace
    if id(value) in _OURS:
        return _OURS[id(value)]
    function = value.py_func if is_jitted(value) else value
    if isinstance(function, FunctionType) and id(function) not in outer and not (function.__module__ or "").startswith(__package__):
        return inline(_copy(function, outer))
    return value
