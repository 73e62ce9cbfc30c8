"""Rules of ops that treat each element alone: one shape after broadcasting."""
from __future__ import annotations

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import layout, listed, same_float, same_shape, step
from minigrad.ops.rules.shapes import expansion
from minigrad.ops.spec import Spec
from minigrad_kernels.loops import Zip


def elementwise(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """One shape after broadcasting, one floating dtype. The op's attributes become the kernel's immediates, before the output."""
    dtype = same_float(op, specs)
    try:
        shape = np.broadcast_shapes(*(spec.shape for spec in specs))
    except ValueError:
        raise ShapeError(f"{op.name}: shapes do not broadcast, got {listed(op, specs)}: "
                         "aligned from the right, each pair of sizes must be equal or hold a 1") from None
    out = Spec.of(shape, dtype)
    inputs = len(specs)
    kernel, names = op.kernel, ["n"] * inputs
    steps: list[Step] = []
    temps: list[Spec] = []
    operands = list(range(inputs))
    if isinstance(kernel, Zip):
        single = [spec.size == 1 and out.size != 1 for spec in specs]
        kernel = kernel.left if single[0] else kernel.right if single[1] else kernel.both
        names = ["1" if alone else "n" for alone in single]
    for i, spec in enumerate(specs):
        if spec.size != out.size and names[i] == "n":
            operands[i] = inputs + 1 + len(temps)
            more, made = expansion(spec, out, i, operands[i])
            steps += more
            temps += made
            operands[i] = inputs + len(temps)
    text = " ".join([f"x{i}[{name}]" for i, name in enumerate(names)] + [f"{a}:f" for a in op.defaults] + ["out[n]"])
    steps.append(step(kernel, layout(text, "n"), [dtype] * (inputs + 1), [*operands, inputs], {"n": out.size},
                      {a: float(attributes[a]) for a in op.defaults}, op.flops(specs, attributes), op.stored))
    return Plan((out,), tuple(steps), tuple(temps))


def cast(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Any numeric dtype to attribute `dtype`."""
    to = np.dtype(attributes["dtype"])
    source = specs[0].dtype
    if to.kind not in "fi" or to.itemsize < 4 or source.kind not in "fiub" or (source.kind == "f" and source.itemsize not in (4, 8)):
        raise DtypeError(f"{op.name}: cannot convert {source.name} to {to.name}: minigrad computes in float32 and float64 and counts in "
                         "int32 and int64; convert the array with NumPy first, e.g. a.astype(np.float32)")
    out = specs[0].with_dtype(to)
    return Plan((out,), (step(op.kernel, layout("x[n] out[n]", "n"), [specs[0].dtype, to], [0, 1], {"n": out.size}),))


def same(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """One input of any dtype -> the same shape and dtype."""
    return Plan((specs[0],), (step(op.kernel, layout("x[n] out[n]", "n"), [specs[0].dtype] * 2, [0, 1], {"n": specs[0].size},
                                   flops=op.flops(specs, attributes)),))


def inplace(op: Op, specs: tuple[Spec, ...], attributes: Attributes, operands: tuple[int, ...] = (1, 0)) -> Plan:
    """Inputs of one shape and dtype, the first of which is written; the op has no output of its own. `operands` are the kernel's."""
    same_shape(op, specs)
    dtype = specs[0].dtype
    if any(spec.dtype != dtype for spec in specs):
        raise DtypeError(f"{op.name}: the inputs need one dtype, got {listed(op, specs)}: convert with .astype(mg.{dtype.name})")
    text = " ".join(f"x{i}[n]" for i in range(len(operands)))
    return Plan((), (step(op.kernel, layout(text, "n"), [dtype] * len(operands), operands, {"n": specs[0].size},
                          flops=op.flops(specs, attributes)),))
