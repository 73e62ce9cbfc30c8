"""Nets with one known fault, or none, drawn from fault, depth, width and seed: what `diagnose` is judged by.

Seeds below 1000 are for development, seeds from 1000 on for the evaluation.
"""
from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.health.trial import trained

Rng = np.random.Generator


class Case(NamedTuple):
    """A net with its batch, and the name of what `diagnose` should find first."""

    expected: str
    about: str
    model: nn.Module
    x: Any
    y: Any
    loss: Callable[..., Any]
    optimizer: optim.Optimizer | None


class Batch(NamedTuple):
    """A task that can be learned: a random teacher of random inputs."""

    x: Any
    y: Any
    loss: Callable[..., Any]
    outputs: int


def task(rng: Rng, kind: str | None = None) -> Batch:
    """Classes, two classes from logits, or a regression; inputs normal, or like pixels from 0 to 1."""
    features, rows = int(rng.choice([8, 20, 64])), int(rng.choice([64, 128, 256]))
    x = rng.standard_normal((rows, features))
    teacher = x @ rng.standard_normal((features, 5)) / features**0.5
    if rng.random() < 0.3:  # strokes on a dark ground
        x = np.where(x > 0.5, np.clip(0.5 * x, 0, 1), 0.0)
    x = x.astype(np.float32)
    kind = kind or str(rng.choice(["classes", "logits", "regression"]))
    if kind == "classes":
        return Batch(x, teacher.argmax(axis=1), F.cross_entropy, 5)
    if kind == "logits":
        return Batch(x, (teacher[:, :1] > 0).astype(np.float32), F.binary_cross_entropy_with_logits, 1)
    return Batch(x, teacher[:, :2].astype(np.float32), F.mse_loss, 2)


def dense(rng: Rng, widths: list[int], activation: Callable[[], nn.Module], gain: float | None = None, *,
          norm: Callable[[int], nn.Module] | None = None, residual: float | None = None, bias: float = 0.0) -> nn.Sequential:
    """Dense layers; gain: deviation sqrt(gain / fan-in), the library's default values if None; residual: the branches' scale."""
    mg.manual_seed(int(rng.integers(1 << 30)))
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        linear = nn.Linear(fan_in, fan_out)
        last = i == len(widths) - 2
        if gain is not None:
            nn.init.normal_(linear.weight, std=((1.0 if last else gain) / fan_in) ** 0.5)
            nn.init.constant_(linear.bias, 0.0 if last else bias)
        if last:
            layers.append(linear)
            continue
        block = nn.Sequential(linear, *([norm(fan_out)] if norm else []), activation())
        layers.append(nn.Residual(block, residual) if residual is not None and fan_in == fan_out else block)
    return nn.Sequential(*layers)


def drawn(rng: Rng, batch: Batch, depths: tuple[int, ...], widths: tuple[int, ...] = (32, 64, 128, 256)) -> list[int]:
    """Features, hidden widths, outputs."""
    depth = int(rng.choice(depths))
    return [batch.x.shape[1], *[int(rng.choice(widths))] * (depth - 1), batch.outputs]


def case(expected: str, about: str, model: nn.Module, batch: Batch, optimizer: optim.Optimizer | None = None) -> Case:
    """Put together."""
    depth = sum(isinstance(module, nn.Linear) for module in model.modules())
    return Case(expected, f"{about}, {depth} layers", model, batch.x, batch.y, batch.loss, optimizer)


def course(batch: Batch, model: nn.Module, optimizer: optim.Optimizer) -> Any:
    """The losses of 60 steps of a copy, inf from where they are no numbers."""
    losses = trained(*deepcopy((model, optimizer)), batch.x, batch.y, batch.loss, 60)
    return np.nan_to_num(losses, nan=np.inf, posinf=np.inf)


def sensible(rng: Rng, model: nn.Module, batch: Batch) -> optim.Optimizer | None:
    """None, or an optimizer with a rate that is known to bring the loss down without a jump: the first that does."""
    which = int(rng.integers(3))
    if which == 0:
        return None
    for lr in (1e-3, 1e-4, 1e-5, 1e-6):
        made = optim.Adam(model.parameters(), lr=lr) if which == 1 else optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        losses = course(batch, model, made)
        if losses.max() <= 1.2 * losses[0] and losses[-1] < losses[0]:
            return made
    return None


