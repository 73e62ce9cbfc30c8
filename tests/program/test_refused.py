"""Steps that are refused, interrupted or thrown away leave everything as it was."""
from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, LabelError, NonFiniteError, StepBusyError


def training(classes: int = 4, clip: bool = True) -> tuple[nn.Sequential, optim.SGD, Any]:
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, classes))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any, labels: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    return model, opt, step


Committed = Callable[[optim.SGD], list[bytes]]
X, LABELS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.array([0, 1, 2, 3, 0, 1])


def take(step: Any, how: str, x: Any) -> Any:
    """One step, or several of them."""
    if how == "repeat":
        return step.repeat(4, x, LABELS)
    return step.scan(np.stack([x] * 3), np.stack([LABELS] * 3)) if how == "scan" else step(x, LABELS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("how", ["eager", "recorded", "called", "called again", "repeat", "scan"])
def test_a_step_with_bad_gradients_changes_nothing_and_the_next_good_one_counts(how: str, clip: bool, bad: float,
                                                                                      committed: Committed) -> None:
    _, opt, plain = training(clip=clip)
    step = plain if how == "eager" else mg.capture(plain)
    for _ in range({"recorded": 1, "called": 2}.get(how, 4)):
        step(X, LABELS)
    before, poisoned = committed(opt), X.copy()
    poisoned[2, 1] = bad
    for _ in range(3):
        with pytest.raises(NonFiniteError, match="the step was refused"):
            take(step, how, poisoned)
        assert committed(opt) == before
    _, other_opt, good = training(clip=clip)
    for _ in range({"recorded": 1, "called": 2}.get(how, 4) + 1):
        expected = good(X, LABELS)
    assert float(step(X, LABELS)) == float(expected)
    assert committed(opt) == committed(other_opt)


def test_a_scan_stops_before_the_bad_step_and_says_which(committed: Committed) -> None:
    _, opt, plain = training()
    step = mg.capture(plain)
    xs = np.stack([X] * 8)
    xs[5, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"step 3\b|step 5\b"):
        step.scan(xs, np.stack([LABELS] * 8))
    _, other_opt, good = training()
    for _ in range(5):
        good(X, LABELS)
    assert committed(opt) == committed(other_opt)


@pytest.mark.parametrize("label", [-1, 4, 1 << 40])
def test_a_label_outside_the_classes_is_refused_eager_and_captured(label: int, committed: Committed) -> None:
    _, opt, plain = training()
    step = mg.capture(plain)
    wrong = LABELS.copy()
    wrong[3] = label
    for _ in range(5):
        before = committed(opt)
        for run in (plain, step):
            with pytest.raises(LabelError, match="softmax_cross_entropy: a label"):
                run(X, wrong)
        assert committed(opt) == before
        step(X, LABELS)


@pytest.mark.parametrize("layer", [0, 2])
def test_using_what_an_update_changed_is_refused_in_the_same_step(layer: int) -> None:
    model, _, plain = training()

    def step(x: Any, labels: Any) -> Any:
        plain(x, labels)
        return list(model.parameters())[layer] * 1.0

    captured = mg.capture(step)
    with pytest.raises(CaptureError, match=r"uses what \w*sgd_momentum_ updated before it.*one optimiser step per function"):
        [captured(X, LABELS) for _ in range(3)]


def test_a_captured_step_inside_another_is_refused_however_often_it_ran() -> None:
    inner = mg.capture(lambda x: x * 2.0)
    for calls in range(5):
        outer = mg.capture(lambda x: inner(x) + 1.0)
        with pytest.raises(CaptureError, match="inside another"):
            outer(np.ones(3, np.float32))
        assert inner(np.full(3, calls, np.float32)).tolist() == [2.0 * calls] * 3


@pytest.mark.parametrize("result", [1.5, np.ones(2), np.float32(1)], ids=["number", "array", "scalar"])
def test_a_result_that_is_no_tensor_is_refused(result: Any) -> None:
    def step(x: Any) -> Any:
        return x * 2.0, result

    with pytest.raises(CaptureError, match="return Tensors"):
        mg.capture(step)(np.ones(2, np.float32))


def test_an_argument_that_requires_gradients_is_refused() -> None:
    step = mg.capture(lambda x: x * 2.0)
    for _ in range(4):
        step(np.ones(2, np.float32))
        with pytest.raises(CaptureError, match="requires gradients"):
            step(mg.tensor(np.ones(2, np.float32), requires_grad=True))


# ---- interrupted, busy, thrown away ---------------------------------------------------------------------------------------------------
def test_a_second_thread_is_told_that_the_step_is_busy() -> None:
    _, _, plain = training()
    step = mg.capture(plain)
    step.repeat(3, X, LABELS)
    outcomes: list[str] = []
    started, done = threading.Event(), threading.Event()

    def other() -> None:
        started.wait()
        while not done.is_set() and "busy" not in outcomes:
            try:
                step(X, LABELS)
            except StepBusyError:
                outcomes.append("busy")

    thread = threading.Thread(target=other)
    thread.start()
    started.set()
    while thread.is_alive() and len(outcomes) < 1:
        try:
            step.repeat(3000, X, LABELS)
        except StepBusyError:
            outcomes.append("busy")
    done.set()
    thread.join()
    assert "busy" in outcomes


def test_ctrl_c_ends_a_repeat_at_a_step_boundary() -> None:
    counters = [nn.Parameter(np.zeros(n)) for n in (3, 70)]
    opt = optim.SGD(counters, lr=1.0)

    def count() -> Any:
        opt.zero_grad()
        total = -(counters[0].sum() + counters[1].sum())
        total.backward()
        opt.step()
        return total

    step = mg.capture(count)
    step.repeat(1000)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        step.repeat(20_000_000)
    timer.join()
    counts = {float(n) for p in counters for n in p.array}
    assert len(counts) == 1 and 1000 < counts.pop() < 20_001_000
    assert step().item() == -73 * (counters[0].array[0] - 1)


def test_a_step_that_nobody_holds_is_freed_with_its_model() -> None:
    model, opt, plain = training()
    step = mg.capture(plain)
    step.repeat(4, X, LABELS)
    watched = [weakref.ref(x) for x in (step, model)]
    del step, plain, opt, model
    # The group of the last clipping is kept until other models are clipped.
    for _ in range(5):
        training()[2](X, LABELS)
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


def test_what_a_step_holds_is_counted_and_shown() -> None:
    _, _, plain = training()
    step = mg.capture(plain)
    assert step.nbytes == 0
    step.repeat(4, X, LABELS)
    text = repr(step.explain())
    assert step.nbytes > X.nbytes + LABELS.nbytes
    for op in ("linear", "tanh", "softmax_cross_entropy", "sum_squares_", "clip_factor", "guard", "sgd_momentum_"):
        assert op in text
    assert "test_refused.py" in text and f"{step.nbytes:,}" in text
