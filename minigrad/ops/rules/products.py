"""Rules of matrix products."""
from __future__ import annotations

import math
from typing import Final

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops.op import SCRATCH, Attributes, Op, Plan, Step
from minigrad.ops.rules.plans import layout, listed, matrix, same_float, step
from minigrad.ops.rules.shapes import expansion
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import matmul as kernels
from minigrad_kernels.abi import GRAIN

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


def _same_inner(op: Op, specs: tuple[Spec, ...], of_a: int, of_b: int) -> None:
    """The sizes that are multiplied and added up are one. Raises ShapeError."""
    if of_a != of_b:
        a, b = (f"({', '.join(names)})" for names in _PRODUCTS[f"matmul{op.name[-3:]}"][:2])
        swapped = specs[1].shape[::-1]
        fits = len(swapped) == 2 and swapped[("k" in b.split(",")[1])] == of_a
        raise ShapeError(f"{op.name}: inner sizes differ, {of_a} against {of_b} (got {listed(op, specs)}; a is {a}, b is {b}): "
                         f"{'transpose b, e.g. b.mT' if fits else 'transpose or reshape one of them'}")


def product(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A matrix product; the op's name says which operand is transposed."""
    dtype = same_float(op, specs)
    of_a, of_b, text = _PRODUCTS[op.name]
    a, b = dict(zip(of_a, matrix(op, 0, specs), strict=True)), dict(zip(of_b, matrix(op, 1, specs), strict=True))
    _same_inner(op, specs, a["k"], b["k"])
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


# ---- stacks of matrices --------------------------------------------------------------------------------------------------------------
#: From so many slices on, workers share them; fewer are shared by columns.
MANY: Final = 2 * GRAIN
_SLICES: Final = "a(p,s) b(p,t) out(p,u) q:i aq:i bq:i m:i k:i n:i ar:i ac:i br:i bc:i scratch"


def batched_flops(specs: tuple[Spec, ...], attributes: Attributes, transposed: bool = False) -> int:
    """`gemm_flops` of each pair in two stacks that broadcast."""
    a, b = (spec.shape for spec in specs)
    inner = a[-2] if transposed else a[-1]
    matrices = math.prod(np.broadcast_shapes(a[:-2], b[:-2]))
    return 2 * matrices * math.prod(a[-2:]) * (math.prod(b[-2:]) // inner) if inner else 0


def batched_tn_flops(specs: tuple[Spec, ...], attributes: Attributes) -> int:
    """As `batched_flops`, for products whose left operand is transposed."""
    return batched_flops(specs, attributes, transposed=True)


def _axes(a: Shape, b: Shape, batch: Shape) -> list[tuple[int, bool, bool]]:
    """The batch axes, neighbours merged: (size, whether a has it, whether b has it)."""
    merged: list[tuple[int, bool, bool]] = []
    for size, of_a, of_b in zip(batch, (1,) * (len(batch) - len(a)) + a, (1,) * (len(batch) - len(b)) + b, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1:] == (of_a != 1, of_b != 1):
            merged[-1] = (merged[-1][0] * size, *merged[-1][1:])
        else:
            merged.append((size, of_a != 1, of_b != 1))
    return merged


def batched(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """Products of the matrices in two stacks, whose batch axes broadcast; the op's name says which operand is transposed.

    What repeats is read again where it lies, unless it repeats along several axes with others between them.
    """
    dtype = same_float(op, specs)
    of_a, of_b, text = _PRODUCTS[f"matmul{op.name[-3:]}"]
    for name, spec in zip(op.inputs, specs, strict=True):
        if len(spec.shape) < 2:
            raise ShapeError(f"{op.name}: {name} has {len(spec.shape)} dimensions, expected at least 2 (got {listed(op, specs)}): "
                             f"reshape it, e.g. {name}.reshape(-1, 1)")
    a, b = specs[0].shape, specs[1].shape
    sizes = dict(zip(of_b, b[-2:], strict=True)) | dict(zip(of_a, a[-2:], strict=True))
    _same_inner(op, specs, sizes["k"], b[-2:][of_b.index("k")])
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ShapeError(f"{op.name}: batch axes {a[:-2]} and {b[:-2]} do not broadcast (got {listed(op, specs)}): "
                         "aligned from the right, each pair of sizes must be equal or hold a 1") from None
    m, k, n = (sizes[name] for name in "mkn")
    out = Spec.of((*batch, m, n), dtype)
    steps: list[Step] = []
    temps: list[Spec] = []
    operands = [0, 1]
    axes = _axes(a[:-2], b[:-2], batch)
    if len(axes) > 2 and out.size:
        for i, spec in enumerate(specs):
            whole = spec.with_shape((*batch, *spec.shape[-2:]))
            if whole.size != spec.size:
                more, made = expansion(spec, whole, i, 3 + len(temps))
                steps += more
                temps += made
                operands[i] = 2 + len(temps)
        axes = [(math.prod(batch), True, True)]
    if not out.size:
        axes = [(0, False, False)]
    (p, a_p, b_p), (q, a_q, b_q) = [*axes, (1, False, False), (1, False, False)][:2]
    steps.append(_stack(op, dtype, operands, (m, k, n), (p, q), [(q if a_q else 1) * m * k * a_p, (q if b_q else 1) * k * n * b_p],
                        [m * k * a_q, k * n * b_q], text, op.flops(specs, attributes)))
    return Plan((out,), tuple(steps), tuple(temps))


def _stack(op: Op, dtype: np.dtype[np.generic], operands: list[int], sizes: tuple[int, int, int], counts: tuple[int, int], outer: list[int],
           inner: list[int], text: str, flops: int) -> Step:
    """One call for p x q products; `outer` and `inner`: how far apart the matrices of a and b are along p and q."""
    (m, k, n), (p, q) = sizes, counts
    places = [*operands, 2, SCRATCH]
    if p < MANY:
        how = layout(text.replace("scratch", "p:i q:i ap:i aq:i bp:i bq:i op:i oq:i scratch"), "n")
        numbers = {"p": p, "q": q, "ap": outer[0], "aq": inner[0], "bp": outer[1], "bq": inner[1], "op": q * m * n, "oq": m * n}
        return step(kernels.stack_columns, how, [dtype] * 3, places, {"m": m, "k": k, "n": n}, dict(numbers), flops)
    (ar, ac), (br, bc) = (1, m) if op.name.endswith("tn") else (k, 1), (1, k) if op.name.endswith("nt") else (n, 1)
    numbers = {"q": q, "aq": inner[0], "bq": inner[1], "m": m, "k": k, "n": n, "ar": ar, "ac": ac, "br": br, "bc": bc}
    return step(kernels.stack_slices, layout(_SLICES, "p"), [dtype] * 3, places, {"p": p, "s": outer[0], "t": outer[1], "u": q * m * n},
                dict(numbers), flops)
