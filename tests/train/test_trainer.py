from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import NonFiniteError, ShapeError
from minigrad.optim.lr_scheduler import ExponentialLR
from minigrad.train import Callback, LambdaCallback, Trainer

ROWS, FEATURES, CLASSES = 75, 6, 3


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three clouds that a small net can tell apart."""
    y = rng.integers(0, CLASSES, ROWS)
    centres = 3 * np.eye(CLASSES, FEATURES)
    return (centres[y] + rng.normal(0, 0.3, (ROWS, FEATURES))).astype(np.float32), y


def trainer(capture: bool = True, clip_norm: float | None = None, lr: float = 0.1, **options: Any) -> Trainer:
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    return Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=lr, momentum=0.9), clip_norm=clip_norm, capture=capture, **options)


def state(made: Trainer) -> bytes:
    return b"".join(np.asarray(values).tobytes() for values in made.model.state_dict().values())


def test_fit_learns_and_reports_in_keras_words(blobs: tuple[NDArray[np.float32], NDArray[np.int64]], capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer()
    history = made.fit(*blobs, batch_size=16, epochs=8, validation_data=blobs)
    assert history.epoch == list(range(8))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.history["loss"][-1] < 0.2 < history.history["loss"][0] and history.history["val_accuracy"][-1] == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[7].startswith("Epoch 8/8  loss 0.") and "val_accuracy 1.0000" in lines[7]
    assert made.evaluate(*blobs) == {"loss": history.history["val_loss"][-1], "accuracy": 1.0}
    assert np.array_equal(made.predict(blobs[0]).argmax(1), blobs[1])


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_captured_and_eager_training_are_equal_bit_for_bit(blobs: tuple[NDArray[np.float32], NDArray[np.int64]], clip_norm: float | None) -> None:
    runs = []
    for capture in (True, False):
        made = trainer(capture, clip_norm)
        history = made.fit(*blobs, batch_size=16, epochs=3, verbose=0, validation_data=blobs)
        runs.append((history.history, state(made), made.evaluate(*blobs, batch_size=10), made.predict(blobs[0], batch_size=10).tobytes()))
    assert runs[0] == runs[1]


def test_statistics_moments_and_random_numbers_are_those_of_eager_training(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    runs = []
    for capture in (True, False):
        mg.manual_seed(1)
        model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, CLASSES))
        made = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01), clip_norm=1.0, capture=capture)
        history = made.fit(*blobs, batch_size=16, epochs=4, verbose=0, validation_split=0.2)
        runs.append((history.history, state(made), made.predict(blobs[0]).tobytes()))
    assert runs[0] == runs[1]


def test_without_a_shuffle_the_first_batch_is_the_first_rows(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    x, y = blobs
    seen: list[NDArray[np.float32]] = []

    def first_rows(_: NDArray[np.int64], y_pred: NDArray[np.float32]) -> float:
        seen.append(y_pred)
        return 0.0

    made = trainer(lr=0.0)
    made.metrics["rows"] = first_rows
    made.fit(x, y, batch_size=50, epochs=1, shuffle=False, verbose=0)
    assert [len(part) for part in seen] == [50, 25]
    assert np.array_equal(np.concatenate(seen), made.predict(x))


def test_epoch_means_are_over_rows_not_over_batches(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer(lr=0.0)
    logs = {name: values[0] for name, values in made.fit(*blobs, batch_size=64, epochs=1, verbose=0).history.items()}
    assert logs == pytest.approx(made.evaluate(*blobs, batch_size=7))


def test_evaluation_leaves_mode_and_gradients_alone(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer()
    made.evaluate(*blobs)
    made.predict(blobs[0])
    assert made.model.training and mg.is_grad_enabled()
    assert all(parameter.grad is None for parameter in made.model.parameters())
    made.metrics["broken"] = lambda y_true, y_pred: 1 / 0
    with pytest.raises(ZeroDivisionError):
        made.evaluate(*blobs)
    assert made.model.training and mg.is_grad_enabled()


def test_callbacks_hear_of_everything_in_order(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    heard: list[object] = []

    class Listener(Callback):
        def on_train_begin(self) -> None:
            heard.append(("begin", self.model is self.trainer.model, self.trainer.reported))

        def on_train_end(self) -> None:
            heard.append("end")

        def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
            heard.append(("epoch", epoch, dict(logs)))

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            heard.append((epoch, set(logs)))

    trainer().fit(*blobs, epochs=2, verbose=0, callbacks=[Listener()])
    figures = {"loss", "accuracy"}
    assert heard == [("begin", True, ["loss", "accuracy"]), ("epoch", 0, {}), (0, figures), ("epoch", 1, {}), (1, figures), "end"]


def test_batch_hooks_change_nothing_but_who_is_told(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    heard: list[tuple[str, int, bool]] = []
    hooks = LambdaCallback(on_train_batch_begin=lambda batch, logs: heard.append(("begin", batch, "loss" in logs)),
                           on_train_batch_end=lambda batch, logs: heard.append(("end", batch, "loss" in logs)))
    runs = []
    for callbacks in ([], [hooks]):
        made = trainer()
        runs.append((made.fit(*blobs, batch_size=30, epochs=2, verbose=0, callbacks=callbacks).history, state(made)))
    assert runs[0] == runs[1]
    assert heard == [("begin", 0, False), ("end", 0, True), ("begin", 1, True), ("end", 1, True), ("begin", 2, True), ("end", 2, True)] * 2


def test_training_stops_behind_the_batch_or_the_epoch(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer()

    def stop(when: int, *_: object) -> None:
        made.stop_training = when == 1

    batches: list[int] = []
    history = made.fit(*blobs, batch_size=25, epochs=9, verbose=0, callbacks=[LambdaCallback(on_epoch_end=stop)])
    assert history.epoch == [0, 1] and made.history is history
    counted = LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch) or stop(batch))  # type: ignore[func-returns-value]
    assert made.fit(*blobs, batch_size=25, epochs=9, verbose=0, callbacks=[counted]).epoch == [0] and batches == [0, 1]


def test_weights_by_layer_name_are_a_callback_of_ten_lines(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    class WeightCapture(Callback):
        def __init__(self, *layers: str) -> None:
            self.kept: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}

        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            for layer, values in self.kept.items():
                values.append(getattr(self.model, layer).weight.detach().numpy().copy())

    model: Any = nn.Sequential(OrderedDict(hidden=nn.Linear(FEATURES, 8), act=nn.Tanh(), out=nn.Linear(8, CLASSES)))
    before, capture = model.hidden.weight.detach().numpy().copy(), WeightCapture("hidden", "out")
    Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1)).fit(*blobs, batch_size=25, epochs=2, verbose=0, callbacks=capture)
    hidden = [before, *capture.kept["hidden"]]
    assert len(hidden) == 7 and all(not np.array_equal(a, b) for a, b in pairwise(hidden))
    assert np.array_equal(capture.kept["out"][-1], model.out.weight.detach().numpy())


def test_a_thousand_rows_at_batch_32_end_in_a_batch_of_8() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, 1000)
    seen: list[int] = []

    class Shapes(nn.Module):
        def forward(self, x: Any) -> Any:
            seen.append(x.shape[0])
            return x

    class WeightCapture(Callback):
        def __init__(self) -> None:
            self.kept: list[NDArray[np.float32]] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            self.kept.append(self.model.out.weight.detach().numpy().copy())

    model: Any = nn.Sequential(OrderedDict(shapes=Shapes(), out=nn.Linear(FEATURES, CLASSES)))
    capture = WeightCapture()
    made = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1), capture=False)
    made.fit(x, y, batch_size=32, epochs=2, verbose=0, callbacks=capture)
    assert seen == [*[32] * 31, 8] * 2
    assert len(capture.kept) == 2 * 32 and all(not np.array_equal(a, b) for a, b in pairwise(capture.kept))


class Halving:
    """A scheduler of PyTorch's form."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.rates: list[float] = []

    def step(self) -> None:
        self.optimizer.param_groups[0]["lr"] /= 2
        self.rates.append(self.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(("interval", "steps"), [("epoch", 2), ("step", 6)])
def test_a_scheduler_steps_behind_each_epoch_or_step(interval: Any, steps: int, capture: bool,
                                                     blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    model = nn.Linear(FEATURES, CLASSES)
    opt = optim.SGD(model.parameters(), lr=0.1)
    made = Trainer(model, F.cross_entropy, opt, capture=capture, scheduler=Halving(opt), scheduler_interval=interval)
    made.fit(*blobs, batch_size=25, epochs=2, verbose=0)
    assert made.scheduler.rates == [0.1 / 2**i for i in range(1, steps + 1)]


@pytest.mark.parametrize(("interval", "power"), [("epoch", 2), ("step", 6)])
def test_our_own_schedules_run_inside_the_captured_step(interval: Any, power: int, blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    runs = []
    for capture in (True, False):
        mg.manual_seed(1)
        model = nn.Linear(FEATURES, CLASSES)
        opt = optim.SGD(model.parameters(), lr=0.1)
        made = Trainer(model, F.cross_entropy, opt, capture=capture, scheduler=ExponentialLR(opt, 0.5), scheduler_interval=interval)
        runs.append((made.fit(*blobs, batch_size=25, epochs=2, verbose=0).history, state(made)))
        assert opt.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**power)
    assert runs[0] == runs[1]


def test_a_scheduler_that_waits_for_a_plateau_is_told_the_validation_loss(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    class Plateau:
        def __init__(self) -> None:
            self.seen: list[float] = []

        def step(self, metrics: float) -> None:
            self.seen.append(metrics)

    plateau = Plateau()
    history = trainer(scheduler=plateau).fit(*blobs, epochs=3, verbose=0, validation_data=blobs)
    assert plateau.seen == history.history["val_loss"]
    with pytest.raises(ValueError, match="Plateau waits for an epoch's figures"):
        trainer(scheduler=plateau, scheduler_interval="step")


def test_a_refused_step_raises_and_leaves_the_model_and_the_history_so_far(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    x, y = blobs
    ended: list[bool] = []
    made = trainer()
    made.fit(x, y, epochs=1, verbose=0)
    broken, before = np.full_like(x, np.inf), state(made)
    with pytest.raises(NonFiniteError):
        made.fit(broken, y, epochs=2, verbose=0, callbacks=[LambdaCallback(on_train_end=lambda: ended.append(True))])
    assert state(made) == before and made.history.epoch == [] and ended == [True]


def test_the_mode_of_each_module_is_kept(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer()
    frozen = made.model[1]  # type: ignore[index]
    frozen.eval()
    made.evaluate(*blobs)
    assert made.model.training and not frozen.training


def recordings(made: Trainer) -> list[int]:
    """How often each program of the three captured steps was recorded."""
    steps = (made._train.step, made._judge.step, made._infer.step)
    return [replay.runs for step in steps for known in step._replays.values() for replay in known]  # type: ignore[attr-defined]


def test_validation_after_each_epoch_records_nothing_anew(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer()
    made.fit(*blobs, batch_size=25, epochs=3, verbose=0, validation_data=blobs)
    before = recordings(made)
    made.fit(*blobs, batch_size=25, epochs=5, verbose=0, validation_data=blobs)
    assert recordings(made) == before == [2] * len(before)


class Moody(nn.Module):
    """Computes something else in training than in evaluation, and follows an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(FEATURES, CLASSES), 1.0

    def forward(self, x: Any) -> Any:
        return self.linear(x) * (2 * self.scale if self.training else self.scale)


def test_programs_of_both_modes_follow_what_changes_in_either(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    runs = []
    for capture in (True, False):
        mg.manual_seed(1)
        model = Moody()
        made = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1), capture=capture)
        figures: list[Any] = []
        for scale in (1.0, 3.0, 1.0):
            model.scale = scale
            figures += [made.fit(*blobs, batch_size=25, epochs=4, verbose=0, validation_data=blobs).history, made.predict(blobs[0]).tobytes()]

        def disturb(y_true: Any, y_pred: Any, model: Moody = model) -> float:
            if not model.training:
                model.scale += 1.0
            return model.scale

        made.metrics["disturb"] = disturb
        for _ in range(3):
            figures += [made.fit(*blobs, batch_size=25, epochs=1, verbose=0, validation_data=blobs).history["val_loss"], made.evaluate(*blobs)]
        runs.append((figures, state(made)))
    assert runs[0] == runs[1]


def test_a_model_of_several_inputs_takes_a_tuple(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)

        def forward(self, a: Any, b: Any) -> Any:
            return self.left(a) + self.right(b)

    (x, y), model = blobs, Sum()
    made = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    losses = made.fit((x, x), y, epochs=5, verbose=0, validation_split=0.2).history["val_loss"]
    assert losses[-1] < losses[0] and made.predict((x, x)).shape == (ROWS, CLASSES)


def test_metrics_follow_from_the_loss() -> None:
    model = nn.Linear(2, 1)
    opt = optim.SGD(model.parameters(), lr=0.1)
    assert Trainer(model, F.mse_loss, opt).metrics == Trainer(model, nn.MSELoss(), opt).metrics == {}
    assert repr(Trainer(model, nn.CrossEntropyLoss(), opt)) == "Trainer(Linear, CrossEntropyLoss, SGD, metrics=['accuracy'])"
    logs = Trainer(model, F.mse_loss, opt, metrics=["mse", "mae"]).evaluate(np.zeros((3, 2), np.float32), np.ones((3, 1)))
    assert logs["loss"] == pytest.approx(logs["mse"]) and logs["mae"] ** 2 == pytest.approx(logs["mse"])


def test_nonsense_is_refused(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    x, y = blobs
    model = nn.Linear(2, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no metric 'f1': there is accuracy"):
        Trainer(model, F.cross_entropy, opt, metrics=["f1"])
    with pytest.raises(ValueError, match="scheduler_interval is 'batch'"):
        Trainer(model, F.cross_entropy, opt, scheduler_interval="batch")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scheduler is a int, expected something with a step method"):
        Trainer(model, F.cross_entropy, opt, scheduler=3)
    with pytest.raises(TypeError, match="is no Callback"):
        trainer().fit(x, y, callbacks=[Callback])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="verbose is 3"):
        trainer().fit(x, y, verbose=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="validation_data or validation_split, not both"):
        trainer().fit(x, y, validation_data=(x, y), validation_split=0.5)

    class Two(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x

    with pytest.raises(TypeError, match="the model returned a tuple, expected one Tensor"):
        Trainer(Two(), F.cross_entropy, opt).predict(x)


def test_a_wrong_number_of_features_names_the_layer_and_changes_nothing(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer()
    before = state(made)
    with pytest.raises(ShapeError, match="in 0: linear: expected 6 features, got 4"):
        made.fit(blobs[0][:, :4], blobs[1], verbose=0)
    assert state(made) == before


@pytest.mark.parametrize("captured", [False, True])
def test_steps_that_are_not_finite_are_skipped_if_asked(captured: bool) -> None:
    mg.manual_seed(0)
    model = nn.Linear(2, 1)
    opt = optim.SGD(model.parameters(), lr=0.01)
    trainer = Trainer(model, F.mse_loss, opt, capture=captured, nonfinite="skip")
    x, y = np.ones((12, 2), np.float32), np.zeros((12, 1), np.float32)
    x[5, 0] = np.nan
    trainer.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert opt.skipped == 2 and np.isfinite(model.weight.detach().numpy()).all()
    with pytest.raises(ValueError, match="expected one of 'raise', 'skip', 'ignore'"):
        Trainer(model, F.mse_loss, opt, nonfinite="drop")  # type: ignore[arg-type]
