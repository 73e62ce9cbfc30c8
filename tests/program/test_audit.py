"""`audit=` finds what the walk over names cannot see, and changes nothing; `debug_print` shows what each run computes."""
from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import CaptureError, NonFiniteError

X, LABELS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.array([0, 1, 0, 1, 0, 1])


class Net:
    """A training with everything that a step may write: parameters, moments, running statistics, the random state, gradients."""

    def __init__(self, zero: bool = True, make: Callable[[Any], Any] = lambda p: optim.Adam(p, lr=0.01)) -> None:
        mg.manual_seed(7)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.opt, self.zero = make(self.model.parameters()), zero
        self.hidden: Callable[[], float] = lambda: 1.0

    def step(self, x: Any, labels: Any) -> Any:
        if self.zero:
            self.opt.zero_grad()
        loss = F.cross_entropy(self.model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.opt.step()
        return loss

    def left(self) -> list[Any]:
        grads = [None if p.grad is None else p.grad.array.tobytes() for p in self.model.parameters()]
        moments = [np.asarray(v).tobytes() for one in self.opt.state_dict()["state"].values() for v in one.values()]
        return [*(np.asarray(v).tobytes() for v in self.model.state_dict().values()), *grads, *moments]


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, lr=0.01), lambda p: optim.SGD(p, lr=0.1, momentum=0.9)], ids=["Adam", "SGD"])
@pytest.mark.parametrize("audit", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("way", ["call", "repeat", "scan", "index"])
def test_an_audited_training_has_the_bits_of_one_that_is_not(way: str, audit: float, make: Callable[[Any], Any], zero: bool) -> None:
    nets = [Net(zero, make), Net(zero, make)]
    steps: list[Any] = [nets[0].step, mg.capture(nets[1].step, audit=audit)]
    found = []
    for net, step in zip(nets, steps, strict=True):
        mg.manual_seed(1)
        if net is nets[0]:
            losses = [float(step(mg.tensor(X), mg.tensor(LABELS))) for _ in range(11)]
        elif way == "call":
            losses = [float(step(X, LABELS)) for _ in range(11)]
        elif way == "repeat":
            losses = [*step.repeat(4, X, LABELS).tolist(), *step.repeat(7, X, LABELS).tolist()]
        elif way == "scan":
            losses = [v for n in (4, 7) for v in step.scan(np.stack([X] * n), np.stack([LABELS] * n)).tolist()]
        else:
            losses = [v for n in (4, 7) for v in step.scan(X, LABELS, index=np.stack([np.arange(6)] * n)).tolist()]
        found.append((losses, net.left()))
    assert found[0] == found[1]


def hidden_constants() -> dict[str, tuple[Callable[[], float], Callable[[float], Any]]]:
    """Numbers that come out of what the walk does not look into, and what changes them."""
    import ctypes
    import queue

    cell, cells, line = ctypes.c_double(1.0), collections.deque([1.0]), queue.SimpleQueue()  # type: ignore[var-annotated]
    line.put(1.0)
    big = list(map(float, range(1000)))
    big[500] = 1.0

    def from_line() -> float:
        value: float = line.get()
        line.put(value)
        return value

    def to_line(value: float) -> None:
        line.get()
        line.put(value)

    return {
        "C structure": (lambda: cell.value, lambda v: setattr(cell, "value", v)),
        "C method": (lambda: cells.__getitem__(0), lambda v: cells.__setitem__(0, v)),
        "C queue": (from_line, to_line),
        "large list": (lambda: big[500], lambda v: big.__setitem__(500, v)),
    }


@pytest.mark.parametrize("name", list(hidden_constants()))
@pytest.mark.parametrize("way", ["call", "repeat"])
def test_a_number_that_cannot_be_seen_to_change_is_found(name: str, way: str) -> None:
    net, plain = Net(), Net()
    read, write = hidden_constants()[name]

    def made(net: Net) -> Any:
        def step(x: Any, labels: Any) -> Any:
            return net.step(x * read(), labels)

        return step

    captured, eager = mg.capture(made(net), audit=0.25), made(plain)
    for _ in range(3):
        captured(X, LABELS)
    write(2.0)
    before = [net.left()]

    def go_on() -> None:
        for _ in range(4):  # one call in four is looked at
            captured.repeat(1, X, LABELS) if way == "repeat" else captured(X, LABELS)
            before[0] = net.left()

    with pytest.raises(CaptureError, match=r"audit: step \(test_audit.py:.*mul at test_audit.py:"):
        go_on()
    assert net.left() == before[0]
    plain.model.load_state_dict(net.model.state_dict())
    plain.opt.load_state_dict(net.opt.state_dict())
    for _ in range(4):  # recorded anew
        mg.manual_seed(2)
        loss = float(captured(X, LABELS))
        mg.manual_seed(2)
        assert loss == float(eager(mg.tensor(X), mg.tensor(LABELS)))


def test_a_result_that_differs_is_named() -> None:
    large, fills = np.ones((300, 300), np.float32), collections.deque([1.0])

    def step(x: Any) -> Any:
        large.fill(fills.__getitem__(0))  # larger than what is looked at for changes
        return x.sum(), x * 2.0 * large[:1, :3]

    captured = mg.capture(step, audit=1.0)
    for _ in range(4):
        captured(X)
    fills[0] = 2.0
    with pytest.raises(CaptureError, match=r"audit: .*result 1 has other bits"):
        captured(X)
    assert captured(X)[1].tolist() == (X * 4).tolist()


def test_a_refused_step_is_refused_under_audit() -> None:
    net = Net()
    captured = mg.capture(net.step, audit=1.0)
    for _ in range(4):
        captured(X, LABELS)
    left = [np.asarray(v).tobytes() for v in net.model.state_dict().values()]
    with pytest.raises(NonFiniteError):
        captured(X * np.float32("nan"), LABELS)
    assert [np.asarray(v).tobytes() for v in net.model.state_dict().values()] == left
    captured(X, LABELS)


def test_gradients_that_are_held_stay_as_they_were() -> None:
    net = Net()
    captured = mg.capture(net.step, audit=1.0)
    for _ in range(5):
        captured(X, LABELS)
        held = net.model[0].weight.grad
        assert held is not None
        values = held.array.copy()
        captured(X + 1, LABELS)
        assert np.array_equal(held.array, values) and not np.array_equal(net.model[0].weight.grad.array, values)


@pytest.mark.parametrize("audit", [0, -0.1, 1.5, float("nan")])
def test_audit_is_a_share(audit: float) -> None:
    with pytest.raises(ValueError, match="audit"):
        mg.capture(lambda x: x, audit=audit)


# ---- debug_print ----------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["call", "repeat", "scan"])
def test_debug_print_shows_the_values_of_each_run(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    def step(x: Any) -> Any:
        y = x * 2.0
        mg.debug_print(y, "doubled")
        y.add_(1.0)  # later: what is shown stays
        mg.debug_print(y.sum())
        return y * 1.0

    captured = mg.capture(step)
    inputs = [np.full(2, i, np.float32) for i in range(5)]
    if way == "call":
        results = [captured(x).tolist() for x in inputs]
    elif way == "repeat":
        results = [captured.repeat(1, x)[0].tolist() for x in inputs]
    else:
        results = captured.scan(np.stack(inputs)).tolist()
    assert results == [[2 * i + 1.0] * 2 for i in range(5)]
    shown = [line for i in range(5) for line in (f"doubled: [{2 * i}., {2 * i}.]", f"{4 * i + 2}.")]
    assert capsys.readouterr().out.splitlines() == shown


def test_debug_print_changes_no_bits_and_needs_no_capture(capsys: pytest.CaptureFixture[str]) -> None:
    nets = [Net(), Net()]

    def shows(x: Any, labels: Any) -> Any:
        mg.debug_print(nets[1].model[0].weight)
        h = nets[1].model[0](x)
        h.register_hook(lambda g: mg.debug_print(g, "gradient"))
        return nets[1].step(x, labels)

    plain, captured = mg.capture(nets[0].step), mg.capture(shows)
    for _ in range(5):
        mg.manual_seed(3)
        a = float(plain(X, LABELS))
        nets[1].model[0].train()
        mg.manual_seed(3)
        assert float(captured(X, LABELS)) == a
    assert nets[0].left() == nets[1].left()
    mg.debug_print(mg.ones(2), "outside")
    assert capsys.readouterr().out.splitlines()[-1] == "outside: [1., 1.]"
    with pytest.raises(TypeError, match="shows Tensors"):
        mg.debug_print(3)
