"""What a captured step promises: the bits of eager mode whatever happens between calls, and an error for what a replay could not follow."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, ShapeError

Array = np.ndarray[Any, np.dtype[Any]]


def bits(opt: optim.SGD) -> list[bytes]:
    """Parameters and their momentum, without what pads it between them."""
    kept: list[bytes] = []
    for p in opt.groups[0].parameters:
        assert isinstance(p, nn.Parameter)
        whole = opt._moments.get(("momentum_buffer", id(p.place.slab), -1))
        kept += [p.array.tobytes(), b"" if whole is None else whole.array[p.place.offset:p.place.offset + p.numel()].tobytes()]
    return kept


class Training:
    """A small net, its optimiser, and a plain step; `state` is everything a step may change, as bytes."""

    def __init__(self, *, zero: bool = True, clip: float | None = 0.25, momentum: float = 0.9) -> None:
        mg.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Residual(nn.Sequential(nn.Linear(8, 8), nn.ReLU())), nn.Linear(8, 2))
        self.opt = optim.SGD(self.model.parameters(), lr=0.1, momentum=momentum)
        self.zero, self.clip = zero, clip

    def step(self, x: Any, y: Any) -> Any:
        if self.zero:
            self.opt.zero_grad()
        loss = F.mse_loss(self.model(x), y)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.opt.step()
        return loss

    def state(self) -> list[bytes | None]:
        grads = [None if p.grad is None else p.grad.array.tobytes() for p in self.model.parameters()]
        return [*grads, *bits(self.opt)]


def batch(seed: int = 0, rows: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 3)).astype(np.float32), rng.normal(size=(rows, 2)).astype(np.float32)


def both(**options: Any) -> tuple[Training, Training, Any]:
    """Twice the same training, and the second one's step captured."""
    eager, captured = Training(**options), Training(**options)
    return eager, captured, mg.capture(captured.step)


def same(eager: Training, captured: Training, step: Any, seeds: range = range(6), between: Callable[[Training, int], Any] | None = None) -> None:
    """Run both, and find the same losses and state after each step."""
    for seed in seeds:
        for training in (eager, captured):
            if between is not None:
                between(training, seed)
        assert float(step(*batch(seed))) == float(eager.step(*batch(seed)))
        assert captured.state() == eager.state()


# ---- the same as eager ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"zero": False}, {"clip": None}, {"momentum": 0.0}, {"zero": False, "clip": None, "momentum": 0.0}], ids=str)
def test_each_call_is_an_eager_step(options: dict[str, Any]) -> None:
    same(*both(**options))


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_repeat_is_so_many_calls(steps: int) -> None:
    eager, captured, step = both()
    losses = step.repeat(steps, *batch())
    assert losses.tolist() == [float(eager.step(*batch())) for _ in range(steps)]
    assert captured.state() == eager.state()


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_scan_is_a_call_for_each_index(steps: int) -> None:
    eager, captured, step = both()
    xs, ys = map(np.stack, zip(*[batch(s) for s in range(steps)], strict=True))
    assert step.scan(xs, ys).tolist() == [float(eager.step(x, y)) for x, y in zip(xs, ys, strict=True)]
    assert captured.state() == eager.state()


def test_scan_by_index_is_gathering_by_hand() -> None:
    eager, captured, step = both()
    x, y = batch(rows=40)
    index = np.random.default_rng(1).permutation(40).reshape(8, 5)
    assert step.scan(x, y, index=index).tolist() == [float(eager.step(x[rows], y[rows])) for rows in index]
    assert captured.state() == eager.state()


def test_scan_refuses_what_it_cannot_step_through() -> None:
    _, _, step = both()
    x, y = batch(rows=40)
    with pytest.raises(ShapeError, match="one leading step axis"):
        step.scan(x, y[:39])
    with pytest.raises(IndexError, match="40"):
        step.scan(x, y, index=np.array([[0, 40]]))
    for steps in (lambda: step.repeat(0, x, y), lambda: step.scan(x, y, index=np.zeros((0, 5), int))):
        with pytest.raises(ValueError, match="at least one"):
            steps()


