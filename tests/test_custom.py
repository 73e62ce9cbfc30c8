"""`@mg.op`: a user's scalar function is an op like any other, and a wrong derivative is refused."""
from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import OpError


@mg.op(vjp=lambda g, y, x: g * (1 - y * y))
def own_tanh(x: Any) -> Any:
    return math.tanh(x)


@mg.op(vjp=lambda g, y, a, b: (g * b, g * a))
def product(a: Any, b: Any) -> Any:
    return a * b


@mg.op(vjp=lambda g, y, x: g if x > 0 else 0.1 * g)
def leaky(x: Any) -> Any:
    return x if x > 0 else 0.1 * x


def sigmoid(x: Any) -> Any:
    return 1 / (1 + math.exp(-x))


def swish_vjp(g: Any, y: Any, x: Any, *, beta: Any) -> Any:
    s = sigmoid(beta * x)
    return g * (s + beta * y * (1 - s))


@mg.op(vjp=swish_vjp)
def own_swish(x: Any, *, beta: float = 1.0) -> Any:
    """x * sigmoid(beta * x)."""
    return x * sigmoid(beta * x)


@mg.op(vjp=lambda g, y, a, b, c, d: (g * (y - c * d) * b / a, g * (y - c * d) * math.log(a), g * d, g * c), domain={"a": (0.5, 3.0)})
def power_and_product(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a ** b + c * d


@pytest.fixture
def x() -> mg.Tensor:
    return mg.tensor(np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32), requires_grad=True)


def test_an_own_tanh_has_the_bits_of_the_library_s(x: mg.Tensor) -> None:
    assert np.array_equal(own_tanh(x).array, mg.tanh(x).array)
    own_tanh(x).sum().backward()
    ours: Any = x.grad
    x.grad = None
    mg.tanh(x).sum().backward()
    theirs: Any = x.grad
    assert np.array_equal(ours.array, theirs.array)


def test_math_in_a_user_s_function_is_compiled_to_vectors_and_not_to_libm() -> None:
    entry = next(iter(own_tanh.plan((mg.randn(64).spec,), {}).steps)).entry.load()
    assembly = entry._compiled._library.get_asm_str()
    assert "tanhf" not in assembly
    assert "mm" in assembly


def test_first_and_second_derivatives_hold() -> None:
    a = mg.tensor([0.5, -1.5], dtype=np.float64, requires_grad=True)
    b = mg.tensor([2.0, 0.25], dtype=np.float64, requires_grad=True)
    assert mg.autograd.gradcheck(own_tanh, a)
    assert mg.autograd.gradgradcheck(own_tanh, a)
    assert mg.autograd.gradcheck(product, (a, b))
    assert mg.autograd.gradgradcheck(product, (a, b))


def test_two_inputs_broadcast() -> None:
    a, b = mg.randn(3, 4, requires_grad=True), mg.randn(4, requires_grad=True)
    product(a, b).sum().backward()
    assert b.grad is not None
    assert np.allclose(b.grad.array, a.array.sum(axis=0), rtol=1e-6)


def test_a_function_may_branch(x: mg.Tensor) -> None:
    assert np.array_equal(leaky(x).array, np.where(x.array > 0, x.array, np.float32(0.1) * x.array))
    leaky(x).sum().backward()
    assert x.grad is not None
    assert np.array_equal(x.grad.array, np.where(x.array > 0, np.float32(1), np.float32(0.1)))


def test_captured_it_has_the_bits_of_eager(x: mg.Tensor) -> None:
    def step(values: Any) -> Any:
        x.grad = None
        loss = leaky(own_tanh(x) * values).sum()
        loss.backward()
        return loss

    values = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    expected = step(mg.tensor(values))
    assert x.grad is not None
    gradient = x.grad.numpy()
    captured = mg.capture(step)
    for _ in range(4):
        assert captured(values).item() == expected.item()
        assert x.grad is not None
        assert np.array_equal(x.grad.numpy(), gradient)


def test_a_wrong_derivative_is_refused_with_index_and_values() -> None:
    with pytest.raises(OpError, match=r"index 0.*differences give 0\.0098"):

        @mg.op(vjp=lambda g, y, x: g * (1 - y))
        def wrong(x: Any) -> Any:
            return math.tanh(x)


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(OpError, match="cannot be compiled"):

        @mg.op(vjp=lambda g, y, x: g)
        def text(x: Any) -> Any:
            return x.as_integer_ratio()[0] / x.as_integer_ratio()[1]


def test_a_vjp_with_other_arguments_is_refused() -> None:
    with pytest.raises(OpError, match="its vjp"):
        mg.op(lambda x: x, vjp=lambda g: g)


def test_it_works_without_a_source_file() -> None:
    scope: dict[str, Any] = {"mg": mg, "math": math}
    exec("@mg.op(vjp=lambda g, y, x: g * y)\ndef own_exp(x):\n    return math.exp(x)", scope)  # as a notebook cell does
    values = mg.randn(9)
    assert np.array_equal(scope["own_exp"](values).array, mg.exp(values).array)


