"""Data sets and batches, as NumPy arrays."""
from __future__ import annotations

from minigrad.data.batches import index_batches as index_batches
from minigrad.data.digits import Split as Split
from minigrad.data.digits import load_digits as load_digits
from minigrad.data.digits import load_mnist as load_mnist
from minigrad.data.idx import read_idx as read_idx
