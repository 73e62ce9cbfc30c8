"""Deep nets of width 4 that learn exclusive or, and runs of them: one with its course, many side by side."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim

Floats = NDArray[np.float64]
Draw = Callable[[np.random.RandomState, int, int], tuple[Floats, Floats]]

#: The four corners in the source's order, and whether their bits differ.
X: Final = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y: Final = np.array([[0.0], [1.0], [1.0], [0.0]])
WIDTH: Final = 4
#: An epoch's summed loss that counts as solved, and that which ends a run.
SOLVED: Final = 0.01
STOP: Final = 1e-7
BETAS: Final = (0.9, 0.999)


def uniform(rng: np.random.RandomState, fan_in: int, fan_out: int) -> tuple[Floats, Floats]:
    """The source's: W, then b, both uniform in 0 to 1."""
    return rng.uniform(0, 1, (fan_out, fan_in)), rng.uniform(0, 1, fan_out)


def glorot(rng: np.random.RandomState, fan_in: int, fan_out: int) -> tuple[Floats, Floats]:
    """W uniform in +-sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010), b = 0."""
    bound = np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_out, fan_in)), np.zeros(fan_out)


def he(rng: np.random.RandomState, fan_in: int, fan_out: int) -> tuple[Floats, Floats]:
    """W uniform in +-sqrt(6 / fan-in) (He et al. 2015), b = 0."""
    bound = np.sqrt(6 / fan_in)
    return rng.uniform(-bound, bound, (fan_out, fan_in)), np.zeros(fan_out)


class Recipe(NamedTuple):
    """What a net is made of. Only the hidden layers of width 4 differ, except for initial values; the output is a sigmoid.

    batch_norm: behind each hidden product. One sample has no variance, so such a net gets all four corners in each step.
    """

    draw: Draw = uniform
    activation: type[nn.Module] = nn.Sigmoid
    residual: bool = False
    batch_norm: bool = False
    betas: tuple[float, float] = BETAS

    @property
    def rows(self) -> int:
        """Samples of a step."""
        return len(X) if self.batch_norm else 1


PLAIN: Final = Recipe()
RESIDUAL: Final = Recipe(residual=True)
#: The residual script's own betas.
RESIDUAL_SLOW: Final = Recipe(residual=True, betas=(0.99, 0.9999))


def net(recipe: Recipe, hidden: int, seed: int) -> nn.Sequential:
    """2-4, `hidden` times 4-4, 4-1, in float64; numbers drawn by np.random.RandomState(seed), layer by layer."""
    rng = np.random.RandomState(seed)
    widths = [2, *[WIDTH] * (hidden + 1), 1]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        linear = nn.Linear(fan_in, fan_out, dtype=mg.float64)
        with mg.no_grad():
            for parameter, values in zip((linear.weight, linear.bias), recipe.draw(rng, fan_in, fan_out), strict=True):
                parameter.copy_(mg.tensor(values))
        name = "dense_in" if i == 0 else "dense_out" if i > hidden else f"{'residual' if recipe.residual else 'dense'}_{i}"
        parts: list[nn.Module] = [linear]
        if recipe.batch_norm and i <= hidden:
            parts.append(nn.BatchNorm1d(fan_out, dtype=mg.float64))
        dense = nn.Sequential(*parts, nn.Sigmoid() if i > hidden else recipe.activation())
        layers[name] = nn.Residual(dense) if recipe.residual and 0 < i <= hidden else dense
    return nn.Sequential(layers)


def loss_of(model: nn.Module, x: Any, y: Any) -> mg.Tensor:
    """Half the squared errors, summed over the samples: 0.5 over all four corners for a net that always says 0.5."""
    total: mg.Tensor = F.mse_loss(model(x), y) * (0.5 * x.shape[0])
    return total


