"""The global gradient norm and what is done with it: clipping and the guard. Sums of squares are float64, in 16 or 8 lanes by index."""
from __future__ import annotations

import math

from ._jit import jit
from .reduce import fold, line, widen
from .simd import lanes, load, load_tail, splat, store, store_tail


@jit
def sum_squares(x, blocks, partials):  # type: ignore[no-untyped-def]
    """partials[b] = sum of squares of blocks[1, b] elements of x from blocks[0, b] on."""
    step = lanes(x)
    for b in range(partials.size):
        run = line(x, blocks[0, b] * x.itemsize, blocks[1, b])
        whole = run.size // step * step
        sums = widen(splat(0.0, x))
        for i in range(0, whole, step):
            v = widen(load(run, i))
            sums = sums + v * v
        if whole < run.size:
            v = widen(load_tail(run, whole, run.size - whole, 0.0))
            sums = sums + v * v
        partials[b] = fold(sums)


@jit
def norm(partials, out):  # type: ignore[no-untyped-def]
    """out[0] = square root of the partials' sum, in order."""
    result = 0.0
    for i in range(partials.size):
        result += partials[i]
    out[0] = math.sqrt(result)


@jit
def clip_factor(total, bound, out):  # type: ignore[no-untyped-def]
    """out[0] = min(1, bound / (total + 1e-6)), PyTorch's clip_grad_norm_; NaN stays NaN."""
    factor = bound[0] / (total[0] + 1e-6)
    out[0] = 1.0 if factor > 1.0 else factor


@jit
def clip(factor, x):  # type: ignore[no-untyped-def]
    """x *= factor[0], rounded to x's dtype first; nothing is written when the factor is 1."""
    if factor[0] == 1.0:
        return
    step = lanes(x)
    whole = x.size // step * step
    rest = x.size - whole
    by = splat(factor[0], x)
    for i in range(0, whole, step):
        store(x, i, load(x, i) * by)
    if rest:
        store_tail(x, whole, rest, load_tail(x, whole, rest, 0.0) * by)


@jit
def guard(total):  # type: ignore[no-untyped-def]
    """1 if the norm is finite, else 0: what ends a step before anything is committed."""
    return 1 if math.isfinite(total[0]) else 0
