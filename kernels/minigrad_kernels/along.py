"""From a step of one vector to a reduction over the middle of (outer, n, inner): the factories that the families of reductions share.

Contiguous elements go through four vectors of accumulators side by side, which hide each other's latency; the four are combined in
pairs, their lanes by halves. Of strided elements each inner one is a chain over ascending n. Either order is fixed by n alone, and a
part of a shared dimension is a set of whole chains, so the bits depend on neither.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ._jit import jit, named
from .reduce import line
from .simd import Vector, first, inline, lanes, load, load_tail, splat, store, store_tail

Function = Callable[..., Any]
Kernel = Any


@dataclass(frozen=True)
class Kinds:
    """The kernels of one reduction: for floats, and for whole numbers and truth values (as uint8)."""

    floats: Kernel
    integers: Kernel


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def moved(typingctx: Any, vector: Any, count: Any, fill: Any) -> Any:
    """Lane i + count in lane i, for a literal count; `fill` where there is none."""
    by, number = count.literal_value, types.unliteral(fill)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rest = context.cast(builder, arguments[2], number, vector)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [min(i + by, vector.lanes) for i in range(vector.lanes)])
        return builder.shuffle_vector(arguments[0], rest, mask)

    return vector(vector, count, number), codegen


@intrinsic  # type: ignore[untyped-decorator]
def narrow(typingctx: Any, x: Any, like: Any) -> Any:
    """A float64, or a vector of them, rounded to the dtype of the array or vector `like`."""
    kind = Vector(like.dtype, x.lanes) if isinstance(x, Vector) else like.dtype

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0] if kind == x else builder.fptrunc(arguments[0], context.get_value_type(kind))

    return kind(x, like), codegen


@inline
def piece(x, i, count, fill):
    """`count` elements from index i on, at most a vector of them, and `fill` behind."""
    return load(x, i) if count == lanes(x) else load_tail(x, i, count, fill)


@inline
def put(out, i, count, v):
    """Write the first `count` lanes from index i on."""
    if count == lanes(out):
        store(out, i, v)
    else:
        store_tail(out, i, count, v)


def row(prepare: Function, combine: Function, start: float, fill: float, name: str) -> Kernel:
    """row(x, c): the elements of a contiguous x, each sent through `prepare(v, c)`, combined; `start` if there are none.

    `start` is neutral under `combine`, and so is what `prepare` makes of `fill`.
    """
    prepare, combine = inline(prepare), inline(combine)

    @inline
    @named(name)
    def reduce_row(x, c):
        step = lanes(x)
        four = x.size // (4 * step) * (4 * step)
        whole = x.size // step * step
        p = splat(start, prepare(load_tail(x, 0, 0, fill), c))
        q, r, s = p, p, p
        for i in range(0, four, 4 * step):
            p = combine(p, prepare(load(x, i), c))
            q = combine(q, prepare(load(x, i + step), c))
            r = combine(r, prepare(load(x, i + 2 * step), c))
            s = combine(s, prepare(load(x, i + 3 * step), c))
        for i in range(four, whole, step):
            p = combine(p, prepare(load(x, i), c))
        if whole < x.size:
            p = combine(p, prepare(load_tail(x, whole, x.size - whole, fill), c))
        p = combine(combine(p, q), combine(r, s))
        p = combine(p, moved(p, 16, start))
        p = combine(p, moved(p, 8, start))
        p = combine(p, moved(p, 4, start))
        p = combine(p, moved(p, 2, start))
        return first(combine(p, moved(p, 1, start)))

    return reduce_row


def middle(prepare: Function, combine: Function, start: float, fill: float, finish: Function, name: str) -> Kernel:
    """kernel(x, c, out): out (outer, inner) = finish(all prepare(x, c) combined over n, c), c a number; see `row`."""
    prepare, combine, finish = inline(prepare), inline(combine), inline(finish)
    along = row(prepare, combine, start, fill, f"{name}_row")

    @inline
    @named(f"{name}_columns")
    def columns(x, offset, rows, stride, c, out):
        step = lanes(out)
        width = out.size
        four = width // (4 * step) * (4 * step)
        zero = splat(start, prepare(load_tail(out, 0, 0, fill), c))
        for i in range(0, four, 4 * step):
            p, q, r, s = zero, zero, zero, zero
            for j in range(rows):
                elements = line(x, offset + j * stride, width)
                p = combine(p, prepare(load(elements, i), c))
                q = combine(q, prepare(load(elements, i + step), c))
                r = combine(r, prepare(load(elements, i + 2 * step), c))
                s = combine(s, prepare(load(elements, i + 3 * step), c))
            store(out, i, narrow(finish(p, c), out))
            store(out, i + step, narrow(finish(q, c), out))
            store(out, i + 2 * step, narrow(finish(r, c), out))
            store(out, i + 3 * step, narrow(finish(s, c), out))
        for i in range(four, width, step):
            count = min(step, width - i)
            p = zero
            for j in range(rows):
                p = combine(p, prepare(piece(line(x, offset + j * stride, width), i, count, fill), c))
            put(out, i, count, narrow(finish(p, c), out))

    @jit
    @named(name)
    def kernel(x, c, out):
        outer, n, inner = x.shape
        for o in range(outer):
            at = o * x.strides[0]
            if inner == 1 and x.strides[1] == x.itemsize:
                out[o, 0] = finish(along(line(x, at, n), c), c)
            else:
                columns(x, at, n, x.strides[1], c, line(out, o * out.strides[0], inner))

    return kernel


def without_number(kernel: Kernel, name: str) -> Kernel:
    """kernel(x, out) from a kernel(x, c, out) that has no use for c."""

    @jit
    @named(name)
    def plain(x, out):
        kernel(x, 0.0, out)

    return plain


def whole_middle(combine: Function, start: int, name: str) -> Kernel:
    """kernel(x, out): combine(... combine(start, x) ..., x) over n in int64, which is exact until it overflows; x of any dtype."""
    combine = inline(combine)

    @jit
    @named(name)
    def kernel(x, out):
        outer, n, inner = x.shape
        for o in range(outer):
            target = line(out, o * out.strides[0], inner)
            if inner == 1 and x.strides[1] == x.itemsize:
                source = line(x, o * x.strides[0], n)
                result = np.int64(start)
                for i in range(n):
                    result = combine(result, source[i])
                target[0] = result
            else:
                for i in range(inner):
                    target[i] = start
                for j in range(n):
                    source = line(x, o * x.strides[0] + j * x.strides[1], inner)
                    for i in range(inner):
                        target[i] = combine(np.int64(target[i]), source[i])

    return kernel
