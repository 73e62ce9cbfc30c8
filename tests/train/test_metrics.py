from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import ShapeError
from minigrad.train.metrics import Means, accuracy, binary_accuracy, default_metrics, logit_accuracy, mae, mse, named, top_k


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


def test_accuracy_of_many_labels_counts_each() -> None:
    assert binary_accuracy(np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.2], [0.4, 0.6]])) == 0.75


def test_the_border_follows_from_the_loss() -> None:
    def binary_cross_entropy_with_logits(input: Any, target: Any) -> Any:
        """Known by its name."""

    class BCELoss(nn.Module):
        pass

    assert named(["accuracy"], binary_cross_entropy_with_logits)["accuracy"] is logit_accuracy
    assert named(["accuracy"], partial(binary_cross_entropy_with_logits, target=1))["accuracy"] is logit_accuracy
    assert named(["accuracy"], BCELoss())["accuracy"] is binary_accuracy
    assert named(["accuracy"], F.cross_entropy)["accuracy"] is accuracy
    assert logit_accuracy(np.array([1, 0]), np.array([[0.1], [0.1]])) == 0.5
    assert default_metrics(nn.MSELoss()) == () and default_metrics(BCELoss()) == default_metrics(F.cross_entropy) == ("accuracy",)


def test_differences_are_taken_in_float64() -> None:
    y_true, y_pred = np.array([1, 3]), np.array([[2], [1]], np.float32)
    assert mse(y_true, y_pred) == 2.5 and mae(y_true, y_pred) == 1.5
    with pytest.raises(ShapeError, match=r"answers of shape \(2,\) for outputs of shape \(2, 3\)"):
        mse(np.zeros(2), np.zeros((2, 3)))


def test_top_k_counts_classes_among_the_largest() -> None:
    y_pred = np.array([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1]])
    assert [top_k(k)(np.array([2, 2]), y_pred) for k in (1, 2, 3)] == [0, 0.5, 1]
    assert list(named(["top_2", top_k(3)])) == ["top_2", "top_3"]
    with pytest.raises(ValueError, match="k is 0"):
        top_k(0)
    with pytest.raises(ShapeError, match="expected class indices or one-hot rows"):
        accuracy(np.zeros((2, 2)), y_pred)


def test_many_batches_at_once_have_the_bits_of_one_after_the_other(rng: np.random.Generator) -> None:
    steps, rows = 7, 13
    losses = rng.random(steps).astype(np.float32)
    y, outputs = rng.random((steps * rows, 3)), rng.random((steps, rows, 3)).astype(np.float32)

    def error(y_true: Any, y_pred: Any) -> float:
        return float(np.mean(y_true - y_pred))

    metrics = named(["mse", "mae", "accuracy", error])
    together, apart = Means(metrics), Means(metrics)
    together.add_many(losses, y, outputs)
    for step in range(steps):
        apart.add(float(losses[step]), y[step * rows:(step + 1) * rows], outputs[step])
    assert together.logs() == apart.logs()
