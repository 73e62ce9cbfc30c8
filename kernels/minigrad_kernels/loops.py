"""From a function of one element to a kernel on arrays: `kernel(inputs..., out)`, whole vectors, then one masked tail.

Arrays are 1-D, C-contiguous, of one float dtype; out may be an input itself, but not a part of it shifted. Each element depends on its
own inputs only, so the bits do not depend on where an array is cut. With `vector=False` the loop walks vectors of one lane, for functions
that branch; the bits are the same.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._jit import jit, named
from .simd import inline, lanes, load, load_lane, load_tail, splat, store, store_lane, store_tail

Function = Callable[..., Any]
Kernel = Any


def map1(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, out): out[i] = f(x[i])."""
    f = inline(f)

    @named(name)
    def by_lane(x, out):
        for i in range(out.size):
            store_lane(out, i, f(load_lane(x, i)))

    @named(name)
    def by_vector(x, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        for i in range(0, whole, step):
            store(out, i, f(load(x, i)))
        if rest:
            store_tail(out, whole, rest, f(load_tail(x, whole, rest, 0.0)))

    return jit(by_vector if vector else by_lane)


def map1_scalar(f: Function, name: str) -> Kernel:
    """kernel(x, c, out): out[i] = f(x[i], c), the number c converted to the arrays' dtype."""
    f = inline(f)

    @jit
    @named(name)
    def kernel(x, c, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        constant = splat(c, out)
        for i in range(0, whole, step):
            store(out, i, f(load(x, i), constant))
        if rest:
            store_tail(out, whole, rest, f(load_tail(x, whole, rest, 0.0), constant))

    return kernel


def zip2(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, out): out[i] = f(x[i], y[i])."""
    f = inline(f)

    @named(name)
    def by_lane(x, y, out):
        for i in range(out.size):
            store_lane(out, i, f(load_lane(x, i), load_lane(y, i)))

    @named(name)
    def by_vector(x, y, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        for i in range(0, whole, step):
            store(out, i, f(load(x, i), load(y, i)))
        if rest:
            store_tail(out, whole, rest, f(load_tail(x, whole, rest, 0.0), load_tail(y, whole, rest, 0.0)))

    return jit(by_vector if vector else by_lane)


def zip2_scalar_left(f: Function, name: str) -> Kernel:
    """kernel(x, y, out): out[i] = f(x[0], y[i])."""
    f = inline(f)

    @jit
    @named(name)
    def kernel(x, y, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        constant = splat(x[0], out)
        for i in range(0, whole, step):
            store(out, i, f(constant, load(y, i)))
        if rest:
            store_tail(out, whole, rest, f(constant, load_tail(y, whole, rest, 0.0)))

    return kernel


def zip2_scalar_right(f: Function, name: str) -> Kernel:
    """kernel(x, y, out): out[i] = f(x[i], y[0])."""
    f = inline(f)

    @jit
    @named(name)
    def kernel(x, y, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        constant = splat(y[0], out)
        for i in range(0, whole, step):
            store(out, i, f(load(x, i), constant))
        if rest:
            store_tail(out, whole, rest, f(load_tail(x, whole, rest, 0.0), constant))

    return kernel


def zip3(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, z, out): out[i] = f(x[i], y[i], z[i])."""
    f = inline(f)

    @named(name)
    def by_lane(x, y, z, out):
        for i in range(out.size):
            store_lane(out, i, f(load_lane(x, i), load_lane(y, i), load_lane(z, i)))

    @named(name)
    def by_vector(x, y, z, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        for i in range(0, whole, step):
            store(out, i, f(load(x, i), load(y, i), load(z, i)))
        if rest:
            tails = load_tail(x, whole, rest, 0.0), load_tail(y, whole, rest, 0.0), load_tail(z, whole, rest, 0.0)
            store_tail(out, whole, rest, f(*tails))

    return jit(by_vector if vector else by_lane)


def zip4(f: Function, name: str, vector: bool = True) -> Kernel:
    """kernel(x, y, z, w, out): out[i] = f(x[i], y[i], z[i], w[i])."""
    f = inline(f)

    @named(name)
    def by_lane(x, y, z, w, out):
        for i in range(out.size):
            store_lane(out, i, f(load_lane(x, i), load_lane(y, i), load_lane(z, i), load_lane(w, i)))

    @named(name)
    def by_vector(x, y, z, w, out):
        step = lanes(out)
        whole = out.size // step * step
        rest = out.size - whole
        for i in range(0, whole, step):
            store(out, i, f(load(x, i), load(y, i), load(z, i), load(w, i)))
        if rest:
            tails = load_tail(x, whole, rest, 0.0), load_tail(y, whole, rest, 0.0), load_tail(z, whole, rest, 0.0), load_tail(w, whole, rest, 0.0)
            store_tail(out, whole, rest, f(*tails))

    return jit(by_vector if vector else by_lane)


@dataclass(frozen=True)
class Zip:
    """The kernels of a function of two operands: both arrays, or one of them a single element (length 1) for every place."""

    both: Kernel
    left: Kernel
    right: Kernel


def zip2_all(f: Function, name: str) -> Zip:
    """`zip2` and both its broadcasting forms."""
    f = inline(f)
    return Zip(zip2(f, name), zip2_scalar_left(f, f"{name}_left"), zip2_scalar_right(f, f"{name}_right"))
