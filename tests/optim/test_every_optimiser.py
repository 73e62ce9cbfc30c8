"""Every optimiser and option: PyTorch's numbers, one set of bits eager and captured, and a refused step that changes nothing."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import CaptureError, NonFiniteError

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "decay": ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "maximize": ("SGD", {"lr": 0.001, "momentum": 0.5, "maximize": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}),
    "rmsprop centered": ("RMSprop", {"centered": True, "alpha": 0.9}),
    "rmsprop both": ("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True, "lr": 0.001}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-4}),
    "adam maximize": ("Adam", {"maximize": True}),
    "adam decoupled": ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "amsgrad": ("Adam", {"amsgrad": True, "lr": 0.05}),
    "adamw": ("AdamW", {}),
    "adamw amsgrad": ("AdamW", {"amsgrad": True, "weight_decay": 0.2}),
}
named = pytest.mark.parametrize("name", CASES)


def maker(name: str, module: Any = optim) -> Any:
    kind, options = CASES[name]
    return partial(getattr(module, kind), **options)


@named
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-6)], ids=["float64", "float32"])
def test_pytorch_goes_the_same_way(name: str, dtype: Any, rtol: float, compared: Any) -> None:
    torch = pytest.importorskip("torch")
    compared(maker(name), maker(name, torch.optim), dtype, rtol=rtol)


@named
def test_the_defaults_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, _ = CASES[name]
    theirs = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    ours = getattr(optim, kind)([nn.Parameter(np.zeros(1))]).param_groups[0]
    known = [key for key in ours if key in theirs and key != "params"]
    assert len(known) >= 5 and {key: ours[key] for key in known} == {key: theirs[key] for key in known}


@named
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("how", ["calls", "repeat", "scan"])
def test_eager_and_captured_have_one_set_of_bits(name: str, clip: float | None, how: str, training: Any) -> None:
    eager, captured = (training(maker(name), np.float32, clip=clip) for _ in range(2))
    step = mg.capture(captured.step)
    if how == "calls":
        for seed in range(200):
            assert float(step(captured.batch(seed % 5))) == float(eager.step(eager.batch(seed % 5)))
    elif how == "repeat":
        assert step.repeat(200, captured.batch()).tolist() == [float(eager.step(eager.batch())) for _ in range(200)]
    else:
        xs = np.stack([captured.batch(seed % 5) for seed in range(200)])
        assert step.scan(xs).tolist() == [float(eager.step(x)) for x in xs]
    assert captured.state() == eager.state()
    assert eager.opt.state.keys() == set(eager.model.parameters()) or name in ("sgd", "decay")


@named
def test_clipping_and_the_update_are_one_pass(name: str, training: Any) -> None:
    captured = training(maker(name), np.float32, clip=0.05)
    step = mg.capture(captured.step)
    step.repeat(3, captured.batch())
    assert "clip_ " not in repr(step.explain())


@named
@pytest.mark.parametrize("how", ["eager", "captured"])
def test_a_refused_step_changes_nothing(name: str, how: str, training: Any) -> None:
    spoilt, good = training(maker(name), clip=1.0), training(maker(name), clip=1.0)
    step = mg.capture(spoilt.step) if how == "captured" else spoilt.step
    for _ in range(4):
        step(spoilt.batch())
        good.step(good.batch())
    before = spoilt.state()
    with pytest.raises(NonFiniteError, match="refused"):
        step(spoilt.batch() * np.nan)
    assert spoilt.state() == before
    step(spoilt.batch())
    good.step(good.batch())
    assert spoilt.state() == good.state()


@pytest.mark.parametrize("how", ["eager", "captured"])
def test_the_hat_form_is_its_formula(how: str, rng: np.random.Generator) -> None:
    p = nn.Parameter(rng.normal(size=67))
    opt = optim.Adam([p], lr=0.1, betas=(0.8, 0.95), eps=1e-2, eps_mode="hat")
    expected, m, v = p.array.copy(), np.zeros(67), np.zeros(67)

    def step(g: Any) -> Any:
        opt.zero_grad()
        loss = (p * g).sum()
        loss.backward()
        opt.step()
        return loss

    run = mg.capture(step) if how == "captured" else step
    for t in range(1, 8):
        g = rng.normal(size=67)
        run(g)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        expected -= 0.1 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t) * m / (np.sqrt(v) + 1e-2)
        np.testing.assert_allclose(p.array, expected, rtol=1e-12)


# ---- groups ---------------------------------------------------------------------------------------------------------------------------
def grouped(module: Any, layers: list[Any]) -> Any:
    return module.Adam([{"params": layers[0], "lr": 0.1, "betas": (0.5, 0.9)}, {"params": layers[1], "weight_decay": 0.1}], lr=0.01)


@pytest.mark.parametrize("kind", ["eager", "captured"])
def test_groups_have_their_own_numbers(kind: str, training: Any) -> None:
    torch = pytest.importorskip("torch")
    ours = training(optim.SGD)
    ours.opt = grouped(optim, [list(ours.model[0].parameters()), list(ours.model[2].parameters())])
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    model.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in ours.model.state_dict().items()})
    opt = grouped(torch.optim, [model[0].parameters(), model[2].parameters()])
    step = mg.capture(ours.step) if kind == "captured" else ours.step
    for i in range(20):
        ours.opt.param_groups[1]["lr"] = opt.param_groups[1]["lr"] = 0.01 / (i + 1)
        ours.opt.param_groups[0]["betas"] = opt.param_groups[0]["betas"] = (0.5 + i / 100, 0.9)
        step(ours.batch())
        opt.zero_grad()
        (model(torch.tensor(ours.batch())) ** 2).mean().backward()
        opt.step()
    for p, q in zip(ours.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-11, atol=1e-12)


def test_a_group_is_added_and_trained_from_then_on(training: Any) -> None:
    one = training(lambda parameters: optim.Adam(list(parameters)[:2], lr=0.1))
    step = mg.capture(one.step)
    for _ in range(4):
        step(one.batch())
    last = one.model[2].weight
    before = last.array.copy()
    one.opt.add_param_group({"params": one.model[2].parameters(), "lr": 0.5})
    assert [g["lr"] for g in one.opt.param_groups] == [0.1, 0.5]
    step(one.batch())
    np.testing.assert_allclose(np.abs(last.array - before), 0.5, rtol=1e-4)
    assert [one.opt.state[p]["step"].item() for p in one.model.parameters()] == [5, 5, 1, 1]


def test_a_group_without_a_gradient_stands_still() -> None:
    a, b = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    opt = optim.Adam([{"params": a}, {"params": [b]}], lr=0.1)
    for which in (a + b, a, a, a + b):
        opt.zero_grad()
        which.sum().backward()
        opt.step()
    assert opt.state[a]["step"].item() == 4 and opt.state[b]["step"].item() == 2
    np.testing.assert_allclose(b.array, 1 - 2 * 0.1, rtol=1e-6)


def test_a_frozen_parameter_and_one_without_a_gradient_keep_what_they_have() -> None:
    p, q, r = (nn.Parameter(np.ones(3)) for _ in range(3))
    opt = optim.Adam([p, q, r], lr=0.1)
    q.requires_grad_(False)
    for _ in range(3):
        opt.zero_grad()
        (p * q).sum().backward()
        opt.step()
    assert q.tolist() == r.tolist() == [1] * 3 and list(opt.state) == [p]


# ---- refusals -------------------------------------------------------------------------------------------------------------------------
def parameter() -> list[nn.Parameter]:
    return [nn.Parameter(np.ones(1))]


@pytest.mark.parametrize(("make", "text"), [
    (lambda: optim.Adam(parameter(), lr=-1.0), "Invalid learning rate: -1.0"),
    (lambda: optim.Adam(parameter(), eps=-1.0), "Invalid epsilon value: -1.0"),
    (lambda: optim.Adam(parameter(), betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"),
    (lambda: optim.Adam(parameter(), betas=(0.9, -0.1)), "Invalid beta parameter at index 1: -0.1"),
    (lambda: optim.Adam(parameter(), weight_decay=-1.0), "Invalid weight_decay value: -1.0"),
    (lambda: optim.Adam(parameter(), eps_mode="keras"), "expected one of 'torch', 'hat'"),
    (lambda: optim.RMSprop(parameter(), alpha=-1.0), "Invalid alpha value: -1.0"),
    (lambda: optim.SGD(parameter(), nesterov=True), "Nesterov momentum requires a momentum and zero dampening"),
    (lambda: optim.SGD([{"params": parameter(), "momentum": -1.0}]), "Invalid momentum value: -1.0"),
    (lambda: optim.SGD([{"params": parameter(), "rate": 1.0}]), "no hyper-parameter 'rate'"),
])
def test_pytorchs_words_for_what_makes_no_sense(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_number_that_makes_no_sense_is_not_set() -> None:
    group = optim.Adam(parameter()).param_groups[0]
    for name, value in (("lr", -1.0), ("betas", (0.9, 1.0)), ("betas", (0.9,)), ("eps_mode", "keras")):
        before = dict(group)
        with pytest.raises(ValueError, match=r"Invalid|expected"):
            group[name] = value
        assert dict(group) == before
    with pytest.raises(KeyError, match="rate"):
        group["rate"] = 1.0


def test_nothing_is_set_or_added_inside_a_captured_step(training: Any) -> None:
    one = training(optim.Adam)
    for act in (lambda: one.opt.param_groups[0].update({"lr": 0.5}), lambda: one.opt.add_param_group({"params": parameter()}),
                lambda: one.opt.load_state_dict(one.opt.state_dict())):
        def step(x: Any, act: Any = act) -> Any:
            act()
            return x * 2.0

        with pytest.raises(CaptureError, match="inside a captured step"):
            mg.capture(step)(np.ones(3))
    assert one.opt.param_groups[0]["lr"] == 1e-3 and len(one.opt.param_groups) == 1


# ---- around a step --------------------------------------------------------------------------------------------------------------------
def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    p = nn.Parameter(np.ones(3))
    opt = optim.SGD([p], lr=0.5)

    def closure() -> Any:
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert opt.step(closure).item() == 3
    assert p.tolist() == [0] * 3


@pytest.mark.parametrize("how", ["eager", "captured"])
def test_gradients_may_be_set_to_zeros(how: str) -> None:
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    opt = optim.SGD([p, q], lr=0.5)

    def step(x: Any) -> Any:
        opt.zero_grad(set_to_none=False)
        loss = (p * x).sum()
        loss.backward()
        return loss

    run = mg.capture(step) if how == "captured" else step
    for i in range(5):
        run(np.full(3, float(i)))
        assert p.grad is not None and p.grad.tolist() == [i] * 3 and q.grad is None


@pytest.mark.parametrize("how", ["eager", "captured"])
def test_gradients_add_up_over_parts_of_a_batch(how: str, training: Any) -> None:
    whole, parts = training(optim.Adam), training(optim.Adam)

    def step(x: Any) -> Any:
        parts.opt.zero_grad()
        for k in range(3):
            loss = (parts.model(x[2 * k:2 * k + 2]) ** 2.0).mean() / 3.0
            loss.backward()
        parts.opt.step()
        return loss

    run = mg.capture(step) if how == "captured" else step
    for _ in range(6):
        whole.step(whole.batch())
        run(mg.tensor(parts.batch()))
    for p, q in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        np.testing.assert_allclose(q.array, p.array, rtol=1e-10)


def test_it_is_shown_as_pytorch_shows_it() -> None:
    text = repr(optim.SGD(parameter(), lr=0.25, momentum=0.5))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.25\n") and text.endswith("weight_decay: 0.0\n)")
