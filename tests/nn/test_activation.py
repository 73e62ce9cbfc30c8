"""Activations as modules and functions: PyTorch's values, gradients, names and defaults, in place and captured."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.errors import AxisError, GraphError

X = np.random.default_rng(0).normal(scale=3, size=(4, 5, 6))

MODULES: dict[str, nn.Module] = {repr(m): m for m in (
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.LeakyReLU(0.2), nn.ELU(), nn.ELU(2.0), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Sigmoid(),
    nn.LogSigmoid(), nn.Tanh(), nn.Hardtanh(), nn.Hardtanh(0.0, 2.0), nn.Softplus(), nn.Softplus(2.0, 3.0), nn.Softmax(dim=-1), nn.Softmax(dim=0),
    nn.Softmax(dim=1), nn.LogSoftmax(dim=-1), nn.LogSoftmax(dim=1))}


@pytest.mark.parametrize("shown", MODULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_modules_are_pytorchs_in_name_value_and_gradient(shown: str, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    other = eval(f"torch.nn.{shown}", {"torch": torch})
    assert repr(other) == shown
    x: Any = mg.tensor(X.astype(dtype), requires_grad=True)
    theirs = torch.tensor(X.astype(dtype), requires_grad=True)
    g = np.random.default_rng(1).normal(size=X.shape).astype(dtype)
    out, expected = MODULES[shown](x), other(theirs)
    out.backward(mg.tensor(g))
    expected.backward(torch.tensor(g))
    tolerance = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("shown", MODULES)
def test_a_captured_module_has_the_bits_of_eager_mode(shown: str) -> None:
    module = MODULES[shown]
    x: Any = mg.tensor(X.astype(np.float32), requires_grad=True)

    def step(g: Any) -> Any:
        x.grad = None
        out = module(x)
        out.backward(g)
        return out, x.grad

    captured = mg.capture(step)
    g = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    for _ in range(4):
        assert [t.numpy().tobytes() for t in captured(g)] == [t.detach().numpy().tobytes() for t in step(mg.tensor(g))]


# ---- in place
@pytest.mark.parametrize("module", [nn.ReLU(True), nn.ReLU6(True), nn.SELU(True), nn.SiLU(True), nn.LeakyReLU(0.1, True), nn.ELU(1.5, True),
                                    nn.Hardtanh(-1.0, 1.0, True)], ids=repr)
def test_in_place_the_input_is_the_output_with_the_same_gradient(module: Any) -> None:
    assert "inplace=True" in repr(module)
    values, gradients = [], []
    for inplace in (True, False):
        module.inplace = inplace
        x: Any = mg.tensor(X, requires_grad=True)
        inner = x * 1.5
        out = module(inner)
        assert (out is inner) is inplace
        out.sum().backward()
        values.append(out.detach().numpy().tobytes())
        gradients.append(x.grad.numpy().tobytes())
    assert values[0] == values[1] and gradients[0] == gradients[1]


def test_a_leaf_that_requires_gradients_is_not_written() -> None:
    x: Any = mg.tensor(X, requires_grad=True)
    with pytest.raises(GraphError, match="relu_: a leaf Variable"):
        F.relu(x, inplace=True)
    assert np.array_equal(x.detach().numpy(), X)


# ---- functions
def test_functions_take_pytorchs_arguments() -> None:
    torch = pytest.importorskip("torch")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("leaky_relu", {"negative_slope": 0.3}), ("elu", {"alpha": 0.5}), ("selu", {}), ("silu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}),
        ("softplus", {"beta": 3, "threshold": 5}), ("logsigmoid", {}), ("relu6", {}), ("hardtanh", {"min_val": -2, "max_val": 3}),
        ("softmax", {"dim": 0}), ("log_softmax", {"dim": -2})]
    for name, arguments in calls:
        expected = getattr(torch.nn.functional, name)(torch.tensor(X), **arguments).numpy()
        np.testing.assert_allclose(getattr(F, name)(mg.tensor(X), **arguments).numpy(), expected, rtol=1e-13, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_goes_along_any_axis_by_both_names(function: Any) -> None:
    x = mg.tensor(X)
    for axis in (-3, -2, -1, 0, 1, 2):
        moved = function(mg.tensor(np.moveaxis(X, axis, -1).copy()))
        for found in (function(x, axis), function(x, dim=axis), function(x, axis=axis)):
            np.testing.assert_allclose(np.moveaxis(found.numpy(), axis, -1), moved.numpy(), rtol=1e-13)
    assert function(x, dtype=mg.float32).dtype == np.float32
    assert function(X).dtype == np.float64
    with pytest.raises(AxisError, match="axis 3 of float64"):
        function(x, dim=3)
    with pytest.raises(AxisError, match="a scalar has no axis"):
        function(mg.tensor(1.0))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (2, 3, 0)])
def test_nothing_in_nothing_out(shape: tuple[int, ...]) -> None:
    for axis in range(len(shape)):
        for function in (F.softmax, F.log_softmax):
            x: Any = mg.tensor(np.ones(shape), requires_grad=True)
            function(x, axis).sum().backward()
            assert x.grad.shape == shape
    assert F.gelu(mg.tensor(np.ones(shape))).shape == shape


@pytest.mark.parametrize(("call", "text"), [
    (lambda x: F.leaky_relu(x, -0.1), "leaky_relu: negative_slope is -0.1, expected a number that is not negative"),
    (lambda x: F.elu(x, alpha=-1.0), "elu: alpha is -1.0"),
    (lambda x: F.gelu(x, approximate="fast"), "gelu: approximate is 'fast', expected 'none' or 'tanh'"),
    (lambda x: F.hardtanh(x, 2.0, 1.0), "min_val 2.0 is greater than max_val 1.0"),
])
def test_arguments_that_mean_nothing_are_refused(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(mg.tensor(X))


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "logsigmoid", "hardtanh"])
def test_zero_has_pytorchs_gradient(name: str) -> None:
    torch = pytest.importorskip("torch")
    x: Any = mg.tensor([0.0, -0.0, 1.0, -1.0, 6.0], requires_grad=True)
    theirs = torch.tensor([0.0, -0.0, 1.0, -1.0, 6.0], requires_grad=True)
    getattr(F, name)(x).sum().backward()
    getattr(torch.nn.functional, name)(theirs).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_a_selu_keeps_mean_and_variance() -> None:
    x = np.random.default_rng(0).normal(size=1_000_000)
    out = F.selu(mg.tensor(x)).numpy()
    assert abs(out.mean()) < 0.01 and abs(out.var() - 1) < 0.01
