"""Matrix products in which every element is one chain of fused multiply-adds over ascending k, whatever the shape or the slicing.

`_tile.tile` keeps a tile of the output in registers. B is read in place while it is small, else a panel of TILE_VECTORS vectors by DEPTH rows
at a time from an aligned copy, with the next panel prefetched meanwhile: weights seldom fit the second-level cache. A is broadcast from where
it lies; one that many panels read is first copied if it is transposed (a walk down its columns touches a page a step) or large.
"""
from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from ._host import CACHE_LINE, VECTOR_BYTES
from ._jit import jit, named
from ._tile import (
    CHUNK_BYTES,
    TILE_ROWS,
    TILE_VECTORS,
    Matrix,
    copy_lanes,
    copy_vector,
    element_bytes,
    elements,
    fma_chains,
    matrix,
    offset,
    tile,
    transpose_chunk,
    transpose_corner,
    transpose_vector,
)

#: Rows of B in a panel: 39 KB of a first-level cache of 48 KB. 128 to 256 measure alike; 96 and 384 are some 3 % slower.
DEPTH: Final = 208
PANEL_BYTES: Final = DEPTH * TILE_VECTORS * VECTOR_BYTES
#: Rows of A that are copied side by side.
GROUP: Final = 16
A_BYTES: Final = 448 * 1024
#: A row-major A is copied where its rows begin at multiples of a page, so that they evict each other, or where it is larger than FAR_BYTES.
PAGE_BYTES: Final = 4096
FAR_BYTES: Final = 1024 * 1024
#: Packing scratch that one worker needs.
SCRATCH_BYTES: Final = PANEL_BYTES + A_BYTES
#: A row-major B of at most so many bytes is read in place.
SMALL_BYTES: Final = 16 * 1024
#: Up to this depth a narrow product goes straight to its tiles: in a net four wide the way there costs as much as they do.
TINY_DEPTH: Final = 16


class Left(NamedTuple):
    """A: row i begins at data + i // GROUP * group + i % GROUP * row."""

    data: Any
    row: Any
    column: Any
    group: Any


class Ahead(NamedTuple):
    """What to prefetch: `step` elements further at each k, `jump` further after each tile within the first `jumps` rows."""

    data: Any
    step: Any
    jump: Any
    jumps: Any


