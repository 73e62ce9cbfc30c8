"""The random state: it moves with every draw, by the same in programs as in eager mode, and a refused step leaves it."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, DtypeError, NonFiniteError
from minigrad.program import encode
from minigrad.tape.random import draw, state

X = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)


def now() -> list[int]:
    return [int(n) for n in state().array]


def net(p: float = 0.5) -> tuple[nn.Sequential, optim.SGD, Any]:
    """A net that drops twice a step, and its training step."""
    mg.manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 20), nn.Dropout(p), nn.Tanh(), nn.Dropout(p), nn.Linear(20, 4))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any) -> Any:
        opt.zero_grad()
        out = model(x)
        loss = (out * out).mean()
        loss.backward()
        opt.step()
        return loss

    return model, opt, step


def left(model: nn.Module) -> list[bytes]:
    return [*(p.array.tobytes() for p in model.parameters()), state().array.tobytes()]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    monkeypatch.setattr(encode, "WORTH_SHARING", -1.0)
    monkeypatch.setattr(encode, "BARRIER_SECONDS", 0.0)
    yield
    mg.set_num_threads(before)


def test_a_seed_sets_the_state_and_each_draw_moves_it_by_one() -> None:
    for seed in (0, 17, 2**63 + 5, 2**64 - 1):
        mg.manual_seed(seed)
        assert [n % 2**64 for n in now()] == [seed, 0]
    mg.manual_seed(5)
    assert [draw().tolist() for _ in range(3)] == [[5, 0], [5, 1], [5, 2]]
    assert now() == [5, 3]


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    def numbers() -> list[bytes]:
        return [x.array.tobytes() for x in (mg.random_normal(7), mg.random_uniform((2, 3)), mg.bernoulli(np.full(50, 0.5)), F.dropout(mg.ones(50)))]

    mg.manual_seed(1)
    first = numbers()
    assert all(a != b for a, b in zip(first, numbers(), strict=True))
    mg.manual_seed(1)
    assert numbers() == first
    mg.manual_seed(2)
    assert all(a != b for a, b in zip(first, numbers(), strict=True))


def test_moments_bounds_and_dtypes_are_those_asked_for() -> None:
    z = mg.random_normal(200, 100, mean=3.0, std=0.5, dtype=mg.float64)
    u = mg.random_uniform(20_000, low=-2.0, high=5.0)
    assert (z.shape, z.dtype, u.dtype) == ((200, 100), mg.float64, mg.get_default_dtype())
    assert abs(z.array.mean() - 3) < 0.02 and abs(z.array.std() - 0.5) < 0.02
    assert -2 <= u.array.min() < -1.99 and 4.99 < u.array.max() <= 5
    before = now()
    with pytest.raises(DtypeError, match="float32 or float64"):
        mg.random_normal(3, dtype=np.int64)
    with pytest.raises(DtypeError, match="int64, expected float32 or float64"):
        mg.bernoulli(np.array([0, 1]))
    assert now() == before


@pytest.mark.parametrize("how", ["captured", "repeat", "scan"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_captured_step_draws_what_the_eager_loop_draws(how: str, workers: int, request: pytest.FixtureRequest) -> None:
    if workers == 2:
        request.getfixturevalue("two_workers")
    steps = 50
    model, _, plain = net()
    losses = [float(plain(X)) for _ in range(steps)]
    expected, offset = left(model), now()[1]
    assert offset == 2 * steps and len(set(losses)) == steps
    model, _, plain = net()
    step = mg.capture(plain)
    if how == "captured":
        found = [float(step(X)) for _ in range(steps)]
    else:
        found = (step.repeat(steps, X) if how == "repeat" else step.scan(np.stack([X] * steps))).tolist()
    assert found == losses and left(model) == expected


def test_a_step_without_an_optimiser_draws_anew_each_time() -> None:
    @mg.capture
    def noisy(x: Any) -> Any:
        return x + mg.random_normal(6, 20), mg.bernoulli(mg.random_uniform(3))

    mg.manual_seed(9)
    found = [[y.array.tobytes() for y in noisy(X)] for _ in range(6)]
    assert now() == [9, 18]
    mg.manual_seed(9)
    expected = [[y.array.tobytes() for y in noisy.function(mg.tensor(X))] for _ in range(6)]
    assert found == expected and len({y for y, _ in found}) == 6


@pytest.mark.parametrize("how", ["eager", "recorded", "called", "called again", "repeat", "scan"])
def test_a_refused_step_leaves_the_state(how: str) -> None:
    model, _, plain = net()
    step = plain if how == "eager" else mg.capture(plain)
    good = {"recorded": 1, "called": 2}.get(how, 4)
    for _ in range(good):
        step(X)
    before, bad = left(model), X.copy()
    bad[...] = np.nan
    for _ in range(3):
        with pytest.raises(NonFiniteError):
            _ = step.repeat(2, bad) if how == "repeat" else step.scan(np.stack([bad] * 2)) if how == "scan" else step(bad)
        assert left(model) == before
    expected_model, _, other = net()
    for _ in range(good + 1):
        expected = float(other(X))
    other_left = left(expected_model)
    state().array[1] = 2 * good  # the state is the process's own: as it was before the other net took its last step
    assert float(step(X)) == expected
    assert left(model) == other_left


def test_a_recording_that_raises_leaves_what_eager_mode_would() -> None:
    def step(x: Any) -> Any:
        y = F.dropout(F.dropout(x))
        if fail:
            raise KeyError("half-way")
        return F.dropout(y)

    fail = True
    ends = []
    for run in (step, mg.capture(step)):
        mg.manual_seed(4)
        with pytest.raises(KeyError, match="half-way"):
            run(mg.tensor(X))
        ends.append(now())
    assert ends == [[4, 2]] * 2


def test_a_refused_eager_step_does_not_undo_captured_ones() -> None:
    """What is drawn before a captured step stays: the step's own beginning is where a refusal goes back to."""
    plain = net()[2]
    step = mg.capture(plain)
    for _ in range(3):
        step(X)
    F.dropout(mg.tensor(X))
    for _ in range(3):
        step(X)
    middle = now()
    assert middle == [3, 13]
    with pytest.raises(NonFiniteError):
        plain(mg.tensor(np.full_like(X, np.nan)))
    assert now() == middle


def test_a_seed_is_not_undone_by_a_refused_step() -> None:
    _, _, plain = net()
    F.dropout(mg.tensor(X))
    mg.manual_seed(8)
    with pytest.raises(NonFiniteError):
        plain(mg.tensor(np.full_like(X, np.nan)))
    assert now() == [8, 0]


def test_seeding_inside_a_captured_step_is_an_error() -> None:
    @mg.capture
    def step(x: Any) -> Any:
        mg.manual_seed(0)
        return F.dropout(x)

    with pytest.raises(CaptureError, match="seed before the step"):
        step(X)
