"""Experiment 003: a deep sigmoid net on handwritten digits, which stays on a plateau for thousands of steps before it learns anything.

After vanishing.py and util.py of lazyprogrammer's unsupervised_class2, a Theano program: its net, initial weights, optimiser and output.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import display, nn, optim
from minigrad.data import Split, index_batches, load_digits, load_mnist, read_csv
from minigrad.lab.experiment import Experiment, Lab, figure
from minigrad.lab.nets import dense, weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN: Final = (1000, 750, 500)
#: Of the stand-in, a tenth.
SMALL: Final = (100, 75, 50)
CLASSES: Final = 10
LR: Final = 0.01
MOMENTUM: Final = 0.99
BATCH: Final = 100
STEPS: Final = 12_300
HELD_OUT: Final = 1000
PLATEAU: Final = (2.28, 2.36)
PLATEAU_ERROR: Final = (0.82, 0.95)
#: Of the source's net: parameters, and the deviation of each layer's initial weights.
PARAMETERS: Final = 1_916_260
DEVIATIONS: Final = (0.02368, 0.02390, 0.02828, 0.04428)
#: Rows of the source's training half, and of ours, from which the ranges are.
PUBLISHED_ROWS: Final = 41_000
MEASURED_ROWS: Final = 9_000
PUBLISHED: Final = "the source's output"
MEASURED: Final = "two runs of the recipe on these digits with another framework"
SMOOTHED: Final = 10


class Training(NamedTuple):
    """One training: cost and error of the batch at each step, mean |W_t - W_t-1| of each layer (layers, steps), error on held-out digits."""

    cost: NDArray[np.float64]
    error: NDArray[np.float64]
    moved: NDArray[np.float64]
    test_error: float
    steps_per_epoch: int

    def epochs(self) -> NDArray[np.float64]:
        """The median cost of each epoch, a last part of one included."""
        return np.array([np.median(self.cost[at:at + self.steps_per_epoch]) for at in range(0, len(self.cost), self.steps_per_epoch)])

    def under(self, cost: float) -> float:
        """The first step at which the mean of ten costs is below this one; infinite if none is."""
        smooth = np.convolve(self.cost, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
        return float(np.argmax(smooth < cost)) if (smooth < cost).any() else np.inf


def mlp(widths: Sequence[int], activation: Callable[[], nn.Module], rng: np.random.Generator) -> nn.Sequential:
    """Dense layers, an activation behind each but the last; weights normal with deviation 1/sqrt(fan-in + fan-out), biases 0."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        init = partial(nn.init.normal_, std=(fan_in + fan_out) ** -0.5, generator=rng)
        layers += [dense(fan_in, fan_out, init), activation()]
    return nn.Sequential(*layers[:-1])


def training_step(model: nn.Sequential, opt: optim.SGD) -> Callable[[Any, Any], tuple[mg.Tensor, mg.Tensor, list[mg.Tensor]]]:
    """A step that gives cost, error and, of the step before it, sum |W_t - W_t-1| of each layer over the rate.

    The update is the rate times the velocity, so that one pass over the velocities, before they move on, says how far weights have moved.
    """
    velocities = [opt.state[weight]["momentum_buffer"] for weight in weights(model)]

    def step(x: Any, y: Any) -> tuple[mg.Tensor, mg.Tensor, list[mg.Tensor]]:
        opt.zero_grad()
        logits = model(x)
        cost = F.cross_entropy(logits, y)
        error = (logits.argmax(1) != y).astype(mg.float32).mean()
        cost.backward()
        moved = [mg.norm(velocity, p=1, dim=1).sum() for velocity in velocities]
        opt.step()
        return cost, error, moved

    return step


