"""Experiment 000: one tanh unit whose gradient becomes tiny because it has learned, not because it vanishes; and is it right?

The question and the answer that names the check: datascience.stackexchange.com, question 24875.
"""
from __future__ import annotations

import argparse
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import display, nn, optim
from minigrad.lab.experiment import Experiment, Lab, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[Any]

SOURCE: Final = "datascience.stackexchange 24875, recomputed in float64"
LEARNING_RATE: Final = 0.07
STEPS: Final = 10_000
REHEARSED: Final = 50
DIFFERENCE: Final = 1e-4
#: x, and what it doubles to.
X: Final = np.linspace(0.025, 0.5, 20)[:, None]
Y: Final = 2 * X
#: Steps taken: W, b, J.
COURSE: Final = {1: (0.520557, 0.450883, 0.548692), 10: (0.787825, 0.361033, 0.422436), 100: (2.158210, 0.037255, 0.061976),
                 500: (2.797177, -0.082192, 0.028222), 1000: (2.808589, -0.084171, 0.028213)}
#: Step: |dJ/dW| in it, and half a unit of its last digit.
TINY: Final = {500: (1.6e-3, 5e-5), 1000: (1.3e-5, 5e-7), 2000: (7.8e-10, 5e-12)}
#: Steps after which only rounding is left of the gradient, and a bound on it.
ROUNDING: Final = (5000, 1e-14)
PREDICTED: Final = {0.025: -0.0140, 0.25: 0.5497, 0.5: 0.8668}


def unit() -> nn.Sequential:
    """tanh(0.5 x + 0.5), float64."""
    linear = nn.Linear(1, 1, dtype=mg.float64)
    nn.init.constant_(linear.weight, 0.5)
    nn.init.constant_(linear.bias, 0.5)
    return nn.Sequential(linear, nn.Tanh())


def cost(model: nn.Module, x: Any, y: Any) -> mg.Tensor:
    """Half the sum of the squared errors."""
    return half_squares(model(x), y)


def half_squares(output: mg.Tensor, y: Any) -> mg.Tensor:
    """The cost of an output."""
    total: mg.Tensor = mg.square(output - y).sum() * 0.5
    return total


def exact_cost(w: Any, b: Any) -> Any:
    """The same in NumPy, for real and complex numbers."""
    error = np.tanh(w * X + b) - Y
    return 0.5 * (error * error).sum()


def derivative_of_tanh(z: Floats) -> Floats:
    """4 / (e^z + e^-z)^2, with no power that overflows: 4 q / (1 + q)^2 with q = e^(-2|z|)."""
    q = np.exp(-2 * np.abs(z))
    return np.asarray(4 * q / (1 + q) ** 2)


def slope_of_tanh(z: Floats) -> Floats:
    """The same by minigrad."""
    x = mg.tensor(z, requires_grad=True)
    mg.tanh(x).sum().backward()
    return np.asarray(x.grad)


def train(model: nn.Sequential, steps: int) -> tuple[Floats, Floats, dict[int, tuple[float, float]]]:
    """Gradient descent on all points; J and |dJ/dW| before each step, and (W, b) after those that are shown and at the end."""
    opt = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    weight: Any = model[0].weight
    bias: Any = model[0].bias

    @mg.capture
    def step(x: Any, y: Any) -> tuple[mg.Tensor, mg.Tensor]:
        opt.zero_grad()
        loss = cost(model, x, y)
        loss.backward()
        size = mg.abs(weight.grad)
        opt.step()
        return loss, size

    losses, sizes, passed, done = [], [], {}, 0
    for stop in sorted({*(n for n in (*COURSE, *TINY, ROUNDING[0]) if n <= steps), steps}):
        loss, size = step.repeat(stop - done, X, Y)
        losses.append(loss.numpy())
        sizes.append(size.numpy().ravel())
        passed[stop] = (weight.item(), bias.item())
        done = stop
    return np.concatenate(losses), np.concatenate(sizes), passed


