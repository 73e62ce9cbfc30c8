"""Handwritten digits: MNIST from its IDX files, and the small 8x8 ones that scikit-learn ships."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.data.idx import read_idx

MNIST_PARTS: Final = ("train", "t10k")
DIGITS_HELD_OUT: Final = 297


class Split(NamedTuple):
    """Images as rows of float32 in [0, 1], labels as int64; one part to train on, one held out."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def load_mnist(directory: str | Path, train: int | None = 9000, seed: int = 0) -> Split:
    """MNIST from the IDX files in `directory`, gzip or plain, shuffled with a fixed seed.

    All images at hand are put together, those of the 10,000-image half and, if they are there, of the 60,000-image half.
    The first `train` of them are to train on, the others held out; with None the last 1,000 are held out.
    """
    folder = Path(directory)
    parts = [(find(folder, f"{part}-images-idx3-ubyte"), find(folder, f"{part}-labels-idx1-ubyte")) for part in MNIST_PARTS]
    present = [(images, labels) for images, labels in parts if images and labels]
    if not present:
        raise FileNotFoundError(f"no MNIST in {folder}: expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz")
    images, labels = (np.concatenate([read_idx(path) for path in paths]) for paths in zip(*present, strict=True))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape} do not belong together")
    return split(images / np.float32(255), labels, len(images) - 1000 if train is None else train, seed)


def load_digits(train: int | None = None, seed: int = 0) -> Split:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn, shuffled with a fixed seed; 297 are held out unless `train` says else."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError("load_digits needs scikit-learn: pip install 'minigrad-numba[data]'") from error
    images, labels = load(return_X_y=True)
    return split(images / np.float32(16), labels, len(images) - DIGITS_HELD_OUT if train is None else train, seed)


def find(folder: Path, name: str) -> Path | None:
    """The file of that name, plain or with .gz, if there is one."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def split(images: NDArray[Any], labels: NDArray[Any], train: int, seed: int) -> Split:
    """Both arrays in one random order, cut behind `train` rows."""
    if not 0 < train < len(images):
        raise ValueError(f"train is {train}, expected 1 to {len(images) - 1}: there are {len(images)} images and one must be held out")
    order = np.random.default_rng(seed).permutation(len(images))
    x = images.reshape(len(images), -1).astype(np.float32)[order]
    y = labels.astype(np.int64)[order]
    return Split(x[:train], y[:train], x[train:], y[train:])
