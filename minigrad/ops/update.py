"""Optimiser updates, in place over runs of parameters; in a captured step they run after the guard.

`hyper` holds an optimiser's numbers in float64, in the order of its class, and the number of the step, from 1 on, last.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import rules
from minigrad.ops.observe import CLOCK, check_tables
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import shaped
from minigrad.ops.spec import Spec
from minigrad_kernels import update as kernels

#: The op that clips first and then updates, in one pass, by the update: a captured step makes one of both.
CLIPPED: Final[dict[Op, Op]] = {}
#: The op that updates and also takes the statistics of the new weights and their change, by the update: see `observe`.
WATCHED: Final[dict[Op, Op]] = {}
#: Inputs that are float64 whatever the parameters are.
_NUMBERS: Final = {"hyper", "factor", "clock", "table", "stats"}
#: Inputs beside them that are not of the parameters' shape either.
_TABLES: Final = {"ticks", "blocks"}


def _check(op: Op, specs: tuple[Spec, ...]) -> None:
    """Numbers are float64 vectors; all other arrays have one shape and dtype. Raises DtypeError or ShapeError."""
    arrays = [spec for name, spec in zip(op.inputs, specs, strict=True) if name not in _NUMBERS | _TABLES]
    if any(spec.dtype != rules.FLOAT64 for name, spec in zip(op.inputs, specs, strict=True) if name in _NUMBERS):
        raise DtypeError(f"{op.name}: {', '.join(n for n in op.inputs if n in _NUMBERS)} must be float64, got {rules.listed(op, specs)}: "
                         "convert with .astype(mg.float64)")
    if any(spec is not arrays[0] or not spec.is_float for spec in arrays):
        raise ShapeError(f"{op.name}: parameters, gradients and moments need one shape and one floating dtype, got {rules.listed(op, specs)}")


def _check_cell(op: Op, spec: Spec, cell: int) -> None:
    if not 0 <= cell < spec.size:
        raise ShapeError(f"{op.name}: cell is {cell}, and hyper has the cells 0 to {spec.size - 1}")


def _lay_out(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The kernel takes the inputs in another order: numbers, then the gradient, then what is written, the parameter last."""
    _check(op, specs)
    watched = "blocks" in op.inputs
    names = [*(["ticks"] if watched else []), *(["factor"] if "factor" in op.inputs else []), "hyper", "grad",
             *op.inputs[2:op.inputs.index("hyper")], "p", *(["blocks", "stats"] if watched else [])]
    dims = {"ticks": f"[{CLOCK}]", "factor": "[1]", "hyper": "[h]", "blocks": "(3,b)", "stats": "[m]"}
    order = [op.inputs.index(name) for name in names]
    how = rules.layout(" ".join(f"{name}{dims.get(name, '[n]')}" for name in names), "b" if watched else "n")
    sizes = {"n": specs[0].size, "h": specs[op.inputs.index("hyper")].size}
    if watched:
        ticks, blocks, stats = [specs[op.inputs.index(name)] for name in ("ticks", "blocks", "stats")]
        check_tables(op, specs, ticks, blocks)
        sizes |= {"b": blocks.shape[1], "m": stats.size}
    return Plan((), (rules.step(op.kernel, how, [specs[i].dtype for i in order], order, sizes, flops=op.flops(specs, attributes)),))


def _update(kernels: Any, operations: int) -> Callable[[Callable[..., Value]], Op]:
    """Declare an update, from its definition of (p, grad, states..., hyper), in four forms.

    As it is; after clipping, with a `factor` behind the others; watched, with a clock, blocks and groups of statistics; and both.
    """

    def declare(definition: Callable[..., Value]) -> Op:
        parameters = [*inspect.signature(definition).parameters]
        states = parameters[2:-1]

        def clipped(p: Value, grad: Value, *others: Value) -> Value:
            return definition(p, others[-1] * grad, *others[:-1])

        def watched(p: Value, grad: Value, *others: Value) -> Value:
            return definition(p, grad, *others[:-3])

        def both(p: Value, grad: Value, *others: Value) -> Value:
            return definition(p, others[-1] * grad, *others[:-4])

        tables = ["ticks", "blocks", "stats"]
        forms = [(watched, "watch_", tables, "`{}`, and the groups of its blocks where the clock says so.", kernels.watched, ()),
                 (clipped, "clip_", ["factor"], "grad *= factor, then `{}`, in one pass.", kernels.clipped, ("grad",)),
                 (both, "watch_clip_", [*tables, "factor"], "grad *= factor, then `watch_{}`, in one pass.", kernels.both, ("grad",))]
        made = [op(kernel=kernels.plain, shape=_lay_out, mutates=("p", *states), commit=True, flops=per_element(operations))(definition)]
        for form, prefix, more, text, kernel, written in forms:
            form.__name__, form.__module__ = prefix + definition.__name__, definition.__module__
            form.__doc__ = text.format(definition.__name__)
            form.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*parameters, *more)])
            made.append(op(kernel=kernel, shape=_lay_out, mutates=("p", *written, *states, *(["stats"] if "stats" in more else [])), commit=True,
                           flops=per_element(operations + 1))(form))
        plain, WATCHED[plain], CLIPPED[plain], CLIPPED[made[1]] = made[0], made[1], made[2], made[3]
        return plain

    return declare


