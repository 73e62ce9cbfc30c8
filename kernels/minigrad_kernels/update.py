"""Optimiser updates, in place over a run of parameters; they cannot fail, so they may follow a step's guard.

Each is two functions. `numbers(hyper)` is evaluated once a call, in float64; `rule(numbers, g, states..., p)` takes vectors of a gradient,
of what the optimiser keeps for each parameter, and of the parameter, and gives the new states and the new parameter. One loop runs every
rule; another form of it clips the gradient as it reads it, with the bits of clipping first, and two more also take the statistics of
the new weights and of their change, block by block, in the steps that are recorded (see `observe`).

hyper holds an optimiser's numbers in its own order, and the number of the step, from 1 on, last.
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from . import simd
from ._jit import jit, named
from .observe import DUE, WEIGHT, first_lanes, put_three
from .reduce import line, widen
from .simd import inline, maximum, select, sqrt

Function = Callable[..., Any]
Kernel = Any

# Text, because Numba has no variadic kernels, and inside a function because the cache looks for what a kernel is made of in its closure.
_LOOP: Final = """
def factory(numbers, rule):
    def kernel({heads}, {arrays}{more}):
        step = lanes(p)
        whole = p.size // step * step
        rest = p.size - whole
        given = numbers(hyper)
        {by}
        {begin}
        for i in range(0, whole, step):
            gradient = {load}
            {keep}
            {new} = rule(given, gradient, {loads})
            {watch}
            {stores}
        if rest:
            gradient = {load_tail}
            {keep_tail}
            {new} = rule(given, gradient, {tails})
            {watch_tail}
            {store_tails}
        {end}
    return kernel
"""
# In a step that is not recorded the blocks, neighbours but for padding, are one run.
_BLOCKS: Final = """
def factory(plain, watched):
    def kernel(clock, {heads}, {arrays}, blocks, stats):
        size = p.itemsize
        last = blocks.shape[1] - 1
        if clock[DUE] == 0 and last >= 0:
            begin, n = blocks[0, 0] * size, blocks[0, last] + blocks[1, last] - blocks[0, 0]
            plain({heads}, {lines})
        else:
            for b in range(last + 1):
                begin, n = blocks[0, b] * size, blocks[1, b]
                watched({heads}, {lines}, stats, blocks[2, b])
    return kernel
"""


def _source(written: list[str], clips: bool, watches: bool) -> str:
    times = " * by" if clips else ""
    seen = ("change = widen(new_p - {}); changes = fma(change, change, changes); "
            "wide = widen(new_p); squares = fma(wide, wide, squares); sums = sums + wide")
    return _LOOP.format(
        heads="factor, hyper" if clips else "hyper", arrays=", ".join(["g", *written]), by="by = splat(factor[0], p)" if clips else "",
        new=", ".join(f"new_{x}" for x in written),
        load=f"load(g, i){times}", load_tail=f"load_tail(g, whole, rest, 0.0){times}",
        keep="store(g, i, gradient)" if clips else "", keep_tail="store_tail(g, whole, rest, gradient)" if clips else "",
        loads=", ".join(f"load({x}, i)" for x in written), tails=", ".join(f"load_tail({x}, whole, rest, 0.0)" for x in written),
        stores="; ".join(f"store({x}, i, new_{x})" for x in written),
        store_tails="; ".join(f"store_tail({x}, whole, rest, new_{x})" for x in written),
        more=", stats, at" if watches else "",
        begin="none = widen(splat(0.0, p)); sums, squares, changes = none, none, none" if watches else "",
        watch=seen.format("load(p, i)") if watches else "",
        watch_tail=f"new_p = first_lanes(new_p, rest); {seen.format('load_tail(p, whole, rest, 0.0)')}" if watches else "",
        end="put_three(stats, at + WEIGHT, sums, squares, changes)" if watches else "")


def _update(numbers: Function, rule: Function, name: str, clips: bool) -> Kernel:
    return jit(named(name)(_made(numbers, rule, clips, watches=False)))


def _made(numbers: Function, rule: Function, clips: bool, watches: bool) -> Function:
    written = [*inspect.signature(rule).parameters][2:]
    scope: dict[str, Any] = {**vars(simd), "__name__": __name__, "widen": widen, "put_three": put_three, "WEIGHT": WEIGHT, "first_lanes": first_lanes}
    exec(_source(written, clips, watches), scope)
    made: Function = scope["factory"](inline(numbers), inline(rule))
    return made


def _watched(numbers: Function, rule: Function, name: str, plain: Kernel, clips: bool) -> Kernel:
    """kernel(clock, [factor], hyper, g, states..., p, blocks, stats): `plain`, and in a step that is recorded the blocks' groups in stats."""
    written = [*inspect.signature(rule).parameters][2:]
    inner = inline(named(f"one_{name}")(_made(numbers, rule, clips, watches=True)))  # passing five arrays takes as long as a small block
    heads, arrays = "factor, hyper" if clips else "hyper", ["g", *written]
    scope: dict[str, Any] = {"line": line, "DUE": DUE, "__name__": __name__}
    exec(_BLOCKS.format(heads=heads, arrays=", ".join(arrays), lines=", ".join(f"line({x}, begin, n)" for x in arrays)), scope)
    return jit(named(name)(scope["factory"](plain, inner)))


