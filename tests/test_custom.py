"""`@mg.op`: a user's scalar function is an op like any other, and a wrong derivative is refused."""
from __future__ import annotations

import math
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