# ---- stochastic gradient descent: lr, momentum, dampening, weight_decay, nesterov, maximize -------------------------------------------------
@_update(kernels.sgd, 2)
def sgd_(p: Value, grad: Value, hyper: Value) -> Value:
    """p -= lr * grad."""
    return p - hyper[0] * grad


@_update(kernels.sgd_momentum, 4)
def sgd_momentum_(p: Value, grad: Value, velocity: Value, hyper: Value) -> Value:
    """velocity = momentum * velocity + grad; p -= lr * velocity."""
    return p - hyper[0] * (hyper[1] * velocity + grad)


@_update(kernels.sgd_decayed, 5)
def sgd_decayed_(p: Value, grad: Value, hyper: Value) -> Value:
    """p -= lr * (grad + weight_decay * p), with -grad to maximize."""
    return p - hyper[0] * _directed(grad, p, hyper[5], hyper[3])


@_update(kernels.sgd_dampened, 10)
def sgd_dampened_(p: Value, grad: Value, velocity: Value, hyper: Value) -> Value:
    """velocity = momentum * velocity + (1 - dampening) * d; p -= lr * velocity, or with nesterov lr * (d + momentum * velocity).

    d is grad + weight_decay * p, with -grad to maximize; the first one is not dampened.
    """
    d = _directed(grad, p, hyper[5], hyper[3])
    velocity = hyper[1] * velocity + (1 - hyper[2] * (hyper[6] > 1)) * d
    return p - hyper[0] * np.where(hyper[4], d + hyper[1] * velocity, velocity)


def _directed(grad: Value, p: Value, maximize: Value, decay: Value) -> Value:
    return (1 - 2 * maximize) * grad + decay * p


# ---- RMSprop: lr, alpha, eps, weight_decay, momentum, maximize ----------------------------------------------------------------------------
@_update(kernels.rmsprop, 11)
def rmsprop_(p: Value, grad: Value, square_avg: Value, hyper: Value) -> Value:
    """square_avg = alpha * square_avg + (1 - alpha) * d**2; p -= lr * d / (sqrt(square_avg) + eps), d as in `sgd_decayed_`."""
    return p - hyper[0] * _scaled(p, grad, square_avg, 0.0, hyper)


@_update(kernels.rmsprop_momentum, 13)
def rmsprop_momentum_(p: Value, grad: Value, square_avg: Value, buffer: Value, hyper: Value) -> Value:
    """As `rmsprop_`, with buffer = momentum * buffer + d / (sqrt(square_avg) + eps); p -= lr * buffer."""
    return p - hyper[0] * (hyper[4] * buffer + _scaled(p, grad, square_avg, 0.0, hyper))


@_update(kernels.rmsprop_centered, 16)
def rmsprop_centered_(p: Value, grad: Value, square_avg: Value, grad_avg: Value, hyper: Value) -> Value:
    """As `rmsprop_`, divided by sqrt(square_avg - grad_avg**2) + eps, grad_avg the running mean of d."""
    return p - hyper[0] * _scaled(p, grad, square_avg, _averaged(p, grad, grad_avg, hyper), hyper)


@_update(kernels.rmsprop_centered_momentum, 18)
def rmsprop_centered_momentum_(p: Value, grad: Value, square_avg: Value, grad_avg: Value, buffer: Value, hyper: Value) -> Value:
    """`rmsprop_centered_` with the momentum of `rmsprop_momentum_`."""
    return p - hyper[0] * (hyper[4] * buffer + _scaled(p, grad, square_avg, _averaged(p, grad, grad_avg, hyper), hyper))


def _averaged(p: Value, grad: Value, grad_avg: Value, hyper: Value) -> Value:
    return hyper[1] * grad_avg + (1 - hyper[1]) * _directed(grad, p, hyper[5], hyper[3])


