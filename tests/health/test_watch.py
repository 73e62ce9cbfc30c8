"""A recording says what NumPy says of the same arrays, costs no bit of the training, and is the same eager, captured and on two cores."""
from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, NonFiniteError
from minigrad.ops import update
from minigrad.tape import observe

OPTIMISERS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1), "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "adam": lambda p: optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True), "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
}


class Net:
    """A small net with everything in it that a recording looks at, and its step."""

    def __init__(self, make: Any = OPTIMISERS["momentum"], width: int = 9, clip: float | None = 0.25, norm_type: float = 2.0) -> None:
        mg.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, width), nn.Sigmoid(), nn.Residual(nn.Sequential(nn.Linear(width, width), nn.ReLU())),
                                   nn.Linear(width, 3))
        self.opt = make(self.model.parameters())
        self.clip, self.norm_type = clip, norm_type
        rng = np.random.default_rng(0)
        self.x, self.y = rng.standard_normal((7, 5, 4)).astype(np.float32), rng.integers(0, 3, (7, 5))

    def step(self, x: Any, y: Any) -> Any:
        self.opt.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, self.norm_type)
        self.opt.step()
        return loss

    def run(self, how: str) -> list[float]:
        if how == "eager":
            return [self.step(x, y).item() for x, y in zip(self.x, self.y, strict=True)]
        captured = mg.capture(self.step)
        losses = [captured(x, y).item() for x, y in zip(self.x, self.y, strict=True)] if how == "captured" else captured.scan(self.x, self.y).tolist()
        return list(losses)

    def values(self) -> list[bytes]:
        return [p.detach().numpy().tobytes() for p in self.model.parameters()]


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    yield
    assert observe.active == []


@pytest.mark.parametrize("name", OPTIMISERS)
def test_parameters_are_what_numpy_says(name: str) -> None:
    net = Net(OPTIMISERS[name], clip=None)
    with mg.watch(net.model, activations=False) as w:
        for x, y in zip(net.x, net.y, strict=True):
            before = {path: p.detach().numpy().astype(float) for path, p in net.model.named_parameters()}
            net.step(x, y)
            for path, p in net.model.named_parameters():
                after, grad = p.detach().numpy().astype(float), np.array(p.grad, float)
                seen = w[path]
                found = [seen.weight.mean[-1], seen.weight.std[-1], seen.weight.l2[-1], seen.grad.mean[-1], seen.grad.std[-1], seen.grad.l2[-1],
                         seen.grad.max[-1], seen.grad.zeros[-1], seen.grad.nonfinite[-1]]
                expected = [after.mean(), after.std(), np.linalg.norm(after), grad.mean(), grad.std(), np.linalg.norm(grad), np.abs(grad).max(),
                            np.mean(grad == 0), 0]
                assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
                change = np.linalg.norm(after - before[path])
                assert [seen.update.l2[-1], seen.update.ratio[-1]] == pytest.approx([change, change / np.linalg.norm(after)], rel=1e-6)
    assert w.steps.tolist() == list(range(7)) and w.parameters == [path for path, _ in net.model.named_parameters()]


def test_signals_are_what_each_layer_hands_to_the_next_and_flows_what_comes_back() -> None:
    net = Net()
    first, block, last = net.model[0], net.model[2], net.model[3]
    with mg.watch(net.model, weights=False, grads=False) as w:
        net.step(net.x[0], net.y[0])
    net = Net()
    first, block, last = net.model[0], net.model[2], net.model[3]
    h1 = F.sigmoid(first(net.x[0]))
    h2 = block(h1)
    out = last(h2)
    flows = mg.autograd.grad(F.cross_entropy(out, net.y[0]), [h1, h2, out])
    assert w.layers == ["input", "0", "2.module.0", "3"]
    signals = [mg.tensor(net.x[0]), h1, h2, out]
    for name, h in zip(w.layers, signals, strict=True):
        x = h.detach().numpy().astype(float)
        seen = w[name].signal
        assert [seen.mean[0], seen.std[0], seen.rms[0], seen.max[0]] == pytest.approx(
            [x.mean(), x.std(), np.sqrt(np.mean(x**2)), np.abs(x).max()], rel=1e-6)
    for name, g in zip(w.layers[1:], flows, strict=True):
        assert w[name].flow.rms[0] == pytest.approx(np.sqrt(np.mean(np.array(g, float) ** 2)), rel=1e-6)
    with pytest.raises(AttributeError, match="nothing of kind 'flow'"):
        w["input"].flow  # noqa: B018
    assert w.parameters == []


