"""The products of a dense layer: forward, into the input, into the weight; each one's gradients are the other two."""
from __future__ import annotations

from minigrad.ops import rules
from minigrad.ops.op import Value, op
from minigrad.ops.reduce import sum
from minigrad.ops.samples import several, shaped
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
    return sum(g, axis=0)
