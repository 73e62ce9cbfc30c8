"""The names of `torch.utils.data`; all of them are `minigrad.data`'s."""
from __future__ import annotations

from minigrad.data import DataLoader as DataLoader
from minigrad.data import Dataset as Dataset
from minigrad.data import Subset as Subset
from minigrad.data import TensorDataset as TensorDataset
from minigrad.data import default_collate as default_collate
from minigrad.data import random_split as random_split
