"""Experiment 005: residual blocks that explode, what clipping does about it and what branch scaling does; and why |dL/dW| does not show it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import display, nn
from minigrad.autograd import grad
from minigrad.lab.circles_nets import circles
from minigrad.lab.experiment import Experiment, Lab, figure
from minigrad.lab.gradient_flow import Flow, gradient_flow
from minigrad.lab.learners import Learner, epochs, trained
from minigrad.lab.nets import dense, weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE: Final = "five runs with another framework"
ALGEBRA: Final = "the algebra of homogeneous functions"
WIDTH: Final = 32
SEEDS: Final = 5
EPOCHS: Final = 20
SOLVED: Final = 0.97
CLIP: Final = 0.25
DEPTHS: Final = (10, 20)
#: What PyTorch's default uniform initial weights, and minigrad's, amount to: deviation gain / sqrt(fan-in).
DEFAULT_GAIN: Final = 3**-0.5


class Variant(NamedTuple):
    """One way to train the blocks."""

    name: str
    scaled: bool = False
    clip: float | None = None


VARIANTS: Final = (Variant("plain"), Variant(f"clip {CLIP}", clip=CLIP), Variant("scale 1/sqrt(L)", scaled=True))


def blocks(count: int, scale: float, seed: int) -> nn.Sequential:
    """Linear(2, 32), `count` blocks h + scale * relu(Linear(32, 32)(h)) by He's rule (He et al. 2015) and biases 0, Linear(32, 1)."""
    rng = np.random.default_rng(seed)
    he, uniform = partial(nn.init.kaiming_normal_, generator=rng), partial(nn.init.kaiming_uniform_, a=5**0.5, generator=rng)
    return nn.Sequential(dense(2, WIDTH, uniform), *(nn.Residual(nn.Sequential(dense(WIDTH, WIDTH, he), nn.ReLU()), scale) for _ in range(count)),
                         dense(WIDTH, 1, uniform))


def learner(depth: int, variant: Variant, seed: int) -> Learner:
    """The net of this depth and seed, to be trained in this way."""
    return Learner(blocks(depth, depth**-0.5 if variant.scaled else 1.0, seed), clip=variant.clip)


class Chain(NamedTuple):
    """Of a chain without biases: <W, dL/dW> of each layer, and the flow through it."""

    pairings: NDArray[np.float64]
    flow: Flow


def chain(depth: int, width: int, gain: float, seed: int, rows: int = 64) -> Chain:
    """ReLU layers of one width without biases, in float64, weights normal with deviation gain / sqrt(width); the last output is the logits."""
    rng = np.random.default_rng(seed)
    init = partial(nn.init.normal_, std=gain * width**-0.5, generator=rng)
    model = nn.Sequential(*(nn.Sequential(dense(width, width, init, bias=False, dtype=mg.float64), nn.ReLU()) for _ in range(depth)))
    x, y = rng.standard_normal((rows, width)), rng.integers(0, width, rows)
    flow = gradient_flow(model, x, y)
    F.cross_entropy(model(x), y).backward()
    return Chain(np.array([np.vdot(weight.detach().numpy(), np.asarray(weight.grad)) for weight in weights(model)]), flow)


def spread(pairings: NDArray[np.float64]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.ptp(pairings) / np.abs(pairings).max())


def glorot_ratio(seed: int, depth: int = 20, width: int = 128, rows: int = 128) -> float:
    """Var(dL/dh) of the first layer over that of the last, in a linear net of equal widths with Glorot's initial weights."""
    rng = np.random.default_rng(seed)
    glorot = partial(nn.init.xavier_normal_, generator=rng)
    h = mg.tensor(rng.standard_normal((rows, width)), dtype=mg.float64)
    outputs = []
    for _ in range(depth):
        h = dense(width, width, glorot, dtype=mg.float64)(h)
        outputs.append(h)
    first, last = grad(F.cross_entropy(h, rng.integers(0, width, rows)), [outputs[0], outputs[-1]])
    return float(np.var(np.asarray(first)) / np.var(np.asarray(last)))


def decades(values: list[float]) -> float:
    """By how many decades the last exceeds the first."""
    return float(np.log10(values[-1] / values[0]))


def learns(one: Learner) -> bool:
    """Whether it was trained to the end and tells the circles apart."""
    return one.refused is None and one.accuracies[-1] >= SOLVED


def refusals(learners: Sequence[Learner]) -> list[int]:
    """The steps at which nets were refused."""
    return [one.refused for one in learners if one.refused is not None]


