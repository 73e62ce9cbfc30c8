"""The demo's two pictures, from what stands in its JSON."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from minigrad import display
from minigrad.display import grid as grid
from minigrad.lab.gradient_flow import Flow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of even lightness, for colour-blind readers as for grey prints.
COLOUR_MAP: Final = "cividis"
PANELS: Final = (("rms_h", "rms(h)"), ("rms_dh", "rms(dL/dh)"), ("norm_dw", "|dL/dW|"))


def flow_figure(nets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Above, rms(dL/dh) by layer and training step, a map for each net; below, all three figures by layer before training."""
    from matplotlib.colors import LogNorm

    figure = display.figure("flow_figure", 12, 7.5)
    axes = figure.subplots(2, 3)
    maps = {name: np.ma.masked_less_equal(np.array(net["flow"]["rms_dh"]).T, 0.0) for name, net in nets.items()}
    norm = LogNorm(min(m.min() for m in maps.values()), max(m.max() for m in maps.values()))
    for axis, (name, values) in zip(axes[0], maps.items(), strict=True):
        steps = nets[name]["flow"]["step"]
        mesh = axis.pcolormesh(steps, range(1, len(values) + 1), values, norm=norm, cmap=COLOUR_MAP, shading="nearest")
        title = f"{name}: {nets[name]['accuracy']:.1%} of held-out digits right"
        axis.set(title=title, xlabel="training step", ylabel="layer (1 is next to the input)")
        layer_ticks(axis.yaxis, len(values))
    figure.colorbar(mesh, ax=axes[0], label="rms(dL/dh)")
    for axis, (key, label) in zip(axes[1], PANELS, strict=True):
        for (name, net), colour, marker in zip(nets.items(), display.PALETTE, display.MARKERS, strict=False):
            values = np.ma.masked_less_equal(net["flow"][key][0], 0.0)
            axis.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name)
        axis.set(title=f"{label} before training", xlabel="layer (1 is next to the input)", ylabel=f"{label} (dimensionless)", yscale="log")
        layer_ticks(axis.xaxis, len(values))
        grid(axis)
    figure.legend(*axes[1][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def speed_figure(rows: Sequence[Mapping[str, Any]], width: int, batch: int) -> Figure:
    """Samples per second against depth, for each way to run the step."""
    figure = display.figure("speed_figure", 8, 4.8)
    axis = figure.subplots()
    for mode, colour, marker in zip(dict.fromkeys(row["mode"] for row in rows), display.PALETTE, display.MARKERS, strict=False):
        line = [(row["depth"], row["samples_per_s"]) for row in rows if row["mode"] == mode]
        axis.plot(*zip(*line, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.5, label=mode)
    axis.set(xscale="log", yscale="log", title="Training throughput against depth",
             xlabel=f"depth (hidden layers of width {width}, batch {batch})", ylabel="samples per second")
    depths = sorted({row["depth"] for row in rows})
    axis.set_xticks(depths, map(str, depths))
    axis.minorticks_off()
    grid(axis)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def layers_figure(flows: Mapping[str, Flow]) -> Figure:
    """How large the gradient is that arrives at each layer, rms(dL/dh), a line for each of up to seven nets."""
    figure = display.figure("layers_figure", 8.5, 3.8)
    axis = figure.subplots()
    for (name, flow), colour, marker in zip(flows.items(), display.PALETTE, display.MARKERS, strict=False):
        values = np.ma.masked_less_equal(flow.rms_dh, 0.0)
        axis.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name)
    axis.set(xlabel="layer (1 is next to the input)", ylabel="gradient, rms(dL/dh) (dimensionless)", yscale="log")
    layer_ticks(axis.xaxis, max(len(flow.rms_dh) for flow in flows.values()))
    grid(axis)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def layer_ticks(axis: Any, layers: int) -> None:
    """The first layer, and every fifth."""
    axis.set_ticks([1, *range(5, layers + 1, 5)])


def save(figure: Figure, path: Path) -> None:
    """Write the picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
