"""Tries on copies: a few steps of training, and the same net in float64; the model itself stays as it is."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any, Final

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, NonFiniteError
from minigrad.health import measure
from minigrad.health.measure import Floats, Pass
from minigrad.nn.module import Module
from minigrad.nn.utils import clip_grad_norm_
from minigrad.optim import Adam
from minigrad.optim.optimizer import Optimizer
from minigrad.program.step import capture
from minigrad.tape.mode import enable_grad
from minigrad.tape.tensor import Tensor, tensor

#: Without an optimizer the tries use Adam with its customary rate (Kingma and Ba 2015).
CUSTOMARY_LR: Final = 1e-3


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Draws inside are not missed outside."""
    generator, drawn = config.generator().bit_generator, config.random_state.copy()
    state = generator.state
    try:
        yield
    finally:
        generator.state = state
        config.random_state[:] = drawn


def optimizer_like(given: Optimizer | None, model: Module, lr_factor: float = 1.0) -> Optimizer:
    """A fresh optimizer over all of the model's trained parameters, of the same class and hyper-parameters as `given`'s first group."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if given is None:
        return Adam(parameters, lr=CUSTOMARY_LR * lr_factor)
    known = signature(type(given)).parameters  # AdamW's defaults hold what only Adam takes
    made: Optimizer = type(given)(parameters, **{name: given.param_groups[0][name] for name in given.defaults if name in known})
    made.param_groups[0]["lr"] = made.param_groups[0]["lr"] * lr_factor
    return made


def trained(model: Module, optimizer: Optimizer, x: Any, y: Any, loss: Callable[..., Any], steps: int, clip: float | None = None) -> Floats:
    """Train this model, captured where that is possible, and give the loss before each step; NaN from the first step on that is refused."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        value = measure.scalar(loss, model(*measure.inputs(x)), y)
        value.backward(inputs=parameters)  # a loss may take parameters that are not the copy's
        if clip is not None:
            clip_grad_norm_(parameters, clip)
        optimizer.step()
        return value

    losses = np.full(steps, np.nan)
    run: Callable[..., Any] = capture(step)
    with random_state_kept(), enable_grad(), np.errstate(all="ignore"):
        for i in range(steps):
            try:
                losses[i] = run(x, y).item()
            except CaptureError:
                if run is step:
                    raise
                run = step
                losses[i] = run(x, y).item()
            except NonFiniteError:
                break
    return losses


def mapped(change: Callable[[Any], Any], given: Any) -> Any:
    """The same tuple, list or dict, however nested, of changed arrays and Tensors; other things stay as they are."""
    if isinstance(given, dict):
        return {key: mapped(change, one) for key, one in given.items()}
    if isinstance(given, tuple | list):
        made = [mapped(change, one) for one in given]
        return made if isinstance(given, list) else type(given)(*made) if hasattr(given, "_fields") else tuple(made)
    return change(given) if isinstance(given, np.ndarray | Tensor) else given


def rows(given: Any, count: int, of: int) -> Any:
    """The first rows of what has `of` of them, arrays and Tensors or a tuple of them; anything else as it is."""
    def first(one: Any) -> Any:
        values = one.detach().numpy() if isinstance(one, Tensor) else one
        return values[:count] if values.ndim and len(values) == of > count else one

    return mapped(first, given)


def length(x: Any) -> int:
    """How many rows a batch has."""
    shape = getattr(measure.inputs(x)[0], "shape", ())
    return int(shape[0]) if shape else 1


def in_double(given: Any) -> Any:
    """Floating-point values in float64, others as they are."""
    def wide(one: Any) -> Any:
        array = one.detach().numpy() if isinstance(one, Tensor) else one
        return tensor(array.astype(np.float64)) if array.dtype.kind == "f" else one

    return mapped(wide, given)


class Shadow:
    """The same net and batch in float64. Raises what copying or running it raises."""

    def __init__(self, model: Module, x: Any, y: Any, loss: Callable[..., Any]) -> None:
        self.model = deepcopy(model).double()
        self.x, self.y, self.loss = in_double(x), in_double(y), loss

    def run(self) -> Pass:
        """One pass."""
        return measure.run(self.model, self.x, self.y, self.loss)


def described(optimizer: Optimizer) -> str:
    """`SGD(lr=0.1, momentum=0.9)`: the rate, and what else is not the class's default."""
    group, known = optimizer.param_groups[0], signature(type(optimizer)).parameters
    others = [f", {name}={_short(group[name])}" for name in optimizer.defaults
              if name != "lr" and name in known and group[name] != known[name].default]
    return f"{type(optimizer).__name__}(lr={_short(group['lr'])}{''.join(others)})"


def _short(value: Any) -> str:
    return f"({', '.join(map(_short, value))})" if isinstance(value, tuple) else f"{value:.3g}" if isinstance(value, float) else repr(value)
