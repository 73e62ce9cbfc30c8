from __future__ import annotations

import numpy as np
import pytest

from minigrad.train.metrics import Means, accuracy, named


@pytest.mark.parametrize(("y_true", "y_pred", "expected"), [
    ([0, 1, 1, 0], [[2, 1], [1, 2], [2, 1], [2, 1]], 0.75),
    ([[1, 0], [0, 1]], [[2, 1], [2, 1]], 0.5),
    ([0, 1, 1], [[0.2], [0.8], [0.3]], 2 / 3),
    ([[0], [1]], [[0.2], [0.8]], 1.0),
])
def test_accuracy_of_classes_one_hot_rows_and_a_single_column(y_true: list[object], y_pred: list[object], expected: float) -> None:
    assert accuracy(np.array(y_true), np.array(y_pred)) == pytest.approx(expected)


def test_a_function_has_its_own_name() -> None:
    def error(y_true: object, y_pred: object) -> float:
        return 1.0

    assert named(["accuracy", error]) == {"accuracy": accuracy, "error": error}


def test_means_weigh_batches_by_their_rows() -> None:
    means = Means({"accuracy": accuracy})
    means.add(1.0, np.array([0, 0, 0]), np.array([[1, 0]] * 3))
    means.add(5.0, np.array([1]), np.array([[1, 0]]))
    assert means.logs("val_") == {"val_loss": 2.0, "val_accuracy": 0.75}