class Kernels(NamedTuple):
    """One rule's kernels."""

    plain: Kernel  # (hyper, g, states..., p)
    clipped: Kernel  # (factor, hyper, g, states..., p), which does g *= factor[0] first
    watched: Kernel  # (clock, hyper, g, states..., p, blocks, stats)
    both: Kernel  # (clock, factor, hyper, g, states..., p, blocks, stats)


def _all(numbers: Function, rule: Function, name: str) -> Kernels:
    plain, clipped = _update(numbers, rule, name, False), _update(numbers, rule, f"clip_{name}", True)
    watched, both = _watched(numbers, rule, f"watch_{name}", plain, False), _watched(numbers, rule, f"watch_clip_{name}", clipped, True)
    return Kernels(plain, clipped, watched, both)


# ---- what rules are made of ---------------------------------------------------------------------------------------------------------
@inline
def _descended(p, direction, rate):
    return p - rate * direction


@inline
def _velocity(v, g, momentum):
    return momentum * v + g


@inline
def _directed(g, p, sign, decay):
    """The gradient of what is minimised, with that of the penalty decay / 2 * p**2."""
    g = sign * g
    return select(decay != 0.0, g + decay * p, g)


@inline
def _mean(m, x, weight):
    """The running mean m moved towards x."""
    return m + weight * (x - m)


@inline
def _mean_square(v, g, keep, weight):
    return keep * v + weight * (g * g)


@inline
def _power(base, exponent):
    """base ** exponent for a whole exponent, by squaring: a product for each binary digit, lowest first."""
    result, left = 1.0, int(exponent)
    while left > 0:
        if left & 1:
            result *= base
        base *= base
        left >>= 1
    return result


# ---- stochastic gradient descent: hyper = [lr, momentum, dampening, weight_decay, nesterov, maximize, t] ------------------------------------
def _sgd_numbers(hyper):
    return hyper[0], hyper[1]


def _sgd(numbers, g, p):
    return _descended(p, g, numbers[0])


def _sgd_momentum(numbers, g, v, p):
    velocity = _velocity(v, g, numbers[1])
    return velocity, _descended(p, velocity, numbers[0])


def _sgd_options(hyper):
    fresh = 1.0 - hyper[2] if hyper[6] > 1.0 else 1.0  # PyTorch does not dampen the first gradient
    return hyper[0], hyper[1], fresh, hyper[3], hyper[4] != 0.0, 1.0 - 2.0 * hyper[5]


def _sgd_decayed(numbers, g, p):
    rate, _, _, decay, _, sign = numbers
    return _descended(p, _directed(g, p, sign, decay), rate)


def _sgd_dampened(numbers, g, v, p):
    rate, momentum, fresh, decay, nesterov, sign = numbers
    g = _directed(g, p, sign, decay)
    velocity = _velocity(v, fresh * g, momentum)
    return velocity, _descended(p, select(nesterov, _velocity(velocity, g, momentum), velocity), rate)


# ---- RMSprop: hyper = [lr, alpha, eps, weight_decay, momentum, maximize, t] -----------------------------------------------------------
def _rmsprop_numbers(hyper):
    return hyper[0], hyper[1], 1.0 - hyper[1], hyper[2], hyper[3], hyper[4], 1.0 - 2.0 * hyper[5]


def _rmsprop(numbers, g, square, p):
    rate, keep, weight, eps, decay, _, sign = numbers
    g = _directed(g, p, sign, decay)
    square = _mean_square(square, g, keep, weight)
    return square, _descended(p, g / (sqrt(square) + eps), rate)


def _rmsprop_momentum(numbers, g, square, v, p):
    rate, keep, weight, eps, decay, momentum, sign = numbers
    g = _directed(g, p, sign, decay)
    square = _mean_square(square, g, keep, weight)
    velocity = _velocity(v, g / (sqrt(square) + eps), momentum)
    return square, velocity, _descended(p, velocity, rate)


