"""Rows taken, put and added up by index. Arrays are (outer, n, inner), an index counts along n and may be negative, as NumPy's.

A kernel looks at the whole index that it is given before it writes anything and returns 0 if a place does not exist. Equal indices are
served in the order in which they stand, so sums and overwritten rows have the same bits however the work is cut.
"""
from __future__ import annotations

from ._jit import jit
from .ranges import copy_line, zero_line
from .reduce import line
from .simd import inline


@inline
def _fits(index, n):
    outside = 0
    for m in range(index.size):
        outside += index[m] < -n or index[m] >= n
    return outside == 0


@inline
def _at(i, n):
    return i + n if i < 0 else i


@inline
def _row(x, o, r):
    return line(x, o * x.strides[0] + r * x.strides[1], x.shape[2])


@inline
def _add(x, out):
    for i in range(out.size):
        out[i] += x[i]


@jit
def take_rows(x, index, out):
    """out[o, m] = x[o, index[m]]."""
    outer, n, _ = x.shape
    if not _fits(index, n):
        return 0
    for o in range(outer):
        for m in range(index.size):
            copy_line(_row(x, o, _at(index[m], n)), _row(out, o, m))
    return 1


@jit
def place_rows(x, index, skip, out):
    """out = 0, then out[o, index[m]] += x[o, m] for ascending m; rows for the place `skip` are left out."""
    outer, n, _ = out.shape
    if not _fits(index, n):
        return 0
    for o in range(outer):
        for r in range(n):
            zero_line(_row(out, o, r))
        for m in range(index.size):
            at = _at(index[m], n)
            if at != skip:
                _add(_row(x, o, m), _row(out, o, at))
    return 1


@jit
def put_rows(x, index, value, out):
    """out = x, then out[o, index[m]] = value[o, m] for ascending m."""
    outer, n, _ = out.shape
    if not _fits(index, n):
        return 0
    for o in range(outer):
        for r in range(n):
            copy_line(_row(x, o, r), _row(out, o, r))
        for m in range(index.size):
            copy_line(_row(value, o, m), _row(out, o, _at(index[m], n)))
    return 1


@jit
def clear_rows(x, index, out):
    """out = x, then out[o, index[m]] = 0."""
    outer, n, _ = out.shape
    if not _fits(index, n):
        return 0
    for o in range(outer):
        for r in range(n):
            copy_line(_row(x, o, r), _row(out, o, r))
        for m in range(index.size):
            zero_line(_row(out, o, _at(index[m], n)))
    return 1


@jit
def is_last(index, seen, out):
    """out[m] = 1 if no later index is the same place of `seen`, whose size is n, else 0."""
    n = seen.size
    if not _fits(index, n):
        return 0
    for m in range(index.size):
        seen[_at(index[m], n)] = m
    for m in range(index.size):
        out[m] = 1 if seen[_at(index[m], n)] == m else 0
    return 1


@jit
def fit_index(index, size, out):
    """out = index, counted from the front."""
    if not _fits(index, size):
        return 0
    for m in range(index.size):
        out[m] = _at(index[m], size)
    return 1


@jit
def join_index(x, index, size, out):
    """out = x * size + index: from places along two neighbouring dimensions to places along their product."""
    if not _fits(index, size):
        return 0
    for m in range(index.size):
        out[m] = x[m] * size + _at(index[m], size)
    return 1


@inline
def _all_fit(index, n):
    outer, m, _ = index.shape
    for o in range(outer):
        for j in range(m):
            if not _fits(_row(index, o, j), n):
                return False
    return True


@jit
def gather_along(x, index, out):
    """out[o, m, i] = x[o, index[o, m, i], i]."""
    outer, n, inner = x.shape
    if not _all_fit(index, n):
        return 0
    for o in range(outer):
        for m in range(index.shape[1]):
            place, target = _row(index, o, m), _row(out, o, m)
            for i in range(inner):
                target[i] = x[o, _at(place[i], n), i]
    return 1


@jit
def scatter_along(x, index, out):
    """out = 0, then out[o, index[o, m, i], i] += x[o, m, i] for ascending m."""
    outer, n, inner = out.shape
    if not _all_fit(index, n):
        return 0
    for o in range(outer):
        for r in range(n):
            zero_line(_row(out, o, r))
        for m in range(index.shape[1]):
            place, source = _row(index, o, m), _row(x, o, m)
            for i in range(inner):
                out[o, _at(place[i], n), i] += source[i]
    return 1


@jit
def one_hot(labels, out):
    """out[m, labels[m]] = 1, all else 0; 0 if a label is not a class."""
    rows, classes = out.shape
    for m in range(rows):
        if labels[m] < 0 or labels[m] >= classes:
            return 0
    for m in range(rows):
        for c in range(classes):
            out[m, c] = 1 if c == labels[m] else 0
    return 1


@jit
def masked_fill(x, mask, value, out):
    """out = value[0] where mask, else x."""
    for i in range(out.size):
        out[i] = value[0] if mask[i] else x[i]


@jit
def masked_keep(x, mask, unset, out):
    """out = x where mask is set, or with `unset` where it is not, else 0."""
    zero = out.dtype.type(0)  # beside an unsigned number Numba would take a plain 0 as a reason for float64
    for i in range(out.size):
        out[i] = x[i] if (mask[i] != 0) != (unset != 0) else zero
