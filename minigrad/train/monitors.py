"""Callbacks that watch one figure for improvement."""
from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from minigrad.io import save
from minigrad.train.callbacks import Callback, Logs

MODES: Final = ("auto", "min", "max")
GROWING: Final = ("acc", "top_", "auc", "precision", "recall", "f1", "r2")


class Monitor(Callback):
    """Base of callbacks that watch `monitor`: whether it is better than the best so far by more than `min_delta`.

    mode: "min" if lower is better, "max" if higher is; "auto" takes max for names such as accuracy and top_5.
    """

    def __init__(self, monitor: str, min_delta: float, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"{type(self).__name__}: mode is {mode!r}, expected one of {', '.join(MODES)}")
        self.monitor, self.min_delta = monitor, abs(min_delta)
        self.higher = mode == "max" or (mode == "auto" and any(part in monitor for part in GROWING))
        self.best = math.nan

    def on_train_begin(self) -> None:
        """Refuse a figure that this training cannot report; forget the best of the one before."""
        own = self.monitor.removeprefix("val_")
        if self.monitor.startswith("val_") and self.monitor not in self.trainer.reported and own in self.trainer.reported:
            raise ValueError(f"{type(self).__name__} monitors {self.monitor!r}: give fit validation_data, or monitor {own!r}")
        self.best = -math.inf if self.higher else math.inf

    def figure(self, logs: Logs) -> float:
        """The watched one. Raises ValueError if it is not there."""
        if self.monitor not in logs:
            raise ValueError(f"{type(self).__name__} monitors {self.monitor!r}, which is not reported: there is {', '.join(logs)}")
        return float(logs[self.monitor])

    def better(self, value: float) -> bool:
        """Whether the figure improves on the best, which it then is; NaN never does."""
        improved = value - self.min_delta > self.best if self.higher else value + self.min_delta < self.best
        if improved:
            self.best = value
        return improved


class EarlyStopping(Monitor):
    """Ends the training when `monitor` has not improved by more than `min_delta` for `patience` epochs, at the first such one if that is 0.

    restore_best_weights: leave the model with the state of its best epoch. `stopped_epoch` is None unless it ended the training.
    """

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, mode: str = "auto",
                 restore_best_weights: bool = False) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience, self.restore_best_weights = patience, restore_best_weights
        self.stopped_epoch: int | None = None
        self.best_epoch: int | None = None
        self._waited = 0
        self._state: dict[str, Any] | None = None

    def on_train_begin(self) -> None:
        """Start counting anew."""
        super().on_train_begin()
        self.stopped_epoch, self.best_epoch, self._waited, self._state = None, None, 0, None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Count the epochs without improvement."""
        if self.better(self.figure(logs)):
            self._waited, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                self._state = {name: np.array(values) for name, values in self.model.state_dict().items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self) -> None:
        """Go back to the best epoch if asked to."""
        if self._state is not None:
            self.model.load_state_dict(self._state)
            self._state = None


class ModelCheckpoint(Monitor):
    """Saves the model's state after each epoch, or, with `save_best_only`, after those that improve `monitor`.

    path: may have fields as in "net-{epoch:03d}-{val_loss:.3f}.safetensors"; epoch counts from 1 here, as Keras's does. Folders are made, and
    `mg.save` writes the file; `model.load_state_dict(mg.load(path))` reads it back. `last` is the path written last.
    """

    def __init__(self, path: str | Path, monitor: str = "val_loss", mode: str = "auto", save_best_only: bool = False) -> None:
        super().__init__(monitor, 0.0, mode)
        self.path, self.save_best_only = str(path), save_best_only
        self.last: Path | None = None

    def on_train_begin(self) -> None:
        """Refuse a figure that this training cannot report, if one is needed, and a format whose package is not there."""
        if not self.path.endswith(".npz") and find_spec("safetensors") is None:
            raise ModuleNotFoundError("ModelCheckpoint: files in the safetensors format need the package safetensors: "
                                      "pip install 'minigrad-numba[io]'; a path that ends with .npz needs no package")
        if self.save_best_only:
            super().on_train_begin()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save the state if it is wanted."""
        if self.save_best_only and not self.better(self.figure(logs)):
            return
        try:
            path = Path(self.path.format(epoch=epoch + 1, **logs))
        except (KeyError, IndexError) as error:
            raise ValueError(f"ModelCheckpoint: {self.path!r} has a field {error}, which is not reported: "
                             f"there is epoch, {', '.join(logs)}") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        save(self.model.state_dict(), path)
        self.last = path


class ReduceLROnPlateau(Monitor):
    """Multiplies every group's learning rate by `factor`, down to `min_lr`, when `monitor` has not improved for `patience` epochs."""

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, min_delta: float = 1e-4, mode: str = "auto",
                 cooldown: int = 0, min_lr: float = 0.0) -> None:
        super().__init__(monitor, min_delta, mode)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor is {factor}, expected a number between 0 and 1")
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self._waited = self._resting = 0

    def on_train_begin(self) -> None:
        """Start counting anew."""
        super().on_train_begin()
        self._waited = self._resting = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Count the epochs without improvement; those right after a reduction, `cooldown` of them, do not count."""
        groups = self.trainer.optimizer.param_groups
        logs["learning_rate"] = float(groups[0]["lr"])
        improved = self.better(self.figure(logs))
        if self._resting > 0:
            self._resting -= 1
            self._waited = 0
        elif improved:
            self._waited = 0
        else:
            self._waited += 1
            if self._waited >= self.patience:
                for group in groups:
                    group["lr"] = max(float(group["lr"]) * self.factor, self.min_lr)
                self._resting, self._waited = self.cooldown, 0
