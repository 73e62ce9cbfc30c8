"""The global gradient norm and what is done with it: clipping and the guard. Sums of squares are float64, in 16 or 8 lanes by index."""
from __future__ import annotations

import math

from ._jit import jit
from .reduce import fold, line, widen
from .scalar import pow as power
from .simd import abs_, lanes, load, load_tail, maximum, select, splat, store, store_tail
from .softmax import highest


@jit
def _one(run):
    """Sum of squares of a 1-D contiguous array."""
    step = lanes(run)
    whole = run.size // step * step
    sums = widen(splat(0.0, run))
    for i in range(0, whole, step):
        v = widen(load(run, i))
        sums = sums + v * v
    if whole < run.size:
        v = widen(load_tail(run, whole, run.size - whole, 0.0))
        sums = sums + v * v
    return fold(sums)


@jit
def _four(p, q, r, s, partials, b):
    """Sums of squares of four blocks of one length: side by side, they hide each other's latency and a page's first access."""
    step = lanes(p)
    zero = widen(splat(0.0, p))
    sp, sq, sr, ss = zero, zero, zero, zero
    for i in range(0, p.size // step * step, step):
        vp, vq, vr, vs = widen(load(p, i)), widen(load(q, i)), widen(load(r, i)), widen(load(s, i))
        sp = sp + vp * vp
        sq = sq + vq * vq
        sr = sr + vr * vr
        ss = ss + vs * vs
    partials[b], partials[b + 1], partials[b + 2], partials[b + 3] = fold(sp), fold(sq), fold(sr), fold(ss)


@jit
def sum_squares(x, blocks, partials):
    """partials[b] = sum of squares of blocks[1, b] elements of x from blocks[0, b] on."""
    step = lanes(x)
    size = x.itemsize
    b = 0
    while b < partials.size:
        n = blocks[1, b]
        if b + 4 <= partials.size and n % step == 0 and n == blocks[1, b + 1] and n == blocks[1, b + 2] and n == blocks[1, b + 3]:
            _four(line(x, blocks[0, b] * size, n), line(x, blocks[0, b + 1] * size, n), line(x, blocks[0, b + 2] * size, n),
                  line(x, blocks[0, b + 3] * size, n), partials, b)
            b += 4
        elif n <= step:
            # Biases and tiny layers: one masked vector, without the loop's bookkeeping around it.
            v = widen(load_tail(line(x, blocks[0, b] * size, n), 0, n, 0.0))
            partials[b] = fold(v * v)
            b += 1
        else:
            partials[b] = _one(line(x, blocks[0, b] * size, n))
            b += 1


@jit
def norm(partials, out):
    """out[0] = square root of the partials' sum, in order."""
    result = 0.0
    for i in range(partials.size):
        result += partials[i]
    out[0] = math.sqrt(result)


@jit
def _sum_powers(x, p):
    """Sum of |x|**p, in float64."""
    step = lanes(x)
    whole = x.size // step * step
    sums = widen(splat(0.0, x))
    for i in range(0, whole, step):
        sums = sums + power(abs_(widen(load(x, i))), p)
    if whole < x.size:
        sums = sums + power(abs_(widen(load_tail(x, whole, x.size - whole, 0.0))), p)
    return fold(sums)


@jit
def _sum_sizes(x):
    """Sum of |x|, in float64."""
    step = lanes(x)
    whole = x.size // step * step
    sums = widen(splat(0.0, x))
    for i in range(0, whole, step):
        sums = sums + widen(abs_(load(x, i)))
    if whole < x.size:
        sums = sums + widen(abs_(load_tail(x, whole, x.size - whole, 0.0)))
    return fold(sums)


@jit
def _largest(x):
    """The largest |x|; NaN if there is one."""
    step = lanes(x)
    whole = x.size // step * step
    top, spoilt = splat(0.0, x), splat(0.0, x)
    for i in range(0, whole, step):
        v = abs_(load(x, i))
        top, spoilt = maximum(top, v), select(v == v, spoilt, 1.0)
    if whole < x.size:
        v = abs_(load_tail(x, whole, x.size - whole, 0.0))
        top, spoilt = maximum(top, v), select(v == v, spoilt, 1.0)
    return math.nan if fold(spoilt) > 0.0 else float(highest(top))


@jit
def add_powers(p, x, total, out):
    """out[0] = total[0] + sum of |x|**p; for p infinite the largest of total[0] and all |x|."""
    if p == math.inf:
        top = _largest(x)
        out[0] = total[0] if total[0] > top or total[0] != total[0] else top
    elif p == 2.0:
        out[0] = total[0] + _one(x)
    elif p == 1.0:
        out[0] = total[0] + _sum_sizes(x)
    else:
        out[0] = total[0] + _sum_powers(x, p)


@jit
def root(p, total, out):
    """out[0] = total[0] ** (1 / p); for p infinite total[0] itself."""
    out[0] = total[0] if p == math.inf or p == 1.0 else math.sqrt(total[0]) if p == 2.0 else math.pow(total[0], 1.0 / p)


@jit
def clip_factor(total, bound, out):
    """out[0] = min(1, bound / (total + 1e-6)), PyTorch's clip_grad_norm_; NaN stays NaN."""
    factor = bound[0] / (total[0] + 1e-6)
    out[0] = 1.0 if factor > 1.0 else factor


@jit
def clip(factor, x):
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
def clip_value(bound, x):
    """x = the nearest number to it in [-bound[0], bound[0]], the bound rounded to x's dtype; a NaN stays."""
    step = lanes(x)
    whole = x.size // step * step
    rest = x.size - whole
    high = splat(bound[0], x)
    low = -high
    for i in range(0, whole, step):
        v = load(x, i)
        store(x, i, select(v > high, high, select(v < low, low, v)))
    if rest:
        v = load_tail(x, whole, rest, 0.0)
        store_tail(x, whole, rest, select(v > high, high, select(v < low, low, v)))


@jit
def guard(total):
    """1 if the norm is finite, else 0: what ends a step before anything is committed."""
    return 1 if math.isfinite(total[0]) else 0
