from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minigrad.bench.peers import CONTESTANTS
from minigrad.bench.plot import MARKERS, PALETTE, depth_figure, save_depth_plot
from minigrad.bench.report import Row

pytest.importorskip("matplotlib")
ROW = Row("deep-1-w32", 1, "minigrad", "", 10.0, 1.0, 1.0, 0.01, 1e6, 20.0, 0.1, 3, 10, 1, [])


def rows() -> list[Row]:
    names = [contestant.name for contestant in CONTESTANTS]
    return [replace(ROW, work=f"deep-{d}-w32", depth=d, contestant=n, samples_per_s=1e6 / d) for n in names for d in (100, 1, 10)]


def test_axes_have_units_and_the_legend_lies_outside() -> None:
    figure = depth_figure([*rows(), replace(ROW, work="xor-deep", depth=11)], peak=200.0)
    figure.draw_without_rendering()
    assert len(figure.axes) == 3
    for axis, unit in zip(figure.axes, ("samples per second", "GFLOP/s", "seconds"), strict=True):
        assert unit in axis.get_ylabel() and "hidden layers" in axis.get_xlabel()
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert axis.get_legend() is None
        assert all(np.array_equal(line.get_xdata(), [1, 10, 100]) for line in axis.lines)
    assert "FMA peak (%)" in figure.axes[1].child_axes[0].get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [contestant.name for contestant in CONTESTANTS]
    data_boxes = [axis.get_window_extent() for axis in figure.axes]
    assert not any(legend.get_window_extent().overlaps(box) for box in data_boxes)


def test_every_contestant_has_its_own_colour_and_marker() -> None:
    assert min(len(set(PALETTE)), len(set(MARKERS))) >= len(CONTESTANTS)
    figure = depth_figure(rows(), peak=None)
    styles = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(styles) == len(CONTESTANTS)


def test_a_file_is_written(tmp_path: Path) -> None:
    save_depth_plot(tmp_path / "pictures" / "depth.png", rows(), 200.0)
    assert (tmp_path / "pictures" / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot_says_what_to_run() -> None:
    with pytest.raises(ValueError, match=r"--workloads 'deep-\*-w32'"):
        depth_figure([replace(ROW, work="circles")], None)