def _scaled(p: Value, grad: Value, square_avg: Value, mean: Value, hyper: Value) -> Value:
    d = _directed(grad, p, hyper[5], hyper[3])
    return d / (np.sqrt(np.maximum(hyper[1] * square_avg + (1 - hyper[1]) * d ** 2 - mean ** 2, 0)) + hyper[2])


# ---- Adagrad: lr, lr_decay, weight_decay, eps, maximize ------------------------------------------------------------------------------------
@_update(kernels.adagrad, 10)
def adagrad_(p: Value, grad: Value, squares: Value, hyper: Value) -> Value:
    """squares += d**2; p -= lr / (1 + (t - 1) * lr_decay) * d / (sqrt(squares) + eps), d as in `sgd_decayed_`."""
    d = _directed(grad, p, hyper[4], hyper[2])
    return p - hyper[0] / (1 + (hyper[5] - 1) * hyper[1]) * d / (np.sqrt(squares + d ** 2) + hyper[3])


# ---- Adam: lr, beta1, beta2, eps, weight_decay, maximize, decoupled_weight_decay, eps_mode -----------------------------------------------------
@_update(kernels.adam, 18)
def adam_(p: Value, grad: Value, exp_avg: Value, exp_avg_sq: Value, hyper: Value) -> Value:
    """Adam (Kingma & Ba 2015): see `minigrad.optim.Adam` for its formula."""
    m, v, p = _moments(p, grad, exp_avg, exp_avg_sq, hyper)
    return p - _adam_step(m, v, hyper)


@_update(kernels.amsgrad, 19)
def amsgrad_(p: Value, grad: Value, exp_avg: Value, exp_avg_sq: Value, max_exp_avg_sq: Value, hyper: Value) -> Value:
    """`adam_` that divides by the root of the largest exp_avg_sq so far (Reddi, Kale & Kumar 2018)."""
    m, v, p = _moments(p, grad, exp_avg, exp_avg_sq, hyper)
    return p - _adam_step(m, np.maximum(v, max_exp_avg_sq), hyper)


def _moments(p: Value, grad: Value, m: Value, v: Value, hyper: Value) -> tuple[Value, Value, Value]:
    lr, beta1, beta2, _, decay, maximize, decoupled = hyper[:7]
    d = _directed(grad, p, maximize, 0.0 if decoupled else decay)
    return beta1 * m + (1 - beta1) * d, beta2 * v + (1 - beta2) * d ** 2, p * (1 - lr * decay if decoupled else 1.0)


def _adam_step(m: Value, v: Value, hyper: Value) -> Value:
    lr, beta1, beta2, eps, *_, hat, t = hyper
    root = np.sqrt(1 - beta2 ** t)
    alpha = lr / (1 - beta1 ** t)
    return alpha * root * m / (np.sqrt(v) + eps) if hat else alpha * m / (np.sqrt(v) / root + eps)


# ---- steps and schedules -------------------------------------------------------------------------------------------------------------------
def _count(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    _check(op, specs)
    _check_cell(op, specs[0], attributes["cell"])
    how = rules.layout("cell:i x[n]")
    return Plan((), (rules.step(op.kernel, how, [rules.FLOAT64], [0], {"n": specs[0].size}, {"cell": attributes["cell"]}),))


def _schedule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    _check(op, specs)
    _check_cell(op, specs[0], attributes["cell"])
    if specs[1].size != 1 or not specs[2].size:
        raise ShapeError(f"{op.name}: expected a clock of one number and a table of at least one, got {rules.listed(op, specs)}")
    how = rules.layout("cell:i clock[1] table[n] hyper[h]")
    dims = {"n": specs[2].size, "h": specs[0].size}
    return Plan((), (rules.step(op.kernel, how, [rules.FLOAT64] * 3, [1, 2, 0], dims, {"cell": attributes["cell"]}),))


@op(kernel=kernels.count, shape=_count, samples=shaped((3,), cell=1), mutates=("hyper",), commit=True)
def count_(hyper: Value, *, cell: int) -> Value:
    """hyper[cell] += 1, in float64: one more step."""
    return np.array([value + (i == cell) for i, value in enumerate(hyper)])


@op(kernel=kernels.schedule, shape=_schedule, samples=shaped((4,), (1,), (7,), cell=2, low=0, high=20), mutates=("hyper",), commit=True)
def schedule_(hyper: Value, clock: Value, table: Value, *, cell: int) -> Value:
    """hyper[cell] = table[clock[0] mod its length], all in float64: a rate that follows a schedule."""
    return np.array([table[int(clock[0]) % len(table)] if i == cell else value for i, value in enumerate(hyper)])
