"""Data sets, loaders, readers and small made-up problems."""
from __future__ import annotations

from minigrad.data.batches import index_batches as index_batches
from minigrad.data.dataset import Dataset as Dataset
from minigrad.data.dataset import Subset as Subset
from minigrad.data.dataset import TensorDataset as TensorDataset
from minigrad.data.dataset import random_split as random_split
from minigrad.data.digits import Split as Split
from minigrad.data.digits import load_digits as load_digits
from minigrad.data.digits import load_mnist as load_mnist
from minigrad.data.idx import read_idx as read_idx
from minigrad.data.loader import DataLoader as DataLoader
from minigrad.data.loader import default_collate as default_collate
from minigrad.data.scaling import standardize as standardize
from minigrad.data.synthetic import make_circles as make_circles
from minigrad.data.synthetic import make_moons as make_moons
from minigrad.data.synthetic import make_xor as make_xor
from minigrad.data.tables import load_npz as load_npz
from minigrad.data.tables import read_csv as read_csv
