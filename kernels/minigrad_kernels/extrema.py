"""Largest and smallest values and where they are, over the middle of (outer, n, inner); a NaN wins, as in NumPy.

Of equal values the first one's place counts. Truth values come as uint8.
"""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import along
from ._jit import jit, named
from .along import Kinds, piece
from .reduce import line
from .simd import inline, isnan, lanes, load, maximum, minimum, select, splat, to_bits

Function = Callable[..., Any]
Kernel = Any
INF: Final = float("inf")


@inline
def _itself(v, c):
    return v


def _whole(better: Function, name: str) -> Kernel:
    """kernel(x, out) for whole numbers: the best over n, which is at least 1 where there is anything to write."""

    @jit
    @named(name)
    def kernel(x, out):
        outer, n, inner = x.shape
        for o in range(outer):
            target = line(out, o * out.strides[0], inner)
            if inner == 1 and x.strides[1] == x.itemsize:
                source = line(x, o * x.strides[0], n)
                best = source[0]
                for i in range(1, n):
                    best = source[i] if better(source[i], best) else best
                target[0] = best
            else:
                for j in range(n):
                    source = line(x, o * x.strides[0] + j * x.strides[1], inner)
                    for i in range(inner):
                        target[i] = source[i] if j == 0 or better(source[i], target[i]) else target[i]

    return kernel


def _extreme(combine: Function, better: Function, start: float, name: str) -> Kinds:
    floats = along.middle(_itself, combine, start, start, _itself, f"{name}_of")
    return Kinds(along.without_number(floats, name), _whole(better, f"{name}_whole"))


largest: Final = _extreme(maximum, operator.gt, -INF, "largest")
smallest: Final = _extreme(minimum, operator.lt, INF, "smallest")


# ---- places ---------------------------------------------------------------------------------------------------------------------------
@intrinsic  # type: ignore[untyped-decorator]
def any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether the mask holds anywhere."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(mask.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(arguments[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), codegen


@intrinsic  # type: ignore[untyped-decorator]
def put_places(typingctx: Any, out: Any, i: Any, count: Any, places: Any) -> Any:
    """Write the first `count` lanes of a vector of indices into the int64 array `out` from index i on."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, begin, number, vector = arguments
        data = context.make_array(out)(context, builder, target).data
        for k in range(places.lanes):
            at = ir.Constant(begin.type, k)
            with cgutils.if_likely(builder, builder.icmp_signed("<", at, number)):
                place = builder.extract_element(vector, ir.Constant(ir.IntType(32), k))
                wide = place if place.type == begin.type else builder.sext(place, begin.type)
                builder.store(wide, builder.gep(data, [builder.add(begin, at)]))
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, places), codegen


def _places(combine: Function, better: Function, start: float, name: str) -> Kernel:
    """kernel(x, out): the index along n of the first best element, or of the first NaN."""
    best_of = along.row(_itself, combine, start, start, f"{name}_best")

    @inline
    @named(f"{name}_row")
    def row(x):
        best = best_of(x, 0.0)
        step = lanes(x)
        whole = x.size // step * step
        i = 0
        while i < whole:  # a NaN is there only if it is the best
            v = load(x, i)
            if any_lane((v == best) | isnan(v)):
                break
            i += step
        while i < x.size - 1 and not (x[i] == best or x[i] != x[i]):
            i += 1
        return i

    @inline
    @named(f"{name}_columns")
    def columns(x, offset, rows, stride, width, out):
        step = lanes(line(x, offset, width))
        for i in range(0, width, step):
            count = min(step, width - i)
            best = piece(line(x, offset, width), i, count, 0.0)
            places = to_bits(splat(0.0, best))
            for j in range(1, rows):
                v = piece(line(x, offset + j * stride, width), i, count, 0.0)
                taken = better(v, best) | (isnan(v) & (best == best))
                best = select(taken, v, best)
                places = select(taken, j, places)
            put_places(out, i, count, places)

    @jit
    @named(name)
    def kernel(x, out):
        outer, n, inner = x.shape
        for o in range(outer):
            at = o * x.strides[0]
            if inner == 1 and x.strides[1] == x.itemsize:
                out[o, 0] = row(line(x, at, n))
            else:
                columns(x, at, n, x.strides[1], inner, line(out, o * out.strides[0], inner))

    return kernel


def _whole_places(better: Function, name: str) -> Kernel:
    """As `_places`, for whole numbers."""

    @jit
    @named(name)
    def kernel(x, out):
        outer, n, inner = x.shape
        for o in range(outer):
            at = o * x.strides[0]
            if inner == 1 and x.strides[1] == x.itemsize:
                source = line(x, at, n)
                best, place = source[0], 0
                for i in range(1, n):  # first the value, which LLVM finds in vectors, then its place
                    best = source[i] if better(source[i], best) else best
                while source[place] != best:
                    place += 1
                out[o, 0] = place
                continue
            target = line(out, o * out.strides[0], inner)
            for i in range(inner):
                target[i] = 0
            for j in range(1, n):
                source = line(x, at + j * x.strides[1], inner)
                for i in range(inner):
                    if better(source[i], x[o, target[i], i]):
                        target[i] = j

    return kernel


place_of_largest: Final = Kinds(_places(maximum, operator.gt, -INF, "place_of_largest"), _whole_places(operator.gt, "whole_place_of_largest"))
place_of_smallest: Final = Kinds(_places(minimum, operator.lt, INF, "place_of_smallest"), _whole_places(operator.lt, "whole_place_of_smallest"))
