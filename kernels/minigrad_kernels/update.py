"""Optimiser updates, in place over a run of parameters; they cannot fail, so they may follow a step's guard."""
from __future__ import annotations

from ._jit import jit
from .simd import lanes, load, load_tail, splat, store, store_tail


@jit
def sgd(hyper, g, p):  # type: ignore[no-untyped-def]
    """p -= lr * g, with hyper = [lr, momentum]."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    rate = splat(hyper[0], p)
    for i in range(0, whole, step):
        store(p, i, load(p, i) - rate * load(g, i))
    if rest:
        store_tail(p, whole, rest, load_tail(p, whole, rest, 0.0) - rate * load_tail(g, whole, rest, 0.0))


@jit
def sgd_momentum(hyper, g, v, p):  # type: ignore[no-untyped-def]
    """v = momentum * v + g; p -= lr * v, with hyper = [lr, momentum] (PyTorch's form: the rate is outside the velocity)."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    rate, momentum = splat(hyper[0], p), splat(hyper[1], p)
    for i in range(0, whole, step):
        velocity = momentum * load(v, i) + load(g, i)
        store(v, i, velocity)
        store(p, i, load(p, i) - rate * velocity)
    if rest:
        velocity = momentum * load_tail(v, whole, rest, 0.0) + load_tail(g, whole, rest, 0.0)
        store_tail(v, whole, rest, velocity)
        store_tail(p, whole, rest, load_tail(p, whole, rest, 0.0) - rate * velocity)


@jit
def clip_sgd(factor, hyper, g, p):  # type: ignore[no-untyped-def]
    """g *= factor, then `sgd`: one pass, with the bits of both."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    by, rate = splat(factor[0], p), splat(hyper[0], p)
    for i in range(0, whole, step):
        gradient = load(g, i) * by
        store(g, i, gradient)
        store(p, i, load(p, i) - rate * gradient)
    if rest:
        gradient = load_tail(g, whole, rest, 0.0) * by
        store_tail(g, whole, rest, gradient)
        store_tail(p, whole, rest, load_tail(p, whole, rest, 0.0) - rate * gradient)


@jit
def clip_sgd_momentum(factor, hyper, g, v, p):  # type: ignore[no-untyped-def]
    """g *= factor, then `sgd_momentum`: one pass, with the bits of both."""
    step = lanes(p)
    whole = p.size // step * step
    rest = p.size - whole
    by, rate, momentum = splat(factor[0], p), splat(hyper[0], p), splat(hyper[1], p)
    for i in range(0, whole, step):
        gradient = load(g, i) * by
        store(g, i, gradient)
        velocity = momentum * load(v, i) + gradient
        store(v, i, velocity)
        store(p, i, load(p, i) - rate * velocity)
    if rest:
        gradient = load_tail(g, whole, rest, 0.0) * by
        store_tail(g, whole, rest, gradient)
        velocity = momentum * load_tail(v, whole, rest, 0.0) + gradient
        store_tail(v, whole, rest, velocity)
        store_tail(p, whole, rest, load_tail(p, whole, rest, 0.0) - rate * velocity)
