"""Softmax and its logarithm along an axis, and the log-sum-exp that they share with cross-entropy; the maximum is subtracted first."""
from __future__ import annotations

import operator
from typing import Any, Final

from llvmlite import ir
from numba.extending import intrinsic

from ._jit import jit, named
from .loops import Function, Kernel
from .reduce import fold, line
from .scalar import exp, log
from .simd import inline, lanes, load, load_tail, maximum, splat, store, store_tail

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


# ---- along contiguous rows ---------------------------------------------------------------------------------------------------------
def _rows(last: Function, name: str) -> Kernel:
    """kernel(x, out): out[r] = last(log(softmax(x[r]))) for each row r."""
    last = inline(last)

    @jit
    @named(name)
    def kernel(x, out):
        rows, columns = x.shape
        step = lanes(x)
        whole = columns // step * step
        rest = columns - whole
        for r in range(rows):
            source, target = line(x, r * x.strides[0], columns), line(out, r * out.strides[0], columns)
            high, log_sum = log_sum_exp(source)
            for i in range(0, whole, step):
                store(target, i, last((load(source, i) - high) - log_sum))
            if rest:
                store_tail(target, whole, rest, last((load_tail(source, whole, rest, 0.0) - high) - log_sum))

    return kernel


def _rows_grad(term: Function, last: Function, name: str) -> Kernel:
    """kernel(g, y, out): out[r] = last(g[r], y[r], sum(term(g[r], y[r]))) for each row r."""
    term, last = inline(term), inline(last)

    @jit
    @named(name)
    def kernel(g, y, out):
        rows, columns = y.shape
        step = lanes(y)
        whole = columns // step * step
        rest = columns - whole
        for r in range(rows):
            at = r * y.strides[0]
            gs, ys, target = line(g, at, columns), line(y, at, columns), line(out, at, columns)
            sums = splat(0.0, ys)
            for i in range(0, whole, step):
                sums = sums + term(load(gs, i), load(ys, i))
            if rest:
                sums = sums + term(load_tail(gs, whole, rest, 0.0), load_tail(ys, whole, rest, 0.0))
            inner = fold(sums)
            for i in range(0, whole, step):
                store(target, i, last(load(gs, i), load(ys, i), inner))
            if rest:
                store_tail(target, whole, rest, last(load_tail(gs, whole, rest, 0.0), load_tail(ys, whole, rest, 0.0), inner))

    return kernel


# ---- along the middle of (outer, n, inner), in the lanes of one vector -----------------------------------------------------------------
@inline
def _read(row, i, count):
    return load(row, i) if count == lanes(row) else load_tail(row, i, count, 0.0)


@inline
def _write(row, i, count, value):
    if count == lanes(row):
        store(row, i, value)
    else:
        store_tail(row, i, count, value)


def _columns(last: Function, name: str) -> Kernel:
    """kernel(x, out): out = last(log(softmax(x))) over n; inner elements contiguous."""
    last = inline(last)

    @jit
    @named(name)
    def kernel(x, out):
        outer, n, inner = x.shape
        step = lanes(x)
        for o in range(outer):
            for i in range(0, inner, step):
                count = min(step, inner - i)
                high = splat(LOWEST, line(x, 0, inner))
                for j in range(n):
                    high = maximum(high, _read(line(x, o * x.strides[0] + j * x.strides[1], inner), i, count))
                sums = splat(0.0, high)
                for j in range(n):
                    sums = sums + exp(_read(line(x, o * x.strides[0] + j * x.strides[1], inner), i, count) - high)
                log_sum = log(sums)
                for j in range(n):
                    value = _read(line(x, o * x.strides[0] + j * x.strides[1], inner), i, count)
                    _write(line(out, o * out.strides[0] + j * out.strides[1], inner), i, count, last((value - high) - log_sum))

    return kernel


def _columns_grad(term: Function, last: Function, name: str) -> Kernel:
    """kernel(g, y, out): out = last(g, y, the sum of term(g, y) over n); inner elements contiguous."""
    term, last = inline(term), inline(last)

    @jit
    @named(name)
    def kernel(g, y, out):
        outer, n, inner = y.shape
        step = lanes(y)
        for o in range(outer):
            for i in range(0, inner, step):
                count = min(step, inner - i)
                sums = splat(0.0, line(y, 0, inner))
                for j in range(n):
                    at = o * y.strides[0] + j * y.strides[1]
                    sums = sums + term(_read(line(g, at, inner), i, count), _read(line(y, at, inner), i, count))
                for j in range(n):
                    at = o * y.strides[0] + j * y.strides[1]
                    _write(line(out, at, inner), i, count, last(_read(line(g, at, inner), i, count), _read(line(y, at, inner), i, count), sums))

    return kernel


# Softmax, and its gradient y (g - <g, y>); log(softmax), and its gradient g - exp(y) sum(g).
softmax: Final[Kernel] = _rows(exp, "softmax")
softmax_columns: Final[Kernel] = _columns(exp, "softmax_columns")
softmax_grad: Final[Kernel] = _rows_grad(operator.mul, lambda g, y, inner: y * (g - inner), "softmax_grad")
softmax_columns_grad: Final[Kernel] = _columns_grad(operator.mul, lambda g, y, inner: y * (g - inner), "softmax_columns_grad")
log_softmax: Final[Kernel] = _rows(operator.pos, "log_softmax")
log_softmax_columns: Final[Kernel] = _columns(operator.pos, "log_softmax_columns")
log_softmax_grad: Final[Kernel] = _rows_grad(lambda g, y: g, lambda g, y, total: g - exp(y) * total, "log_softmax_grad")
log_softmax_columns_grad: Final[Kernel] = _columns_grad(lambda g, y: g, lambda g, y, total: g - exp(y) * total, "log_softmax_columns_grad")
