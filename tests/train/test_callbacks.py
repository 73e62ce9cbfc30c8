from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import NonFiniteError
from minigrad.train import Callback, CSVLogger, LambdaCallback, LearningRateScheduler, TerminateOnNaN, Trainer
from minigrad.train.callbacks import has_batch_hook

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
Y = X[:, :1] * 2


def trainer(lr: float = 0.05) -> Trainer:
    mg.manual_seed(1)
    model = nn.Linear(3, 1)
    return Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=lr))


def test_only_a_batch_hook_asks_for_single_steps() -> None:
    class Hooked(Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            """Asked for."""

    class Below(Hooked):
        pass

    assert not has_batch_hook(Callback()) and not has_batch_hook(TerminateOnNaN())
    assert has_batch_hook(Hooked()) and has_batch_hook(Below())
    assert has_batch_hook(LambdaCallback(on_train_batch_begin=print)) and not has_batch_hook(LambdaCallback(on_epoch_end=print))


def test_a_lambda_callback_knows_its_hooks() -> None:
    with pytest.raises(TypeError, match="LambdaCallback has no 'on_batch_end': it takes on_train_begin"):
        LambdaCallback(on_batch_end=print)


def test_the_csv_log_has_a_line_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    made = trainer()
    history = made.fit(X, Y, epochs=2, verbose=0, callbacks=[CSVLogger(path)])
    made.fit(X, Y, epochs=3, initial_epoch=2, verbose=0, callbacks=[CSVLogger(path, append=True)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"] and list(rows[0]) == ["epoch", "loss"]
    assert [float(row["loss"]) for row in rows[:2]] == history.history["loss"]
    made.fit(X, Y, verbose=0, callbacks=[CSVLogger(path, separator=";")])
    assert path.read_text().startswith("epoch;loss\n0;")


def test_the_csv_log_is_readable_after_each_epoch(tmp_path: Path) -> None:
    seen: list[int] = []
    path = tmp_path / "log.csv"
    counting = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(len(path.read_text().splitlines())))
    trainer().fit(X, Y, epochs=2, verbose=0, callbacks=[CSVLogger(path), counting])
    assert seen == [2, 3]


def test_a_step_that_is_refused_ends_the_training_quietly() -> None:
    made, guard = trainer(lr=0.5), TerminateOnNaN()
    history = made.fit(np.tile(10 * X, (20, 1)), np.tile(Y, (20, 1)), batch_size=4, epochs=50, verbose=0, callbacks=[guard])
    assert history.epoch == [] and isinstance(guard.error, NonFiniteError) and "step" in str(guard.error)
    assert all(np.isfinite(np.asarray(values)).all() for values in made.model.state_dict().values())


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("capture", [False, True])
def test_a_refused_step_is_placed_by_epoch_and_batch(hooked: bool, capture: bool, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.tile(X, (4, 1))
    x[4 * 7, 1] = np.nan
    made, guard = trainer(), TerminateOnNaN()
    made = Trainer(made.model, F.mse_loss, made.optimizer, capture=capture)
    others = [LambdaCallback(on_train_batch_end=lambda batch, logs: None)] if hooked else []
    clean = np.tile(X, (4, 1))
    made.fit(clean, np.tile(Y, (4, 1)), batch_size=4, epochs=2, verbose=0, shuffle=False)
    with pytest.raises(NonFiniteError) as caught:
        made.fit(x, np.tile(Y, (4, 1)), batch_size=4, epochs=3, initial_epoch=2, verbose=0, shuffle=False, callbacks=others)
    assert caught.value.__notes__ == ["It was epoch 2, batch 7 of fit, both counted from 0."]
    made.fit(x, np.tile(Y, (4, 1)), batch_size=4, epochs=1, verbose=2, shuffle=False, callbacks=[*others, guard])
    told = capsys.readouterr().out
    assert "TerminateOnNaN ended the training. It was epoch 0, batch 7" in told and "Look at the data" in told
    assert guard.error is not None and "batch 7" in guard.error.__notes__[0]


def test_a_figure_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    guard = TerminateOnNaN()
    poisoned = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(mine=float("nan") if epoch == 1 else 0.0))
    history = trainer().fit(X, Y, epochs=9, verbose=0, callbacks=[poisoned, guard])
    assert history.epoch == [0, 1] and str(guard.error) == "mine of epoch 1 is nan"
    assert trainer().fit(X, Y, epochs=2, verbose=0, callbacks=[guard]).epoch == [0, 1] and guard.error is None


@pytest.mark.parametrize("schedule", [lambda epoch: 0.5 ** (epoch + 1), lambda epoch, lr: 0.5 if epoch == 0 else lr / 2])
def test_the_learning_rate_follows_the_schedule(schedule: Any) -> None:
    made = trainer(lr=1.0)
    history = made.fit(X, Y, epochs=3, verbose=0, callbacks=[LearningRateScheduler(schedule)])
    assert history.history["learning_rate"] == [0.5, 0.25, 0.125] and made.optimizer.param_groups[0]["lr"] == 0.125
