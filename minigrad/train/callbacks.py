"""What a training loop calls on its way, in Keras's words."""
from __future__ import annotations

import csv
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np

from minigrad.errors import NonFiniteError
from minigrad.nn.module import Module

if TYPE_CHECKING:
    from minigrad.train.trainer import Trainer

Logs = dict[str, float]
BATCH_HOOKS: Final = ("on_train_batch_begin", "on_train_batch_end")
HOOKS: Final = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", *BATCH_HOOKS)


class Callback:
    """Base of all callbacks: override what you need; `self.trainer` and `self.model` are there from the start of `fit`.

    `logs` holds means, such as loss, accuracy and val_loss: of the epoch so far in batch hooks, of the whole epoch at its end. Epochs and
    batches count from 0. Setting `self.trainer.stop_training = True` ends the training behind the batch or epoch. A callback with a batch
    hook has the steps run one call at a time; without one, epochs run natively. To keep a layer's weights as they were after each step:

        class WeightCapture(Callback):
            def __init__(self, *layers):
                self.kept = {layer: [] for layer in layers}

            def on_train_batch_end(self, batch, logs):
                for layer, values in self.kept.items():
                    values.append(getattr(self.model, layer).weight.detach().numpy().copy())

        model = nn.Sequential(OrderedDict(hidden=nn.Linear(2, 8), act=nn.Tanh(), out=nn.Linear(8, 1)))
        capture = WeightCapture("hidden", "out")
    """

    trainer: Trainer
    model: Module

    def set_trainer(self, trainer: Trainer) -> None:
        """Called first: whose training this is."""
        self.trainer = trainer
        self.model = trainer.model

    def on_train_begin(self) -> None:
        """Before the first step."""

    def on_train_end(self) -> None:
        """After the last step, also where a callback or Ctrl-C ended the training."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before each epoch; `logs` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After each epoch and its validation. What is added to `logs` is seen by the callbacks behind and by the History."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before each step."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After each step."""

    def on_train_error(self, error: Exception) -> bool:
        """A step raised; True ends the training here, as if asked to, instead of raising."""
        return False


def has_batch_hook(callback: Callback) -> bool:
    """Whether it wants to be called for every batch."""
    return any(getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name) for name in BATCH_HOOKS)


class LambdaCallback(Callback):
    """A callback of functions: each keyword is a method of `Callback`, such as `on_epoch_end=lambda epoch, logs: print(logs)`."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            if name not in HOOKS:
                raise TypeError(f"LambdaCallback has no {name!r}: it takes {', '.join(HOOKS)}")
            setattr(self, name, function)


class CSVLogger(Callback):
    """Writes one line of figures an epoch, the names in the first, each line whole on the disk before the next epoch begins.

    append: go on behind what is in the file, which then has its names already.
    """

    def __init__(self, path: str | Path, separator: str = ",", append: bool = False) -> None:
        self.path, self.separator, self.append = Path(path), separator, append
        self._file: TextIO | None = None
        self._names: list[str] = []

    def on_train_begin(self) -> None:
        """Open the file."""
        self._names = []
        if self.append and self.path.exists():
            with self.path.open(newline="") as file:
                self._names = next(csv.reader(file, delimiter=self.separator), [])
        self._file = self.path.open("a" if self._names else "w", newline="")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write the line."""
        assert self._file is not None
        writer = csv.writer(self._file, delimiter=self.separator, lineterminator="\n")
        if not self._names:
            self._names = ["epoch", *logs]
            writer.writerow(self._names)
        row: dict[str, Any] = {"epoch": epoch, **logs}
        writer.writerow([row.get(name, "") for name in self._names])
        self._file.flush()

    def on_train_end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TerminateOnNaN(Callback):
    """Ends the training where a step is refused because its gradients are not finite, or an epoch's figure is not, instead of raising.

    The model is as it was before that step. `error` says what happened, and its notes in which epoch and batch; None if nothing did. A line
    where `fit` shows its progress says so, too.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def on_train_begin(self) -> None:
        """Forget the last training's end."""
        self.error = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Look at the figures."""
        broken = [name for name, value in logs.items() if not np.isfinite(value)]
        if broken:
            self.error = NonFiniteError(f"{broken[0]} of epoch {epoch} is {logs[broken[0]]}")
            self.trainer.stop_training = True
            self.trainer.tell(f"TerminateOnNaN ended the training: {self.error}")

    def on_train_error(self, error: Exception) -> bool:
        """Take a refused step for the end."""
        if isinstance(error, NonFiniteError):
            self.error = error
            self.trainer.tell(" ".join(["TerminateOnNaN ended the training.", *getattr(error, "__notes__", ()), f"Error: {error}"]))
        return self.error is error


class LearningRateScheduler(Callback):
    """Sets every group's learning rate to schedule(epoch, lr) before each epoch, lr being the first group's; or to schedule(epoch)."""

    def __init__(self, schedule: Callable[..., float]) -> None:
        self.schedule = schedule
        self._with_rate = len(inspect.signature(schedule).parameters) > 1

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Set the rate."""
        groups = self.trainer.optimizer.param_groups
        rate = self.schedule(epoch, groups[0]["lr"]) if self._with_rate else self.schedule(epoch)
        for group in groups:
            group["lr"] = float(rate)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Log the rate."""
        logs["learning_rate"] = float(self.trainer.optimizer.param_groups[0]["lr"])