def train(data: Split, hidden: Sequence[int], steps: int, activation: Callable[[], nn.Module] = nn.Sigmoid, seed: int = 0,
          tell: Callable[[str], object] | None = None) -> Training:
    """Train by the source's recipe, each epoch natively and in a new order; in the source's words, tell of about every hundredth batch."""
    rng = np.random.default_rng(seed)
    model = mlp([data.x_train.shape[1], *hidden, CLASSES], activation, rng)
    opt = optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    x, y = data.x_train, data.y_train
    costs: list[float] = []
    errors: list[float] = []
    sums: list[NDArray[np.float64]] = []
    step = None
    while len(costs) < steps:
        table = index_batches(len(x), BATCH, rng)[0]
        batches, begin = len(table), len(costs)
        table = table[:steps - begin]
        if step is None:  # the first step makes the velocities, which the others read
            logits = model(x[table[0]])
            cost = F.cross_entropy(logits, y[table[0]])
            cost.backward()
            opt.step()
            costs.append(cost.item())
            errors.append(float(np.mean(logits.detach().numpy().argmax(1) != y[table[0]])))
            step, table = mg.capture(training_step(model, opt)), table[1:]
        if len(table):
            cost, error, moved = step.scan(x, y, index=table)
            costs += cost.tolist()
            errors += error.tolist()
            sums.append(np.stack([layer.numpy() for layer in moved]))
        if tell is not None and begin // batches % max(1, 100 // batches) == 0:
            for j in range(0, len(costs) - begin, 100):
                tell(f"j / n_batches: {j} / {batches} cost: {costs[begin + j]:.6f} error: {errors[begin + j]:.2f}")
    last = [[np.abs(opt.state[weight]["momentum_buffer"].numpy()).sum(dtype=np.float64)] for weight in weights(model)]
    sizes = np.array([[weight.numel()] for weight in weights(model)])
    with mg.no_grad():
        wrong = model(data.x_test).numpy().argmax(1) != data.y_test
    return Training(np.array(costs), np.array(errors), LR * np.concatenate([*sums, last], axis=1) / sizes, float(wrong.mean()), batches)


def digits(options: argparse.Namespace) -> tuple[Split, str]:
    """What to train on, and its name: the CSV file or the IDX files that were asked for, at most as many rows as the source, or the 8x8 digits."""
    csv: Path | None = getattr(options, "csv", None)
    if csv is None and options.data is None:
        return load_digits(), "8x8 digits"
    if csv is not None:
        pixels, labels = read_csv(csv, label_column=0, dtype=np.float32)
        order = np.random.default_rng(0).permutation(len(labels))
        x, y = (pixels[order] / np.float32(255)).astype(np.float32), labels[order].astype(np.int64)
        data = Split(x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:])
    else:
        data = load_mnist(options.data, train=None)
    return data._replace(x_train=data.x_train[:PUBLISHED_ROWS], y_train=data.y_train[:PUBLISHED_ROWS]), "MNIST"


def median(values: NDArray[np.float64]) -> float:
    """NaN of nothing."""
    return float(np.median(values)) if len(values) else np.nan


def check(lab: Lab, trained: Training, rows: int) -> None:
    """Compare with the figures for this many rows, if there are any."""
    epochs = trained.epochs()
    left = int(np.argmax(epochs < PLATEAU[0])) if (epochs < PLATEAU[0]).any() else len(epochs)
    if rows == PUBLISHED_ROWS:
        lab.check("epochs on the plateau", left, low=8, source=PUBLISHED)
        lab.check("largest median cost of an epoch on it", max(epochs[:left], default=np.nan), high=PLATEAU[1], source=PUBLISHED)
        on_it = trained.error[:left * trained.steps_per_epoch]
        lab.check("median batch error on it", median(on_it), *PLATEAU_ERROR, source=PUBLISHED)
        broken_out = int(np.argmax(epochs < 2)) if (epochs < 2).any() else np.inf
        lab.check("epoch that falls under a median cost of 2", broken_out, high=24, source=PUBLISHED)
        lab.check("median batch error of the last epoch", median(trained.error[-trained.steps_per_epoch:]), high=0.06, source=PUBLISHED)
        return
    source = MEASURED if rows == MEASURED_ROWS else "the stand-in leaves the plateau as MNIST's net does, and sooner; no source has its numbers"
    begin, plateau = (90, 1000) if rows == MEASURED_ROWS else (90, 390)
    medians = [median(trained.cost[at:at + 90]) for at in range(begin, plateau - 89, 90)]
    lab.check(f"least median cost of 90 steps, steps {begin} to {plateau}", min(medians), *PLATEAU, source=source)
    lab.check(f"largest median cost of 90 steps, steps {begin} to {plateau}", max(medians), *PLATEAU, source=source)
    lab.check("step at which the cost falls under 1", trained.under(1.0), *((1500, 6000) if rows == MEASURED_ROWS else (400, 4100)), source=source)
    lab.check("median batch error from step 8,000 on", median(trained.error[8000:]), 0.0, 0.02, source=source)
    lab.check("error on held-out digits", trained.test_error, high=0.07, source=source)


