"""What a run leaves behind is what the next one, eager or captured, may rely on: gradients, their norms, views and memory of others."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import func, nn, optim
from minigrad.errors import CaptureError, NonFiniteError
from minigrad.program import chain


def leaf(n: int = 3) -> Any:
    return mg.tensor(np.ones(n, np.float32), requires_grad=True)


def test_steps_that_do_not_clear_their_gradients_accumulate_under_repeat_and_scan() -> None:
    w, x = leaf(), mg.tensor(np.ones(3, np.float32))

    @mg.capture
    def add(x: Any) -> Any:
        (w * x).sum().backward()
        return w.grad

    for _ in range(3):
        w.grad = None
        add(x)
    w.grad = None
    assert add.repeat(5, x)[-1].tolist() == [5.0] * 3
    w.grad = None
    assert add.scan(np.ones((6, 3), np.float32))[-1].tolist() == [6.0] * 3


def test_a_replay_replaces_a_gradient_that_had_a_graph_of_its_own() -> None:
    w, x = leaf(), mg.tensor(np.ones(3, np.float32))

    @mg.capture
    def step(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    for _ in range(3):
        step(x)
    w.grad = None
    (w * w * 7.5).sum().backward(create_graph=True)
    step(x)
    assert w.grad is not None and w.grad.tolist() == [1.0] * 3


def test_a_refused_replay_does_not_let_an_older_norm_stand_for_its_gradients() -> None:
    model = nn.Linear(3, 1, bias=False)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def gradients(x: Any) -> Any:
        opt.zero_grad()
        loss = model(x).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss

    @mg.capture
    def step(x: Any) -> Any:
        loss = gradients(x)
        opt.step()
        return loss

    good, bad = np.ones((2, 3), np.float32), np.full((2, 3), np.inf, np.float32)
    for _ in range(3):
        step(good)
    gradients(mg.tensor(good))
    with pytest.raises(NonFiniteError):
        step(bad)
    before = model.weight.detach().numpy().copy()
    with pytest.raises(NonFiniteError):
        opt.step()
    assert np.array_equal(model.weight.detach().numpy(), before)


def test_a_chain_over_a_part_of_what_it_reads_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(chain, "CHAIN_BYTES", 0)
    n = 65536

    def parts(x: Any) -> Any:
        h = x * 1.5
        return (h[:n] * 2.0).double() * 3.0

    captured, x = mg.capture(parts), rng.normal(size=2 * n).astype(np.float32)
    for _ in range(3):
        found = captured(x).numpy()
    assert np.array_equal(found, parts(mg.tensor(x)).numpy())


def test_independent_means_that_no_two_steps_write_the_same_memory() -> None:
    model = nn.Linear(2, 1)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def make() -> Any:
        def step(x: Any) -> Any:
            opt.zero_grad()
            loss = model(x).sum()
            loss.backward()
            opt.step()
            return loss

        return mg.capture(step)

    with pytest.raises(CaptureError, match="write the same parameters"):
        mg.run_many([make(), make()], 10, np.ones((4, 2), np.float32))


def test_a_pulled_back_vector_can_be_differentiated_where_the_primal_cannot() -> None:
    _, pull = func.vjp(lambda x: x * x, mg.tensor([1.0, 2.0]))
    found = func.grad(lambda v: pull(v)[0].sum())(mg.tensor([1.0, 1.0]))
    assert found.tolist() == [2.0, 4.0]


def test_a_step_may_hold_nan_and_more_scalars_than_a_few() -> None:
    many = mg.capture(lambda x: mg.where(x > 0, x, float("nan")) + sum(x * (k + 0.5) for k in range(1100)))
    x = mg.tensor([1.0])
    for _ in range(3):
        found = many(x)
    assert found.item() == pytest.approx(1.0 + sum(k + 0.5 for k in range(1100)), rel=1e-5)