def check(lab: Lab, at: int, depth: int, found: Mapping[str, list[Learner]]) -> None:
    """Compare nets of this depth with the table of five runs: with that of `DEPTHS[at]`, which is another one in a rehearsal."""
    nets = f"nets of {len(next(iter(found.values())))}"
    solved = {name: sum(map(learns, learners)) for name, learners in found.items()}
    ended = {name: refusals(learners) for name, learners in found.items()}
    plain, clipped, scaled = found
    if at == 0:
        lab.check(f"L = {depth}, {plain}: {nets} that reach {SOLVED:.0%}", solved[plain], 3, SEEDS, source=f"{SOURCE}: 4")
        lab.check(f"L = {depth}, {clipped}: {nets} that reach {SOLVED:.0%}", solved[clipped], 4, SEEDS, source=f"{SOURCE}: 5")
        return
    lab.check(f"L = {depth}, {plain}: {nets} with a gradient that is not finite", len(ended[plain]), SEEDS, SEEDS, source=SOURCE)
    lab.check(f"L = {depth}, {plain}: last step at which that happens", max(ended[plain], default=np.inf), 1, 11, source=SOURCE)
    lab.check(f"L = {depth}, {clipped}: {nets} with a gradient that is not finite", len(ended[clipped]), 0, 0, source=SOURCE)
    lab.check(f"L = {depth}, {clipped}: best accuracy", max(one.accuracies[-1] for one in found[clipped]), high=0.585,
              source=f"{SOURCE}: at most 0.58")
    lab.check(f"L = {depth}, {scaled}: least accuracy", min(one.accuracies[-1] for one in found[scaled]), low=SOLVED, source=SOURCE)


def run(lab: Lab) -> None:
    """The whole experiment."""
    seed = lab.options.seed
    seeds, count, depths, points = (range(seed, seed + 2), 1, (3, 4), 64) if lab.quick else (range(seed, seed + SEEDS), EPOCHS, DEPTHS, 1000)
    x, y = circles(points)
    tables = epochs(points, count, seed)
    lab.say(f"Two noisy circles of {points:,} points; Linear(2, {WIDTH}), L blocks h + scale * relu(Linear({WIDTH}, {WIDTH})(h)), "
            f"Linear({WIDTH}, 1); He's initial weights in the blocks, default ones in the other two; SGD, rate 0.01, momentum 0.9, "
            f"{count} epoch{'s' * (count != 1)} in batches of 32, {len(seeds)} seeds.")
    results = {depth: {variant.name: trained(partial(learner, depth, variant), seeds, x, y, tables)
                       for variant in lab.progress(VARIANTS, f"{depth} blocks")} for depth in depths}
    lab.table(["L", "variant", f"reach {SOLVED:.0%}", "not finite", "at step", "accuracies"],
              [[depth, name, sum(map(learns, learners)), len(refusals(learners)), ", ".join(map(str, refusals(learners))) or "-",
                ", ".join(f"{one.accuracies[-1]:.3f}" if one.refused is None else "-" for one in learners)]
               for depth, found in results.items() for name, learners in found.items()], f"Of {len(seeds)} nets each")
    for at, (depth, found) in enumerate(results.items()):
        check(lab, at, depth, found)
    lab.say(lab.found("Clipping keeps each step finite, it does not make an exploding net learn. Scaling the branches does."))
    homogeneity(lab)
    glorot(lab)
    deep = depths[-1]
    flows = {f"{deep} blocks, scale 1": gradient_flow(blocks(deep, 1.0, seed), x, y, F.binary_cross_entropy_with_logits),
             f"{deep} blocks, scale 1/sqrt(L)": gradient_flow(blocks(deep, deep**-0.5, seed), x, y, F.binary_cross_entropy_with_logits),
             "20 ReLU layers, gain 1/sqrt(3)": chain(20, 64, DEFAULT_GAIN, seed).flow}
    lab.picture("flow", lambda: flow_figure(flows), "Before training." + lab.found(
        " Blocks of scale 1 multiply signal and gradient by a constant factor each; blocks of scale 1/sqrt(L) keep both.")
        + " In a plain chain with default weights signal and gradient both die, and |dL/dW| shows nothing of it.")
    lab.picture("training", lambda: training_figure(results), "Median and range, over the seeds, of the cost of each step and of the accuracy after "
                "each epoch. At a cross the gradients of a net were not finite, and its training ended.")


