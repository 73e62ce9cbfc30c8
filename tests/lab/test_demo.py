from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minigrad.lab import demo, figures
from minigrad.lab.nets import KINDS
from minigrad.lab.sweep import DEPTHS, sweep


def run(out: Path, *arguments: str) -> dict[str, Any]:
    assert demo.main([*arguments, "--out", str(out)]) == 0
    read: dict[str, Any] = json.loads((out / "demo.json").read_text())
    return read


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The demo on the 8x8 digits for two epochs: where it wrote, and what."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("demo")
    return out, run(out, "--epochs", "2")


def test_the_report_holds_every_figure(small: tuple[Path, dict[str, Any]]) -> None:
    _, report = small
    assert set(report["nets"]) == set(KINDS) and report["settings"]["epochs"] == 2 and report["settings"]["seed"] == 0
    for net in report["nets"].values():
        assert len(net["history"]["val_accuracy"]) == 2 and net["flow"]["step"] == [0, 15, 30]
        for figure in ("rms_h", "rms_dh", "norm_dw"):
            assert [len(layers) for layers in net["flow"][figure]] == [report["settings"]["depth"]] * 3
    assert {(row["depth"], row["mode"]) for row in report["sweep"]} == {(depth, mode) for depth in DEPTHS for mode in ("eager", "captured", "repeat")}
    assert {"python", "minigrad", "numpy", "numba"} <= set(report["versions"]) and report["seconds"]["total"] > 0


def test_the_gradient_dies_before_training_in_the_sigmoid_net_only(small: tuple[Path, dict[str, Any]]) -> None:
    nets = small[1]["nets"]
    assert nets["sigmoid"]["ratio_init"] <= 1e-6 and nets["residual relu"]["ratio_init"] >= 1e-2


def test_the_pictures_are_written(small: tuple[Path, dict[str, Any]]) -> None:
    out, report = small
    pytest.importorskip("matplotlib")
    assert report["figures"] == ["gradient_flow.png", "throughput.png"]
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in report["figures"])


def test_axes_have_labels_and_legends_lie_outside(small: tuple[Path, dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib")
    report = small[1]
    for figure in (figures.flow_figure(report["nets"]), figures.speed_figure(report["sweep"], width=32, batch=32)):
        figure.draw_without_rendering()
        assert all(axis.get_ylabel() for axis in figure.axes)
        (legend,) = figure.legends
        assert not any(legend.get_window_extent().overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_without_matplotlib_the_figures_are_all_there(small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert demo.write(tmp_path, small[1]) == [tmp_path / "demo.json"]
    assert "pip install 'minigrad-numba[plot]'" in capsys.readouterr().out


def test_a_folder_without_digits_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected t10k-images-idx3-ubyte" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_sweep_runs_each_way_at_each_depth() -> None:
    speeds = {(speed.depth, speed.mode): speed.us_per_step for found in sweep([2, 3]) for speed in found}
    assert set(speeds) == {(depth, mode) for depth in (2, 3) for mode in ("eager", "captured", "repeat")} and min(speeds.values()) > 0


@pytest.mark.slow
def test_the_main_job_on_mnist(mnist: Path, tmp_path: Path) -> None:
    report = run(tmp_path, "--data", str(mnist))
    nets = report["nets"]
    assert report["data"] == {"name": "MNIST", "train": 9000, "held_out": 1000}
    assert nets["sigmoid"]["accuracy"] <= 0.15 and nets["sigmoid"]["ratio_init"] <= 1e-6
    assert nets["residual relu"]["accuracy"] >= 0.95 and nets["residual relu"]["ratio_init"] >= 1e-2
