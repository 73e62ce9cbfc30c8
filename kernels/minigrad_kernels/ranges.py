"""Runs of neighbouring elements: put into an array, laid into zeros, cleared. Arrays are 1-D and C-contiguous, of one dtype."""
from __future__ import annotations

from ._jit import jit
from .simd import inline


@inline
def copy_line(x, out):
    """out = x, in compiled code."""
    for i in range(out.size):
        out[i] = x[i]


@inline
def zero_line(out):
    """out = 0, in compiled code."""
    for i in range(out.size):
        out[i] = 0


@jit
def copy(x, out):
    """out = x."""
    copy_line(x, out)


@jit
def put_range(x, value, start, out):
    """out = x, with `value` from `start` on."""
    end = start + value.size
    copy_line(x[:start], out[:start])
    copy_line(value, out[start:end])
    copy_line(x[end:], out[end:])


@jit
def place_range(value, start, out):
    """out = 0, with `value` from `start` on."""
    end = start + value.size
    zero_line(out[:start])
    copy_line(value, out[start:end])
    zero_line(out[end:])


@jit
def clear_range(x, start, size, out):
    """out = x, with `size` zeros from `start` on."""
    end = start + size
    copy_line(x[:start], out[:start])
    zero_line(out[start:end])
    copy_line(x[end:], out[end:])
