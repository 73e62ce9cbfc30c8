"""Every picture: labels with units, the legend outside the data's box, maps for colour-blind readers."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigrad import display
from minigrad.errors import IndexRangeError
from minigrad.health import plots
from minigrad.health.telemetry import Key, Telemetry
from tests.health.recorded import recorded

pytest.importorskip("matplotlib")
HISTORY = {"epoch": np.arange(3), "loss": np.array([2.0, 1.0, 0.1]), "val_loss": np.array([2.0, 1.5, 0.2])}
PICTURES: dict[str, Callable[[Telemetry], Any]] = {
    "gradient flow": plots.gradient_flow, "heat map": plots.heat_map, "shares": lambda t: plots.heat_map(t, "signal", "saturated"),
    "gradients": plots.over_time, "weights": lambda t: plots.over_time(t, "weight"), "updates": plots.update_ratio,
    "loss": lambda t: plots.loss(HISTORY), "overview": lambda t: plots.overview(t, HISTORY)}


def broken() -> Telemetry:
    """With zeros in the first layer and NaN in the last."""
    found = recorded(4)
    for key, values in found.figures.items():
        if key.figure in ("rms", "std", "l2", "ratio", "mean"):
            if key.name.startswith("hidden0"):
                values[6:] = 0.0
            if key.name.startswith("hidden3"):
                values[9:] = np.nan
    return found


SUBJECTS = {"few": recorded, "many": lambda: recorded(30), "broken": broken, "one step": lambda: recorded(3, steps=1)}


def parts(figure: Any) -> list[Any]:
    """The figure and all its parts."""
    found = [figure]
    for part in found:
        found += getattr(part, "subfigs", [])
    return found


def data_axes(figure: Any) -> list[Any]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


@pytest.mark.parametrize(("picture", "subject"), [(picture, subject) for picture in PICTURES for subject in SUBJECTS
                                                  if (picture == "overview") == (subject in ("few", "one step"))
                                                  and (subject != "many" or picture not in ("shares", "loss", "weights"))])
def test_axes_have_units_the_legend_lies_outside_and_maps_are_safe(picture: str, subject: str) -> None:
    figure = PICTURES[picture](SUBJECTS[subject]())
    figure.draw_without_rendering()
    axes = data_axes(figure)
    for axis in axes:
        labels = [axis.get_xlabel(), axis.get_ylabel()]
        sizes = [label for label in labels if label not in ("step", "epoch") and not label.startswith("layer (")]
        assert all(labels) and all(re.fullmatch(r"\S.* \((dimensionless|unit of the loss function)\)", label, re.DOTALL) for label in sizes)
        assert axis.get_legend() is None
        safe = {plots.MAP}
        assert {mesh.get_cmap().name for mesh in axis.collections if type(mesh).__name__ == "QuadMesh"} <= safe
    for axis in figure.axes:
        if axis.get_label() == "<colorbar>":
            assert re.search(r"\((dimensionless|1: \S+ \.\.\. \d+: \S+)\)", axis.get_ylabel())
    boxes = [axis.get_window_extent() for axis in figure.axes]
    legends = [legend for part in parts(figure) for legend in part.legends]
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(other) for other in boxes)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
    lines = [line for axis in axes for line in axis.lines if len(line.get_xdata()) > 2 and line.get_marker() not in ("None", None)]
    assert all(line.get_color() in display.PALETTE for line in lines)


def test_gradient_flow_has_a_line_for_each_step_chosen() -> None:
    found = recorded(4, steps=12, every=2)
    figure: Any = plots.gradient_flow(found, steps=(0, 5, -1))
    assert [axis.get_ylabel().partition(" (dim")[0] for axis in figure.axes] == ["rms(h)", "rms(dL/dh)", "|dL/dW|"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["step 0", "step 10", "step 22"]
    signal, flow, grad = figure.axes
    assert signal.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4] and flow.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert flow.lines[2].get_ydata().tolist() == pytest.approx(found.matrix("flow", "rms")[1][:, -1])
    assert all(axis.get_yscale() == "log" for axis in figure.axes)
    assert [label.get_text() for label in grad.get_xticklabels()] == ["hidden0", "hidden1", "hidden2", "hidden3"]
    assert len(plots.gradient_flow(recorded(kinds=("grad",))).axes) == 1
    with pytest.raises(IndexRangeError, match="no recorded step at 12: 12 were recorded"):
        plots.gradient_flow(found, steps=(12,))
    with pytest.raises(ValueError, match="neither signals nor gradients"):
        plots.gradient_flow(recorded(kinds=("weight",)))


def test_parameters_take_the_places_of_their_layers() -> None:
    found = recorded(["a", "b"])
    del found.figures[Key("a.weight", "grad", "l2")]
    found.figures[Key("norm.weight", "grad", "l2")] = np.ones(12)
    grad: Any = plots.gradient_flow(found).axes[2]
    assert grad.lines[0].get_xdata().tolist() == [2] and [label.get_text() for label in grad.get_xticklabels()] == ["b"]
    plain = Telemetry(np.arange(2), {Key("w", "weight", figure): np.ones(2) for figure in ("mean", "std")})
    assert [text.get_text() for text in plots.over_time(plain, "weight").legends[0].get_texts()] == ["w"]


def test_a_heat_map_shows_every_layer_and_step() -> None:
    found = recorded(4, steps=12, every=2)
    figure: Any = plots.heat_map(found)
    (axis,) = data_axes(figure)
    (mesh,) = axis.collections
    assert np.asarray(mesh.get_array()).reshape(4, 12) == pytest.approx(found.matrix("flow", "rms")[1])
    assert type(mesh.norm).__name__ == "LogNorm" and axis.get_xlim() == (-1, 23) and axis.get_ylim() == (0.5, 4.5)
    assert not figure.legends
    shares = data_axes(plots.heat_map(found, "signal", "dead"))[0].collections[0]
    assert (type(shares.norm).__name__, shares.norm.vmin, shares.norm.vmax) == ("Normalize", 0, 1)
    assert "|mean of dL/dW|" in plots.heat_map(found, "grad", "mean").axes[1].get_ylabel()
    with pytest.raises(ValueError, match="no rms of grad was recorded: there is rms of signal, mean of weight"):
        plots.heat_map(found, "grad", "rms")


def test_zeros_and_what_is_not_finite_are_told_apart() -> None:
    figure: Any = plots.heat_map(broken())
    (axis,) = data_axes(figure)
    mesh, zeros, rest = axis.collections
    cells = np.ma.getmaskarray(mesh.get_array()).reshape(4, 12)
    assert cells[0].tolist() == [False] * 6 + [True] * 6 and cells[3].tolist() == [False] * 9 + [True] * 3 and not cells[1:3].any()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "not finite"]
    assert zeros.get_hatch() != rest.get_hatch() and not np.array_equal(zeros.get_facecolor(), rest.get_facecolor())
    assert [len(each.get_paths()) for each in (zeros, rest)] == [1, 1]
    lines: Any = plots.update_ratio(broken())
    assert [text.get_text() for text in lines.legends[0].get_texts()][-2:] == ["0, below the scale", "not finite"]


def test_of_many_steps_neighbours_share_a_cell() -> None:
    steps = 10 * plots.COLUMNS
    values = np.repeat(10.0 ** -np.arange(10.0), steps // 10)
    values[5], values[-5] = 0.0, np.inf
    figure: Any = plots.heat_map(Telemetry(np.arange(steps), {Key("a", "flow", "rms"): values}))
    mesh, *_ = data_axes(figure)[0].collections
    cells = np.ma.asarray(mesh.get_array()).reshape(-1)
    assert len(cells) == plots.COLUMNS and np.flatnonzero(np.ma.getmaskarray(cells)).tolist() == [0, plots.COLUMNS - 1]
    assert cells[1] == pytest.approx(1.0) and cells[-2] == pytest.approx(1e-9)
    assert "geometric mean of neighbouring steps" in figure.axes[1].get_ylabel()


def test_nothing_but_zeros_needs_no_colours() -> None:
    figure: Any = plots.heat_map(Telemetry(np.arange(3), {Key("a", "flow", "rms"): np.zeros(3)}))
    assert len(figure.axes) == 1 and [text.get_text() for text in figure.legends[0].get_texts()] == ["0"]


def test_many_layers_have_a_ramp_instead_of_a_legend() -> None:
    figure: Any = plots.over_time(recorded(30))
    assert not figure.legends and [axis.get_ylabel() for axis in figure.axes][-1] == "layer (1: hidden0 ... 30: hidden29)"
    left, right = data_axes(figure)
    assert len(left.lines) == 31 and len({tuple(line.get_color()) for line in right.lines}) == 30
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
    with pytest.raises(ValueError, match="no mean of update was recorded"):
        plots.over_time(recorded(), "update")


def test_the_rule_of_thumb_is_drawn_and_cited() -> None:
    figure: Any = plots.update_ratio(recorded())
    (axis,) = data_axes(figure)
    assert set(axis.lines[-1].get_ydata()) == {1e-3} and "CS231n" in figure.legends[0].get_texts()[-1].get_text()
    with pytest.raises(ValueError, match="no updates were recorded: there is mean of grad"):
        plots.update_ratio(recorded(kinds=("grad",)))


def test_the_loss_of_a_history_or_of_steps() -> None:
    axis: Any = plots.loss(HISTORY).axes[0]
    assert axis.get_xlabel() == "epoch" and axis.lines[0].get_xdata().tolist() == [1, 2, 3] and axis.get_yscale() == "log"
    axis = plots.loss(np.array([[1.0], [-1.0]])).axes[0]
    assert axis.get_xlabel() == "step" and axis.lines[0].get_xdata().tolist() == [0, 1] and axis.get_yscale() == "linear"
    with pytest.raises(ValueError, match="no loss was recorded: there is epoch, mse"):
        plots.loss({"epoch": np.arange(2), "mse": np.ones(2)})


def test_an_overview_has_what_was_recorded() -> None:
    assert len(data_axes(plots.overview(recorded(kinds=("weight",))))) == 2
    assert len(data_axes(plots.overview(recorded(), HISTORY))) == 2 + 3 + 2 + 4
    assert len(data_axes(recorded().plot(history=HISTORY))) == 11 and len(data_axes(recorded().plot("over_time", kind="weight"))) == 2


def crosses(axis: Any) -> list[Any]:
    """The marks of what is not finite, as points on the screen."""
    found = [mark for mark in axis.collections if type(mark).__name__ == "PathCollection" and len(mark.get_offsets())]
    return [point for mark in found for point in mark.get_offset_transform().transform(mark.get_offsets())]


@pytest.mark.parametrize("losses", [[2, np.nan, np.nan, np.nan], [2, 1.5, np.nan, np.nan, 1, np.inf], [np.nan] * 4, [np.inf, 3.0, 1e-3]])
def test_crosses_lie_inside_the_axes(losses: list[float]) -> None:
    figure = plots.loss(np.array(losses))
    figure.draw_without_rendering()
    axis: Any = figure.axes[0]
    box, count = axis.get_window_extent(), np.sum(~np.isfinite(losses))
    found = crosses(axis)
    assert len(found) == count and all(box.x0 + 5 < x < box.x1 - 5 and box.y0 + 3 < y < box.y1 - 3 for x, y in found)
    low, high = axis.get_xlim()
    assert low < 0 and high > len(losses) - 1 and (len(axis.get_yticks()) > 0) == (count < len(losses))


def test_steps_and_layers_without_a_number_have_their_place() -> None:
    found = recorded(3)
    for key, values in found.figures.items():
        values[1 if key.kind in ("update", "weight") else 0:] = np.nan
    for figure in (plots.update_ratio(found), plots.over_time(found, "weight"), plots.overview(found)):
        figure.draw_without_rendering()
        for axis in data_axes(figure):
            box = axis.get_window_extent()
            if axis.get_xlabel() == "step":
                assert axis.get_xlim()[1] >= 22
            assert all(box.contains(*point) for point in crosses(axis))
    signal: Any = plots.gradient_flow(found).axes[0]
    assert len(crosses(signal)) == 2 * 4 and signal.get_xlim()[1] > 3


def test_a_number_between_gaps_has_a_mark() -> None:
    for figure in (plots.over_time(recorded(20, steps=1)), plots.update_ratio(recorded(20, steps=1))):
        lines: list[Any] = [line for axis in data_axes(figure) for line in axis.lines if len(line.get_xdata()) == 1]
        assert len(lines) in (20, 40) and all(line.get_marker() == "o" and line.get_markevery() == [0] for line in lines)
    axis: Any = plots.loss(np.array([*range(2, 60), np.nan, 1.0, np.nan])).axes[0]
    assert 59 in axis.lines[0].get_markevery()


def test_what_no_usual_picture_shows_is_drawn_by_step() -> None:
    change = Telemetry(np.arange(3), {Key(f"{name}.weight", "update", "mean_abs"): np.array([0.1, 0.2, 0.3]) for name in "ab"})
    figure = change.plot()
    (axis,) = data_axes(figure)
    assert len(axis.lines) == 2 and axis.get_ylabel() == "mean |change of W in a step| (dimensionless)"
    assert plots.rest(change) == [("update", "mean_abs")] and plots.rest(recorded()) == []
    dead: Any = data_axes(recorded().plot("over_time", kind="signal", figure="dead"))[0]
    assert dead.get_yscale() == "linear" and len(dead.lines) == 4
    with pytest.raises(ValueError, match="no pie of grad was recorded: there is rms of signal, mean of weight"):
        plots.over_time(recorded(), figure="pie")


def test_panels_say_what_they_show() -> None:
    titles = [part.get_suptitle() for part in parts(plots.overview(recorded())) if part.get_suptitle()]
    assert len(set(titles)) == len(titles) and {"rms(dL/dh) by layer and step", "rms(h) by layer and step"} < set(titles)
    assert plots.heat_map(recorded(), "signal", "dead").get_suptitle() == "share of dead units by layer and step"
    many = ["a" * 30, *map(str, range(18)), "head"]
    flow: Any = plots.gradient_flow(recorded(many))
    assert flow.axes[0].get_xlabel() == "layer (0: input ... 20: head)"
    assert flow.axes[1].get_xlabel() == f"layer (1: ...{'a' * 17} ... 20: head)"


@pytest.mark.parametrize("picture", list(plots.PICTURES))
def test_before_the_first_step_there_is_no_picture(picture: str) -> None:
    with pytest.raises(ValueError, match=rf"{picture}: no step was recorded yet: train first"):
        recorded(steps=0).plot(picture)


def test_dollars_in_paths_are_no_formulas() -> None:
    names = plots._literal([r"$\frac{$", "0.weight"])
    figure = display.figure("test", 4.0, 3.0)
    figure.subplots().set_xticks([0, 1], names)
    figure.canvas.draw()
    assert names == [r"\$\frac{\$", "0.weight"]
