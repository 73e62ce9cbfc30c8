"""A residual connection: what skips a branch plus what went through it."""
from __future__ import annotations

from typing import Final

from . import elementwise
from ._jit import jit
from .loops import Kernel
from .simd import lanes, load, load_tail, splat, store, store_tail


@jit
def residual(x, branch, scale, out):
    """out = x + scale * branch, the product rounded before the sum, so that scale 1 gives exactly x + branch; arrays 1-D, scale a number."""
    step = lanes(out)
    whole = out.size // step * step
    rest = out.size - whole
    factor = splat(scale, out)
    for i in range(0, whole, step):
        store(out, i, load(x, i) + factor * load(branch, i))
    if rest:
        store_tail(out, whole, rest, load_tail(x, whole, rest, 0.0) + factor * load_tail(branch, whole, rest, 0.0))


residual_grad: Final[Kernel] = elementwise.scale  # (g, scale, gbranch); the gradient of x is g itself