def test_a_rate_and_a_momentum_that_change_are_seen() -> None:
    def between(training: Training, seed: int) -> None:
        training.opt.param_groups[0]["lr"] = 0.1 / (seed + 1)
        training.opt.param_groups[0]["momentum"] = [0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.5, 0.0, 0.0, 0.0][seed]

    same(*both(momentum=0.0), seeds=range(10), between=between)


def test_eager_steps_may_come_in_between() -> None:
    eager, captured, step = both()
    for seed in range(9):
        run = captured.step if seed % 3 == 2 else step
        assert float(run(*batch(seed))) == float(eager.step(*batch(seed)))
        assert captured.state() == eager.state()


def test_another_batch_size_is_recorded_anew_and_the_first_kept() -> None:
    eager, captured, step = both()
    for rows in (5, 5, 5, 3, 3, 3, 5, 3, 5):
        assert float(step(*batch(rows, rows))) == float(eager.step(*batch(rows, rows)))
    assert captured.state() == eager.state()
    assert len(step.explain().recordings) == 2 and step.explain().recordings[0][1] == 2


def test_a_backward_and_an_update_may_be_captured_apart() -> None:
    eager, captured = Training(clip=None), Training(clip=None)

    def parts(t: Training) -> tuple[Any, Any]:
        def forward(x: Any, y: Any) -> Any:
            loss = F.mse_loss(t.model(x), y)
            loss.backward()
            return loss

        def update() -> None:
            t.opt.step()
            t.opt.zero_grad()

        return forward, update

    # One after the other: an eager backward makes every program look at its leaves again.
    seen: list[list[Any]] = [[], []]
    for t, states, wrap in ((eager, seen[0], lambda f: f), (captured, seen[1], mg.capture)):
        forward, update = map(wrap, parts(t))
        for seed in range(6):
            states += [float(forward(*batch(seed))), t.state()]
            update()
            states.append(t.state())
    assert seen[0] == seen[1]


def test_a_gradient_that_is_set_to_none_or_given_between_calls_counts() -> None:
    def between(training: Training, seed: int) -> None:
        if seed == 4:
            training.model.zero_grad()
        if seed == 6:
            for p in training.model.parameters():
                p.grad = mg.tensor(np.full(p.shape, 0.5, np.float32))

    same(*both(zero=False), seeds=range(9), between=between)


def test_a_gradient_that_is_held_stays_as_it_was() -> None:
    _, captured, step = both()
    p = next(captured.model.parameters())
    for seed in range(5):
        step(*batch(seed))
        held = p.grad
        assert held is not None
        values = [held.array.copy()] * 4
        others: list[Any] = [held, held.detach(), held.reshape(-1), held.numpy()]
        step(*batch(seed + 10))
        assert [np.array_equal(np.ravel(now), was.ravel()) for now, was in zip(others, values, strict=True)] == [True] * 4
        assert p.grad is not held and not np.array_equal(p.grad.array, values[0])  # type: ignore[union-attr]


def test_a_module_that_changes_is_recorded_anew() -> None:
    def between(training: Training, seed: int) -> None:
        if seed == 3:
            training.model[2].scale = 0.5

    same(*both(), seeds=range(8), between=between)


def test_grad_mode_belongs_to_the_signature() -> None:
    weight = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    step = mg.capture(lambda x: (weight * x).sum() * (1.0 if mg.is_grad_enabled() else 10.0))
    x = np.ones(2, np.float32)
    assert [float(step(x)) for _ in range(4)] == [2.0] * 4
    with mg.no_grad():
        assert [float(step(x)) for _ in range(4)] == [20.0] * 4


