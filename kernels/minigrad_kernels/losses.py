"""Losses, each followed by its gradient: means over all elements or rows, and losses of single elements or rows."""
from __future__ import annotations

from typing import Final

from . import loops
from ._exp_log import exp_negative
from ._jit import jit
from .activations import logistic
from .loops import Kernel
from .reduce import BLOCK, fold, line
from .scalar import exp, log, log1p
from .simd import abs_, inline, lanes, load, load_tail, select, splat, store, store_tail
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
def softmax_cross_entropy(x, labels, ignore, out):
    """out[0] = mean of log(sum(exp(row))) - row[label] over rows whose label is not `ignore`.

    0 if another label is not a class, before anything is written.
    """
    rows, classes = x.shape
    count = 0
    for r in range(rows):
        if labels[r] != ignore:
            if labels[r] < 0 or labels[r] >= classes:
                return 0
            count += 1
    result = 0.0
    for r in range(rows):
        if labels[r] != ignore:
            row = line(x, r * x.strides[0], classes)
            high, log_sum = log_sum_exp(row)
            result += log_sum + (high - row[labels[r]])
    out[0] = result / count
    return 1


@jit
def softmax_cross_entropy_grad(g, x, labels, ignore, out):
    """out = g / count * (softmax(x) - onehot(labels)) in the `count` rows whose label is not `ignore`, else 0."""
    rows, classes = x.shape
    step = lanes(x)
    whole = classes // step * step
    rest = classes - whole
    count = 0
    for r in range(rows):
        count += labels[r] != ignore
    for r in range(rows):
        source, target = line(x, r * x.strides[0], classes), line(out, r * out.strides[0], classes)
        if labels[r] == ignore:
            for i in range(classes):
                target[i] = 0.0
            continue
        high, log_sum = log_sum_exp(source)
        factor = splat(g[0] / count, source)
        for i in range(0, whole, step):
            store(target, i, factor * exp((load(source, i) - high) - log_sum))
        if rest:
            store_tail(target, whole, rest, factor * exp((load_tail(source, whole, rest, 0.0) - high) - log_sum))
        if 0 <= labels[r] < classes:  # the loss has refused all others; nothing is written outside
            target[labels[r]] -= g[0] / count


# ---- log-probabilities, classes in the middle of (outer, classes, inner) -----------------------------------------------------------
@jit
def nll(x, labels, ignore, out):
    """out = -x at the label, 0 where that is `ignore`; status 0 if another label is not a class, before anything is written."""
    outer, classes, inner = x.shape
    for o in range(outer):
        for i in range(inner):
            if labels[o, i] != ignore and (labels[o, i] < 0 or labels[o, i] >= classes):
                return 0
    for o in range(outer):
        for i in range(inner):
            out[o, i] = -x[o, labels[o, i], i] if labels[o, i] != ignore else 0.0
    return 1


@jit
def nll_grad(g, labels, ignore, out):
    """out = -g at the label, and 0 elsewhere; labels as `nll`."""
    outer, classes, inner = out.shape
    for o in range(outer):
        for i in range(inner):
            if labels[o, i] != ignore and (labels[o, i] < 0 or labels[o, i] >= classes):
                return 0
    for o in range(outer):
        for c in range(classes):
            for i in range(inner):
                out[o, c, i] = 0.0
        for i in range(inner):
            if labels[o, i] != ignore:
                out[o, labels[o, i], i] = -g[o, i]
    return 1


@jit
def label_weights(labels, weight, ignore, out):
    """out[i] = weight[labels[i]], or the only weight; 0 where the label is `ignore`; status 0 if another label has no weight."""
    classes = weight.size
    for i in range(labels.size):
        if labels[i] != ignore and classes > 1 and (labels[i] < 0 or labels[i] >= classes):
            return 0
    for i in range(labels.size):
        out[i] = 0.0 if labels[i] == ignore else weight[labels[i] if classes > 1 else 0]
    return 1


# ---- element by element ------------------------------------------------------------------------------------------------------------
def _huber(d, delta, slope):
    a = abs_(d)
    return select(a < delta, (0.5 * slope / delta) * (d * d), slope * (a - 0.5 * delta))


def _huber_grad(g, d, delta, slope):
    return g * select(abs_(d) < delta, (slope / delta) * d, select(d > 0.0, slope, select(d < 0.0, -slope, d)))


# Of a difference d: quadratic up to delta, linear beyond; the absolute value with delta = 0.
huber: Final[Kernel] = loops.loop(_huber, "huber", "vcc")
huber_grad: Final[Kernel] = loops.loop(_huber_grad, "huber_grad", "vvcc")


@inline
def _at_least(x, least):
    return select(x < least, least, x)


def _binary_cross_entropy(p, t):
    return (t - 1.0) * _at_least(log1p(-p), -100.0) - t * _at_least(log(p), -100.0)


def _binary_cross_entropy_grad(g, p, t):
    return g * (p - t) / _at_least((1.0 - p) * p, 1e-12)


def _binary_cross_entropy_with_logits(x, t):
    rest = log1p(exp_negative(-abs_(x)))
    return t * (select(x < 0.0, -x, 0.0) + rest) + (1.0 - t) * (select(x < 0.0, 0.0, x) + rest)


def _binary_cross_entropy_with_logits_grad(g, x, t):
    s, rest = logistic(x)
    return g * ((1.0 - t) * s - t * rest)


binary_cross_entropy: Final[Kernel] = loops.zip2(_binary_cross_entropy, "binary_cross_entropy")
binary_cross_entropy_grad: Final[Kernel] = loops.zip3(_binary_cross_entropy_grad, "binary_cross_entropy_grad")
binary_cross_entropy_with_logits: Final[Kernel] = loops.zip2(_binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits")
binary_cross_entropy_with_logits_grad: Final[Kernel] = loops.zip3(_binary_cross_entropy_with_logits_grad, "binary_cross_entropy_with_logits_grad")
