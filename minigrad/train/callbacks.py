"""What a training loop calls on its way."""
from __future__ import annotations

from collections.abc import Mapping


class Callback:
    """Base of all callbacks: override what you need. `logs` holds the epoch's means, such as loss, accuracy and val_loss."""

    def on_train_begin(self) -> None:
        """Before the first step."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """After each epoch, counted from 0, and its validation."""
