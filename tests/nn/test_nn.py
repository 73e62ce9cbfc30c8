"""Modules: names, residuals, the dense layer; in PyTorch's words."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.ReLU()), scale=0.5), nn.Linear(5, 2, bias=False))


def output(model: nn.Module) -> np.ndarray[Any, Any]:
    with mg.no_grad():
        return np.array(model(X).numpy())


# ---- names
def test_keys_are_pytorchs_and_in_order_of_definition() -> None:
    assert list(net().state_dict()) == ["0.weight", "0.bias", "2.module.0.weight", "2.module.0.bias", "3.weight"]
    assert {name: value.shape for name, value in net().state_dict().items()}["0.weight"] == (5, 3)


def test_a_sequential_is_a_list_of_modules_or_takes_their_names() -> None:
    model: Any = nn.Sequential(OrderedDict(first=nn.Linear(3, 2), act=nn.ReLU()))
    assert len(model) == 2 and [type(m) for m in model] == [nn.Linear, nn.ReLU]
    assert model[-1] is model.act
    assert list(model.state_dict()) == ["first.weight", "first.bias"]
    with pytest.raises(TypeError, match="1 is a function, expected a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)  # type: ignore[arg-type]


def test_a_model_is_shown_as_a_tree() -> None:
    assert repr(net()) == """Sequential(
  (0): Linear(in_features=3, out_features=5, bias=True)
  (1): Tanh()
  (2): Residual(
    scale=0.5
    (module): Sequential(
      (0): Linear(in_features=5, out_features=5, bias=True)
      (1): ReLU()
    )
  )
  (3): Linear(in_features=5, out_features=2, bias=False)
)"""


def test_train_and_eval_reach_every_module() -> None:
    model = net()
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())


def test_an_attribute_that_is_replaced_or_deleted_is_no_parameter_any_more() -> None:
    layer: Any = nn.Linear(3, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    del layer.weight
    assert list(layer.parameters()) == []


def test_a_shared_module_is_counted_once() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    assert len(list(model.parameters())) == 2 and len(list(model.modules())) == 3


# ---- state
def test_a_state_goes_round() -> None:
    first, second = net(), net()
    assert not np.array_equal(output(first), output(second))
    places = [p.address for p in second.parameters()]
    second.load_state_dict(first.state_dict())
    assert output(first).tobytes() == output(second).tobytes()
    assert [p.address for p in second.parameters()] == places


# ---- layers
def test_linear_is_x_times_the_transposed_weight_plus_bias() -> None:
    layer = nn.Linear(3, 5, dtype=np.float64)
    found = layer(X.astype(np.float64)).detach().numpy()
    np.testing.assert_allclose(found, X.astype(np.float64) @ layer.weight.array.T + layer.bias.array, rtol=1e-12)


def test_linear_without_bias_has_none_and_adds_none() -> None:
    layer = nn.Linear(3, 5, bias=False)
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    assert not layer(np.zeros((2, 3), np.float32)).array.any()


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0])
def test_a_residual_adds_its_scaled_branch(scale: float) -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    expected = X + np.float32(scale) * output(inner)
    assert np.array_equal(output(nn.Residual(inner, scale=scale)), expected)


def test_plain_input_takes_the_parameters_dtype() -> None:
    assert nn.Linear(3, 2)(X.astype(np.float64)).dtype == np.float32
    assert nn.Linear(3, 2, dtype=np.float64)(X).dtype == np.float64


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Module needs a forward method"):
        nn.Module()(X)


def test_calling_super_late_is_noticed() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError):
        Late()
