"""Tensors from sizes, ranges and random numbers, and what of it may stand inside a captured step."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import CaptureError, DtypeError, ShapeError


@pytest.mark.parametrize(("made", "expected"), [
    (lambda: mg.zeros(2, 3), np.zeros((2, 3), np.float32)), (lambda: mg.ones((2, 3)), np.ones((2, 3), np.float32)),
    (lambda: mg.zeros(()), np.float32(0)),
    (lambda: mg.full((2,), 7), np.array([7, 7])), (lambda: mg.full((2,), 0.5), np.array([0.5, 0.5], np.float32)),
    (lambda: mg.full(3, True), np.ones(3, bool)),
    (lambda: mg.empty(2, dtype=np.float64), np.zeros(2)), (lambda: mg.eye(3, 2), np.eye(3, 2, dtype=np.float32)),
    (lambda: mg.arange(4), np.arange(4)),
    (lambda: mg.arange(1, 4, 2), np.array([1, 3])), (lambda: mg.arange(0, 1, 0.25), np.array([0, 0.25, 0.5, 0.75], np.float32)),
    (lambda: mg.linspace(0, 1, 5), np.array([0, 0.25, 0.5, 0.75, 1], np.float32)),
    (lambda: mg.zeros_like(mg.ones(2, dtype=np.int64)), np.zeros(2, int)),
    (lambda: mg.ones_like(mg.zeros(2), dtype=np.float64), np.ones(2)), (lambda: mg.full_like(mg.zeros(1, 2), 3), np.array([[3, 3]], np.float32)),
])
def test_values_and_dtypes(made: Any, expected: Any) -> None:
    found = made()
    assert found.dtype == expected.dtype and np.array_equal(found.array, expected)


def test_random_numbers_follow_from_the_seed() -> None:
    def draw() -> list[Any]:
        mg.manual_seed(3)
        like = mg.zeros(4, dtype=np.float64)
        return [mg.rand(3), mg.randn(2, 2), mg.randn_like(like), mg.rand_like(like), mg.randint(5, (9,)), mg.randint(-2, 3, (2, 2)), mg.randperm(6)]

    one, two = draw(), draw()
    assert [t.tolist() for t in one] == [t.tolist() for t in two]
    assert [t.dtype.name for t in one] == ["float32", "float32", "float64", "float64", "int64", "int64", "int64"]
    assert sorted(one[6].tolist()) == [*range(6)] and set(one[4].tolist()) <= {*range(5)} and one[5].shape == (2, 2)


def test_leaves_that_require_gradients() -> None:
    for t in (mg.zeros(2, requires_grad=True), mg.full((2,), 1.0, requires_grad=True), mg.eye(2, requires_grad=True),
        mg.randn(2, requires_grad=True)):
        assert t.is_leaf and t.requires_grad
        t.sum().backward()
        assert t.grad is not None and np.all(t.grad.array == 1)
    with pytest.raises(DtypeError):
        mg.arange(3, requires_grad=True)


def test_from_numpy_shares_memory_and_refuses_what_cannot_be_shared() -> None:
    array = np.arange(4.0)
    shared: Any = mg.from_numpy(array)
    shared[1] = 9.0
    array[0] = 7.0
    assert array.tolist() == [7, 9, 2, 3] == shared.tolist()
    assert mg.as_tensor(array).array is array and mg.as_tensor(shared) is shared and mg.as_tensor([1.0]).dtype == np.float32
    assert mg.as_tensor(array, dtype=np.float32).dtype == np.float32 and mg.as_tensor(array[::2]).tolist() == [7, 2]
    frozen = np.ones(2)
    frozen.flags.writeable = False
    for wrong in (array[::2], frozen):
        with pytest.raises(ShapeError, match=r"mg\.tensor\(array\)"):
            mg.from_numpy(wrong)
    with pytest.raises(DtypeError):
        mg.from_numpy(np.array(["a"]))


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ShapeError):
        mg.zeros(-1)


# ---- captured ---------------------------------------------------------------------------------------------------------------------
def test_constants_made_in_a_captured_step_are_new_at_each_replay() -> None:
    def step(x: Any) -> Any:
        total, one, table, line = mg.zeros(3), mg.ones(()), mg.eye(3), mg.linspace(0, 1, 3)
        total += x
        one += x[0]
        table[0] += total
        line *= one
        return total, one, table, line, mg.full_like(x, 2.0) * x, mg.arange(3) + mg.zeros(3, dtype=np.int64)

    captured = mg.capture(step)
    for i in range(4):
        x = np.array([i, 1, 2], np.float32)
        assert [t.array.tobytes() for t in captured(x)] == [t.array.tobytes() for t in step(mg.tensor(x))]


@pytest.mark.parametrize("draw", [lambda: mg.rand(2), lambda: mg.randn(2), lambda: mg.randint(3, (2,)), lambda: mg.randperm(2),
                         lambda: mg.randn_like(mg.ones(2))])
def test_random_numbers_are_not_drawn_inside_a_captured_step(draw: Any) -> None:
    with pytest.raises(CaptureError, match="draw them outside"):
        mg.capture(lambda x: x + draw())(np.array([1, 2], np.float32))


def test_leaves_are_not_made_inside_a_captured_step() -> None:
    with pytest.raises(CaptureError, match="make it outside"):
        mg.capture(lambda x: x + mg.zeros(2, requires_grad=True))(np.array([1, 2], np.float32))