# ---- what goes in and out -------------------------------------------------------------------------------------------------------
def test_trees_go_in_and_out() -> None:
    step = mg.capture(lambda pair, *, more: {"sum": pair[0] + pair[1], "rest": [more["z"] * 2.0, (more["z"],)], "none": None, "name": "a"})
    x, y, z = np.arange(3, dtype=np.float32), np.ones(3, np.float32), np.full(2, 4, np.float32)
    for i in range(4):
        out = step((x + i, mg.tensor(y)), more={"z": z})
        assert out["sum"].tolist() == (x + i + y).tolist()
        assert out["rest"][0].tolist() == [8, 8] and out["rest"][1][0].tolist() == [4, 4]
        assert (out["none"], out["name"]) == (None, "a")
    assert [v.shape for v in (step.repeat(3, (x, y), more={"z": z})["sum"], step.repeat(3, (x, y), more={"z": z})["rest"][0])] == [(3, 3), (3, 2)]


def test_plain_float64_input_is_cast_and_labels_stay_integers() -> None:
    models = [nn.Linear(3, 4), nn.Linear(3, 4)]
    models[1].load_state_dict(models[0].state_dict())
    step = mg.capture(lambda x, y: F.cross_entropy(models[1](x), y))
    rng = np.random.default_rng(0)
    for dtype in (np.int64, np.int32, np.uint8):
        for _ in range(4):
            x, labels = rng.normal(size=(5, 3)), rng.integers(0, 4, 5).astype(dtype)
            assert float(step(x, labels)) == float(F.cross_entropy(models[0](x.astype(np.float32)), labels.astype(np.int64)))


def test_arguments_are_the_callers_own() -> None:
    step = mg.capture(lambda x, y: (x * 2.0 + y, x))
    x = np.zeros((4, 3), np.float32)
    kept = []
    for i in range(6):
        x[:] = i
        kept.append(step(x, x))
        assert np.all(x == i)
    step(np.full((4, 3), 9, np.float32)[::-1], np.asfortranarray(x))
    assert [[float(t.array.min()), float(t.array.max())] for pair in kept for t in pair] == [[v, v] for i in range(6) for v in (3.0 * i, float(i))]


# ---- refused ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("read", [float, bool, lambda t: t.item(), lambda t: t.tolist(), lambda t: t.numpy(), np.asarray])
def test_reading_a_value_inside_is_refused(read: Callable[[Any], Any]) -> None:
    with pytest.raises(CaptureError, match=r"reads a Tensor's value inside a captured step.*return the Tensor"):
        mg.capture(lambda x: (read(x.sum()), x)[1])(np.ones(1, np.float32))


def test_a_list_that_grows_is_refused() -> None:
    seen: list[Any] = []

    def step(x: Any) -> Any:
        seen.append(x * 1.0)
        total = seen[0]
        for t in seen[1:]:
            total = total + t
        return total

    captured = mg.capture(step)
    with pytest.raises(CaptureError, match="keeps the Tensor that mul made"):
        captured(np.ones(2, np.float32))


@pytest.mark.parametrize("first_change", [1, 2, 3, 5])
def test_a_number_that_changes_is_never_frozen_in_silence(first_change: int) -> None:
    factor = 1.0

    def double(x: Any) -> Any:
        return x * factor

    captured = mg.capture(double)
    for call in range(8):
        factor = float(max(1, call + 2 - first_change))
        try:
            assert captured(np.ones(2, np.float32)).tolist() == [factor] * 2
        except CaptureError:
            return


def test_a_rate_that_the_step_itself_changes_is_never_frozen_in_silence() -> None:
    def decaying(t: Training) -> Callable[[Any, Any], Any]:
        def step(x: Any, y: Any) -> Any:
            loss = t.step(x, y)
            t.opt.param_groups[0]["lr"] *= 0.5
            return loss

        return step

    eager, captured = Training(), Training()
    one, other = decaying(eager), mg.capture(decaying(captured))
    for seed in range(5):
        try:
            assert float(other(*batch(seed))) == float(one(*batch(seed)))
        except CaptureError:
            return
