"""An optimiser's state: where it is read, taken apart, and put into another so that a training goes on with the same bits."""
from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import StateError

MAKERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "dampened": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, centered=True, momentum=0.5),
    "adagrad": lambda parameters: optim.Adagrad(parameters, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "groups": lambda parameters: optim.AdamW([{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(parameters)]),
}
every = pytest.mark.parametrize("name", MAKERS)


@every
@pytest.mark.parametrize("how", ["eager", "captured"])
def test_a_training_goes_on_with_the_same_bits(name: str, how: str, training: Any) -> None:
    whole, first, second = (training(MAKERS[name], np.float32) for _ in range(3))
    steps = {id(t): mg.capture(t.step) if how == "captured" else t.step for t in (whole, first, second)}
    for seed in range(5):
        steps[id(whole)](whole.batch(seed))
        steps[id(first)](first.batch(seed))
    for _ in range(4):  # something to be overwritten, and a program that has to notice
        steps[id(second)](second.batch(9))
    kept = first.opt.state_dict()
    steps[id(first)](first.batch(9))  # what was taken are copies
    for p, q in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        with mg.no_grad():
            p.copy_(q)
    second.opt.load_state_dict(kept)
    for seed in range(5, 10):
        steps[id(whole)](whole.batch(seed))
        steps[id(second)](second.batch(seed))
        assert second.state() == whole.state()


@every
def test_the_structure_is_pytorchs(name: str, training: Any) -> None:
    torch = pytest.importorskip("torch")
    ours = training(MAKERS[name])
    ours.step(ours.batch())
    kept = ours.opt.state_dict()
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    kind = getattr(torch.optim, type(ours.opt).__name__)
    groups = kept["param_groups"]
    options = {key: value for key, value in groups[0].items() if key not in ("params", "eps_mode", "decoupled_weight_decay")}
    parameters = list(model.parameters())
    theirs = kind([{"params": [parameters[i] for i in group["params"]]} for group in groups], **options)
    (model(torch.ones(2, 3, dtype=torch.float64)) ** 2).mean().backward()
    theirs.step()
    expected = theirs.state_dict()
    assert kept.keys() == expected.keys() and kept["state"].keys() == expected["state"].keys()
    assert [group["params"] for group in groups] == [group["params"] for group in expected["param_groups"]]
    for index, state in expected["state"].items():
        assert {key for key, value in state.items() if value is not None} == kept["state"][index].keys() - ({"step"} - state.keys())
    ours.opt.load_state_dict({"state": expected["state"], "param_groups": expected["param_groups"]})
    for p, q in zip(ours.model.parameters(), parameters, strict=True):
        for key, value in ours.opt.state[p].items():
            np.testing.assert_array_equal(value.array, np.asarray(theirs.state[q].get(key, 1.0)))


def test_what_is_kept_is_read_by_parameter(training: Any) -> None:
    one = training(optim.Adam)
    assert one.opt.state == {} and one.opt.state_dict()["state"] == {}
    one.step(one.batch())
    p = one.model[0].weight
    state = one.opt.state[p]
    assert list(state) == ["step", "exp_avg", "exp_avg_sq"] and state["exp_avg"].shape == p.shape and state["step"].item() == 1
    np.testing.assert_allclose(state["exp_avg"].array, 0.1 * p.grad.array, rtol=1e-14)
    one.step(one.batch())
    assert state["step"].item() == 2  # the Tensors are the memory itself


def test_a_state_without_moments_takes_them_away(training: Any) -> None:
    fresh, used = training(optim.Adam), training(optim.Adam)
    kept = fresh.opt.state_dict()
    for _ in range(3):
        used.step(used.batch())
    used.opt.load_state_dict(kept)
    assert used.opt.state == {}
    for p, q in zip(fresh.model.parameters(), used.model.parameters(), strict=True):
        with mg.no_grad():
            q.copy_(p)
    for one in (fresh, used):
        one.step(one.batch())
    assert used.state() == fresh.state()


def test_switching_dampening_on_does_not_make_a_first_step(training: Any) -> None:
    torch = pytest.importorskip("torch")
    p, q = nn.Parameter(np.zeros(3)), torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    ours, theirs = optim.SGD([p], lr=0.1, momentum=0.5), torch.optim.SGD([q], lr=0.1, momentum=0.5)
    for i in range(6):
        ours.param_groups[0]["dampening"] = theirs.param_groups[0]["dampening"] = 0.5 * (i > 2)
        p.grad, q.grad = mg.tensor(np.full(3, i + 1.0)), torch.full((3,), i + 1.0, dtype=torch.float64)
        ours.step()
        theirs.step()
    np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-13)