def run(lab: Lab) -> None:
    """The whole experiment."""
    data, name = digits(lab.options)
    stand_in = name != "MNIST"
    hidden, steps = (SMALL, STEPS) if stand_in else (HIDDEN, STEPS)
    if lab.quick:
        data, hidden, steps = data._replace(x_train=data.x_train[:600], y_train=data.y_train[:600]), (16, 12, 8), 40
    rows, features = data.x_train.shape
    widths = [features, *hidden, CLASSES]
    size = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
    lab.say(f"{name}: {rows} digits to train on, {len(data.x_test)} held out. Net {'-'.join(map(str, widths))}, sigmoid, {size:,} parameters, "
            f"weights randn / sqrt(D + M), biases 0; SGD, rate {LR}, momentum {MOMENTUM}; {steps:,} steps of {BATCH} digits.")
    if stand_in:
        lab.say("This is a stand-in with a tenth of the source's units: its numbers are not checked against MNIST's. "
                "--data DIR takes MNIST's IDX files, --csv FILE Kaggle's train.csv.")
    if not stand_in and not lab.quick:
        lab.check_close("parameters", size, PARAMETERS, source=PUBLISHED)
        for i, (weight, wanted) in enumerate(zip(weights(mlp(widths, nn.Sigmoid, np.random.default_rng(lab.options.seed))), DEVIATIONS, strict=True)):
            lab.check_close(f"S.D. of the initial weights of layer {i}", float(weight.detach().numpy().std()), wanted, rtol=0.03,
                            source="1/sqrt(D + M), and the scatter of a draw")
    trained = train(data, hidden, steps, seed=lab.options.seed, tell=print)
    lab.say(f"After {steps:,} steps the cost is {trained.cost[-1]:.4f}, and {trained.test_error:.1%} of the held-out digits are wrong.")
    epochs, batches = trained.epochs(), trained.steps_per_epoch
    shown = sorted({round(at) - 1 for at in np.geomspace(1, len(epochs), 14)})
    lab.table(["epoch", "first step", "median cost", "median error", *(f"mean |dW| {i}" for i in range(len(trained.moved)))],
              [[at, at * batches, epochs[at], *(median(values[at * batches:(at + 1) * batches]) for values in (trained.error, *trained.moved))]
               for at in shown],
              "Medians over epochs; |dW| is the change of a weight in a step, layer 0 next to the input")
    check(lab, trained, rows)
    other = train(data, hidden, min(steps, 300 if stand_in else 2 * trained.steps_per_epoch), nn.ReLU, lab.options.seed)
    lab.say(f"Cost under 2: the same net with ReLU for the sigmoid {reached(other)}, the sigmoid net {reached(trained)}.")
    if stand_in:
        lab.check("steps of the ReLU net to a cost of 2, over those of the sigmoid net", other.under(2.0) / trained.under(2.0), high=0.5,
                  source="ReLU leaves the plateau sooner")
    else:
        lab.check("epoch in which the ReLU net falls under a cost of 2", other.under(2.0) // batches, 0, 1,
                  source="the extension that experiment 003 asks for")
    lab.picture("training", lambda: training_figure(trained, other), "Above, how far the weights of each layer move in a step; layers are counted "
                "from 0, as the source does, and layer 0 is next to the input. Below, the cost of each batch." + lab.found(
                    " On the plateau the layers near the input hardly move; with ReLU there is no plateau."))


def reached(trained: Training) -> str:
    """When its cost falls under 2, in words."""
    step = trained.under(2.0)
    return f"at step {step:.0f}" if np.isfinite(step) else f"not within {len(trained.cost):,} steps"


def training_figure(trained: Training, other: Training) -> Figure:
    """Mean |W_t - W_t-1| of each layer, and the cost, by step."""
    picture = figure("003", 9.0, 7.0)
    above, below = picture.subplots(2, sharex=True)
    steps = np.arange(1, len(trained.cost) + 1)
    for i, (moved, colour) in enumerate(zip(trained.moved, display.PALETTE, strict=False)):
        above.plot(steps, moved, color=colour, linewidth=0.8, label=f"layer {i}")
    above.set(yscale="log", ylabel="mean $|W_t - W_{t-1}|$ (dimensionless)", title="Change of the weights in a step (layer 0 is next to the input)")
    below.plot(steps, trained.cost, color=display.BLUE, linewidth=0.8, label="sigmoid")
    below.plot(steps[:len(other.cost)], other.cost, color=display.ORANGE, linewidth=0.8, linestyle="--", label="ReLU")
    below.set(xlabel="training step", ylabel="cost of the batch (nats)", title="Cost")
    for axis in (above, below):
        display.grid(axis)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)
    return picture


def present(text: str) -> Path:
    """A file that is there. Raises ArgumentTypeError."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the source's own file is."""
    parser.add_argument("--csv", type=present, metavar="FILE", help="Kaggle's train.csv: a row for each digit, label, then 784 pixels of 0 to 255")


EXPERIMENT: Final = Experiment("003", "deep-sigmoid", "a deep sigmoid net on digits: the plateau, and how far weights move on it", run, add_options)
