"""Elements moved from one strided place to another: permutations, reversals, slices with steps, and what undoes them.

An element is moved as an unsigned number of its size, so that one kernel serves all dtypes and every bit of a NaN arrives.
"""
from __future__ import annotations

from typing import Final

from ._jit import jit
from .reduce import line
from .simd import inline

#: Rows and columns of a block that stays in the first cache while one side of it is read across.
TILE: Final = 32
#: Numbers in `outer` for one dimension: its size and its two strides.
TRIPLE: Final = 3


@inline
def _copy(x, out):
    for i in range(out.size):
        out[i] = x[i]


@inline
def _plane(x, out, rows, columns, x_row, x_column, out_row, out_column):
    """One plane, from and to the starts of two lines; strides in elements."""
    item = x.itemsize
    if x_column == 1 and out_column == 1:
        for a in range(rows):
            _copy(line(x, a * x_row * item, columns), line(out, a * out_row * item, columns))
        return
    for a0 in range(0, rows, TILE):
        for b0 in range(0, columns, TILE):
            for a in range(a0, min(rows, a0 + TILE)):
                source, target = a * x_row, a * out_row
                for b in range(b0, min(columns, b0 + TILE)):
                    out[target + b * out_column] = x[source + b * x_column]


@jit
def move(x, out, x_start, out_start, columns, x_column, out_column, *outer):
    """out[out_start + i * strides] = x[x_start + i * strides] for all i: rows, which workers share, `columns`, and what `outer` says.

    The arrays' first dimension is the rows, their second is only the rows' stride in elements, which may be zero or negative.
    """
    rows, x_row = x.shape
    out_row = out.shape[1]
    item = x.itemsize
    planes = 1
    for d in range(0, len(outer), TRIPLE):
        planes *= outer[d]
    # The lines have no length: Numba adds it to a negative index, and a stride may be negative.
    for p in range(planes):
        rest, source, target = p, x_start, out_start
        for d in range(len(outer) - TRIPLE, -1, -TRIPLE):
            at = rest % outer[d]
            rest //= outer[d]
            source += at * outer[d + 1]
            target += at * outer[d + 2]
        _plane(line(x, source * item, 0), line(out, target * item, 0), rows, columns, x_row, x_column, out_row, out_column)
