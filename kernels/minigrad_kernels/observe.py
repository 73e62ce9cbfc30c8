"""Statistics of gradients, weights and signals, taken while they are at hand, and the row of them that a training step leaves.

What is kept of one array is a group of GROUP float64: of a signal [sum, sum of squares, largest size, zeros, not finite, saturated, dead,
count], of a parameter the first five of its gradient, then [sum, sum of squares, sum of squares of its change]. All but the largest size
add up. `clock` is [whether this step is recorded, its number, every how many steps one is, the address of the next row], int64.
"""
from __future__ import annotations

import math
from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ._jit import jit
from .feed import copy_bytes
from .norms import sum_squares
from .reduce import fold, line, widen
from .simd import Vector, abs_, fma, inline, lane_count_mask, lanes, load, load_tail, select, splat

GROUP: Final = 8
LARGEST: Final = 2
#: Where a parameter's gradient ends and its weight begins in its group.
WEIGHT: Final = 5
DUE, STEP, EVERY, NEXT = range(4)
I32: Final = ir.IntType(32)


def _shuffled(builder: Any, x: Any, y: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(order)), order))


def _added(builder: Any, vectors: list[Any], widths: tuple[int, ...]) -> list[Any]:
    """LLVM: a transposition whose every step adds: pairs of lanes, then pairs of pairs, then halves, of vectors of GROUP lanes in the end."""
    count = vectors[0].type.count
    while count > GROUP:
        count //= 2
        low, high = list(range(count)), list(range(count, 2 * count))
        vectors = [builder.fadd(_shuffled(builder, v, v, low), _shuffled(builder, v, v, high)) for v in vectors]
    while count < GROUP:  # narrower hosts: lanes that are not there are zeros
        vectors = [_shuffled(builder, v, ir.Constant(v.type, None), list(range(2 * count))) for v in vectors]
        count *= 2
    for width in widths:
        low = [i + of * GROUP for begin in range(0, GROUP, 2 * width) for of in (0, 1) for i in range(begin, begin + width)]
        vectors = [builder.fadd(_shuffled(builder, x, y, low), _shuffled(builder, x, y, [i + width for i in low]))
                   for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors


@intrinsic  # type: ignore[untyped-decorator]
def put_sums(typingctx: Any, array: Any, at: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """array[at], ..., array[at + 7] = the sums of the lanes of eight float64 vectors, by additions of whole vectors."""
    if not isinstance(a, Vector) or a.dtype != types.float64:
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, vectors = builder.gep(make_array(array)(context, builder, arguments[0]).data, [arguments[1]]), list(arguments[2:])
        (sums,) = _added(builder, vectors, (1, 2, 4))
        builder.store(sums, builder.bitcast(target, sums.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, *[a] * GROUP), codegen


@intrinsic  # type: ignore[untyped-decorator]
def put_three(typingctx: Any, array: Any, at: Any, a: Any, b: Any, c: Any) -> Any:
    """array[at], array[at + 1], array[at + 2] = the sums of the lanes of three float64 vectors."""
    if not isinstance(a, Vector) or a.dtype != types.float64:
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base, vectors = make_array(array)(context, builder, arguments[0]).data, list(arguments[2:])
        (both,) = _added(builder, [*vectors, ir.Constant(vectors[0].type, None)], (1, 2))
        half = GROUP // 2
        sums = builder.fadd(_shuffled(builder, both, both, list(range(half))), _shuffled(builder, both, both, list(range(half, GROUP))))
        for i in range(3):
            target = builder.gep(base, [builder.add(arguments[1], context.get_constant(types.intp, i))])
            builder.store(builder.extract_element(sums, ir.Constant(I32, i)), target)
        return context.get_dummy_value()

    return types.void(array, types.intp, *[a] * 3), codegen


@intrinsic  # type: ignore[untyped-decorator]
def largest(typingctx: Any, vector: Any) -> Any:
    """The largest lane, of lanes none of which is NaN, as float64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, count = arguments[0], vector.lanes
        while count > 1:
            count //= 2
            moved = _shuffled(builder, value, value, [i + count if i < count else i for i in range(vector.lanes)])
            value = builder.select(builder.fcmp_ordered(">", moved, value), moved, value)
        lane = builder.extract_element(value, ir.Constant(I32, 0))
        return lane if vector.dtype == types.float64 else builder.fpext(lane, ir.DoubleType())

    return types.float64(vector), codegen


@intrinsic  # type: ignore[untyped-decorator]
def first_lanes(typingctx: Any, x: Any, count: Any) -> Any:
    """x in the first `count` lanes, 0 in the others."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(lane_count_mask(builder, arguments[1], x), arguments[0], ir.Constant(arguments[0].type, None))

    return x(x, types.intp), codegen


@jit
def not_finite(x):
    """How many elements of a 1-D array are NaN or infinite."""
    count = 0.0
    for i in range(x.size):
        if not math.isfinite(x[i]):
            count += 1.0
    return count


@jit
def zero_units(x):
    """How many columns of (rows, units) are 0 in every row; one that has a NaN is not."""
    count = 0.0
    for j in range(x.shape[1]):
        alive = False
        for i in range(x.shape[0]):
            alive = alive or x[i, j] != 0.0
        if not alive:
            count += 1.0
    return count


# ---- gradients ----------------------------------------------------------------------------------------------------------------------------
@inline
def _gradient(x, partials, b, stats, at):
    """One block: its sum of squares as the norm takes it, and its group, whose weight's part is NaN until an update takes it."""
    step = lanes(x)
    whole = x.size // step * step
    rest = x.size - whole
    none = widen(splat(0.0, x))
    sums, squares, zeros, top = none, none, splat(0.0, x), splat(0.0, x)
    for i in range(0, whole, step):
        v = load(x, i)
        size, wide = abs_(v), widen(v)
        squares, sums = squares + wide * wide, sums + wide
        zeros, top = zeros + select(v == 0.0, 1.0, 0.0), select(size > top, size, top)
    missing = 0.0
    if rest:
        v = load_tail(x, whole, rest, 0.0)
        size, wide = abs_(v), widen(v)
        squares, sums = squares + wide * wide, sums + wide
        zeros, top = zeros + select(v == 0.0, 1.0, 0.0), select(size > top, size, top)
        missing = float(step - rest)  # lanes behind the end, counted as zeros
    partials[b] = fold(squares)
    unknown = widen(splat(math.nan, x))
    put_sums(stats, at, sums, squares, none, widen(zeros), none, unknown, unknown, unknown)
    stats[at + LARGEST] = largest(top)
    stats[at + 3] -= missing
    if not math.isfinite(partials[b]):
        stats[at + 4] = not_finite(x)


@jit
def gradients(clock, x, blocks, partials, stats):
    """`norms.sum_squares` over the blocks' first two rows; in a step that is recorded also a group of each, at stats[blocks[2, b]]."""
    if clock[DUE] == 0:
        sum_squares(x, blocks, partials)
        return
    for b in range(partials.size):
        _gradient(line(x, blocks[0, b] * x.itemsize, blocks[1, b]), partials, b, stats, blocks[2, b])


# ---- weights ------------------------------------------------------------------------------------------------------------------------------
@jit
def weights(clock, x, blocks, stats):
    """Sums and sums of squares of the blocks of weights whose change nobody has seen: that of the change is NaN."""
    if clock[DUE] == 0:
        return
    for b in range(blocks.shape[1]):
        run, at = line(x, blocks[0, b] * x.itemsize, blocks[1, b]), blocks[2, b]
        step = lanes(run)
        whole = run.size // step * step
        none = widen(splat(0.0, run))
        sums, squares = none, none
        for i in range(0, whole, step):
            wide = widen(load(run, i))
            squares, sums = squares + wide * wide, sums + wide
        if whole < run.size:
            wide = widen(load_tail(run, whole, run.size - whole, 0.0))
            squares, sums = squares + wide * wide, sums + wide
        put_three(stats, at + WEIGHT, sums, squares, none)
        stats[at + WEIGHT + 2] = math.nan


# ---- signals ------------------------------------------------------------------------------------------------------------------------------
@jit
def signal(low, high, clock, x, stats):
    """The group of x (rows, units): `saturated` counts elements at or beyond low or high, `dead` is the share of units that are 0 in all rows."""
    if clock[DUE] != 0:
        _signal(low, high, x, stats)  # a function of its own, so that nothing is set up for it in a step that is not recorded


@inline
def _seen(v, sums, squares, zeros, alive):
    """The running numbers after one more vector, `alive` being the largest size of each unit."""
    size, wide = abs_(v), widen(v)
    return sums + wide, fma(wide, wide, squares), zeros + select(v == 0.0, 1.0, 0.0), select(size > alive, size, alive)


@inline
def _beyond(v, low, high):
    return select(v <= low, 1.0, select(v >= high, 1.0, 0.0))


@jit
def _signal(low, high, x, stats):
    rows, units = x.shape
    stride = x.strides[0]
    like = line(x, 0, units)
    step = lanes(like)
    none, count = widen(splat(0.0, like)), splat(0.0, like)
    sums, squares, zeros, beyond, top, dead = none, none, count, count, count, count
    begin = 0
    while begin + 4 * step <= units:  # four vectors of a row side by side: a vector alone is a page away from that of the next row
        a0, a1, a2, a3 = count, count, count, count
        for j in range(rows):
            row = line(x, j * stride, units)
            sums, squares, zeros, a0 = _seen(load(row, begin), sums, squares, zeros, a0)
            sums, squares, zeros, a1 = _seen(load(row, begin + step), sums, squares, zeros, a1)
            sums, squares, zeros, a2 = _seen(load(row, begin + 2 * step), sums, squares, zeros, a2)
            sums, squares, zeros, a3 = _seen(load(row, begin + 3 * step), sums, squares, zeros, a3)
        for alive in (a0, a1, a2, a3):
            top, dead = select(alive > top, alive, top), dead + select(alive > 0.0, 0.0, 1.0)
        begin += 4 * step
    while begin + step <= units:
        alive = count
        for j in range(rows):
            sums, squares, zeros, alive = _seen(load(line(x, j * stride, units), begin), sums, squares, zeros, alive)
        top, dead = select(alive > top, alive, top), dead + select(alive > 0.0, 0.0, 1.0)
        begin += step
    rest, missing = units - begin, 0.0
    if rest:
        alive = count
        for j in range(rows):
            sums, squares, zeros, alive = _seen(load_tail(line(x, j * stride, units), begin, rest, 0.0), sums, squares, zeros, alive)
        top, dead = select(alive > top, alive, top), dead + select(alive > 0.0, 0.0, 1.0)
        missing = float(step - rest)  # lanes behind the end: zeros in every row
    if low > -math.inf or high < math.inf:
        run = line(x, 0, rows * units)
        whole = run.size // step * step
        for i in range(0, whole, step):
            beyond = beyond + _beyond(load(run, i), low, high)
        if whole < run.size:
            beyond = beyond + first_lanes(_beyond(load_tail(run, whole, run.size - whole, 0.0), low, high), run.size - whole)
    put_sums(stats, 0, sums, squares, none, widen(zeros), none, widen(beyond), widen(dead), none)
    stats[LARGEST] = largest(top)
    stats[3] -= missing * rows
    stats[6] -= missing
    if not math.isfinite(stats[1]):
        stats[4] = not_finite(line(x, 0, rows * units))
        stats[6] = zero_units(x)  # no size of a NaN is above another
    stats[6] /= max(1, units)
    stats[7] = float(rows * units)


# ---- rows ---------------------------------------------------------------------------------------------------------------------------------
@jit
def gather(begin, end, clock, stats, bounds, now):
    """For each column of bounds, [first, last, where]: numbers `begin` to `end` of the groups of stats from first to last in one, at now[where]."""
    if clock[DUE] == 0:
        return
    for s in range(bounds.shape[1]):
        to = bounds[2, s]
        for k in range(begin, end):
            now[to + k] = 0.0
        for at in range(bounds[0, s], bounds[1, s], GROUP):
            for k in range(begin, end):
                if k == LARGEST:
                    now[to + k] = max(now[to + k], stats[at + k])
                else:
                    now[to + k] += stats[at + k]


@jit
def record(now, clock):
    """End a step. One that is recorded leaves `now`, whose first number becomes the step's, as a row, and NaNs in its place."""
    if clock[DUE] != 0:
        now[0] = clock[STEP]
        copy_bytes(clock[NEXT], now.ctypes.data, now.size * now.itemsize)
        clock[NEXT] += now.size * now.itemsize
        for i in range(now.size):
            now[i] = math.nan
    clock[STEP] += 1
    clock[DUE] = 1 if clock[STEP] % clock[EVERY] == 0 else 0
