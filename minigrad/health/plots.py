"""Pictures of a training: gradients by layer and by step, weights over time, updates, the loss."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from minigrad import display
from minigrad.errors import IndexRangeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minigrad.health.telemetry import Telemetry

Floats = NDArray[np.float64]
#: Lines with a legend; more get a ramp of colours.
LINES: Final = len(display.PALETTE)
#: Layers whose paths are written at the axis; more are counted.
NAMED: Final = 12
#: Marks of a line at the edges of the picture; of more, some stand for all.
MARKS: Final = 20
#: Columns of a heat map; of more steps several share one.
COLUMNS: Final = 1000
MAP: Final = "cividis"
#: Figures whose range holds 0 and is not one of decades.
LINEAR: Final = ("zeros", "nonfinite", "saturated", "dead")
PARAMETERS: Final = ("weight", "grad", "update")
#: A. Karpathy, notes of Stanford's course CS231n, "Learning", on the ratio of updates to weights: "should be somewhere around 1e-3".
RATIO: Final = 1e-3
#: The largest over the smallest loss from which on its axis is logarithmic.
NARROW: Final = 10.0
OFF: Final = {"zero": "0, below the scale", "not finite": "not finite"}
GREY: Final = "#555555"
#: Characters of a path in the label of an axis.
LONG: Final = 20
#: Kinds and figures of the pictures by layer, and of the one of updates.
USUAL: Final = (("signal", "rms"), ("flow", "rms"), ("grad", "l2"), ("update", "ratio"))
#: What WeightDelta records.
CHANGE: Final = ("update", "mean_abs")
NOT_YET: Final = "no step was recorded yet: train first; a step is recorded when optimizer.step() has moved a parameter of the watched model"


class Recorded(Protocol):
    """What a loss is drawn from, such as a History."""

    def arrays(self) -> Mapping[str, Any]:
        """Figures by name, arrays over epochs, "epoch" among them."""


# ---- pictures
def gradient_flow(telemetry: Telemetry, steps: Sequence[int] = (0, -1)) -> Figure:
    """rms(h), rms(dL/dh) and |dL/dW| by layer, a line for each of the recorded steps at these places; what was not recorded is left out.

    Raises IndexRangeError for a place without a step, and ValueError where none of the three was recorded.
    """
    _started("gradient_flow", telemetry)
    figure = display.figure("gradient_flow", 13.0, 4.0)
    _gradient_flow(figure, telemetry, steps)
    return figure


def heat_map(telemetry: Telemetry, kind: str = "flow", figure: str = "rms") -> Figure:
    """One figure by layer and step: logarithmic colours, or linear ones for shares and counts; zeros and what is not finite are hatched.

    Of more than 1000 steps neighbours share a cell: its colour is their geometric mean (of shares, their mean), it is hatched if one of them
    is 0 or not finite. Signs are left out. Raises ValueError where the figure was not recorded.
    """
    _started("heat_map", telemetry)
    picture = display.figure("heat_map", 8.5, 4.2)
    _title(picture, f"{telemetry.label(kind, figure)} by layer and step")
    _heat_map(picture, telemetry, kind, figure)
    return picture


def over_time(telemetry: Telemetry, kind: str = "grad", figure: str | None = None) -> Figure:
    """Mean and standard deviation of "grad", "weight", "signal" or "flow" over steps, a line for each layer; or one figure, if it is named.

    Raises ValueError where they were not recorded.
    """
    _started("over_time", telemetry)
    picture = display.figure("over_time", 11.0 if figure is None else 8.5, 4.0)
    _over_time(picture, telemetry, kind, ("mean", "std") if figure is None else (figure,))
    return picture


def update_ratio(telemetry: Telemetry) -> Figure:
    """How far a step moves each layer's weights, |change of W| / |W|, with the 1e-3 that Karpathy's CS231n notes call healthy.

    Raises ValueError where updates were not recorded.
    """
    _started("update_ratio", telemetry)
    figure = display.figure("update_ratio", 8.5, 4.0)
    _update_ratio(figure, telemetry)
    return figure


def loss(history: Recorded | Mapping[str, Any] | Sequence[float] | Floats) -> Figure:
    """The loss over epochs from a History, with validation where it has one; or over steps from an array, such as `step.repeat` returns.

    Raises ValueError where there is no loss.
    """
    figure = display.figure("loss", 6.5, 3.8)
    _loss(figure, history)
    return figure


def overview(telemetry: Telemetry, history: Recorded | Mapping[str, Any] | Sequence[float] | Floats | None = None) -> Figure:
    """Everything above that was recorded, in one picture; of a kind that none of them shows, a figure by step. Raises ValueError for nothing."""
    there = {(key.kind, key.figure) for key in telemetry.figures} if len(telemetry) else set()
    if history is None:
        _started("overview", telemetry)
    rows: list[list[tuple[str, Callable[[Any], None]]]] = [[], [], [], []]
    if history is not None:
        rows[0].append(("Loss", lambda part: _loss(part, history)))
    if ("update", "ratio") in there:
        rows[0].append(("Size of updates", lambda part: _update_ratio(part, telemetry)))
    if there & {("signal", "rms"), ("flow", "rms"), ("grad", "l2")}:
        rows[1].append(("From the input to the output", lambda part: _gradient_flow(part, telemetry, (0, -1))))
    for kind, name in (("flow", "rms"), ("signal", "rms"), ("grad", "l2")):
        if (kind, name) in there and len(rows[2]) < 2:
            rows[2].append((f"{telemetry.label(kind, name)} by layer and step",
                            lambda part, kind=kind, name=name: _heat_map(part, telemetry, kind, name)))  # type: ignore[misc]
    rows[3] = [(title, lambda part, kind=kind: _over_time(part, telemetry, kind, ("mean", "std")))  # type: ignore[misc]
               for kind, title in (("grad", "Gradients"), ("weight", "Weights")) if {(kind, "mean"), (kind, "std")} <= there]
    rows[3] += [(f"{telemetry.label(kind, name)} by step",
                 lambda part, kind=kind, name=name: _over_time(part, telemetry, kind, (name,)))  # type: ignore[misc]
                for kind, name in rest(telemetry)]
    rows = [row for row in rows[:3] if row] + [[panel] for panel in rows[3]]
    if not rows:
        raise ValueError("overview: nothing was recorded")
    figure = display.figure("overview", 13.0, 4.0 * len(rows))
    lines = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for line, row in zip(lines, rows, strict=True):
        for part, (title, draw) in zip(line.subfigures(1, len(row), squeeze=False)[0], row, strict=True):
            _title(part, title)
            draw(part)
    return figure


def rest(telemetry: Telemetry) -> list[tuple[str, str]]:
    """Of each kind of which none of the usual pictures shows anything, the first figure; and mean |change of W| where it was recorded."""
    there = list(dict.fromkeys((key.kind, key.figure) for key in telemetry.figures)) if len(telemetry) else []
    both = {kind for kind in ("grad", "weight") if {(kind, "mean"), (kind, "std")} <= set(there)}
    shown = both | {kind for kind, figure in there if (kind, figure) in USUAL}
    first = {kind: figure for kind, figure in reversed(there) if kind not in shown}
    if CHANGE in there:
        first[CHANGE[0]] = CHANGE[1]
    return list(first.items())[::-1]


PICTURES: Final[Mapping[str, Callable[..., Any]]] = {
    "overview": overview, "gradient_flow": gradient_flow, "heat_map": heat_map, "over_time": over_time, "update_ratio": update_ratio}


# ---- what each draws, into a figure or a part of one
def _gradient_flow(part: Any, telemetry: Telemetry, steps: Iterable[int]) -> None:
    panels = [(kind, figure) for kind, figure in USUAL[:3] if _has(telemetry, kind, figure)]
    if not panels:
        raise ValueError("gradient_flow: neither signals nor gradients were recorded: watch with grads=True or activations=True")
    places = list(dict.fromkeys(_place(telemetry, step) for step in steps))
    axes = part.subplots(1, len(panels), squeeze=False)[0]
    lines: dict[str, Any] = {}
    for axis, (kind, figure) in zip(axes, panels, strict=True):
        numbers, names, values = _by_layer(telemetry, kind, figure)
        for i, place in enumerate(places):
            colour, marker = display.PALETTE[i % LINES], display.MARKERS[i % len(display.MARKERS)]
            label = f"step {telemetry.steps[place]}"
            lines |= {label: _line(axis, numbers, values[:, place], label, colour, marker, 1)} | marked(axis, numbers, values[:, place], colour)
        label = telemetry.label(kind, figure)
        axis.set_ylabel(f"{label} (dimensionless)")
        _layer_axis(axis.xaxis, axis.set_xlabel, numbers, names)
        _decades(axis, values[:, places])
    _legend(part, _last(lines))


def _heat_map(part: Any, telemetry: Telemetry, kind: str, figure: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    if not _has(telemetry, kind, figure):
        raise ValueError(f"heat_map: no {figure} of {kind} was recorded: there is {_there(telemetry)}")
    numbers, names, values = _by_layer(telemetry, kind, figure)
    linear = figure in LINEAR
    edges, cells, odd = _pooled(telemetry.steps, np.abs(values), linear)
    axis = part.subplots()
    usual = cells[odd == ""]
    if usual.size:
        low, high = (0.0, max(usual.max(), 1.0)) if linear else (usual.min(), usual.max())
        if not linear and low == high:
            low, high = low / 2, high * 2
        norm = Normalize(low, high) if linear else LogNorm(low, high)
        rows = np.arange(len(numbers) + 1) + numbers[0] - 0.5
        mesh = axis.pcolormesh(edges, rows, np.ma.masked_where(odd != "", cells), norm=norm, cmap=MAP, rasterized=True)
        share = "" if cells.shape[1] == len(telemetry) else f",\n{'mean' if linear else 'geometric mean'} of neighbouring steps"
        label = telemetry.label(kind, figure)
        part.colorbar(mesh, ax=axis, label=f"{f'|{label}|' if figure == 'mean' else label} ({_unit(figure)}){share}")
    shown: dict[str, Any] = {}
    for what, face, hatch in (("zero", "#FFFFFF", "...."), ("not finite", display.ORANGE, "xxxx")):
        shown |= _hatched(axis, edges, numbers, odd == what, OFF[what].partition(",")[0], face, hatch)
    axis.set(xlim=(edges[0], edges[-1]), ylim=(numbers[0] - 0.5, numbers[-1] + 0.5))
    _step_axis(axis, telemetry.steps)
    _layer_axis(axis.yaxis, axis.set_ylabel, numbers, names)
    _legend(part, shown)


def _over_time(part: Any, telemetry: Telemetry, kind: str, figures: Sequence[str]) -> None:
    lacking = next((figure for figure in figures if not _has(telemetry, kind, figure)), None)
    if lacking is not None:
        raise ValueError(f"over_time: no {lacking} of {kind} was recorded: there is {_there(telemetry)}")
    shown: dict[str, Any] = {}
    axes = part.subplots(1, len(figures), squeeze=False)[0]
    for axis, figure in zip(axes, figures, strict=True):
        shown |= _lines(axis, telemetry, kind, figure, part if axis is axes[-1] else None)
        if figure == "mean":
            axis.axhline(0.0, color=GREY, linewidth=0.6, zorder=1)
    _legend(part, _last(shown))


def _update_ratio(part: Any, telemetry: Telemetry) -> None:
    if not _has(telemetry, "update", "ratio"):
        raise ValueError(f"update_ratio: no updates were recorded: there is {_there(telemetry)}")
    axis = part.subplots()
    shown = _lines(axis, telemetry, "update", "ratio", part)
    shown["1e-3, rule of thumb\n(Karpathy, CS231n)"] = axis.axhline(RATIO, color=GREY, linestyle="--", linewidth=1.2)
    axis.set_yscale("log", nonpositive="mask")
    _legend(part, _last(shown))


def _loss(part: Any, history: Any) -> None:
    found = history.arrays() if hasattr(history, "arrays") else history
    if not isinstance(found, Mapping):
        found = {"loss": np.asarray(found, np.float64).reshape(-1)}
    named = {name: np.asarray(found[key], np.float64) for key, name in (("loss", "training"), ("val_loss", "validation")) if key in found}
    if not any(len(values) for values in named.values()):
        raise ValueError(f"loss: no loss was recorded: there is {', '.join(found) or 'nothing'}")
    axis = part.subplots()
    shown: dict[str, Any] = {}
    for (name, values), colour, marker in zip(named.items(), (display.BLUE, display.ORANGE), "os", strict=False):
        places = np.asarray(found["epoch"]) + 1 if "epoch" in found else np.arange(len(values))
        every = max(1, len(values) // 12)
        shown |= {name: _line(axis, places, values, name, colour, marker, every)} | marked(axis, places, values, colour, zero=False)
    axis.set_ylabel("loss (unit of the loss function)")
    _step_axis(axis, places, "epoch" if "epoch" in found else "step")
    usual = np.concatenate(list(named.values()))
    usual = usual[np.isfinite(usual)]
    if not usual.size:
        axis.set_yticks([])
    if usual.size and usual.min() > 0 and usual.max() / usual.min() > NARROW:
        axis.set_yscale("log")
    display.grid(axis)
    _legend(part, _last(shown))


# ---- lines and marks
def _lines(axis: Any, telemetry: Telemetry, kind: str, figure: str, ramp: Any) -> dict[str, Any]:
    """A line over steps for each layer: few with a legend, which is returned, many in a ramp of colours, explained beside `ramp`'s axis."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    numbers, names, values = _by_layer(telemetry, kind, figure)
    shown: dict[str, Any] = {}
    few = len(names) <= LINES
    colours: Sequence[Any] = display.PALETTE
    if not few:  # without the lightest, which fade on white
        safe = ListedColormap(colormaps[MAP](np.linspace(0.0, 0.92, 256)), name=MAP)
        norm = Normalize(numbers[0], numbers[-1])
        colours = list(safe(norm(numbers)))
        if ramp is not None:
            bar = ramp.colorbar(ScalarMappable(norm, safe), ax=axis, label=_counted(numbers, names))
            bar.ax.yaxis.get_major_locator().set_params(integer=True)
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        every = max(1, len(row) // 12)
        drawn = _line(axis, telemetry.steps, row, name, colours[i], display.MARKERS[i] if few else None, every)
        shown |= {name: drawn} if few else {}
        shown |= marked(axis, telemetry.steps, row, colours[i], zero=figure != "mean" and figure not in LINEAR)
    label = telemetry.label(kind, figure)
    axis.set_ylabel(f"{label} ({_unit(figure)})")
    _step_axis(axis, telemetry.steps)
    if figure == "mean" or figure in LINEAR:
        display.grid(axis)
        if not np.isfinite(values).any():
            axis.set_yticks([])
    else:
        _decades(axis, values)
    return shown


def _line(axis: Any, x: Any, values: Any, label: str, colour: Any, marker: str | None, every: int) -> Any:
    """A line with gaps where there is nothing to draw at; a value between two gaps has a mark in any case."""
    drawn = np.ma.masked_invalid(values)
    there = np.concatenate([[False], ~np.ma.getmaskarray(drawn) & (drawn.filled(0.0) != 0), [False]])
    alone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    marks = np.union1d(np.arange(0, len(drawn), every) if marker else [], alone).astype(int).tolist()
    (line,) = axis.plot(x, drawn, color=colour, marker=marker or ("o" if marks else None), markersize=4, markevery=marks, linewidth=1.4, label=label)
    return line


def marked(axis: Any, x: Any, values: Any, colour: Any, zero: bool = True) -> dict[str, Any]:
    """Marks at the lower edge where a logarithmic axis has no place for a 0, at the upper one for what is not finite; what explains them.

    The axis then reaches over all of x, whether there is a value or not.
    """
    values = np.ma.asarray(values)
    there = ~np.ma.getmaskarray(values)
    shown = {}
    x = np.asarray(x)
    if len(x):
        axis.update_datalim([(x.min(), 0.0), (x.max(), 0.0)], updatey=False)
        axis.autoscale_view()
    for what, at, height, marker in (("zero", there & (values.data == 0), 0.03, "v"), ("not finite", there & ~np.isfinite(values.data), 0.97, "x")):
        if at.any() and (zero or what != "zero"):
            face = {} if marker == "x" else {"facecolors": "none"}
            places = x[at][::max(1, int(at.sum()) // MARKS)]
            axis.scatter(places, np.full(len(places), height), marker=marker, s=25, color=colour, linewidths=1.0,
                         transform=axis.get_xaxis_transform(), zorder=3, **face)
            shown[OFF[what]] = axis.scatter([], [], marker=marker, s=25, color=GREY, linewidths=1.0, **face)
    return shown


def _hatched(axis: Any, edges: Floats, numbers: Sequence[int], chosen: NDArray[np.bool_], label: str, face: str, hatch: str) -> dict[str, Any]:
    """Hatch the chosen cells of a heat map, those beside each other in one piece; what explains them."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    pieces = []
    for number, row in zip(numbers, chosen, strict=True):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        pieces += [[(edges[a], number - 0.5), (edges[b], number - 0.5), (edges[b], number + 0.5), (edges[a], number + 0.5)]
                   for a, b in zip(turns[::2], turns[1::2], strict=True)]
    if not pieces:
        return {}
    style: dict[str, Any] = {"facecolor": face, "edgecolor": GREY if face == "#FFFFFF" else "#000000", "hatch": hatch, "linewidth": 0.0}
    axis.add_collection(PolyCollection(pieces, **style))
    return {label: Patch(**style)}


def _decades(axis: Any, values: Any) -> None:
    """A logarithmic axis where something is above 0, and light lines."""
    drawn = np.ma.masked_invalid(values)
    if (drawn > 0).any():
        axis.set_yscale("log", nonpositive="mask")
    else:  # marks at the edges alone
        axis.set_yticks([])
    display.grid(axis)


def _layer_axis(axis: Any, write: Callable[[str], Any], numbers: Sequence[int], names: Sequence[str]) -> None:
    """Paths of few layers, numbers of many."""
    if len(names) <= NAMED:
        long = axis.axis_name == "x" and sum(map(len, names)) > 30
        axis.set_ticks(numbers, names, **({"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}))
        write("layer (path, from the input on)")
    else:
        axis.get_major_locator().set_params(integer=True)
        write(_counted(numbers, names))


def _counted(numbers: Sequence[int], names: Sequence[str]) -> str:
    """What numbers of layers mean: the first and the last of them with their paths, of long ones the end."""
    ends = [name if len(name) <= LONG else f"...{name[3 - LONG:]}" for name in (names[0] or "(model)", names[-1] or "(model)")]
    return f"layer ({numbers[0]}: {ends[0]} ... {numbers[-1]}: {ends[1]})"


def _title(part: Any, title: str) -> None:
    part.suptitle(title, x=0.01, ha="left", fontsize="medium", fontweight="bold")


def _step_axis(axis: Any, steps: Any, label: str = "step") -> None:
    """Whole numbers."""
    axis.set_xlabel(label)
    if len(steps) == 1:
        axis.set_xticks([steps[0]])
    else:
        axis.xaxis.get_major_locator().set_params(integer=True)


def _legend(part: Any, shown: Mapping[str, Any]) -> None:
    if shown:
        part.legend(list(shown.values()), list(shown), loc="outside right upper", frameon=False)


def _last(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Lines first, then what explains marks."""
    return {name: shown[name] for name in [*(n for n in shown if n not in OF_MARKS), *(n for n in OF_MARKS if n in shown)]}


OF_MARKS: Final = tuple(OFF.values())


# ---- values
def _started(who: str, telemetry: Telemetry) -> None:
    """Raises ValueError before the first recorded step."""
    if not len(telemetry):
        raise ValueError(f"{who}: {NOT_YET}")


def _has(telemetry: Telemetry, kind: str, figure: str) -> bool:
    return any((key.kind, key.figure) == (kind, figure) for key in telemetry.figures)


def _unit(figure: str) -> str:
    return "elements" if figure == "nonfinite" else "dimensionless"


def _place(telemetry: Telemetry, step: int) -> int:
    """The place of a recorded step, counted from 0. Raises IndexRangeError."""
    if not -len(telemetry) <= step < len(telemetry):
        raise IndexRangeError(f"gradient_flow: there is no recorded step at {step}: {len(telemetry)} were recorded")
    return step % len(telemetry)


def _by_layer(telemetry: Telemetry, kind: str, figure: str) -> tuple[list[int], list[str], Any]:
    """Numbers and paths of the layers that have this figure (of parameters: of their `weight`), and its values (layers, steps).

    The input, where it was recorded, is number 0.
    """
    names, values = telemetry.matrix(kind, figure)
    order = telemetry.layers[1:]
    rows = range(len(names))
    if kind in PARAMETERS:
        weights = {name.removesuffix("weight").removesuffix("."): i for i, name in enumerate(names) if name.rpartition(".")[2] == "weight"}
        order = order or list(weights)
        names, rows = [name for name in order if name in weights], [weights[name] for name in order if name in weights]  # type: ignore[assignment]
        if not names:  # no layer's: parameters by whatever they are called
            names, values = telemetry.matrix(kind, figure)
            return list(range(1, len(names) + 1)), _literal(names), np.ma.array(values)
    numbers = [order.index(name) + 1 if name in order else 0 for name in names]
    return numbers, _literal(names), np.ma.array(values[list(rows)])


def _literal(names: Sequence[str]) -> list[str]:
    """So that matplotlib sets no formula between dollars."""
    return [name.replace("$", r"\$") for name in names]


def _pooled(steps: NDArray[np.int64], values: Any, linear: bool) -> tuple[Floats, Floats, NDArray[np.str_]]:
    """Edges of the columns of a heat map (columns + 1), its cells (layers, columns), and what is odd about each: "", "zero", "not finite"."""
    n = len(steps)
    at = steps.astype(np.float64)
    gaps = np.diff(at) if n > 1 else np.ones(1)
    edges = np.concatenate([[at[0] - gaps[0] / 2], at[:-1] + np.diff(at) / 2, [at[-1] + gaps[-1] / 2]])
    first = np.unique(np.linspace(0, n, min(n, COLUMNS), endpoint=False).astype(np.int64))
    cells = np.asarray(values)
    bad = np.add.reduceat(~np.isfinite(cells), first, axis=1, dtype=np.int64) > 0
    zero = np.zeros_like(bad) if linear else np.add.reduceat(cells == 0, first, axis=1, dtype=np.int64) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = np.where(np.isfinite(cells), cells, 0.0) if linear else np.log(np.where(np.isfinite(cells) & (cells > 0), cells, 1.0))
    means = np.add.reduceat(usual, first, axis=1) / np.diff(np.append(first, n))
    odd = np.where(bad, "not finite", np.where(zero, "zero", ""))
    return edges[np.append(first, n)], means if linear else np.exp(means), odd


def _there(telemetry: Telemetry) -> str:
    return ", ".join(dict.fromkeys(f"{key.figure} of {key.kind}" for key in telemetry.figures)) or "nothing"
