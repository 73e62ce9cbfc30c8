"""Figures of a batch beside its loss, in NumPy."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import ShapeError

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]

#: Losses of class indices or of probabilities: accuracy belongs to them.
CLASSIFYING: Final = {"cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss"}
BINARY: Final = {"binary_cross_entropy", "BCELoss"}
BINARY_LOGITS: Final = {"binary_cross_entropy_with_logits", "BCEWithLogitsLoss"}


class RowMetric:
    """A metric that is a mean over rows, so that many batches are computed at once: `rows(y_true, y_pred)` gives one value a row."""

    def __init__(self, name: str, rows: Callable[[Array, Array], Array]) -> None:
        self.__name__, self.rows = name, rows

    def __call__(self, y_true: Array, y_pred: Array) -> float:
        return float(np.mean(self.rows(np.asarray(y_true), np.asarray(y_pred))))

    def __repr__(self) -> str:
        return f"<metric {self.__name__}>"


def threshold(y_true: Array, y_pred: Array, border: float) -> Array:
    """The share of each row's columns that are on the same side: the prediction of `border`, the answer of 0.5."""
    answers = np.reshape(y_true, y_pred.shape)
    return np.asarray(np.mean(((y_pred > border) == (answers > 0.5)).reshape(len(y_pred), -1), axis=1))


def right(y_true: Array, y_pred: Array) -> Array:
    """Whether the largest column is the class index or one-hot row, or a single column above 0.5."""
    if y_pred.ndim < 2 or y_pred.shape[-1] == 1:
        return threshold(y_true, y_pred, 0.5)
    return np.asarray(y_pred.argmax(-1) == classes(y_true, y_pred))


def among(y_true: Array, y_pred: Array, k: int) -> Array:
    """Whether the answer's column is one of the k largest; columns as large as it count for it."""
    if y_pred.ndim != 2:
        raise ShapeError(f"top_{k}: outputs have shape {y_pred.shape}, expected (rows, classes)")
    own = np.take_along_axis(y_pred, classes(y_true, y_pred).reshape(-1, 1), axis=1)
    return np.asarray(np.sum(y_pred > own, axis=1) < k)


def classes(y_true: Array, y_pred: Array) -> Array:
    """Class indices, from indices or one-hot rows. Raises ShapeError for anything else."""
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == y_pred.shape[-1]:
        return np.asarray(y_true.argmax(-1))
    if y_true.size != len(y_pred):
        raise ShapeError(f"accuracy: answers of shape {y_true.shape} for outputs of shape {y_pred.shape}: expected class indices or one-hot rows")
    return y_true.reshape(len(y_pred)).astype(np.int64, copy=False)


def apart(y_true: Array, y_pred: Array) -> Array:
    """The differences, in float64, as rows. Raises ShapeError if they are not answers to these outputs."""
    if y_true.size != y_pred.size:
        raise ShapeError(f"answers of shape {y_true.shape} for outputs of shape {y_pred.shape}: mse and mae need one for each output")
    return np.asarray(y_pred.astype(np.float64) - np.reshape(y_true, y_pred.shape)).reshape(len(y_pred), -1)


accuracy: Final = RowMetric("accuracy", right)
binary_accuracy: Final = RowMetric("accuracy", partial(threshold, border=0.5))
logit_accuracy: Final = RowMetric("accuracy", partial(threshold, border=0.0))
mse: Final = RowMetric("mse", lambda y_true, y_pred: np.mean(np.square(apart(y_true, y_pred)), axis=1))
mae: Final = RowMetric("mae", lambda y_true, y_pred: np.mean(np.abs(apart(y_true, y_pred)), axis=1))

METRICS: Final[dict[str, Metric]] = {"accuracy": accuracy, "mse": mse, "mae": mae}


def top_k(k: int) -> RowMetric:
    """The share of rows whose class is among the k largest columns, named "top_k" with that number."""
    if k < 1:
        raise ValueError(f"top_k: k is {k}, expected at least 1")
    return RowMetric(f"top_{k}", partial(among, k=k))


def name_of(loss: Any) -> str:
    """Of a loss function or module."""
    return str(getattr(getattr(loss, "func", loss), "__name__", type(loss).__name__))


def default_metrics(loss: Any) -> tuple[str, ...]:
    """Accuracy where the loss is one of classes."""
    return ("accuracy",) if name_of(loss) in CLASSIFYING | BINARY | BINARY_LOGITS else ()


def named(metrics: Iterable[str | Metric], loss: Any = None) -> dict[str, Metric]:
    """The metrics by name; a function `(y_true, y_pred) -> float` has its own. What counts as right depends on the loss's outputs."""
    answers = logit_accuracy if name_of(loss) in BINARY_LOGITS else binary_accuracy if name_of(loss) in BINARY else accuracy
    found: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        if not isinstance(metric, str):
            found[str(getattr(metric, "__name__", type(metric).__name__))] = metric
        elif metric.startswith("top_") and metric[4:].isdigit():
            found[metric] = top_k(int(metric[4:]))
        elif metric in METRICS:
            found[metric] = answers if metric == "accuracy" else METRICS[metric]
        else:
            raise ValueError(f"no metric {metric!r}: there is {', '.join(METRICS)}, top_5 and so on; "
                             "or pass a function (y_true, y_pred) -> float")
    return found


class Means:
    """The means over batches of loss and metrics, weighted by the rows in each."""

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self.metrics = metrics
        self._sums = dict.fromkeys(["loss", *metrics], 0.0)
        self._rows = 0

    @property
    def empty(self) -> bool:
        """Whether no batch was counted."""
        return self._rows == 0

    def add(self, loss: float, y_true: Array, y_pred: Array) -> None:
        """Count one batch in."""
        self.add_many(np.array([loss]), y_true, y_pred[None])

    def add_many(self, losses: Array, y_true: Array, y_pred: Array) -> None:
        """Count batches of one size in: losses (steps,), y_true (steps * rows, ...), y_pred (steps, rows, ...).

        The sums are the same as those of one batch after the other, bit for bit.
        """
        steps = len(losses)
        rows = len(y_true) // steps
        self._rows += steps * rows
        sums = self._sums
        for loss in losses.tolist():
            sums["loss"] += rows * loss
        for name, metric in self.metrics.items():
            if isinstance(metric, RowMetric):
                values = metric.rows(y_true, y_pred.reshape(-1, *y_pred.shape[2:]))
                totals = np.asarray(np.sum(values.reshape(steps, rows), axis=1, dtype=np.float64))
                for total in totals.tolist():
                    sums[name] += total
            else:
                for step in range(steps):
                    sums[name] += rows * float(metric(y_true[step * rows:(step + 1) * rows], y_pred[step]))

    def logs(self, prefix: str = "") -> dict[str, float]:
        """The means so far."""
        return {prefix + name: total / self._rows for name, total in self._sums.items()}
