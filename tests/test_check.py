"""gradcheck finds a wrong rule, names where, flags kinks, and refuses what it could not judge."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import Function, gradcheck, gradgradcheck
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


both = pytest.mark.parametrize("fast", [False, True])


@both
@pytest.mark.parametrize("f", [
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: (x - y).tanh(),
    lambda x, y: (x @ y.T).sigmoid().mean(axis=0),
    lambda x, y: (x.log(), y.exp()),
])
def test_right_rules_pass_both_checks(f: Any, fast: bool) -> None:
    inputs = leaf(3, 2), leaf(3, 2)
    assert gradcheck(f, inputs, fast_mode=fast)
    assert gradgradcheck(f, inputs, fast_mode=fast)


def test_an_input_that_needs_no_gradient_is_not_checked() -> None:
    assert gradcheck(lambda x, y: x * y, (leaf(2), mg.tensor(np.ones(2))))


def test_a_wrong_rule_is_found_with_input_index_and_both_values(spoil: Any) -> None:
    spoil(elementwise.mul, 1, lambda g, y: elementwise.mul(g, y), "y")
    x, y = leaf(2, 3), mg.tensor(np.full((2, 3), 5.0), requires_grad=True)
    with pytest.raises(GradcheckError, match=r"output 0\[0, 0\] \(mul\) with respect to input 1 \(b\)\[0, 0\] is 5\.0, differences say 1\.4"
                       r".*: the rule of mul is wrong") as caught:
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
    with pytest.raises(GradcheckError, match=r"output 0\[2, 1\] \(exp\) with respect to input 0 \(x\)\[2, 1\]"):
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
    with pytest.raises(GradcheckError, match=r"input 0 \(a\)\[1\].*relu has a kink there, one-sided slopes are 0 and 1: move the point"):
        gradcheck(lambda a: a.relu(), x)


def test_single_precision_is_refused() -> None:
    x = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    with pytest.raises(DtypeError, match=r"input 1 \(b\) is float32.*use \.double\(\)"):
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


# ---- the fast mode
def test_the_fast_mode_finds_the_element_that_is_wrong(spoil: Any) -> None:
    wrong = np.ones((30, 40))
    wrong[21, 13] = 1.01
    spoil(elementwise.exp, 0, lambda g, out: g * out * wrong, "out")
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x: x.exp(), leaf(30, 40), fast_mode=True)
    found = caught.value
    assert (found.output, found.output_index, found.input, found.index, found.op) == (0, (21, 13), 0, (21, 13), "exp")
    assert found.analytic is not None and found.numeric is not None and np.isclose(found.analytic / found.numeric, 1.01)


@pytest.mark.parametrize("error", [1e-3, -1e-4])
def test_the_fast_mode_finds_a_rule_that_is_slightly_wrong_in_second_derivatives_too(error: float, spoil: Any) -> None:
    spoil(activations.tanh, 0, lambda g, out: g * (1.0 - out * out) * (1.0 + error), "out")
    assert not gradcheck(lambda x: x.tanh(), leaf(300), fast_mode=True, raise_exception=False)
    assert not gradgradcheck(lambda x: x.tanh(), leaf(300), fast_mode=True, raise_exception=False)


def test_the_fast_mode_s_cost_does_not_grow_with_the_sizes() -> None:
    runs = []
    for n in (2, 2000):
        calls: list[int] = []

        def f(x: Any, calls: list[int] = calls) -> Any:
            calls.append(1)
            return x.tanh() * x.sum()

        assert gradcheck(f, leaf(n), fast_mode=True)
        runs.append(len(calls))
    assert runs[0] == runs[1]


# ---- what is said
def test_the_error_has_what_it_says_as_attributes(spoil: Any) -> None:
    spoil(activations.tanh, 0, lambda g, out: g * 3.0, "out")
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    with pytest.raises(GradcheckError, match=r"input 0 \(x\)\[0, 0\] is .*: the rule of tanh in 1 is wrong") as caught:
        gradcheck(lambda x: model(x), leaf(1, 2))
    found = caught.value
    assert (found.op, found.output, found.output_index, found.input, found.index, found.kink) == ("tanh in 1", 0, (0, 0), 0, (0, 0), False)
    assert isinstance(found.analytic, float) and isinstance(found.numeric, float) and f"{found.analytic!r}" in str(found)


def test_the_function_to_blame_is_named() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(GradcheckError, match="the rule of Wrong is wrong"):
        gradcheck(lambda x: (Wrong.apply(x * 2.0) + 1.0).sum(), leaf(2))


@both
def test_a_second_derivative_s_error_names_the_op_and_the_gradient(fast: bool, spoil: Any) -> None:
    spoil(activations.tanh, 0, lambda g, out: g * (1.0 - out * out).detach(), "out")
    assert gradcheck(lambda x: x.tanh(), leaf(3))
    with pytest.raises(GradcheckError, match=r"gradgradcheck: gradient of the gradient for input 0 \(x\).*the rule of tanh is wrong"):
        gradgradcheck(lambda x: (x * 2.0).tanh(), leaf(3), fast_mode=fast)


@pytest.mark.parametrize(("f", "at", "kink"), [
    (lambda x: x.relu().sum(), 0.0, True),
    (lambda x: x.abs().sum(), 4e-6, True),
    (lambda x: x.relu() * 100.0, -1.2e-5, True),
    (lambda x: x.floor() * x, 2.0, True),
    (lambda x: (x.detach() * 100.0).exp() * x, 0.1, False),
    (lambda x: x.detach() ** 3, 5.0, False),
    (lambda x: x.detach() * 2.0, 5.0, False),
])
def test_kinks_are_told_from_wrong_rules(f: Any, at: float, kink: bool) -> None:
    with pytest.raises(GradcheckError) as caught:
        gradcheck(f, mg.tensor(np.array([at]), requires_grad=True))
    assert caught.value.kink is kink


def test_a_gradient_that_is_not_a_number_is_wrong() -> None:
    x = mg.tensor(np.array([0.0, 1.0]), requires_grad=True)
    with pytest.raises(GradcheckError, match="is nan"):
        gradcheck(lambda a: mg.where(a > 0.5, a, (a - a) / a), x)


# ---- what is given
def test_a_module_s_parameters_are_checked_beside_its_inputs(spoil: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    x = leaf(5, 3)
    state = {name: value.array.copy() for name, value in model.state_dict().items()}
    seed = mg.random_normal(3).tolist()
    mg.manual_seed(0)
    assert seed == mg.random_normal(3).tolist()
    mg.manual_seed(0)
    assert gradcheck(model, x) and gradcheck(model, x, fast_mode=True) and gradcheck(model, x.detach())
    assert gradgradcheck(model, x, fast_mode=True)
    assert seed == mg.random_normal(3).tolist()  # neither drew
    for name, value in model.state_dict().items():
        assert value.array.tobytes() == state[name].tobytes()
    assert all(p.grad is None for p in model.parameters())
    spoil(elementwise.add, 1, lambda g: g * 2.0)

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(np.ones(2))

        def forward(self, x: Any) -> Any:
            return x + self.by

    with pytest.raises(GradcheckError, match=r"parameter by\[0\]"):
        gradcheck(Shift(), mg.tensor(np.ones(2)))
    with pytest.raises(DtypeError, match=r"parameter 0\.weight is float32"):
        gradcheck(nn.Sequential(nn.Linear(1, 1)), mg.tensor(np.ones((1, 1))))


def test_arguments_and_results_may_be_nested_and_of_other_kinds() -> None:
    def f(tree: Any, rows: Any, k: float) -> Any:
        return {"a": tree["x"] * tree["y"][0] * k, "b": (tree["x"][rows], rows, None)}

    assert gradcheck(f, ({"x": leaf(3), "y": [leaf(3)]}, mg.tensor([2, 0]), 2.0))
    assert gradgradcheck(f, ({"x": leaf(3), "y": [leaf(3)]}, mg.tensor([2, 0]), 2.0))


def test_one_tensor_given_twice_or_used_from_outside_is_moved_as_one() -> None:
    x = leaf(3)
    assert gradcheck(lambda a, b: a * b.exp() * x, (x, x)) and gradgradcheck(lambda a, b: a * b.exp() * x, (x, x))


def test_inputs_that_share_memory_are_refused() -> None:
    x = mg.tensor(np.ones(4))
    a, b = x[:3], x[1:]
    a.requires_grad = b.requires_grad = True
    with pytest.raises(ValueError, match=r"input 1 \(b\) and input 0 \(a\) share memory.*clone\(\)"):
        gradcheck(lambda a, b: a * b, (a, b))


def test_results_may_be_given_and_large_values_too() -> None:
    x = leaf(3)
    assert gradcheck(lambda h: h * h.tanh(), x * 2.0)
    assert gradcheck(lambda h: h * h, mg.tensor(np.array([1e6, -1e9, 1e-3]), requires_grad=True))


def test_an_empty_input_passes() -> None:
    x = mg.tensor(np.ones((0, 3)), requires_grad=True)
    assert gradcheck(lambda a: a * 2.0, x) and gradcheck(lambda a: a * 2.0, x, fast_mode=True)


def test_what_is_not_deterministic_is_refused() -> None:
    numbers = np.random.default_rng(0)

    def f(x: Any) -> Any:
        return x * 2.0 + float(numbers.normal()) * 1e-9

    with pytest.raises(GradcheckError, match="not deterministic: two runs with the same inputs differ in output 0"):
        gradcheck(f, leaf(2))
    assert not gradcheck(f, leaf(2), raise_exception=False)
    assert gradcheck(f, leaf(2), nondet_tol=1e-7, atol=1e-2)


def test_outputs_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(DtypeError, match=r"output 0 is float32.*compute in float64"):
        gradcheck(lambda a: a.float(), leaf(2))
    with pytest.raises(TypeError, match="must return floating-point Tensors"):
        gradcheck(lambda a: a.argmax(), leaf(2))


def test_inputs_are_put_back_bit_by_bit_even_after_an_error() -> None:
    x = leaf(3)
    before = x.array.tobytes()
    calls = []

    def f(a: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyError
        return a * a

    with pytest.raises(KeyError):
        gradcheck(f, x)
    assert x.array.tobytes() == before


def test_gradients_to_begin_with_can_be_given() -> None:
    x = leaf(2)
    u = mg.tensor(np.array([0.5, -2.0]), requires_grad=True)
    assert gradgradcheck(lambda a: a * a, x, u) and gradgradcheck(lambda a: a * a, x, [u])
