"""Rules of losses and their gradients."""
from __future__ import annotations

from collections.abc import Sequence

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Attributes, Op, Plan
from minigrad.ops.rules.plans import INT64, layout, listed, matrix, same_float, same_shape, scalar, step
from minigrad.ops.spec import Spec


def loss(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Two inputs of one shape -> scalar."""
    dtype = same_float(op, specs)
    same_shape(op, specs)
    return Plan((Spec.of((), dtype),), (step(op.kernel, layout("x[n] target[n] out[1]"), [dtype] * 3, [0, 1, 2], {"n": specs[0].size},
                                             flops=op.flops(specs, attributes)),))


def loss_grad(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """g (scalar), and two inputs of one shape -> that shape."""
    dtype = same_float(op, specs)
    scalar(op, specs)
    if specs[1].shape != specs[2].shape:
        raise ShapeError(f"{op.name}: {op.inputs[1]} and {op.inputs[2]} need one shape, got {listed(op, specs)}")
    return Plan((specs[1],), (step(op.kernel, layout("g[1] x[n] target[n] count:i out[n]", "n"), [dtype] * 4, [0, 1, 2, 3],
                                   {"n": specs[1].size}, {"count": specs[1].size}, op.flops(specs, attributes)),))


def _classes(op: Op, specs: Sequence[Spec]) -> dict[str, int]:
    logits, labels = specs[-2], specs[-1]
    rows, classes = matrix(op, len(specs) - 2, specs)
    if labels.shape != (rows,):
        raise ShapeError(f"{op.name}: {rows} rows of logits need labels of shape ({rows},), got {listed(op, specs)}: "
                         "pass class indices, not one-hot rows")
    if labels.dtype != INT64:
        raise DtypeError(f"{op.name}: labels are {labels.dtype.name}, expected int64 class indices: convert with .astype(mg.int64)")
    if logits.dtype.kind != "f":
        raise DtypeError(f"{op.name}: logits are {logits.dtype.name}, expected float32 or float64")
    return {"r": rows, "c": classes}


def class_loss(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Logits (rows, classes) and int64 labels (rows,) -> scalar."""
    dims, dtype = _classes(op, specs), specs[0].dtype
    return Plan((Spec.of((), dtype),), (step(op.kernel, layout("x[r,c] labels[r] out[1]", status=True), [dtype, INT64, dtype], [0, 1, 2],
                                             dims, flops=op.flops(specs, attributes)),))


def class_loss_grad(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """g (scalar), logits (rows, classes), int64 labels (rows,) -> the shape of the logits."""
    dims, dtype = _classes(op, specs), specs[1].dtype
    scalar(op, specs)
    return Plan((specs[1],), (step(op.kernel, layout("g[1] x[r,c] labels[r] out[r,c]"), [dtype, dtype, INT64, dtype], [0, 1, 2, 3],
                                   dims, flops=op.flops(specs, attributes)),))
