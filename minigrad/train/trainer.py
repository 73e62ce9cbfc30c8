"""fit, evaluate, predict: the loop around a captured step."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import DataError, NonFiniteError
from minigrad.nn.module import Module
from minigrad.nn.utils import clip_grad_norm_
from minigrad.optim.lr_scheduler import LRScheduler
from minigrad.optim.optimizer import Optimizer
from minigrad.tape.tensor import Tensor
from minigrad.train.callbacks import Callback, Logs, has_batch_hook
from minigrad.train.feed import Feed, Rows, feed, held_out, input_feed, is_source
from minigrad.train.history import History
from minigrad.train.interrupt import Interrupt
from minigrad.train.metrics import Means, Metric, default_metrics, name_of, named
from minigrad.train.passes import Pass, inference, values
from minigrad.train.progress import Quiet, Verbosity, progress

Array = NDArray[Any]
Loss = Callable[[Any, Any], Tensor]
TRAINING_ROWS: Final = 32  # of a batch, unless said
INFERENCE_ROWS: Final = 256


class Trainer:
    """Trains `model` to lower `loss(model(x), y)` with `optimizer`; with `clip_norm`, gradients are clipped to that global norm first.

    metrics: "accuracy", "mse", "mae", "top_5" and so on, or functions `(y_true, y_pred) -> float` of a batch's arrays, whose means over rows
    are reported beside the loss. Default: accuracy where the loss is one of classes, else none.
    scheduler: of the learning rate; its `step()` is called behind each epoch, or each step with scheduler_interval="step", natively if it is
    one of `optim.lr_scheduler`; one that waits for a plateau is told val_loss, or else loss.
    nonfinite: what becomes of a step whose gradients are not finite: set as the optimizer's `nonfinite`, which is "raise" unless told.
    Steps, and inference, are captured unless `capture` is False: the numbers are the same, bit for bit. `history` is that of the last `fit`;
    setting `stop_training` ends one.
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, metrics: Iterable[str | Metric] | None = None,
                 clip_norm: float | None = None, capture: bool = True, scheduler: Any = None,
                 scheduler_interval: Literal["epoch", "step"] = "epoch", nonfinite: Literal["raise", "skip", "ignore"] | None = None) -> None:
        if scheduler_interval not in ("epoch", "step"):
            raise ValueError(f"Trainer: scheduler_interval is {scheduler_interval!r}, expected 'epoch' or 'step'")
        if scheduler is not None and not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"Trainer: scheduler is a {type(scheduler).__name__}, expected something with a step method")
        if scheduler_interval == "step" and waits(scheduler):
            raise ValueError(f"Trainer: {type(scheduler).__name__} waits for an epoch's figures: leave out scheduler_interval='step'")
        if not callable(loss):
            raise TypeError(f"Trainer: loss is a {type(loss).__name__}, expected a function or module of (outputs, targets), e.g. F.mse_loss")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer: optimizer is a {type(optimizer).__name__}, expected one of minigrad.optim over model.parameters()")
        own = {id(p) for p in model.parameters()}
        if own and not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("Trainer: the optimizer updates none of the model's parameters: make it from this model's parameters()")
        if nonfinite is not None:
            optimizer.nonfinite = nonfinite
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.scheduler, self.scheduler_interval = scheduler, scheduler_interval
        self.metrics = named(default_metrics(loss) if metrics is None else metrics, loss)
        self.history = History()
        self.stop_training = False
        self._shown = Quiet()
        self.reported: list[str] = []  # names of the figures of an epoch in this training
        within = scheduler if scheduler_interval == "step" and isinstance(scheduler, LRScheduler) else None
        self._outside = scheduler if scheduler_interval == "step" and within is None else None  # it is stepped from Python, step by step
        self._train = Pass(training_step(model, loss, optimizer, clip_norm, within), capture)
        self._judge = Pass(judging_step(model, loss), capture)
        self._infer = Pass(inference_step(model), capture)

    def fit(self, x: Any, y: Any = None, batch_size: int | None = None, epochs: int = 1, *, validation_data: Any = None,
            validation_split: float = 0.0, callbacks: Callback | Sequence[Callback] | None = None, verbose: Verbosity = "auto",
            shuffle: bool = True, initial_epoch: int = 0) -> History:
        """Train for epochs `initial_epoch` to `epochs` - 1, each a pass over all rows, the last short batch included; returns their figures.

        Args:
            x: an array, Tensor or list of rows, or a tuple of arrays for a model of several inputs, and `y` the answers; or, without y,
                a DataLoader, a Dataset of (x, y), or any iterable of batches (x, y).
            y: the answers, as many rows as x.
            batch_size: rows of a step, 32 unless given; a DataLoader and an iterable bring their own.
            epochs: where to end, counted from 0.
            validation_data: (x, y), or what x may be without y; its loss and metrics are reported as val_loss and so on.
            validation_split: the share of rows, taken from the end of x and y, that is validated with instead.
            callbacks: called on the way, in this order; the History that is returned comes last.
            verbose: 0 nothing; 1 a bar on a terminal where tqdm is installed, else a line an epoch; 2 a line; "auto": 1, but at most 100 lines.
            shuffle: take rows in a new order each epoch, which follows from `mg.manual_seed`.
            initial_epoch: what the first epoch is called.

        Raises ShapeError, DtypeError or DataError before anything has changed if the data cannot be trained on. The first Ctrl-C ends the
        training behind a step: callbacks hear of its end, KeyboardInterrupt is raised, `history` has the epochs that were done.
        """
        if validation_split:
            if validation_data is not None:
                raise ValueError("fit: give validation_data or validation_split, not both")
            x, y, validation_data = held_out(x, y, validation_split)
        batches = feed("fit", x, y, batch_size, shuffle, TRAINING_ROWS)
        validation = None if validation_data is None else self._validation(validation_data)
        listeners: list[Callback] = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for listener in listeners:
            if not isinstance(listener, Callback):
                raise TypeError(f"fit: {listener!r} is no Callback: pass an object of a class that derives from it, not the class")
        self._shown = shown = progress(verbose, epochs)
        self.history = History()
        listeners.append(self.history)
        self.stop_training = False
        self.reported = [prefix + name for prefix in (("", "val_") if validation else ("",)) for name in ("loss", *self.metrics)]
        begun: list[Callback] = []
        with Interrupt() as interrupt:
            try:
                for listener in listeners:
                    listener.set_trainer(self)
                    listener.on_train_begin()
                    begun.append(listener)
                self.model.train()
                for epoch in range(initial_epoch, epochs):
                    self._epoch(epoch, batches, validation, listeners, shown, interrupt)
                    if self.stop_training:
                        break
            except Exception as error:
                answers = [listener.on_train_error(error) for listener in begun]
                if not any(answers):
                    raise
            finally:
                shown.close()
                for listener in begun:
                    listener.on_train_end()
        return self.history

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None) -> Logs:
        """The mean loss and metrics over all rows, without training. Takes what `fit` takes; batches have 256 rows unless given."""
        batches = feed("evaluate", x, y, batch_size, False, INFERENCE_ROWS)
        with Interrupt() as interrupt:
            return self._evaluate(batches, interrupt)

    def predict(self, x: Any, batch_size: int | None = None) -> Array:
        """The model's outputs for all rows of x: an array, a tuple of arrays, or what gives batches, whose answers are left out."""
        batches = input_feed("predict", x, batch_size, INFERENCE_ROWS)
        with Interrupt() as interrupt, inference(self.model):
            outputs = []
            for part in self._infer.parts(batches):
                interrupt.check()
                found = part.results[0]
                outputs.append(found.reshape(-1, *found.shape[2:]))
            if not outputs:
                if not isinstance(batches, Rows):
                    raise DataError("predict: there were no batches")
                return values(self._infer.function(*batches.columns)[0])
            return np.concatenate(outputs)

    def tell(self, words: str) -> None:
        """Print a line, for a callback, where `fit` shows its progress; nothing with verbose=0."""
        self._shown.tell(words)

    def __repr__(self) -> str:
        return f"Trainer({type(self.model).__name__}, {name_of(self.loss)}, {type(self.optimizer).__name__}, metrics={list(self.metrics)})"

    def _validation(self, data: Any) -> Feed:
        """The batches of validation_data."""
        pair = isinstance(data, tuple | list) and len(data) == 2 and not is_source(data, lists=True)
        x, y = data if pair else (data, None)
        return feed("fit: validation_data", x, y, None, False, INFERENCE_ROWS)

    def _epoch(self, epoch: int, batches: Feed, validation: Feed | None, listeners: list[Callback], shown: Quiet, interrupt: Interrupt) -> None:
        """Train on every batch, validate, and tell everyone."""
        for listener in listeners:
            listener.on_epoch_begin(epoch, {})
        shown.begin(epoch, batches.steps)
        means = Means(self.metrics)
        hooked = [listener for listener in listeners if has_batch_hook(listener)]
        done = 0
        try:
            for steps in self._single_steps(batches, means, hooked) if hooked or self._outside is not None else self._steps(batches, means):
                done += steps
                shown.advance(steps)
                interrupt.check()
                if self.stop_training:
                    break
        except NonFiniteError as error:
            error.add_note(f"It was epoch {epoch}, batch {done + (error.step or 0)} of fit, both counted from 0.")
            raise
        if means.empty:
            raise DataError(f"fit: there were no batches in epoch {epoch}: an iterator gives its batches once only, pass a DataLoader or a list")
        logs = means.logs()
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in self._evaluate(validation, interrupt).items()}
        if self.scheduler is not None and self.scheduler_interval == "epoch":
            self.scheduler.step(*([logs.get("val_loss", logs["loss"])] if waits(self.scheduler) else []))
        shown.end(logs)
        for listener in listeners:
            listener.on_epoch_end(epoch, logs)
        interrupt.check()

    def _steps(self, batches: Feed, means: Means) -> Iterator[int]:
        """Train on every batch; yields how many steps were just done."""
        for part in self._train.parts(batches):
            losses, outputs = part.results
            means.add_many(losses, part.answers, outputs)
            yield part.steps

    def _single_steps(self, batches: Feed, means: Means, hooked: list[Callback]) -> Iterator[int]:
        """As `_steps`, with someone to call before and after each."""
        for batch, columns in enumerate(batches.batches()):
            for listener in hooked:
                listener.on_train_batch_begin(batch, {} if means.empty else means.logs())
            part = self._train.one(columns)
            means.add_many(part.results[0], part.answers, part.results[1])
            if self._outside is not None:
                self._outside.step()
            for listener in hooked:
                listener.on_train_batch_end(batch, means.logs())
            yield 1

    def _evaluate(self, batches: Feed, interrupt: Interrupt) -> Logs:
        means = Means(self.metrics)
        with inference(self.model):
            for part in self._judge.parts(batches):
                interrupt.check()
                losses, outputs = part.results
                means.add_many(losses, part.answers, outputs)
        if means.empty:
            raise DataError("evaluate: there were no batches: an iterator gives its batches once only, pass a DataLoader or a list")
        return means.logs()


