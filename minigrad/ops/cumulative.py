"""Running sums."""
from __future__ import annotations

import math

import numpy as np

from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import several, shaped
from minigrad.ops.shape import reshape
from minigrad.ops.spec import Spec
from minigrad_kernels.along import Kinds
from minigrad_kernels.cumulative import running_count, running_sum


def _running(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Attributes `axis` (an int; None: the flattened array) and `reverse`; whole numbers and truth values are added in int64."""
    spec, axis = specs[0], attributes["axis"]
    if spec.is_float:
        rules.same_float(op, specs)
    axes = rules.axes_of(op, spec, axis)
    dtype = rules.counted(spec.dtype)
    shape = (spec.size,) if axis is None else spec.shape
    at = 0 if axis is None else axes[0]
    whole = (spec.size,) if axis is None else spec.shape
    part = rules.Fold(math.prod(whole[:at]), whole[at], math.prod(whole[at + 1:]))
    kernel = op.kernel.floats if spec.is_float else op.kernel.integers
    text = "x[o,n,i] reverse:i out[o,n,i]"
    return Plan((Spec.of(shape, dtype),), (part.step(kernel, text, [spec.dtype, dtype], [0, 1], {"reverse": int(attributes["reverse"])}),))


@op(kernel=Kinds(running_sum, running_count), shape=_running, flops=per_element(1),
    samples=several(shaped((3, 4, 5)), shaped((3, 4, 5), axis=0), shaped((3, 4, 5), axis=1, reverse=True), shaped((3, 4, 5), axis=-1),
                    shaped((), axis=None), shaped((131,), axis=0, reverse=True), shaped((2, 0), axis=0), shaped((7, 67), axis=0), shaped((1, 5))))
def cumsum(x: Value, *, axis: int | None = None, reverse: bool = False) -> Value:
    """out[j] = x[0] + ... + x[j] along `axis` (the flattened array if None), or x[-1] + ... + x[j] if `reverse`.

    Whole numbers and truth values are added in int64.
    """
    line, along = (np.reshape(x, -1), 0) if axis is None else (x, axis)
    return np.flip(np.cumsum(np.flip(line, along), along), along) if reverse else np.cumsum(line, along)


@cumsum.vjp("x")
def _(g: Value, x_spec: Spec, axis: int | None, reverse: bool) -> Value:
    back = cumsum(g, axis=0 if axis is None else axis, reverse=not reverse)
    return reshape(back, shape=x_spec.shape) if axis is None else back
