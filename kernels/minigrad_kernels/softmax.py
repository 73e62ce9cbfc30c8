"""Softmax along contiguous rows, and the log-sum-exp that it shares with cross-entropy; the row's maximum is subtracted first."""
from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.extending import intrinsic

from ._jit import jit
from .reduce import fold, line
from .scalar import exp, log
from .simd import lanes, load, load_tail, maximum, splat, store, store_tail

LOWEST: Final = float("-inf")


@intrinsic  # type: ignore[untyped-decorator]
def highest(typingctx: Any, vector: Any) -> Any:
    """The largest lane, lanes compared in order; NaN if the first one that is compared false is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lane = [builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), i)) for i in range(vector.lanes)]
        while len(lane) > 1:
            lane = [builder.select(builder.fcmp_unordered(">", a, b), a, b) for a, b in zip(lane[::2], lane[1::2], strict=True)]
        return lane[0]

    return vector.dtype(vector), codegen


@jit
def log_sum_exp(row):
    """(m, log(sum(exp(row - m)))) for a contiguous row, m its maximum, both in the row's dtype."""
    step = lanes(row)
    whole = row.size // step * step
    rest = row.size - whole
    top = splat(LOWEST, row)
    for i in range(0, whole, step):
        top = maximum(top, load(row, i))
    if rest:
        top = maximum(top, load_tail(row, whole, rest, LOWEST))
    high = highest(top)
    sums = splat(0.0, row)
    for i in range(0, whole, step):
        sums = sums + exp(load(row, i) - high)
    if rest:
        sums = sums + exp(load_tail(row, whole, rest, LOWEST) - high)
    return high, log(fold(sums))


@jit
def softmax(x, out):
    """out[r] = exp(x[r] - m) / sum(exp(x[r] - m)) for each row r, m its maximum."""
    rows, columns = x.shape
    step = lanes(x)
    whole = columns // step * step
    rest = columns - whole
    for r in range(rows):
        source, target = line(x, r * x.strides[0], columns), line(out, r * out.strides[0], columns)
        high, log_sum = log_sum_exp(source)
        for i in range(0, whole, step):
            store(target, i, exp((load(source, i) - high) - log_sum))
        if rest:
            store_tail(target, whole, rest, exp((load_tail(source, whole, rest, 0.0) - high) - log_sum))


@jit
def softmax_grad(g, y, out):
    """out[r] = y[r] * (g[r] - <g[r], y[r]>) for each row r of the softmax y."""
    rows, columns = y.shape
    step = lanes(y)
    whole = columns // step * step
    rest = columns - whole
    for r in range(rows):
        at = r * y.strides[0]
        gs, ys, target = line(g, at, columns), line(y, at, columns), line(out, at, columns)
        sums = splat(0.0, ys)
        for i in range(0, whole, step):
            sums = sums + load(gs, i) * load(ys, i)
        if rest:
            sums = sums + load_tail(gs, whole, rest, 0.0) * load_tail(ys, whole, rest, 0.0)
        inner = fold(sums)
        for i in range(0, whole, step):
            store(target, i, load(ys, i) * (load(gs, i) - inner))
        if rest:
            store_tail(target, whole, rest, load_tail(ys, whole, rest, 0.0) * (load_tail(gs, whole, rest, 0.0) - inner))
