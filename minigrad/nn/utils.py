"""Clipping by the global norm."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minigrad.errors import NonFiniteError
from minigrad.ops import norms
from minigrad.tape.gradnorm import group_of
from minigrad.tape.handle import Handle
from minigrad.tape.mode import no_grad
from minigrad.tape.record import constant
from minigrad.tape.tensor import Tensor


def get_total_norm(parameters: Iterable[Handle] | Handle) -> Tensor:
    """The 2-norm over the gradients of all parameters, a float64 scalar."""
    with no_grad():
        return group_of([parameters] if isinstance(parameters, Handle) else list(parameters)).norm()  # type: ignore[no-any-return]


def clip_grad_norm_(parameters: Iterable[Handle] | Handle, max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place so that their global norm is at most `max_norm`; returns the norm before, a float64 scalar.

    The factor is max_norm / (norm + 1e-6), applied if below 1 (Pascanu et al. 2013, in PyTorch's form). The sum of squares is float64,
    so float32 gradients of 1e20 are clipped, not zeroed. A norm that is not finite leaves refusing the step to the optimiser, or raises here.
    """
    several = [parameters] if isinstance(parameters, Handle) else list(parameters)
    if not several:
        raise ValueError("clip_grad_norm_ got no parameters: a generator that was used before is empty, pass model.parameters() anew")
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm is {max_norm}, expected a number that is not negative")
    with no_grad():
        group = group_of(several)
        total = group.norm()
        if error_if_nonfinite and not np.isfinite(total.item()):
            raise NonFiniteError(f"the total norm of the gradients is {total.item()}: they were not clipped")
        factor = norms.clip_factor(total, constant(float(max_norm), np.dtype(np.float64)))
        for run in group.runs():
            norms.clip_(run.grad, factor)
        group.remember(total)
    return total  # type: ignore[no-any-return]