class Solver:
    """A net with its optimiser and captured step: Adam with epsilon outside the correction, 1e-7, and a rate of 0.001."""

    def __init__(self, recipe: Recipe, hidden: int, seed: int) -> None:
        self.recipe = recipe
        self.model = model = net(recipe, hidden, seed)
        self.opt = opt = optim.Adam(model.parameters(), lr=1e-3, betas=recipe.betas, eps=1e-7, eps_mode="hat")

        @mg.capture
        def step(x: Any, y: Any) -> mg.Tensor:
            opt.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            opt.step()
            return loss

        self.step = step

    def outputs(self) -> Floats:
        """What the net says to the four corners, (4,); in training mode, as a net with batch normalisation learned it."""
        with mg.no_grad():
            return self.model(X).numpy().ravel()  # type: ignore[no-any-return]

    def epochs(self, count: int) -> Floats:
        """Take the steps of `count` epochs; the summed loss of each."""
        losses = self.step.scan(X, Y, index=order(count, self.recipe.rows))
        return np.asarray(losses.numpy().reshape(count, -1).sum(axis=1))

    def run(self, most: int, chunk: int = 1000) -> Floats:
        """Epochs until the summed loss is at most 1e-7, and not one more; `most` at most. The loss of each."""
        found: list[Floats] = []
        for begin in range(0, most, chunk):
            before = deepcopy((self.model.state_dict(), self.opt.state_dict()))
            losses = self.epochs(min(chunk, most - begin))
            low = np.flatnonzero(losses <= STOP)
            if len(low):
                last = int(low[0]) + 1
                if last < len(losses):  # back to the border before, and up to the epoch that ends it
                    self.model.load_state_dict(before[0])
                    self.opt.load_state_dict(before[1])
                    losses = self.epochs(last)
                found.append(losses)
                break
            found.append(losses)
        return np.concatenate(found)


def order(epochs: int, rows: int) -> NDArray[np.int64]:
    """An index table for `scan`: the four corners in their order, again and again."""
    return np.tile(np.arange(len(X)).reshape(-1, rows), (epochs, 1))


class Course(NamedTuple):
    """What became of one of many nets: its first and last loss, and the epochs after which it was solved and ended, if it was."""

    first: float
    last: float
    solved: int | None
    stopped: int | None


def run_all(solvers: Sequence[Solver], most: int, chunk: int = 10_000) -> list[Course]:
    """Run nets of one recipe side by side, each until a chunk in which it ends."""
    courses: list[Course | None] = [None] * len(solvers)
    running = list(range(len(solvers)))
    for begin in range(0, most, chunk):
        count = min(chunk, most - begin)
        table = order(count, solvers[0].recipe.rows)
        steps = mg.run_many([solvers[i].step for i in running], len(table), X, Y, index=table)
        for i, losses in zip(list(running), steps.numpy().reshape(len(running), count, -1).sum(axis=2), strict=True):
            known = courses[i] or Course(float(losses[0]), 0.0, None, None)
            stopped = reached(losses, STOP, begin)
            courses[i] = Course(known.first, float(losses[-1]), known.solved or reached(losses, SOLVED, begin), stopped)
            if stopped is not None:
                running.remove(i)
        if not running:
            break
    return [course for course in courses if course is not None]


def reached(losses: Floats, bound: float, before: int) -> int | None:
    """The number of the first epoch, counted from 1, whose loss is below the bound; `before` epochs came earlier."""
    low = np.flatnonzero(losses <= bound)
    return before + int(low[0]) + 1 if len(low) else None


def weight_gradients(model: nn.Sequential, row: int = 1) -> Floats:
    """|dL/dW| of every layer for one corner: by default (0, 1), the first of the four that gives the first layer any."""
    model.zero_grad()
    loss_of(model, X[row:row + 1], Y[row:row + 1]).backward()
    linears: list[Any] = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return np.array([np.linalg.norm(linear.weight.grad.numpy()) for linear in linears])


def dead_units(model: nn.Sequential) -> float:
    """The share of the hidden ReLU units that are 0 on all four corners."""
    shares = []
    with mg.no_grad():
        h: Any = mg.tensor(X)
        for layer in list(model)[:-1]:
            h = layer(h)
            shares.append(np.mean(np.all(h.numpy() <= 0, axis=0)))
    return float(np.mean(shares))
