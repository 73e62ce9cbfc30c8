"""What all shape rules share: the dtypes, layouts by text, one kernel call, and the checks with their error texts."""
from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.errors import AxisError, DtypeError, ShapeError
from minigrad.ops.op import Op, Step
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels.abi import Layout, entry

INT64 = np.dtype(np.int64)
FLOAT64 = np.dtype(np.float64)


@cache
def layout(text: str, share: str | None = None, status: bool = False) -> Layout:
    """The layout written `text`; one object each, so that entries are found by identity."""
    return Layout(text, share, status)


def step(kernel: Any, how: Layout, dtypes: Sequence[np.dtype[Any]], operands: Sequence[int], dims: dict[str, int],
         immediates: dict[str, float] | None = None, flops: int = 0, stored: bool = True) -> Step:
    """A call of `kernel` on the given operands, under `how`."""
    return Step(entry(kernel, how, tuple(dtypes), stored), how.words(dims, immediates), tuple(operands), flops)


# ---- checks ----------------------------------------------------------------------------------------------------------------------
def listed(op: Op, specs: Sequence[Spec]) -> str:
    """`x float32[3, 4], y float32[5]`: what came, for an error's text."""
    return ", ".join(f"{name} {spec!r}" for name, spec in zip(op.inputs, specs, strict=False))


def same_float(op: Op, specs: Sequence[Spec]) -> np.dtype[Any]:
    """The one floating dtype of all inputs. Raises DtypeError."""
    for name, spec in zip(op.inputs, specs, strict=True):
        if spec.dtype.kind != "f" or spec.dtype.itemsize not in (4, 8):
            raise DtypeError(f"{op.name}: {name} is {spec.dtype.name}, expected float32 or float64 (got {listed(op, specs)}): "
                             f"convert it, e.g. {name}.astype(mg.float32)")
    dtypes = {spec.dtype for spec in specs}
    if len(dtypes) > 1:
        every = [spec.dtype for spec in specs]
        most = max(every, key=every.count)  # of as many of both the first
        odd = next(name for name, spec in zip(op.inputs, specs, strict=True) if spec.dtype != most)
        raise DtypeError(f"{op.name}: float32 and float64 are not mixed in silence (got {listed(op, specs)}): "
                         f"convert one, e.g. {odd}.astype(mg.{most.name})")
    return specs[0].dtype


def same_dtype(op: Op, specs: Sequence[Spec]) -> np.dtype[Any]:
    """The one dtype of all inputs, of any kind. Raises DtypeError."""
    if len({spec.dtype for spec in specs}) > 1:
        raise DtypeError(f"{op.name}: the inputs need one dtype, got {listed(op, specs)}: convert with .astype(mg.{specs[0].dtype.name})")
    return specs[0].dtype


def same_shape(op: Op, specs: Sequence[Spec]) -> Shape:
    """The one shape of all inputs. Raises ShapeError."""
    if len({spec.shape for spec in specs}) > 1:
        raise ShapeError(f"{op.name}: the inputs need one shape, got {listed(op, specs)}: reshape or broadcast them first")
    return specs[0].shape


def matrix(op: Op, index: int, specs: Sequence[Spec]) -> Shape:
    """The shape of a two-dimensional input. Raises ShapeError."""
    spec = specs[index]
    if len(spec.shape) != 2:
        raise ShapeError(f"{op.name}: {op.inputs[index]} has {len(spec.shape)} dimensions, expected 2 (got {listed(op, specs)}): "
                         f"reshape it, e.g. {op.inputs[index]}.reshape(-1, {spec.shape[-1] if spec.shape else 1})")
    return spec.shape


def axes_of(op: Op, spec: Spec, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    """`axis` as sorted non-negative axes; None means all. Raises AxisError."""
    rank = len(spec.shape)
    wanted = range(rank) if axis is None else tuple(axis) if isinstance(axis, Sequence) else (operator.index(axis),)
    axes = []
    for a in wanted:
        if not -rank <= a < rank:
            raise AxisError(f"{op.name}: axis {a} of {spec!r} does not exist: it has axes {-rank} to {rank - 1}" if rank
                            else f"{op.name}: a scalar has no axis {a}: leave axis out")
        axes.append(a % rank)
    if len(set(axes)) < len(axes):
        raise AxisError(f"{op.name}: axis {tuple(wanted)} names one axis twice")
    return tuple(sorted(axes))


def scalar(op: Op, specs: Sequence[Spec]) -> None:
    """The first input has one element. Raises ShapeError."""
    if specs[0].size != 1:
        raise ShapeError(f"{op.name}: {op.inputs[0]} must be a scalar, got {listed(op, specs)}")
