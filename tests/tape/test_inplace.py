"""Augmented assignment: a leaf is written where it is, under no_grad only; a result gives way to a new one."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import GraphError, SavedValueError


def test_a_hand_written_update_reaches_the_parameters() -> None:
    layer = nn.Linear(3, 2)
    layer(mg.ones(4, 3)).sum().backward()
    before = {name: p.array.copy() for name, p in layer.named_parameters()}
    with mg.no_grad():
        p: Any
        for p in layer.parameters():
            p -= 0.5 * p.grad
    for name, p in layer.named_parameters():
        assert np.array_equal(p.array, before[name] - np.float32(0.5) * p.grad.array)


def test_a_leaf_that_requires_gradients_is_not_written_while_recording() -> None:
    w = mg.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match="in-place operation"):
        w += 1.0
    assert w.tolist() == [1, 1, 1]


def test_a_result_stays_differentiable() -> None:
    w = mg.ones(3, requires_grad=True)
    y = w * 2.0
    y *= 3.0
    y.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [6, 6, 6]


# ---- views ------------------------------------------------------------------------------------------------------------------------
def test_writing_through_a_view_reaches_the_base_and_the_other_views() -> None:
    x = mg.tensor(np.arange(12.0).reshape(4, 3), requires_grad=True)
    y: Any = x * 1.0
    middle, flat = y[1:3], y.reshape(-1)
    inner = middle[1]
    middle *= 3.0
    inner += 1.0
    assert flat.tolist() == [0, 1, 2, 9, 12, 15, 19, 22, 25, 9, 10, 11] and y.tolist()[2] == [19, 22, 25]
    flat[5:8].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0, 0], [0, 0, 3], [3, 3, 0], [0, 0, 0]]


def test_writing_the_base_reaches_its_views() -> None:
    x, w = mg.ones(4, requires_grad=True), mg.full((2,), 3.0, requires_grad=True)
    y: Any = x * 2.0
    part = y[1:3]
    y[2:] = w
    part.sum().backward()
    assert x.grad is not None and w.grad is not None
    assert (x.grad.tolist(), w.grad.tolist()) == ([0, 2, 0, 0], [1, 0])


def test_a_view_of_a_leaf_is_not_written_while_recording() -> None:
    w: Any = mg.ones(4, requires_grad=True)
    part = w[1:3]
    for write in (lambda: part.__imul__(2.0), lambda: w.__setitem__(0, 5.0), lambda: w.__setitem__([0, 1], 5.0), lambda: part.__setitem__(..., 5.0)):
        with pytest.raises(GraphError, match="in-place operation: write it under"):
            write()
    with mg.no_grad():
        view = w[2:]
    with pytest.raises(GraphError, match="a view of a leaf"):
        view += 1.0
    assert w.tolist() == [1, 1, 1, 1]
    with mg.no_grad():
        part[0] = 7.0
        w[3:] *= 2.0
    assert w.tolist() == [1, 7, 1, 2] and w.is_leaf and w.requires_grad


def test_a_leaf_that_asks_for_gradients_after_a_view_of_it_was_made() -> None:
    w: Any = mg.ones(3)
    part = w[1:]
    w.requires_grad_()
    with pytest.raises(GraphError, match="a view of a leaf"):
        part += 1.0


def test_a_value_that_backward_needs_is_missed_when_it_was_written_through_a_view() -> None:
    x = mg.ones(3, requires_grad=True)
    y: Any = x * 2.0
    z = (y * y).sum()
    y[0] = 5.0
    with pytest.raises(SavedValueError, match=r"version 1, expected 0"):
        z.backward()


def test_what_is_written_with_gradients_off_counts_as_a_change_but_not_as_a_step() -> None:
    x = mg.ones(3, requires_grad=True)
    y: Any = x * 2.0
    with mg.no_grad():
        y[1:] = 0.0
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]
    z: Any = x * 2.0
    total = (z * z).sum()
    with mg.no_grad():
        z.reshape(-1)[:1].copy_(mg.ones(1))
    with pytest.raises(SavedValueError):
        total.backward()


def test_a_detached_tensor_shares_memory_and_version_but_no_graph() -> None:
    x = mg.ones(3, requires_grad=True)
    y: Any = x * 2.0
    loose: Any = y.detach()
    loose[0] = 9.0
    assert y.tolist() == [9, 2, 2] and not loose.requires_grad
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_what_is_written_over_gets_a_gradient_of_zeros() -> None:
    x = mg.ones(3, requires_grad=True)
    y: Any = x * 2.0
    y[...] = 4.0
    assert y.requires_grad
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0]


def test_a_factor_that_is_a_part_of_what_it_multiplies_counts_as_it_was() -> None:
    x = mg.tensor(np.array([2.0, 3.0, 5.0]), requires_grad=True)
    y: Any = x * 1.0
    y *= y[0]
    y.sum().backward()
    assert x.grad is not None
    assert (y.tolist(), x.grad.tolist()) == ([4, 6, 10], [2 * 2 + 3 + 5, 2, 2])


def test_second_derivatives_see_the_value_from_before_a_write() -> None:
    x = mg.tensor(np.array([2.0, 3.0]), requires_grad=True)
    y: Any = x * 1.0
    y *= y
    y *= x
    first: Any
    second: Any
    (first,) = mg.autograd.grad(y.sum(), [x], create_graph=True)
    (second,) = mg.autograd.grad(first.sum(), [x])
    assert (first.tolist(), second.tolist()) == ([12, 27], [12, 18])


def test_overlapping_parts_are_moved_as_if_through_a_copy() -> None:
    y: Any = mg.tensor(np.arange(6.0))
    y[1:] = y[:-1]
    assert y.tolist() == [0, 0, 1, 2, 3, 4]
    y[:-1] = y[1:]
    assert y.tolist() == [0, 1, 2, 3, 4, 4]


def test_a_leaf_written_into_another_tensor_keeps_its_own_place() -> None:
    w, x = mg.ones(2, requires_grad=True), mg.ones(4, requires_grad=True)
    y: Any = x * 1.0
    y[:2] = w
    y *= 3.0
    y.sum().backward()
    assert w.grad is not None and x.grad is not None and w.is_leaf
    assert (w.grad.tolist(), x.grad.tolist(), w.tolist()) == ([3, 3], [0, 0, 3, 3], [1, 1])


# ---- captured ---------------------------------------------------------------------------------------------------------------------
W, P = mg.tensor(np.arange(12.0).reshape(4, 3) / 7, requires_grad=True), nn.Parameter(np.arange(12.0).reshape(4, 3) / 5)
OUTER = mg.tensor(np.arange(12.0).reshape(4, 3))
TAIL = OUTER[2:]


def views(x: Any) -> Any:
    y = x * 2.0
    part = y[1:3]
    return part, part, y[2], y, y[0], x[1], P.detach()[1:3], TAIL[1], TAIL, x


def writes(x: Any) -> Any:
    W.grad = P.grad = None
    y = W * x
    part = y[1:3]
    part *= x[1:3]
    y[0] += P[3]
    inner = part.reshape(-1)[2:5]
    inner += 1.0
    (y * y).sum().backward()
    return y, part, inner, W.grad, P.grad


def made_inside(x: Any) -> Any:
    z, one, count = mg.zeros(4, 3, dtype=mg.float64), mg.full((1,), 2.0, dtype=mg.float64), mg.arange(5)
    z[1:3] = x[:2]
    z += 1.0
    one *= x[0, 0]
    count[0] = 7
    return z, one, count, mg.eye(3, dtype=mg.float64) @ x.T


def written_arguments(x: Any) -> Any:
    x[1] = 0.5
    tail = x[2:]
    tail *= 2.0
    return x, tail[0]


def swapped(x: Any) -> Any:
    y = x * 1.0
    y[1:4] = y[0:3]
    y[0:3] = y[1:4]
    return y, y[::-1]


@pytest.mark.parametrize("step", [views, writes, made_inside, written_arguments, swapped])
def test_views_and_writes_in_a_captured_step_have_eager_bits(step: Any, rng: np.random.Generator) -> None:
    captured = mg.capture(step)
    for _ in range(4):
        x = rng.normal(size=(4, 3))
        before = x.copy()
        found, expected = captured(x), step(mg.tensor(before))
        assert [t.array.tobytes() for t in found] == [t.array.tobytes() for t in expected]
        assert np.array_equal(x, before)


def test_copy_sends_gradients_to_what_was_copied() -> None:
    x, w = mg.ones(4, requires_grad=True), mg.ones(2, requires_grad=True)
    y: Any = x * 1.0
    y[1:3].copy_(w * 5.0)
    y.sum().backward()
    assert x.grad is not None and w.grad is not None
    assert (y.tolist(), x.grad.tolist(), w.grad.tolist()) == ([1, 5, 5, 1], [1, 0, 0, 1], [5, 5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_zero_keeps_its_sign_whatever_was_written_before(dtype: Any) -> None:
    x = mg.ones(3, dtype=dtype)
    for value in (0.0, -0.0, 0.0):
        x.fill_(value)
        assert (np.signbit(x.numpy()) == np.signbit(value)).all()
    assert not np.signbit(x.zero_().numpy()).any()


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64, np.uint8, np.float32])
def test_any_dtype_is_filled(dtype: Any) -> None:
    x = mg.tensor(np.ones((2, 3), dtype))
    assert x.zero_() is x and not x.numpy().any() and x.dtype == dtype
    assert x.fill_(1).numpy().all() and mg.tensor(np.ones((), dtype)).zero_().item() == 0
    assert mg.zeros(2, 2).fill_(mg.tensor(3)).tolist() == [[3, 3], [3, 3]]


def test_a_number_written_over_a_result_ends_its_gradient() -> None:
    leaf = mg.ones(3, requires_grad=True)
    x = leaf * 2
    x[1:].fill_(5.0)
    x.sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == [2, 0, 0]
    (leaf * 2).zero_().sum().backward()
    assert leaf.grad.tolist() == [2, 0, 0]


def test_data_is_the_memory_outside_the_graph() -> None:
    w: Any = mg.nn.Linear(2, 3).weight
    w.data.zero_()
    assert not w.detach().numpy().any() and w.requires_grad and not w.data.requires_grad
    w.data = mg.ones(3, 2)
    assert w.tolist() == [[1, 1]] * 3 and w.is_leaf
    w.data = np.full((3, 2), 2, np.float32)
    assert w.tolist() == [[2, 2]] * 3
    with pytest.raises(mg.errors.ShapeError, match="cannot become"):
        w.data = mg.ones(2, 3)
    with pytest.raises(mg.errors.GraphError, match="leaves only"):
        (w * 2).data = w
    out = (w * w).sum()
    w.data.mul_(2)
    with pytest.raises(mg.errors.SavedValueError):  # where PyTorch would give a wrong gradient
        out.backward()
