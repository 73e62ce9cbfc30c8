"""Matrix products, single and in stacks, plain or with one operand transposed: each one's gradients are the others. The dense layer."""
from __future__ import annotations

import numpy as np

from minigrad.ops import rules
from minigrad.ops.op import Value, op
from minigrad.ops.reduce import sum_rows
from minigrad.ops.samples import Samples, several, shaped
from minigrad_kernels import matmul as kernels


@op(kernel=kernels.matmul, shape=rules.product, samples=several(shaped((4, 3), (3, 5)), shaped((17, 33), (33, 20))), flops=rules.gemm_flops)
def matmul_nn(a: Value, b: Value) -> Value:
    """a @ b: (m, k), (k, n) -> (m, n); each element one chain of fused multiply-adds over ascending k."""
    return a @ b


@matmul_nn.vjp("a")
def _(g: Value, b: Value) -> Value:
    return matmul_nt(g, b)


@matmul_nn.vjp("b")
def _(g: Value, a: Value) -> Value:
    return matmul_tn(a, g)


@op(kernel=kernels.matmul, shape=rules.product, samples=several(shaped((4, 3), (5, 3)), shaped((17, 33), (20, 33))), flops=rules.gemm_flops)
def matmul_nt(a: Value, b: Value) -> Value:
    """a @ b.T: (m, k), (n, k) -> (m, n)."""
    return a @ b.T


@matmul_nt.vjp("a")
def _(g: Value, b: Value) -> Value:
    return matmul_nn(g, b)


@matmul_nt.vjp("b")
def _(g: Value, a: Value) -> Value:
    return matmul_tn(g, a)


@op(kernel=kernels.matmul, shape=rules.product, samples=several(shaped((3, 4), (3, 5)), shaped((33, 17), (33, 20))), flops=rules.gemm_tn_flops)
def matmul_tn(a: Value, b: Value) -> Value:
    """a.T @ b: (k, m), (k, n) -> (m, n)."""
    return a.T @ b


@matmul_tn.vjp("a")
def _(g: Value, b: Value) -> Value:
    return matmul_nt(b, g)


@matmul_tn.vjp("b")
def _(g: Value, a: Value) -> Value:
    return matmul_nn(a, g)


# ---- stacks of matrices, whose batch axes broadcast ------------------------------------------------------------------------------------
#: Batch axes of two operands: equal, one or the other missing or of size 1, each repeated along another, in turns, many, none of them.
_BATCHES = (((3,), (3,)), ((), (2,)), ((2,), ()), ((2, 1), (3,)), ((3,), (2, 1)), ((2, 1, 2), (3, 1)), ((1,), (1,)), ((33,), (33,)), ((40, 1), (2,)),
            ((0,), (0,)))


def _stacks(a: tuple[int, int], b: tuple[int, int]) -> Samples:
    return several(*(shaped((*of_a, *a), (*of_b, *b)) for of_a, of_b in _BATCHES))


@op(shape=rules.batched, samples=several(_stacks((4, 3), (3, 5)), shaped((2, 17, 33), (33, 20))), flops=rules.batched_flops)
def bmm_nn(a: Value, b: Value) -> Value:
    """a @ b of each pair: (..., m, k), (..., k, n) -> (..., m, n), with the bits of `matmul_nn`."""
    return np.matmul(a, b)


@bmm_nn.vjp("a")
def _(g: Value, b: Value) -> Value:
    return bmm_nt(g, b)


@bmm_nn.vjp("b")
def _(g: Value, a: Value) -> Value:
    return bmm_tn(a, g)


@op(shape=rules.batched, samples=several(_stacks((4, 3), (5, 3)), shaped((2, 17, 33), (20, 33))), flops=rules.batched_flops)
def bmm_nt(a: Value, b: Value) -> Value:
    """a @ b.mT of each pair: (..., m, k), (..., n, k) -> (..., m, n)."""
    return np.matmul(a, np.swapaxes(b, -1, -2))


@bmm_nt.vjp("a")
def _(g: Value, b: Value) -> Value:
    return bmm_nn(g, b)


@bmm_nt.vjp("b")
def _(g: Value, a: Value) -> Value:
    return bmm_tn(g, a)


@op(shape=rules.batched, samples=several(_stacks((3, 4), (3, 5)), shaped((2, 33, 17), (33, 20))), flops=rules.batched_tn_flops)
def bmm_tn(a: Value, b: Value) -> Value:
    """a.mT @ b of each pair: (..., k, m), (..., k, n) -> (..., m, n)."""
    return np.matmul(np.swapaxes(a, -1, -2), b)


@bmm_tn.vjp("a")
def _(g: Value, b: Value) -> Value:
    return bmm_nt(b, g)


@bmm_tn.vjp("b")
def _(g: Value, a: Value) -> Value:
    return bmm_nn(a, g)


# ---- dense layers -------------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.linear, shape=rules.linear, samples=several(shaped((4, 3), (5, 3), (5,)), shaped((17, 33), (20, 33), (20,))),
    flops=rules.gemm_flops)
def linear(x: Value, weight: Value, bias: Value) -> Value:
    """x @ weight.T + bias: (batch, in), (out, in), (out,) -> (batch, out)."""
    return x @ weight.T + bias


@linear.vjp("x")
def _(g: Value, weight: Value) -> Value:
    return matmul_nn(g, weight)


@linear.vjp("weight")
def _(g: Value, x: Value) -> Value:
    return matmul_tn(g, x)


@linear.vjp("bias")
def _(g: Value) -> Value:
    return sum_rows(g)
