from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.io import load
from minigrad.train import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint, ReduceLROnPlateau, Trainer

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
Y = X[:, :1] * 2


def run(figures: Sequence[float], callbacks: list[Callback], name: str = "figure") -> Trainer:
    """A training whose epochs report these figures."""
    model = nn.Linear(3, 1)
    made = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.05))
    reporting = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({name: figures[epoch]}))
    made.fit(X, Y, epochs=len(figures), verbose=0, callbacks=[reporting, *callbacks])
    return made


@pytest.mark.parametrize(("figures", "options", "stopped", "best"), [
    ([3, 2, 1, 0], {}, None, 3),
    ([3, 2, 2, 0], {}, 2, 1),
    ([3, 2, 2, 1, 1, 1, 0], {"patience": 2}, 5, 3),
    ([3, 2.9, 2.8, 0], {"min_delta": 0.5}, 1, 0),
    ([1, 2, 1, 5], {"mode": "max"}, 2, 1),
    ([1, float("nan"), 0], {}, 1, 0),
    ([float("nan")] * 3, {"patience": 2}, 1, None),
])
def test_training_ends_when_nothing_improves(figures: list[float], options: dict[str, Any], stopped: int | None, best: int | None) -> None:
    stopper = EarlyStopping("figure", **options)
    made = run(figures, [stopper])
    assert (stopper.stopped_epoch, stopper.best_epoch) == (stopped, best)
    assert made.history.epoch == list(range(len(figures) if stopped is None else stopped + 1))


def test_names_of_shares_grow() -> None:
    assert [EarlyStopping(name).higher for name in ("val_accuracy", "top_5", "val_loss", "mse")] == [True, True, False, False]
    assert not EarlyStopping("val_accuracy", mode="min").higher
    with pytest.raises(ValueError, match="mode is 'up', expected one of auto, min, max"):
        EarlyStopping(mode="up")


@pytest.mark.parametrize("figures", [[3, 1, 2, 2, 2], [3, 1, 2]])
def test_the_best_weights_come_back(figures: list[float]) -> None:
    states: list[dict[str, Any]] = []

    class Keep(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            states.append({name: np.array(values) for name, values in self.model.state_dict().items()})

    made = run(figures, [EarlyStopping("figure", patience=3, restore_best_weights=True), Keep()])
    assert all(np.array_equal(values, states[1][name]) for name, values in made.model.state_dict().items())
    assert not np.array_equal(states[1]["weight"], states[2]["weight"])


def test_a_figure_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="EarlyStopping monitors 'val_loss': give fit validation_data, or monitor 'loss'"):
        run([1, 2], [EarlyStopping()])
    with pytest.raises(ValueError, match="monitors 'lost', which is not reported: there is loss, figure"):
        run([1, 2], [EarlyStopping("lost")])


def test_checkpoints_have_epoch_and_figures_in_their_name(tmp_path: Path) -> None:
    made = run([0.5, 0.25], [ModelCheckpoint(tmp_path / "sub" / "net-{epoch:02d}-{figure:.2f}.npz")])
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["net-01-0.50.npz", "net-02-0.25.npz"]
    other = nn.Linear(3, 1)
    other.load_state_dict(load(tmp_path / "sub" / "net-02-0.25.npz"))
    assert np.array_equal(other(X).detach().numpy(), made.predict(X))


def test_only_the_best_is_kept(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}.npz", monitor="figure", save_best_only=True)
    run([3, 1, 2, 0.5], [checkpoint])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz", "4.npz"] and checkpoint.last == tmp_path / "4.npz"


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a field 'val_loss', which is not reported: there is epoch, loss, figure"):
        run([1], [ModelCheckpoint(tmp_path / "{val_loss}.npz")])
    assert list(tmp_path.iterdir()) == []


def test_the_format_follows_from_the_name_and_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    made = run([1], [ModelCheckpoint(tmp_path / "net.safetensors")])
    loaded = load(tmp_path / "net.safetensors")
    assert all(np.array_equal(loaded[name], values) for name, values in made.model.state_dict().items())
    monkeypatch.setattr("minigrad.train.monitors.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="needs no package"):
        run([1], [ModelCheckpoint(tmp_path / "other")])
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_rate_falls_on_a_plateau_and_rests_and_has_a_floor() -> None:
    made = run([1] * 8, [ReduceLROnPlateau("figure", factor=0.1, patience=2, min_lr=1e-3)])
    assert made.history["learning_rate"] == pytest.approx([0.05, 0.05, 0.05, 0.005, 0.005, 0.001, 0.001, 0.001])
    made = run([1] * 8, [ReduceLROnPlateau("figure", factor=0.5, patience=1, cooldown=2)])
    assert made.history["learning_rate"] == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.025, 0.0125, 0.0125, 0.0125])
    with pytest.raises(ValueError, match="factor is 2, expected a number between 0 and 1"):
        ReduceLROnPlateau(factor=2)
