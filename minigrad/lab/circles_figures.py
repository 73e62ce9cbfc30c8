"""The pictures of the circles: data, kernels and their gradients over the epochs, and gradients over the layers."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from minigrad.display import MARKERS, PALETTE, grid
from minigrad.lab.circles_nets import Data, Records, WeightCapture
from minigrad.lab.experiment import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
WHO: Final = "001"


def data_figure(data: Data) -> Figure:
    """The points, by circle."""
    made = figure(WHO, 7.5, 5)
    axis = made.subplots()
    for circle, name in enumerate(("outer circle, 0", "inner circle, 1")):
        points = data.x[data.y[:, 0] == circle]
        axis.scatter(points[:, 0], points[:, 1], s=12, color=PALETTE[circle], marker=MARKERS[circle], alpha=0.7, linewidths=0, label=name)
    axis.set(title=f"Two circles, {len(data.x)} points", xlabel="first input (dimensionless)", ylabel="second input (dimensionless)")
    axis.set_aspect("equal", adjustable="datalim")
    return _finished(made, [axis])


def weights_figure(title: str, capture: WeightCapture) -> Figure:
    """Mean and standard deviation of each kernel after each epoch."""
    made = figure(WHO, 8, 10)
    axes = made.subplots(2, 1, sharex=True)
    kernels = {name: np.stack([kept[name] for kept in capture.weights]) for name in capture.weights[0]}
    for axis, what in zip(axes, ("mean", "S.D."), strict=True):
        _lines(axis, capture.epochs, {name: (w.mean(axis=(1, 2)) if what == "mean" else w.std(axis=(1, 2))) for name, w in kernels.items()})
        axis.set(title=f"{title}: {what} of each kernel", ylabel=f"{what} of the weights (dimensionless)")
    axes[1].set_xlabel("epoch (-1 is before training)")
    return _finished(made, axes)


def gradients_figure(title: str, records: Records) -> Figure:
    """Mean and standard deviation of each kernel's gradient, and the loss, at the first step of each epoch and at the last step."""
    made = figure(WHO, 8, 12)
    axes = made.subplots(3, 1, sharex=True)
    at = range(len(records.losses))
    _lines(axes[0], at, records.means())
    axes[0].set(title=f"{title}: mean of each kernel's gradient", ylabel="mean of dL/dW (dimensionless)")
    _lines(axes[1], at, records.deviations())
    axes[1].set(title="S.D. of each kernel's gradient", ylabel="S.D. of dL/dW (dimensionless)", yscale="log")
    axes[2].plot(at, records.losses, color=PALETTE[-1], linewidth=1.2)
    axes[2].set(title="Loss of the batch", ylabel="binary cross-entropy (nats)",
                xlabel=f"epoch, at its first step ({at[-1]} is the last step of all)")
    return _finished(made, axes)


def layers_figure(runs: Mapping[str, Mapping[str, Array]]) -> Figure:
    """S.D. of each kernel's gradient by layer, a panel for each activation, a line for each initialisation: median and range of the seeds.

    runs: by activation and initialisation, what `Runs.deviations` gives.
    """
    made = figure(WHO, 10, 4.6)
    axes = made.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axis, (name, by_init) in zip(axes, runs.items(), strict=True):
        for init, colour, marker, shift in zip(by_init, PALETTE, MARKERS, (-0.06, 0.06), strict=False):
            found = by_init[init]
            middle = np.median(found, axis=0)
            layers = np.arange(1, len(middle) + 1)
            axis.errorbar(layers + shift, middle, np.stack([middle - found.min(axis=0), found.max(axis=0) - middle]), color=colour, marker=marker,
                          markersize=5, linewidth=1.5, elinewidth=0.8, capsize=2, label=init)
        axis.set(title=name, xlabel="layer (1 is next to the input)", yscale="log")
        axis.set_xticks(layers)
    axes[0].set_ylabel("S.D. of dL/dW, mean over epochs (dimensionless)")
    return _finished(made, axes)


def epochs_figure(runs: Mapping[str, Mapping[str, Array]], block: int) -> Figure:
    """S.D. of each kernel's gradient over the epochs, a panel for each net; means of `block` epochs, medians of the seeds.

    runs: by net and layer, arrays (seeds, epochs).
    """
    made = figure(WHO, 10, 4.5)
    axes = made.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axis, (name, layers) in zip(axes, runs.items(), strict=True):
        lines = {}
        for layer, found in layers.items():
            whole = found.shape[1] // block * block
            lines[f"layer {layer}"] = np.median(found[:, :whole].reshape(len(found), -1, block).mean(axis=2), axis=0)
        _lines(axis, np.arange(len(next(iter(lines.values())))) * block + block / 2, lines)
        axis.set(title=name, xlabel="epoch", yscale="log")
    axes[0].set_ylabel("S.D. of dL/dW (dimensionless)")
    return _finished(made, axes)


def _lines(axis: Any, at: Sequence[float] | Array, values: Mapping[str, Any]) -> None:
    """A line for each layer, with a marker every so often."""
    every = max(1, len(at) // 10)
    for i, (name, line) in enumerate(values.items()):
        axis.plot(at, line, color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], markevery=(i * every // max(len(values), 1), every),
                  markersize=5, linewidth=1.2, label=name)


def _finished(made: Figure, axes: Sequence[Any]) -> Figure:
    for axis in axes:
        grid(axis)
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return made
