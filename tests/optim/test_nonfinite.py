"""What becomes of a step that is not finite: it is refused and explained, skipped, or taken."""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import config, nn, optim
from minigrad.errors import CaptureError, NonFiniteError
from minigrad.optim.lr_scheduler import ExponentialLR
from minigrad.tape.mode import local
from tests.garbage import cycles_left_by

HOW = ("eager", "call", "repeat", "scan", "index")
BAD = {2, 5, 6}
STEPS = 9
WORDS = "the step was refused, and parameters and moments are as they were"


class Training:
    """A net with all that a step moves, its optimiser, its schedule, and data of which some steps are not finite."""

    def __init__(self, policy: str = "raise", schedule: bool = False, clip: bool = False) -> None:
        mg.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 2))
        self.opt = optim.Adam(self.net.parameters(), lr=0.01)
        self.opt.nonfinite = policy
        self.schedule = ExponentialLR(self.opt, 0.5) if schedule else None
        self.clip = clip
        rng = np.random.default_rng(0)
        self.x, self.y = rng.normal(size=(STEPS, 4, 3)), rng.normal(size=(STEPS, 4, 2))
        self.net.to(np.float64)

    def step(self, x: Any, y: Any) -> Any:
        self.opt.zero_grad()
        loss = F.mse_loss(self.net(x), y)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.opt.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss

    def run(self, how: str) -> list[float]:
        """All steps; the losses."""
        x = self.x.copy()
        for s in BAD:
            x[s, 1, 2] = np.nan
        if how == "eager":
            return [self.step(a, b).item() for a, b in zip(x, self.y, strict=True)]
        step = mg.capture(self.step)
        if how == "call":
            return [step(a, b).item() for a, b in zip(x, self.y, strict=True)]
        if how == "index":
            flat = x.reshape(-1, 3), self.y.reshape(-1, 2)
            return list(step.scan(*flat, index=np.arange(STEPS * 4).reshape(STEPS, 4)).numpy())
        if how == "repeat":
            return [float(v) for a, b in zip(x, self.y, strict=True) for v in step.repeat(1, a, b).numpy()]
        return list(step.scan(x, self.y).numpy())

    def left(self) -> list[bytes]:
        state = [np.asarray(v).tobytes() for v in self.net.state_dict().values()]
        moments = [np.asarray(v).tobytes() for one in self.opt.state_dict()["state"].values() for v in one.values()]
        return [*state, *moments, config.random_state.tobytes(), np.float64(self.opt.param_groups[0]["lr"]).tobytes()]


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_skipped_steps_leave_everything_and_the_others_count(how: str, schedule: bool) -> None:
    one = Training("skip", schedule)
    losses = one.run(how)
    assert {s for s, loss in enumerate(losses) if np.isnan(loss)} == BAD and one.opt.skipped == len(BAD)
    other = Training("raise", schedule)
    expected = [other.step(other.x[s], other.y[s]).item() for s in range(STEPS) if s not in BAD]
    assert [float(loss) for s, loss in enumerate(losses) if s not in BAD] == expected
    assert one.left() == other.left()


def test_a_skipped_step_in_a_long_repeat_does_not_end_it() -> None:
    p = nn.Parameter(np.array([1.0]))
    opt = optim.SGD([p], lr=1.0)
    opt.nonfinite = "skip"

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = mg.log(p - x).sum()  # p falls to x, and stays there
        loss.backward()
        opt.step()
        return loss

    captured = mg.capture(step)
    losses = captured.repeat(1000, np.array([1.0])).numpy()
    assert np.all(losses == -np.inf) and opt.skipped == 1000 and p.item() == 1.0
    assert captured.repeat(1000, np.array([0.0])).numpy()[0] == 0.0
    assert opt.skipped >= 1000


