"""One pass of a net on a batch, measured layer by layer: the signal on its way up, the gradient on its way down, what the weights get."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import nn
from minigrad.errors import CaptureError, DataError, ShapeError
from minigrad.nn.around import Hooks
from minigrad.nn.module import Module
from minigrad.nn.summary import as_it_was, first_tensor
from minigrad.tape.backward import gradients
from minigrad.tape.creation import as_tensor
from minigrad.tape.mode import caller, enable_grad, local
from minigrad.tape.tensor import Tensor, seed

Floats = NDArray[np.float64]

#: How near to an end of its range, as a share of the range, an activation counts as saturated: there sigmoid' is below 4 % of its maximum.
NEAR: Final = 0.01
#: The name of the layer that the model itself is, where it owns matrices.
ROOT: Final = "(model)"


class Range(NamedTuple):
    """What an activation's values lie between, and whether 0 is where it is off."""

    low: float
    high: float
    off_at_zero: bool = False


#: By the op that made h. One that is off at 0 and has no end above is dead, not saturated.
RANGES: Final[Mapping[str, Range]] = {"sigmoid": Range(0.0, 1.0), "tanh": Range(-1.0, 1.0), "relu": Range(0.0, math.inf, True)}
ACTIVATIONS: Final = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU, nn.GELU, nn.Softplus)


@dataclass
class Seen:
    """One layer as a pass saw it: values are arrays in the net's dtype, None where there are none."""

    name: str
    module: Module
    weights: list[Any]
    given: Any  # what it got as input
    h: Any = None  # the Tensor that the next layer got, or the model's output
    range: Range | None = None  # of the activation behind it
    activated: Any = None
    dh: NDArray[Any] | None = None
    dw: list[NDArray[Any] | None] = field(default_factory=list)


@dataclass
class Pass:
    """Everything that one pass gave."""

    loss: float
    layers: list[Seen]
    output: Any
    x: Any = None
    unmeasured: list[str] = field(default_factory=list)  # parameters of two or more dimensions of no layer that ran


@dataclass(frozen=True)
class Measurement:
    """Figures by layer, from the input on, as arrays (layers,) float64; sums are taken in float64, whatever the net's dtype.

    h is what the next layer gets, or the model's output for the last. saturated: share of the elements behind a sigmoid, tanh or hardtanh
    that are within 1 % of an end of its range. dead: share of the units behind a ReLU that are 0 for the whole batch. Both are NaN where
    there is no such activation, as rms_dh and norm_dw are where nothing comes back. feature_mean, feature_std: (features,), of x as it was
    given, in the shape in which the first layer gets it, empty if it is integers; first_mean, first_std of what the first layer gets.
    matrices: how many parameters of two or more dimensions each layer owns; unmeasured: those, by path, that no layer that ran owns.
    """

    layers: list[str]
    dtype: np.dtype[Any]
    loss: float
    rows: int
    rms_h: Floats
    rms_dh: Floats
    norm_dw: Floats
    rms_w: Floats
    saturated: Floats
    dead: Floats
    nonfinite_h: Floats
    nonfinite_dh: Floats
    nonfinite_dw: Floats
    feature_mean: Floats
    feature_std: Floats
    first_mean: Floats
    first_std: Floats
    matrices: NDArray[np.int64]
    unmeasured: list[str]

    @property
    def input_mean(self) -> float:
        """Mean of the input."""
        return float(self.feature_mean.mean()) if self.feature_mean.size else math.nan

    @property
    def input_std(self) -> float:
        """Standard deviation of the input."""
        if not self.feature_mean.size:
            return math.nan
        return float(np.sqrt(np.mean(self.feature_std**2) + np.var(self.feature_mean)))

    def arrays(self) -> dict[str, Any]:
        """The figures by name, for np.savez or a data frame; "layers" are the names."""
        return {name: value for name, value in self.__dict__.items() if isinstance(value, np.ndarray)} | {"layers": np.array(self.layers)}


def rms(values: Any) -> float:
    """Root of the mean square in float64; scaled, so that squares of 1e-200 do not underflow. NaN or inf if a value is, NaN of nothing."""
    if not values.size:
        return math.nan
    largest = float(np.abs(values).max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64) / largest))))


def measure(model: Module, x: Any, y: Any, loss: Callable[..., Any] = nn.functional.cross_entropy) -> Measurement:
    """The figures of each layer for `loss(model(x), y)` on one batch.

    A layer is a module that owns a parameter of two or more dimensions; one that runs twice is measured where it runs last. No `.grad`, running
    statistic, random state or hook is changed, and the model runs in the mode it is in. Raises DataError for a model without layers, ShapeError
    for a loss that is no scalar, CaptureError inside a captured step, and what `checked` raises.
    """
    checked("measure", model, x, loss)
    return figures(run(model, x, y, loss))


