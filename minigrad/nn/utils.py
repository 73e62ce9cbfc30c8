"""What is done to all gradients or all parameters at once: clipping, and one vector of them."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from minigrad.errors import CaptureError, DtypeError, NonFiniteError, ShapeError
from minigrad.ops import elementwise, joining, norms
from minigrad.ops.ranges import take_range
from minigrad.ops.shape import cast, reshape
from minigrad.tape import observe
from minigrad.tape.gradnorm import Group, group_of
from minigrad.tape.handle import Handle
from minigrad.tape.mode import caller, local, no_grad
from minigrad.tape.record import constant
from minigrad.tape.tensor import Tensor, tensor

FLOAT64: Final = np.dtype(np.float64)


def _several(parameters: Iterable[Handle] | Handle, name: str) -> list[Any]:
    several = [parameters] if isinstance(parameters, Handle) else list(parameters)
    if not several:
        raise ValueError(f"{name} got no parameters: a generator that was used before is empty, pass model.parameters() anew")
    return several


def _power(norm_type: float, name: str) -> float:
    """The norm's p. Raises ValueError."""
    p = float(norm_type)
    if not p > 0:
        raise ValueError(f"{name}: norm_type is {norm_type}, expected a positive number or inf")
    return p


def _bound(value: Any, name: str, what: str) -> Any:
    """A bound as a float64 scalar; a Tensor's value is read when the step runs. Raises ValueError for a number below 0."""
    if isinstance(value, Handle):
        if value.spec.size != 1:
            raise ShapeError(f"{name}: {what} has shape {value.spec.shape}, expected one number")
        return _double(value)
    if not value >= 0:
        raise ValueError(f"{name}: {what} is {value}, expected a number that is not negative")
    return constant(float(value), FLOAT64)


def _double(x: Any) -> Any:
    """One element as a float64 scalar."""
    x = reshape(x, shape=()) if x.spec.shape else x
    return x if x.spec.dtype == FLOAT64 else cast(x, dtype=FLOAT64)


def _norm(tensors: Iterable[Any], p: float) -> Any:
    """The p-norm over all elements of all tensors, a float64 scalar."""
    total = constant(0.0, FLOAT64)
    for x in tensors:
        total = norms.add_powers(x, total, p=p)
    return norms.root(total, p=p)


def _refuse(total: Any, name: str) -> None:
    """Raise NonFiniteError if the norm is not finite."""
    if local.mode.listener is not None:
        raise CaptureError(f"{name}(error_if_nonfinite=True) at {caller()} is inside a captured step, where no value is known: leave it out, "
                           "the optimiser refuses such a step by itself, with NonFiniteError")
    if not np.isfinite(total.item()):
        raise NonFiniteError(f"the total norm of the gradients is {total.item()}: they were not clipped")


def get_total_norm(tensors: Iterable[Any] | Handle, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The p-norm over all elements of all tensors, a float64 scalar outside the graph; `[p.grad for p in model.parameters()]`, say.

    norm_type: p, a positive number or inf. Raises NonFiniteError if asked and the norm is not finite.
    """
    p = _power(norm_type, "get_total_norm")
    with no_grad():
        total = _norm([tensors] if isinstance(tensors, Handle) else tensors, p)
        if error_if_nonfinite:
            _refuse(total, "get_total_norm")
    return total  # type: ignore[no-any-return]


def clip_grad_norm_(parameters: Iterable[Handle] | Handle, max_norm: float | Handle, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place so that their global norm is at most `max_norm`; returns the norm before, a float64 scalar.

    The factor is max_norm / (norm + 1e-6), applied if below 1 (Pascanu et al. 2013, in PyTorch's form). Sums are float64, so float32
    gradients of 1e20 are clipped, not zeroed. A norm that is not finite leaves refusing the step to the optimiser, or raises here.
    max_norm: a Tensor, an argument of a captured step for instance, may change from step to step; a number is part of the program.
    """
    several = _several(parameters, "clip_grad_norm_")
    bound, p = _bound(max_norm, "clip_grad_norm_", "max_norm"), _power(norm_type, "clip_grad_norm_")
    with no_grad():
        group = group_of(several)
        total = group.norm() if p == 2.0 else _norm(group.gradients(), p)
        if error_if_nonfinite:
            _refuse(total, "clip_grad_norm_")
        _scale(group, bound, total)
    return total  # type: ignore[no-any-return]


def clip_grads_with_norm_(parameters: Iterable[Handle] | Handle, max_norm: float | Handle, total_norm: Handle) -> None:
    """`clip_grad_norm_` with a norm that is known already, from `get_total_norm`."""
    several = _several(parameters, "clip_grads_with_norm_")
    bound = _bound(max_norm, "clip_grads_with_norm_", "max_norm")
    with no_grad():
        _scale(group_of(several), bound, _bound(total_norm, "clip_grads_with_norm_", "total_norm"), remember=False)


def _scale(group: Group, bound: Any, total: Any, remember: bool = True) -> None:
    factor = norms.clip_factor(total, bound)
    if observe.active:
        observe.look(group.runs())
    for run in group.runs():
        norms.clip_(run.grad, factor)
    if remember:
        group.remember(total)


def clip_grad_value_(parameters: Iterable[Handle] | Handle, clip_value: float | Handle) -> None:
    """Put every element of all gradients, in place, to the nearest number in [-clip_value, clip_value]; a NaN stays.

    clip_value: a number, or a Tensor that may change from step to step, as in `clip_grad_norm_`.
    """
    several = _several(parameters, "clip_grad_value_")
    bound = _bound(clip_value, "clip_grad_value_", "clip_value")
    with no_grad():
        runs = group_of(several).runs()
        if observe.active:
            observe.look(runs)
        for run in runs:
            norms.clip_value_(run.grad, bound)


def parameters_to_vector(parameters: Iterable[Handle]) -> Tensor:
    """All parameters one after the other as one vector, through which gradients flow."""
    several = _several(parameters, "parameters_to_vector")
    if len({p.spec.dtype for p in several}) > 1:
        raise DtypeError("parameters_to_vector: the parameters have several dtypes, a vector has one: give those of one dtype")
    vector = joining.cat([reshape(p, shape=(-1,)) for p in several], 0)
    return vector if len(several) > 1 else elementwise.clone(vector)  # type: ignore[no-any-return]


def vector_to_parameters(vec: Any, parameters: Iterable[Handle]) -> None:
    """Write a vector, as `parameters_to_vector` gives it, into the parameters' memory. Raises ShapeError, and writes nothing, for another length."""
    several = _several(parameters, "vector_to_parameters")
    vector = vec if isinstance(vec, Handle) else tensor(np.asarray(vec))
    size = sum(p.spec.size for p in several)
    if vector.spec.shape != (size,):
        raise ShapeError(f"vector_to_parameters: the vector has shape {vector.spec.shape}, the parameters have {size} elements")
    start = 0
    with no_grad():
        for p in several:
            part = take_range(vector, start=start, shape=p.spec.shape)
            elementwise.copy_(p, part if part.spec is p.spec else cast(part, dtype=p.spec.dtype))
            start += p.spec.size