def test_run_many_skips_in_each_net_by_itself() -> None:
    trainings = [Training("skip"), Training("skip")]
    for one in trainings:
        one.net[3].p = 0.0
    x = trainings[0].x.copy()
    x[3, 0, 0] = np.inf
    index = np.arange(STEPS * 4).reshape(STEPS, 4)
    losses = mg.run_many([mg.capture(one.step) for one in trainings], STEPS, x.reshape(-1, 3), trainings[0].y.reshape(-1, 2), index=index).numpy()
    assert losses.shape == (2, STEPS) and np.isnan(losses[:, 3]).all() and np.isfinite(np.delete(losses, 3, axis=1)).all()
    assert [one.opt.skipped for one in trainings] == [1, 1]


def test_run_many_says_which_step_was_refused() -> None:
    trainings = [Training(), Training()]
    for one in trainings:
        one.net[3].p = 0.0
    steps = [mg.capture(one.step) for one in trainings]
    for step in steps:
        step.repeat(3, trainings[0].x[0], trainings[0].y[0])
    with mg.no_grad():
        trainings[1].net[0].weight[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"in steps\[1\].*step 0(.|\n)*parameter 0.weight has nan at \[0, 0\]") as caught:
        mg.run_many(steps, 4, trainings[0].x[0], trainings[0].y[0])
    assert caught.value.parameter == "0.weight"


@pytest.mark.parametrize("how", ["eager", "scan"])
def test_ignored_the_update_is_applied_as_in_pytorch(how: str) -> None:
    torch = pytest.importorskip("torch")
    weight, x = np.array([[1.0, 2.0]]), np.array([[np.inf, 1.0]])
    theirs = torch.nn.Parameter(torch.tensor(weight))
    their_opt = torch.optim.SGD([theirs], lr=0.1)
    ours = nn.Parameter(weight)
    opt = optim.SGD([ours], lr=0.1)
    opt.nonfinite = "ignore"

    def step(given: Any) -> Any:
        opt.zero_grad()
        loss = mg.square(given * ours).sum()
        loss.backward()
        opt.step()
        return loss

    for _ in range(4):
        their_opt.zero_grad()
        (torch.tensor(x) * theirs).square().sum().backward()
        their_opt.step()
    if how == "eager":
        for _ in range(4):
            step(x)
    else:
        captured = mg.capture(step)
        captured.repeat(4, x)
        assert "guard" not in repr(captured.explain())
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-12)
    assert opt.skipped == 0


def test_the_policy_is_checked_copied_and_seen_by_captured_steps() -> None:
    one = Training()
    with pytest.raises(ValueError, match="nonfinite is 'drop', expected one of 'raise', 'skip', 'ignore'"):
        one.opt.nonfinite = "drop"
    bad = np.full((4, 3), np.nan)
    step = mg.capture(one.step)
    step.repeat(4, one.x[0], one.y[0])
    with pytest.raises(NonFiniteError):
        step(bad, one.y[0])
    one.opt.nonfinite = "skip"
    for _ in range(4):
        assert np.isnan(step(bad, one.y[0]).item())
    step(one.x[0], one.y[0])
    assert one.opt.skipped == 4
    twin = copy.deepcopy(one.opt)
    assert twin.nonfinite == "skip" and twin.skipped == 4 and "nonfinite" not in one.opt.state_dict()
    one.opt.nonfinite = "raise"
    with pytest.raises(NonFiniteError):
        step(bad, one.y[0])

    def sets(x: Any) -> Any:
        one.opt.nonfinite = "ignore"
        return x * 2.0

    with pytest.raises(CaptureError, match="nonfinite is set at"):
        mg.capture(sets)(np.ones(2))


def test_two_optimisers_in_one_captured_step_cannot_skip() -> None:
    ps = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))]
    opts = [optim.SGD([p]) for p in ps]
    opts[1].nonfinite = "skip"

    def step() -> Any:
        loss = (ps[0] * 2.0).sum() + (ps[1] * 2.0).sum()
        loss.backward()
        for opt in opts:
            opt.step()
        return loss

    step()
    with pytest.raises(CaptureError, match="Capture one optimiser step per function"):
        mg.capture(step)()


