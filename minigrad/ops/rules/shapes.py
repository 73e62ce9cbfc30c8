"""Rules of ops that move elements: repetition, reshaping, transposition, slices."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from minigrad.errors import AxisError, ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import layout, listed, matrix, step
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import elementwise, reduce, strided

#: How many dimensions beside its rows and columns a compiled move can have: the smallest that is enough is taken.
OUTER: Final = (2, 6, 14, 62)


def runs(shape: Shape, marked: Sequence[bool]) -> list[tuple[int, bool]]:
    """Neighbouring dimensions with the same mark, merged: (size, mark); dimensions of size 1 vanish."""
    merged: list[tuple[int, bool]] = []
    for size, mark in zip(shape, marked, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == mark:
            merged[-1] = (merged[-1][0] * size, mark)
        else:
            merged.append((size, mark))
    return merged


# ---- strided moves ----------------------------------------------------------------------------------------------------------------
def c_strides(shape: Shape) -> tuple[int, ...]:
    """The strides, in elements, of a C-contiguous array."""
    return tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))


def _merged(shape: Shape, x: Sequence[int], out: Sequence[int]) -> list[tuple[int, int, int]]:
    """(size, x's stride, out's stride) of as few dimensions as will do."""
    found: list[tuple[int, int, int]] = []
    for size, a, b in zip(shape, x, out, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == a * size and found[-1][2] == b * size:
            found[-1] = (found[-1][0] * size, a, b)
        else:
            found.append((size, a, b))
    return found


def move(dtype: np.dtype[np.generic], operands: tuple[int, int], shape: Shape, x: tuple[int, Sequence[int]],
out: tuple[int, Sequence[int]]) -> Step:
    """Copy `shape` elements from one operand to the other; x and out: where they start, and their strides, in elements."""
    dims = _merged(shape, x[1], out[1]) if math.prod(shape) else [(0, 1, 1)]
    columns = min(dims, key=lambda d: abs(d[2]), default=(1, 1, 1))
    others = [d for d in dims if d is not columns]
    straight = columns[1] == columns[2] == 1
    rows = min(others, key=lambda d: -d[0] if straight else abs(d[1]), default=(1, 0, 0))
    outer = [d for d in others if d is not rows]
    room = next(n for n in OUTER if n >= len(outer))
    numbers = [n for d in outer for n in d] + [1, 0, 0] * (room - len(outer))
    names = [f"g{i}" for i in range(len(numbers))]
    how = layout(" ".join(["x(o,s) out(o,t) xs:i os:i c:i xc:i oc:i", *[f"{name}:i" for name in names]]), "o")
    given: dict[str, float] = {"xs": x[0], "os": out[0], "c": columns[0], "xc": columns[1], "oc": columns[2]}
    given |= dict(zip(names, numbers, strict=True))
    plain = np.dtype(f"u{dtype.itemsize}")
    return step(strided.move, how, [plain] * 2, operands, {"o": rows[0], "s": rows[1], "t": rows[2]}, given)


def fill(dtype: np.dtype[np.generic], operand: int, size: int, value: float) -> Step:
    """Every element of the operand `value`."""
    return step(elementwise.fill, layout("value:f out[n]", "n"), [dtype], [operand], {"n": size}, {"value": value})


def inside(op: Op, spec: Spec, shape: Shape, start: int, strides: Sequence[int]) -> None:
    """What the strides reach is inside the array. Raises ShapeError."""
    if len(shape) != len(strides):
        raise ShapeError(f"{op.name}: shape {shape} and strides {tuple(strides)} need one length")
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low, high = start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach)
    if math.prod(shape) and not 0 <= low <= high < spec.size:
        raise ShapeError(f"{op.name}: elements {low} to {high} are not inside {spec!r}, which has {spec.size}")


# ---- repetition --------------------------------------------------------------------------------------------------------------------
def expansion(spec: Spec, out: Spec, source: int, first_temp: int) -> tuple[list[Step], list[Spec]]:
    """Steps that repeat operand `source` to `out`'s shape, one repeated run at a time; each writes a temporary, the last one is the result."""
    aligned = (1,) * (len(out.shape) - len(spec.shape)) + spec.shape
    repeats = [small != big for small, big in zip(aligned, out.shape, strict=True)]
    if not spec.is_float:
        strides = [0 if again else s for again, s in zip(repeats, c_strides(aligned), strict=True)]
        return [move(spec.dtype, (source, first_temp), out.shape, (0, strides), (0, c_strides(out.shape)))], [spec.with_shape(out.shape)]
    groups = runs(out.shape, repeats)
    steps: list[Step] = []
    temps: list[Spec] = []
    for at, (size, repeated) in enumerate(groups):
        if repeated:
            outer = math.prod(n for n, _ in groups[:at])
            inner = math.prod(n for n, mark in groups[at + 1:] if not mark)
            dims = {"o": outer, "n": size, "i": inner}
            steps.append(step(reduce.repeat, layout("x[o,i] out[o,n,i]", "o"), [spec.dtype] * 2, [source, first_temp + len(temps)], dims))
            temps.append(Spec.of((outer, size, inner), spec.dtype))
            source = first_temp + len(temps) - 1
    return steps, temps


