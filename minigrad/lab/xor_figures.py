"""The figures of experiment 004."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minigrad import display
from minigrad.lab.experiment import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 1000


def loss_figure(losses: Mapping[str, NDArray[Any]]) -> Figure:
    """The loss of an epoch against its number."""
    picture = figure("xor", 8.5, 4.6)
    axis = picture.subplots()
    for (name, values), colour, marker in zip(losses.items(), display.PALETTE, display.MARKERS, strict=False):
        epochs = np.unique(np.geomspace(1, len(values), POINTS).astype(int))
        axis.plot(epochs, values[epochs - 1], color=colour, linewidth=1.5)
        axis.plot([len(values)], [values[-1]], color=colour, marker=marker, linestyle="none")
        axis.plot([], [], color=colour, marker=marker, linewidth=1.5, label=name)
    axis.set(xlabel="epoch (4 steps of one corner each)", ylabel="loss of an epoch (sum of squared errors / 2)", xscale="log", yscale="log")
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture


def gradient_figure(norms: Mapping[str, NDArray[Any]]) -> Figure:
    """|dL/dW| by layer over that of the last, a line for each net."""
    picture = figure("xor", 8.5, 4.2)
    axis = picture.subplots()
    for (name, values), colour, marker in zip(norms.items(), display.PALETTE, display.MARKERS, strict=False):
        axis.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=5, linewidth=1.5, label=name)
        axis.set_xticks(range(1, len(values) + 1))
    axis.set(xlabel="layer (1 is next to the input)", ylabel="|dL/dW| over that of the last layer (dimensionless)", yscale="log")
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture


def solved_figure(depths: Sequence[int], counts: Mapping[str, Sequence[int]], seeds: int) -> Figure:
    """The share of nets solved against depth, a line for each kind; lines that would coincide are set apart a little."""
    picture = figure("xor", 9.0, 4.6)
    axis = picture.subplots()
    for i, ((name, row), colour, marker) in enumerate(zip(counts.items(), display.PALETTE, display.MARKERS, strict=False)):
        shift = 0.08 * (i - (len(counts) - 1) / 2)
        axis.plot(np.array(depths) + shift, np.array(row) / seeds, color=colour, marker=marker, markersize=5, linewidth=1.2, label=name)
    axis.set(xlabel="hidden layers (number)", ylabel="nets solved (share)", ylim=(-0.04, 1.04))
    axis.set_xticks(depths)
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture
