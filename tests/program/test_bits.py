"""Eager, captured, `repeat`, `scan` and two workers: one set of bits in losses, parameters, gradients and momentum."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.bench.peers.minigrad_step import network
from minigrad.bench.workloads import LEARNING_RATE, MAX_NORM, MOMENTUM, Workload, select
from minigrad.program import encode

STEPS = 200
MODES = ("captured", "repeat", "scan", "two workers")
Committed = Callable[[optim.SGD], list[bytes]]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs share every kernel that can be shared, however small."""
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    monkeypatch.setattr(encode, "WORTH_SHARING", -1.0)
    monkeypatch.setattr(encode, "BARRIER_SECONDS", 0.0)
    yield
    mg.set_num_threads(before)


def train(workload: Workload, mode: str, steps: int, committed: Committed) -> tuple[list[float], list[bytes]]:
    """Losses, and what the steps left behind; the batch moves with the step."""
    model = network(workload)
    opt = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        opt.step()
        return loss

    x, y = workload.data()
    if mode == "eager":
        losses = [float(step(x, y)) for _ in range(steps)]
    else:
        captured = mg.capture(step)
        if mode == "scan":
            losses = captured.scan(np.stack([x] * steps), np.stack([y] * steps)).tolist()
        elif mode == "repeat":
            losses = captured.repeat(steps, x, y).tolist()
        else:
            losses = [float(captured(x, y)) for _ in range(steps)]
        (_, _, program), = captured.explain().recordings
        assert program is not None
        assert program.worth_sharing or mode != "two workers"
    gradients = [p.grad.array.tobytes() for p in model.parameters() if p.grad is not None]
    return losses, [*committed(opt), *gradients]


def check(name: str, mode: str, committed: Committed, steps: int = STEPS) -> None:
    workload, = select([name])
    losses, left = train(workload, "eager", steps, committed)
    assert np.isfinite(losses).all() and losses[-1] != losses[0]
    other_losses, other_left = train(workload, mode, steps, committed)
    assert other_losses == losses
    assert other_left == left


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("name", ["xor-deep", "circles"])
def test_small_nets_have_one_set_of_bits(name: str, mode: str, committed: Committed) -> None:
    check(name, mode, committed)


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("name", ["xor-deep", "circles"])
def test_small_nets_have_the_same_bits_on_two_workers(name: str, committed: Committed) -> None:
    check(name, "two workers", committed)


@pytest.mark.parametrize("mode", MODES[:3])
def test_a_wide_net_has_one_set_of_bits(mode: str, committed: Committed) -> None:
    check("mnist-mlp", mode, committed, 10)


@pytest.mark.usefixtures("two_workers")
def test_a_wide_net_has_the_same_bits_on_two_workers(committed: Committed) -> None:
    check("mnist-mlp", "two workers", committed, 10)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("name", ["deep-100-w32", "deep-100-w256", "mnist-mlp"])
def test_deep_and_wide_nets_have_one_set_of_bits_over_many_steps(name: str, mode: str, committed: Committed) -> None:
    check(name, mode, committed)


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("name", ["deep-100-w32", "deep-100-w256", "mnist-mlp"])
def test_deep_and_wide_nets_have_the_same_bits_on_two_workers(name: str, committed: Committed) -> None:
    check(name, "two workers", committed)


@pytest.mark.usefixtures("two_workers")
def test_a_batch_has_the_bits_of_its_slices(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Linear(37, 53), nn.Sigmoid(), nn.Residual(nn.Sequential(nn.Linear(53, 53), nn.Tanh())), nn.Linear(53, 10))
    x = rng.normal(size=(100, 37)).astype(np.float32)
    step = mg.capture(lambda x: model(x))
    whole = [step(x).array for _ in range(3)]
    for start, stop in ((0, 1), (1, 8), (8, 41), (41, 100)):
        assert np.array_equal(model(x[start:stop]).array, whole[0][start:stop])
    assert np.array_equal(whole[0], whole[1]) and np.array_equal(whole[0], whole[2])
