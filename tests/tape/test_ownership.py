"""Gradients belong to whoever holds them: nothing that is handed out, shared or copied is written behind its holder's back."""
from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError, GraphError, NonFiniteError
from minigrad.tape import tensor


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def test_outputs_that_share_a_graph_are_differentiated_together() -> None:
    x = leaf(1.0, 2.0)
    h = x * x
    found, = mg.autograd.grad([h.sum(), (h * 2.0).sum()], [x])
    assert found is not None and found.tolist() == [6, 12]


def test_a_second_grad_through_a_freed_graph_raises() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    mg.autograd.grad(y, x)
    with pytest.raises(GraphError, match="backward through the graph a second time"):
        mg.autograd.grad(y, x)


def test_a_gradient_with_a_graph_belongs_to_one_leaf() -> None:
    a, b = leaf(1.0, 1.0), leaf(1.0, 1.0)
    (a + b).sum().backward(create_graph=True)
    (a * 2.0).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert (a.grad.tolist(), b.grad.tolist()) == ([3, 3], [1, 1])


def overwrite(x: Any) -> None:
    found, = mg.autograd.grad(x + 1.0, x)
    assert found is not None
    found.copy_(np.array(7.0))


@pytest.mark.parametrize("spoil", [
    lambda x: ((x + 1.0).backward(create_graph=True), (x + 1.0).backward()),
    overwrite,
])
def test_what_a_backward_starts_with_is_one_forever(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor, "_one_each", {}, raising=False)  # so that a failure here spoils no other test
    spoil(mg.tensor(np.array(2.0), requires_grad=True))
    y = mg.tensor(np.array(5.0), requires_grad=True)
    (y * 3.0).backward()
    assert y.grad is not None and y.grad.item() == 3


def test_an_optimiser_uses_a_gradient_that_has_a_graph() -> None:
    p = nn.Parameter(np.ones(2))
    opt = optim.SGD([p], lr=1.0)
    (p * p).sum().backward(create_graph=True)
    opt.step()
    assert p.tolist() == [-1, -1]


def test_an_optimiser_may_be_made_between_forward_and_backward() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    loss = model(np.ones((1, 2))).sum()
    optim.SGD(model.parameters(), lr=0.1)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copied_model_computes_with_memory_of_its_own(again: Any) -> None:
    model = nn.Linear(2, 3)
    twin = again(model)
    nn.init.zeros_(twin.weight)
    with mg.no_grad():
        assert np.array_equal(twin(np.ones((1, 2))).array[0], model.bias.array)
    assert model.weight.array.any()


def test_a_gradient_made_bad_after_clipping_is_refused() -> None:
    p = nn.Parameter(np.ones(2))
    opt = optim.SGD([p], lr=1.0)
    (p * 2.0).sum().backward()
    nn.utils.clip_grad_norm_([p], 1.0)
    assert p.grad is not None
    p.grad.copy_(np.array([np.nan, 1.0]))
    with pytest.raises(NonFiniteError):
        opt.step()
    assert p.tolist() == [1, 1]


def test_a_gradient_of_before_is_not_frozen_in_a_captured_step() -> None:
    p = nn.Parameter(np.ones(2))
    (p * 0.0).sum().backward()

    def step(x: Any) -> Any:
        before = p.grad
        p.grad = None
        (p * x).sum().backward()
        assert before is not None
        return (before * 1.0).sum()

    with pytest.raises(CaptureError, match="while it is still held"):
        mg.capture(step)(np.ones(2))