def check_gradient(lab: Lab) -> None:
    """The gradient at the start, three ways."""
    lab.say("A unit tanh(W x + b) learns y = 2 x at 20 points. Before any training: is the gradient right? Compared are backward, central "
            f"differences (J(W + e) - J(W - e)) / 2e with e = {DIFFERENCE:.0e}, and the imaginary part of J(W + ih) / h, which has no cancellation.")
    model, e, h = unit(), DIFFERENCE, 1e-30
    loss = cost(model, X, Y)
    loss.backward()
    parameters: list[Any] = list(model.parameters())
    found = [p.grad.item() for p in parameters]
    differences = [(exact_cost(0.5 + e, 0.5) - exact_cost(0.5 - e, 0.5)) / (2 * e), (exact_cost(0.5, 0.5 + e) - exact_cost(0.5, 0.5 - e)) / (2 * e)]
    complexes = [exact_cost(0.5 + 1j * h, 0.5).imag / h, exact_cost(0.5, 0.5 + 1j * h).imag / h]
    names = ("dJ/dW", "dJ/db")
    lab.table(["", "backward", "central difference", "complex step"],
              [[name, *(f"{x:.9f}" for x in row)] for name, *row in zip(names, found, differences, complexes, strict=True)])
    lab.check_close("J at the start", loss.item(), 0.580293369, atol=5e-10, source=SOURCE)
    for name, value, wanted in zip(names, found, (-0.293672806, 0.701677274), strict=True):
        lab.check_close(f"{name} at the start", value, wanted, atol=5e-10, source=SOURCE)
    for name, value, wanted in zip(names, differences, (-0.293672807, 0.701677220), strict=True):
        lab.check_close(f"{name} by central differences", value, wanted, atol=5e-10, source=SOURCE)
    for name, value, wanted, rounded in zip(names, found, differences, (6e-9, 8e-8), strict=True):
        lab.check_close(f"relative error of the central difference, {name}", abs(value - wanted) / abs(value), rounded, rtol=0.1, source=SOURCE)
    for name, value, wanted in zip(names, found, complexes, strict=True):
        lab.check_close(f"{name} by complex step", value, wanted, rtol=1e-14, source="rounding of float64")
    inputs = mg.tensor(X, requires_grad=True)
    lab.check_true("mg.autograd.gradcheck accepts the unit and its input", mg.autograd.gradcheck(lambda x: cost(model, x, Y), inputs))


def check_overflow(lab: Lab) -> None:
    """tanh' where e^z overflows."""
    z = np.array([-800.0, -20.0, -1.0, 0.0, 1.0, 20.0, 800.0])
    with np.errstate(over="raise", invalid="raise"):
        safe, own = derivative_of_tanh(z), slope_of_tanh(z)
    lab.table(["z", "4 / (e^z + e^-z)^2, overflow-safe", "backward of tanh"], list(zip(z, safe, own, strict=True)),
              "The source's tanh' = 4 / (e^z + e^-z)^2 overflows for large |z|; here it does not.")
    lab.check_true("tanh' is 0 at z = -800 and 800", bool((safe[[0, -1]] == 0).all() and (own[[0, -1]] == 0).all()))
    lab.check("largest difference between the two", float(np.abs(safe - own).max()), high=5e-16, source="rounding of float64")


def course(lab: Lab) -> nn.Sequential:
    """The training, and what a tiny gradient means here."""
    steps = REHEARSED if lab.quick else STEPS
    model = unit()
    losses, sizes, passed = train(model, steps)
    shown = dict.fromkeys(n for n in (*COURSE, *TINY, ROUNDING[0]) if n < steps)
    lab.table(["steps taken", "J after them", "|dJ/dW| in the last", "W", "b"],
              [[n, f"{losses[n]:.6f}", f"{sizes[n - 1]:.1e}", *(f"{v:.6f}" for v in passed[n])] for n in shown],
              f"{steps:,} steps of gradient descent, all points at once, learning rate {LEARNING_RATE}")
    for n, (w, b, j) in COURSE.items():
        if n < steps:
            for what, value, wanted in (("W", passed[n][0], w), ("b", passed[n][1], b), ("J", losses[n], j)):
                lab.check_close(f"{what} after {n} steps", value, wanted, atol=5.1e-7, source=SOURCE)
    for n, (wanted, half) in TINY.items():
        if n < steps:
            lab.check_close(f"|dJ/dW| in step {n}", sizes[n - 1], wanted, atol=half, source=SOURCE)
    first, bound = ROUNDING
    if first < steps:
        lab.check(f"largest |dJ/dW| from step {first} on", sizes[first:].max(), high=bound, source=f"{SOURCE}: about 3e-15, rounding")
    predicted = model(X).detach().numpy()
    if steps == STEPS:
        w, b = passed[steps]
        for what, value, wanted in (("J", losses[-1], 0.028213), ("W", w, 2.808680), ("b", b, -0.084187)):
            lab.check_close(f"{what} at the end", value, wanted, atol=5.1e-7, source=SOURCE)
        for x, wanted in PREDICTED.items():
            lab.check_close(f"prediction for {x}", predicted[np.argmin(np.abs(X - x))].item(), wanted, atol=5.1e-5, source=SOURCE)
        lab.check_close("largest error of a prediction", float(np.abs(predicted - Y).max()), 0.1332, atol=5.1e-5, source=SOURCE)
    lab.picture("course", lambda: course_figure(losses, sizes),
                "J and |dJ/dW|, step by step." + lab.found(
                    " J levels off at its least value while |dJ/dW| falls by 14 decades to rounding: a gradient that is tiny at the optimum."))
    lab.picture("fit", lambda: fit_figure(predicted), "The data and the trained unit." + lab.found(
        " It is the best that one tanh unit can do with y = 2 x: it has learned, and an error remains."))
    return model


