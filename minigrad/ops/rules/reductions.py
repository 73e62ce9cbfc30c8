"""Rules of ops that reduce along axes or along rows."""
from __future__ import annotations

import math

from minigrad.errors import ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import axes_of, layout, same_float, same_shape, step
from minigrad.ops.rules.shapes import runs
from minigrad.ops.spec import Spec


def reduction(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Attributes `axis` and `keepdims`; `op.kernel` reduces the middle of (outer, n, inner), run by run from the right."""
    dtype = same_float(op, specs)
    spec = specs[0]
    axes = axes_of(op, spec, attributes["axis"])
    keep = attributes["keepdims"]
    out = Spec.of(tuple(1 if i in axes else n for i, n in enumerate(spec.shape) if keep or i not in axes), dtype)
    groups = runs(spec.shape, [i in axes for i in range(len(spec.shape))])
    reduced = [at for at, (_, mark) in enumerate(groups) if mark]
    if not reduced:
        groups, reduced = [(1, True), (spec.size, False)], [0]
    steps: list[Step] = []
    temps: list[Spec] = []
    source = 0
    for at in reversed(reduced):
        outer = math.prod(n for n, _ in groups[:at])
        inner = math.prod(n for n, mark in groups[at + 1:] if not mark)
        last = at == reduced[0]
        target = 1 if last else 2 + len(temps)
        how = layout("x[o,n,i] out[o,i]", "o") if outer > 1 or inner == 1 else layout("x(o,n,i) out(o,i)", "i")
        steps.append(step(op.kernel, how, [dtype] * 2, [source, target], {"o": outer, "n": groups[at][0], "i": inner},
                          flops=outer * groups[at][0] * inner))
        if not last:
            temps.append(Spec.of((outer, inner), dtype))
        source = target
    return Plan((out,), tuple(steps), tuple(temps))


def rowwise(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A float array, reduced and normalised along its last axis."""
    dtype = same_float(op, specs)
    if not specs[0].shape:
        raise ShapeError(f"{op.name}: a scalar has no last axis")
    shape = same_shape(op, specs)
    dims = {"r": math.prod(shape[:-1]), "c": shape[-1]}
    names = [*(f"x{i}[r,c]" for i in range(len(specs))), "out[r,c]"]
    return Plan((specs[0],), (step(op.kernel, layout(" ".join(names), "r"), [dtype] * len(names), range(len(names)), dims,
                                   flops=op.flops(specs, attributes)),))