# ---- explained ---------------------------------------------------------------------------------------------------------------------------
def refused(step: Callable[..., Any], *args: Any, captured: bool) -> Any:
    """The error of a step whose good ones come first."""
    run = mg.capture(step) if captured else step
    good = [np.ones_like(a) for a in args]
    for _ in range(3):
        run(*good)
    with pytest.raises(NonFiniteError, match=WORDS) as caught:
        run(*args)
    return caught.value


def stepped(loss: Callable[..., Any], *ps: Any) -> Callable[..., Any]:
    opt = optim.SGD(ps, lr=0.0)

    def step(*args: Any) -> Any:
        opt.zero_grad()
        value = loss(*args)
        value.backward()
        opt.step()
        return value

    return step


@pytest.mark.parametrize("captured", [False, True])
def test_a_mask_of_minus_infinity_is_not_to_blame(captured: bool) -> None:
    p = nn.Parameter(np.ones((1, 4)))
    mask = np.array([[False, True, False, False]])

    def loss(x: Any) -> Any:
        masked = mg.where(mask, -np.inf, p * 1.0)
        return mg.sqrt(mg.softmax(masked, -1) * x + 0.01).sum()

    error = refused(stepped(loss, p), np.array([[1.0, 1.0, -1.0, 1.0]]), captured=captured)
    assert error.op == "sqrt" and error.backward is False and error.index == (0, 2)


@pytest.mark.parametrize("captured", [False, True])
def test_a_norm_beyond_float64_names_the_largest_gradient(captured: bool) -> None:
    small, large = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(2))
    error = refused(stepped(lambda x: small.sum() + (large * x).sum(), small, large), np.array([1e10, -1e200]), captured=captured)
    assert "sum of their squares is beyond float64" in str(error)
    assert (error.parameter, error.index, error.value) == ("1 of the optimizer", (1,), -1e200)


@pytest.mark.parametrize("captured", [False, True])
def test_gradients_from_before_the_step_are_not_blamed_on_an_op(captured: bool) -> None:
    p = nn.Parameter(np.ones(2))
    opt = optim.SGD([p], lr=0.0)

    def step(x: Any) -> Any:
        loss = (p * x).sum()
        loss.backward()
        opt.step()
        return loss

    run = mg.capture(step) if captured else step
    for _ in range(4):
        run(np.ones(2))
    with mg.no_grad():
        assert p.grad is not None
        p.grad = mg.tensor(np.array([1.0, np.nan]))
    with pytest.raises(NonFiniteError, match=r"is finite: .* from before it") as caught:
        run(np.ones(2))
    assert caught.value.op is None


