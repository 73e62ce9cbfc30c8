"""Deeper nets on narrower circles: all weights positive and tanh, or ReLU and He's rule; the ranges are those of plain NumPy."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad import nn, optim
from minigrad.data import make_circles
from minigrad.lab.circles_figures import epochs_figure
from minigrad.lab.circles_nets import ACTIVATIONS, Data, Runs, ends, judged, named_net, train_many
from minigrad.lab.experiment import Lab

Array = NDArray[Any]
EPOCHS: Final = 500
WIDTHS: Final = (2, 5, 5, 5, 5, 5, 1)
SOURCE: Final = "docs/reference/circles_companion.py"


class Range(NamedTuple):
    """Lowest and highest of eight seeds."""

    low: float
    high: float


#: By net: training loss, training accuracy, test loss, test accuracy.
FIGURES: Final = ("training loss", "training accuracy", "test loss", "test accuracy")
MEASURED: Final[dict[str, tuple[Range, ...]]] = {
    "tanh": (Range(0.4168, 0.691), Range(0.516, 0.816), Range(0.4088, 0.6978), Range(0.484, 0.816)),
    "relu": (Range(0.3577, 0.3854), Range(0.814, 0.842), Range(0.3662, 0.4181), Range(0.812, 0.85)),
}
#: By net: the deviation of each kernel's gradient, a mean over the epochs' first steps, from the input on.
DEVIATIONS: Final[dict[str, tuple[Range, ...]]] = {
    "tanh": (Range(0.01207, 0.05691), Range(0.002024, 0.03965), Range(0.0007837, 0.02764), Range(0.0006679, 0.01666), Range(0.001391, 0.01765),
             Range(0.00166, 0.02296)),
    "relu": (Range(0.1076, 0.1324), Range(0.07043, 0.1035), Range(0.0434, 0.08017), Range(0.0306, 0.05856), Range(0.02691, 0.04493),
             Range(0.04186, 0.06759)),
}
#: By which factor a median may lie outside these: that of eight seeds lies outside the range of eight others, from the same distribution, once in
#: about twenty times, and there are twelve.
WIDENING: Final = 1.1
TITLES: Final = {"tanh": "tanh, weights uniform in [0, 1)", "relu": "ReLU, He"}


def scaled_circles(count: int = 1000) -> tuple[Data, Data]:
    """Circles of radius 1 and 0.8 with noise 0.1 from RandomState(1), each column scaled to [-1, 1]: the first half and the second."""
    x, y = make_circles(count, noise=0.1, random_state=1)
    low, high = x.min(axis=0), x.max(axis=0)
    data = Data((2 * (x - low) / (high - low) - 1).astype(np.float32), y[:, None].astype(np.float32))
    half = count // 2
    return Data(data.x[:half], data.y[:half]), Data(data.x[half:], data.y[half:])


def deeper_net(name: str) -> nn.Sequential:
    """The net 2-5-5-5-5-5-1. tanh: every weight uniform in [0, 1); relu: He's uniform rule, Glorot's for the output."""
    if name == "tanh":
        return named_net(name, WIDTHS, ACTIVATIONS[name], nn.init.uniform_)
    return named_net(name, WIDTHS, ACTIVATIONS[name], partial(nn.init.kaiming_uniform_, nonlinearity="relu"), nn.init.xavier_uniform_)


def companion(lab: Lab, seeds: Sequence[int]) -> None:
    """Train both nets with every seed, and hold them against the ranges."""
    lab.say('Companion, "How to fix vanishing gradients using the ReLU": circles of radius 1 and 0.8, half of the points to train with, five hidden '
            "layers of 5, SGD with momentum. The page prints one unseeded run, so the ranges are those of eight runs in plain NumPy.")
    train, test = scaled_circles()
    epochs = 10 if lab.quick else EPOCHS
    rows, curves = [], {}
    for name, ranges in MEASURED.items():
        runs = train_many(partial(deeper_net, name), partial(optim.SGD, lr=0.01, momentum=0.9), train, seeds, epochs,
                          partial(lab.progress, what=f"companion, {TITLES[name]}"))
        found = _figures(runs, test)
        rows += [[TITLES[name], figure, np.median(values), *ends(values), f"{low:g} to {high:g}"]
                 for figure, values, (low, high) in zip(FIGURES, found, ranges, strict=True)]
        by_layer = np.median(runs.deviations(), axis=0)
        rows += [[TITLES[name], f"S.D. of dL/dW, {name}{i}", middle, *ends(runs.deviations()[:, i - 1]), f"{low:g} to {high:g}"]
                 for i, (middle, (low, high)) in enumerate(zip(by_layer, DEVIATIONS[name], strict=True), 1)]
        curves[TITLES[name]] = {str(i): np.stack([one.deviations()[layer] for one in runs.records])
                                for i, layer in enumerate(runs.records[0].gradients, 1)}
        for figure, values, wanted in zip(FIGURES, found, ranges, strict=True):
            lab.check(f"companion, {TITLES[name]}: {figure}, median", float(np.median(values)), *wanted, source=SOURCE)
        for i, (middle, (low, high)) in enumerate(zip(by_layer, DEVIATIONS[name], strict=True), 1):
            lab.check(f"companion, {TITLES[name]}: S.D. of the gradient of {name}{i}, median", float(middle), low / WIDENING, high * WIDENING,
                      source=f"{low:g} to {high:g} within a factor of {WIDENING:g}: {SOURCE}")
    lab.table(["net", "figure", "median", "lowest", "highest", "NumPy, 8 seeds"], rows, f"Companion after {epochs} epochs, {len(seeds)} seeds")
    lab.picture("001-companion", partial(epochs_figure, curves, max(1, epochs // 50)),
                "Companion: how large the gradients are over the training."
                + lab.found(" From positive weights tanh saturates, the more the further from the input, and the layers in the middle get least; "
                            "with ReLU and He's rule all layers get much the same."))


def _figures(runs: Runs, test: Data) -> list[Array]:
    """As `FIGURES`, by seed."""
    tested = np.array([judged(model, test) for model in runs.models])
    return [runs.loss, runs.accuracy, tested[:, 0], tested[:, 1]]
