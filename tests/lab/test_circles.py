"""Experiment 001, the two circles, on a small scale."""
from __future__ import annotations

import argparse
import importlib.util
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.display import PALETTE
from minigrad.lab import circles, circles_companion, circles_figures
from minigrad.lab import circles_nets as nets
from minigrad.lab.experiment import Lab, Picture, Text
from minigrad.train import Trainer

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def few(count: int) -> nets.Data:
    data = nets.circles()
    return nets.Data(data.x[:count], data.y[:count])


def seeded(name: str = "tanh", seed: int = 5) -> nn.Sequential:
    mg.manual_seed(seed)
    return nets.make_mlp(name)


# ---- data, nets, optimiser
def test_the_points_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.make_circles(n_samples=1000, factor=0.5, noise=0.1, random_state=42)
    data = nets.circles()
    assert np.array_equal(data.x, x.astype(np.float32)) and np.array_equal(data.y[:, 0], y)


def test_the_points_are_the_same_everywhere() -> None:
    data = nets.circles()
    assert data.x.dtype == data.y.dtype == np.float32 and data.y.shape == (1000, 1) and data.y.sum() == 500
    assert np.allclose(data.x[0], [0.42249396, 0.20644586], rtol=1e-6) and np.isclose(data.x.sum(dtype=np.float64), -4.173262, rtol=1e-5)


def test_the_companions_points_fill_the_square_and_are_halved() -> None:
    train, test = circles_companion.scaled_circles()
    every = np.concatenate([train.x, test.x])
    assert len(train.x) == len(test.x) == 500
    assert np.allclose(every.min(axis=0), -1, atol=1e-6) and np.allclose(every.max(axis=0), 1, atol=1e-6)


def test_layers_have_the_pages_names_and_shapes() -> None:
    model = seeded("relu")
    assert {name: w.shape for name, w in nets.kernels(model).items()} == {
        "relu1": (5, 2), "relu2": (5, 5), "relu3": (5, 5), "relu4": (5, 5), "relu5": (1, 5)}
    assert [type(m).__name__ for m in model][1::2] == ["ReLU"] * 4 + ["Sigmoid"]
    assert all(not m.bias.detach().numpy().any() for m in model.modules() if isinstance(m, nn.Linear))


def test_the_companions_tanh_net_has_positive_weights_everywhere() -> None:
    assert all((w.detach().numpy() >= 0).all() for w in nets.kernels(circles_companion.deeper_net("tanh")).values())
    bounds = [np.sqrt(6 / fan) for fan in (2, 5, 5, 5, 5, 6)]  # He's, and Glorot's for the output
    assert all((abs(w.detach().numpy()) <= bound).all() for w, bound in
               zip(nets.kernels(circles_companion.deeper_net("relu")).values(), bounds, strict=True))


@pytest.mark.parametrize("captured", [False, True])
def test_rmsprop_has_its_epsilon_under_the_root(captured: bool) -> None:
    p = mg.tensor(np.array([1.0, -2.0, 3.0], np.float64), requires_grad=True)
    opt = nets.KerasRMSprop([p], lr=0.1, eps=1e-3)

    def step(scale: Any) -> mg.Tensor:
        opt.zero_grad()
        loss: mg.Tensor = (p * p * scale).sum()
        loss.backward()
        opt.step()
        return loss

    run = mg.capture(step) if captured else step
    expected, square = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    for scale in (0.01, 0.2, 0.3, 0.1):
        run(np.float64(scale))
        grad = 2 * scale * expected
        square = 0.9 * square + 0.1 * grad**2
        expected = expected - 0.1 * grad / np.sqrt(square + 1e-3)
    assert np.allclose(p.detach().numpy(), expected, rtol=1e-12)


# ---- three ways to train
def test_a_hundred_epochs_leave_101_records() -> None:
    model = seeded()
    records = nets.train_by_hand(model, nets.KerasRMSprop(model.parameters()), few(40), 100)
    assert records.losses.shape == (101,) and {name: g.shape for name, g in records.gradients.items()} == {
        name: (101, *w.shape) for name, w in nets.kernels(model).items()}
    last = {name: weight.grad for name, weight in nets.kernels(model).items()}
    assert all(np.array_equal(g[-1], last[name].numpy()) for name, g in records.gradients.items())  # type: ignore[union-attr]


