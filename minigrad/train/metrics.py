"""Figures of a batch beside its loss, in NumPy."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def accuracy(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """The share of right answers: the largest column against a class index or one-hot row, or a single column against 0.5."""
    if y_pred.ndim < 2 or y_pred.shape[-1] == 1:
        return float(np.mean((y_pred.reshape(-1) > 0.5) == (y_true.reshape(-1) > 0.5)))
    labels = y_true.argmax(-1) if y_true.ndim == y_pred.ndim else y_true
    return float(np.mean(y_pred.argmax(-1) == labels))


METRICS: Final[dict[str, Metric]] = {"accuracy": accuracy}


def named(metrics: Iterable[str | Metric]) -> dict[str, Metric]:
    """The metrics by name; a function `(y_true, y_pred) -> float` has its own."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(f"no metric {metric!r}: there is {', '.join(METRICS)}; or pass a function (y_true, y_pred) -> float")
        name = metric if isinstance(metric, str) else metric.__name__
        found[name] = METRICS[metric] if isinstance(metric, str) else metric
    return found


class Means:
    """The means over batches of loss and metrics, weighted by the rows in each."""

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self.metrics = metrics
        self._sums = dict.fromkeys(["loss", *metrics], 0.0)
        self._rows = 0

    def add(self, loss: float, y_true: NDArray[Any], y_pred: NDArray[Any]) -> None:
        """Count one batch in."""
        rows = len(y_true)
        self._rows += rows
        self._sums["loss"] += rows * loss
        for name, metric in self.metrics.items():
            self._sums[name] += rows * metric(y_true, y_pred)

    def logs(self, prefix: str = "") -> dict[str, float]:
        """The means so far."""
        return {prefix + name: total / self._rows for name, total in self._sums.items()}
