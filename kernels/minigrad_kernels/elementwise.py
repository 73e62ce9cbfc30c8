"""Arithmetic and elementary functions, element by element; arrays 1-D, C-contiguous, out last and allowed to be an input."""
from __future__ import annotations

import operator
from typing import Final

from . import loops, scalar, simd
from ._jit import jit
from .loops import Kernel, Zip

add: Final[Zip] = loops.zip2_all(operator.add, "add")
sub: Final[Zip] = loops.zip2_all(operator.sub, "sub")
mul: Final[Zip] = loops.zip2_all(operator.mul, "mul")
div: Final[Zip] = loops.zip2_all(operator.truediv, "div")
maximum: Final[Zip] = loops.zip2_all(simd.maximum, "maximum")
minimum: Final[Zip] = loops.zip2_all(simd.minimum, "minimum")

# kernel(x, out)
copy: Final[Kernel] = loops.map1(operator.pos, "copy")
neg: Final[Kernel] = loops.map1(operator.neg, "neg")
abs_: Final[Kernel] = loops.map1(simd.abs_, "abs_")
square: Final[Kernel] = loops.map1(lambda x: x * x, "square")
reciprocal: Final[Kernel] = loops.map1(lambda x: 1.0 / x, "reciprocal")
sqrt: Final[Kernel] = loops.map1(simd.sqrt, "sqrt")
exp: Final[Kernel] = loops.map1(scalar.exp, "exp")
expm1: Final[Kernel] = loops.map1(scalar.expm1, "expm1")
log: Final[Kernel] = loops.map1(scalar.log, "log")
log1p: Final[Kernel] = loops.map1(scalar.log1p, "log1p")

# kernel(x, c, out), c a number
scale: Final[Kernel] = loops.map1_scalar(operator.mul, "scale")
shift: Final[Kernel] = loops.map1_scalar(operator.add, "shift")


@jit
def fill(value, out):
    """out[i] = value, a number, converted to out's dtype."""
    for i in range(out.size):
        out[i] = value


@jit
def cast(x, out):
    """out[i] = x[i] in out's dtype, rounded to nearest; any real dtypes."""
    for i in range(out.size):
        out[i] = x[i]