def run(model: Module, x: Any, y: Any, loss: Callable[..., Any]) -> Pass:
    """One pass up and down, eagerly, that leaves everything as it was; errors as `measure`."""
    if local.mode.listener is not None:
        raise CaptureError(f"measure at {caller()} inside a captured step: measure outside")
    with as_it_was(model), enable_grad(), np.errstate(all="ignore"):
        seen, output = _up(model, inputs(x))
        value = scalar(loss, output, y)
        flowing = [layer.h for layer in seen if isinstance(layer.h, Tensor) and layer.h.needs_grad]
        weights = [w for layer in seen for w in layer.weights if w.needs_grad]
        found: dict[int, NDArray[Any]] = {}
        if value.needs_grad:
            wanted = [*flowing, *weights]
            back = gradients([value], wanted, [seed(value, None)], retain_graph=False, create_graph=False)
            found = {id(t): g.array for t, g in zip(wanted, back, strict=True) if g is not None}
        for layer in seen:
            layer.dh = found.get(id(layer.h))
            layer.dw = [found.get(id(w)) for w in layer.weights]
    held = {id(w) for layer in seen for w in layer.weights}
    return Pass(float(value.array), seen, output, x, [path for path, p in model.named_parameters() if p.ndim >= 2 and id(p) not in held])


def checked(who: str, model: Any, x: Any, loss: Any) -> None:
    """Raise TypeError for a model that is no Module, a loss that is no function, an x that is no batch; DataError for one without rows."""
    if not isinstance(model, Module):
        made = isinstance(model, type) and issubclass(model, Module)
        raise TypeError(f"{who}: model is the class {model.__name__}, expected an object: pass {model.__name__}(...)" if made else
                        f"{who}: model is {_a(model)}, expected an nn.Module: its layers are what is measured")
    if not callable(loss) or isinstance(loss, type):
        fix = (f"pass an object, {loss.__name__}()" if isinstance(loss, type) else f"pass optimizer={type(loss).__name__}(...) by name"
               if hasattr(loss, "param_groups") else "e.g. F.cross_entropy")
        raise TypeError(f"{who}: loss is {_a(loss)}, expected a function of (output, y): {fix}")
    if x is None or isinstance(x, str | bytes | int | float) or (isinstance(x, tuple | list) and not leaves(x)):
        of = f" of {type(x[0]).__name__}" if isinstance(x, tuple | list) and x else ""
        raise TypeError(f"{who}: x is {_a(x)}{of}, expected an array, a Tensor or a tuple of them, one for each argument of the model: "
                        "pass np.array(x, dtype=np.float32)")
    if any(one.ndim and not len(one) for one in leaves(x)[:1]):
        raise DataError(f"{who}: x has shape {tuple(leaves(x)[0].shape)}, no rows: pass a batch with at least one")


