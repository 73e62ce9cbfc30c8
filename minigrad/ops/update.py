"""Optimiser updates, in place over runs of parameters; in a captured step they run after the guard."""
from __future__ import annotations

from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.spec import Spec
from minigrad_kernels import update as kernels


def _update(text: str, order: tuple[int, ...], flops: int) -> rules.Rule:
    def rule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
        dtypes = [specs[i].dtype for i in order]
        dims = {"n": specs[0].size, "h": specs[op.inputs.index("hyper")].size}
        return Plan((), (rules.step(op.kernel, rules.layout(text, "n"), dtypes, order, dims, flops=flops * specs[0].size),))

    return rule


@op(kernel=kernels.sgd, shape=_update("hyper[h] g[n] p[n]", (2, 1, 0), 2), mutates=("p",), commit=True, flops=per_element(2))
def sgd_(p: Value, grad: Value, hyper: Value) -> Value:
    """p -= lr * grad; hyper is [lr, momentum] in float64."""
    return p - hyper[0] * grad


@op(kernel=kernels.sgd_momentum, shape=_update("hyper[h] g[n] v[n] p[n]", (3, 1, 2, 0), 4), mutates=("p", "velocity"), commit=True,
    flops=per_element(4))
def sgd_momentum_(p: Value, grad: Value, velocity: Value, hyper: Value) -> Value:
    """velocity = momentum * velocity + grad; p -= lr * velocity (PyTorch's SGD without dampening)."""
    return p - hyper[0] * (hyper[1] * velocity + grad)


@op(kernel=kernels.clip_sgd, shape=_update("factor[1] hyper[h] g[n] p[n]", (3, 2, 1, 0), 3), mutates=("p", "grad"), commit=True,
    flops=per_element(3))
def clip_sgd_(p: Value, grad: Value, hyper: Value, factor: Value) -> Value:
    """grad *= factor, then `sgd_`, in one pass: what a captured step makes of clipping followed by the update."""
    return p - hyper[0] * (factor * grad)


@op(kernel=kernels.clip_sgd_momentum, shape=_update("factor[1] hyper[h] g[n] v[n] p[n]", (4, 3, 1, 2, 0), 5),
    mutates=("p", "grad", "velocity"), commit=True, flops=per_element(5))
def clip_sgd_momentum_(p: Value, grad: Value, velocity: Value, hyper: Value, factor: Value) -> Value:
    """grad *= factor, then `sgd_momentum_`, in one pass."""
    return p - hyper[0] * (hyper[1] * velocity + factor * grad)
