"""Rules of ops that move elements: repetition, reshaping, transposition."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import layout, listed, matrix, step
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import reduce


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


def expansion(spec: Spec, out: Spec, source: int, first_temp: int) -> tuple[list[Step], list[Spec]]:
    """Steps that repeat operand `source` to `out`'s shape, one repeated run at a time; each writes a temporary, the last one is the result."""
    aligned = (1,) * (len(out.shape) - len(spec.shape)) + spec.shape
    groups = runs(out.shape, [small != big for small, big in zip(aligned, out.shape, strict=True)])
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
