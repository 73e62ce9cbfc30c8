"""`mg.func`: derivatives of functions agree with each other and with complex steps, nest to any order, and leave `.grad` alone."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import func
from minigrad.errors import DtypeError, ShapeError


def scalar(x: Any) -> Any:
    return (mg.exp(x) * x).sum() + (x * x * x).mean()


def vector(x: Any) -> Any:
    return mg.tanh(x) * x.sum()


def numeric(f: Any, x: np.ndarray[Any, Any], step: float = 1e-6) -> np.ndarray[Any, Any]:
    """Central differences of a function of a Tensor: output shape, then x's."""
    columns = []
    for index in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (f(mg.tensor(m)).numpy() for m in moved)
        columns.append((up - down) / (2 * step))
    return np.moveaxis(np.array(columns), 0, -1).reshape(*columns[0].shape, *x.shape)


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return mg.tensor(rng.normal(size=4))


def test_grad_is_the_differences(x: Any) -> None:
    np.testing.assert_allclose(func.grad(scalar)(x).numpy(), numeric(scalar, x.numpy()), rtol=1e-7, atol=1e-8)


def test_value_and_grad_gives_both(x: Any) -> None:
    value, gradient = func.value_and_grad(scalar)(x)
    assert value.item() == scalar(x).item() and np.array_equal(gradient.numpy(), func.grad(scalar)(x).numpy())
    assert not value.requires_grad and not gradient.requires_grad


def test_jacobian_is_the_differences(x: Any) -> None:
    np.testing.assert_allclose(func.jacobian(vector)(x).numpy(), numeric(vector, x.numpy()), rtol=1e-7, atol=1e-8)


def test_hessian_is_the_jacobian_of_the_gradient_and_symmetric(x: Any) -> None:
    found = func.hessian(scalar)(x).numpy()
    np.testing.assert_allclose(found, numeric(func.grad(scalar), x.numpy()), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found, found.T, rtol=1e-12)


def test_jvp_vjp_and_hvp_are_products_with_jacobian_and_hessian(x: Any, rng: np.random.Generator) -> None:
    t, u = mg.tensor(rng.normal(size=4)), mg.tensor(rng.normal(size=4))
    jacobian, hessian = func.jacobian(vector)(x).numpy(), func.hessian(scalar)(x).numpy()
    value, pushed = func.jvp(vector, (x,), (t,))
    np.testing.assert_allclose(pushed.numpy(), jacobian @ t.numpy(), rtol=1e-12)
    out, pull = func.vjp(vector, x)
    for _ in range(2):  # any number of times
        np.testing.assert_allclose(pull(u)[0].numpy(), u.numpy() @ jacobian, rtol=1e-12)
    assert np.array_equal(value.numpy(), vector(x).numpy()) and np.array_equal(out.numpy(), vector(x).numpy())
    np.testing.assert_allclose(func.hvp(scalar, (x,), (t,))[0].numpy(), hessian @ t.numpy(), rtol=1e-12)


def test_derivatives_nest() -> None:
    def cube(x: Any) -> Any:
        return x * x * x

    for order, expected in enumerate([12.0, 12.0, 6.0, 0.0]):
        f = cube
        for _ in range(order + 1):
            f = func.grad(f)
        assert f(mg.tensor(2.0)).item() == expected


def test_an_inner_derivative_depends_on_what_its_function_closes_over() -> None:
    slope = func.grad(lambda a: func.grad(lambda z: a * z * z)(mg.tensor(3.0)))(mg.tensor(2.0))
    assert slope.item() == 6.0


def test_trees_and_several_arguments(x: Any) -> None:
    def f(p: Any, y: Any) -> Any:
        return (p["a"] * p["b"][0]).sum() + (y * y).sum()

    tree, other = func.grad(f, argnums=(0, 1))({"a": x, "b": [x * 2.0]}, np.ones(3))
    assert np.array_equal(tree["a"].numpy(), 2 * x.numpy()) and np.array_equal(tree["b"][0].numpy(), x.numpy())
    assert np.array_equal(other.numpy(), [2.0, 2.0, 2.0])


def test_has_aux_passes_on_what_is_beside_the_value(x: Any) -> None:
    gradient, aux = func.grad(lambda x: ((x * x).sum(), x.sum()), has_aux=True)(x)
    assert np.array_equal(gradient.numpy(), 2 * x.numpy()) and aux.item() == x.sum().item() and not aux.requires_grad


def test_an_argument_that_nothing_depends_on_has_a_gradient_of_zero(x: Any) -> None:
    found = func.grad(lambda a, b: (a * a).sum(), argnums=1)(x, x)
    found += 1.0  # it is the caller's own
    assert np.array_equal(func.grad(lambda a, b: (a * a).sum(), argnums=1)(x, x).numpy(), np.zeros(4))


def test_no_grad_is_touched_and_a_linked_argument_goes_on(x: Any) -> None:
    x.requires_grad = True
    gradient = func.grad(scalar)(x)
    assert x.grad is None and gradient.requires_grad
    gradient.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), func.hessian(scalar)(x.detach()).numpy().sum(0), rtol=1e-12)


@pytest.mark.parametrize("make", [lambda: func.grad(scalar), lambda: func.hessian(scalar), lambda: func.jacobian(vector),
                                  lambda: lambda x: func.jvp(vector, (x,), (x,)), lambda: lambda x: func.vjp(vector, x)[1](x)])
def test_captured_they_have_the_same_bits(make: Any, rng: np.random.Generator) -> None:
    f = make()
    captured = mg.capture(lambda x: f(x))
    for _ in range(4):
        x = mg.tensor(rng.normal(size=4))
        expected, found = f(x), captured(x)
        pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
        assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)
    assert captured.nbytes > 0


def test_misuse_is_named(x: Any) -> None:
    with pytest.raises(ShapeError, match="scalar result"):
        func.grad(vector)(x)
    with pytest.raises(DtypeError, match="int64"):
        func.grad(scalar)(mg.tensor([1, 2]))
    with pytest.raises(ValueError, match="argnums"):
        func.grad(scalar, argnums=1)(x)
    with pytest.raises(ShapeError, match="jvp"):
        func.jvp(vector, (x,), (x[:2],))
    with pytest.raises(ShapeError, match="vjp"):
        func.vjp(vector, x)[1](x.sum())
