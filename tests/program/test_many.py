"""`run_many`: the bits of one after the other, and nothing half done when one of them fails or Ctrl-C comes."""
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, NonFiniteError, ShapeError

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)


@pytest.fixture(params=[1, 2, 4], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = mg.get_num_threads()
    mg.set_num_threads(request.param)
    yield
    mg.set_num_threads(before)


def training(seed: int, width: int = 8, p: float = 0.0, lr: float = 0.1) -> tuple[nn.Module, Any]:
    mg.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(p), nn.Linear(width, 2))
    opt = optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return model, mg.capture(step)


def left(model: nn.Module) -> list[bytes]:
    return [np.asarray(v).tobytes() for v in model.state_dict().values()]


@pytest.mark.parametrize("n", [1, 2, 3, 25])
@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("by_index", [False, True])
def test_side_by_side_is_one_after_the_other(n: int, p: float, by_index: bool) -> None:
    index = np.random.default_rng(2).integers(0, 12, (n, 5)) if by_index else None
    widths = (8, 3, 17, 8, 5)
    together = [training(seed, width, p) for seed, width in enumerate(widths)]
    alone = [training(seed, width, p) for seed, width in enumerate(widths)]
    for _ in range(2):
        mg.manual_seed(9)
        found = mg.run_many([step for _, step in together], n, X, Y, index=index)
        mg.manual_seed(9)
        expected = [step.scan(X, Y, index=index) if by_index else step.repeat(n, X, Y) for _, step in alone]
        assert found.shape == (5, n)
        assert found.numpy().tobytes() == np.stack([e.numpy() for e in expected]).tobytes()
        assert [left(model) for model, _ in together] == [left(model) for model, _ in alone]


def test_one_step_alone_and_trees_of_results() -> None:
    step = mg.capture(lambda x: {"a": x * 2.0, "b": (x.sum(), None)})
    found = mg.run_many([step], 3, X)
    assert found["a"].shape == (1, 3, 12, 3) and found["b"][0].shape == (1, 3) and found["b"][1] is None


def test_what_cannot_be_run_side_by_side_is_refused_before_anything_runs() -> None:
    (model, step), (other, second) = training(0), training(1)
    before = left(model)
    with pytest.raises(CaptureError, match="twice"):
        mg.run_many([step, second, step], 3, X, Y)
    with pytest.raises(TypeError, match=r"takes captured steps, got a function.*mg.capture"):
        mg.run_many([step, lambda x, y: x], 3, X, Y)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no steps"):
        mg.run_many([], 3, X, Y)
    with pytest.raises(ValueError, match="at least one"):
        mg.run_many([step, second], 0, X, Y)
    with pytest.raises(IndexError, match="12 rows"):
        mg.run_many([step, second], 2, X, Y, index=np.full((2, 3), 12))
    with pytest.raises(ShapeError, match="one number of rows"):
        mg.run_many([step, second], 2, X, Y[:5], index=np.zeros((2, 3), int))
    assert left(model) == before
    assert other is not model


def counting(size: int, limit: float = np.inf) -> tuple[nn.Parameter, Any]:
    """A parameter that counts steps; the gradient is not finite any more once it reaches the limit."""
    counter = nn.Parameter(np.zeros(size, np.float32))
    opt = optim.SGD([counter], lr=1.0)

    def step() -> Any:
        opt.zero_grad()
        loss = -(counter * 1.0).sum() + mg.where(counter.detach() >= limit, float("inf"), 0.0).sum() * (counter.sum() if np.isfinite(limit) else 0.0)
        loss.backward()
        opt.step()
        return loss

    return counter, mg.capture(step)


def test_a_step_that_fails_ends_the_others_at_a_border() -> None:
    healthy = [counting(n) for n in (3, 70)]
    weak = counting(5, limit=1000.0)
    steps = [step for _, step in (healthy[0], weak, healthy[1])]

    def go_on() -> None:
        for _ in range(5):
            mg.run_many(steps, 400)

    with pytest.raises(NonFiniteError):
        go_on()
    for counter, _ in (*healthy, weak):
        assert len(set(counter.array.tolist())) == 1
    for counter, step in healthy:  # and they go on
        now = counter.array[0]
        step()
        assert counter.array[0] == now + 1


def test_ctrl_c_ends_all_at_a_border() -> None:
    pairs = [counting(n) for n in (3, 40, 70)]
    steps = [step for _, step in pairs]
    mg.run_many(steps, 100)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        mg.run_many(steps, 100_000_000)
    timer.join()
    assert time.monotonic() - began < 30
    for counter, _ in pairs:
        assert len(set(counter.array.tolist())) == 1
    assert mg.run_many(steps, 3).shape == (3, 3)