def test_by_hand_by_fit_and_side_by_side_the_bits_are_the_same() -> None:
    data, epochs = few(72), 4
    runs = nets.train_many(partial(nets.make_mlp, "tanh"), nets.KerasRMSprop, data, (5, 6), epochs)
    model = seeded()
    records = nets.train_by_hand(model, nets.KerasRMSprop(model.parameters()), data, epochs)
    assert np.array_equal(records.losses, runs.records[0].losses) and not np.array_equal(records.losses, runs.records[1].losses)
    assert all(np.array_equal(g, runs.records[0].gradients[name]) for name, g in records.gradients.items())
    fitted = seeded()
    Trainer(fitted, F.binary_cross_entropy, nets.KerasRMSprop(fitted.parameters())).fit(data.x, data.y, epochs=epochs, verbose=0)
    for name, weight in nets.kernels(model).items():
        for other in (fitted, runs.models[0]):
            assert np.array_equal(weight.detach().numpy(), nets.kernels(other)[name].detach().numpy())
    assert (runs.loss[0], runs.accuracy[0]) == nets.judged(model, data)


def test_statistics_are_those_of_the_records() -> None:
    runs = nets.train_many(partial(nets.make_mlp, "sigmoid"), partial(optim.SGD, lr=0.1), few(40), (1, 2, 3), 2)
    first = runs.records[2].gradients["sigmoid1"]
    assert first.shape == (3, 5, 2) and runs.deviations().shape == runs.means().shape == (3, 5)
    assert np.isclose(runs.deviations()[2, 0], np.mean([g.std() for g in first.astype(np.float64)]))
    assert np.isclose(runs.means()[2, 0], np.mean([abs(g.mean()) for g in first.astype(np.float64)]))


def test_weights_are_kept_before_training_and_after_each_epoch() -> None:
    model, data = seeded(), few(40)
    capture = nets.WeightCapture(model)
    capture.on_epoch_end(-1)
    start = nets.kernels(model)["tanh3"].detach().numpy().copy()
    Trainer(model, F.binary_cross_entropy, nets.KerasRMSprop(model.parameters())).fit(data.x, data.y, epochs=3, callbacks=capture, verbose=0)
    assert capture.epochs == [-1, 0, 1, 2] and [list(w) for w in capture.weights] == [[f"tanh{i}" for i in range(1, 6)]] * 4
    assert np.array_equal(capture.weights[0]["tanh3"], start)
    assert np.array_equal(capture.weights[-1]["tanh3"], nets.kernels(model)["tanh3"].detach().numpy())
    assert not np.array_equal(capture.weights[1]["tanh3"], capture.weights[2]["tanh3"])


# ---- the experiment
@pytest.fixture(scope="module")
def rehearsal() -> Lab:
    pytest.importorskip("matplotlib")
    lab = Lab(argparse.Namespace(), quick=True)
    circles.EXPERIMENT.run(lab)
    return lab


def test_a_rehearsal_goes_through_all_parts(rehearsal: Lab) -> None:
    whats = [check.what for check in rehearsal.checks]
    for part, count in (("A, ", 6), ("B, ", 9), ("C", 33), ("exercise, ", 8), ("companion, ", 20)):
        assert sum(what.startswith(part) for what in whats) == count
    assert len(set(whats)) == len(whats) == 76
    assert [text.words.split(":")[0].partition(",")[0] for text in rehearsal.items if isinstance(text, Text)][1:] == [
        "Part A", "Part B", "Part C", "Exercise", "Companion"]


def test_what_holds_on_any_scale_holds_in_a_rehearsal(rehearsal: Lab) -> None:
    exact = [check for check in rehearsal.checks if "bits" in check.what or check.what.endswith(": records")]
    assert len(exact) == 9 and all(check.passed for check in exact)


