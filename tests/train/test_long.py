"""The deep sigmoid net on real digits: a plateau that training has to get through, 12,300 steps with a momentum of 0.99."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.bench.workloads import select
from minigrad.data import load_mnist
from minigrad.train import Trainer

STEPS, BATCH, LR, MOMENTUM = 12_300, 100, 0.01, 0.99


@pytest.mark.exhaustive
def test_the_sigmoid_net_leaves_its_plateau_and_learns_the_digits(mnist: Path, rng: np.random.Generator) -> None:
    (work,) = select(["mnist-mlp"])
    data = load_mnist(mnist, train=9000)
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(work.widths, work.widths[1:], strict=False):
        linear = nn.Linear(fan_in, fan_out)
        with mg.no_grad():
            linear.weight.copy_(rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in + fan_out))
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.Sigmoid()]
    model = nn.Sequential(*layers[:-1])
    trainer = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM))
    epochs = -(-STEPS // (len(data.x_train) // BATCH))
    history = trainer.fit(data.x_train, data.y_train, BATCH, epochs, verbose=0)
    assert abs(history["loss"][5] - np.log(10)) < 0.05, "the first epochs are a plateau at log 10"
    error = 1 - trainer.evaluate(data.x_test, data.y_test)["accuracy"]
    print(f"test error {error:.4f} after {epochs} epochs, {history!r}")
    assert error <= 0.07
