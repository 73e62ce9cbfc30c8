"""The global gradient norm, clipping by it, and the guard that lets a step be committed."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minigrad.errors import DtypeError, NonFiniteError, ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import Case, shaped
from minigrad.ops.spec import Spec
from minigrad_kernels import norms as kernels


def _double(op: Op, specs: Sequence[Spec], names: Sequence[str]) -> None:
    """These inputs are float64, all others floats. Raises DtypeError."""
    for name, spec in zip(op.inputs, specs, strict=True):
        if spec.dtype != rules.FLOAT64 if name in names else not spec.is_float and name != "blocks":
            raise DtypeError(f"{op.name}: {name} is {spec.dtype.name}, expected {'float64' if name in names else 'float32 or float64'} "
                             f"(got {rules.listed(op, specs)}): convert it, e.g. {name}.astype(mg.float64)")


def _one(op: Op, specs: Sequence[Spec], names: Sequence[str]) -> None:
    for name, spec in zip(op.inputs, specs, strict=True):
        if name in names and spec.size != 1:
            raise ShapeError(f"{op.name}: {name} must be one number, got {rules.listed(op, specs)}")


def _scalars(text: str, status: bool = False) -> rules.Rule:
    """A rule for float64 arrays of any length, in the order of the inputs; the last array is the output unless the op only checks."""

    def rule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
        _double(op, specs, op.inputs)
        _one(op, specs, ("total", "bound"))
        outs = () if status else (Spec.of((), rules.FLOAT64),)
        arrays = [*specs, *outs]
        how = rules.layout(text, status=status)
        return Plan(outs, (rules.step(op.kernel, how, [s.dtype for s in arrays], range(len(arrays)), {"n": specs[0].size}),))

    return rule


def _sum_squares(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, blocks, partials = specs
    _double(op, specs, ("partials",))
    if blocks.dtype != rules.INT64 or blocks.shape != (2, partials.size):
        raise ShapeError(f"{op.name}: expected blocks int64[2, {partials.size}], starts and lengths, got {rules.listed(op, specs)}")
    how = rules.layout("x[n] blocks(2,b) partials[b]", "b")
    return Plan((), (rules.step(op.kernel, how, [x.dtype, rules.INT64, rules.FLOAT64], [0, 1, 2], {"n": x.size, "b": partials.size},
                                flops=2 * x.size),))


def _add_powers(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, out = specs[0], Spec.of((), rules.FLOAT64)
    _double(op, specs, ("total",))
    _one(op, specs, ("total",))
    how = rules.layout("p:f x[n] total[1] out[1]")
    return Plan((out,), (rules.step(op.kernel, how, [x.dtype, rules.FLOAT64, rules.FLOAT64], [0, 1, 2], {"n": x.size},
                                    {"p": attributes["p"]}, flops=2 * x.size),))


def _root(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    out = Spec.of((), rules.FLOAT64)
    _double(op, specs, ("total",))
    _one(op, specs, ("total",))
    return Plan((out,), (rules.step(op.kernel, rules.layout("p:f total[1] out[1]"), [rules.FLOAT64] * 2, [0, 1], {}, {"p": attributes["p"]}),))


def _clip(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x = specs[0]
    _double(op, specs, op.inputs[1:])
    _one(op, specs, op.inputs[1:])
    return Plan((), (rules.step(op.kernel, rules.layout("factor[1] x[n]", "n"), [rules.FLOAT64, x.dtype], [1, 0], {"n": x.size}, flops=x.size),))


def _sampled(rng: np.random.Generator) -> Iterator[Case]:
    for p in (1.0, 2.0, 2.5, np.inf):
        for n in (1, 16, 67):
            yield (rng.uniform(-3, 3, n), rng.uniform(0, 1, ())), {"p": p}


@op(kernel=kernels.sum_squares, shape=_sum_squares, mutates=("partials",), flops=per_element(2))
def sum_squares_(x: Value, blocks: Value, partials: Value) -> Value:
    """Write the sum of squares of each block of x (start and length in the rows of `blocks`) into `partials`, in float64."""
    return np.array([np.sum(np.square(x[start:start + n], dtype=np.float64)) for start, n in blocks.T])


@op(kernel=kernels.norm, shape=_scalars("partials[n] out[1]"))
def norm(partials: Value) -> Value:
    """The square root of the partials' sum, added in order."""
    return np.sqrt(np.sum(partials))


@op(kernel=kernels.clip_factor, shape=_scalars("total[1] bound[1] out[1]"))
def clip_factor(total: Value, bound: Value) -> Value:
    """min(1, bound / (total + 1e-6)), as PyTorch's clip_grad_norm_ (Pascanu et al. 2013)."""
    return np.minimum(1.0, bound / (total + 1e-6))


@op(kernel=kernels.clip, shape=_clip, mutates=("x",), flops=per_element(1))
def clip_(x: Value, factor: Value) -> Value:
    """x *= factor, unless the factor is 1."""
    return x * factor


@op(kernel=kernels.clip_value, shape=_clip, mutates=("x",), flops=per_element(2))
def clip_value_(x: Value, bound: Value) -> Value:
    """Each element of x, or the nearest number in [-bound, bound]; a NaN stays."""
    return np.clip(x, -bound, bound)


@op(kernel=kernels.add_powers, shape=_add_powers, samples=_sampled, flops=per_element(2))
def add_powers(x: Value, total: Value, *, p: float) -> Value:
    """The sum of |x|**p added to `total`; for p infinite the largest of `total` and all |x|. Float64."""
    size = np.abs(np.asarray(x, np.float64))
    return np.maximum(total, size.max(initial=0.0)) if p == np.inf else total + np.sum(size ** p)


@op(kernel=kernels.root, shape=_root, samples=shaped((), low=0.5, high=9, p=3.0))
def root(total: Value, *, p: float) -> Value:
    """total ** (1 / p), which makes a norm of `add_powers`."""
    return total ** (1 / p)


@op(kernel=kernels.guard, shape=_scalars("total[1]", status=True),
    fails=NonFiniteError("the norm of the gradients is not finite: the step was refused, and parameters and moments are as they were. "
                         "Lower the learning rate, clip the gradients, or scale the residual branches."))
def guard(total: Value) -> Value:
    """Refuse the step if the norm is not finite."""
    return np.isfinite(total)
