"""fit, evaluate, predict: the loop around a captured step."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.data.batches import index_batches
from minigrad.nn.module import Module
from minigrad.nn.utils import clip_grad_norm_
from minigrad.optim.optimizer import Optimizer
from minigrad.program.step import capture as record
from minigrad.tape.mode import no_grad
from minigrad.tape.tensor import Tensor
from minigrad.train.callbacks import Callback
from minigrad.train.history import History
from minigrad.train.metrics import Means, Metric, named
from minigrad.train.progress import progress

Array = NDArray[Any]
Step = Callable[[Any, Any], tuple[Tensor, Tensor]]
PIECES = 20  # in which an epoch is replayed, so that a bar moves


class Trainer:
    """Trains `model` to lower `loss(model(x), y)` with `optimizer`; with `clip_norm`, gradients are clipped to that global norm first.

    metrics: "accuracy", or functions `(y_true, y_pred) -> float` of arrays. `fit` captures the training step unless `capture` is False:
    the numbers are the same, bit for bit.
    """

    def __init__(self, model: Module, loss: Callable[[Any, Any], Tensor], optimizer: Optimizer, metrics: Iterable[str | Metric] = ("accuracy",),
                 clip_norm: float | None = None, capture: bool = True) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.metrics = named(metrics)
        self._step = training_step(model, loss, optimizer, clip_norm)
        self._captured = record(self._step) if capture else None

    def fit(self, x: Any, y: Any, batch_size: int = 32, epochs: int = 10, validation_data: tuple[Any, Any] | None = None, verbose: bool = True,
            shuffle: bool = True, callbacks: Sequence[Callback] = ()) -> History:
        """Train for `epochs` passes over all rows of x and y, the last short batch included; returns the figures of each epoch.

        shuffle: take the rows in a new order each epoch, which follows from `mg.manual_seed`.
        """
        x, y = rows(x, y)
        history, shown = History(), progress(verbose, epochs)
        listeners = [history, *callbacks]
        for listener in listeners:
            listener.on_train_begin()
        for epoch in range(epochs):
            self.model.train()
            table, rest = index_batches(len(x), batch_size, config.generator() if shuffle else None)
            shown.begin(epoch, len(table) + (len(rest) > 0))
            means = Means(self.metrics)
            for steps in self._epoch(x, y, table, rest, means):
                shown.advance(steps)
            logs = means.logs()
            if validation_data is not None:
                logs |= {f"val_{name}": value for name, value in self.evaluate(*validation_data).items()}
            shown.end(logs)
            for listener in listeners:
                listener.on_epoch_end(epoch, logs)
        return history

    def evaluate(self, x: Any, y: Any, batch_size: int = 256) -> dict[str, float]:
        """The mean loss and metrics over all rows, without training."""
        x, y = rows(x, y)
        means = Means(self.metrics)
        with inference(self.model):
            for part in slices(len(x), batch_size):
                outputs = self.model(x[part])
                means.add(self.loss(outputs, y[part]).item(), y[part], outputs.numpy())
        return means.logs()

    def predict(self, x: Any, batch_size: int = 256) -> Array:
        """The model's outputs for all rows."""
        values = array(x)
        with inference(self.model):
            return np.concatenate([self.model(values[part]).numpy() for part in slices(len(values), batch_size)])

    def _epoch(self, x: Array, y: Array, table: NDArray[np.int64], rest: NDArray[np.int64], means: Means) -> Iterator[int]:
        """Train on every batch; yields how many steps were just done."""
        single: Step = self._step if self._captured is None else self._captured
        if self._captured is not None:
            for piece in np.array_split(table, min(PIECES, len(table))) if len(table) else []:
                losses, outputs = self._captured.scan(x, y, index=piece)
                for indices, loss, output in zip(piece, losses.numpy(), outputs.numpy(), strict=True):
                    means.add(float(loss), y[indices], output)
                yield len(piece)
            table = table[:0]
        for indices in [*table, rest] if len(rest) else table:
            loss, output = single(x[indices], y[indices])
            means.add(loss.item(), y[indices], output.detach().numpy())
            yield 1


def training_step(model: Module, loss: Callable[[Any, Any], Tensor], optimizer: Optimizer, clip_norm: float | None) -> Step:
    """One step on a batch, as a function that can be captured; gives the loss and the outputs before the update."""

    def step(x: Any, y: Any) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        outputs = model(x)
        value = loss(outputs, y)
        value.backward()
        if clip_norm is not None:
            clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        return value, outputs

    return step


@contextmanager
def inference(model: Module) -> Iterator[None]:
    """The model in eval mode and off the tape."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)


def slices(count: int, size: int) -> list[slice]:
    """The rows 0 to count - 1 in pieces of `size`; one empty piece if there are none."""
    return [slice(begin, begin + size) for begin in range(0, max(count, 1), size)]


def array(values: Any) -> Array:
    """Values as a NumPy array: from an array, a Tensor or nested lists."""
    return values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)


def rows(x: Any, y: Any) -> tuple[Array, Array]:
    """Both as arrays with the same number of rows."""
    xs, ys = array(x), array(y)
    if len(xs) != len(ys) or len(xs) == 0:
        raise ValueError(f"x has {len(xs)} rows and y has {len(ys)}: expected the same number, and at least one")
    return xs, ys
