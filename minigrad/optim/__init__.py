"""Optimisers: PyTorch's `torch.optim` names."""
from __future__ import annotations

from minigrad.optim.optimizer import Optimizer as Optimizer
from minigrad.optim.sgd import SGD as SGD
