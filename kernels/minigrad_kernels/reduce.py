"""Sums and their counterpart, repetition, over the middle of (outer, n, inner): any axis of an array is the middle of some such shape.

Along contiguous elements a sum runs in the lanes of one vector through blocks of BLOCK elements; lanes are folded in a fixed tree, block
totals added in order in float64. Along strided elements it is a chain over ascending n for each inner element.
"""
from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from ._jit import jit
from .simd import Vector, lanes, load, load_tail, splat, store, store_tail

BLOCK: Final = 4096
BYTE: Final = ir.IntType(8).as_pointer()


@intrinsic  # type: ignore[untyped-decorator]
def fold(typingctx: Any, vector: Any) -> Any:
    """The sum of all lanes: halves are added until one lane is left, so the order is fixed."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, count = arguments[0], vector.lanes
        undefined = ir.Constant(value.type, ir.Undefined)
        while count > 1:
            count //= 2
            high = [i + count if i < count else i for i in range(vector.lanes)]
            moved = builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), high))
            value = builder.fadd(value, moved)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), codegen


@intrinsic  # type: ignore[untyped-decorator]
def widen(typingctx: Any, vector: Any) -> Any:
    """The same lanes in float64."""
    kind = Vector(types.float64, vector.lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0] if vector.dtype == types.float64 else builder.fpext(arguments[0], context.get_value_type(kind))

    return kind(vector), codegen


@jit
def total(x):
    """The sum of a 1-D contiguous array, as float64."""
    step = lanes(x)
    result = 0.0
    for begin in range(0, x.size, BLOCK):
        end = min(x.size, begin + BLOCK)
        whole = begin + (end - begin) // step * step
        sums = splat(0.0, x)
        for i in range(begin, whole, step):
            sums = sums + load(x, i)
        if whole < end:
            sums = sums + load_tail(x, whole, end - whole, 0.0)
        result += fold(sums)
    return result


@intrinsic  # type: ignore[untyped-decorator]
def line(typingctx: Any, array: Any, offset: Any, n: Any) -> Any:
    """`n` contiguous elements of `array`, `offset` bytes from its start, as a 1-D array."""
    kind = types.Array(array.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = make_array(array)(context, builder, arguments[0]).data
        at = builder.bitcast(builder.gep(builder.bitcast(base, BYTE), [arguments[1]]), base.type)
        item = context.get_constant(types.intp, array.dtype.bitwidth // 8)
        made = make_array(kind)(context, builder)
        populate_array(made, data=at, shape=[arguments[2]], strides=[item], itemsize=item, meminfo=None)
        return made._getvalue()

    return kind(array, types.intp, types.intp), codegen


@jit
def _columns(x, offset, rows, stride, out):
    """out[i] = sum over rows of the row that starts `stride` bytes after the one before."""
    step = lanes(out)
    width = out.size
    whole = width // step * step
    for i in range(0, whole, step):
        sums = splat(0.0, out)
        for j in range(rows):
            sums = sums + load(line(x, offset + j * stride, width), i)
        store(out, i, sums)
    rest = width - whole
    if rest:
        sums = splat(0.0, out)
        for j in range(rows):
            sums = sums + load_tail(line(x, offset + j * stride, width), whole, rest, 0.0)
        store_tail(out, whole, rest, sums)


@jit
def sum_middle(x, out):
    """out (outer, inner) = x (outer, n, inner) summed over n; inner elements contiguous."""
    outer, n, inner = x.shape
    for o in range(outer):
        if inner == 1 and x.strides[1] == x.itemsize:
            out[o, 0] = total(line(x, o * x.strides[0], n))
        else:
            _columns(x, o * x.strides[0], n, x.strides[1], line(out, o * out.strides[0], inner))


@jit
def mean_middle(x, out):
    """out (outer, inner) = x (outer, n, inner) averaged over n: the sum, divided by n."""
    sum_middle(x, out)
    count = x.shape[1]
    for o in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[o, i] /= count


@jit
def repeat(x, out):
    """out (outer, n, inner) = x (outer, inner) for every n."""
    outer, n, inner = out.shape
    step = lanes(x)
    whole = inner // step * step
    rest = inner - whole
    for o in range(outer):
        for j in range(n):
            source, target = line(x, o * x.strides[0], inner), line(out, o * out.strides[0] + j * out.strides[1], inner)
            for i in range(0, whole, step):
                store(target, i, load(source, i))
            for i in range(whole, whole + rest):
                target[i] = source[i]


@jit
def transpose(x, out):
    """out (n, m) = x (m, n), in tiles that stay in the first cache."""
    m, n = x.shape
    for i0 in range(0, m, 32):
        for j0 in range(0, n, 32):
            for j in range(j0, min(n, j0 + 32)):
                for i in range(i0, min(m, i0 + 32)):
                    out[j, i] = x[i, j]
