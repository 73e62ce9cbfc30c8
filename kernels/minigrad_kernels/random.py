"""Random numbers as a function of a key (seed, offset) and of an element's index: no state, so neither threads nor slices show in the bits.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; output function "mix13" of
D. Stafford). The seed is the root generator, and offset n its n-th split, with a start and an increment of its own; element i is the
(i + 1)-th number of that. A kernel takes the whole output as `whole` beside the part of it that it writes.
"""
from __future__ import annotations

from typing import Final

from ._jit import jit
from ._lanes import fraction, narrow, ones_in, places, start_of, unsigned_shift
from .scalar import log
from .simd import first, from_bits, horner, inline, lane, lanes, load, load_tail, select, splat, sqrt, store, store_tail

# As signed numbers: 0x9e3779b97f4a7c15 (the golden ratio), the factors of mix64 and mixGamma, and 0xaaaaaaaaaaaaaaaa.
GOLDEN: Final = -0x61c8864680b583eb
MIX: Final = (-0x40a7b892e31b1a47, -0x6b2fb644ecceee15)
MIX_GAMMA: Final = (-0xae502812aa7333, -0x3b314601e57a13ad)
ALTERNATING: Final = -0x5555555555555556
#: The bits of 1.0, beside which 52 digits make a number in [1, 2).
ONE: Final = 0x3FF0000000000000
#: Digits of the number that dropout compares with p.
DIGITS: Final = 53


@inline
def _mix(z):
    z = (z ^ unsigned_shift(z, 30)) * MIX[0]
    z = (z ^ unsigned_shift(z, 27)) * MIX[1]
    return z ^ unsigned_shift(z, 31)


@inline
def _mix_gamma(z):
    """An odd number whose bits change often enough to be an increment."""
    z = (z ^ unsigned_shift(z, 33)) * MIX_GAMMA[0]
    z = (z ^ unsigned_shift(z, 33)) * MIX_GAMMA[1]
    z = (z ^ unsigned_shift(z, 33)) | 1
    return select(ones_in(z ^ unsigned_shift(z, 1)) < 24, z ^ ALTERNATING, z)


@jit
def _stream(key):
    """Start and increment of the key's split."""
    here = _mix(lane(key[0]) + GOLDEN) + lane(key[1]) * 2 * GOLDEN
    return first(_mix(here + GOLDEN)), first(_mix_gamma(here + GOLDEN + GOLDEN))


@jit
def random_bits(key, index):
    """64 random bits as an int64, for an array kernel of one's own: those at `index` (int) of the stream of `key` (int64 [2])."""
    start, gamma = _stream(key)
    return first(_mix(lane(start + (index + 1) * gamma)))


@jit
def random_at(key, index):
    """A random float64 in [0, 1), for an array kernel of one's own: the number at `index` (int) of the stream of `key` (int64 [2]).

    The number that `uniform` writes there in float64.
    """
    return first(unsigned_shift(lane(random_bits(key, index)), 11)) * 2.0 ** -53


@jit
def _begin(key, whole, part):
    """The generator's states for the first vector of `part`, and how far they move from one vector to the next."""
    start, gamma = _stream(key)
    states = (places(start_of(part, whole), part) + 1) * gamma + start
    return states, first(lane(gamma) * lanes(part))


@jit
def uniform(key, whole, out):
    """Numbers in [0, 1)."""
    step = lanes(out)
    end = out.size // step * step
    rest = out.size - end
    states, stride = _begin(key, whole, out)
    for i in range(0, end, step):
        store(out, i, fraction(_mix(states), out))
        states = states + stride
    if rest:
        store_tail(out, end, rest, fraction(_mix(states), out))


# Quantiles of the normal distribution: M. J. Wichura, "Algorithm AS 241", Applied Statistics 37 (1988), PPND16, relative error about 1e-16.
CENTRE: Final = ((2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
                  1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
                 (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
                  687.1870074920579083, 42.313330701600911252, 1.0))
TAIL: Final = ((7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504,
                5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
               (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455,
                1.6763848301838038494, 2.05319162663775882187, 1.0))
FAR: Final = ((2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093, 0.29656057182850489123,
               1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
              (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4, 0.0148753612908506148525,
               0.13692988092273580531, 0.59983220655588793769, 1.0))


@inline
def _normal(bits):
    """The quantile at a number in (0, 1) of 52 bits and a half, a float64 whatever the output is: a float32 is this, rounded."""
    u = from_bits(unsigned_shift(bits, 12) | ONE) - (1.0 - 2.0 ** -53)
    q = u - 0.5
    centre = 0.180625 - q * q
    below = select(q < 0.0, u, 1.0 - u)
    r = sqrt(-log(below))
    tail, far = r - 1.6, r - 5.0
    outer = select(r <= 5.0, horner(tail, TAIL[0]) / horner(tail, TAIL[1]), horner(far, FAR[0]) / horner(far, FAR[1]))
    return select(centre >= 0.0, q * (horner(centre, CENTRE[0]) / horner(centre, CENTRE[1])), select(q < 0.0, -outer, outer))


@jit
def normal(key, whole, out):
    """Numbers of mean 0 and variance 1."""
    step = lanes(out)
    end = out.size // step * step
    rest = out.size - end
    states, stride = _begin(key, whole, out)
    for i in range(0, end, step):
        store(out, i, narrow(_normal(_mix(states)), out))
        states = states + stride
    if rest:
        store_tail(out, end, rest, narrow(_normal(_mix(states)), out))


@jit
def bernoulli(p, key, whole, out):
    """1 with probability p[i], else 0."""
    step = lanes(out)
    end = out.size // step * step
    rest = out.size - end
    states, stride = _begin(key, whole, out)
    one, zero = splat(1.0, out), splat(0.0, out)
    for i in range(0, end, step):
        store(out, i, select(fraction(_mix(states), out) < load(p, i), one, zero))
        states = states + stride
    if rest:
        store_tail(out, end, rest, select(fraction(_mix(states), out) < load_tail(p, end, rest, 0.0), one, zero))


@jit
def dropout(x, key, whole, threshold, scale, out):
    """x * scale where the element's DIGITS bits are at least the threshold, p in units of the last one; else 0."""
    step = lanes(out)
    end = out.size // step * step
    rest = out.size - end
    states, stride = _begin(key, whole, out)
    factor, zero = splat(scale, out), splat(0.0, out)
    for i in range(0, end, step):
        store(out, i, select(unsigned_shift(_mix(states), 64 - DIGITS) >= threshold, load(x, i) * factor, zero))
        states = states + stride
    if rest:
        store_tail(out, end, rest, select(unsigned_shift(_mix(states), 64 - DIGITS) >= threshold, load_tail(x, end, rest, 0.0) * factor, zero))


@jit
def draw_key(state, ahead, out):
    """out = (seed, offset + ahead)."""
    out[0], out[1] = state[0], state[1] + ahead


@jit
def advance(x, by):
    """Add to the last element."""
    x[x.size - 1] += by