@pytest.mark.parametrize("how", ["eager", "captured", "scan"])
@pytest.mark.parametrize("width", [9, 130])
def test_a_recording_costs_no_bit_and_has_the_same_bits_however_the_step_is_run(width: int, how: str) -> None:
    plain, reference, net = Net(width=width), Net(width=width), Net(width=width)
    with mg.watch(reference.model) as expected:
        reference.run("eager")
    with mg.watch(net.model) as w:
        losses = net.run(how)
    assert (losses, net.values()) == (plain.run("eager"), plain.values())
    assert w.arrays().keys() == expected.arrays().keys()
    for name, values in expected.arrays().items():
        assert w.arrays()[name].tobytes() == values.tobytes(), name


def test_two_cores_record_the_bits_of_one() -> None:
    found = []
    before = mg.get_num_threads()
    for threads in (1, 2):
        mg.set_num_threads(threads)
        try:
            net = Net(width=300)
            with mg.watch(net.model) as w:
                net.run("scan")
            found.append({name: values.tobytes() for name, values in w.arrays().items()})
        finally:
            mg.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("how", ["eager", "captured", "scan"])
def test_every_third_step(how: str) -> None:
    every, all_steps = Net(), Net()
    with mg.watch(every.model, every=3) as w:
        every.run(how)
    with mg.watch(all_steps.model) as expected:
        all_steps.run("eager")
    assert w.steps.tolist() == [0, 3, 6]
    for name, values in expected.arrays().items():
        assert w.arrays()[name].tobytes() == values[::3].tobytes(), name


def test_a_long_native_run_is_recorded_whole() -> None:
    net = Net()
    with mg.watch(net.model) as w:
        mg.capture(net.step).repeat(5000, net.x[0], net.y[0])
        assert len(w) == 5000
        w.clear()
        mg.capture(net.step).repeat(3, net.x[0], net.y[0])
        assert w.steps.tolist() == [5000, 5001, 5002]
        w.clear()
        mg.capture(net.step).repeat(3, net.x[0], net.y[0])
    assert w.steps.tolist() == [5003, 5004, 5005] and np.isfinite(w.matrix("update", "l2")[1]).all()


def clip_in_two(parameters: list[Any]) -> None:
    for some in (parameters[:2], parameters[2:]):
        nn.utils.clip_grad_norm_(some, 0.01)


CLIPPINGS: dict[str, Any] = {
    "norm": lambda ps: nn.utils.clip_grad_norm_(ps, 0.01), "1-norm": lambda ps: nn.utils.clip_grad_norm_(ps, 0.01, 1.0),
    "value": lambda ps: nn.utils.clip_grad_value_(ps, 1e-4), "two groups": clip_in_two, "some": lambda ps: nn.utils.clip_grad_norm_(ps[:1], 1e-3),
    "known norm": lambda ps: nn.utils.clip_grads_with_norm_(ps, 0.01, nn.utils.get_total_norm([p.grad for p in ps])),
}


