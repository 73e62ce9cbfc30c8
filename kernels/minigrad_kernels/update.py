"""Optimiser updates, in place over a run of parameters; they cannot fail, so they may follow a step's guard.

Each is a rule on vectors, one for a plain update and one with velocity, under a loop that may clip the gradient as it reads it.
"""
from __future__ import annotations

from ._jit import jit
from .simd import inline, lanes, load, load_tail, splat, store, store_tail


@inline
def _descended(p, direction, rate):
    return p - rate * direction


@inline
def _velocity(v, g, momentum):
    return momentum * v + g


@jit
def sgd(hyper, g, p):
    """p -= lr * g, with hyper = [lr, momentum]."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    rate = splat(hyper[0], p)
    for i in range(0, whole, step):
        store(p, i, _descended(load(p, i), load(g, i), rate))
    if rest:
        store_tail(p, whole, rest, _descended(load_tail(p, whole, rest, 0.0), load_tail(g, whole, rest, 0.0), rate))


@jit
def sgd_momentum(hyper, g, v, p):
    """v = momentum * v + g; p -= lr * v, with hyper = [lr, momentum] (PyTorch's form: the rate is outside the velocity)."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    rate, momentum = splat(hyper[0], p), splat(hyper[1], p)
    for i in range(0, whole, step):
        velocity = _velocity(load(v, i), load(g, i), momentum)
        store(v, i, velocity)
        store(p, i, _descended(load(p, i), velocity, rate))
    if rest:
        velocity = _velocity(load_tail(v, whole, rest, 0.0), load_tail(g, whole, rest, 0.0), momentum)
        store_tail(v, whole, rest, velocity)
        store_tail(p, whole, rest, _descended(load_tail(p, whole, rest, 0.0), velocity, rate))


@jit
def clip_sgd(factor, hyper, g, p):
    """g *= factor, then `sgd`: one pass, with the bits of both."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    by, rate = splat(factor[0], p), splat(hyper[0], p)
    for i in range(0, whole, step):
        gradient = load(g, i) * by
        store(g, i, gradient)
        store(p, i, _descended(load(p, i), gradient, rate))
    if rest:
        gradient = load_tail(g, whole, rest, 0.0) * by
        store_tail(g, whole, rest, gradient)
        store_tail(p, whole, rest, _descended(load_tail(p, whole, rest, 0.0), gradient, rate))


@jit
def clip_sgd_momentum(factor, hyper, g, v, p):
    """g *= factor, then `sgd_momentum`: one pass, with the bits of both."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    by, rate, momentum = splat(factor[0], p), splat(hyper[0], p), splat(hyper[1], p)
    for i in range(0, whole, step):
        gradient = load(g, i) * by
        store(g, i, gradient)
        velocity = _velocity(load(v, i), gradient, momentum)
        store(v, i, velocity)
        store(p, i, _descended(load(p, i), velocity, rate))
    if rest:
        gradient = load_tail(g, whole, rest, 0.0) * by
        store_tail(g, whole, rest, gradient)
        velocity = _velocity(load_tail(v, whole, rest, 0.0), gradient, momentum)
        store_tail(v, whole, rest, velocity)
        store_tail(p, whole, rest, _descended(load_tail(p, whole, rest, 0.0), velocity, rate))
