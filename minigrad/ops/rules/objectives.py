"""Rules of losses and their gradients."""
from __future__ import annotations

import math
from collections.abc import Sequence

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Attributes, Op, Plan
from minigrad.ops.rules.plans import INT64, layout, listed, matrix, same_float, same_shape, scalar, step
from minigrad.ops.rules.pointwise import elementwise
from minigrad.ops.spec import Shape, Spec


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


def paired(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Elementwise, of inputs that have one shape: a loss whose target has another is a mistake more often than not."""
    same_shape(op, specs)
    return elementwise(op, specs, attributes)


def _labels(op: Op, specs: Sequence[Spec], at: int) -> None:
    if specs[at].dtype != INT64:
        raise DtypeError(f"{op.name}: labels are {specs[at].dtype.name}, expected int64 class indices: convert with .astype(mg.int64)")


def _classes(op: Op, specs: Sequence[Spec]) -> dict[str, int]:
    logits, labels = specs[-2], specs[-1]
    rows, classes = matrix(op, len(specs) - 2, specs)
    if labels.shape != (rows,):
        raise ShapeError(f"{op.name}: {rows} rows of logits need labels of shape ({rows},), got {listed(op, specs)}: "
                         "pass one class index a row, int64, or rows of class probabilities in floats")
    _labels(op, specs, len(specs) - 1)
    if logits.dtype.kind != "f":
        raise DtypeError(f"{op.name}: logits are {logits.dtype.name}, expected float32 or float64")
    return {"r": rows, "c": classes}


def class_loss(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Logits (rows, classes) and int64 labels (rows,) -> scalar; attribute `ignore_index`."""
    dims, dtype = _classes(op, specs), specs[0].dtype
    return Plan((Spec.of((), dtype),), (step(op.kernel, layout("x[r,c] labels[r] ignore:i out[1]", status=True), [dtype, INT64, dtype], [0, 1, 2],
                                             dims, {"ignore": attributes["ignore_index"]}, op.flops(specs, attributes)),))


def class_loss_grad(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """g (scalar), logits (rows, classes), int64 labels (rows,) -> the shape of the logits; attribute `ignore_index`."""
    dims, dtype = _classes(op, specs), specs[1].dtype
    scalar(op, specs)
    return Plan((specs[1],), (step(op.kernel, layout("g[1] x[r,c] labels[r] ignore:i out[r,c]"), [dtype, dtype, INT64, dtype], [0, 1, 2, 3],
                                   dims, {"ignore": attributes["ignore_index"]}, op.flops(specs, attributes)),))


def _around_classes(shape: Shape) -> tuple[Shape, Shape]:
    """The axes in front of the classes, which are axis 1 (0 of a vector), and those behind."""
    return (shape[:1], shape[2:]) if len(shape) > 1 else ((), ())


def class_values(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A float array (batch, classes, ...) or (classes,), int64 labels of that shape without the classes -> the shape of the labels."""
    x, labels = specs
    if x.dtype.kind != "f" or not x.shape:
        raise DtypeError(f"{op.name}: x is {x!r}, expected float32 or float64 of shape (batch, classes, ...) or (classes,)")
    before, behind = _around_classes(x.shape)
    if labels.shape != before + behind:
        raise ShapeError(f"{op.name}: x needs labels of shape {before + behind}, got {listed(op, specs)}: "
                         "pass class indices in int64, or class probabilities in floats of x's shape")
    _labels(op, specs, 1)
    how = layout("x[o,c,i] labels[o,i] ignore:i out[o,i]", status=True)
    dims = {"o": math.prod(before), "c": x.shape[min(1, len(x.shape) - 1)], "i": math.prod(behind)}
    return Plan((labels.with_dtype(x.dtype),), (step(op.kernel, how, [x.dtype, INT64, x.dtype], [0, 1, 2], dims,
                                                     {"ignore": attributes["ignore_index"]}, op.flops(specs, attributes)),))


def class_values_grad(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A float array and int64 labels of one shape -> that shape with `classes` as axis 1, or as the only one."""
    g = specs[0]
    same_shape(op, specs)
    _labels(op, specs, 1)
    shape, classes = g.shape, attributes["classes"]
    out = g.with_shape((*shape[:1], classes, *shape[1:]))
    how = layout("g[o,i] labels[o,i] ignore:i out[o,c,i]", status=True)
    dims = {"o": math.prod(shape[:1]), "c": classes, "i": math.prod(shape[1:])}
    return Plan((out,), (step(op.kernel, how, [g.dtype, INT64, g.dtype], [0, 1, 2], dims, {"ignore": attributes["ignore_index"]}),))


def class_weights(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """int64 labels and one float weight, or one for each class (classes,) -> the shape of the labels."""
    labels, weight = specs
    if weight.dtype.kind != "f" or len(weight.shape) > 1:
        raise DtypeError(f"{op.name}: weight is {weight!r}, expected a float32 or float64 number for each class")
    _labels(op, specs, 0)
    how = layout("labels[n] weight[k] ignore:i out[n]", status=True)
    return Plan((labels.with_dtype(weight.dtype),), (step(op.kernel, how, [INT64, weight.dtype, weight.dtype], [0, 1, 2],
                                                          {"n": labels.size, "k": weight.size}, {"ignore": attributes["ignore_index"]}),))