def test_a_function_of_ones_own_is_named_as_what_is_not_known() -> None:
    class Twice(mg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2.0

    p = nn.Parameter(np.ones(2))
    step = stepped(lambda x: mg.exp(Twice.apply(p) * x).sum(), p)
    error = refused(step, np.full(2, 1e4), captured=False)
    assert "Twice is a Function" in str(error) and error.parameter == "0 of the optimizer" and error.op is None
    assert refused(step, np.full(2, 1e4), captured=True).op == "exp"


def test_eager_lines_are_those_of_the_model_or_traced() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.to(np.float64)
    step = stepped(lambda x: mg.exp(net(x)).sum(), *net.parameters())
    here = "test_nonfinite.py:"
    nan = refused(step, np.full((1, 2), np.nan), captured=False)
    assert nan.line.startswith(here) and nan.input is not None and nan.module == "0"
    with mg.no_grad():
        net[0].weight[...] = 1.0
    big = np.full((1, 2), 1e5)
    unknown = refused(step, big, captured=False)
    assert unknown.op == "exp" and unknown.line == "" and "trace_lines" in str(unknown)
    with mg.autograd.trace_lines():
        traced = refused(step, big, captured=False)
    assert traced.line == nan.line == refused(step, big, captured=True).line
    assert type(mg.exp).__call__.__name__ == "call"


class Exponential(nn.Module):
    """Its exp stands in another line than its call."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(np.ones(2))

    def forward(self, x: Any) -> Any:
        return mg.exp(self.p * x)


def test_the_line_of_a_models_call_is_told_as_such() -> None:
    net = Exponential()
    step = stepped(lambda x: net(x).sum(), *net.parameters())
    called = refused(step, np.full(2, 1e4), captured=False)
    assert f"exp in Exponential (called at {called.line})" in str(called) and "trace_lines" in str(called)
    with mg.autograd.trace_lines():
        traced = refused(step, np.full(2, 1e4), captured=False)
    assert traced.line != called.line and f"exp in Exponential ({traced.line})" in str(traced) and "called at" not in str(traced)
    captured = refused(step, np.full(2, 1e4), captured=True)
    assert captured.line == traced.line and "called at" not in str(captured)


@pytest.mark.parametrize("captured", [False, True])
def test_what_was_not_finite_before_the_step_gets_an_advice_of_its_own(captured: bool) -> None:
    net = nn.Linear(3, 1).to(np.float64)
    x = np.ones((4, 3))
    x[2, 1] = np.nan
    step = stepped(lambda x: mg.square(net(x)).sum(), *net.parameters())
    data = str(refused(step, x, captured=captured))
    assert "Look at the data" in data and "row 2, feature 1" in data and "Lower the learning rate" not in data
    with mg.no_grad():
        net.weight[...] = 1.0
    large = refused(stepped(lambda x: mg.exp(net(x)).sum(), *net.parameters()), np.full((4, 3), 1e6), captured=captured)
    assert "Lower the learning rate" in str(large)
    good = mg.capture(step) if captured else step
    for _ in range(3):
        good(np.ones((4, 3)))
    with mg.no_grad():
        net.weight[0, 2] = np.inf
    with pytest.raises(NonFiniteError, match="Parameter weight was set so before the step") as caught:
        good(np.ones((4, 3)))
    assert "Lower the learning rate" not in str(caught.value)


def test_a_refused_step_is_counted_from_the_start_of_its_run() -> None:
    for bad in (0, 1, 7):
        net = nn.Linear(3, 1).to(np.float64)
        step = mg.capture(stepped(lambda x, net=net: net(x).sum(), *net.parameters()))
        x = np.ones((9, 4, 3))
        x[bad, 0, 0] = np.inf
        for _ in range(2):  # while it is recorded, and natively
            with pytest.raises(NonFiniteError) as caught:
                step.scan(x)
            assert caught.value.step == bad
            step.repeat(3, np.ones((4, 3)))
        assert f"(step {bad})" in str(caught.value)


def kept() -> Any:
    """The last backward pass of this thread."""
    return local.mode.trail


def test_a_pass_that_was_kept_is_let_go_with_the_step_and_leaves_no_cycles() -> None:
    one = Training()
    one.step(one.x[0], one.y[0])
    assert kept() is None
    loss = F.mse_loss(one.net(one.x[0]), one.y[0])
    loss.backward()
    assert len(kept().order) > 3
    one.opt.step()
    assert kept() is None
    assert loss.record is not None and loss.record.parents == ()
    assert cycles_left_by(lambda: one.step(one.x[0], one.y[0])) == []


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_float32_gradients_of_1e20_are_clipped_not_zeroed(captured: bool, by_value: bool) -> None:
    p = nn.Parameter(np.zeros(4, np.float32))
    opt = optim.SGD([p], lr=1.0)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = (p * x).sum()
        loss.backward()
        (nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_)([p], 2.0)
        opt.step()
        return loss

    run = mg.capture(step) if captured else step
    for _ in range(4):
        run(np.full(4, 1e20, np.float32))
    np.testing.assert_allclose(p.detach().numpy(), -4 * (2.0 if by_value else 1.0) * np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("captured", [False, True])
def test_statistics_of_a_watched_step_are_not_to_blame(captured: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(np.float64)
    step = stepped(lambda x, s: (net(x) * s).sum(), *net.parameters())
    with mg.watch(net):
        error = refused(step, np.ones((5, 3)), np.full(1, 1e200), captured=captured)
    assert "sum of their squares is beyond float64" in str(error) and error.parameter == "2.bias"