def _strip(vectors: int, masked: bool, narrow: bool = False) -> Any:
    """A kernel for all rows of a strip of the output, `vectors` wide (the last cut to `lanes` if masked)."""
    tall, middle, pair, single = (tile(rows, vectors, masked, narrow) for rows in (TILE_ROWS, 4, 2, 1))

    @jit
    @named(f"strip{0 if narrow else vectors}")
    def strip(m, k, a, b, b_row, out, out_row, lanes, resume, bias, biased, ahead):
        i = 0
        fetch = ahead.data
        while i < m:
            left = offset(a.data, i // GROUP * a.group + i % GROUP * a.row)
            spot = offset(out, i * out_row)
            if i + TILE_ROWS <= m:
                tall(k, left, a.row, a.column, b, b_row, spot, out_row, lanes, resume, bias, biased, fetch, ahead.step)
                i += TILE_ROWS
                if i < ahead.jumps:
                    fetch = offset(fetch, ahead.jump)
            elif i + 4 <= m:
                middle(k, left, a.row, a.column, b, b_row, spot, out_row, lanes, resume, bias, biased, fetch, 0)
                i += 4
            elif i + 2 <= m:
                pair(k, left, a.row, a.column, b, b_row, spot, out_row, lanes, resume, bias, biased, fetch, 0)
                i += 2
            else:
                single(k, left, a.row, a.column, b, b_row, spot, out_row, lanes, resume, bias, biased, fetch, 0)
                i += 1

    return strip


_strip0, _strip1, _strip2, _strip3 = _strip(1, True, True), _strip(1, True), _strip(2, False), _strip(3, False)


@jit
def _pack_rows(b, b_row, k, n, panel, panel_row, lanes):
    """Copy (k, n) with contiguous rows into a panel whose rows are whole vectors."""
    whole = n - n % lanes
    for i in range(k):
        for j in range(0, whole, lanes):
            copy_vector(offset(b, i * b_row + j), offset(panel, i * panel_row + j), lanes)
        if whole < n:
            copy_lanes(offset(b, i * b_row + whole), offset(panel, i * panel_row + whole), n - whole)


@jit
def _pack_columns(b, b_column, k, n, panel, panel_row, lanes, chunk):
    """The same for contiguous columns. The last block down a column overlaps the one before it."""
    for j in range(0, n, lanes):
        if k >= lanes:
            for i in range(0, k, lanes):
                top = min(i, k - lanes)
                transpose_vector(offset(b, top + j * b_column), b_column, n - j, offset(panel, top * panel_row + j), panel_row)
        elif k >= chunk:
            for i in range(0, k, chunk):
                top = min(i, k - chunk)
                transpose_chunk(offset(b, top + j * b_column), b_column, n - j, offset(panel, top * panel_row + j), panel_row)
        else:
            for i in range(k):
                for column in range(j, min(j + lanes, n)):
                    panel[i * panel_row + column] = b[i + column * b_column]


@jit
def _tiny(m, k, n, a, b, out, out_row, bias, biased, scratch):
    """The product of a net a few units wide: one strip, at once."""
    zero = np.intp(0)
    size = element_bytes(out)
    lanes = VECTOR_BYTES // size
    left, ahead, source, source_row = Left(a.data, a.row, a.column, GROUP * a.row), Ahead(b.data, zero, zero, zero), b.data, b.row
    if b.column != 1:
        source, source_row = scratch, lanes
        chunk = CHUNK_BYTES // size
        if n <= chunk <= k:
            # Layers a few wide: 16 bytes a row in the copy, not a vector, are all that the narrow tile reads.
            for i in range(0, k, chunk):
                first = min(i, k - chunk)
                transpose_corner(offset(b.data, first), b.column, n, offset(scratch, first * lanes), zero + lanes)
        else:
            _pack_columns(b.data, b.column, k, n, scratch, zero + lanes, lanes, chunk)
    if n <= CHUNK_BYTES // size:
        _strip0(m, k, left, source, source_row, out, out_row, n, False, bias, biased, ahead)
    else:
        _strip1(m, k, left, source, source_row, out, out_row, n, False, bias, biased, ahead)


@jit
def _product(m, k, n, a, b, out, out_row, bias, biases, scratch):
    """out = a @ b, then out += bias if it has any; all by address, so that one compiled body serves every layout of array."""
    zero = np.intp(0)
    biased = biases > 0
    size = element_bytes(out)
    lanes = VECTOR_BYTES // size
    column = n == 1 and m > 1 and out_row == 1 and (a.row == 1 or a.column == 1)
    if column:
        # A column is worked as a row, whose vectors are full; what it adds is one number.
        a, b, m, n, out_row = Matrix(b.data, b.column, b.row), Matrix(a.data, a.column, a.row), n, m, m
    panel_row = TILE_VECTORS * lanes
    in_place = b.column == 1 and (m <= 2 * TILE_ROWS or k * n * size <= SMALL_BYTES)
    scattered = a.row == 1 or (a.column == 1 and (a.row * size % PAGE_BYTES == 0 or m * k * size > FAR_BYTES))
    copied = scattered and not in_place and m > TILE_ROWS and n > 4 * panel_row and lanes <= k
    high, depths, reach = m, k, k
    if k > DEPTH and not in_place:
        depths = (k - 1) // ((k + DEPTH - 1) // DEPTH) + 1
        depths += -depths % lanes
    if copied:
        # As many rows as the copy holds share each panel of B, so this goes through all panels before it goes on along k.
        reach = depths
        high = A_BYTES // (min(reach, k) * size) // GROUP * GROUP
    top = zero
    while top < m:
        rows = min(high, m - top)
        begin = zero
        while True:
            end = min(begin + reach, k)
            left = Left(offset(a.data, top * a.row + begin * a.column), a.row, a.column, GROUP * a.row)
            if copied:
                packed, span = offset(scratch, PANEL_BYTES // size), end - begin
                for i in range(0, rows, GROUP):
                    source, block, count = offset(left.data, i * a.row), offset(packed, i * span), min(GROUP, rows - i)
                    if a.row == 1:
                        _pack_rows(source, a.column, span, count, block, zero + GROUP, lanes)
                    else:
                        _pack_columns(source, a.row, span, count, block, zero + GROUP, lanes, CHUNK_BYTES // size)
                left = Left(packed, zero + 1, zero + GROUP, GROUP * span)
            j = zero
            while j < n:
                vectors = min((n - j) // lanes, TILE_VECTORS)
                width = vectors * lanes if vectors > 0 else n - j
                done = begin
                while True:
                    depth = min(end - done, depths)
                    source = offset(b.data, done * b.row + j * b.column)
                    source_row = b.row
                    ahead = Ahead(source, zero, zero, zero)
                    if not in_place:
                        if b.column == 1:
                            _pack_rows(source, b.row, depth, width, scratch, panel_row, lanes)
                            ahead = Ahead(offset(source, width), b.row, CACHE_LINE // size, zero + TILE_ROWS * TILE_VECTORS + 1)
                        else:
                            _pack_columns(source, b.column, depth, width, scratch, panel_row, lanes, CHUNK_BYTES // size)
                            if n > panel_row and m >= TILE_ROWS and reach >= k > 0:
                                # The next panel is one stretch of memory: spread it evenly over the tiles that this one takes.
                                stretch = width * b.column // k
                                step = stretch * TILE_ROWS // m
                                ahead = Ahead(offset(b.data, (j + width) * b.column + stretch * done), step, step * depth, m)
                        source, source_row = scratch, panel_row
                    here = Left(offset(left.data, (done - begin) * left.column), left.row, left.column, left.group)
                    spot, shift = offset(out, top * out_row + j), offset(bias, j)
                    last = biased and not column and done + depth == k
                    if vectors == 3:
                        _strip3(rows, depth, here, source, source_row, spot, out_row, width, done > 0, shift, last, ahead)
                    elif vectors == 2:
                        _strip2(rows, depth, here, source, source_row, spot, out_row, width, done > 0, shift, last, ahead)
                    else:
                        _strip1(rows, depth, here, source, source_row, spot, out_row, width, done > 0, shift, last, ahead)
                    done += depth
                    if done >= end:
                        break
                j += width
            begin = end
            if begin >= k:
                break
        top += rows
    if column and biased:
        for i in range(n):
            out[i] += bias[0]


@jit
def matmul(a, b, out, scratch):
    """out = a @ b.

    a (m, k), any strides; b (k, n), row-major or the transpose of that; out (m, n), rows contiguous; one dtype, float32 or float64.
    scratch (SCRATCH_BYTES,) uint8, 64-byte aligned.
    """
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    target = matrix(out)
    if n * out.itemsize <= VECTOR_BYTES and (k <= TINY_DEPTH or (k <= DEPTH and b.strides[1] == b.itemsize)):
        _tiny(m, k, n, matrix(a), matrix(b), target.data, target.row, target.data, False, elements(scratch, target.data))
    else:
        _product(m, k, n, matrix(a), matrix(b), target.data, target.row, target.data, np.intp(0), elements(scratch, target.data))


@jit
def linear(a, b, bias, out, scratch):
    """out = a @ b + bias, the bias added after the last k with a rounding of its own; bias (n,) contiguous, the rest as in `matmul`."""
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    target = matrix(out)
    if n * out.itemsize <= VECTOR_BYTES and (k <= TINY_DEPTH or (k <= DEPTH and b.strides[1] == b.itemsize)):
        _tiny(m, k, n, matrix(a), matrix(b), target.data, target.row, matrix(bias).data, bias.size > 0, elements(scratch, target.data))
    else:
        _product(m, k, n, matrix(a), matrix(b), target.data, target.row, matrix(bias).data, bias.size, elements(scratch, target.data))


@jit
def _stack(outer, inner, m, k, n, a, a_outer, a_inner, b, b_outer, b_inner, out, out_row, out_outer, out_inner, scratch):
    """outer x inner products, each with the bits of `matmul`; the steps from one matrix to the next are in elements, 0 where one serves all."""
    size = element_bytes(out)
    work = elements(scratch, out)
    tiny = n * size <= VECTOR_BYTES and (k <= TINY_DEPTH or (k <= DEPTH and b.column == 1))
    for p in range(outer):
        for q in range(inner):
            left = Matrix(offset(a.data, p * a_outer + q * a_inner), a.row, a.column)
            right = Matrix(offset(b.data, p * b_outer + q * b_inner), b.row, b.column)
            spot = offset(out, p * out_outer + q * out_inner)
            if tiny:
                _tiny(m, k, n, left, right, spot, out_row, spot, False, work)
            else:
                _product(m, k, n, left, right, spot, out_row, spot, np.intp(0), work)


@jit
def stack_columns(a, b, out, outer, inner, a_outer, a_inner, b_outer, b_inner, out_outer, out_inner, scratch):
    """out[p, q] = a[p, q] @ b[p, q] for p < outer, q < inner; the arrays are the first of each, the steps to the others in elements."""
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    target = matrix(out)
    _stack(outer, inner, m, k, n, matrix(a), a_outer, a_inner, matrix(b), b_outer, b_inner, target.data, target.row, out_outer, out_inner, scratch)


@jit
def stack_slices(a, b, out, inner, a_inner, b_inner, m, k, n, a_row, a_column, b_row, b_column, scratch):
    """The same; row p of each array begins at p's first matrix, whose rows and columns are so many elements apart."""
    left, right, target = matrix(a), matrix(b), matrix(out)
    _stack(a.shape[0], inner, m, k, n, Matrix(left.data, a_row, a_column), left.row, a_inner, Matrix(right.data, b_row, b_column), right.row,
           b_inner, target.data, n, target.row, m * n, scratch)


@jit
def fma_peak(n, seed):
    """Floating-point operations done by n rounds of fused multiply-adds on registers; `seed` (0 to 1) gives the dtype."""
    total, operations = fma_chains(n, seed)
    return operations if total == total else 0
