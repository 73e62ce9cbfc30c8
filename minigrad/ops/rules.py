"""Shape and dtype rules: each checks an op's inputs and lays out its kernel calls (a `Plan`), or says what came and how to mend it."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.errors import AxisError, DtypeError, ShapeError
from minigrad.ops.op import SCRATCH, Attributes, Op, Plan, Step
from minigrad.ops.op import Rule as Rule
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import reduce
from minigrad_kernels.abi import Layout, entry
from minigrad_kernels.loops import Zip

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


# ---- elementwise -------------------------------------------------------------------------------------------------------------------
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


def inplace(op: Op, specs: tuple[Spec, ...], attributes: Attributes, operands: tuple[int, ...] = (1, 0)) -> Plan:
    """Inputs of one shape and dtype, the first of which is written; the op has no output of its own. `operands` are the kernel's."""
    same_shape(op, specs)
    dtype = specs[0].dtype
    if any(spec.dtype != dtype for spec in specs):
        raise DtypeError(f"{op.name}: the inputs need one dtype, got {listed(op, specs)}: convert with .astype(mg.{dtype.name})")
    text = " ".join(f"x{i}[n]" for i in range(len(operands)))
    return Plan((), (step(op.kernel, layout(text, "n"), [dtype] * len(operands), operands, {"n": specs[0].size},
                          flops=op.flops(specs, attributes)),))


# ---- shape -----------------------------------------------------------------------------------------------------------------------
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


# ---- products ----------------------------------------------------------------------------------------------------------------------
_PRODUCTS = {  # where m, k and n stand in the shapes of a and b, and the layout; each worker computes its own columns
    "matmul_nn": (("m", "k"), ("k", "n"), "a(m,k) b(k,n) out(m,n) scratch"),
    "matmul_nt": (("m", "k"), ("n", "k"), "a(m,k) b(k,n)^ out(m,n) scratch"),
    "matmul_tn": (("k", "m"), ("k", "n"), "a(m,k)^ b(k,n) out(m,n) scratch"),
}


def gemm_flops(specs: tuple[Spec, ...], attributes: Attributes, transposed: bool = False) -> int:
    """Two for each multiplication, 2 m k n, for a of shape (m, k), or (k, m) if it is the transposed operand."""
    rows, columns = specs[0].shape
    inner, outer = (rows, columns) if transposed else (columns, rows)
    return 2 * outer * specs[1].size if inner else 0


def gemm_tn_flops(specs: tuple[Spec, ...], attributes: Attributes) -> int:
    """As `gemm_flops`, for a product whose left operand is transposed."""
    return gemm_flops(specs, attributes, transposed=True)


def product(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A matrix product; the op's name says which operand is transposed."""
    dtype = same_float(op, specs)
    of_a, of_b, text = _PRODUCTS[op.name]
    a, b = dict(zip(of_a, matrix(op, 0, specs), strict=True)), dict(zip(of_b, matrix(op, 1, specs), strict=True))
    if a["k"] != b["k"]:
        raise ShapeError(f"{op.name}: inner sizes differ, {a['k']} against {b['k']} (got {listed(op, specs)}; "
                         f"a is ({', '.join(of_a)}), b is ({', '.join(of_b)}))")
    dims = {"m": a["m"], "k": a["k"], "n": b["n"]}
    return Plan((Spec.of((a["m"], b["n"]), dtype),),
                (step(op.kernel, layout(text, "n"), [dtype] * 3, [0, 1, 2, SCRATCH], dims, flops=op.flops(specs, attributes)),))


def linear(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """x (batch, in), weight (out, in), bias (out,) -> (batch, out)."""
    dtype = same_float(op, specs)
    (m, k), (n, features) = matrix(op, 0, specs), matrix(op, 1, specs)
    if k != features:
        raise ShapeError(f"{op.name}: expected {features} features, got {k} (got {listed(op, specs)}): "
                         f"the layer before gives {k}, so make this one Linear({k}, {n})")
    if specs[2].shape != (n,):
        raise ShapeError(f"{op.name}: bias has shape {specs[2].shape}, expected ({n},) (got {listed(op, specs)})")
    how = layout("x(m,k) w(k,n)^ bias[n] out(m,n) scratch", "n")
    return Plan((Spec.of((m, n), dtype),),
                (step(op.kernel, how, [dtype] * 4, [0, 1, 2, 3, SCRATCH], {"m": m, "k": k, "n": n}, flops=2 * m * k * n + m * n),))


# ---- losses ------------------------------------------------------------------------------------------------------------------------
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


def scalar(op: Op, specs: Sequence[Spec]) -> None:
    """The first input has one element. Raises ShapeError."""
    if specs[0].size != 1:
        raise ShapeError(f"{op.name}: {op.inputs[0]} must be a scalar, got {listed(op, specs)}")


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