def expand(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Input repeated to attribute `shape`, as NumPy's broadcast_to."""
    spec, shape = specs[0], tuple(attributes["shape"])
    try:
        fits = np.broadcast_shapes(spec.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{op.name}: {listed(op, specs)} does not broadcast to {shape}: each size must be equal or 1")
    out = spec.with_shape(shape)
    if out.size == spec.size:
        return Plan((out,), (), alias=0)
    steps, temps = expansion(spec, out, 0, 2)
    last = steps[-1]
    steps[-1] = last._replace(operands=(last.operands[0], 1))
    return Plan((out,), tuple(steps), tuple(temps[:-1]))


# ---- order --------------------------------------------------------------------------------------------------------------------------
def reshape(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A view with attribute `shape`, in which one size may be -1."""
    spec, shape = specs[0], list(attributes["shape"])
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known > 0 and spec.size % known == 0:
        shape[shape.index(-1)] = spec.size // known
    if any(n < 0 for n in shape) or math.prod(shape) != spec.size:
        raise ShapeError(f"{op.name}: {spec!r} has {spec.size} elements, which do not fill {tuple(attributes['shape'])}")
    return Plan((spec.with_shape(tuple(shape)),), (), alias=0)


def transpose(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The transpose of a matrix, as a copy."""
    m, n = matrix(op, 0, specs)
    return Plan((specs[0].with_shape((n, m)),), (step(op.kernel, layout("x[m,n] out[n,m]"), [specs[0].dtype] * 2, [0, 1], {"m": m, "n": n}),))


def permute(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The axes in the order of attribute `axes`, as a copy."""
    spec, axes = specs[0], tuple(attributes["axes"])
    rank = len(spec.shape)
    if sorted(a % rank if -rank <= a < rank else rank for a in axes) != [*range(rank)]:
        raise AxisError(f"{op.name}: {axes} is not an order of the {rank} axes of {spec!r}: name each axis once")
    order = [a % rank for a in axes]
    out, strides = spec.with_shape(tuple(spec.shape[a] for a in order)), c_strides(spec.shape)
    return Plan((out,), (move(spec.dtype, (0, 1), out.shape, (0, [strides[a] for a in order]), (0, c_strides(out.shape))),))


def take_strided(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The elements at attributes `start` and `strides`, of attribute `shape`."""
    (spec,), shape, start, strides = specs, tuple(attributes["shape"]), attributes["start"], tuple(attributes["strides"])
    inside(op, spec, shape, start, strides)
    return Plan((spec.with_shape(shape),), (move(spec.dtype, (0, 1), shape, (start, strides), (0, c_strides(shape))),))


def place_strided(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Attribute `shape` full of attribute `fill`, with the input at `start` and `strides`."""
    (spec,), start, strides = specs, attributes["start"], tuple(attributes["strides"])
    out = spec.with_shape(tuple(attributes["shape"]))
    inside(op, out, spec.shape, start, strides)
    first = fill(spec.dtype, 1, out.size, float(attributes["fill"]))
    return Plan((out,), (first, move(spec.dtype, (0, 1), spec.shape, (0, c_strides(spec.shape)), (start, strides))))


def put_strided(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The first input with the second at `start` and `strides`."""
    (spec, value), start, strides = specs, attributes["start"], tuple(attributes["strides"])
    inside(op, spec, value.shape, start, strides)
    flat = ((spec.size,), (0, (1,)), (0, (1,)))
    return Plan((spec,), (move(spec.dtype, (0, 2), *flat), move(spec.dtype, (1, 2), value.shape, (0, c_strides(value.shape)), (start, strides))))


def clear_strided(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The input with zeros at `start` and `strides`, in attribute `shape`."""
    (spec,), shape, start, strides = specs, tuple(attributes["shape"]), attributes["start"], tuple(attributes["strides"])
    inside(op, spec, shape, start, strides)
    zero = spec.with_shape(())
    return Plan((spec,), (move(spec.dtype, (0, 1), (spec.size,), (0, (1,)), (0, (1,))), fill(spec.dtype, 2, 1, 0.0),
                          move(spec.dtype, (2, 1), shape, (0, (0,) * len(shape)), (start, strides))), (zero,))
