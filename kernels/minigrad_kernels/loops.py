"""From a function of one element to a kernel on arrays: `kernel(operands..., out)`, whole vectors, then one masked tail.

Arrays are 1-D and C-contiguous; out may be an input itself, but not a part of it shifted. Each element depends on its own inputs only,
so the bits do not depend on where an array is cut. A pattern has a letter for each operand:

    v  an array, element i for place i                    1  an array of one element, for every place
    c  a number, in every lane and of out's dtype         k  a number as it is, which may steer the function

Functions of floats, and of integers in arithmetic, run on vectors and need one dtype. `lane` walks vectors of one lane, for functions that
branch; the bits are the same. `element` calls the function on Numba's own scalars, for comparisons and choices, where dtypes differ and
LLVM finds the vectors itself.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from . import simd
from ._jit import jit, named
from .simd import inline

Function = Callable[..., Any]
Kernel = Any

# The one loop of each form; `{...}` are comma-separated, an expression for each operand, as in `_READ`. It is text because Numba has no
# variadic kernels, and inside a function because the cache looks for what a kernel is made of in its closure.
_VECTOR: Final = """
def factory(f):
    def kernel({operands}, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        {hoisted}
        for i in range(0, whole, step):
            store(out, i, f({vectors}))
        if rest:
            store_tail(out, whole, rest, f({tails}))
    return kernel
"""
_LANE: Final = """
def factory(f):
    def kernel({operands}, out):
        for i in range(out.size):
            store_lane(out, i, f({one_lane}))
    return kernel
"""
_ELEMENT: Final = """
def factory(f):
    def kernel({operands}, out):
        {hoisted_elements}
        for i in range(out.size):
            out[i] = f({elements})
    return kernel
"""
#: How each form reads operand {x}, by its letter in the pattern.
_READ: Final = {
    "operands": {"v": "{x}", "1": "{x}", "c": "{x}", "k": "{x}"},
    "hoisted": {"v": "pass", "1": "{x}_ = splat({x}[0], out)", "c": "{x}_ = splat({x}, out)", "k": "pass"},
    "vectors": {"v": "load({x}, i)", "1": "{x}_", "c": "{x}_", "k": "{x}"},
    "tails": {"v": "load_tail({x}, whole, rest, 0.0)", "1": "{x}_", "c": "{x}_", "k": "{x}"},
    "one_lane": {"v": "load_lane({x}, i)", "1": "load_lane({x}, 0)", "c": "{x}", "k": "{x}"},
    "hoisted_elements": {"v": "pass", "1": "{x}_ = {x}[0]", "c": "{x}_ = {x}", "k": "pass"},
    "elements": {"v": "{x}[i]", "1": "{x}_", "c": "{x}_", "k": "{x}"},
}


@cache
def _source(template: str, pattern: str) -> str:
    parts = {part: ("; " if part.startswith("hoisted") else ", ").join(read[letter].format(x=f"x{i}") for i, letter in enumerate(pattern))
             for part, read in _READ.items()}
    return template.format(**parts)


def _loop(template: str, f: Function, name: str, pattern: str) -> Kernel:
    scope: dict[str, Any] = {**vars(simd), "__name__": __name__}
    exec(_source(template, pattern), scope)
    return jit(named(name)(scope["factory"](inline(f))))


def loop(f: Function, name: str, pattern: str, vector: bool = True) -> Kernel:
    """kernel(x0, x1, ..., out): out[i] = f(of each operand what `pattern` says), over vectors, or over lanes if `vector` is false."""
    return _loop(_VECTOR if vector else _LANE, f, name, pattern)


def element_loop(f: Function, name: str, pattern: str) -> Kernel:
    """As `loop`, with f called on scalars, for operands of several dtypes, bool among them."""
    return _loop(_ELEMENT, f, name, pattern)


def map1(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, out): out[i] = f(x[i])."""
    return loop(f, name, "v", vector)


def map1_scalar(f: Function, name: str) -> Kernel:
    """kernel(x, c, out): out[i] = f(x[i], c)."""
    return loop(f, name, "vc")


def zip2(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, out): out[i] = f(x[i], y[i])."""
    return loop(f, name, "vv", vector)


def zip3(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, z, out): out[i] = f(x[i], y[i], z[i])."""
    return loop(f, name, "vvv", vector)


def zip4(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, z, w, out): out[i] = f(x[i], y[i], z[i], w[i])."""
    return loop(f, name, "vvvv", vector)


class Zip:
    """The kernels of a function of several operands, each of which may be a single element (length 1) for every place."""

    def __init__(self, f: Function, name: str, make: Callable[[Function, str, str], Kernel] = loop) -> None:
        self._f, self._name, self._make = inline(f), name, make
        self._made: dict[str, Kernel] = {}

    def form(self, pattern: str) -> Kernel:
        """The kernel for operands of this pattern, made when it is first asked for."""
        found = self._made.get(pattern)
        if found is None:
            found = self._made[pattern] = self._make(self._f, f"{self._name}_{pattern}", pattern)
        return found

    @property
    def both(self) -> Kernel:
        """Of two arrays."""
        return self.form("vv")

    @property
    def left(self) -> Kernel:
        """Of a single element and an array."""
        return self.form("1v")

    @property
    def right(self) -> Kernel:
        """Of an array and a single element."""
        return self.form("v1")


def zip2_all(f: Function, name: str) -> Zip:
    """`zip2` and both its broadcasting forms."""
    return Zip(f, name)