@pytest.mark.parametrize("width", [9, 130])
@pytest.mark.parametrize("how", ["eager", "captured"])
@pytest.mark.parametrize("name", CLIPPINGS)
def test_gradients_are_those_before_clipping_whatever_clips(name: str, how: str, width: int) -> None:
    class Clipped(Net):
        def step(self, x: Any, y: Any) -> Any:
            self.opt.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            if self.clip is not None:
                CLIPPINGS[name](list(self.model.parameters()))
            self.opt.step()
            return loss

    found = []
    for clip in (None, 1.0):
        net = Clipped(lambda p: optim.SGD(p, lr=0.0), width, clip)
        with mg.watch(net.model) as w:
            net.run(how)
        found.append({key: values.tobytes() for key, values in w.figures.items() if key.kind == "grad"})
    assert found[0] == found[1]


def test_a_refused_step_leaves_no_row() -> None:
    net = Net()
    with mg.watch(net.model) as w:
        net.step(net.x[0], net.y[0])
        with pytest.raises(NonFiniteError):
            net.step(net.x[0] * np.float32(np.inf), net.y[0])
        net.step(net.x[1], net.y[1])
        assert w.steps.tolist() == [0, 1] and np.isfinite(w.matrix("grad", "l2")[1]).all()
        with pytest.raises(NonFiniteError):
            net.step(net.x[0] * np.float32(np.inf), net.y[0])
        net.opt.nonfinite, net.clip = "ignore", None
        net.step(net.x[1], net.y[1])
    assert np.isfinite(w.matrix("grad", "l2")[1]).all()


@pytest.mark.parametrize("how", ["eager", "captured"])
def test_what_a_refused_step_took_is_not_the_next_ones(how: str) -> None:
    net = Net()
    step = mg.capture(net.step) if how == "captured" else net.step
    with mg.watch(net.model) as w:
        for _ in range(3):
            step(net.x[0], net.y[0])
        with pytest.raises(NonFiniteError):
            step(net.x[0] * np.float32(np.inf), net.y[0])
        net.model[2].requires_grad_(False)
        net.step(net.x[1], net.y[1])
    assert np.isnan(w["2.module.0"].grad.l2[-1]) and np.isfinite(w["0"].grad.l2[-1])


def test_what_is_not_used_in_a_step_is_nan() -> None:
    net = Net()
    net.model[2].requires_grad_(False)
    with mg.watch(net.model) as w:
        net.step(net.x[0], net.y[0])
    assert np.isnan(w["2.module.0"].grad.l2[0]) and np.isnan(w["2.module.0"].weight.l2[0])
    assert np.isfinite([w["0"].grad.l2[0], w["3"].weight.l2[0], w["2.module.0"].signal.rms[0], w["2.module.0"].flow.rms[0]]).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_parameters_and_batches_are_recorded(shape: tuple[int, int]) -> None:
    model = nn.Linear(3, 2)
    model.empty = nn.Parameter(np.zeros(shape, np.float32))
    opt = optim.SGD([model.empty], lr=0.1)
    opt.add_param_group({"params": [model.weight, model.bias], "lr": 0.0})

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = model(x).sum() + model.empty.sum()
        loss.backward()
        opt.step()
        return loss

    captured = mg.capture(step)
    with mg.watch(model, every=2) as w:
        for rows in (2, 2, 0, 0, 0, 0, 0, 0, 2):
            step(np.ones((rows, 3), np.float32))
        captured.repeat(9, np.ones((2, 3), np.float32))
    assert np.isnan(w[""].signal.rms).tolist() == [False, True, True, True] + [False] * 5
    assert w[""].weight.l2[0] == pytest.approx(np.linalg.norm(model.weight.detach().numpy()), rel=1e-6)