def deep_net(depth: int = 10) -> nn.Sequential:
    """The trained unit's opposite: a deep sigmoid net before training, float64."""
    mg.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(i, o, dtype=mg.float64), nn.Sigmoid()) for i, o in pairwise([1, *[4] * depth, 1])))


def weight_gradients(model: nn.Module) -> list[list[Any]]:
    """The number of each layer, and its |dL/dW|."""
    model.zero_grad()
    cost(model, X, Y).backward()
    linears: list[Any] = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return [[i, float(np.linalg.norm(linear.weight.grad))] for i, linear in enumerate(linears, 1)]


def verdict(lab: Lab, model: nn.Module, name: str) -> str:
    """What `mg.diagnose` finds first."""
    found = mg.diagnose(model, X, Y, loss=half_squares, cures=False).verdicts[0]
    lab.say(f"mg.diagnose of {name}: {found.name}. {found.words}")
    return found.name


def lesson(lab: Lab, model: nn.Sequential) -> None:
    """Converged is not vanished."""
    net = deep_net()
    deep, rest = weight_gradients(net), weight_gradients(model)[0][1]
    lab.table(["layer", "|dL/dW|"], deep, "For comparison a net of 10 hidden sigmoid layers of width 4 on the same points, before training: small "
              "at the front, ordinary at the back")
    lab.check("first over last layer in the untrained deep net", deep[0][1] / deep[-1][1], high=1e-6)
    lab.check_true("mg.diagnose finds that gradients vanish in the deep net", verdict(lab, net, "the deep net") == "vanished")
    if lab.quick:
        return
    lab.check_true("mg.diagnose finds that the trained unit has converged", verdict(lab, model, "the trained unit") == "converged")
    lab.say(f"The trained unit's dJ/dW is {rest:.0e}, smaller than any of the deep net's, and nothing is wrong: it is small everywhere because "
            "the loss is flat at its optimum. Vanishing is a matter of ratio, small at the front and ordinary at the back, while the loss is not yet "
            "low. A figure of one layer cannot tell the two apart.")


def course_figure(losses: Floats, sizes: Floats) -> Figure:
    """J and |dJ/dW| against the step."""
    picture = figure("gradient-check", 8.5, 5.6)
    axes = picture.subplots(2, 1, sharex=True)
    for axis, values, name, colour in zip(axes, (losses, sizes), ("J", "|dJ/dW|"), (display.BLUE, display.ORANGE), strict=True):
        axis.plot(np.arange(1, len(values) + 1), np.ma.masked_less_equal(values, 0.0), color=colour, linewidth=1.5)
        axis.set(ylabel=f"{name} (dimensionless)", xscale="log", yscale="log")
        display.grid(axis)
    axes[-1].set_xlabel("step (number; all 20 points in each)")
    return picture


def fit_figure(predicted: Floats) -> Figure:
    """The data and what the trained unit says."""
    picture = figure("gradient-check", 8.0, 4.2)
    axis = picture.subplots()
    axis.plot(X.ravel(), Y.ravel(), color=display.BLUE, marker="o", linestyle="none", markersize=5, label="data, y = 2 x")
    axis.plot(X.ravel(), predicted.ravel(), color=display.ORANGE, marker="s", markersize=3, linewidth=1.5, label="tanh(W x + b)")
    axis.set(xlabel="x (dimensionless)", ylabel="y (dimensionless)")
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture


def predict(lab: Lab, model: nn.Sequential) -> None:
    """What the trained unit makes of inputs from the command line, and of those that are typed."""
    def row(x: float) -> list[str]:
        return [f"{x:g}", f"{model(np.array([[x]])).item():.4f}", f"{2 * x:g}"]

    given: list[float] = lab.options.predict or []
    if given:
        lab.table(["x", "prediction", "2 x"], [row(x) for x in given], "Inputs that were given")
    while typed := lab.ask("an input to predict, a number (an empty line ends): "):
        try:
            numbers = [float(word) for word in typed.replace(",", " ").split()]
        except ValueError:
            print(f"{typed!r} is not a number")
            continue
        lab.table(["x", "prediction", "2 x"], [row(x) for x in numbers])


def run(lab: Lab) -> None:
    """The whole experiment."""
    check_gradient(lab)
    check_overflow(lab)
    model = course(lab)
    lesson(lab, model)
    predict(lab, model)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--predict."""
    parser.add_argument("--predict", type=float, nargs="+", metavar="X", help="inputs for the trained unit (asked for at a terminal)")


EXPERIMENT: Final = Experiment("000", "gradient-check", "a tiny gradient that is right: gradient checking on one tanh unit", run, add_options)
