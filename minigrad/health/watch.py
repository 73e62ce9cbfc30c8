"""`watch`: a recording of what a net's layers send up and get back, taken inside the training step."""
from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import CaptureError
from minigrad.health.telemetry import FIGURES, Floats, Key, Layer, Telemetry
from minigrad.nn.module import Module
from minigrad.tape import hooks, live, observe
from minigrad.tape.handle import Handle
from minigrad.tape.mode import caller, is_grad_enabled, local
from minigrad.tape.observe import Observer
from minigrad.tape.tensor import Tensor
from minigrad_kernels.observe import WEIGHT

#: From where on an activation's value counts as saturated, by the op that made it: the last hundredth of its range, where its slope is
#: below a twenty-fifth of its largest. A ReLU has no such part: what is zero is counted anyway.
BOUNDS: Final = {"sigmoid": (0.01, 0.99), "tanh": (-0.98, 0.98)}
INPUT: Final = "input"


def layers_of(model: Module) -> dict[str, Module]:
    """The modules that hold a parameter of two or more dimensions themselves, by path; one that is shared under its first path."""
    return {path: module for path, module in model.named_modules()
            if any(len(p.spec.shape) > 1 for p in module.parameters(recurse=False))}


class Watch:
    """What `watch` returns: a recording that goes on, read as a `Telemetry`: `w["hidden"].grad.std`, `w.table()`, `w.plot()`, `w.steps`.

    `stop()`, or leaving a `with` block, ends it; what was recorded stays. Captured steps are recorded anew once, at both ends.
    """

    def __init__(self, model: Module, weights: bool, grads: bool, activations: bool, every: int) -> None:
        self.model = model
        self.every = every
        self._parameters = {path: p for path, p in model.named_parameters() if p.spec.is_float}
        self._layers = layers_of(model) if activations else {}
        # Of each layer what it gets, and behind them what the model gives: signals first, then their gradients.
        self._places = [*self._layers, ""]
        self._modules = [*self._layers.values(), model]
        count = len(self._places) if activations else 0
        self.observer = Observer(list(self._parameters.values()), 2 * count, every, grads, weights)
        self._order: list[int] = []  # of the places, as the model comes to them
        self._before = count - 1  # the place that it came to last: behind the model's end it begins anew
        self._latest: dict[int, object] = {}  # of each place, its last call in a step: only its gradient is taken
        self._read: tuple[int, Telemetry] | None = None
        self._hooks: list[Any] = []
        if activations:
            for i, module in enumerate(self._modules[:-1]):
                self._hooks.append(module.register_forward_pre_hook(_Passage(weakref.ref(self), i), with_kwargs=True))
            self._hooks.append(model.register_forward_hook(_Passage(weakref.ref(self), count - 1), with_kwargs=True))
        observe.active.append(self.observer)
        weakref.finalize(self, _end, self.observer, self._hooks).atexit = False
        live.changed()

    # ---- in the step
    def _signal(self, i: int, x: Any) -> None:
        """Take a signal on its way up, and its gradient when that comes back."""
        if not is_grad_enabled():
            return
        if i not in self._order:  # one that earlier steps left out stands where the model comes to it
            begins = self._before == len(self._places) - 1 or self._before not in self._order
            self._order.insert(0 if begins else self._order.index(self._before) + 1, i)
        self._before = i
        if (local.mode.listener is None and not self.observer.due) or not isinstance(x, Tensor | np.ndarray):
            return
        if not math.prod(x.shape) or x.dtype.kind != "f":
            return
        made = x.record if isinstance(x, Tensor) else None
        low, high = BOUNDS.get(made.op.name if made is not None else "", (-inf, inf))
        self.observer.signal(i, x, low, high)
        if isinstance(x, Tensor) and made is not None:
            call = self._latest[i] = object()
            hooks.register(x, hooks.Reader(partial(_returned, weakref.ref(self), i, call)))

    def _flow(self, i: int, call: object, g: Handle) -> None:
        if self._latest.get(i) is call:
            self.observer.signal(len(self._places) + i, g, flat=True)

    # ---- reading
    @property
    def telemetry(self) -> Telemetry:
        """What was recorded so far, as arrays."""
        if self._read is None or self._read[0] != len(self.observer):
            rows = self.observer.rows()
            self._read = len(rows), Telemetry(rows[:, 0].astype(np.int64), dict(self._figures(rows)))
        return self._read[1]

    def _figures(self, rows: Floats) -> Iterator[tuple[Key, Floats]]:
        observer = self.observer
        for i, (path, p) in enumerate(self._parameters.items()):
            group = rows[:, observer.of_parameter(i)]
            size = np.full(len(rows), p.spec.size)
            if observer.weights:
                moments = _moments(group[:, WEIGHT:], size)
                changed = np.sqrt(group[:, WEIGHT + 2])
                with np.errstate(divide="ignore", invalid="ignore"):
                    found = {"weight": moments, "update": {"l2": changed, "ratio": changed / moments["l2"]}}
            else:
                found = {}
            if observer.grads:
                found["grad"] = _moments(group, size) | _extremes(group, size)
            for kind in ("weight", "grad", "update"):
                for figure in FIGURES[kind] if kind in found else ():
                    yield Key(path, kind, figure), found[kind][figure]
        first = INPUT if INPUT not in self._layers else f"({INPUT})"
        names = [first, *[self._places[i] for i in self._order]][:len(self._order)]
        for name, i in zip(names, self._order, strict=True):
            for kind, at in (("signal", i), ("flow", len(self._places) + i)):
                group = rows[:, observer.of_signal(at)]
                if kind == "flow" and np.isnan(group[:, 7]).all():
                    continue  # nothing comes back to the input
                of = _moments(group, group[:, 7]) | _extremes(group, group[:, 7]) | {"saturated": group[:, 5] / group[:, 7], "dead": group[:, 6]}
                for figure in FIGURES[kind]:
                    yield Key(name, kind, figure), of[figure]

    @property
    def steps(self) -> NDArray[np.int64]:
        """The numbers of the recorded steps: `optimizer.step()` counted from 0, refused ones left out."""
        return self.telemetry.steps

    def __len__(self) -> int:
        return len(self.observer)

    def __getitem__(self, name: str) -> Layer:
        return self.telemetry[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("observer", "model", "every"):
            raise AttributeError(name)
        return getattr(self.telemetry, name)

    def __repr__(self) -> str:
        return repr(self.telemetry).replace("Telemetry", "Watch", 1)

    def _repr_html_(self) -> str:
        return self.telemetry._repr_html_()

    # ---- the end
    def clear(self) -> None:
        """Forget what was recorded so far; the recording goes on."""
        self.observer.clear()
        self._read = None

    def stop(self) -> None:
        """End the recording; does nothing the second time."""
        if self.observer in observe.active:
            if local.mode.listener is not None:
                raise CaptureError(f"a watch is stopped at {caller()} inside a captured step, which a replay would not do again: stop it outside")
            _end(self.observer, self._hooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _moments(group: Floats, size: Floats | NDArray[np.int64]) -> dict[str, Floats]:
    """Mean, standard deviation, root of the mean square and 2-norm from sums and sums of squares."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean, square = group[:, 0] / size, group[:, 1] / size
        return {"mean": mean, "std": np.sqrt(np.maximum(square - mean**2, 0.0)), "rms": np.sqrt(square), "l2": np.sqrt(group[:, 1])}


def _extremes(group: Floats, size: Floats | NDArray[np.int64]) -> dict[str, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"max": group[:, 2], "zeros": group[:, 3] / size, "nonfinite": group[:, 4]}


class _Passage:
    """The hook at a place: its signal is the first of the inputs, or what the model gives.

    It knows the watch weakly, so that dropping it ends it. A copy of a watched module, or one that is loaded, is not watched.
    """

    def __init__(self, watch: weakref.ref[Watch] | None, i: int) -> None:
        self._watch, self._i = watch, i

    def __call__(self, module: Module, inputs: tuple[Any, ...], options: dict[str, Any], *out: Any) -> None:
        alive = self._watch() if self._watch is not None else None
        if alive is not None and module is alive._modules[self._i]:
            alive._signal(self._i, next(iter((*out, *inputs, *options.values())), None))

    def __reduce__(self) -> Any:
        return _Passage, (None, self._i)


def _returned(watch: weakref.ref[Watch], i: int, call: object, g: Handle) -> None:
    alive = watch()
    if alive is not None:
        alive._flow(i, call, g)


def _end(observer: Observer, hooks_: list[Any]) -> None:
    """Let steps be as before."""
    if observer in observe.active:
        observe.active.remove(observer)
        for hook in hooks_:
            hook.remove()
        live.changed()


def watch(model: Module, weights: bool = True, grads: bool = True, activations: bool = True, every: int = 1) -> Watch:
    """Record, inside every k-th step, how the gradients, weights, updates and signals of `model` are; on any loop, eager or captured.

    A step is an `optimizer.step()` that moves one of the model's parameters. Of each parameter: mean, deviation, 2-norm, largest size, share
    of zeros and count of not finite elements of the gradient, as backward left it, before clipping; mean, deviation and 2-norm of the new
    weight; 2-norm of its change, and that over the weight's. Of each layer, that is each module with a parameter of two or more dimensions:
    the same of h, what the next layer gets, and of dL/dh, with the shares of saturated elements and of dead units, which are 0 in the whole
    batch. Sums are float64. Of a layer that is called several times in a step the last call counts. An optimiser, or a clipping, that goes
    over the parameters of two watched models raises ValueError.

    every: the k. Raises ValueError for a model that is watched already, or has no parameters; CaptureError inside a captured step.
    """
    if not isinstance(model, Module):
        raise TypeError(f"watch takes a Module, got a {type(model).__name__}")
    if not isinstance(every, int | np.integer) or every < 1:
        raise ValueError(f"watch: every is {every!r}, expected a whole number from 1 on")
    if local.mode.listener is not None:
        raise CaptureError(f"watch was called at {caller()} inside a captured step, which a replay would not do again: call it before")
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError(f"watch: the {type(model).__name__} has no parameters")
    if observe.those_of(parameters):
        raise ValueError("watch: the model, or a part of it, is watched already: stop() the first recording")
    return Watch(model, weights, grads, activations, int(every))
