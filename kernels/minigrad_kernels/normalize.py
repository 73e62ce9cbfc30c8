"""Normalisation by mean and variance over the rows of each column, forward and backward; runs of elements are in `normalize_runs`.

The mean comes first, then the squared distances from it; the sum of the distances, which is not quite zero, corrects both (the "corrected
two-pass algorithm" of T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance", The American Statistician
37, 1983). Sums, and what is centred by them, are float64 whatever the arrays are. A column is summed down the rows in one lane. Workers
share columns, never a sum.
"""
from __future__ import annotations

from typing import Any

from ._jit import jit, named
from ._lanes import narrow
from .reduce import line, widen
from .simd import fma, inline, lanes, load, load_tail, select, splat, sqrt, store, store_tail


# ---- columns of (rows, columns), as many side by side as a vector has lanes ------------------------------------------------------
@inline
def _take(row, i, count):
    return load(row, i)


@inline
def _take_some(row, i, count):
    return load_tail(row, i, count, 0.0)


@inline
def _put(row, i, count, x):
    store(row, i, x)


@inline
def _put_some(row, i, count, x):
    store_tail(row, i, count, x)


def _over_columns(take: Any, put: Any, suffix: str) -> Any:
    """What is done with `count` columns from `i` on: (normalise, its gradient, the gradient of its scale, moments)."""

    @jit
    @named(f"columns_moments_{suffix}")
    def moments(x, i, count):
        """The mean of each column, and the sum of its squared distances from it."""
        rows, width = x.shape
        sums = widen(splat(0.0, line(x, 0, width)))
        squares, left = sums, sums
        for r in range(rows):
            sums = sums + widen(take(line(x, r * x.strides[0], width), i, count))
        mean = sums / rows
        for r in range(rows):
            distance = widen(take(line(x, r * x.strides[0], width), i, count)) - mean
            left = left + distance
            squares = fma(distance, distance, squares)
        left = left / rows
        squares = squares - left * left * rows
        return mean + left, select(squares < 0.0, 0.0, squares)  # of equal numbers it may round below zero

    @jit
    @named(f"columns_products_{suffix}")
    def products(g, x, i, count, mean, rate):
        """The sum of g over each column, and of g times the normalised x."""
        rows, width = x.shape
        plain = widen(splat(0.0, line(x, 0, width)))
        times = plain
        for r in range(rows):
            up = widen(take(line(g, r * g.strides[0], width), i, count))
            plain = plain + up
            times = fma(up, (widen(take(line(x, r * x.strides[0], width), i, count)) - mean) * rate, times)
        return plain, times

    @jit
    @named(f"columns_normalize_{suffix}")
    def normalize(x, weight, bias, eps, out, i, count):
        rows, width = x.shape
        mean, squares = moments(x, i, count)
        rate = 1.0 / sqrt(squares / rows + eps)
        factor, shift = take(weight, i, count), take(bias, i, count)
        for r in range(rows):
            centred = widen(take(line(x, r * x.strides[0], width), i, count)) - mean
            put(line(out, r * out.strides[0], width), i, count, fma(narrow(centred * rate, weight), factor, shift))

    @jit
    @named(f"columns_normalize_grad_{suffix}")
    def normalize_grad(g, x, weight, eps, out, i, count):
        rows, width = x.shape
        mean, squares = moments(x, i, count)
        rate = 1.0 / sqrt(squares / rows + eps)
        plain, times = products(g, x, i, count, mean, rate)
        plain, times = plain / rows, times / rows
        factor = widen(take(weight, i, count)) * rate
        for r in range(rows):
            centred = (widen(take(line(x, r * x.strides[0], width), i, count)) - mean) * rate
            up = widen(take(line(g, r * g.strides[0], width), i, count))
            put(line(out, r * out.strides[0], width), i, count, narrow((up - plain - centred * times) * factor, weight))

    @jit
    @named(f"columns_scale_grad_{suffix}")
    def scale_grad(g, x, eps, out, i, count):
        mean, squares = moments(x, i, count)
        _, times = products(g, x, i, count, mean, 1.0 / sqrt(squares / x.shape[0] + eps))
        put(out, i, count, narrow(times, out))

    return normalize, normalize_grad, scale_grad, moments


_normalize, _normalize_grad, _scale_grad, _moments = _over_columns(_take, _put, "whole")
_normalize_some, _normalize_grad_some, _scale_grad_some, _moments_some = _over_columns(_take_some, _put_some, "rest")


@jit
def normalize_columns(x, weight, bias, eps, out):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance of each column of x (rows, columns)."""
    step = lanes(weight)
    whole = weight.size // step * step
    for i in range(0, whole, step):
        _normalize(x, weight, bias, eps, out, i, step)
    if whole < weight.size:
        _normalize_some(x, weight, bias, eps, out, whole, weight.size - whole)


@jit
def normalize_columns_grad(g, x, weight, eps, out):
    """The gradient of `normalize_columns` for x."""
    step = lanes(weight)
    whole = weight.size // step * step
    for i in range(0, whole, step):
        _normalize_grad(g, x, weight, eps, out, i, step)
    if whole < weight.size:
        _normalize_grad_some(g, x, weight, eps, out, whole, weight.size - whole)


@jit
def scale_columns_grad(g, x, eps, out):
    """The gradient of `normalize_columns` for its weight."""
    step = lanes(out)
    whole = out.size // step * step
    for i in range(0, whole, step):
        _scale_grad(g, x, eps, out, i, step)
    if whole < out.size:
        _scale_grad_some(g, x, eps, out, whole, out.size - whole)


@jit
def moments_columns(x, out):
    """out (2, columns) = the mean of each column and its variance without bias."""
    rows, width = x.shape
    means, variances = line(out, 0, width), line(out, out.strides[0], width)
    step = lanes(means)
    whole = width // step * step
    rest = width - whole
    for i in range(0, whole, step):
        mean, squares = _moments(x, i, step)
        store(means, i, narrow(mean, means))
        store(variances, i, narrow(squares / (rows - 1), means))
    if rest:
        mean, squares = _moments_some(x, whole, rest)
        store_tail(means, whole, rest, narrow(mean, means))
        store_tail(variances, whole, rest, narrow(squares / (rows - 1), means))


@jit
def apply_columns(x, mean, variance, weight, bias, eps, out):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias, with a given mean and variance for each column."""
    rows, width = x.shape
    step = lanes(mean)
    whole = width // step * step
    rest = width - whole
    for r in range(rows):
        source, target = line(x, r * x.strides[0], width), line(out, r * out.strides[0], width)
        for i in range(0, whole, step):
            rate = 1.0 / sqrt(widen(load(variance, i)) + eps)
            centred = (widen(load(source, i)) - widen(load(mean, i))) * rate
            store(target, i, fma(narrow(centred, mean), load(weight, i), load(bias, i)))
        if rest:
            rate = 1.0 / sqrt(widen(load_tail(variance, whole, rest, 1.0)) + eps)
            centred = (widen(load_tail(source, whole, rest, 0.0)) - widen(load_tail(mean, whole, rest, 0.0))) * rate
            store_tail(target, whole, rest, fma(narrow(centred, mean), load_tail(weight, whole, rest, 0.0), load_tail(bias, whole, rest, 0.0)))
