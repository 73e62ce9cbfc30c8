"""Runs of neighbouring elements: put into an array, laid into zeros, cleared. Arrays are 1-D and C-contiguous, of one dtype."""
from __future__ import annotations

from ._jit import jit
from .simd import inline


@inline
def _copy(x, out):
    for i in range(out.size):
        out[i] = x[i]


@inline
def _zero(out):
    for i in range(out.size):
        out[i] = 0


@jit
def copy(x, out):
    """out = x."""
    _copy(x, out)


@jit
def put_range(x, value, start, out):
    """out = x, with `value` from `start` on."""
    end = start + value.size
    _copy(x[:start], out[:start])
    _copy(value, out[start:end])
    _copy(x[end:], out[end:])


@jit
def place_range(value, start, out):
    """out = 0, with `value` from `start` on."""
    end = start + value.size
    _zero(out[:start])
    _copy(value, out[start:end])
    _zero(out[end:])


@jit
def clear_range(x, start, size, out):
    """out = x, with `size` zeros from `start` on."""
    end = start + size
    _copy(x[:start], out[:start])
    _zero(out[start:end])
    _copy(x[end:], out[end:])