def homogeneity(lab: Lab) -> None:
    """<W, dL/dW> is the same in each layer, so that |dL/dW| looks healthy while signal and gradient die."""
    chains = [chain(20, 64, DEFAULT_GAIN, lab.options.seed + i) for i in range(2 if lab.quick else 9)]
    flow = chains[0].flow
    lab.table(["layer", "<W, dL/dW>", "|dL/dW|", "rms(h)", "rms(dL/dh)"],
              [[i, f"{chains[0].pairings[i - 1]:.15e}", flow.norm_dw[i - 1], flow.rms_h[i - 1], flow.rms_dh[i - 1]] for i in (1, 5, 10, 15, 20)],
              "20 ReLU layers of 64 without biases, weights of gain 1/sqrt(3), as default initial values have; float64, cross-entropy")
    lab.check(f"largest relative difference of <W, dL/dW> between layers, {len(chains)} seeds", max(spread(one.pairings) for one in chains),
              high=1e-12, source=ALGEBRA)
    ratio = float(np.median([one.flow.norm_dw[0] / one.flow.norm_dw[-1] for one in chains]))
    lab.check("|dL/dW| of the first layer over the last, median", ratio, 0.5, 2.0, source="0.97 measured with another framework")
    for what, values in (("rms(h) loses on its way up", [-decades(one.flow.rms_h) for one in chains]),
                         ("rms(dL/dh) loses on its way down", [decades(one.flow.rms_dh) for one in chains])):
        lab.check(f"decades that {what}, median", float(np.median(values)), 7.0, 8.0, source="7 to 8 measured with another framework")
    lab.say(f"The gradients of the weights have one size from the first layer to the last (ratio {ratio:.2f}), while signal and gradient lose seven "
            "decades: |dL/dW| alone calls a dead net healthy.")


def glorot(lab: Lab) -> None:
    """Glorot's rule keeps the variance of the gradient in a linear net."""
    ratios = [glorot_ratio(lab.options.seed + i) for i in range(2 if lab.quick else 20)]
    lab.say(f"Var(dL/dh) of the first of 20 linear layers of 128 over that of the last, Glorot's initial weights, {len(ratios)} seeds: "
            f"{min(ratios):.3f} to {max(ratios):.3f}, median {np.median(ratios):.3f}.")
    for what, value in (("least", min(ratios)), ("largest", max(ratios))):
        lab.check(f"{what} Var(dL/dh) first/last in a linear net with Glorot's weights", value, 0.5, 2.0, source="Glorot and Bengio 2010: 1")


def flow_figure(flows: Mapping[str, Flow]) -> Figure:
    """rms(h), rms(dL/dh) and |dL/dW| by layer."""
    picture = figure("005", 12.0, 4.4)
    axes = picture.subplots(1, 3)
    for axis, key, label in zip(axes, ("rms_h", "rms_dh", "norm_dw"), ("rms(h)", "rms(dL/dh)", "|dL/dW|"), strict=True):
        for (name, flow), colour, marker in zip(flows.items(), display.PALETTE, display.MARKERS, strict=False):
            values = getattr(flow, key)
            axis.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=name)
        axis.set(xlabel="layer (1 is next to the input)", ylabel=f"{label} (dimensionless)", yscale="log")
        axis.set_xticks([1, *range(5, max(len(flow.rms_h) for flow in flows.values()) + 1, 5)])
        display.grid(axis)
    picture.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return picture


def padded(each: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Rows as long as the longest, NaN where one has ended."""
    values = np.full((len(each), max(map(len, each))), np.nan)
    for row, known in zip(values, each, strict=True):
        row[:len(known)] = known
    return values


def training_figure(results: Mapping[int, Mapping[str, list[Learner]]]) -> Figure:
    """Cost by step above and accuracy by epoch below, a column for each depth."""
    picture = figure("005", 11.0, 7.0)
    axes = picture.subplots(2, len(results), squeeze=False)
    for (above, below), (depth, found) in zip(axes.T, results.items(), strict=True):
        for (name, learners), colour, marker in zip(found.items(), display.PALETTE, display.MARKERS, strict=False):
            for axis, each, first in ((above, [one.costs for one in learners], 1), (below, [one.accuracies for one in learners], 0)):
                values = padded(each)
                at = np.arange(first, first + values.shape[1])
                axis.plot(at, np.nanmedian(values, 0), color=colour, linewidth=1.5, label=name, marker=marker if axis is below else None,
                          markersize=4)
                axis.fill_between(at, np.nanmin(values, 0), np.nanmax(values, 0), color=colour, alpha=0.2, linewidth=0)
            ends = [(len(one.costs), one.costs[-1]) for one in learners if one.refused is not None and one.costs]
            if ends:
                above.plot(*zip(*ends, strict=True), color=colour, marker="x", linestyle="none")
        above.set(title=f"{depth} blocks", xlabel="training step", ylabel="cost of the batch (nats)", xscale="log", yscale="log")
        below.set(xlabel="epoch", ylabel="accuracy (share of points)", ylim=(0.4, 1.02))
        below.xaxis.get_major_locator().set_params(integer=True)
        for axis in (above, below):
            display.grid(axis)
    picture.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return picture


EXPERIMENT: Final = Experiment("005", "explosion", "residual blocks that explode, clipped and scaled; and why |dL/dW| does not show a dead net", run)
