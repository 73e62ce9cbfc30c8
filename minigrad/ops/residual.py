"""The residual connection: what skips a branch plus what went through it."""
from __future__ import annotations

from minigrad.ops import elementwise, rules
from minigrad.ops.op import Value, op, per_element
from minigrad.ops.samples import reals, several
from minigrad_kernels import residual as kernels


@op(kernel=kernels.residual, shape=rules.elementwise, flops=per_element(2),
    samples=several(reals(-3, 3, arity=2), *(reals(-3, 3, arity=2, scale=scale) for scale in (0.25, 2.0, -1.0, 0.0))))
def residual(x: Value, branch: Value, *, scale: float = 1.0) -> Value:
    """x + scale * branch, the product rounded before the sum: with scale 1 it is x + branch to the bit (He et al. 2016)."""
    return x + scale * branch


@residual.vjp("x")
def _(g: Value) -> Value:
    return g


@residual.vjp("branch")
def _(g: Value, scale: float) -> Value:
    return g if scale == 1.0 else elementwise.scale(g, by=scale)
