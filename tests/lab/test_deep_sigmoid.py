from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.data import Split
from minigrad.lab import deep_sigmoid
from minigrad.lab.deep_sigmoid import BATCH, HIDDEN, LR, MOMENTUM, Training, mlp, train, training_figure
from minigrad.lab.experiment import Lab, Picture
from minigrad.lab.nets import weights


def made_up(rng: np.random.Generator, rows: int = 300, features: int = 12) -> Split:
    x, y = rng.random((rows + 50, features), np.float32), rng.integers(0, 10, rows + 50)
    return Split(x[:rows], y[:rows], x[rows:], y[rows:])


def test_the_net_is_the_source_s(rng: np.random.Generator) -> None:
    model = mlp([784, *HIDDEN, 10], nn.Sigmoid, rng)
    assert sum(p.numel() for p in model.parameters()) == 1_916_260
    assert [type(module).__name__ for module in model] == ["Linear", "Sigmoid"] * 3 + ["Linear"]
    stds = [float(weight.detach().numpy().std()) for weight in weights(model)]
    assert stds == pytest.approx([0.02368, 0.02390, 0.02828, 0.04428], rel=0.02)
    assert all(not module.bias.detach().numpy().any() for module in model if isinstance(module, nn.Linear))


def by_hand(data: Split, hidden: list[int], steps: int, seed: int) -> tuple[list[float], list[list[float]]]:
    """Costs and mean |W_t - W_t-1| by the source's rule, v = mu v - lr g, p = p + v, with gradients by backward."""
    rng = np.random.default_rng(seed)
    model = mlp([data.x_train.shape[1], *hidden, 10], nn.Sigmoid, rng)
    velocity = {p: np.zeros(p.shape) for p in model.parameters()}
    costs: list[float] = []
    moved: list[list[float]] = []
    while len(costs) < steps:
        order = np.arange(len(data.x_train))
        rng.shuffle(order)
        for rows in order.reshape(-1, BATCH):
            model.zero_grad()
            cost = F.cross_entropy(model(data.x_train[rows]), data.y_train[rows])
            cost.backward()
            before = [weight.detach().numpy().copy() for weight in weights(model)]
            for p, v in velocity.items():
                v[:] = MOMENTUM * v - LR * np.asarray(p.grad)
                with mg.no_grad():
                    p += mg.tensor(v.astype(np.float32))
            costs.append(cost.item())
            moved.append([float(np.abs(weight.detach().numpy() - old).mean()) for weight, old in zip(weights(model), before, strict=True)])
    return costs[:steps], np.array(moved[:steps]).T.tolist()


def test_training_follows_the_source_s_rule_and_tells_how_far_weights_moved(rng: np.random.Generator) -> None:
    data = made_up(rng)
    trained = train(data, [8, 7, 6], steps=7, seed=3)
    costs, moved = by_hand(data, [8, 7, 6], steps=7, seed=3)
    assert trained.cost == pytest.approx(costs, rel=1e-5)
    assert trained.moved.shape == (4, 7) and trained.moved == pytest.approx(np.array(moved), rel=2e-2, abs=1e-8)
    assert trained.error.shape == (7,) and trained.steps_per_epoch == 3 and 0 <= trained.test_error <= 1


def test_looking_at_the_weights_adds_one_pass_for_each_layer(rng: np.random.Generator) -> None:
    data = made_up(rng)
    model = mlp([12, 8, 7, 6, 10], nn.Sigmoid, rng)
    opt = optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    F.cross_entropy(model(data.x_train[:BATCH]), data.y_train[:BATCH]).backward()
    opt.step()
    step = mg.capture(deep_sigmoid.training_step(model, opt))
    step.repeat(3, data.x_train[:BATCH], data.y_train[:BATCH])
    ops = [line.split()[1] for line in str(step.explain()).splitlines() if line.strip()[:1].isdigit()]
    assert ops.count("vector_norm") == 4 and ops.count("linear") == 4 and "abs" not in ops and "sgd_momentum_" in ops


def test_what_is_told_has_the_source_s_form(rng: np.random.Generator) -> None:
    lines: list[str] = []
    train(made_up(rng, rows=10_200), [4], steps=103, tell=lines.append)
    assert [line.split(" cost: ")[0] for line in lines] == ["j / n_batches: 0 / 102", "j / n_batches: 100 / 102", "j / n_batches: 0 / 102"]
    assert all(" error: " in line for line in lines)


def test_the_step_at_which_the_cost_falls() -> None:
    cost = np.r_[np.full(50, 2.3), np.full(50, 0.5)]
    trained = Training(cost, cost, np.ones((4, 100)), 0.0, 40)
    assert 40 < trained.under(1.0) < 55 and trained.under(0.1) == np.inf
    assert trained.epochs() == pytest.approx([2.3, 0.5, 0.5])


@pytest.mark.parametrize(("plateau", "error", "failing"), [
    (2.31, 0.9, set()), (5.0, 0.9, {"largest median cost of an epoch on it"}), (2.31, 0.5, {"median batch error on it"}),
])
def test_a_plateau_has_a_cost_and_an_error(plateau: float, error: float, failing: set[str]) -> None:
    def course(before: float, after: float) -> Any:
        return np.repeat([before, after], [60, 60])

    lab = Lab(argparse.Namespace())
    deep_sigmoid.check(lab, Training(course(plateau, 0.1), course(error, 0.05), np.ones((4, 120)), 0.0, 4), deep_sigmoid.PUBLISHED_ROWS)
    assert {check.what for check in lab.checks if not check.passed} == failing and len(lab.checks) == 5


def test_kaggle_s_file_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    table = np.c_[rng.integers(0, 10, 1010), rng.integers(0, 256, (1010, 3))]
    np.savetxt(tmp_path / "train.csv", table, fmt="%d", delimiter=",", header="label,pixel0,pixel1,pixel2", comments="")
    data, name = deep_sigmoid.digits(argparse.Namespace(csv=tmp_path / "train.csv", data=None))
    assert name == "MNIST" and data.x_train.shape == (10, 3) and data.x_test.shape == (1000, 3) and data.x_train.dtype == np.float32
    pairs = {tuple(row) for row in table}
    assert all((label, *np.rint(row * 255).astype(int)) in pairs for row, label in zip(data.x_train, data.y_train, strict=True))


def test_a_rehearsal_runs_through(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    lab = Lab(argparse.Namespace(data=None, csv=None, seed=0), quick=True)
    deep_sigmoid.EXPERIMENT.run(lab)
    assert "j / n_batches: 0 / 6 cost: " in capsys.readouterr().out
    assert len(lab.checks) == 6 and [item.name for item in lab.items if isinstance(item, Picture)] == ["training"] * lab.draws


def test_the_picture_has_labels_and_its_legends_lie_outside(rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    trained = train(made_up(rng), [8, 7, 6], steps=6)
    picture = training_figure(trained, trained)
    picture.draw_without_rendering()
    above, below = picture.axes
    legends: list[Any] = [axis.get_legend() for axis in picture.axes]
    assert above.get_ylabel() == "mean $|W_t - W_{t-1}|$ (dimensionless)" and below.get_ylabel() == "cost of the batch (nats)"
    assert below.get_xlabel() == "training step" and [text.get_text() for text in legends[0].get_texts()] == [f"layer {i}" for i in range(4)]
    for legend, axis in zip(legends, picture.axes, strict=True):
        assert not legend.get_window_extent().overlaps(axis.get_window_extent())
