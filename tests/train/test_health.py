"""Callbacks that record, and the History that keeps what they recorded."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import DataError
from minigrad.health.telemetry import Key, Telemetry
from minigrad.train import ActivationStats, Callback, GradientStats, History, Trainer, WeightDelta, WeightStats
from minigrad.train.callbacks import has_batch_hook
from minigrad.train.health import merged

X = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
Y = X[:, :1] * 2


def trainer() -> Trainer:
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.1))


def fitted(*callbacks: Callback, epochs: int = 2) -> History:
    return trainer().fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks))


def equal(one: Telemetry | None, other: Telemetry | None) -> bool:
    assert one is not None and other is not None
    return (np.array_equal(one.steps, other.steps) and list(one.figures) == list(other.figures)
            and all(np.array_equal(values, other.figures[key], equal_nan=True) for key, values in one.figures.items()))


@pytest.mark.parametrize(("callback", "kinds"), [(GradientStats, {"grad"}), (WeightStats, {"weight", "update"}),
                                                 (ActivationStats, {"signal", "flow"})])
def test_each_records_its_kinds_without_single_steps(callback: type[GradientStats], kinds: set[str]) -> None:
    recorder = callback(every=5)
    before = recorder.telemetry
    assert before is None and not has_batch_hook(recorder)
    history = fitted(recorder)
    found = recorder.telemetry
    assert found is not None and found.steps.tolist() == [0, 5, 10] and {key.kind for key in found.figures} == kinds
    assert equal(history.telemetry, found)


def test_what_is_recorded_is_what_backward_gave() -> None:
    made = trainer()
    F.mse_loss(made.model(X), mg.tensor(Y)).backward()
    gradient = made.model.get_parameter("0.weight").grad
    assert gradient is not None
    expected = gradient.numpy().astype(np.float64)
    made.optimizer.zero_grad()
    recorder = GradientStats()
    made.fit(X, Y, batch_size=24, epochs=3, verbose=0, shuffle=False, callbacks=recorder)
    assert recorder.telemetry is not None and recorder.telemetry.steps.tolist() == [0, 1, 2]
    grad = recorder.telemetry["0"].grad
    assert [grad.mean[0], grad.std[0], grad.l2[0]] == pytest.approx([expected.mean(), expected.std(), np.linalg.norm(expected)], rel=1e-5)


def test_several_share_one_recording_each_at_its_own_steps() -> None:
    gradients, weights, delta = GradientStats(4), WeightStats(6), WeightDelta(3)
    history = fitted(gradients, weights, delta)
    recorded = history.telemetry
    assert recorded is not None and recorded.steps.tolist() == list(range(12))
    assert {key.kind for key in recorded.figures} == {"grad", "weight", "update"} and not any(np.isnan(v).any() for v in recorded.figures.values())
    assert gradients.telemetry is not None and gradients.telemetry.steps.tolist() == [0, 4, 8]
    assert weights.telemetry is not None and weights.telemetry.steps.tolist() == [0, 6]
    assert delta.telemetry.steps.tolist() == [0, 3, 6, 9]
    assert np.array_equal(delta.telemetry["0"].update.mean_abs, recorded["0"].update.mean_abs[::3])


def test_weight_delta_is_the_mean_change_of_each_layer() -> None:
    kept: list[Any] = []

    class Keep(Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            kept.append([self.model.get_parameter(name).detach().numpy().copy() for name in ("0.weight", "2.weight")])

    delta = WeightDelta()
    history = fitted(Keep(), delta)
    names, values = delta.telemetry.matrix("update", "mean_abs")
    assert names == ["0.weight", "2.weight"] and values.shape == (2, 12)
    for step in range(1, 12):
        assert values[:, step] == pytest.approx([np.abs(a - b).mean(dtype=np.float64) for a, b in zip(kept[step], kept[step - 1], strict=True)])
    assert equal(history.telemetry, delta.telemetry)


def test_recording_changes_no_bit() -> None:
    plain = trainer()
    before = plain.fit(X, Y, batch_size=4, epochs=3, verbose=0)
    recorded = trainer()
    after = recorded.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[GradientStats(), WeightStats(2), ActivationStats(3)])
    assert before.history == after.history
    assert all(np.array_equal(a.detach().numpy(), b.detach().numpy())
               for a, b in zip(plain.model.parameters(), recorded.model.parameters(), strict=True))


def test_the_recording_ends_with_the_training() -> None:
    made, recorder = trainer(), GradientStats()

    class Fails(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        made.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[recorder, Fails()])
    assert recorder.telemetry is not None and len(recorder.telemetry) == 6 and equal(made.history.telemetry, recorder.telemetry)
    with mg.watch(made.model):  # which refuses a model that is watched already
        pass
    made.fit(X, Y, batch_size=4, verbose=0, callbacks=recorder)
    assert len(recorder.telemetry) == 6 and made.fit(X, Y, verbose=0).telemetry is None


def test_a_period_is_a_whole_number() -> None:
    for kind in (GradientStats, WeightDelta):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: every is 0, expected a whole number from 1 on"):
            kind(every=0)


@pytest.mark.parametrize("name", ["history.npz", "history.safetensors"])
def test_a_history_is_read_back_as_it_was(tmp_path: Path, name: str) -> None:
    if not name.endswith("npz"):
        pytest.importorskip("safetensors")
    for history in (fitted(ActivationStats(2), WeightStats(4)), fitted(), History()):
        history.save(tmp_path / name)
        found = History.load(tmp_path / name)
        assert found.history == history.history and found.epoch == history.epoch and repr(found) == repr(history)
        assert list(found.arrays()) == list(history.arrays())
        assert found.telemetry is None if history.telemetry is None else equal(found.telemetry, history.telemetry)


def test_arrays_of_a_history_have_its_telemetry() -> None:
    arrays = fitted(GradientStats(6)).arrays()
    assert arrays["telemetry/steps"].tolist() == [0, 6] and arrays["telemetry/0.weight/grad/std"].shape == (2,)
    assert not [name for name in fitted().arrays() if name.startswith("telemetry")]


def test_another_file_is_no_history(tmp_path: Path) -> None:
    mg.save({"epoch": np.arange(2)}, tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz holds no History"):
        History.load(tmp_path / "a.npz")


def test_recordings_of_different_steps_are_joined_with_gaps() -> None:
    one = Telemetry(np.array([0, 2]), {Key("a", "flow", "rms"): np.array([1.0, 2.0])})
    other = Telemetry(np.array([1, 2]), {Key("b", "flow", "rms"): np.array([3.0, 4.0])})
    both = merged([one, other])
    assert both.steps.tolist() == [0, 1, 2]
    assert np.array_equal(both["a"].flow.rms, [1, np.nan, 2], equal_nan=True) and np.array_equal(both["b"].flow.rms, [np.nan, 3, 4], equal_nan=True)
