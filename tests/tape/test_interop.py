"""NumPy's functions on Tensors stay on the tape or raise; memory is shared through DLPack."""
from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError, GraphError, ShapeError
from minigrad.tape import interop


def leaf(*shape: int) -> Any:
    return mg.tensor(np.random.default_rng(0).uniform(0.5, 1.5, shape), requires_grad=True)


@pytest.mark.parametrize("ufunc", interop.UFUNCS)
def test_a_ufunc_is_minigrads_op(ufunc: np.ufunc) -> None:
    kind = np.int64 if ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor) else np.float64
    draw = np.random.default_rng(0)
    arrays: list[Any] = [draw.uniform(0.5, 3.5, (3, 3)).astype(kind) for _ in range(ufunc.nin)]
    expected = ufunc(*arrays)
    for which in range(ufunc.nin):
        given = [mg.tensor(a) if i == which else a for i, a in enumerate(arrays)]
        got = ufunc(*given)
        assert isinstance(got, mg.Tensor) and got.dtype == expected.dtype
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("function", [np.sum, np.mean, np.prod, np.max, np.min, np.var, np.std, np.argmax, np.argmin, np.any, np.all, np.cumsum])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_reduction_is_minigrads_with_numpys_meaning(function: Any, axis: int | None) -> None:
    x = leaf(3, 4)
    got = function(x, axis=axis)
    assert isinstance(got, mg.Tensor) and got.requires_grad is (function not in (np.argmax, np.argmin, np.any, np.all))
    np.testing.assert_allclose(got.detach().numpy(), function(x.detach().numpy(), axis=axis), rtol=1e-14)


def test_arrangements_are_minigrads() -> None:
    x = leaf(2, 3)
    a = x.detach().numpy()
    for call in (lambda v: np.concatenate([v, a], axis=1), lambda v: np.stack([v, v]), lambda v: np.where(a > 1, v, 0.0),
                 lambda v: np.clip(v, 0.7, 1.2),
                 lambda v: np.reshape(v, (3, 2)), lambda v: np.transpose(v), lambda v: np.transpose(v, (1, 0)), np.ravel, np.tril,
                 lambda v: np.expand_dims(v, 1), lambda v: np.swapaxes(v, 0, 1), lambda v: np.broadcast_to(v, (4, 2, 3)),
                 lambda v: np.vstack([v, v])):
        got = call(x)
        assert isinstance(got, mg.Tensor) and got.requires_grad and np.array_equal(got.detach().numpy(), call(a))


def test_a_number_or_array_in_front_of_an_operator_stays_on_the_tape() -> None:
    x = leaf(2, 2)
    for y in (np.float64(2) * x, np.float32(2) / x, np.ones((2, 2)) + x, np.ones((2, 2)) @ x, np.ones(2) - x, np.float64(2) ** x):
        assert isinstance(y, mg.Tensor) and y.requires_grad


def test_what_would_lose_a_gradient_raises_and_what_would_not_is_numpys() -> None:
    x = leaf(2, 2)
    for lose in (np.sinh, np.cov, np.median, np.linalg.inv, lambda v: np.add.reduce(v), lambda v: np.add(np.ones((2, 2)), v, out=np.ones((2, 2)))):
        with pytest.raises(TypeError, match="would lose the gradients"):
            lose(x)
    array: Any = np.ones((2, 2))
    with pytest.raises(TypeError, match="would lose the gradients"):
        array += x
    assert np.array_equal(array, np.ones((2, 2)))
    assert np.allclose(x, x) and np.array_equal(x, x) and np.shape(x) == (2, 2) and np.argsort(x).shape == (2, 2)
    with mg.no_grad():
        assert isinstance(np.sinh(x), np.ndarray)
    array += x.detach()
    assert isinstance(array, np.ndarray) and np.array_equal(array, 1 + x.detach().numpy())


def test_numpys_functions_are_captured_or_refused() -> None:
    x = np.ones(3)
    step = mg.capture(lambda v: np.mean(np.exp(v), axis=0))
    np.testing.assert_allclose([float(step(x * n)) for n in (1, 2, 3)], np.exp([1, 2, 3]), rtol=1e-15)
    with pytest.raises(CaptureError, match="inside a captured step"):
        mg.capture(lambda v: mg.sum(mg.as_tensor(np.sinh(v))))(x)


def test_dlpack_shares_memory_both_ways() -> None:
    x = mg.arange(6, dtype=mg.float32).reshape(2, 3)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.array) and x.__dlpack_device__() == (1, 0)
    given = np.arange(4.0)
    made = mg.from_dlpack(given)
    given[1] = 7
    assert made.tolist() == [0, 7, 2, 3]
    with pytest.raises(GraphError, match=r"use tensor\.detach"):
        np.from_dlpack(leaf(2))
    with pytest.raises(ShapeError, match="C-contiguous"):
        mg.from_dlpack(given[::2])


def test_dlpack_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.zeros(3)
    ours = mg.from_dlpack(theirs)
    torch.from_dlpack(ours)[0] = 5
    theirs[1] = 6
    assert ours.tolist() == theirs.tolist() == [5, 6, 0]


def test_a_gradient_is_exported_as_a_copy() -> None:
    x = leaf(2)
    x.sum().backward()
    array = np.from_dlpack(x.grad)
    x.grad = None
    (x * 3).sum().backward()
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_models_and_their_optimisers_are_copied_together(again: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    opt = optim.Adam(model.parameters(), lr=0.1)

    def train(model: Any, opt: Any, steps: int) -> list[float]:
        x, losses = np.random.default_rng(1).normal(size=(8, 3)), []
        for _ in range(steps):
            opt.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses

    train(model, opt, 3)
    other, its = again((model, opt))
    assert its.param_groups[0]["params"][0] is next(other.parameters()) is not next(model.parameters())
    assert train(model, opt, 3) == train(other, its, 3)
