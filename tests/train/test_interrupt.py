from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.train import LambdaCallback, Trainer
from minigrad.train.interrupt import Interrupt

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
Y = X[:, :1] * 2


def trainer(capture: bool = True, **options: Any) -> Trainer:
    mg.manual_seed(1)
    model = nn.Linear(3, 1)
    return Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.05), capture=capture, **options)


@pytest.mark.parametrize("capture", [True, False])
def test_training_ends_behind_a_step_and_keeps_what_was_done(capture: bool) -> None:
    batches: list[int] = []
    ended: list[bool] = []

    def press(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
        batches.append(len(y_true))
        if len(batches) == 14:  # in the second epoch of ten steps
            signal.raise_signal(signal.SIGINT)
        return 0.0

    made = trainer(capture, metrics=[press])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, Y, batch_size=4, epochs=5, verbose=0, callbacks=[LambdaCallback(on_train_end=lambda: ended.append(True))])
    assert signal.getsignal(signal.SIGINT) is before
    assert made.history.epoch == [0] and ended == [True]
    assert 14 <= len(batches) <= 20 and (capture or len(batches) == 14)
    reference = trainer()
    done = 0

    def count(batch: int, logs: dict[str, float]) -> None:
        nonlocal done
        done += 1
        reference.stop_training = done == len(batches)

    reference.fit(X, Y, batch_size=4, epochs=5, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=count)])
    assert all(np.array_equal(a, b) for a, b in zip(made.model.state_dict().values(), reference.model.state_dict().values(), strict=True))
    assert len(made.fit(X, Y, batch_size=4, epochs=2, verbose=0)) == 2


def test_only_the_first_press_is_kept_and_it_is_raised_at_the_end() -> None:
    reached: list[str] = []

    def press_twice() -> None:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            reached.append("behind the first")
            assert interrupt.heard
            signal.raise_signal(signal.SIGINT)
            reached.append("behind the second")

    def press_once() -> None:
        with Interrupt():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    for press in (press_twice, press_once):
        with pytest.raises(KeyboardInterrupt):
            press()
    assert reached == ["behind the first", "the end"]


def test_evaluation_and_prediction_can_be_ended_too() -> None:
    made = trainer(metrics=[lambda y_true, y_pred: signal.raise_signal(signal.SIGINT) or 0.0])  # type: ignore[func-returns-value]
    with pytest.raises(KeyboardInterrupt):
        made.evaluate(X, Y)
    assert made.model.training


def test_someone_elses_handler_and_other_threads_are_left_alone() -> None:
    def mine(*_: object) -> None:
        """Of the embedding program."""

    before = signal.signal(signal.SIGINT, mine)
    try:
        with Interrupt():
            assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    lengths: list[int] = []
    thread = threading.Thread(target=lambda: lengths.append(len(trainer().fit(X, Y, epochs=2, verbose=0))))
    thread.start()
    thread.join()
    assert lengths == [2]
