"""Reductions as functions and as methods, in NumPy's words and in PyTorch's; pairs of values and places."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import AxisError, ShapeError

X = np.random.default_rng(0).normal(size=(4, 3, 5))
NAMES = ["sum", "mean", "prod", "var", "std", "norm", "logsumexp", "any", "all", "amax", "amin", "argmax", "argmin"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_a_function_and_a_method_say_the_same_in_both_languages(name: str, axis: Any, keep: bool) -> None:
    x, function = mg.tensor(X), getattr(mg, name)
    found = [function(x, axis=axis, keepdims=keep), function(x, dim=axis, keepdim=keep), getattr(x, name)(axis=axis, keepdims=keep),
             getattr(x, name)(dim=axis, keepdim=keep), function(X, axis=axis, keepdims=keep)]
    assert all(isinstance(f, mg.Tensor) and f.array.tobytes() == found[0].array.tobytes() and f.shape == found[0].shape for f in found)
    assert found[0].shape == np.sum(X, axis=axis, keepdims=keep).shape


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "std", "var", "norm", "logsumexp", "any", "amax"])
def test_several_axes_come_as_a_tuple_or_a_list(name: str) -> None:
    x = mg.tensor(X)
    assert getattr(x, name)(axis=(0, 2)).tolist() == getattr(x, name)(dim=[2, 0]).tolist() == getattr(x, name)(axis=(-3, -1)).tolist()


def test_numpys_values() -> None:
    x = mg.tensor(X)
    for found, expected in ((x.var(1), X.var(1, ddof=1)), (x.var(ddof=0), X.var()), (x.std(unbiased=False), X.std()), (x.std(2), X.std(2, ddof=1)),
                            (x.norm(), np.linalg.norm(X.ravel())), (x.norm(1, dim=2), np.abs(X).sum(2)), (x.norm(3.0, -1), np.linalg.norm(X, 3, -1)),
                            (x.prod(0), X.prod(0)), (x.cumsum(1), X.cumsum(1)), (x.cumsum(dim=-1), X.cumsum(-1)), (mg.cumsum(x), X.cumsum()),
                            (x.max(), X.max()), (x.min(axis=0), X.min(0)), (x.max(axis=(0, 1), keepdims=True), X.max((0, 1), keepdims=True)),
                            (x.logsumexp(dim=1), np.log(np.exp(X).sum(1)))):
        np.testing.assert_allclose(found.array, expected, rtol=1e-13)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["max", "min"])
def test_along_a_dim_values_come_with_their_places(name: str, keepdim: bool, dim: int) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 4, (4, 3, 5)).astype(np.float32)
    x[1, 2] = np.nan
    leaf, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    values, indices = getattr(leaf, name)(dim, keepdim)
    expected = getattr(peer, name)(dim, keepdim)
    np.testing.assert_array_equal(values.detach().array, expected.values.detach().numpy())
    places = (np.argmax if name == "max" else np.argmin)(x, dim, keepdims=keepdim)  # PyTorch's choice among equal values is open
    assert indices.dtype == np.int64 and np.array_equal(indices.array, places)
    values.sum().backward()
    assert leaf.grad is not None
    chosen = np.zeros_like(x)
    np.put_along_axis(chosen, places if keepdim else np.expand_dims(places, dim), 1, dim)
    assert np.array_equal(leaf.grad.array, chosen)


def test_a_pair_has_names_and_other_dtypes() -> None:
    pair = mg.max(mg.tensor([[1, 7, 7], [3, 2, 1]]), dim=1)
    assert (pair.values.tolist(), pair.indices.tolist()) == ([7, 3], [1, 0]) and pair.values.dtype == np.int64
    assert mg.min(X, dim=0).values.shape == (3, 5)


def test_ambiguous_or_impossible_words_are_refused() -> None:
    x = mg.tensor(X)
    with pytest.raises(TypeError, match="two names of one argument"):
        x.sum(axis=0, dim=0)
    with pytest.raises(TypeError, match="two names of one argument"):
        x.max(dim=0, axis=0)  # type: ignore[call-overload]
    with pytest.raises(AxisError, match="truth value"):
        x.sum(True)
    with pytest.raises(TypeError, match="both say the correction"):
        x.var(ddof=1, unbiased=True)
    with pytest.raises(ShapeError, match="along one axis"):
        x.max(dim=(0, 1))  # type: ignore[call-overload]
    with pytest.raises(AxisError, match="axis 3"):
        x.argmin(dim=3)


@pytest.mark.parametrize("threads", [1, 2])
def test_captured_they_have_the_bits_of_eager_mode(threads: int, rng: np.random.Generator) -> None:
    leaf = mg.tensor(X.astype(np.float32), requires_grad=True)

    def step(x: mg.Tensor) -> Any:
        leaf.grad = None
        y = x * leaf
        values, places = y.max(dim=1)
        total = values.sum() + y.std(dim=(0, 2)).sum() + y.prod(dim=2).sum() + y.norm(3, dim=0).sum() + y.cumsum(1).mean() + y.amin(0).sum()
        (total + y.logsumexp(dim=-1).sum() + y.var()).backward()
        return places, total, y.argmin(), (y.any(dim=0)), leaf.grad

    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        captured = mg.capture(step)
        for _ in range(4):
            x = mg.tensor(rng.normal(size=X.shape).astype(np.float32))
            found, expected = ([np.array(t.array) for t in run(x)] for run in (captured, step))
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        mg.set_num_threads(before)