@inline
def _deviation(square, mean):
    """The root of the variance, whose rounding may not make it negative."""
    return sqrt(maximum(square - mean * mean, 0.0))


def _rmsprop_centered(numbers, g, square, mean, p):
    rate, keep, weight, eps, decay, _, sign = numbers
    g = _directed(g, p, sign, decay)
    square, mean = _mean_square(square, g, keep, weight), _mean(mean, g, weight)
    return square, mean, _descended(p, g / (_deviation(square, mean) + eps), rate)


def _rmsprop_centered_momentum(numbers, g, square, mean, v, p):
    rate, keep, weight, eps, decay, momentum, sign = numbers
    g = _directed(g, p, sign, decay)
    square, mean = _mean_square(square, g, keep, weight), _mean(mean, g, weight)
    velocity = _velocity(v, g / (_deviation(square, mean) + eps), momentum)
    return square, mean, velocity, _descended(p, velocity, rate)


# ---- Adagrad: hyper = [lr, lr_decay, weight_decay, eps, maximize, t] --------------------------------------------------------------------
def _adagrad_numbers(hyper):
    return hyper[0] / (1.0 + (hyper[5] - 1.0) * hyper[1]), hyper[2], hyper[3], 1.0 - 2.0 * hyper[4]


def _adagrad(numbers, g, total, p):
    rate, decay, eps, sign = numbers
    g = _directed(g, p, sign, decay)
    total = total + g * g
    return total, _descended(p, g / (sqrt(total) + eps), rate)


# ---- Adam: hyper = [lr, beta1, beta2, eps, weight_decay, maximize, decoupled, hat, t] -----------------------------------------------------
def _adam_numbers(hyper):
    t, rate, decay, shrink = hyper[8], hyper[0] / (1.0 - _power(hyper[1], hyper[8])), hyper[4], 1.0
    root = math.sqrt(1.0 - _power(hyper[2], t))
    inverse = 1.0 / root
    if hyper[7] != 0.0:
        rate, inverse = rate * root, 1.0
    if hyper[6] != 0.0:
        decay, shrink = 0.0, 1.0 - hyper[0] * decay
    return rate, inverse, 1.0 - hyper[1], hyper[2], 1.0 - hyper[2], hyper[3], decay, shrink, 1.0 - 2.0 * hyper[5]


@inline
def _adam_moments(numbers, g, m, v, p):
    """The new moments, and the parameter after the decay that does not go through them."""
    _, _, weight1, keep2, weight2, _, decay, shrink, sign = numbers
    p = shrink * p
    g = _directed(g, p, sign, decay)
    return _mean(m, g, weight1), _mean_square(v, g, keep2, weight2), p


@inline
def _adam_descended(numbers, m, v, p):
    return _descended(p, m / (sqrt(v) * numbers[1] + numbers[5]), numbers[0])


def _adam(numbers, g, m, v, p):
    m, v, p = _adam_moments(numbers, g, m, v, p)
    return m, v, _adam_descended(numbers, m, v, p)


def _amsgrad(numbers, g, m, v, top, p):
    m, v, p = _adam_moments(numbers, g, m, v, p)
    top = maximum(top, v)
    return m, v, top, _adam_descended(numbers, m, top, p)


# ---- kernels: each update, after clipping, and watched -------------------------------------------------------------------------------------
sgd = _all(_sgd_numbers, _sgd, "sgd")
sgd_momentum = _all(_sgd_numbers, _sgd_momentum, "sgd_momentum")
sgd_decayed = _all(_sgd_options, _sgd_decayed, "sgd_decayed")
sgd_dampened = _all(_sgd_options, _sgd_dampened, "sgd_dampened")
rmsprop = _all(_rmsprop_numbers, _rmsprop, "rmsprop")
rmsprop_momentum = _all(_rmsprop_numbers, _rmsprop_momentum, "rmsprop_momentum")
rmsprop_centered = _all(_rmsprop_numbers, _rmsprop_centered, "rmsprop_centered")
rmsprop_centered_momentum = _all(_rmsprop_numbers, _rmsprop_centered_momentum, "rmsprop_centered_momentum")
adagrad = _all(_adagrad_numbers, _adagrad, "adagrad")
adam = _all(_adam_numbers, _adam, "adam")
amsgrad = _all(_adam_numbers, _amsgrad, "amsgrad")


@jit
def count(cell: int, x: Any) -> None:
    """x[cell] += 1."""
    x[cell] += 1.0


@jit
def schedule(cell: int, clock: Any, table: Any, hyper: Any) -> None:
    """hyper[cell] = the entry of `clock[0]` in a table that is written round and round."""
    hyper[cell] = table[int(clock[0]) % table.size]
