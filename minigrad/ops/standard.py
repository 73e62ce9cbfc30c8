"""What normalisation over any axes has in common: the definition in NumPy, and its second derivative in ops.

For u = (x - mean) / sqrt(variance + eps) with the statistics of x itself, the derivative in x is P(g) = rate * (g - mean(g) - u * mean(g * u)),
which is its own transpose (S. Ioffe and C. Szegedy, "Batch normalization", ICML 2015).
"""
from __future__ import annotations

import numpy as np

from minigrad.ops.elementwise import add, div, mul, neg, scale, sub
from minigrad.ops.op import Value
from minigrad.ops.reduce import mean as average


def centred(x: Value, axes: tuple[int, ...]) -> Value:
    """In NumPy: x less its mean."""
    return x - np.mean(x, axis=axes, keepdims=True)


def unit(x: Value, axes: tuple[int, ...], eps: float) -> tuple[Value, Value]:
    """In NumPy: x normalised, and what it was multiplied by."""
    distance = centred(x, axes)
    rate = 1 / np.sqrt(np.mean(distance * distance, axis=axes, keepdims=True) + eps)
    return distance * rate, rate


def turned(g: Value, x: Value, axes: tuple[int, ...], eps: float) -> Value:
    """In NumPy: P(g)."""
    normal, rate = unit(x, axes, eps)
    return rate * (centred(g, axes) - normal * np.mean(g * normal, axis=axes, keepdims=True))


def curved(h: Value, u: Value, x: Value, normal: Value, axes: tuple[int, ...], eps: float) -> Value:
    """The gradient for x of sum(h * P(u)), in ops; `normal` is x normalised.

    With a = mean(h * normal), b = mean(u * normal), and h and u centred: -rate^2 * (normal * (mean(h * u) - 3 * a * b) + b * h + a * u).
    """
    def mean(v: Value) -> Value:
        return average(v, axis=axes, keepdims=True)

    h, u, distance = sub(h, mean(h)), sub(u, mean(u)), sub(x, mean(x))
    a, b = mean(mul(h, normal)), mean(mul(u, normal))
    inner = add(mul(normal, sub(mean(mul(h, u)), scale(mul(a, b), by=3.0))), add(mul(b, h), mul(a, u)))
    return neg(div(inner, add(mean(mul(distance, distance)), eps)))


def ones(x: Value) -> Value:
    """In ops: ones of the shape and dtype of x."""
    return add(zeros(x), 1.0)


def zeros(x: Value) -> Value:
    """In ops: zeros of the shape and dtype of x."""
    return scale(x, by=0.0)
