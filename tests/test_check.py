"""gradcheck finds a wrong rule, names where, flags kinks, and refuses what it could not judge."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import gradcheck, gradgradcheck
from minigrad.errors import DtypeError, GradcheckError
from minigrad.ops import activations, elementwise
from minigrad.ops.op import Vjp


def leaf(*shape: int, low: float = 0.5, high: float = 2.0) -> mg.Tensor:
    return mg.tensor(np.random.default_rng(0).uniform(low, high, shape), requires_grad=True)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Replace the rule of an op's input by another one, for this test."""
    touched = []

    def replace(op: Any, i: int, rule: Any, *wants: str) -> None:
        monkeypatch.setattr(op, "vjps", [Vjp(rule, wants) if i == j else old for j, old in enumerate(op.vjps)])
        touched.append(op)
        forget()

    def forget() -> None:
        for op in touched:
            for known in (op.keep, op._positions, op.ruled):
                known.clear()

    yield replace
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("f", [
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: (x - y).tanh(),
    lambda x, y: (x @ y.T).sigmoid().mean(axis=0),
    lambda x, y: (x.log(), y.exp()),
])
def test_right_rules_pass_both_checks(f: Any) -> None:
    inputs = leaf(3, 2), leaf(3, 2)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


def test_an_input_that_needs_no_gradient_is_not_checked() -> None:
    assert gradcheck(lambda x, y: x * y, (leaf(2), mg.tensor(np.ones(2))))


def test_a_wrong_rule_is_found_with_input_index_and_both_values(spoil: Any) -> None:
    spoil(elementwise.mul, 1, lambda g, y: elementwise.mul(g, y), "y")
    x, y = leaf(2, 3), mg.tensor(np.full((2, 3), 5.0), requires_grad=True)
    with pytest.raises(GradcheckError, match=r"output 0\[0, 0\] with respect to input 1\[0, 0\] is 5\.0, differences say 1\.4") as caught:
        gradcheck(lambda a, b: a * b, (x, y))
    assert "kink" not in str(caught.value)
    assert not gradcheck(lambda a, b: a * b, (x, y), raise_exception=False)


@pytest.mark.parametrize("error", [1e-3, -1e-4])
def test_a_rule_that_is_slightly_wrong_is_found(error: float, spoil: Any) -> None:
    spoil(activations.tanh, 0, lambda g, out: g * (1.0 - out * out) * (1.0 + error), "out")
    assert not gradcheck(lambda x: x.tanh(), leaf(3), raise_exception=False)


def test_one_wrong_element_is_found_and_named(spoil: Any) -> None:
    wrong = np.ones((3, 4))
    wrong[2, 1] = 1.01
    spoil(elementwise.exp, 0, lambda g, out: g * out * wrong, "out")
    with pytest.raises(GradcheckError, match=r"output 0\[2, 1\] with respect to input 0\[2, 1\]"):
        gradcheck(lambda x: x.exp(), leaf(3, 4))


def test_the_wrong_output_is_named(spoil: Any) -> None:
    spoil(elementwise.exp, 0, lambda g, out: g, "out")
    with pytest.raises(GradcheckError, match=r"output 1\[0\]"):
        gradcheck(lambda x: (x.log(), x.exp()), leaf(2))


def test_a_wrong_second_derivative_is_found_where_the_first_is_right(spoil: Any) -> None:
    def square(x: Any) -> Any:
        return x * x

    spoil(elementwise.mul, 0, lambda g, y: elementwise.mul(g, y.detach()), "y")
    assert gradcheck(square, leaf(3))
    with pytest.raises(GradcheckError):
        gradgradcheck(square, leaf(3))


def test_a_kink_is_called_one() -> None:
    x = mg.tensor(np.array([1.0, 0.0, -1.0]), requires_grad=True)
    with pytest.raises(GradcheckError, match=r"input 0\[1\].*the function has a kink there"):
        gradcheck(lambda a: a.relu(), x)


def test_single_precision_is_refused() -> None:
    x = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    with pytest.raises(DtypeError, match=r"input 1 is float32.*use \.double\(\)"):
        gradcheck(lambda a, b: b * 2.0, (mg.tensor(np.ones(2)), x))


def test_nothing_to_check_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one input Tensor with requires_grad=True"):
        gradcheck(lambda a: a, mg.tensor(np.ones(2)))


def test_what_f_does_not_depend_on_has_the_gradient_zero() -> None:
    assert gradcheck(lambda a, b: a * 2.0, (leaf(2), leaf(3)))


def test_a_check_leaves_no_gradient_and_no_value_behind() -> None:
    x = leaf(3)
    before = x.array.copy()
    gradcheck(lambda a: a * a, x)
    assert x.grad is None and np.array_equal(x.array, before)
