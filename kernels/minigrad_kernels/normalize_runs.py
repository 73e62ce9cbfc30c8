"""Normalisation over runs of neighbouring elements: the runs of a channel of (items, channels, length), or the one run of a row.

`at` is the byte offset of a group's first run, `stride` the bytes from one run to the next. A group is summed in float64 in the lanes of one
vector, which are folded in a fixed tree; see `normalize` for the variance. Workers share channels or rows, never a sum.
"""
from __future__ import annotations

import math

from ._jit import jit
from ._lanes import narrow, places
from .reduce import fold, line, widen
from .simd import fma, inline, lanes, load, load_tail, select, splat, store, store_tail


@jit
def _moments(x, at, runs, stride, n):
    """The mean of a group, and the sum of its squared distances from it."""
    one = line(x, at, n)
    step = lanes(one)
    whole = n // step * step
    rest = n - whole
    sums = widen(splat(0.0, one))
    squares, left = sums, sums
    for r in range(runs):
        run = line(x, at + r * stride, n)
        for i in range(0, whole, step):
            sums = sums + widen(load(run, i))
        if rest:
            sums = sums + widen(load_tail(run, whole, rest, 0.0))
    mean = fold(sums) / (runs * n)
    for r in range(runs):
        run = line(x, at + r * stride, n)
        for i in range(0, whole, step):
            distance = widen(load(run, i)) - mean
            left = left + distance
            squares = fma(distance, distance, squares)
        if rest:
            distance = widen(load_tail(run, whole, rest, 0.0)) - mean
            distance = select(places(0, one) < rest, distance, 0.0)
            left = left + distance
            squares = fma(distance, distance, squares)
    missed = fold(left) / (runs * n)
    total = fold(squares) - missed * missed * (runs * n)
    return mean + missed, 0.0 if total < 0.0 else total  # of equal numbers it may round below zero


@jit
def _products(g, x, at, runs, stride, n, mean, rate):
    """The sum of g over a group, and of g times the normalised x."""
    one = line(x, at, n)
    step = lanes(one)
    whole = n // step * step
    rest = n - whole
    plain = widen(splat(0.0, one))
    times = plain
    for r in range(runs):
        up, run = line(g, at + r * stride, n), line(x, at + r * stride, n)
        for i in range(0, whole, step):
            u = widen(load(up, i))
            plain = plain + u
            times = fma(u, (widen(load(run, i)) - mean) * rate, times)
        if rest:
            u = widen(load_tail(up, whole, rest, 0.0))
            plain = plain + u
            times = fma(u, (widen(load_tail(run, whole, rest, 0.0)) - mean) * rate, times)
    return fold(plain), fold(times)


@inline
def _affine(x, mean, rate, factor, shift, like):
    return fma(narrow((widen(x) - mean) * rate, like), factor, shift)


@jit
def _write(x, out, at, runs, stride, n, mean, rate, factor, shift):
    """out = (x - mean) * rate * factor + shift for a group, factor and shift numbers of the arrays' dtype."""
    one = line(x, at, n)
    step = lanes(one)
    whole = n // step * step
    rest = n - whole
    by, to = splat(factor, one), splat(shift, one)
    for r in range(runs):
        run, target = line(x, at + r * stride, n), line(out, at + r * stride, n)
        for i in range(0, whole, step):
            store(target, i, _affine(load(run, i), mean, rate, by, to, one))
        if rest:
            store_tail(target, whole, rest, _affine(load_tail(run, whole, rest, 0.0), mean, rate, by, to, one))


@jit
def normalize_channels(x, weight, bias, eps, out):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance of each channel of (items, channels, length)."""
    items, channels, n = x.shape
    for c in range(channels):
        at = c * x.strides[1]
        mean, squares = _moments(x, at, items, x.strides[0], n)
        _write(x, out, at, items, x.strides[0], n, mean, 1.0 / math.sqrt(squares / (items * n) + eps), weight[c], bias[c])


@jit
def normalize_channels_grad(g, x, weight, eps, out):
    """The gradient of `normalize_channels` for x."""
    items, channels, n = x.shape
    stride = x.strides[0]
    one = line(x, 0, n)
    step = lanes(one)
    whole = n // step * step
    rest = n - whole
    for c in range(channels):
        at = c * x.strides[1]
        mean, squares = _moments(x, at, items, stride, n)
        rate = 1.0 / math.sqrt(squares / (items * n) + eps)
        plain, times = _products(g, x, at, items, stride, n, mean, rate)
        plain, times = plain / (items * n), times / (items * n)
        factor = weight[c] * rate
        for r in range(items):
            up, run, target = line(g, at + r * stride, n), line(x, at + r * stride, n), line(out, at + r * stride, n)
            for i in range(0, whole, step):
                centred = (widen(load(run, i)) - mean) * rate
                store(target, i, narrow((widen(load(up, i)) - plain - centred * times) * factor, one))
            if rest:
                centred = (widen(load_tail(run, whole, rest, 0.0)) - mean) * rate
                store_tail(target, whole, rest, narrow((widen(load_tail(up, whole, rest, 0.0)) - plain - centred * times) * factor, one))


@jit
def scale_channels_grad(g, x, eps, out):
    """The gradient of `normalize_channels` for its weight."""
    items, channels, n = x.shape
    for c in range(channels):
        at = c * x.strides[1]
        mean, squares = _moments(x, at, items, x.strides[0], n)
        _, times = _products(g, x, at, items, x.strides[0], n, mean, 1.0 / math.sqrt(squares / (items * n) + eps))
        out[c] = times


@jit
def moments_channels(x, out):
    """out (2, channels) = the mean of each channel and its variance without bias."""
    items, channels, n = x.shape
    for c in range(channels):
        mean, squares = _moments(x, c * x.strides[1], items, x.strides[0], n)
        out[0, c], out[1, c] = mean, squares / (items * n - 1)


@jit
def apply_channels(x, mean, variance, weight, bias, eps, out):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias, with a given mean and variance for each channel."""
    items, channels, n = x.shape
    for c in range(channels):
        rate = 1.0 / math.sqrt(variance[c] + eps)
        _write(x, out, c * x.strides[1], items, x.strides[0], n, mean[c], rate, weight[c], bias[c])


