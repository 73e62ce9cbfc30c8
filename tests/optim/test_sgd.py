"""SGD: the formula, PyTorch's numbers, and who owns what when models, parameters and gradients are shared, frozen or missing."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import NonFiniteError

X = np.random.default_rng(0).normal(size=(6, 3))


def net(dtype: Any = np.float64) -> nn.Sequential:
    mg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5, dtype=dtype), nn.Tanh(), nn.Linear(5, 1, dtype=dtype))


def descend(model: nn.Module, *optimisers: optim.SGD, steps: int = 1) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(X).mean().backward()
        for opt in optimisers:
            opt.step()


def values(*parameters: Any) -> list[np.ndarray[Any, Any]]:
    return [p.array.copy() for p in parameters]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_formula_bit_for_bit(momentum: float, dtype: Any, rng: np.random.Generator) -> None:
    p = nn.Parameter(rng.normal(size=67).astype(dtype))
    expected, velocity = p.array.copy(), np.zeros(67, dtype)
    opt = optim.SGD([p], lr=0.1, momentum=momentum)
    for _ in range(5):
        g = rng.normal(size=67).astype(dtype)
        p.grad = mg.tensor(g)
        opt.step()
        velocity = dtype(momentum) * velocity + g
        expected = expected - dtype(0.1) * velocity
        assert p.array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_pytorch_goes_the_same_way(momentum: float) -> None:
    torch = pytest.importorskip("torch")
    model = net()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    theirs.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in model.state_dict().items()})
    opt, their_opt = optim.SGD(model.parameters(), lr=0.1, momentum=momentum), torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum)
    for _ in range(20):
        descend(model, opt)
        their_opt.zero_grad()
        theirs(torch.tensor(X)).mean().backward()
        their_opt.step()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(np.asarray(value), theirs.state_dict()[name].numpy(), rtol=1e-10, atol=1e-12)


# ---- who is updated
def test_a_parameter_without_a_gradient_is_left_alone_and_keeps_its_velocity() -> None:
    a, b = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    opt = optim.SGD([a, b], lr=1.0, momentum=0.5)
    for has_gradient in (True, False, True):
        opt.zero_grad()
        ((a + b) if has_gradient else a).sum().backward()
        opt.step()
    assert a.tolist() == [1 - 1 - 1.5 - 1.75] * 3
    assert b.tolist() == [1 - 1 - 1.5] * 3


def test_a_frozen_parameter_gets_no_gradient_and_stays() -> None:
    model: Any = net()
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    descend(model, opt)
    frozen, moving = model[0].weight, model[2].weight
    frozen.requires_grad_(False)
    before, moving_before = values(frozen, moving)
    descend(model, opt, steps=3)
    assert frozen.grad is None and np.array_equal(frozen.array, before) and not np.array_equal(moving.array, moving_before)
    frozen.requires_grad_(True)
    descend(model, opt)
    assert not np.array_equal(frozen.array, before)


def test_a_tied_parameter_gets_the_sum_and_one_update() -> None:
    first, second = nn.Linear(3, 3, bias=False, dtype=np.float64), nn.Linear(3, 3, bias=False, dtype=np.float64)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    assert len(list(model.parameters())) == 1
    w = first.weight.array.copy()
    descend(model, optim.SGD(model.parameters(), lr=0.1))
    g = np.full((6, 3), 1 / 18)
    np.testing.assert_allclose(first.weight.array, w - 0.1 * (g.T @ (X @ w.T) + (g @ w).T @ X), rtol=1e-12)
    assert second.weight is first.weight


def test_two_optimisers_on_one_model_each_update_their_own() -> None:
    apart, together = net(), net()
    descend(apart, optim.SGD(apart[0].parameters(), lr=0.1, momentum=0.9), optim.SGD(apart[2].parameters(), lr=0.01), steps=5)
    descend(together, optim.SGD([{"params": together[0].parameters(), "lr": 0.1, "momentum": 0.9}, {"params": together[2].parameters()}], lr=0.01),
            steps=5)
    assert [p.array.tobytes() for p in apart.parameters()] == [p.array.tobytes() for p in together.parameters()]


def test_two_optimisers_on_the_same_parameters_have_a_velocity_each() -> None:
    p = nn.Parameter(np.zeros(1))
    first, second = optim.SGD([p], lr=1.0, momentum=0.5), optim.SGD([p], lr=1.0, momentum=0.5)
    p.grad = mg.tensor(np.ones(1))
    for opt in (first, second, first):
        opt.step()
    assert p.tolist() == [-1 - 1 - 1.5]


def test_a_leaf_that_is_no_parameter_is_updated_too() -> None:
    x = mg.tensor(np.ones(3), requires_grad=True)
    opt = optim.SGD([x], lr=0.5, momentum=0.5)
    for _ in range(2):
        opt.zero_grad()
        (x * 1.0).sum().backward()
        opt.step()
    assert x.tolist() == [1 - 0.5 - 0.75] * 3


def test_a_parameter_keeps_its_memory() -> None:
    model = net()
    places = [p.address for p in model.parameters()]
    descend(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), steps=2)
    assert [p.address for p in model.parameters()] == places == [p.array.ctypes.data for p in model.parameters()]


# ---- hyper-parameters
def test_a_rate_that_is_set_is_used_from_then_on() -> None:
    p = nn.Parameter(np.zeros(1))
    opt = optim.SGD([p], lr=1.0)
    for rate in (1.0, 0.25, 0.0):
        opt.param_groups[0]["lr"] = rate
        p.grad = mg.tensor(np.ones(1))
        opt.step()
    assert p.tolist() == [-1.25]


# ---- refusals
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    good, spoilt = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    opt = optim.SGD([good, spoilt], lr=0.1, momentum=0.9)
    good.grad, spoilt.grad = mg.tensor(np.ones(3)), mg.tensor(np.array([1.0, bad, 1.0]))
    with pytest.raises(NonFiniteError, match="refused"):
        opt.step()
    assert good.tolist() == spoilt.tolist() == [1, 1, 1]
    spoilt.grad = mg.tensor(np.ones(3))
    opt.step()
    assert good.tolist() == spoilt.tolist() == [0.9] * 3


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: optim.SGD([], lr=0.1), ValueError, "empty parameter list"),
    (lambda: optim.SGD([nn.Parameter(np.ones(1))], lr=-0.1), ValueError, "Invalid learning rate: -0.1"),
    (lambda: optim.SGD([nn.Parameter(np.ones(1))], lr=0.1, momentum=float("nan")), ValueError, "Invalid momentum value: nan"),
    (lambda: optim.SGD([np.ones(1)], lr=0.1), TypeError, "takes Tensors, got a ndarray"),
    (lambda: optim.SGD([nn.Parameter(np.ones(1))] * 2, lr=0.1), ValueError, "list each once"),
])
def test_what_makes_no_sense_is_refused(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