# ---- nothing wrong
def healthy(rng: Rng) -> Case:
    batch = task(rng)
    kind = str(rng.choice(["shallow", "He ReLU", "Glorot tanh", "residual", "LayerNorm", "BatchNorm", "leaky", "trained a little"]))
    if kind in ("shallow", "trained a little"):
        activation = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU][int(rng.integers(4))]
        model = dense(rng, drawn(rng, batch, (2, 3) if activation is nn.Sigmoid else (2, 3, 4)), activation)
        if kind == "trained a little":
            train(model, optim.Adam(model.parameters(), lr=1e-3), batch, 15)
    elif kind == "He ReLU":
        model = dense(rng, drawn(rng, batch, (4, 8, 16, 30), (64, 128, 256)), nn.ReLU, 2.0)
    elif kind == "leaky":
        model = dense(rng, drawn(rng, batch, (4, 8, 16, 30), (64, 128, 256)), nn.LeakyReLU, 2.0)
    elif kind == "Glorot tanh":
        model = dense(rng, drawn(rng, batch, (3, 6, 12, 20)), nn.Tanh, 1.0)
    elif kind == "residual":
        widths = drawn(rng, batch, (6, 12, 24, 50))
        model = dense(rng, widths, [nn.ReLU, nn.Tanh][int(rng.integers(2))], 2.0, residual=len(widths) ** -0.5)
    elif kind == "LayerNorm":
        model = dense(rng, drawn(rng, batch, (4, 10, 20)), nn.ReLU, norm=nn.LayerNorm)
    else:
        model = dense(rng, drawn(rng, batch, (3, 6, 12)), [nn.ReLU, nn.Tanh, nn.Sigmoid][int(rng.integers(2))], norm=nn.BatchNorm1d)
    return case("healthy", kind, model, batch, sensible(rng, model, batch))


# ---- one fault each
def saturated_sigmoid(rng: Rng) -> Case:
    batch = task(rng)
    widths = drawn(rng, batch, (3, 5, 10, 20), (32, 64, 128))
    if rng.random() < 0.5:
        return case("saturated", "sigmoid, large weights", dense(rng, widths, nn.Sigmoid, float(rng.choice([400.0, 1600.0, 10_000.0]))), batch)
    return case("saturated", "sigmoid, large biases", dense(rng, widths, nn.Sigmoid, 1.0, bias=float(rng.choice([-8.0, 8.0, 12.0]))), batch)


def dead_relu(rng: Rng) -> Case:
    batch = task(rng)
    model = dense(rng, drawn(rng, batch, (3, 5, 8, 12), (32, 64, 128)), nn.ReLU, 2.0)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)][:-1]
    for linear in linears if rng.random() < 0.5 else [linears[int(rng.integers(len(linears)))]]:
        nn.init.constant_(linear.bias, float(-rng.choice([20.0, 50.0])))
    return case("dead", "ReLU, biases far below 0", model, batch, sensible(rng, model, batch) if rng.random() < 0.5 else None)


def default_init_relu(rng: Rng) -> Case:
    batch = task(rng)
    widths = drawn(rng, batch, (16, 20, 30, 40))
    model = dense(rng, widths, nn.ReLU) if rng.random() < 0.5 else dense(rng, widths, nn.ReLU, 1 / 3)
    return case("vanished", "ReLU, default values", model, batch)


def explosion(rng: Rng) -> Case:
    batch = task(rng)
    kind = int(rng.integers(3))
    if kind == 0:
        model = dense(rng, drawn(rng, batch, (24, 32, 50), (32, 64, 128)), nn.ReLU, 2.0, residual=1.0)
    elif kind == 1:
        model = dense(rng, drawn(rng, batch, (12, 16, 24), (32, 64, 128)), nn.ReLU, float(rng.choice([12.0, 20.0])))
    else:
        model = dense(rng, drawn(rng, batch, (12, 20, 30), (64, 128)), nn.LeakyReLU, float(rng.choice([12.0, 40.0])))
    return case("exploded", ["residual, He, unscaled", "ReLU, large weights", "leaky ReLU, large weights"][kind], model, batch)


def zero_init(rng: Rng) -> Case:
    batch = task(rng)
    activation = [nn.ReLU, nn.Tanh, nn.Sigmoid][int(rng.integers(3))]
    model = dense(rng, drawn(rng, batch, (2, 3, 5, 10)), activation, 1.0)
    value = float(rng.choice([0.0, 0.0, 0.01]))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, value)
    return case("zero init", f"all weights {value:g}", model, batch)


def large_rate(rng: Rng) -> Case:
    """A rate with which 60 steps bring the loss nowhere."""
    while True:
        batch = task(rng)
        activation = [nn.ReLU, nn.Tanh][int(rng.integers(2))]
        model = dense(rng, drawn(rng, batch, (2, 3, 5, 8), (32, 64, 128)), activation, 2.0 if activation is nn.ReLU else 1.0)
        which = int(rng.integers(3))
        optimizer = [optim.SGD(model.parameters(), lr=float(rng.choice([10.0, 50.0]))),
                     optim.SGD(model.parameters(), lr=float(rng.choice([5.0, 20.0])), momentum=0.9),
                     optim.Adam(model.parameters(), lr=float(rng.choice([0.5, 1.0, 3.0])))][which]
        losses = course(batch, model, optimizer)
        if losses[-10:].mean() > 0.9 * losses[0]:
            return case("learning rate too large", f"{type(optimizer).__name__}, lr {optimizer.param_groups[0]['lr']:g}", model, batch, optimizer)