def test_every_picture_says_what_it_shows(rehearsal: Lab) -> None:
    backend = pytest.importorskip("matplotlib.backends.backend_agg")
    colors = pytest.importorskip("matplotlib.colors")
    pictures = {item.name: item.figure for item in rehearsal.items if isinstance(item, Picture)}
    kinds = [f"001-{what}-{name}" for what in ("weights", "gradients") for name in nets.ACTIVATIONS]
    assert set(pictures) == {"001-data", "001-exercise", "001-companion", *kinds}
    for name in ("001-data", "001-weights-tanh", "001-gradients-tanh", "001-exercise", "001-companion"):
        figure = pictures[name]
        figure.set_dpi(50)
        backend.FigureCanvasAgg(figure).draw()
        assert re.search(r"\((dimensionless|nats)\)", figure.axes[0].get_ylabel()), name
        assert figure.axes[-1].get_xlabel(), name
        legend, = figure.legends
        box = legend.get_window_extent()
        assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes), name
        drawn = {colors.to_hex(line.get_color()).upper() for axis in figure.axes for line in axis.lines}
        assert drawn <= set(PALETTE), name
        inside = figure.bbox
        assert all(inside.x0 <= label.get_window_extent().x0 and inside.y0 <= label.get_window_extent().y0
                   for axis in figure.axes for label in (axis.xaxis.label, axis.yaxis.label) if label.get_text()), name


def test_the_pages_panels(rehearsal: Lab) -> None:
    pictures = {item.name: item.figure for item in rehearsal.items if isinstance(item, Picture)}
    kept = pictures["001-weights-tanh"]
    assert kept.get_size_inches().tolist() == [8, 10] and [len(axis.lines) for axis in kept.axes] == [5, 5]
    assert [text.get_text() for text in kept.legends[0].get_texts()] == [f"tanh{i}" for i in range(1, 6)]
    met = pictures["001-gradients-sigmoid"]
    assert met.get_size_inches().tolist() == [8, 12] and [axis.get_yscale() for axis in met.axes] == ["linear", "log", "linear"]
    assert [len(axis.lines) for axis in met.axes] == [5, 5, 1]


def test_blocks_of_epochs_are_averaged() -> None:
    pytest.importorskip("matplotlib")
    values = np.arange(1.0, 9.0)
    figure = circles_figures.epochs_figure({"net": {"1": np.stack([values, values, 9 * values])}}, 4)
    line, = figure.axes[0].lines
    assert np.asarray(line.get_xydata()).tolist() == [[2.0, 2.5], [6.0, 6.5]]


# ---- the ranges of plain NumPy
def rows_of_the_page() -> dict[tuple[str, str], tuple[float, float]]:
    rows = re.findall(r"^\| (tanh, U\(0, 1\)|ReLU, He) \| ([^|]+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", (REFERENCE / "README.md").read_text(), re.M)
    return {("tanh" if net.startswith("tanh") else "relu", figure): (float(low), float(high)) for net, figure, low, high in rows}


def test_the_companions_ranges_are_those_of_the_page() -> None:
    page = rows_of_the_page()
    assert len(page) == 20
    for net, ranges in circles_companion.MEASURED.items():
        assert [page[net, figure] for figure in circles_companion.FIGURES] == list(ranges)
    for net, layers in circles_companion.DEVIATIONS.items():
        assert [page[net, f"S.D. of the gradient, {net}{i}"] for i in range(1, 7)] == list(layers)


@pytest.mark.exhaustive
def test_the_page_is_what_the_script_measures() -> None:
    spec = importlib.util.spec_from_file_location("circles_companion_reference", REFERENCE / "circles_companion.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = rows_of_the_page()
    for net in ("tanh", "relu"):
        for figure, values in script.measured(net, 8, 500).items():
            assert np.allclose([values.min(), values.max()], page[net, figure], rtol=2e-3)


@pytest.mark.exhaustive
def test_the_experiment_passes() -> None:
    pytest.importorskip("matplotlib")
    lab = Lab(argparse.Namespace())
    circles.run(lab)
    assert [check for check in lab.checks if not check.passed] == []
