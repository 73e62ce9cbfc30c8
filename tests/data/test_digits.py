from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import Split, load_digits, load_mnist


def write_part(directory: Path, part: str, labels: list[int]) -> None:
    """Images of 2x2 pixels that all have ten times the label's value."""
    count = len(labels)
    pixels = bytes(10 * label for label in labels for _ in range(4))
    (directory / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, count, 2, 2) + pixels)
    (directory / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(labels))


def belong_together(data: Split) -> bool:
    images, labels = np.vstack([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    return np.array_equal(np.round(images * 25.5), np.repeat(labels[:, None], 4, axis=1))


def test_images_keep_their_labels_through_the_shuffle(tmp_path: Path) -> None:
    write_part(tmp_path, "t10k", list(range(10)))
    data = load_mnist(tmp_path, train=7)
    assert (data.x_train.shape, data.x_test.shape) == ((7, 4), (3, 4))
    assert (data.x_train.dtype.name, data.y_train.dtype.name) == ("float32", "int64")
    assert belong_together(data) and data.x_train.min() >= 0 and data.x_train.max() <= 1
    assert sorted([*data.y_train, *data.y_test]) == list(range(10)) != [*data.y_train, *data.y_test]


def test_the_seed_fixes_the_shuffle(tmp_path: Path) -> None:
    write_part(tmp_path, "t10k", list(range(10)))
    first, second, other = (load_mnist(tmp_path, 7, seed=seed).y_train for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_both_halves_are_taken(tmp_path: Path) -> None:
    write_part(tmp_path, "t10k", [1] * 3)
    write_part(tmp_path, "train", [2] * 5)
    data = load_mnist(tmp_path, train=6)
    assert sorted([*data.y_train, *data.y_test]) == [1] * 3 + [2] * 5 and belong_together(data)


def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected t10k-images-idx3-ubyte"):
        load_mnist(tmp_path)
    write_part(tmp_path, "t10k", [1, 2])
    with pytest.raises(ValueError, match="expected 1 to 1: there are 2 images"):
        load_mnist(tmp_path, train=2)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 1) + b"\1")
    with pytest.raises(ValueError, match="do not belong together"):
        load_mnist(tmp_path, train=1)


def test_the_real_files(mnist: Path) -> None:
    data = load_mnist(mnist)
    assert data.x_train.shape == (9000, 784) and data.x_test.shape[0] >= 1000
    assert {int(label) for label in data.y_test} == set(range(10))


def test_the_small_digits() -> None:
    pytest.importorskip("sklearn")
    data = load_digits()
    assert (data.x_train.shape, data.x_test.shape) == ((1500, 64), (297, 64))
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'minigrad-numba\[data\]'"):
        load_digits()