@jit
def running(moments, momentum, mean, variance):
    """mean and variance += momentum of the way to the moments (2, channels)."""
    for c in range(mean.size):
        mean[c] = (1.0 - momentum) * mean[c] + momentum * moments[0, c]
        variance[c] = (1.0 - momentum) * variance[c] + momentum * moments[1, c]


@jit
def average(moments, count, mean, variance):
    """As `running`, by 1 / count: after each of `count` calls they are the average of all moments so far."""
    momentum = 1.0 / count[0]
    for c in range(mean.size):
        mean[c] = (1.0 - momentum) * mean[c] + momentum * moments[0, c]
        variance[c] = (1.0 - momentum) * variance[c] + momentum * moments[1, c]


# ---- rows, each with all weights -------------------------------------------------------------------------------------------------
@jit
def normalize_rows(x, weight, bias, eps, out):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance of each row."""
    rows, n = x.shape
    step = lanes(weight)
    whole = n // step * step
    rest = n - whole
    for r in range(rows):
        at = r * x.strides[0]
        mean, squares = _moments(x, at, 1, 0, n)
        rate = 1.0 / math.sqrt(squares / n + eps)
        run, target = line(x, at, n), line(out, at, n)
        for i in range(0, whole, step):
            store(target, i, _affine(load(run, i), mean, rate, load(weight, i), load(bias, i), weight))
        if rest:
            tails = load_tail(weight, whole, rest, 0.0), load_tail(bias, whole, rest, 0.0)
            store_tail(target, whole, rest, _affine(load_tail(run, whole, rest, 0.0), mean, rate, tails[0], tails[1], weight))


@jit
def normalize_rows_grad(g, x, weight, eps, out):
    """The gradient of `normalize_rows` for x."""
    rows, n = x.shape
    step = lanes(weight)
    whole = n // step * step
    rest = n - whole
    for r in range(rows):
        at = r * x.strides[0]
        mean, squares = _moments(x, at, 1, 0, n)
        rate = 1.0 / math.sqrt(squares / n + eps)
        up, run, target = line(g, at, n), line(x, at, n), line(out, at, n)
        plain = widen(splat(0.0, weight))
        times = plain
        for i in range(0, whole, step):
            u = widen(load(up, i)) * widen(load(weight, i))
            plain = plain + u
            times = fma(u, (widen(load(run, i)) - mean) * rate, times)
        if rest:
            u = widen(load_tail(up, whole, rest, 0.0)) * widen(load_tail(weight, whole, rest, 0.0))
            plain = plain + u
            times = fma(u, (widen(load_tail(run, whole, rest, 0.0)) - mean) * rate, times)
        a, b = fold(plain) / n, fold(times) / n
        for i in range(0, whole, step):
            u = widen(load(up, i)) * widen(load(weight, i))
            store(target, i, narrow((u - a - (widen(load(run, i)) - mean) * rate * b) * rate, weight))
        if rest:
            u = widen(load_tail(up, whole, rest, 0.0)) * widen(load_tail(weight, whole, rest, 0.0))
            store_tail(target, whole, rest, narrow((u - a - (widen(load_tail(run, whole, rest, 0.0)) - mean) * rate * b) * rate, weight))


@jit
def row_moments(x, eps, out):
    """out (rows, 2), float64 = the mean of each row and 1 / sqrt(variance + eps)."""
    rows, n = x.shape
    for r in range(rows):
        mean, squares = _moments(x, r * x.strides[0], 1, 0, n)
        out[r, 0], out[r, 1] = mean, 1.0 / math.sqrt(squares / n + eps)


@jit
def scale_rows_grad(g, x, moments, out):
    """The gradient of `normalize_rows` for its weight, from what `row_moments` found: a sum down the rows."""
    rows, n = x.shape
    step = lanes(out)
    for i in range(0, n, step):
        count = min(step, n - i)
        sums = widen(splat(0.0, out))
        for r in range(rows):
            up, run = line(g, r * g.strides[0], n), line(x, r * x.strides[0], n)
            centred = (widen(load_tail(run, i, count, 0.0)) - moments[r, 0]) * moments[r, 1]
            sums = fma(widen(load_tail(up, i, count, 0.0)), centred, sums)
        store_tail(out, i, count, narrow(sums, out))