class Chosen(nn.Module):
    """Layers of which a step may leave one out, one of them called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.extra, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.all = True

    def forward(self, x: Any) -> Any:
        h = F.tanh(self.input(x))
        return self.last(F.tanh(self.extra(x=h)) if self.all else h)


def test_layers_stand_in_the_order_of_the_net_whatever_a_step_leaves_out_and_is_called() -> None:
    net = Net()
    net.model = Chosen()  # type: ignore[assignment]
    net.opt = optim.SGD(net.model.parameters(), lr=0.0)
    with mg.watch(net.model) as w:
        for net.model.all in (False, True):
            net.step(net.x[0], net.y[0])
    assert w.layers == ["(input)", "input", "extra", "last"]
    h = F.tanh(net.model.input(net.x[0]))
    assert w["input"].signal.rms[1] == pytest.approx(float((h**2).mean().sqrt()), rel=1e-6)
    assert w["(input)"].signal.rms == pytest.approx(np.sqrt(np.mean(net.x[0] ** 2)), rel=1e-6)


def test_two_watched_models_in_one_update_are_refused_and_with_two_optimisers_recorded() -> None:
    one, two = Net(clip=None), Net(clip=None)
    both = optim.SGD([*one.model.parameters(), *two.model.parameters()], lr=0.1)
    with mg.watch(one.model) as first, mg.watch(two.model) as second:
        for net in (one, two):
            net.step(net.x[0], net.y[0])
        before = one.values()
        with pytest.raises(ValueError, match="parameters of 2 watched models"):
            both.step()
    assert before == one.values()
    assert len(first) == len(second) == 1 and first["0"].update.l2.tobytes() == second["0"].update.l2.tobytes()


@pytest.mark.parametrize("how", ["eager", "captured"])
def test_two_optimisers_leave_a_row_each_with_what_is_theirs_and_what_was_clipped_before(how: str) -> None:
    net = Net(clip=0.01)
    one, two = optim.SGD(net.model[0].parameters(), lr=0.1), optim.SGD(net.model[3].parameters(), lr=0.1)

    class Both:
        def zero_grad(self) -> None:
            net.model.zero_grad()

        def step(self) -> None:
            one.step()
            two.step()

    net.opt = Both()
    with mg.watch(net.model) as w:
        net.run(how)
    first, last = w["0.weight"], w["3.weight"]
    for figures, missing in ((first.grad, 1), (first.weight, 1), (first.update, 1), (last.grad, 1), (last.weight, 0), (last.update, 0)):
        assert np.isnan(figures.l2).reshape(-1, 2).all(0).tolist() == [missing == 0, missing == 1]
        assert np.isfinite(figures.l2.reshape(-1, 2)[:, 1 - missing]).all()
    assert last.grad.l2[0] > 0.01


def test_a_captured_step_that_looks_at_no_norm_is_recorded() -> None:
    found = []
    for how in ("eager", "scan"):
        net = Net(clip=None)
        net.opt.nonfinite = "ignore"
        with mg.watch(net.model) as w:
            net.run(how)
        found.append(w["0.weight"].grad.l2.tobytes())
    assert found[0] == found[1]


def test_what_strangers_share_an_update_is_nobodys_figure_and_leaves_no_table_behind() -> None:
    mg.manual_seed(0)
    body = nn.Linear(4, 4)
    x = mg.tensor(np.ones((2, 4), np.float32))
    with mg.watch(body) as w:
        for i in range(12):
            head = nn.Linear(4, 1 + i % 3)
            opt = optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
            before = head.weight.detach().numpy().copy()
            head(body(x)).sum().backward()
            opt.step()
            assert np.allclose(head.weight.detach().numpy(), before - np.float32(0.1) * np.array(head.weight.grad))
    assert len(w) == 12 and len(w.observer._tables) <= 12 // 2


def test_sums_of_squares_beyond_float64_are_no_warning() -> None:
    net = Net()
    net.model.double()
    net.opt.nonfinite = "ignore"
    with mg.watch(net.model, weights=False) as w:
        (net.model(net.x[0].astype(float)).sum() * 1e180).backward()
        net.opt.step()
    assert np.isinf(w["3.weight"].grad.l2[0]) and w["3.weight"].grad.nonfinite[0] == 0


def test_an_optimiser_of_ones_own_leaves_the_change_out() -> None:
    class Own(optim.Optimizer):
        slots = ("lr",)
        counted = False

        def update(self, run: Any, numbers: Any) -> None:
            update.sgd_(run.data, run.grad, numbers.tensor)

    net = Net(lambda p: Own(p, {"lr": 0.1}))
    with mg.watch(net.model) as w:
        net.step(net.x[0], net.y[0])
    assert w["0"].weight.l2[0] == pytest.approx(np.linalg.norm(net.model[0].weight.detach().numpy()), rel=1e-6)
    assert np.isnan(w["0"].update.l2[0])


def test_saturated_and_dead_units_are_counted() -> None:
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    with mg.no_grad():
        model[0].bias[:3], model[0].bias[3] = -100.0, 100.0
        model[2].bias[:] = 100.0
    opt = optim.SGD(model.parameters(), lr=0.0)
    with mg.watch(model) as w:
        model(np.ones((6, 2), np.float32)).sum().backward()
        opt.step()
    assert w["0"].signal.dead[0] == 0.75 and w["2"].signal.saturated[0] == 1.0 and w["0"].signal.saturated[0] == 0.0


def test_of_several_calls_in_a_step_the_last_counts() -> None:
    mg.manual_seed(0)
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    opt = optim.SGD(model.parameters(), lr=0.0)
    x = mg.tensor(np.ones((2, 3), np.float32))
    with mg.watch(model) as w:
        model(x).sum().backward()
        opt.step()
    h = F.tanh(layer(x))
    (g,) = mg.autograd.grad(layer(h).sum(), h)
    assert g is not None
    assert w["input"].signal.rms[0] == pytest.approx(float((h**2).mean().sqrt()), rel=1e-6)
    assert w["input"].flow.rms[0] == pytest.approx(float((g**2).mean().sqrt()), rel=1e-6)


def test_validation_and_copies_are_not_recorded() -> None:
    net = Net()
    with mg.watch(net.model) as w:
        copied, loaded = copy.deepcopy(net.model), pickle.loads(pickle.dumps(net.model))
        loss = F.cross_entropy(net.model(net.x[0]), net.y[0])
        with mg.no_grad():
            net.model(100 * net.x[0])
        for other in (copied, loaded):
            other(100 * net.x[0]).sum().backward()
        loss.backward()
        net.opt.step()
    assert w["input"].signal.max[0] == pytest.approx(np.abs(net.x[0]).max())


def test_it_ends_when_it_is_dropped() -> None:
    net = Net()
    w = mg.watch(net.model)
    net.step(net.x[0], net.y[0])
    del w
    assert observe.active == []
    net.step(net.x[0], net.y[0])


def test_what_cannot_be_watched_is_refused() -> None:
    net = Net()
    with pytest.raises(TypeError, match="takes a Module, got a function"):
        mg.watch(F.relu)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="whole number from 1 on"):
        mg.watch(net.model, every=0)
    with pytest.raises(ValueError, match="no parameters"):
        mg.watch(nn.ReLU())
    with mg.watch(net.model), pytest.raises(ValueError, match="watched already"):
        mg.watch(net.model[0])

    def step(x: Any) -> Any:
        mg.watch(net.model)
        return net.model(x)

    with pytest.raises(CaptureError, match="inside a captured step"):
        mg.capture(step)(net.x[0])


def test_a_numpy_input_of_the_size_of_a_signal_is_taken_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(11, 11), nn.ReLU(), nn.Linear(11, 1))  # (13, 11) stands before and behind a layer
    opt = optim.SGD(model.parameters(), lr=0.1)
    x = np.random.default_rng(0).standard_normal((13, 11)).astype(np.float32)
    recorded = mg.watch(model)

    @mg.capture
    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        opt.step()
        return loss

    for _ in range(4):
        step(x)
    assert len(recorded) == 4 and np.allclose(recorded["input"].signal.rms, np.sqrt(np.mean(np.square(x, dtype=np.float64))), rtol=1e-7)
