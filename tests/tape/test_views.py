"""Programs of views, writes through them and arithmetic, drawn at random: what PyTorch computes, or an error where it has one."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")

VIEWS = 6


def part(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """A key that selects a run of memory."""
    if rng.integers(2) or len(shape) == 1:
        a, b = sorted(int(i) for i in rng.integers(0, shape[0] + 1, 2))
        return slice(a, max(b, a + 1)) if a < shape[0] else slice(0, 1)
    return int(rng.integers(shape[0]))


def copying(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """A key that selects elements that are no neighbours."""
    if len(shape) == 2 and rng.integers(2):
        return (slice(None, None, int(rng.integers(1, 3))), int(rng.integers(shape[1])))
    return rng.permutation(shape[0])[:2].tolist()


def program(seed: int, lib: Any, leaves: list[Any], as_tensor: Any) -> list[Any]:
    """The same draws, and so the same program, for each library; returns what is left, base first."""
    rng = np.random.default_rng(seed)
    x, w = leaves
    base = x * 1.5 if rng.integers(4) else lib.zeros(4, 3, dtype=lib.float64)
    live = [base]
    for _ in range(int(rng.integers(3, 14))):
        at = int(rng.integers(len(live)))
        t = live[at]
        assert len([x.grad_fn for x in live]) == len(live)  # PyTorch finds the place of a view in the graph when it is asked for
        shape = tuple(t.shape)
        act = int(rng.integers(9))
        factor = as_tensor(rng.normal(size=shape))
        source = w.reshape(-1)[:1] * 1.0
        if act <= 1 and shape and shape[0] > 0 and len(live) < VIEWS:
            live.append(t[part(rng, shape)])
        elif act == 2 and len(live) < VIEWS:
            live.append(t.reshape(-1))
        elif act == 3:
            t *= factor
        elif act == 4:
            t += source
        elif act == 5:
            t *= source
        elif act == 6 and shape:
            t[copying(rng, shape)] = 0.25 if rng.integers(2) else source
        elif act == 7 and shape:
            t[part(rng, shape)] = live[0].reshape(-1)[:1] * 2.0
        elif act == 8:
            live.append(t * t) if len(live) < VIEWS else None
    return live


def outcome(seed: int, lib: Any, arrays: list[Any], as_tensor: Any) -> tuple[list[Any], list[Any]] | None:
    """The values that are left and the gradients of a weighted sum of them; None if backward is refused."""
    leaves = [as_tensor(a).requires_grad_() for a in arrays]
    rng = np.random.default_rng(seed + 1)
    live = program(seed, lib, leaves, as_tensor)
    total = (leaves[0] * 0.5).sum() + (leaves[1] * 0.25).sum()
    for t in live:
        total = total + (t * as_tensor(rng.normal(size=tuple(t.shape)))).sum()
    try:
        total.backward()
    except RuntimeError:
        return None
    return [np.array(t.detach().numpy()) for t in live], [np.array(x.grad.numpy()) for x in leaves]


def slopes(seed: int, arrays: list[Any], direction: list[Any]) -> float:
    """The derivative of the weighted sum in a direction, by central differences."""
    rng = np.random.default_rng(seed + 1)
    weights: list[Any] = []

    def value(step: float) -> float:
        leaves = [mg.tensor(a + step * d) for a, d in zip(arrays, direction, strict=True)]
        live = program(seed, mg, leaves, lambda a: mg.tensor(np.array(a)))
        weights.extend(rng.normal(size=tuple(t.shape)) for t in live[len(weights):])
        weighted = sum((t.array * w).sum() for t, w in zip(live, weights, strict=True))
        return float(leaves[0].array.sum() * 0.5 + leaves[1].array.sum() * 0.25 + weighted)

    return (value(1e-6) - value(-1e-6)) / 2e-6


@pytest.mark.parametrize("block", range(8))
def test_random_programs_of_views_and_writes_are_pytorchs(block: int) -> None:
    rng = np.random.default_rng(block)
    for seed in range(1000 * block, 1000 * block + 60):
        arrays = [rng.normal(size=(4, 3)), rng.normal(size=(2,))]
        direction = [rng.normal(size=a.shape) for a in arrays]
        ours = outcome(seed, mg, arrays, lambda a: mg.tensor(np.array(a)))
        theirs = outcome(seed, torch, arrays, lambda a: torch.tensor(np.array(a)))
        if theirs is not None:
            assert ours is not None, seed
            for a, b in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11, err_msg=str(seed))
        elif ours is not None:  # a value that is written over and not needed any more
            found = sum(float((g * d).sum()) for g, d in zip(ours[1], direction, strict=True))
            assert abs(found - slopes(seed, arrays, direction)) < 1e-5 * max(1.0, abs(found)), seed
