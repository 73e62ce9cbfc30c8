"""Rules of ops that reduce along axes or along rows."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import INT64, axes_of, layout, matrix, same_float, step
from minigrad.ops.rules.shapes import runs
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels.along import Kinds

Dtype = np.dtype[Any]
BOOL = np.dtype(np.bool_)


class Fold(NamedTuple):
    """One run of neighbouring axes, seen as the middle of (outer, n, inner)."""

    outer: int
    n: int
    inner: int

    def step(self, kernel: Any, text: str, dtypes: list[Dtype], operands: list[int], immediates: dict[str, float] | None = None) -> Step:
        """A call of `kernel` under the layout `text`, shared along `o`, or along `i` where o is 1; truth values are passed as uint8."""
        share = "o"
        if self.outer == 1 and self.inner != 1:
            text, share = text.replace("[", "(").replace("]", ")"), "i"
        return step(kernel, layout(text, share), [np.dtype(np.uint8) if d.kind == "b" else d for d in dtypes], operands,
                    {"o": self.outer, "n": self.n, "i": self.inner}, immediates, flops=self.outer * self.n * self.inner)


def folds(spec: Spec, axes: tuple[int, ...]) -> list[Fold]:
    """What to reduce, one run of axes after the other from the right; each sees what the one before has left."""
    groups = runs(spec.shape, [i in axes for i in range(len(spec.shape))])
    reduced = [at for at, (_, mark) in enumerate(groups) if mark]
    if not reduced:
        return [Fold(1, 1, spec.size)]
    return [Fold(math.prod(n for n, _ in groups[:at]), groups[at][0], math.prod(n for n, mark in groups[at + 1:] if not mark))
            for at in reversed(reduced)]


def reduced(spec: Spec, axes: tuple[int, ...], keepdims: bool) -> Shape:
    """The shape that is left."""
    return tuple(1 if i in axes else n for i, n in enumerate(spec.shape) if keepdims or i not in axes)


def _dtype(op: Op, specs: tuple[Spec, ...], gives: Callable[[Dtype], Dtype] | None) -> Dtype:
    """The output's dtype. `gives` tells it from an input that is no float; None: that is refused, as is a float16."""
    if gives is None or specs[0].is_float:
        same_float(op, specs)
    return specs[0].dtype if gives is None else gives(specs[0].dtype)


def _not_empty(op: Op, spec: Spec, axes: tuple[int, ...], out: Shape) -> None:
    if spec.size == 0 and math.prod(out) > 0:
        raise ShapeError(f"{op.name}: {spec!r} has no elements along axis {axes if len(axes) != 1 else axes[0]}, and of nothing none is an "
                         "extreme: leave empty batches out, or test x.numel() first")


def counted(dtype: Dtype) -> Dtype:
    """Floats stay what they are; whole numbers and truth values are added and multiplied in int64."""
    return dtype if dtype.kind == "f" else INT64


def itself(dtype: Dtype) -> Dtype:
    """Any dtype stays what it is."""
    return dtype


def truth(dtype: Dtype) -> Dtype:
    """Any dtype becomes bool."""
    return BOOL


def reduction(op: Op, specs: tuple[Spec, ...], attributes: Attributes, gives: Callable[[Dtype], Dtype] | None = None,
              empty: bool = True) -> Plan:
    """Attributes `axis` and `keepdims`; `op.kernel` reduces the middle of (outer, n, inner), run by run from the right.

    gives: the output's dtype by the input's, if that need not be a float; empty: whether nothing can be reduced to a number.
    """
    dtype = _dtype(op, specs, gives)
    spec = specs[0]
    axes = axes_of(op, spec, attributes["axis"])
    out = reduced(spec, axes, attributes["keepdims"])
    if not empty:
        _not_empty(op, spec, axes, out)
    kernel = op.kernel
    if isinstance(kernel, Kinds):
        kernel = kernel.floats if spec.is_float else kernel.integers
    return folded(spec, axes, out, dtype, lambda at: kernel)


def over_rows(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A matrix, reduced along its first axis."""
    matrix(op, 0, specs)
    return reduction(op, specs, {"axis": 0, "keepdims": False})


def folded(spec: Spec, axes: tuple[int, ...], out: Shape, dtype: Dtype, kernel: Callable[[int], Any], text: str = "x[o,n,i] out[o,i]",
           immediates: dict[str, float] | None = None) -> Plan:
    """The plan of a reduction whose result can be reduced further; `kernel` is of the number of runs reduced so far."""
    parts = folds(spec, axes)
    steps: list[Step] = []
    temps: list[Spec] = []
    source, given = 0, spec.dtype
    for at, part in enumerate(parts):
        target = 1 if at == len(parts) - 1 else 2 + len(temps)
        steps.append(part.step(kernel(at), text, [given, dtype], [source, target], immediates))
        if target != 1:
            temps.append(Spec.of((part.outer, part.inner), dtype))
        source, given = target, dtype
    return Plan((Spec.of(out, dtype),), tuple(steps), tuple(temps))


def place(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Attributes `axis` (an int, or None for the flattened array) and `keepdims`; `op.kernel` tells where along it, in int64."""
    _dtype(op, specs, itself)
    spec, axis = specs[0], attributes["axis"]
    axes = axes_of(op, spec, axis)
    if axis is not None and len(axes) != 1:
        raise ShapeError(f"{op.name}: a place is told along one axis or in the flattened array, got axis={axis}: give an int or None")
    out = reduced(spec, axes, attributes["keepdims"])
    _not_empty(op, spec, axes, out)
    kernel = op.kernel.floats if spec.is_float else op.kernel.integers
    return Plan((Spec.of(out, INT64),), (folds(spec, axes)[0].step(kernel, "x[o,n,i] out[o,i]", [spec.dtype, INT64], [0, 1]),))
