"""PyTorch's `torch.utils`, for scripts that import data sets and loaders from there."""
from __future__ import annotations

from minigrad.utils import data as data
