"""Throughput and first call against depth, from the rows of the deep-L-w32 workloads."""
from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from minigrad.bench.peers import CONTESTANTS
from minigrad.bench.report import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = "deep-*-w32"
# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that fades on white
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#332288", "#882255")
MARKERS = "osDv^<>PXh"
# Title, y axis, and the Row's field
PANELS = (
    ("Training throughput", "samples per second", "samples_per_s"),
    ("Arithmetic throughput", "GFLOP/s in matrix products", "gflops"),
    ("First call, with compilation", "seconds", "first_call_s"),
)


def by_contestant(found: Sequence[Row]) -> dict[str, list[Row]]:
    """The series of each contestant, by depth."""
    chosen = sorted((row for row in found if fnmatchcase(row.work, SERIES)), key=lambda row: row.depth)
    names = dict.fromkeys([contestant.name for contestant in CONTESTANTS] + [row.contestant for row in chosen])
    series = {name: [row for row in chosen if row.contestant == name] for name in names}
    return {name: line for name, line in series.items() if line}


def depth_figure(found: Sequence[Row], peak: float | None) -> Figure:
    """Three log-log panels over depth, with one legend beside them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    series = by_contestant(found)
    if not series:
        raise ValueError(f"no {SERIES} row to plot: run the bench with --workloads '{SERIES}'")
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    order = list(dict.fromkeys([contestant.name for contestant in CONTESTANTS] + list(series)))
    for axis, (title, label, field) in zip(axes, PANELS, strict=True):
        for name, line in series.items():
            style = order.index(name) % len(PALETTE)
            depths, values = [row.depth for row in line], [getattr(row, field) for row in line]
            axis.plot(depths, values, color=PALETTE[style], marker=MARKERS[style], markersize=5, linewidth=1.5, label=name)
        axis.set(xscale="log", yscale="log", xlabel="depth (hidden layers of width 32, batch 32)", ylabel=label, title=title)
        axis.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
        axis.set_axisbelow(True)
    if peak:
        share = axes[1].secondary_yaxis("right", functions=(lambda gflops: gflops / peak * 100, lambda percent: percent * peak / 100))
        share.set_ylabel("share of the measured FMA peak (%)")
        share.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def save_depth_plot(path: Path, found: Sequence[Row], peak: float | None) -> None:
    """The figure as a file, in the format of its suffix."""
    figure = depth_figure(found, peak)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
