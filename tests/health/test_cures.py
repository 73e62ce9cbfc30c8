from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.health import cures, trial
from minigrad.health.cures import CURES
from minigrad.health.findings import MEANINGS
from tests.health.faults import dense

X = np.random.default_rng(1).standard_normal((48, 20)).astype(np.float32)
Y = (X @ np.random.default_rng(2).standard_normal((20, 5))).argmax(axis=1)


def net(activation: Any = nn.Sigmoid, depth: int = 4, gain: float = 1.0, **options: Any) -> nn.Sequential:
    return dense(np.random.default_rng(0), [20, *[16] * (depth - 1), 5], activation, gain, **options)


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()]


def changed(name: str, model: nn.Module) -> int:
    change = CURES[name].change
    assert change is not None
    return change(model)


@pytest.mark.parametrize(("name", "places", "holds"), [
    ("Glorot init", 4, {"Linear": 4, "Sigmoid": 3}), ("He init", 4, {"Linear": 4, "Sigmoid": 3}), ("ReLU, He init", 7, {"ReLU": 3, "Sigmoid": 0}),
    ("leaky ReLU, He init", 7, {"LeakyReLU": 3}), ("tanh, Glorot init", 7, {"Tanh": 3}), ("LayerNorm before activations", 3, {"LayerNorm": 3}),
    ("BatchNorm before activations", 3, {"BatchNorm1d": 3}), ("residual, branches scaled by 1/sqrt(blocks)", 2, {"Residual": 2}),
    ("residual and ReLU, He init, branches scaled", 9, {"Residual": 2, "ReLU": 3}), ("branches scaled by 1/sqrt(blocks)", 0, {"Residual": 0}),
])
def test_a_cure_changes_what_its_name_says(name: str, places: int, holds: dict[str, int]) -> None:
    model = net()
    assert changed(name, model) == places
    assert {kind: kinds(model).count(kind) for kind in holds} == holds
    assert F.cross_entropy(model(X), mg.tensor(Y)).isfinite().item()


def test_a_flat_chain_is_cut_into_blocks_too() -> None:
    model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(),
                          nn.Linear(16, 5))
    assert changed("residual, branches scaled by 1/sqrt(blocks)", model) == 2
    assert [type(module).__name__ for module in model] == ["Linear", "Tanh", "Residual", "Residual", "Linear"]
    assert kinds(model[2]) == ["Residual", "Sequential", "Linear", "LayerNorm", "Tanh"]
    assert all(module.scale == pytest.approx(2**-0.5) for module in model if isinstance(module, nn.Residual))


def test_shortcuts_that_are_there_are_scaled_and_not_doubled() -> None:
    model = net(nn.ReLU, residual=1.0)
    assert changed("residual, branches scaled by 1/sqrt(blocks)", model) == 0 and kinds(model).count("Residual") == 2
    assert changed("branches scaled by 1/sqrt(blocks)", model) == 2
    assert all(module.scale == pytest.approx(2**-0.5) for module in model if isinstance(module, nn.Residual))


def test_initial_values_have_the_variance_of_their_rule() -> None:
    for name, factor in (("Glorot init", 2 / 512), ("He init", 2 / 256)):
        model = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
        changed(name, model)
        assert model[0].weight.detach().numpy().var() == pytest.approx(factor, rel=0.03) and not model[0].bias.detach().numpy().any()


def test_tries_change_nothing_and_come_out_the_same_again() -> None:
    model, opt = net(), None
    state = {name: values.numpy().copy() for name, values in model.state_dict().items()}
    mg.manual_seed(4)
    expected = mg.randn(3).numpy()
    mg.manual_seed(4)
    first, second = (cures.tried(["vanished"], model, X, Y, F.cross_entropy, opt) for _ in range(2))
    assert first == second and first is not None
    assert np.array_equal(mg.randn(3).numpy(), expected)
    assert all(np.array_equal(state[name], values.numpy()) for name, values in model.state_dict().items())
    losses = [one.loss for one in first.trials]
    assert losses == sorted(losses) and first.best == first.trials[0] and first.best.loss < first.before.loss
    assert {one.cure for one in first.trials} == set(cures.AGAINST["vanished"]) and first.impossible == []


