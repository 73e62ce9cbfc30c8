"""`mg.func`: derivatives of functions agree with each other and with complex steps, nest to any order, and leave `.grad` alone."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import func, nn
from minigrad.errors import DtypeError, GraphError, ShapeError


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
    assert [x.grad, gradient.requires_grad] == [None, True]
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


# ---- what functions may do inside
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_their_arguments(dtype: Any, rng: np.random.Generator) -> None:
    x = mg.tensor(rng.normal(size=4).astype(dtype))
    found = [func.grad(scalar)(x), func.jacobian(vector)(x), func.hessian(scalar)(x), *func.jvp(vector, (x,), (x,)), *func.hvp(scalar, (x,), (x,)),
             func.vjp(vector, x)[1](x)[0], *func.value_and_grad(scalar)(x)]
    assert {f.dtype for f in found} == {np.dtype(dtype)}
    double = mg.tensor(x.numpy().astype(np.float64))
    np.testing.assert_allclose(found[2].numpy(), func.hessian(scalar)(double).numpy(), rtol=1e-4 if dtype == np.float32 else 1e-12)


def in_place(x: Any) -> Any:
    y = x * 1.0
    y.mul_(x)
    y[1:3] = y[1:3].clone() * y[0].clone()
    y[0] = 2.0
    return (y * y).sum()


def views(x: Any) -> Any:
    y = x.reshape(2, 2) * 1.0
    row = y[0]
    row.mul_(x[2:] * 3.0)
    return (y.T @ y).sum() + x[[0, 0, 3]].prod()


def branches(x: Any) -> Any:
    return mg.where(x > 0.0, x * x * x, x.exp()).cumsum(0).max() + mg.cat([x, x * 2.0]).std()


def constants(x: Any) -> Any:
    return (x * mg.ones(4, dtype=mg.float64) + np.arange(4.0)).square().mean() + x.detach().sum() * x[0]


@pytest.mark.parametrize("f", [in_place, views, branches])
def test_first_and_second_derivatives_of_what_is_written_in_place_viewed_and_indexed(f: Any, x: Any) -> None:
    before = x.numpy().copy()
    np.testing.assert_allclose(func.grad(f)(x).numpy(), numeric(f, x.numpy()), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(func.hessian(f)(x).numpy(), numeric(func.grad(f), x.numpy()), rtol=1e-5, atol=1e-6)
    assert np.array_equal(x.numpy(), before)


def test_a_function_may_not_write_into_its_argument(x: Any) -> None:
    with pytest.raises(GraphError, match="in-place"):
        func.grad(lambda z: z.mul_(2.0).sum())(x)


def test_detached_parts_and_constants_have_no_derivative(x: Any) -> None:
    expected = 2 * (x.numpy() + np.arange(4.0)) / 4
    expected[0] += x.numpy().sum()
    np.testing.assert_allclose(func.grad(constants)(x).numpy(), expected, rtol=1e-12)
    assert np.array_equal(func.grad(lambda z: mg.tensor(1.0))(x).numpy(), np.zeros(4))
    assert np.array_equal(func.jacobian(lambda z: (z > 0.0).astype(mg.float64))(x).numpy(), np.zeros((4, 4)))


def test_random_numbers_inside_are_drawn_as_outside(x: Any) -> None:
    def noisy(z: Any) -> Any:
        return (F.dropout(z, 0.5, training=True) * mg.random_normal(4, dtype=mg.float64)).sum()

    mg.manual_seed(3)
    first = func.grad(noisy)(x).numpy()
    mg.manual_seed(3)
    leaf: Any = mg.tensor(x.numpy(), requires_grad=True)
    noisy(leaf).backward()
    assert np.array_equal(first, leaf.grad.numpy())
    assert not np.array_equal(func.grad(noisy)(x).numpy(), first)


def test_argnums_name_arguments_and_keywords_are_passed_on(x: Any) -> None:
    def f(a: Any, b: Any, c: float, *, k: float = 1.0) -> Any:
        return (a * b * b).sum() * c * k

    y = x * 2.0
    plain = x.numpy()
    gb, ga = func.grad(f, argnums=(1, 0))(x, y, 3.0, k=2.0)
    np.testing.assert_allclose(gb.numpy(), 2 * plain * y.numpy() * 6, rtol=1e-12)
    np.testing.assert_allclose(ga.numpy(), y.numpy() ** 2 * 6, rtol=1e-12)
    np.testing.assert_allclose(func.grad(f, argnums=-2)(x, y, 3.0).numpy(), 2 * plain * y.numpy() * 3, rtol=1e-12)
    (haa, hab), (hba, hbb) = func.hessian(f, argnums=(0, 1))(x, y, 1.0)
    assert np.array_equal(haa.numpy(), np.zeros((4, 4))) and np.allclose(hab.numpy(), hba.numpy().T)
    np.testing.assert_allclose(hab.numpy(), np.diag(2 * y.numpy()), rtol=1e-12)
    np.testing.assert_allclose(hbb.numpy(), np.diag(2 * plain), rtol=1e-12)


def test_has_aux_of_every_function_that_takes_it(x: Any) -> None:
    def f(z: Any) -> Any:
        return (z * z).sum(), {"twice": z * 2.0, "word": "aux"}

    (value, aux), gradient = func.value_and_grad(f, has_aux=True)(x)
    out, pull, more = func.vjp(f, x, has_aux=True)
    for one in (aux, more):
        assert one["word"] == "aux" and np.array_equal(one["twice"].numpy(), 2 * x.numpy()) and not one["twice"].requires_grad
    assert value.item() == out.item() and np.array_equal(pull(mg.ones(dtype=mg.float64))[0].numpy(), gradient.numpy())
    with pytest.raises(TypeError, match="must return a pair"):
        func.grad(scalar, has_aux=True)(x)


def test_nested_in_captured_steps_derivatives_have_the_same_bits(rng: np.random.Generator) -> None:
    w = mg.tensor(rng.normal(size=4), requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        penalty = func.grad(lambda z: (mg.tanh(z * w) * x).sum())(x)
        loss = (penalty * penalty).sum() + in_place(w * x)
        loss.backward()
        return loss, w.grad

    captured = mg.capture(step)
    for _ in range(5):
        x = mg.tensor(rng.normal(size=4))
        expected = [y.detach().numpy().tobytes() for y in step(x)]
        assert [y.detach().numpy().tobytes() for y in captured(x)] == expected


# ---- modules
@pytest.fixture
def net() -> Any:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_a_module_can_be_called_with_other_parameters_and_stays_as_it_is(net: Any, rng: np.random.Generator) -> None:
    x = mg.tensor(rng.normal(size=(5, 3)))
    own, before = dict(net.named_parameters()), net(x).detach().numpy()
    zeros = {name: mg.zeros_like(p) for name, p in own.items()}
    assert not func.functional_call(net, zeros, x).numpy().any()
    assert np.array_equal(func.functional_call(net, {}, (x,)).detach().numpy(), before)
    assert np.array_equal(net(x).detach().numpy(), before) and list(own.values()) == list(net.parameters())
    with pytest.raises(KeyError, match=r"no parameter or buffer '0\.wait'"):
        func.functional_call(net, {"0.wait": x}, x)
    with pytest.raises(ShapeError, match=r"0\.weight is float64\[5, 3\], expected a Tensor of shape \(4, 3\)"):
        func.functional_call(net, {"0.weight": x}, x)
    with pytest.raises(ShapeError):
        func.functional_call(net, zeros, x[:, :2])
    assert net[0].weight is own["0.weight"]


def test_the_gradient_for_a_module_s_parameters_is_that_of_backward(net: Any, rng: np.random.Generator) -> None:
    x = mg.tensor(rng.normal(size=(5, 3)))
    values = {name: p.detach() for name, p in net.named_parameters()}
    found = func.grad(lambda values: func.functional_call(net, values, x).square().mean())(values)
    assert all(p.grad is None for p in net.parameters())
    net(x).square().mean().backward()
    for name, p in net.named_parameters():
        assert found[name].numpy().tobytes() == p.grad.numpy().tobytes()


def test_a_shared_parameter_is_replaced_everywhere_and_buffers_too(rng: np.random.Generator) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    tied[1].weight = tied[0].weight
    x = mg.tensor(rng.normal(size=(2, 3)))
    zero = {"0.weight": mg.zeros(3, 3, dtype=mg.float64), "0.bias": mg.ones(3, dtype=mg.float64)}
    assert np.array_equal(func.functional_call(tied, zero, x).detach().numpy(), np.tile(tied[1].bias.detach().numpy(), (2, 1)))
    norm = nn.BatchNorm1d(3, affine=False).double().eval()
    moved = func.functional_call(norm, {"running_mean": mg.full((3,), 2.0, dtype=mg.float64)}, x)
    np.testing.assert_allclose(moved.numpy(), norm(x - 2.0).numpy(), rtol=1e-12)
    assert not norm.running_mean.numpy().any()


def test_the_hessian_of_a_net_s_loss_agrees_with_pytorch(net: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    data, labels = rng.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0])
    values = {name: p.detach() for name, p in net.named_parameters()}
    names = list(values)

    def loss(values: Any) -> Any:
        return F.cross_entropy(func.functional_call(net, values, mg.tensor(data)), mg.tensor(labels))

    def their_loss(*values: Any) -> Any:
        weight, bias, last, offset = values
        hidden = torch.tanh(torch.tensor(data) @ weight.T + bias)
        return torch.nn.functional.cross_entropy(hidden @ last.T + offset, torch.tensor(labels))

    ours = func.hessian(loss)(values)
    theirs = torch.autograd.functional.hessian(their_loss, tuple(torch.tensor(v.numpy().copy()) for v in values.values()))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            np.testing.assert_allclose(ours[a][b].numpy(), theirs[i][j].numpy(), rtol=1e-9, atol=1e-12)
