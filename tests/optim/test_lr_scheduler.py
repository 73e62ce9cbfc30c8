"""Schedules: PyTorch's rates, the same bits in every way of running, and what is refused."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError, NonFiniteError, StateError
from minigrad.optim import lr_scheduler
from minigrad.tape.live import HORIZON


def sequential(module: Any) -> Any:
    return lambda opt: module.SequentialLR(opt, [module.LinearLR(opt, 0.1, total_iters=4), module.ConstantLR(opt, 0.5, 3),
                                                 module.ExponentialLR(opt, 0.9)], milestones=[5, 11])


CASES: dict[str, Any] = {
    "lambda": lambda m: lambda opt: m.LambdaLR(opt, lambda n: 0.95**n),
    "step": lambda m: lambda opt: m.StepLR(opt, 7, 0.5),
    "multistep": lambda m: lambda opt: m.MultiStepLR(opt, [20, 3, 3], 0.3),
    "constant": lambda m: lambda opt: m.ConstantLR(opt, 0.25, 6),
    "linear": lambda m: lambda opt: m.LinearLR(opt, 0.2, 0.9, 11),
    "exponential": lambda m: lambda opt: m.ExponentialLR(opt, 0.97),
    "cosine": lambda m: lambda opt: m.CosineAnnealingLR(opt, 13, 1e-3),
    "one cycle": lambda m: lambda opt: m.OneCycleLR(opt, 0.3, total_steps=250),
    "one cycle in lines": lambda m: lambda opt: m.OneCycleLR(opt, 0.3, epochs=5, steps_per_epoch=50, anneal_strategy="linear", three_phase=True),
    "sequential": sequential,
}
named = pytest.mark.parametrize("name", CASES)


def sgd(parameters: Any) -> optim.SGD:
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


@named
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pytorch_has_the_same_rates(name: str, kind: str, compared: Any) -> None:
    torch = pytest.importorskip("torch")
    options = {"lr": 0.1, "momentum": 0.9} if kind == "SGD" else {"lr": 0.01}
    compared(lambda p: getattr(optim, kind)(p, **options), lambda p: getattr(torch.optim, kind)(p, **options), steps=50, rtol=1e-8,
             schedules=(CASES[name](lr_scheduler), CASES[name](torch.optim.lr_scheduler)))


@named
@pytest.mark.parametrize("how", ["calls", "repeat", "scan", "both"])
def test_eager_and_captured_have_one_set_of_bits(name: str, how: str, training: Any) -> None:
    eager, captured = (training(sgd, np.float32, clip=1.0, schedule=CASES[name](lr_scheduler)) for _ in range(2))
    step = mg.capture(captured.step)
    x = captured.batch()
    expected = [float(eager.step(x)) for _ in range(200)]
    if how == "calls":
        assert [float(step(x)) for _ in range(200)] == expected
    elif how == "repeat":
        assert step.repeat(200, x).tolist() == expected
    elif how == "scan":
        assert step.scan(np.stack([x] * 200)).tolist() == expected
    else:
        assert [float(captured.step(x) if i % 3 == 1 else step(x)) for i in range(200)] == expected
    assert captured.state() == eager.state()
    assert captured.schedule.last_epoch == 200 and captured.schedule.get_last_lr() == eager.schedule.get_last_lr()


def test_a_replay_longer_than_the_table_follows_the_schedule() -> None:
    p = nn.Parameter(np.zeros(1))
    opt = optim.SGD([p], lr=1.0)
    schedule = lr_scheduler.LambdaLR(opt, lambda n: 1.0 / (n + 1))

    def step() -> Any:
        opt.zero_grad()
        loss = p.sum()
        loss.backward()
        opt.step()
        schedule.step()
        return loss

    steps = 3 * HORIZON + 7
    mg.capture(step).repeat(steps)
    np.testing.assert_allclose(p.array, [-sum(1 / (n + 1) for n in range(steps))], rtol=1e-12)


def test_a_step_may_go_on_twice() -> None:
    p = nn.Parameter(np.zeros(1))
    opt = optim.SGD([p], lr=1.0)
    schedule = lr_scheduler.ExponentialLR(opt, 0.999)

    def step() -> Any:
        opt.zero_grad()
        loss = p.sum()
        loss.backward()
        opt.step()
        schedule.step()
        schedule.step()
        return loss

    mg.capture(step).repeat(HORIZON + 100)
    assert schedule.last_epoch == 2 * (HORIZON + 100)
    assert schedule.get_last_lr() == [0.999 ** (2 * (HORIZON + 100))]


def test_groups_go_from_their_own_rates(training: Any) -> None:
    opt = optim.SGD([{"params": [nn.Parameter(np.ones(1))], "lr": 0.1}, {"params": [nn.Parameter(np.ones(1))], "lr": 0.4}])
    schedule = lr_scheduler.LambdaLR(opt, [lambda n: 0.5**n, lambda n: 1.0 + n])
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.8] == [g["lr"] for g in opt.param_groups]
    assert [g["initial_lr"] for g in opt.param_groups] == schedule.base_lrs == [0.1, 0.4]


def test_a_refused_step_does_not_count(training: Any) -> None:
    one = training(sgd, schedule=CASES["step"](lr_scheduler))
    step = mg.capture(one.step)
    for run in (one.step, step, step, step, step):
        run(one.batch())
        before = one.schedule.last_epoch, one.schedule.get_last_lr()
        with pytest.raises(NonFiniteError):
            run(one.batch() * np.nan)
        assert (one.schedule.last_epoch, one.schedule.get_last_lr()) == before


def test_a_rate_may_be_set_to_what_it_was_by_hand(training: Any) -> None:
    """Setting a rate looks at the one in memory, which a replay has moved."""
    eager, captured = (training(sgd, schedule=CASES["exponential"](lr_scheduler)) for _ in range(2))
    step = mg.capture(captured.step)
    for i in range(9):
        for one in (eager, captured):
            one.opt.param_groups[0]["lr"] *= 0.5 if i % 2 else 1.5
        assert float(step(captured.batch())) == float(eager.step(eager.batch()))
        assert captured.state() == eager.state()


@named
@pytest.mark.parametrize("how", ["eager", "captured"])
def test_a_schedule_goes_on_from_its_state(name: str, how: str, training: Any) -> None:
    whole, other = (training(sgd, schedule=CASES[name](lr_scheduler)) for _ in range(2))
    run = {id(one): mg.capture(one.step) if how == "captured" else one.step for one in (whole, other)}
    for _ in range(6):
        run[id(whole)](whole.batch())
    for _ in range(3):
        run[id(other)](other.batch())
    for p, q in zip(other.model.parameters(), whole.model.parameters(), strict=True):
        with mg.no_grad():
            p.copy_(q)
    other.opt.load_state_dict(whole.opt.state_dict())
    other.schedule.load_state_dict(whole.schedule.state_dict())
    for _ in range(6):
        for one in (whole, other):
            run[id(one)](one.batch())
        assert other.state() == whole.state() and other.schedule.last_epoch == whole.schedule.last_epoch


def test_a_schedule_is_made_anew_at_a_later_step() -> None:
    p = [nn.Parameter(np.ones(1))]
    with pytest.raises(KeyError, match="param 'initial_lr' is not specified"):
        lr_scheduler.StepLR(optim.SGD(p, lr=0.1), 2, last_epoch=4)
    opt = optim.SGD([{"params": p, "initial_lr": 0.8}], lr=0.1)
    schedule = lr_scheduler.StepLR(opt, 2, 0.5, last_epoch=4)
    schedule.step()
    schedule.step()
    assert schedule.last_epoch == 6 and schedule.get_last_lr() == [0.1]


def test_a_state_of_another_kind_is_refused() -> None:
    opt = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
    one, other = lr_scheduler.StepLR(opt, 2), lr_scheduler.ExponentialLR(opt, 0.5)
    with pytest.raises(StateError, match=r"StepLR\.load_state_dict: expected last_epoch, step_size"):
        one.load_state_dict(other.state_dict())


def test_a_step_beyond_one_cycle_is_refused(training: Any) -> None:
    one = training(sgd, schedule=lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=8))
    step = mg.capture(one.step)
    step.repeat(8, one.batch())
    before = one.state()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Tried to step 9 times\. The specified number of total steps is 8"):
            step(one.batch())
        assert one.state() == before


@pytest.mark.parametrize(("make", "text"), [
    (lambda opt: lr_scheduler.LambdaLR(opt, [abs, abs]), "Expected 1 lr_lambdas, but got 2"),
    (lambda opt: lr_scheduler.LinearLR(opt, 0.0), "greater than 0 and less or equal to 1"),
    (lambda opt: lr_scheduler.StepLR(opt, 0), "step_size is 0"),
    (lambda opt: lr_scheduler.OneCycleLR(opt, 0.1), "You must define either total_steps"),
    (lambda opt: lr_scheduler.SequentialLR(opt, [lr_scheduler.StepLR(opt, 2)], [3]), "one more than the number of milestone points"),
    (lambda opt: lr_scheduler.ReduceLROnPlateau(opt, factor=1.0), "Factor should be < 1.0."),
])
def test_pytorchs_words_for_what_makes_no_sense(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(optim.SGD([nn.Parameter(np.ones(1))], lr=0.1, momentum=0.5))


# ---- on a plateau ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"mode": "max"}, {"threshold_mode": "abs", "threshold": 0.3}, {"cooldown": 3, "min_lr": 0.02},
                                     {"mode": "max", "threshold_mode": "abs", "threshold": 0.2}], ids=str)
def test_reducing_on_a_plateau_is_pytorchs(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    mine = lr_scheduler.ReduceLROnPlateau(ours, factor=0.5, patience=2, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=2, **options)
    for metric in np.round(rng.normal(size=60), 1):
        mine.step(mg.tensor(metric))
        other.step(metric)
        assert mine.get_last_lr() == [theirs.param_groups[0]["lr"]]
    again = lr_scheduler.ReduceLROnPlateau(ours)
    again.load_state_dict(mine.state_dict())
    assert again.state_dict() == mine.state_dict()


def test_a_plateau_is_not_looked_for_inside_a_captured_step() -> None:
    schedule = lr_scheduler.ReduceLROnPlateau(optim.SGD([nn.Parameter(np.ones(1))]))

    def step(x: Any) -> Any:
        schedule.step(x.sum())
        return x * 2.0

    with pytest.raises(CaptureError, match="call it between the steps"):
        mg.capture(step)(np.ones(3))
