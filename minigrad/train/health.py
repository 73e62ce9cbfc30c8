"""Callbacks that record weights, gradients and signals while `fit` trains: `mg.watch`, and the change of weights step by step."""
from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any, ClassVar, Final

import numpy as np

from minigrad.health.telemetry import Key, Telemetry
from minigrad.health.watch import Watch, watch
from minigrad.nn.module import Module
from minigrad.train.callbacks import Callback, Logs

MEAN_ABS: Final = "mean_abs"


class _Shared:
    """The one recording of a training: of everything that its callbacks asked for before it began, at the steps of all of them."""

    of: ClassVar[weakref.WeakKeyDictionary[Any, _Shared]] = weakref.WeakKeyDictionary()  # by trainer

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.every = 0  # the largest number that all of theirs are multiples of
        self.watch: Watch | None = None

    @classmethod
    def join(cls, trainer: Any, every: int, *asked: str) -> _Shared:
        """Say what is to be recorded."""
        shared = cls.of.setdefault(trainer, cls())
        shared.asked |= set(asked)
        shared.every = gcd(shared.every, every)
        return shared

    def begin(self, model: Module) -> None:
        """Start, unless another callback has."""
        if self.watch is None and self.asked:
            self.watch = watch(model, **{name: name in self.asked for name in ("weights", "grads", "activations")}, every=self.every)

    def end(self, trainer: Any) -> None:
        """Stop; the History gets what was recorded."""
        self.of.pop(trainer, None)
        if self.watch is not None:
            self.watch.stop()
            _keep(trainer.history, self.watch.telemetry)


class _Recorder(Callback):
    """A callback that has `mg.watch` record one kind of figures at every k-th step."""

    asks: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, every: int = 1) -> None:
        self.every = _whole(type(self).__name__, every)
        self._shared: _Shared | None = None

    @property
    def telemetry(self) -> Telemetry | None:
        """What was recorded so far, or in the last training; None before the first."""
        if self._shared is None or self._shared.watch is None:
            return None
        found = self._shared.watch.telemetry
        return _part(found, self.every, {key: values for key, values in found.figures.items() if key.kind in self.kinds})

    def on_train_begin(self) -> None:
        """Say what is to be recorded."""
        self._shared = _Shared.join(self.trainer, self.every, self.asks)

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Begin to record, before the first step."""
        assert self._shared is not None
        self._shared.begin(self.model)

    def on_train_end(self) -> None:
        """End the recording; the History gets what was recorded."""
        assert self._shared is not None
        self._shared.end(self.trainer)


class GradientStats(_Recorder):
    """Records each parameter's gradient at every k-th step: mean, deviation, 2-norm, largest size, zeros, and what is not finite.

    `telemetry`, and the History's, hold them behind the training. Epochs go on running natively.
    """

    asks, kinds = "grads", ("grad",)


class WeightStats(_Recorder):
    """Records each parameter at every k-th step, mean, deviation and 2-norm, and its update: 2-norm, and that over the parameter's.

    `telemetry`, and the History's, hold them behind the training. Epochs go on running natively.
    """

    asks, kinds = "weights", ("weight", "update")


class ActivationStats(_Recorder):
    """Records each layer's signal h and the gradient dL/dh that comes back to it at every k-th step.

    `telemetry`, and the History's, hold them behind the training. Epochs go on running natively.
    """

    asks, kinds = "activations", ("signal", "flow")


class WeightDelta(Callback):
    """Records mean |W_t - W_(t-1)| of each layer's weights at every k-th step, as `telemetry["hidden"].update.mean_abs`.

    A layer's weights are its parameters of two or more dimensions. They are compared in Python, so steps run one call at a time;
    `WeightStats` records the 2-norm of the change without that.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = _whole("WeightDelta", every)
        self._shared: _Shared | None = None
        self._before: dict[str, Any] = {}
        self._step = 0
        self._steps: list[int] = []
        self._means: dict[str, list[float]] = {}

    @property
    def telemetry(self) -> Telemetry:
        """What was recorded so far, or in the last training."""
        found = self._all()
        return _part(found, self.every, found.figures)

    def on_train_begin(self) -> None:
        """Forget the last training."""
        self._shared = _Shared.join(self.trainer, self.every)
        self._step, self._steps = 0, []
        self._before = {name: np.empty_like(p.detach().numpy()) for name, p in self.model.named_parameters() if p.ndim > 1}
        self._means = {name: [] for name in self._before}

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Keep the weights before the step."""
        if self._due():
            for name, before in self._before.items():
                before[...] = self.model.get_parameter(name).detach().numpy()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Compare them."""
        if self._due():
            self._steps.append(self._step)
            for name, before in self._before.items():
                change = np.abs(self.model.get_parameter(name).detach().numpy() - before)
                self._means[name].append(float(change.mean(dtype=np.float64)))
        self._step += 1

    def on_train_end(self) -> None:
        """The History gets what was recorded."""
        assert self._shared is not None
        self._shared.end(self.trainer)
        self._before = {}
        _keep(self.trainer.history, self._all())

    def _due(self) -> bool:
        return self._shared is not None and self._step % self._shared.every == 0

    def _all(self) -> Telemetry:
        """At the steps of all callbacks of the training."""
        return Telemetry(np.array(self._steps, np.int64),
                         {Key(name, "update", MEAN_ABS): np.array(means, np.float64) for name, means in self._means.items()})


def merged(parts: Sequence[Telemetry]) -> Telemetry:
    """One Telemetry of all steps of several; where one of them has nothing, its figures are NaN. Of equal figures the last counts."""
    steps = np.unique(np.concatenate([part.steps for part in parts]))
    figures = {}
    for part in parts:
        rows = np.searchsorted(steps, part.steps)
        for key, values in part.figures.items():
            figures[key] = np.full(len(steps), np.nan)
            figures[key][rows] = values
    return Telemetry(steps, figures)


def _keep(history: Any, found: Telemetry) -> None:
    history.telemetry = found if history.telemetry is None else merged([history.telemetry, found])


def _part(found: Telemetry, every: int, figures: Mapping[Key, Any]) -> Telemetry:
    """These figures, at every k-th step."""
    rows = found.steps % every == 0
    return Telemetry(found.steps[rows], {key: values[rows] for key, values in figures.items()})


def _whole(who: str, every: int) -> int:
    """Raises ValueError unless it is a number of steps."""
    if not isinstance(every, int | np.integer) or every < 1:
        raise ValueError(f"{who}: every is {every!r}, expected a whole number from 1 on")
    return int(every)