# ---- attributes ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beta", [1.0, 0.25, 3])
def test_an_attribute_is_part_of_function_and_derivative(beta: float) -> None:
    x = mg.tensor(np.linspace(-3, 3, 9), requires_grad=True)
    assert np.allclose(own_swish(x, beta=beta).array, x.array / (1 + np.exp(-beta * x.array)), rtol=1e-13, atol=1e-15)
    assert mg.autograd.gradcheck(lambda v: own_swish(v, beta=beta), x)
    assert mg.autograd.gradgradcheck(lambda v: own_swish(v, beta=beta), x)


def test_a_derivative_that_forgets_an_attribute_is_refused_though_it_holds_at_the_default() -> None:
    with pytest.raises(OpError, match=r"input x at .* with beta=0\.875, differences give"):

        @mg.op(vjp=lambda g, y, x: g * (sigmoid(x) + y * (1 - sigmoid(x))))
        def forgetful(x: Any, *, beta: float = 1.0) -> Any:
            return x * sigmoid(beta * x)


def test_a_tensor_is_no_attribute(x: mg.Tensor) -> None:
    with pytest.raises(OpError, match="beta is a Tensor, expected a number: declare it in front of the"):
        own_swish(x, beta=mg.tensor(1.0, requires_grad=True))


def test_a_whole_attribute_takes_whole_numbers() -> None:
    @mg.op(vjp=lambda g, y, x, *, times: g * times)
    def repeated(x: Any, *, times: int = 2) -> Any:
        return x * times

    assert repeated(mg.tensor([1.5]), times=3).tolist() == [4.5]
    with pytest.raises(OpError, match=r"times is 2\.5, expected a whole number"):
        repeated(mg.tensor([1.5]), times=2.5)


def test_an_attribute_without_a_default_is_refused() -> None:
    with pytest.raises(OpError, match="beta needs a number as its default"):

        @mg.op(vjp=lambda g, y, x, *, beta: g * beta)
        def bare(x: Any, *, beta: float) -> Any:
            return x * beta


# ---- several inputs --------------------------------------------------------------------------------------------------------------------
def test_four_inputs_broadcast_and_each_has_its_gradient() -> None:
    rng = np.random.default_rng(0)
    inputs = [mg.tensor(rng.uniform(0.5, 2, shape), requires_grad=True) for shape in ((3, 2), (2,), (3, 1), ())]
    assert mg.autograd.gradcheck(power_and_product, inputs)
    assert mg.autograd.gradgradcheck(power_and_product, inputs)


def test_a_power_is_the_project_s_and_not_libm_s() -> None:
    a, b = np.random.default_rng(0).uniform(0.5, 3, (2, 64)).astype(np.float32)
    zero = np.zeros_like(a)
    assert np.array_equal(power_and_product(a, b, zero, zero).array, mg.pow(mg.tensor(a), mg.tensor(b)).array)
    entry = next(iter(power_and_product.plan((mg.randn(64).spec,) * 4, {}).steps)).entry.load()
    assert "powf" not in entry._compiled._library.get_asm_str()


def test_a_trained_number_gets_its_gradient_from_all_elements(x: mg.Tensor) -> None:
    @mg.op(vjp=lambda g, y, x, slope: (g * slope if x < 0 else g, g * x if x < 0 else 0.0 * g))
    def own_prelu(x: Any, slope: Any) -> Any:
        return slope * x if x < 0 else x

    slope = mg.tensor(0.25, requires_grad=True)
    own_prelu(x, slope).sum().backward()
    assert slope.grad is not None
    assert np.isclose(slope.grad.item(), x.array[x.array < 0].sum(), rtol=1e-5)


def test_the_tape_keeps_only_what_the_derivative_looks_at() -> None:
    assert own_tanh.kept(1) == ("out",)
    assert set(product.kept(3)) == {"a", "b"}
    assert leaky.kept(1) == ("x",)


# ---- second derivatives ------------------------------------------------------------------------------------------------------------
def smooth(x: Any) -> Any:
    return math.log1p(x * x) + math.erf(x) * np.expm1(0.1 * x) + np.sqrt(1 + np.square(x)) * math.sin(x) + math.cosh(0.5 * x)


def smooth_vjp(g: Any, y: Any, x: Any) -> Any:
    root = np.sqrt(1 + np.square(x))
    inner = 2 * x / (1 + x * x) + 2 / math.sqrt(math.pi) * math.exp(-x * x) * math.expm1(0.1 * x) + math.erf(x) * 0.1 * np.exp(0.1 * x)
    return g * (inner + x / root * np.sin(x) + root * math.cos(x) + 0.5 * math.sinh(0.5 * x))


def test_second_derivatives_take_all_of_the_scalar_maths() -> None:
    op = mg.op(smooth, vjp=smooth_vjp)
    x = mg.tensor(np.linspace(-2, 2, 7), requires_grad=True)
    assert mg.autograd.gradgradcheck(op, x)