def unnormalised(rng: Rng) -> Case:
    batch = task(rng)
    kind, x = int(rng.integers(3)), batch.x
    if kind == 0:
        x = (x - x.min()) / (x.max() - x.min()) * 255
    elif kind == 1:
        x = x + rng.choice([50.0, 1000.0])
    else:
        x = x * 10.0 ** rng.uniform(-2, 2.5, x.shape[1])
    batch = batch._replace(x=x.astype(np.float32))
    activation = [nn.ReLU, nn.Tanh, nn.Sigmoid][int(rng.integers(3))]
    model = dense(rng, drawn(rng, batch, (2, 3, 4)), activation)
    return case("unnormalised input", ["0 to 255", "far from 0", "features of unlike sizes"][kind], model, batch)


class HalfSwish(mg.autograd.Function):
    """x * sigmoid(x), whose backward forgets a term."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        s = mg.sigmoid(x)
        ctx.save_for_backward(s)
        return x * s

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (s,) = ctx.saved_tensors
        return gradients[0] * s


class SteepTanh(mg.autograd.Function):
    """tanh(x), whose backward has the slope of the sigmoid's formula."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = mg.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (y,) = ctx.saved_tensors
        return gradients[0] * y * (1 - y)


class Applied(nn.Module):
    """A Function as a layer."""

    def __init__(self, function: type[mg.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function.apply(x)


def wrong_gradient(rng: Rng) -> Case:
    batch = task(rng)
    function = [HalfSwish, SteepTanh][int(rng.integers(2))]
    model = dense(rng, drawn(rng, batch, (3, 5, 8, 12), (32, 64, 128)), nn.Tanh, 1.0)
    blocks = [module for module in model if isinstance(module, nn.Sequential)]
    for block in blocks if rng.random() < 0.5 else [blocks[int(rng.integers(len(blocks)))]]:
        block[1] = Applied(function)
    return case("wrong gradient", function.__name__, model, batch)


def train(model: nn.Module, optimizer: optim.Optimizer, batch: Batch, steps: int) -> None:
    """Some steps on the batch."""
    @mg.capture
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        value = batch.loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    step.repeat(steps, mg.tensor(batch.x), mg.tensor(batch.y))


def converged(rng: Rng) -> Case:
    batch = task(rng)
    kind = int(rng.integers(3))
    if kind == 0:  # a regression by a linear net, at its minimum above 0
        batch = task(rng, "regression")
        noise = rng.standard_normal(batch.y.shape).astype(np.float32)
        batch = batch._replace(y=batch.y + noise)
        model = dense(rng, [batch.x.shape[1], batch.outputs], nn.Tanh)
        train(model, optim.Adam(model.parameters(), lr=0.02), batch, 3000)
    else:
        depth, activation = (3, 4, 6)[int(rng.integers(3))], [nn.ReLU, nn.Tanh][int(rng.integers(2))]
        width = int(rng.choice([32, 64]))
        widths = [batch.x.shape[1], *[width] * (depth - 1), batch.outputs]
        model = dense(rng, widths, activation, 2.0 if activation is nn.ReLU else 1.0, residual=depth**-0.5 if kind == 2 else None)
        train(model, optim.Adam(model.parameters(), lr=2e-3), batch, 1500)
        train(model, optim.Adam(model.parameters(), lr=2e-4), batch, 1000)
    return case("converged", ["linear regression", "MLP", "residual"][kind], model, batch)


def underflow(rng: Rng) -> Case:
    batch = task(rng)
    kind = int(rng.integers(3))
    if kind == 0:
        model = dense(rng, drawn(rng, batch, (80, 100), (32, 64)), nn.Sigmoid, 1.0)
    else:
        activation = [nn.Tanh, nn.ReLU][kind - 1]
        model = dense(rng, drawn(rng, batch, (24, 32, 40), (32, 64, 128)), activation, float(rng.choice([1e-4, 1e-5])))
    return case("lost in rounding", ["sigmoid", "tanh, small weights", "ReLU, small weights"][kind], model, batch)


FAULTS: tuple[Callable[[Rng], Case], ...] = (saturated_sigmoid, dead_relu, default_init_relu, explosion, zero_init, large_rate, unnormalised,
                                             wrong_gradient, converged, underflow)
#: A quarter is healthy.
ORDER: tuple[Callable[[Rng], Case], ...] = tuple(one for fault in FAULTS for one in (healthy, fault, fault, fault))


def draw(seed: int) -> Case:
    """The net of this seed; 40 seeds in a row hold 10 healthy ones and 3 of each fault."""
    return ORDER[seed % len(ORDER)](np.random.default_rng(seed))
