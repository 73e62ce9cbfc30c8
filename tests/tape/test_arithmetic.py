"""Operators of a Tensor: comparisons by element, identity as a key, bits, powers, and operators and methods that write in place."""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, GraphError


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_are_by_element_with_tensors_arrays_and_numbers(compare: Callable[..., Any]) -> None:
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([2.0, 3.0])
    x, y = mg.tensor(a), mg.tensor(b)
    for found, expected in ((compare(x, y), compare(a, b)), (compare(x, b), compare(a, b)), (compare(x, 2), compare(a, 2)),
                            (compare(2.0, x), compare(2.0, a))):
        assert isinstance(found, mg.Tensor) and found.dtype == np.bool_
        assert np.array_equal(found.array, expected)


def test_a_tensor_equals_nothing_that_is_not_a_number() -> None:
    x = mg.tensor([1.0])
    for other in (None, "x", [1.0], object()):
        assert (x == other) is False and (x != other) is True


def test_tensors_are_keys_by_identity() -> None:
    tensors = [mg.tensor([1.0, 2.0]) for _ in range(100)]
    places = {x: i for i, x in enumerate(tensors)}
    assert len(places) == len(set(tensors)) == 100
    assert [places[x] for x in tensors] == [*range(100)] and mg.tensor([1.0, 2.0]) not in places
    assert hash(tensors[0]) == hash(tensors[0])


def test_truths_combine() -> None:
    x = mg.tensor([-2.0, -0.5, 0.5, 2.0])
    assert ((x > -1) & (x < 1)).tolist() == [False, True, True, False]
    assert ((x < -1) | (x > 1)).tolist() == [True, False, False, True]
    assert ((x > 0) ^ (x > 1)).tolist() == [False, False, True, False]
    assert (~(x > 0)).tolist() == [True, True, False, False]
    i = mg.tensor([1, 2, 3])
    assert (i & 1).tolist() == (1 & i).tolist() == [1, 0, 1] and (i | 4).tolist() == [5, 6, 7] and (i ^ 1).tolist() == [0, 3, 2]
    assert (~i).tolist() == [-2, -3, -4]
    with pytest.raises(DtypeError, match=r"bitwise_and: x is float32, expected int32 or int64, bool"):
        x & x


def test_signs_and_powers() -> None:
    x = mg.tensor([-2.0, 3.0])
    assert (+x) is x and (-x).tolist() == [2.0, -3.0] and abs(x).tolist() == [2.0, 3.0]
    assert (x**2).tolist() == [4.0, 9.0] and (2**x).tolist() == [0.25, 8.0] and (x**x).tolist()[1] == 27.0
    assert x.pow(3).tolist() == [-8.0, 27.0] and np.array([1.0, 2.0]).tolist() == (mg.tensor([1.0, 2.0]) ** np.float64(1)).tolist()


def test_alpha_scales_the_other_operand() -> None:
    x, y = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([10.0, 20.0], requires_grad=True)
    assert x.add(y, alpha=0.5).tolist() == [6.0, 12.0] and x.sub(y, alpha=2).tolist() == [-19.0, -38.0] and x.add(1).tolist() == [2.0, 3.0]
    x.sub(y, alpha=2).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [-2.0, -2.0]


IN_PLACE: dict[str, tuple[Callable[[mg.Tensor], Any], Callable[[mg.Tensor], mg.Tensor]]] = {
    "add_": (lambda x: x.add_(2, alpha=3), lambda x: x + 6),
    "sub_": (lambda x: x.sub_(2), lambda x: x - 2),
    "mul_": (lambda x: x.mul_(x), lambda x: x * x),
    "div_": (lambda x: x.div_(2), lambda x: x / 2),
    "pow_": (lambda x: x.pow_(3), lambda x: x**3),
    "ipow": (lambda x: operator.ipow(x, 2), lambda x: x**2),
    "neg_": (lambda x: x.neg_(), lambda x: -x),
    "exp_": (lambda x: x.exp_(), mg.exp),
    "sqrt_": (lambda x: x.sqrt_(), mg.sqrt),
    "clamp_": (lambda x: x.clamp_(min=0.5, max=1.0), lambda x: mg.clamp(x, 0.5, 1.0)),
    "relu_": (lambda x: x.relu_(), mg.relu),
    "sigmoid_": (lambda x: x.sigmoid_(), mg.sigmoid),
    "tanh_": (lambda x: x.tanh_(), mg.tanh),
    "zero_": (lambda x: x.zero_(), lambda x: x * 0),
    "fill_": (lambda x: x.fill_(2.5), lambda x: x * 0 + 2.5),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_is_out_of_place_in_the_same_memory(name: str) -> None:
    write, compute = IN_PLACE[name]
    results = []
    for f in (write, compute):
        leaf = mg.tensor(np.array([0.25, 1.0, 4.0]), requires_grad=True)
        x = leaf * 1.0
        memory = x.array
        y = f(x)
        assert f is compute or (y is x and y.array is memory)
        (y * y).sum().backward()
        assert leaf.grad is not None
        results.append((y.tolist(), leaf.grad.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_leaf_is_not_written_while_gradients_are_on(name: str) -> None:
    leaf = mg.tensor(np.array([0.25, 1.0, 4.0]), requires_grad=True)
    with pytest.raises(GraphError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        IN_PLACE[name][0](leaf)
    assert leaf.tolist() == [0.25, 1.0, 4.0]
    with mg.no_grad():
        IN_PLACE[name][0](leaf)
    assert leaf.requires_grad and leaf.is_leaf


def test_methods_are_the_functions() -> None:
    x, y = mg.tensor([0.5, 2.0]), mg.tensor([2.0, 0.5])
    for name in ("exp", "log", "sin", "cos", "sqrt", "erf", "floor", "sign", "relu", "isnan", "logical_not"):
        assert getattr(x, name)().tolist() == getattr(mg, name)(x).tolist(), name
    for name in ("mul", "div", "maximum", "minimum", "pow", "eq", "lt", "logical_or"):
        assert getattr(x, name)(y).tolist() == getattr(mg, name)(x, y).tolist(), name
    assert x.where(x > 1, y).tolist() == [2.0, 2.0] and x.clamp(min=1.0).tolist() == [1.0, 2.0] and x.clip(0.75, 1.5).tolist() == [0.75, 1.5]
    assert "Sine" in str(mg.Tensor.sin.__doc__) and mg.Tensor.sin.__name__ == "sin"