def training_step(model: Module, loss: Loss, optimizer: Optimizer, clip_norm: float | None,
                  scheduler: LRScheduler | None) -> Callable[..., tuple[Tensor, ...]]:
    """One step on a batch of inputs and answers, as a function that can be captured; gives the loss and the outputs before the update."""

    def step(*columns: Any) -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        outputs = single(model(*columns[:-1]))
        value = loss(outputs, columns[-1])
        value.backward()
        if clip_norm is not None:
            clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return value, outputs

    return step


def judging_step(model: Module, loss: Loss) -> Callable[..., tuple[Tensor, ...]]:
    """The loss and outputs of a batch."""

    def judge(*columns: Any) -> tuple[Tensor, ...]:
        outputs = single(model(*columns[:-1]))
        return loss(outputs, columns[-1]), outputs

    return judge


def inference_step(model: Module) -> Callable[..., tuple[Tensor, ...]]:
    """The outputs of a batch without answers."""

    def infer(*inputs: Any) -> tuple[Tensor, ...]:
        return (single(model(*inputs)),)

    return infer


def single(outputs: Any) -> Tensor:
    """Raises TypeError unless the model gave one Tensor."""
    if not isinstance(outputs, Tensor):
        raise TypeError(f"Trainer: the model returned a {type(outputs).__name__}, expected one Tensor: give forward one output")
    return outputs


def waits(scheduler: Any) -> bool:
    """Whether its step is to be told a figure, as that of one that waits for a plateau is."""
    return scheduler is not None and "metrics" in inspect.signature(scheduler.step).parameters
