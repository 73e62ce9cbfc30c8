"""The cures for vanishing and exploding gradients compared in one table, against ranges that plain NumPy measured.

docs/reference/cures_reference.py is the same comparison written out by hand; what it prints stands in docs/reference/README.md and here.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import display, nn
from minigrad.lab.circles_nets import circles
from minigrad.lab.experiment import Experiment, Lab, figure
from minigrad.lab.gradient_flow import gradient_flow
from minigrad.lab.learners import BATCH, Learner, epochs, trained
from minigrad.lab.measured_cures import FIGURES, RANGES, REFUSED, Range
from minigrad.lab.nets import dense

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE: Final = "plain NumPy, 8 seeds: docs/reference"
WIDTH: Final = 32
SEEDS: Final = 8
STEPS: Final = 600
LR: Final = 0.01
DEPTHS: Final = (20, 50)
#: A sigmoid nearer than this to 0 or 1 is saturated.
SATURATED: Final = 0.01
#: So many of the figures are measured before training.
BEFORE_TRAINING: Final = 2
#: How many more or fewer of 8 nets than in NumPy's runs may end at a gradient that is not finite.
TOLERATED: Final = 2
#: Half of the last digit that the ranges are given with, and as much again for the rounding of float32 in another order.
ROUNDING: Final = 1e-3


@dataclass(frozen=True)
class Net:
    """Hidden layers of one width: linear, normalisation, activation, and from the second on a shortcut around all three."""

    activation: type[nn.Module]
    init: str  # "glorot" or "he", both normal, or "default", uniform in +-1/sqrt(fan-in)
    norm: str = ""  # "batch" or "layer"
    residual: bool = False
    scaled: bool = False  # branches times 1/sqrt(depth)
    clip: float | None = None
    lr: float = LR

    def learner(self, depth: int, seed: int) -> Learner:
        """The net of this depth and seed, biases 0."""
        rng = np.random.default_rng(seed)
        init = {"glorot": partial(nn.init.xavier_normal_, generator=rng), "he": partial(nn.init.kaiming_normal_, generator=rng),
                "default": partial(nn.init.kaiming_uniform_, a=5**0.5, generator=rng)}[self.init]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([2, *[WIDTH] * depth]):
            norm: list[nn.Module] = [nn.BatchNorm1d(WIDTH)] if self.norm == "batch" else [nn.LayerNorm(WIDTH)] if self.norm else []
            layer = nn.Sequential(dense(fan_in, fan_out, init), *norm, self.activation())
            layers.append(nn.Residual(layer, depth**-0.5 if self.scaled else 1.0) if self.residual and layers else layer)
        return Learner(nn.Sequential(*layers, dense(WIDTH, 1, init)), self.lr, self.clip)


NETS: Final[Mapping[str, Net]] = {
    "sigmoid, Glorot": Net(nn.Sigmoid, "glorot"),
    "sigmoid, Glorot, clip 0.25": Net(nn.Sigmoid, "glorot", clip=0.25),
    "sigmoid, Glorot, batch norm": Net(nn.Sigmoid, "glorot", norm="batch"),
    "sigmoid, Glorot, layer norm": Net(nn.Sigmoid, "glorot", norm="layer"),
    "sigmoid, Glorot, residual": Net(nn.Sigmoid, "glorot", residual=True),
    "ReLU, default init": Net(nn.ReLU, "default"),
    "ReLU, Glorot": Net(nn.ReLU, "glorot"),
    "ReLU, He": Net(nn.ReLU, "he"),
    "ReLU, He, clip 0.25": Net(nn.ReLU, "he", clip=0.25),
    "ReLU, He, rate x 10": Net(nn.ReLU, "he", lr=10 * LR),
    "ReLU, default init, batch norm": Net(nn.ReLU, "default", norm="batch"),
    "ReLU, default init, layer norm": Net(nn.ReLU, "default", norm="layer"),
    "ReLU, He, residual": Net(nn.ReLU, "he", residual=True),
    "ReLU, He, residual, clip 0.25": Net(nn.ReLU, "he", residual=True, clip=0.25),
    "ReLU, He, residual, scaled": Net(nn.ReLU, "he", residual=True, scaled=True),
}
#: What the picture shows: each is one cure away from one before it.
SHOWN: Final = ("sigmoid, Glorot", "sigmoid, Glorot, batch norm", "ReLU, default init", "ReLU, He", "ReLU, default init, batch norm",
                "ReLU, He, residual", "ReLU, He, residual, scaled")


class Measured(NamedTuple):
    """Of one net and depth, all seeds: before training dL/dh by layer (seeds, layers), then what training left, NaN for nets that were refused."""

    flows: NDArray[np.float64]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    idle: NDArray[np.float64]
    refused: NDArray[np.bool_]

    def figures(self) -> list[NDArray[np.float64]]:
        """In the order of `FIGURES`; the slope is that of log10 rms(dL/dh) against the layer, above 0 if the gradient shrinks towards the input."""
        logs = np.log10(self.flows)
        slope = np.polyfit(np.arange(logs.shape[1]), logs.T, 1)[0]
        return [slope, logs[:, 0] - logs[:, -1], *(values[~self.refused] for values in (self.loss, self.accuracy, self.idle))]


def idle_share(model: nn.Module, x: NDArray[Any]) -> float:
    """The share of hidden ReLU units that are 0 on all points, or of sigmoid values that are saturated."""
    shares: list[float] = []

    def look(module: nn.Module, inputs: Any, out: mg.Tensor) -> None:
        values = out.detach().numpy()
        dead = (values == 0).all(0) if isinstance(module, nn.ReLU) else (values < SATURATED) | (values > 1 - SATURATED)
        shares.append(float(dead.mean()))

    hooks = [module.register_forward_hook(look) for module in model.modules() if isinstance(module, nn.ReLU | nn.Sigmoid)]
    with mg.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return float(np.mean(shares))


def measure(net: Net, depth: int, seeds: Sequence[int], x: NDArray[Any], y: NDArray[Any], table: NDArray[np.int64]) -> Measured:
    """Gradients before training in float64, one training for each seed in float32, and what it left."""
    exact = x.astype(np.float64), y.astype(np.float64)  # batch normalisation of many ReLU layers magnifies the rounding of float32
    flows = [gradient_flow(net.learner(depth, seed).model.double(), *exact, F.binary_cross_entropy_with_logits).rms_dh[:-1] for seed in seeds]
    learners = trained(partial(net.learner, depth), seeds, x, y, [table], look=False)
    found = []
    for one in learners:
        model = one.model.eval()
        with mg.no_grad():
            loss = F.binary_cross_entropy_with_logits(model(x), y).item() if one.refused is None else np.nan
        found.append((loss, one.accuracy(x, y), idle_share(model, x)))
    loss, accuracy, idle = np.array(found).T
    return Measured(np.array(flows), loss, accuracy, idle, np.array([one.refused is not None for one in learners]))


def check(lab: Lab, name: str, like: int, depth: int, found: Measured) -> None:
    """Each seed's figures before training and the medians of what training left against NumPy's ranges, and how many nets were refused.

    Points, order and initial weights are NumPy's; but training magnifies rounding in another order. With other seeds than NumPy's, from 0 on,
    the figures before training are held against the ranges by their medians too. The ranges are those of nets of depth `like`, which is not
    `depth` in a rehearsal.
    """
    numpys = lab.options.seed == 0
    ranges, refused = RANGES[name, like], REFUSED[name, like]
    lab.check(f"{name}, {depth} layers: nets of {len(found.refused)} that end at a gradient that is not finite", int(found.refused.sum()),
              max(0, refused - TOLERATED), min(SEEDS, refused + TOLERATED), source=SOURCE)
    for i, (what, values, wanted) in enumerate(zip(FIGURES, found.figures(), ranges, strict=True)):
        if wanted is None:
            continue
        low, high = widened(wanted)
        checked = {"lowest": np.min, "highest": np.max} if i < BEFORE_TRAINING and numpys else {"median": np.median}
        for which, of in checked.items():
            lab.check(f"{name}, {depth} layers: {what}, {which}", float(of(values)) if len(values) else np.nan, low, high, source=SOURCE)


def widened(wanted: Range) -> Range:
    """A range with room for rounding."""
    return wanted[0] - ROUNDING * max(1.0, abs(wanted[0])), wanted[1] + ROUNDING * max(1.0, abs(wanted[1]))


def run(lab: Lab) -> None:
    """The whole experiment."""
    seed = lab.options.seed
    depths, seeds, steps, points = ((3, 4), range(seed, seed + 2), 4, 64) if lab.quick else (DEPTHS, range(seed, seed + SEEDS), STEPS, 1000)
    x, y = circles(points)
    table = np.concatenate(epochs(points, steps * BATCH // points + 2, seed))[:steps]
    lab.say(f"Two noisy circles of {points:,} points, hidden layers of {WIDTH}, SGD with rate {LR} and momentum 0.9, {steps} steps of "
            f"{BATCH} points, {len(seeds)} seeds each. The slope is that of log10 rms(dL/dh) against the layer, before training: above 0 the "
            "gradient shrinks on its way to the input, below 0 it grows. A ReLU unit is dead if it is 0 on all points; a sigmoid is saturated within "
            f"{SATURATED} of 0 or 1.")
    results: dict[int, dict[str, Measured]] = {}
    for depth in depths:
        results[depth] = {name: measure(net, depth, seeds, x, y, table) for name, net in lab.progress(NETS.items(), f"{depth} layers")}
        lab.table(["net", *FIGURES, "not finite"], [[name, *(medians(values) for values in found.figures()), f"{found.refused.sum()} of {len(seeds)}"]
                                                    for name, found in results[depth].items()], f"{depth} hidden layers, medians")
    for like, (depth, found) in zip(DEPTHS, results.items(), strict=True):
        for name, one in found.items():
            check(lab, name, like, depth, one)
    if not lab.quick:
        lab.say("Of the sigmoid nets only those with batch normalisation learn; shortcuts bring the gradient through as well, but training saturates "
                "them. ReLU nets lose the gradient with default and with Glorot's initial weights, and keep it with He's, which 20 layers learn "
                "with; 50 need clipping beside. A rate ten times as large leaves more than half of all ReLU units dead. Residual branches of scale 1 "
                "explode; clipping makes their steps finite, it does not make them learn. Scaled by 1/sqrt(depth) they learn at both depths.")
    lab.picture("flow", lambda: flow_figure(results), "rms(dL/dh) by layer before training, median of the seeds. On a straight line each layer "
                "multiplies it by the same factor.")
    lab.picture("accuracy", lambda: accuracy_figure(results), "Accuracy after training: each dot is a net, the bar the median. Nets whose gradients "
                "were not finite are left out.")


def medians(values: NDArray[np.float64]) -> str:
    """To three digits; a dash of nothing."""
    return f"{np.median(values):.3g}" if len(values) else "-"


def flow_figure(results: Mapping[int, Mapping[str, Measured]]) -> Figure:
    """rms(dL/dh) by layer, a panel for each depth."""
    picture = figure("cures", 12.0, 5.0)
    axes = picture.subplots(1, len(results), squeeze=False)[0]
    for axis, (depth, found) in zip(axes, results.items(), strict=True):
        for name, colour, marker in zip(SHOWN, display.PALETTE, display.MARKERS, strict=True):
            values = np.median(found[name].flows, axis=0)
            axis.plot(range(1, depth + 1), values, color=colour, marker=marker, markersize=4, markevery=max(1, depth // 10), linewidth=1.5,
                      label=name)
        axis.set_xticks([1, *range(10, depth + 1, 10)])
        axis.set(title=f"{depth} hidden layers", xlabel="layer (1 is next to the input)", ylabel="rms(dL/dh) (dimensionless)", yscale="log")
        display.grid(axis)
    picture.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return picture


def accuracy_figure(results: Mapping[int, Mapping[str, Measured]]) -> Figure:
    """Accuracy of each net, a line of dots for each cure."""
    picture = figure("cures", 10.0, 5.6)
    axis = picture.subplots()
    for shift, (depth, found), colour, marker in zip((-0.16, 0.16), results.items(), display.PALETTE, display.MARKERS, strict=False):
        for row, one in enumerate(found.values()):
            values = one.accuracy[~one.refused]
            axis.plot(values, np.full(len(values), row + shift), color=colour, marker=marker, markersize=5, alpha=0.6, linestyle="none",
                      label=f"{depth} hidden layers" if not row else None)
            if not len(values):
                axis.text(0.5 + shift / 4, row, "not finite", color=colour, fontsize="small", ha="right" if shift < 0 else "left", va="center")
            else:
                axis.plot([np.median(values)] * 2, [row + shift - 0.16, row + shift + 0.16], color=colour, linewidth=2)
    axis.set_yticks(range(len(NETS)), NETS)
    axis.invert_yaxis()
    axis.set(xlabel="accuracy (share of points)", ylabel="net", xlim=(0.4, 1.02))
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return picture


EXPERIMENT: Final = Experiment("cures", "cures", "activation, initial weights, normalisation, shortcuts and clipping in one table", run)
