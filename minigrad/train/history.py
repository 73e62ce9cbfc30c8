"""What a training run measured."""
from __future__ import annotations

from collections.abc import Mapping

from minigrad.train.callbacks import Callback


class History(Callback):
    """Figures by epoch: `history["val_accuracy"][i]` belongs to epoch `epoch[i]`, counted from 0."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Append the epoch's figures."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        if not self.epoch:
            return "History(no epochs)"
        figures = ", ".join(f"{name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs: {figures})"