def test_residual_blocks_that_explode_are_cured_by_scaling_not_by_clipping() -> None:
    """Experiment 005: clipping keeps a step finite, it does not make an exploding net learn."""
    model = dense(np.random.default_rng(0), [20, *[32] * 23, 5], nn.ReLU, 2.0, residual=1.0)
    found = cures.tried(["exploded"], model, X, Y, F.cross_entropy, optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    assert found is not None and found.optimizer == "SGD(lr=0.01, momentum=0.9)"
    by_name = {one.cure: one for one in found.trials}
    scaled, clipped = by_name["branches scaled by 1/sqrt(blocks)"], by_name["gradient clipped to norm 1"]
    assert scaled.loss < 2 and not clipped.loss < 10 and not found.before.loss < 10
    assert scaled.decades < 1 < 3 < found.before.decades


def test_a_net_without_places_for_a_change_says_so() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            return self.b(mg.sigmoid(self.a(x)))

    found = cures.tried(["vanished"], Own(), X, Y, F.cross_entropy, None)
    assert found is not None
    assert [one.cure for one in found.trials] == ["Glorot init"] and len(found.impossible) == len(cures.AGAINST["vanished"]) - 1


def test_the_input_is_standardised_by_feature() -> None:
    wide = (X * 10.0**np.linspace(-2, 3, 20) + 7).astype(np.float32)
    wide[:, 3] = 5.0  # one that says nothing stays without effect
    found = cures.tried(["unnormalised input"], net(nn.Tanh), wide, Y, F.cross_entropy, None)
    assert found is not None and "input standardised" in [one.cure for one in found.trials]
    values = cures._standardised(wide).numpy().astype(np.float64)
    assert np.allclose(values.mean(axis=0), 0, atol=1e-4) and np.allclose(np.delete(values.std(axis=0), 3), 1, atol=1e-3)
    assert not values[:, 3].any() and cures._standardised(np.arange(3)) is None


def test_smaller_rates_are_tried_with_the_users_optimizer() -> None:
    model = net(nn.ReLU, gain=2.0)
    found = cures.tried(["learning rate too large"], model, X, Y, F.cross_entropy, optim.Adam(model.parameters(), lr=3.0, betas=(0.5, 0.9)))
    assert found is not None and found.best is not None and found.best.cure.startswith("learning rate /")
    made = trial.optimizer_like(optim.Adam(model.parameters(), lr=3.0, betas=(0.5, 0.9)), model, 0.1)
    assert made.param_groups[0]["lr"] == pytest.approx(0.3) and tuple(made.param_groups[0]["betas"]) == (0.5, 0.9)


def test_an_optimizer_is_named_with_what_is_set_and_made_again() -> None:
    model = net()
    for given, shown in ((optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True), "SGD(lr=0.1, momentum=0.9, nesterov=True)"),
                         (optim.Adam(model.parameters(), betas=(0.5, 0.9)), "Adam(lr=0.001, betas=(0.5, 0.9))"),
                         (optim.AdamW(model.parameters(), lr=0.01), "AdamW(lr=0.01)"), (optim.RMSprop(model.parameters()), "RMSprop(lr=0.01)")):
        assert trial.described(given) == trial.described(trial.optimizer_like(given, model)) == shown


def test_what_no_training_cures_is_not_tried() -> None:
    assert cures.tried(["wrong gradient"], net(), X, Y, F.cross_entropy, None) is None
    assert set(cures.AGAINST) <= set(MEANINGS) and {name for names in cures.AGAINST.values() for name in names} == set(CURES)


def test_a_step_that_is_refused_leaves_nan_behind_it() -> None:
    model = net(nn.ReLU, gain=2.0)
    losses = trial.trained(model, optim.SGD(model.parameters(), lr=1e30), X, Y, F.cross_entropy, 6)
    assert np.isfinite(losses[0]) and np.isnan(losses[-1])


def test_a_step_that_cannot_be_captured_is_taken_eagerly() -> None:
    model = net(nn.Tanh)

    def loss(out: Any, target: Any) -> Any:
        value = F.cross_entropy(out, target)
        return value if value.item() > -1 else value * 2

    losses = trial.trained(model, optim.SGD(model.parameters(), lr=0.1), X, Y, loss, 10)
    assert losses[-1] < losses[0]


def test_a_cure_has_to_lower_the_loss_that_there_is_now() -> None:
    def trial(loss: float, start: float = 1.0) -> cures.Trial:
        return cures.Trial("clip", start, loss, 0.0, 0.0, 10)

    for before, reached, helps in ((math.nan, 400.0, False), (1e6, 400.0, False), (math.nan, 0.5, True), (0.9, 0.5, True), (0.4, 0.5, False)):
        assert (cures.Tried(trial(before), [trial(reached)], [], 8, "SGD").best is not None) == helps
