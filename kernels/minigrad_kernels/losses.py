"""Mean squared error and softmax cross-entropy, each followed by its gradient; means are over all elements, or over the rows."""
from __future__ import annotations

from ._jit import jit
from .reduce import BLOCK, fold, line
from .scalar import exp
from .simd import lanes, load, load_tail, splat, store, store_tail
from .softmax import log_sum_exp


@jit
def mse(x, target, out):
    """out[0] = mean of (x - target)^2, block totals in float64."""
    step = lanes(x)
    result = 0.0
    for begin in range(0, x.size, BLOCK):
        end = min(x.size, begin + BLOCK)
        whole = begin + (end - begin) // step * step
        sums = splat(0.0, x)
        for i in range(begin, whole, step):
            d = load(x, i) - load(target, i)
            sums = sums + d * d
        if whole < end:
            d = load_tail(x, whole, end - whole, 0.0) - load_tail(target, whole, end - whole, 0.0)
            sums = sums + d * d
        result += fold(sums)
    out[0] = result / x.size


@jit
def mse_grad(g, x, target, count, out):
    """out = g * 2 / count * (x - target), the factor computed in float64 and rounded once; count is of the whole array, x may be a part."""
    step = lanes(x)
    whole = x.size // step * step
    rest = x.size - whole
    factor = splat(g[0] * 2.0 / count, x)
    for i in range(0, whole, step):
        store(out, i, factor * (load(x, i) - load(target, i)))
    if rest:
        store_tail(out, whole, rest, factor * (load_tail(x, whole, rest, 0.0) - load_tail(target, whole, rest, 0.0)))


@jit
def softmax_cross_entropy(x, labels, out):
    """out[0] = mean over rows of log(sum(exp(row))) - row[label]; 0 if a label is not a class, before anything is written."""
    rows, classes = x.shape
    for r in range(rows):
        if labels[r] < 0 or labels[r] >= classes:
            return 0
    result = 0.0
    for r in range(rows):
        row = line(x, r * x.strides[0], classes)
        high, log_sum = log_sum_exp(row)
        result += log_sum + (high - row[labels[r]])
    out[0] = result / rows
    return 1


@jit
def softmax_cross_entropy_grad(g, x, labels, out):
    """out = g / rows * (softmax(x) - onehot(labels))."""
    rows, classes = x.shape
    step = lanes(x)
    whole = classes // step * step
    rest = classes - whole
    for r in range(rows):
        source, target = line(x, r * x.strides[0], classes), line(out, r * out.strides[0], classes)
        high, log_sum = log_sum_exp(source)
        factor = splat(g[0] / rows, source)
        for i in range(0, whole, step):
            store(target, i, factor * exp((load(source, i) - high) - log_sum))
        if rest:
            store_tail(target, whole, rest, factor * exp((load_tail(source, whole, rest, 0.0) - high) - log_sum))
        target[labels[r]] -= g[0] / rows
