from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.train import Callback, History, Trainer

ROWS, FEATURES, CLASSES = 75, 6, 3


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three clouds that a small net can tell apart."""
    y = rng.integers(0, CLASSES, ROWS)
    centres = 3 * np.eye(CLASSES, FEATURES)
    return (centres[y] + rng.normal(0, 0.3, (ROWS, FEATURES))).astype(np.float32), y


def trainer(capture: bool = True, clip_norm: float | None = None, lr: float = 0.1) -> Trainer:
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    return Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=lr, momentum=0.9), clip_norm=clip_norm, capture=capture)


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
        history = made.fit(*blobs, batch_size=16, epochs=3, verbose=False)
        runs.append((history.history, [parameter.detach().numpy().tobytes() for parameter in made.model.parameters()]))
    assert runs[0] == runs[1]


def test_without_a_shuffle_the_first_batch_is_the_first_rows(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    x, y = blobs
    seen: list[NDArray[np.float32]] = []

    def first_rows(_: NDArray[np.int64], y_pred: NDArray[np.float32]) -> float:
        seen.append(y_pred)
        return 0.0

    made = trainer(lr=0.0)
    made.metrics["rows"] = first_rows
    made.fit(x, y, batch_size=50, epochs=1, shuffle=False, verbose=False)
    assert [len(part) for part in seen] == [50, 25]
    assert np.array_equal(np.concatenate(seen), made.predict(x))


def test_epoch_means_are_over_rows_not_over_batches(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    made = trainer(lr=0.0)
    logs = {name: values[0] for name, values in made.fit(*blobs, batch_size=64, epochs=1, verbose=False).history.items()}
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


def test_callbacks_hear_of_every_epoch(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    heard: list[object] = []

    class Listener(Callback):
        def on_train_begin(self) -> None:
            heard.append("begin")

        def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
            heard.append((epoch, set(logs)))

    trainer().fit(*blobs, epochs=2, verbose=False, callbacks=[Listener()])
    assert heard == ["begin", (0, {"loss", "accuracy"}), (1, {"loss", "accuracy"})]


def test_nonsense_is_refused(blobs: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    x, y = blobs
    with pytest.raises(ValueError, match="x has 75 rows and y has 74"):
        trainer().fit(x, y[:-1])
    with pytest.raises(ValueError, match="no metric 'f1': there is accuracy"):
        Trainer(nn.Linear(2, 2), F.cross_entropy, optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), metrics=["f1"])


def test_history_shows_where_it_came_from_and_to() -> None:
    history = History()
    assert repr(history) == "History(no epochs)"
    for epoch, loss in enumerate([2.0, 0.25]):
        history.on_epoch_end(epoch, {"loss": loss})
    assert repr(history) == "History(2 epochs: loss 2 -> 0.25)"