def _a(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"the str {value!r}" if isinstance(value, str) else f"a {type(value).__name__}"


def leaves(given: Any) -> list[Any]:
    """The arrays and Tensors in tuples, lists and dicts, however nested."""
    if isinstance(given, tuple | list | dict):
        return [leaf for one in (given.values() if isinstance(given, dict) else given) for leaf in leaves(one)]
    return [given] if isinstance(given, np.ndarray | Tensor) else []


def floats(given: Any) -> list[NDArray[Any]]:
    """Those that hold floating-point values, as arrays."""
    arrays = [one.detach().numpy() if isinstance(one, Tensor) else one for one in leaves(given)]
    return [one for one in arrays if one.dtype.kind == "f" and one.size]


def inputs(x: Any) -> tuple[Any, ...]:
    """The arguments of the model."""
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def scalar(loss: Callable[..., Any], output: Any, y: Any) -> Tensor:
    """The loss as a scalar Tensor; without y of the output alone. Raises ShapeError."""
    value = loss(output) if y is None else loss(output, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ShapeError(f"the loss gave {value.spec!r}, expected a scalar" if isinstance(value, Tensor) else
                         f"the loss gave a {type(value).__name__}, expected a scalar Tensor")
    return value


def _up(model: Module, given: tuple[Any, ...]) -> tuple[list[Seen], Any]:
    """The forward pass: layers in the order in which they ran last, and the output."""
    matrices = {module: (path or ROOT, [p for p in module.parameters(recurse=False) if p.ndim >= 2]) for path, module in model.named_modules()}
    owned = {module: (path, held) for module, (path, held) in matrices.items() if held}
    if not owned:
        raise DataError(f"{type(model).__name__} has no module that owns a parameter of two or more dimensions: there is no layer to measure")
    ran: list[Seen] = []

    def enters(module: Module, arguments: tuple[Any, ...]) -> None:
        handed = first_tensor(arguments) if first_tensor(arguments) is not None else arguments[0] if arguments else None
        if ran:
            _leaves(ran[-1], handed)
        path, held = owned[module]
        ran.append(Seen(path, module, held, handed))

    def activates(module: Module, arguments: tuple[Any, ...], out: Any) -> None:
        if ran and isinstance(out, Tensor):
            ran[-1].range, ran[-1].activated = _range(module), out

    with _hooked(model, owned, enters, activates):
        output = model(*given)
    if not ran:
        raise DataError(f"no layer of {type(model).__name__} ran: its forward calls none of {', '.join(path for path, _ in owned.values())}: "
                        "give each matrix a module of its own, as nn.Linear is, and call that")
    _leaves(ran[-1], first_tensor(output))
    last = {layer.name: i for i, layer in enumerate(ran)}
    return [ran[i] for i in sorted(last.values())], output


def _leaves(layer: Seen, h: Any) -> None:
    layer.h = h
    if layer.activated is None and isinstance(h, Tensor) and h.record is not None:
        made = h.record
        known = made.attributes
        layer.range = Range(known["min_val"], known["max_val"], known["min_val"] == 0) if made.op.name == "hardtanh" else RANGES.get(made.op.name)
        layer.activated = h if layer.range is not None else None


def _range(module: Module) -> Range | None:
    if isinstance(module, nn.Hardtanh):
        return Range(module.min_val, module.max_val, module.min_val == 0)
    if isinstance(module, nn.ReLU6):
        return Range(0.0, 6.0, True)
    return RANGES.get(type(module).__name__.lower())


@contextmanager
def _hooked(model: Module, owned: Mapping[Module, Any], enters: Any, activates: Any) -> Iterator[None]:
    """Hear layers begin and activations end. Set past `__setattr__`, so that no captured step has to look at the model again."""
    heard = [module for module in model.modules() if module in owned or isinstance(module, ACTIVATIONS)]
    before = {module: module._hooks for module in heard}
    try:
        for module, hooks in before.items():
            module.__dict__["_hooks"] = mine = Hooks()
            if hooks is not None:
                mine.before, mine.after, mine.backward = dict(hooks.before), dict(hooks.after), dict(hooks.backward)
            if module in owned:
                mine.before[-1] = (enters, False)
            else:
                mine.after[-1] = (activates, False)
        yield
    finally:
        for module, hooks in before.items():
            module.__dict__["_hooks"] = hooks


def figures(one: Pass) -> Measurement:
    """The figures of a pass."""
    layers = one.layers
    h = [layer.h.array if isinstance(layer.h, Tensor) else np.empty(0) for layer in layers]
    dh = [layer.dh if layer.dh is not None else np.empty(0) for layer in layers]
    dw = [np.concatenate([g.reshape(-1) for g in layer.dw if g is not None] or [np.empty(0)]) for layer in layers]
    of_input, of_first = _features(_input(one)), _features(_first(layers[0].given))

    def each(values: Any) -> Floats:
        return np.array(list(values), np.float64)

    with np.errstate(all="ignore"):
        return Measurement(
            [layer.name for layer in layers], layers[0].weights[0].dtype, one.loss, len(h[-1]) if h[-1].ndim else 0,
            each(rms(a) for a in h), each(rms(a) for a in dh), each(rms(a) * a.size**0.5 for a in dw),
            each(rms(np.concatenate([w.array.reshape(-1) for w in layer.weights])) for layer in layers),
            each(_saturated(layer) for layer in layers), each(_dead(layer) for layer in layers),
            each(_nonfinite(a) for a in h), each(_nonfinite(a) for a in dh), each(_nonfinite(a) for a in dw), *of_input, *of_first,
            np.array([len(layer.weights) for layer in layers], np.int64), one.unmeasured)


def _nonfinite(values: NDArray[Any]) -> int:
    return int(values.size - np.count_nonzero(np.isfinite(values)))


def _saturated(layer: Seen) -> float:
    at = layer.range
    if at is None or not math.isfinite(at.high - at.low) or at.off_at_zero:
        return math.nan
    margin, values = NEAR * (at.high - at.low), layer.activated.array
    return float(np.mean((values <= at.low + margin) | (values >= at.high - margin))) if values.size else math.nan


def _dead(layer: Seen) -> float:
    if layer.range is None or not layer.range.off_at_zero or not layer.activated.numel():
        return math.nan
    values = layer.activated.array
    return float(np.mean(np.all(values.reshape(-1, values.shape[-1]) == 0, axis=0)))


def _first(given: Any) -> NDArray[Any] | None:
    """What the first layer gets, if that is features."""
    values = as_tensor(given).detach().numpy() if given is not None else np.empty(0)
    return values if values.dtype.kind == "f" and values.ndim >= 2 and values.size else None


def _input(one: Pass) -> NDArray[Any] | None:
    """The input as it was given, in the first layer's shape where that gets just these values; what it gets, where that is made of integers."""
    first, given = _first(one.layers[0].given), floats(one.x)
    if not given:
        made = one.layers[0].given
        return None if isinstance(made, Tensor) and made.needs_grad else first
    same = first is not None and any(first.size == x.size and np.array_equal(first.reshape(-1), x.reshape(-1), equal_nan=True) for x in given)
    return first if same else given[0] if given[0].ndim >= 2 else given[0].reshape(-1, 1)


def _features(values: NDArray[Any] | None) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature."""
    if values is None:
        return np.empty(0), np.empty(0)
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    with np.errstate(all="ignore"):
        return rows.mean(axis=0), rows.std(axis=0)
