"""Backward says the chain rule, undoes broadcasting, adds up, and refuses with PyTorch's words what the graph does not allow."""
from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import DtypeError, GraphError, SavedValueError, ShapeError

SHAPES = [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (1, 1), (4, 2, 3), (4, 1, 3), (1, 2, 1)]


def leaf(values: Any) -> mg.Tensor:
    return mg.tensor(np.array(values, float), requires_grad=True)


def values(x: Any) -> Any:
    assert x is not None
    return x.detach().numpy()


def undone(g: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The sum of g over what broadcasting repeated."""
    summed = g.sum(axis=tuple(range(g.ndim - len(shape))))
    narrow = tuple(i for i, n in enumerate(shape) if n == 1 and summed.shape[i] != 1)
    return np.asarray(summed.sum(axis=narrow, keepdims=True))


@pytest.mark.parametrize(("a", "b"), list(product(SHAPES, SHAPES)))
def test_broadcasting_is_undone(a: tuple[int, ...], b: tuple[int, ...], rng: np.random.Generator) -> None:
    x, y = leaf(rng.normal(size=a)), leaf(rng.normal(size=b))
    out = x * y
    g = rng.normal(size=out.shape)
    out.backward(mg.tensor(g))
    assert out.shape == np.broadcast_shapes(a, b)
    np.testing.assert_allclose(values(x.grad), undone(g * values(y), a), rtol=1e-12)
    np.testing.assert_allclose(values(y.grad), undone(g * values(x), b), rtol=1e-12)


# ---- adding up
def test_a_value_used_several_times_gets_the_sum() -> None:
    x = leaf([1.0, 2.0])
    (x * x + 3.0 * x + x).sum().backward()
    assert values(x.grad).tolist() == [6, 8]


def test_a_result_used_several_times_gets_the_sum() -> None:
    x = leaf(2.0)
    y = x * x
    (y * y + y).backward()
    assert values(x.grad) == 4 * 2 ** 3 + 2 * 2


def test_both_operands_may_be_one_tensor() -> None:
    x = leaf(3.0)
    (x - x + x / x).backward()
    assert values(x.grad) == 0


def test_passes_add_up_until_the_gradient_is_none() -> None:
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * 2.0).sum().backward()
    assert values(x.grad).tolist() == [6, 6]
    x.grad = None
    (x * 2.0).sum().backward()
    assert values(x.grad).tolist() == [2, 2]


def test_a_diamond_of_many_levels_is_walked_once() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.backward()
    assert values(x.grad) == 2.0 ** 60


# ---- what is refused
def test_a_second_backward_raises_in_pytorchs_words() -> None:
    x = leaf(2.0)
    y = (x * x).tanh()
    y.backward()
    with pytest.raises(GraphError, match=r"Trying to backward through the graph a second time, at tanh.*retain_graph=True"):
        y.backward()


def test_retain_graph_allows_another() -> None:
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert values(x.grad) == 12


@pytest.mark.parametrize(("make", "name"), [(lambda x, w: x * w, "mul"), (lambda x, w: x / w, "div"), (lambda x, w: x @ w, "matmul_nn")])
def test_a_saved_input_that_was_modified_is_named(make: Any, name: str) -> None:
    x, w = leaf([[1.0, 2.0], [3.0, 4.0]]), mg.tensor(np.ones((2, 2)))
    loss = make(x, w).sum()
    w.copy_(np.zeros((2, 2)))
    with pytest.raises(SavedValueError, match=rf"{name}: .*needs \w+ .*modified by an inplace operation since \(version 1, expected 0\)"):
        loss.backward()
    assert x.grad is None


def test_a_saved_output_that_was_modified_is_named() -> None:
    x = leaf([1.0, 2.0])
    y = x.tanh()
    y.detach().copy_(np.zeros(2))
    with pytest.raises(SavedValueError, match=r"tanh: .*needs out"):
        y.sum().backward()


def test_a_view_shares_the_version_of_its_memory() -> None:
    x, w = leaf([1.0, 2.0]), mg.tensor(np.ones(2))
    y = x * w
    w.reshape(2, 1).copy_(np.zeros((2, 1)))
    with pytest.raises(SavedValueError):
        y.sum().backward()


def test_what_no_rule_needs_may_be_modified() -> None:
    x, w = leaf([1.0, 2.0]), mg.tensor(np.ones(2))
    y = x + w
    w.copy_(np.zeros(2))
    y.sum().backward()
    assert values(x.grad).tolist() == [1, 1]


def test_backward_of_many_elements_needs_a_gradient_that_fits() -> None:
    x = leaf([1.0, 2.0])
    y = x * x
    with pytest.raises(GraphError, match=r"grad can be implicitly created only for scalar outputs.*gradient="):
        y.backward()
    with pytest.raises(ShapeError, match=r"float64\[3\].*float64\[2\]"):
        y.backward(mg.tensor(np.ones(3)))
    y.backward(mg.tensor(np.array([1.0, 10.0])))
    assert values(x.grad).tolist() == [2, 40]


def test_backward_of_what_needs_no_gradient_raises() -> None:
    with pytest.raises(GraphError, match="does not require grad"):
        (mg.tensor(np.ones(())) * 2.0).backward()


# ---- modes
def test_no_grad_records_nothing_and_enable_grad_does_inside_it() -> None:
    x = leaf(1.0)
    found = []

    def look() -> None:
        assert (x * 2.0).requires_grad is mg.is_grad_enabled()
        found.append(mg.is_grad_enabled())

    with mg.no_grad():
        look()
        with mg.enable_grad():
            look()
        look()
    look()
    assert found == [False, True, False, True]


def test_a_mode_is_left_by_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert mg.is_grad_enabled()


def test_a_mode_decorates_a_function_even_a_recursive_one() -> None:
    @mg.no_grad()
    def descend(x: mg.Tensor, depth: int) -> list[bool]:
        return [(x * 2.0).requires_grad, *(descend(x, depth - 1) if depth else [])]

    assert descend(leaf(1.0), 3) == [False] * 4
    assert mg.is_grad_enabled()


# ---- autograd.grad
def test_grad_of_an_intermediate_value() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    of_h, of_x = mg.autograd.grad((h * h).sum(), [h, x])
    assert values(of_h).tolist() == [2, 8] and values(of_x).tolist() == [4, 32]
    assert x.grad is None


def test_grad_of_an_unused_input_raises_or_is_none() -> None:
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(GraphError, match="not have been used in the graph"):
        mg.autograd.grad(x * 2.0, [y])
    assert mg.autograd.grad(x * 2.0, [y], allow_unused=True) == (None,)


def test_grad_can_be_differentiated_again() -> None:
    x = leaf(0.5)
    order: Any = x.tanh()
    for expected in (1 - np.tanh(0.5) ** 2, -2 * np.tanh(0.5) * (1 - np.tanh(0.5) ** 2)):
        order, = mg.autograd.grad(order, x, create_graph=True)
        assert np.isclose(values(order), expected, rtol=1e-12)


# ---- dtypes
@pytest.mark.parametrize("other", [2, 2.0, True, np.float64(2.0), np.int64(2), np.ones(3), np.ones((2, 3))], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_and_arrays_take_the_dtype_of_the_tensor_beside_them(dtype: Any, other: Any) -> None:
    x = mg.tensor(np.ones(3, dtype), requires_grad=True)
    for y in (x * other, other * x, x + other, other - x, x / other):
        assert y.dtype == dtype and y.requires_grad
        y.sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype


def test_two_dtypes_are_not_mixed_and_the_cast_is_named() -> None:
    x, y = mg.tensor(np.ones(3, np.float32)), mg.tensor(np.ones(3, np.float64))
    with pytest.raises(DtypeError, match=r"add: float32 and float64 are not mixed.*x float32\[3\], y float64\[3\].*y.astype\(mg.float32\)"):
        x + y
    assert (x + y.astype(mg.float32)).dtype == np.float32


def test_a_cast_gives_the_gradient_in_the_leafs_dtype() -> None:
    x = mg.tensor(np.ones(3, np.float32), requires_grad=True)
    (x.double() * mg.tensor(np.full(3, 0.1))).sum().backward()
    assert x.grad is not None and x.grad.dtype == np.float32 and x.grad.tolist() == [float(np.float32(0.1))] * 3


# ---- error texts
def test_a_shape_error_names_module_op_shapes_and_fix() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Residual(nn.Sequential(nn.Linear(5, 4))))
    with pytest.raises(ShapeError, match=r"in 2\.module\.0: linear: .*\[2, 4\].*\[4, 5\]"):
        model(np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match=r"in Linear: linear: .*reshape"):
        nn.Linear(3, 4)(np.ones(4, np.float32))


def test_a_shape_error_says_how_to_mend_it() -> None:
    with pytest.raises(ShapeError, match=r"add: shapes do not broadcast, got x float64\[2\], y float64\[3\]: .*must be equal or hold a 1"):
        leaf([1.0, 2.0]) + leaf([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="pass one class index a row, int64"):
        F.cross_entropy(leaf([[1.0, 2.0]]), np.ones((1, 2), np.int64))


def test_a_backward_error_names_the_module_that_ran_the_op() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    loss = model(np.ones((1, 2), np.float32)).sum()
    loss.backward()
    with pytest.raises(GraphError, match="second time, at"):
        loss.backward()
    h = model(np.ones((1, 2), np.float32))
    h.detach().copy_(np.zeros((1, 2), np.float32))
    with pytest.raises(SavedValueError, match="tanh in 1: "):
        h.sum().backward()
