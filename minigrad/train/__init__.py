"""The training loop, in Keras's words."""
from __future__ import annotations

from minigrad.train.callbacks import Callback as Callback
from minigrad.train.history import History as History
from minigrad.train.trainer import Trainer as Trainer
