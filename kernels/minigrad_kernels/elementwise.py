"""Arithmetic and elementary functions, element by element; arrays 1-D, C-contiguous, out last and allowed to be an input."""
from __future__ import annotations

import operator
from typing import Final

from . import loops, scalar, simd
from ._jit import jit
from .loops import Kernel, Zip
from .simd import select

# Of two operands, either of which may be one element for every place
add: Final = Zip(operator.add, "add")
sub: Final = Zip(operator.sub, "sub")
mul: Final = Zip(operator.mul, "mul")
div: Final = Zip(operator.truediv, "div")
maximum: Final = Zip(simd.maximum, "maximum")
minimum: Final = Zip(simd.minimum, "minimum")
power: Final = Zip(scalar.pow, "power")
# Of three: g where x > y, half of it where they are equal; NaN is not smaller than anything.
larger: Final = Zip(lambda g, x, y: select(x == y, 0.5 * g, select(x < y, 0.0, g)), "larger")

# kernel(x, out)
copy: Final[Kernel] = loops.map1(operator.pos, "copy")
neg: Final[Kernel] = loops.map1(operator.neg, "neg")
abs_: Final[Kernel] = loops.element_loop(lambda x: abs(x), "abs_", "v")  # integers as well
sign: Final[Kernel] = loops.map1(lambda x: select(x > 0.0, 1.0, select(x < 0.0, -1.0, x)), "sign")
square: Final[Kernel] = loops.map1(lambda x: x * x, "square")
reciprocal: Final[Kernel] = loops.map1(lambda x: 1.0 / x, "reciprocal")
sqrt: Final[Kernel] = loops.map1(simd.sqrt, "sqrt")
rsqrt: Final[Kernel] = loops.map1(lambda x: 1.0 / simd.sqrt(x), "rsqrt")
exp: Final[Kernel] = loops.map1(scalar.exp, "exp")
exp2: Final[Kernel] = loops.map1(scalar.exp2, "exp2")
expm1: Final[Kernel] = loops.map1(scalar.expm1, "expm1")
log: Final[Kernel] = loops.map1(scalar.log, "log")
log2: Final[Kernel] = loops.map1(scalar.log2, "log2")
log10: Final[Kernel] = loops.map1(scalar.log10, "log10")
log1p: Final[Kernel] = loops.map1(scalar.log1p, "log1p")
sin: Final[Kernel] = loops.map1(scalar.sin, "sin")
cos: Final[Kernel] = loops.map1(scalar.cos, "cos")
tan: Final[Kernel] = loops.map1(scalar.tan, "tan")
erf: Final[Kernel] = loops.map1(scalar.erf, "erf")
floor: Final[Kernel] = loops.map1(simd.floor, "floor")
ceil: Final[Kernel] = loops.map1(simd.ceil, "ceil")
trunc: Final[Kernel] = loops.map1(simd.trunc, "trunc")
round_even: Final[Kernel] = loops.map1(simd.round_even, "round_even")

# kernel(x, c, out), c a number
scale: Final[Kernel] = loops.map1_scalar(operator.mul, "scale")
shift: Final[Kernel] = loops.map1_scalar(operator.add, "shift")
power_by: Final[Kernel] = loops.map1_scalar(scalar.pow, "power_by")
power_by_squaring: Final[Kernel] = loops.loop(scalar.power_by_squaring, "power_by_squaring", "vk")
filled: Final[Kernel] = loops.map1_scalar(lambda x, c: c, "filled")

# kernel(x, low, high, out); kernel(g, x, low, high, out)
clamp: Final[Kernel] = loops.loop(lambda x, low, high: simd.minimum(simd.maximum(x, low), high), "clamp", "vcc")
clamp_grad: Final[Kernel] = loops.loop(lambda g, x, low, high: select((x >= low) & (x <= high), g, 0.0), "clamp_grad", "vvcc")


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
