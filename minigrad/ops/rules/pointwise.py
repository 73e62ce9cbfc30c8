"""Rules of ops that treat each element alone: one shape after broadcasting, one dtype after promotion."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops.op import Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import INT64, layout, listed, same_shape, step
from minigrad.ops.rules.shapes import expansion
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import compare
from minigrad_kernels import elementwise as kernels
from minigrad_kernels.loops import Zip

BOOL = np.dtype(np.bool_)
#: What the letters of `kinds` mean, for error texts.
_KINDS = {"f": "float32 or float64", "i": "int32 or int64", "b": "bool"}


def promoted(op: Op, specs: Sequence[Spec], kinds: str = "f") -> np.dtype[Any]:
    """The dtype that an op computes in, as PyTorch: of floats and integers the float, of integers and bools the widest integer.

    kinds: of the dtypes that its kernel takes: "f", "fi" (numbers), "fib", "ib". Conditions, named in `op.integers`, do not count. Raises
    DtypeError for a mixture of float32 and float64, and for what the kernel does not take.
    """
    counted = [(name, spec) for i, (name, spec) in enumerate(zip(op.inputs, specs, strict=True)) if i not in op.integers]
    floats = [spec.dtype for _, spec in counted if spec.is_float]
    if len(set(floats)) > 1:
        most = max(floats, key=floats.count)  # of as many of both the first
        odd = next(name for name, spec in counted if spec.is_float and spec.dtype != most)
        raise DtypeError(f"{op.name}: float32 and float64 are not mixed in silence (got {listed(op, specs)}): "
                         f"convert one, e.g. {odd}.astype(mg.{most.name})")
    dtype = floats[0] if floats else np.result_type(*[spec.dtype for _, spec in counted])
    if dtype.kind in "iu" and dtype.itemsize < 4:
        dtype = INT64
    if dtype.kind not in kinds or (dtype.kind != "b" and dtype.itemsize not in (4, 8)):
        odd = next(name for name, spec in counted if not floats or spec.dtype == dtype)
        raise DtypeError(f"{op.name}: {odd} is {dtype.name}, expected {', '.join(_KINDS[kind] for kind in kinds)} (got {listed(op, specs)}): "
                         f"convert it, e.g. {odd}.astype(mg.{'float32' if 'f' in kinds else 'int64'})")
    return dtype


def broadcast_shape(op: Op, specs: Sequence[Spec]) -> Shape:
    """The one shape after broadcasting. Raises ShapeError."""
    try:
        return np.broadcast_shapes(*(spec.shape for spec in specs))
    except ValueError:
        raise ShapeError(f"{op.name}: shapes do not broadcast, got {listed(op, specs)}: "
                         "aligned from the right, each pair of sizes must be equal or hold a 1") from None


def elementwise(op: Op, specs: tuple[Spec, ...], attributes: Attributes, kinds: str = "f", out: np.dtype[Any] | None = None) -> Plan:
    """One shape after broadcasting, one dtype after promotion. The op's attributes become the kernel's immediates, before the output.

    kinds: as in `promoted`. out: the result's dtype, if it is not the one that the op computes in. Inputs in `op.integers` are conditions.
    """
    dtype = promoted(op, specs, kinds)
    for i in op.integers:
        if specs[i].dtype != BOOL:
            raise DtypeError(f"{op.name}: {op.inputs[i]} is {specs[i].dtype.name}, expected bool (got {listed(op, specs)}): "
                             f"compare it first, e.g. {op.inputs[i]} != 0")
    return _laid_out(op, specs, [BOOL if i in op.integers else dtype for i in range(len(specs))], dtype if out is None else out, attributes)


def logical(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Operands of any dtypes, one shape after broadcasting -> bool."""
    return _laid_out(op, specs, [spec.dtype for spec in specs], BOOL, attributes)


def _laid_out(op: Op, specs: tuple[Spec, ...], dtypes: Sequence[np.dtype[Any]], result: np.dtype[Any], attributes: Attributes) -> Plan:
    """The plan: each input cast to its dtype and repeated to the common shape, unless the kernel can take it as a single element."""
    out = Spec.of(broadcast_shape(op, specs), result)
    inputs = len(specs)
    single = [isinstance(op.kernel, Zip) and spec.size == 1 and out.size != 1 for spec in specs]
    kernel = op.kernel.form("".join("1" if alone else "v" for alone in single)) if isinstance(op.kernel, Zip) else op.kernel
    steps: list[Step] = []
    temps: list[Spec] = []
    operands = list(range(inputs))
    for i, (spec, dtype) in enumerate(zip(specs, dtypes, strict=True)):
        given = spec
        if spec.dtype != dtype:
            given = spec.with_dtype(dtype)
            steps.append(_cast(kernels.cast, spec, dtype, operands[i], inputs + 1 + len(temps)))
            temps.append(given)
            operands[i] = inputs + len(temps)
        if given.size != out.size and not single[i]:
            more, made = expansion(given, out, operands[i], inputs + 1 + len(temps))
            steps += more
            temps += made
            operands[i] = inputs + len(temps)
    text = " ".join([f"x{i}[{'1' if alone else 'n'}]" for i, alone in enumerate(single)] + [f"{a}:f" for a in op.defaults] + ["out[n]"])
    steps.append(step(kernel, layout(text, "n"), [*dtypes, result], [*operands, inputs], {"n": out.size},
                      {a: float(attributes[a]) for a in op.defaults}, op.flops(specs, attributes), op.stored))
    return Plan((out,), tuple(steps), tuple(temps))


def _cast(kernel: Any, spec: Spec, to: np.dtype[Any], source: int, target: int) -> Step:
    return step(kernel, layout("x[n] out[n]", "n"), [spec.dtype, to], [source, target], {"n": spec.size})


def cast(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Any numeric dtype to attribute `dtype`; to bool, what is not 0 is true."""
    to = np.dtype(attributes["dtype"])
    source = specs[0].dtype
    known = source.kind in "iub" or (source.kind == "f" and source.itemsize in (4, 8))
    if not known or not (to in (BOOL, np.uint8) or (to.kind in "fi" and to.itemsize >= 4)):
        raise DtypeError(f"{op.name}: cannot convert {source.name} to {to.name}: minigrad computes in float32 and float64, counts in "
                         "int32 and int64 and decides in bool; convert the array with NumPy first, e.g. a.astype(np.float32)")
    return Plan((specs[0].with_dtype(to),), (_cast(compare.truth if to == BOOL else op.kernel, specs[0], to, 0, 1),))


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
