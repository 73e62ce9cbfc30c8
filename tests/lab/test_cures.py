from __future__ import annotations

import argparse
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.lab import cures
from minigrad.lab.circles_nets import circles
from minigrad.lab.cures import DEPTHS, NETS, SHOWN, STEPS, idle_share, measure
from minigrad.lab.experiment import Lab, Picture
from minigrad.lab.gradient_flow import gradient_flow
from minigrad.lab.learners import BATCH, epochs
from minigrad.lab.measured_cures import FIGURES, RANGES, REFUSED

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@cache
def reference() -> ModuleType:
    """The NumPy script, which uses nothing of minigrad."""
    spec = importlib.util.spec_from_file_location("cures_reference", REFERENCE / "cures_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def numpy_twin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script for two seeds, few steps."""
    module = reference()
    monkeypatch.setattr(module, "SEEDS", 2)
    monkeypatch.setattr(module, "STEPS", 5)
    return module


def test_the_script_imports_nothing_of_minigrad() -> None:
    assert "minigrad" not in [line.split()[1].split(".")[0] for line in (REFERENCE / "cures_reference.py").read_text().splitlines()
                              if line.startswith(("import ", "from "))]


def test_the_ranges_are_those_of_the_readme() -> None:
    lines = [line.strip("| ").split(" | ") for line in (REFERENCE / "README.md").read_text().splitlines() if line.startswith("| ")]
    table = {(cells[0], int(cells[1])): cells[2:] for cells in lines if len(cells) == 8 and cells[1].isdigit()}
    assert set(table) == set(RANGES) == {(name, depth) for name in NETS for depth in DEPTHS}
    for key, cells in table.items():
        ranges = [None if cell == "none" else tuple(map(float, cell.split(" to "))) for cell in cells[:-1]]
        assert tuple(ranges) == RANGES[key] and len(ranges) == len(FIGURES) and int(cells[-1]) == REFUSED[key]


def test_points_order_and_nets_are_numpy_s() -> None:
    module = reference()
    for mine, theirs in zip(circles(), module.circles(), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(np.concatenate(epochs(1000, STEPS * BATCH // 1000 + 2, 0))[:STEPS], module.batches())
    assert [net.name for net in module.NETS] == list(NETS) and module.DEPTHS == DEPTHS and set(SHOWN) <= set(NETS)
    for net in module.NETS:
        ours = NETS[net.name]
        assert (net.init, net.norm, net.residual, net.scaled, net.clip or None, net.lr) == (
            ours.init, ours.norm, ours.residual, ours.scaled, ours.clip, ours.lr)


@pytest.mark.parametrize("name", ["sigmoid, Glorot, batch norm", "ReLU, default init, layer norm", "ReLU, He, residual, clip 0.25",
                                  "ReLU, He, residual, scaled"])
def test_figures_are_numpy_s(name: str, numpy_twin: Any) -> None:
    (net,) = (net for net in numpy_twin.NETS if net.name == name)
    wanted = numpy_twin.measured(net, 4)
    x, y = circles()
    found = measure(NETS[name], 4, (0, 1), x, y, epochs(1000, 1, 0)[0][:5])
    slope, ratio, loss, accuracy, idle = found.figures()
    assert slope == pytest.approx(wanted["slope"], abs=1e-9) and ratio == pytest.approx(wanted["log ratio"], abs=1e-9)
    assert loss == pytest.approx(wanted["loss"], rel=1e-3) and accuracy == pytest.approx(wanted["accuracy"], abs=5e-3)
    assert idle == pytest.approx(wanted["idle"], abs=0.02) and found.refused.tolist() == wanted["refused"].tolist()


def test_before_training_every_seed_is_within_the_ranges() -> None:
    x, y = (part.astype(np.float64) for part in circles())
    for name in ("sigmoid, Glorot", "ReLU, default init", "ReLU, He, residual"):
        logs = np.log10([gradient_flow(NETS[name].learner(20, seed).model.double(), x, y, F.binary_cross_entropy_with_logits).rms_dh[:-1]
                         for seed in range(8)])
        low, high = RANGES[name, 20][1] or (0.0, 0.0)
        assert low - 1e-2 <= (logs[:, 0] - logs[:, -1]).min() and (logs[:, 0] - logs[:, -1]).max() <= high + 1e-2


def test_dead_and_saturated_units() -> None:
    x = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    linear = nn.Linear(1, 4)
    with mg.no_grad():
        linear.weight.copy_(mg.tensor([[1.0], [-1.0], [1.0], [0.0]]))
        linear.bias.copy_(mg.tensor([0.0, 0.0, -2.0, -1.0]))
    assert idle_share(nn.Sequential(linear, nn.ReLU()), x) == 0.5
    with mg.no_grad():
        linear.bias.copy_(mg.tensor([9.0, 0.0, -9.0, 0.0]))
    assert idle_share(nn.Sequential(linear, nn.Sigmoid()), x) == 0.5


def test_a_rehearsal_runs_through_and_its_pictures_have_labels_and_legends_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cures, "NETS", {name: NETS[name] for name in SHOWN})
    lab = Lab(argparse.Namespace(data=None, seed=0), quick=True)
    cures.EXPERIMENT.run(lab)
    assert len(lab.checks) == sum(1 + 2 * 2 + sum(one is not None for one in RANGES[name, depth][2:]) for name in SHOWN for depth in DEPTHS)
    pictures = {item.name: item.figure for item in lab.items if isinstance(item, Picture)}
    assert list(pictures) == ["flow", "accuracy"] * lab.draws
    for picture in pictures.values():
        picture.draw_without_rendering()
        (legend,) = picture.legends
        for axis in picture.axes:
            assert axis.get_xlabel() and axis.get_ylabel()
            assert not legend.get_window_extent().overlaps(axis.get_window_extent())
    if pictures:
        assert [axis.get_ylabel() for axis in pictures["flow"].axes] == ["rms(dL/dh) (dimensionless)"] * 2
        assert pictures["accuracy"].axes[0].get_xlabel() == "accuracy (share of points)"