@pytest.mark.parametrize("vjp", [
    lambda g, y, x: g * np.where(x > 0, 2 * x, 1.0),
    lambda g, y, x: g * (np.where(x > 0, 1.0, 0.0) * 2 * x + np.where(x > 0, 0.0, 1.0)),
    lambda g, y, x: g * (2 * max(x, 0.0) + np.where(x > 0, 0, 1)),
])
def test_a_choice_with_where_can_be_differentiated_again(vjp: Any) -> None:
    op = mg.op(lambda x: np.where(x > 0, x * x, x), vjp=vjp)
    x = mg.tensor([-1.5, 0.5, 2.0], dtype=np.float64, requires_grad=True)
    assert mg.autograd.gradgradcheck(op, x)


def test_a_derivative_that_is_a_number_can_be_differentiated_again() -> None:
    op = mg.op(lambda a, b: a + 0 * b, vjp=lambda g, y, a, b: (g, 0.0))
    a, b = (mg.tensor([1.0, 2.0], dtype=np.float64, requires_grad=True) for _ in range(2))
    assert mg.autograd.gradcheck(op, (a, b))
    assert mg.autograd.gradgradcheck(op, (a, b))


def test_a_loop_over_powers_is_a_function_too() -> None:
    def series(x: Any) -> Any:
        total = 0.0 * x
        for k in range(4):
            total = total + x ** k
        return total

    op = mg.op(series, vjp=lambda g, y, x: g * (1 + 2 * x + 3 * x * x))
    x = np.linspace(-2, 2, 9)
    assert np.allclose(op(x).array, 1 + x + x ** 2 + x ** 3, rtol=1e-13)


def test_a_derivative_that_branches_says_how_to_choose_instead(x: mg.Tensor) -> None:
    with pytest.raises(OpError, match=r"leaky: its vjp cannot be differentiated: .*np\.where instead of an if"):
        mg.autograd.grad(leaky(x).sum(), x, create_graph=True)


# ---- refusals ------------------------------------------------------------------------------------------------------------------------
def test_an_op_without_a_derivative_is_told_how_to_write_one() -> None:
    with pytest.raises(OpError, match=r"cube has no derivative: declare it with @mg\.op\(vjp=lambda g, y, x: \.\.\.\)"):

        @mg.op
        def cube(x: Any) -> Any:
            return x ** 3


def test_a_derivative_that_can_be_checked_nowhere_is_refused() -> None:
    with pytest.raises(OpError, match="at none of 97 points"):
        mg.op(lambda x: np.nan * x, vjp=lambda g, y, x: g)


@pytest.mark.parametrize(("function", "vjp", "reason"), [
    (lambda g: g, lambda g, y, x: g, "g has a meaning of its own"),
    (lambda *x: x[0], lambda g, y, x: g, r"\*x is no input"),
    (lambda x=1.0: x, lambda g, y, x: g, "x=1.0 is no input"),
    (math.tanh, lambda g, y, x: g * (1 - y * y), "expected a function written in Python"),
    (lambda a, b: a * b, lambda g, y, a, b: g * b, "tuple of 2 gradients"),
    (lambda a, b, c, d, e: a, lambda g, y, a, b, c, d, e: g, "one to 4 numbers"),
])
def test_a_declaration_that_cannot_be_meant_is_refused(function: Any, vjp: Any, reason: str) -> None:
    with pytest.raises(OpError, match=reason):
        mg.op(function, vjp=vjp)


def test_a_domain_for_what_is_no_input_is_refused() -> None:
    with pytest.raises(OpError, match="domain names 'z'"):
        mg.op(lambda x: x, vjp=lambda g, y, x: g, domain={"z": (0, 1)})


# ---- notebooks and copies ------------------------------------------------------------------------------------------------------------
def test_a_cell_run_again_makes_another_op_and_leaves_captured_steps_as_they_are() -> None:
    scope: dict[str, Any] = {"mg": mg}
    cell = "@mg.op(vjp=lambda g, y, x: g * FACTOR)\ndef times(x):\n    return x * FACTOR"
    exec(cell.replace("FACTOR", "2.0"), scope)
    first = scope["times"]
    step = mg.capture(lambda x: first(x))
    x = mg.tensor([1.0, 2.0])
    before = [step(x).tolist() for _ in range(3)]
    exec(cell.replace("FACTOR", "3.0"), scope)
    assert scope["times"](x).tolist() == [3.0, 6.0]
    assert [step(x).tolist() for _ in range(3)] == before == [[2.0, 4.0]] * 3


def test_an_op_is_its_own_copy_and_is_pickled_by_name() -> None:
    assert copy.deepcopy({"activation": own_swish})["activation"] is own_swish
    assert copy.copy(own_swish) is own_swish
    assert pickle.loads(pickle.dumps(mg.tanh)) is mg.tanh


def test_a_module_that_holds_an_op_can_be_copied() -> None:
    class Activated(mg.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.activation = mg.nn.Linear(3, 2), own_swish

        def forward(self, x: Any) -> Any:
            return self.activation(self.linear(x))

    module, x = Activated(), mg.randn(4, 3)
    assert np.array_equal(copy.deepcopy(module)(x).array, module(x).array)