def broken(change: Any) -> Any:
    """A state with one thing wrong."""
    def apply(kept: dict[str, Any]) -> Any:
        kept = copy.deepcopy(kept)
        found = change(kept)
        return found if isinstance(found, list | dict) else kept

    return apply


@pytest.mark.parametrize(("change", "error", "text"), [
    (lambda kept: [1], StateError, "expected a dict with 'state' and 'param_groups', got a list"),
    (lambda kept: {"state": {}}, StateError, "got one with 'state'"),
    (lambda kept: kept["param_groups"].append({}), StateError, "different number of parameter groups: 2"),
    (lambda kept: kept["param_groups"][0]["params"].pop(), StateError, "doesn't match the size of optimizer's group: 3 parameters for 4"),
    (lambda kept: kept["param_groups"][0].update(rate=1), StateError, "has 'rate', which this optimizer does not"),
    (lambda kept: kept["param_groups"][0].update(lr=-1.0), ValueError, "Invalid learning rate"),
    (lambda kept: kept["param_groups"][0].update(betas=(0.9,)), ValueError, "expected 2 numbers"),
    (lambda kept: kept["state"][2].update(exp_avg=np.zeros((2, 2))), StateError, r"parameter 2: exp_avg has shape \(2, 2\), the parameter \(1, 5\)"),
    (lambda kept: kept["state"][2].update(velocity=np.zeros((1, 5))), StateError, "has 'velocity', which Adam does not keep"),
    (lambda kept: kept["state"][2].update(step=9), StateError, "a group has one count"),
    (lambda kept: [state.pop("step") for state in kept["state"].values()] and None, StateError, "has no 'step'"),
])
def test_what_does_not_fit_is_refused_before_anything_changes(change: Any, error: type[Exception], text: str, training: Any) -> None:
    one = training(optim.Adam)
    for _ in range(2):
        one.step(one.batch())
    other = training(lambda parameters: optim.Adam(parameters, lr=0.5))
    other.step(other.batch(3))
    before = one.state()
    with pytest.raises(error, match=text):
        one.opt.load_state_dict(broken(change)(other.opt.state_dict()))
    assert one.state() == before


@pytest.mark.parametrize("between", [False, True])
def test_moments_follow_a_module_into_another_dtype(between: bool) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))

    def trained(change: bool) -> tuple[Any, Any]:
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        opt = optim.Adam(model.parameters(), lr=0.1)
        for step in range(6):
            if change and step == 3:
                model.float()
                if between:
                    state = opt.state_dict()["state"]
                    assert len(state) == 4 and all(kept["exp_avg"].dtype == np.float32 and kept["exp_avg"].any() for kept in state.values())
                model.double()
            opt.zero_grad()
            (model(x) ** 2).mean().backward()
            opt.step()
        return model, opt

    (plain, its), (changed, others) = trained(False), trained(True)
    for p, q in zip(plain.parameters(), changed.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(its.state[p]["exp_avg_sq"].numpy(), others.state[q]["exp_avg_sq"].numpy(), rtol=1e-4, atol=1e-9)


def test_moments_follow_into_a_captured_step() -> None:
    model = nn.Linear(3, 1)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(x: Any) -> Any:
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss

    step, x = mg.capture(train), np.random.default_rng(0).normal(size=(8, 3))
    for _ in range(4):
        step(x)
    before = {name: value.copy() for name, value in opt.state_dict()["state"][0].items()}
    model.double()
    assert np.array_equal(opt.state[model.weight]["momentum_buffer"].numpy(), before["momentum_buffer"])
    twin, its = copy.deepcopy((model, opt))
    for _ in range(4):
        step(x)
        its.zero_grad()
        (twin(x) ** 2).mean().backward()
        its.step()
    assert mg.equal(model.weight, twin.weight) and mg.equal(model.bias, twin.bias)
