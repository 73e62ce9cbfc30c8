"""Embedding and Flatten against PyTorch, eager and captured."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import IndexRangeError, ShapeError


@pytest.mark.parametrize("padding", [None, 0, -1])
def test_values_and_gradients_are_pytorchs(padding: int | None, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(5, 3, padding_idx=padding), torch.nn.Embedding(5, 3, padding_idx=padding)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(ours.weight.array.copy()))
    if padding is not None:
        assert not ours.weight.array[padding].any() and ours.weight.array[1].all()
    index, weights = rng.integers(0, 5, (4, 6)), rng.normal(size=(4, 6, 3)).astype(np.float32)
    out, reference = ours(mg.tensor(index)), theirs(torch.tensor(index))
    assert np.array_equal(out.array, reference.detach().numpy())
    (out * mg.tensor(weights)).sum().backward()
    (reference * torch.tensor(weights)).sum().backward()
    assert ours.weight.grad is not None
    np.testing.assert_allclose(ours.weight.grad.array, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_captured_step_learns_with_the_bits_of_eager_mode(rng: np.random.Generator) -> None:
    def trained(wrap: Any) -> bytes:
        mg.manual_seed(1)
        net = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 2))
        optimizer = mg.optim.SGD(net.parameters(), lr=0.1)

        def step(words: Any, labels: Any) -> Any:
            loss = nn.functional.cross_entropy(net(words), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run, draws = wrap(step), np.random.default_rng(5)
        for _ in range(5):
            run(mg.tensor(draws.integers(0, 7, (6, 3))), mg.tensor(draws.integers(0, 2, 6)))
        return b"".join(p.array.tobytes() for p in net.parameters())

    assert trained(mg.capture) == trained(lambda step: step)


def test_a_word_that_is_no_row_is_named() -> None:
    net = nn.Sequential(nn.Embedding(5, 3))
    with pytest.raises(IndexRangeError, match=r"embedding: index\[1, 0\] is 5, out of range for size 5"):
        net(np.array([[0, 1], [5, 2]]))
    with pytest.raises(ShapeError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)


def test_flatten_and_unflatten_are_views() -> None:
    x = mg.ones(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4) and nn.Unflatten(2, (2, -1))(x).shape == (2, 3, 2, 2)
    assert np.shares_memory(nn.Flatten()(x).array, x.array)
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)" and "5, 3, padding_idx=1" in repr(nn.Embedding(5, 3, padding_idx=1))
