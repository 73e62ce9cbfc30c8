"""Rules of matrix products."""
from __future__ import annotations

from minigrad.errors import ShapeError
from minigrad.ops.op import SCRATCH, Attributes, Op, Plan
from minigrad.ops.rules.plans import layout, listed, matrix, same_float, step
from minigrad.ops.spec import Spec

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
