"""Experiment 002: why sigmoids make gradients vanish; the curve, its slope of at most 1/4, and the powers of 1/4.

After the ungraded notebook on vanishing gradients of the course Natural Language Processing with Sequence Models (Coursera).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import display, nn
from minigrad.lab.experiment import Experiment, Lab, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[Any]

SOURCE: Final = "the notebook's output"
X: Final = np.linspace(-5, 5, 100)
FACTORS: Final = 6
TANGENT_AT: Final = 0.0
SPAN: Final = 1.7


def sigmoid_gradient(activation: Floats) -> Floats:
    """The slope of the sigmoid from its value a, not from its argument: a (1 - a)."""
    return np.asarray(activation * (1 - activation))


def curve() -> tuple[Floats, Floats]:
    """The sigmoid on the grid, and its slope by backward."""
    x = mg.tensor(X, requires_grad=True)
    activation = mg.sigmoid(x)
    activation.sum().backward()
    return activation.detach().numpy(), np.asarray(x.grad)


def chain(layers: int, dtype: Any = mg.float64) -> float:
    """dh/dx of a chain of sigmoid units of weight 1, at x = 0, by backward: biases of -1/2 bring each unit to its steepest point."""
    units: list[nn.Module] = []
    for i in range(layers):
        unit = nn.Linear(1, 1, dtype=dtype)
        nn.init.ones_(unit.weight)
        nn.init.constant_(unit.bias, -0.5 if i else 0.0)
        units += [unit, nn.Sigmoid()]
    x = mg.zeros(1, 1, dtype=dtype, requires_grad=True)
    nn.Sequential(*units)(x).sum().backward()
    return float(np.asarray(x.grad).item())


def run(lab: Lab) -> None:
    """The whole experiment."""
    activation, slope = curve()
    lab.say("A sigmoid squeezes every input into 0 to 1. Its slope, a (1 - a) where a is its value, is at most 1/4, and close to 0 where it is flat.")
    lab.table(["", "largest", "least"], [["x", f"{X.max():.3f}", f"{X.min():.3f}"], ["sigmoid", f"{activation.max():.3f}", f"{activation.min():.3f}"],
                                         ["slope", f"{slope.max():.3f}", f"{slope.min():.3f}"]], "On 100 points from -5 to 5")
    for what, value, wanted in (("largest x", X.max(), 5.0), ("least x", X.min(), -5.0), ("largest sigmoid", activation.max(), 0.993),
                                ("least sigmoid", activation.min(), 0.007), ("largest slope", slope.max(), 0.25),
                                ("least slope", slope.min(), 0.007)):
        lab.check_close(what, float(value), wanted, atol=5e-4, source=SOURCE)
    lab.check_close("largest slope, to six digits", float(slope.max()), 0.249841, atol=5e-7, source="0 is not a point of the grid")
    lab.check("largest difference between a (1 - a) and backward", float(np.abs(slope - sigmoid_gradient(activation)).max()), high=2.3e-16,
              source="rounding of float64")
    products = [0.25**n for n in range(1, FACTORS + 1)]
    chains = [chain(n) for n in range(1, FACTORS + 1)]
    lab.table(["units", "dh/dx by backward", "1/4 to that power"],
              [[n, repr(c), repr(p)] for n, (c, p) in enumerate(zip(chains, products, strict=True), 1)],
              "A chain of sigmoid units, each at its steepest point: the best case")
    for n, (value, wanted) in enumerate(zip(chains, products, strict=True), 1):
        lab.check_close(f"dh/dx of {n} units", value, wanted, source=f"{SOURCE}, exact")
    lab.check_true("the same in float32", [chain(n, mg.float32) for n in range(1, FACTORS + 1)] == products)
    lab.say(f"Backward multiplies one such factor for each layer. After {FACTORS} layers at most {products[-1]:.2e} of the gradient is left, "
            "and away from the steepest point far less.")
    lab.picture("steepest", lambda: steepest_figure(activation), "The sigmoid is steepest at 0; there its tangent has slope 1/4.")
    lab.picture("panels", lambda: panels_figure(activation, slope), "The input, its sigmoid and the slope there, by number of the point.")
    lab.picture("compression", lambda: compression_figure(activation, slope),
                "An interval of length 10 becomes one of length 0.99, with slopes of at most 0.25.")
    lab.picture("products", lambda: products_figure(products), "Multiplying small numbers: each layer leaves a quarter at most.")


def steepest_figure(activation: Floats) -> Figure:
    """Curve, tangent, point."""
    picture = figure("sigmoid", 8.0, 4.4)
    axis = picture.subplots()
    at = 1 / (1 + np.exp(-TANGENT_AT))
    near = np.linspace(TANGENT_AT - SPAN, TANGENT_AT + SPAN, 50)
    axis.plot(X, activation, color=display.BLUE, linewidth=1.5, label="sigmoid")
    axis.plot(near, sigmoid_gradient(at) * (near - TANGENT_AT) + at, color=display.ORANGE, linestyle="--", linewidth=1.5, label="tangent, slope 1/4")
    axis.plot([TANGENT_AT], [at], color="#000000", marker="o", linestyle="none", label="steepest point")
    axis.set(xlabel="x (dimensionless)", ylabel="sigmoid(x) (dimensionless)")
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture


def panels_figure(activation: Floats, slope: Floats) -> Figure:
    """Three panels, each with an axis of its own."""
    picture = figure("sigmoid", 12.0, 3.4)
    panels = ((X, "x"), (activation, "sigmoid(x)"), (slope, "slope of the sigmoid at x"))
    for axis, (values, label), colour in zip(picture.subplots(1, 3), panels, display.PALETTE, strict=False):
        axis.plot(values, color=colour, marker=".", markersize=4, linestyle="none")
        axis.set(xlabel="point (number)", ylabel=f"{label} (dimensionless)")
        display.grid(axis)
    return picture


def compression_figure(activation: Floats, slope: Floats) -> Figure:
    """The same three on one axis."""
    picture = figure("sigmoid", 8.0, 4.4)
    axis = picture.subplots()
    lines = ((X, "x"), (activation, "sigmoid(x)"), (slope, "slope"))
    for (values, label), colour, marker in zip(lines, display.PALETTE, display.MARKERS, strict=False):
        axis.plot(values, color=colour, marker=marker, markevery=11, markersize=4, linewidth=1.5, label=label)
    axis.set(xlabel="point (number)", ylabel="value (dimensionless)")
    display.grid(axis)
    picture.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return picture


def products_figure(products: list[float]) -> Figure:
    """Powers of 1/4."""
    picture = figure("sigmoid", 8.0, 3.8)
    for axis, scale in zip(picture.subplots(1, 2), ("linear", "log"), strict=True):
        axis.plot(range(1, len(products) + 1), products, color=display.BLUE, marker="o", markersize=5, linewidth=1.5)
        axis.set(xlabel="sigmoid layers (number)", ylabel=f"product of slopes (dimensionless, {scale})", yscale=scale)
        display.grid(axis)
    return picture


EXPERIMENT: Final = Experiment("002", "sigmoid", "the slope of a sigmoid, and what a product of six is worth", run)
