"""Two noisy circles, the small nets that tell them apart, and how these are trained: one by hand, or as many as there are seeds side by side."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import config, nn, optim
from minigrad.data import DataLoader, TensorDataset, index_batches, make_circles
from minigrad.lab.nets import Activation, Init, dense
from minigrad.tape.live import Numbers
from minigrad.tape.slab import Segment
from minigrad.train import Callback

Array = NDArray[Any]
Watch = Callable[[Iterable[Any]], Iterable[Any]]

ACTIVATIONS: Final[dict[str, Activation]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
BATCH: Final = 32


class Data(NamedTuple):
    """Points (n, 2) and their circle (n, 1), 1 for the inner one, in float32."""

    x: Array
    y: Array


def circles(count: int = 1000) -> Data:
    """Circles of radius 1 and 0.5 with noise 0.1, drawn from RandomState(42) in the order of scikit-learn."""
    x, y = make_circles(count, factor=0.5, noise=0.1, random_state=42)
    return Data(x.astype(np.float32), y[:, None].astype(np.float32))


def normal(weight: mg.Tensor) -> mg.Tensor:
    """Deviation 1, whatever the width."""
    return nn.init.normal_(weight)


def named_net(name: str, widths: Sequence[int], activation: Activation, init: Init, last: Init | None = None) -> nn.Sequential:
    """Dense layers `name`1, `name`2 and so on, an activation behind each, a sigmoid behind the last; biases 0.

    init: sets each weight, but that of the output if `last` does.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), 1):
        output = i == len(widths) - 1
        layers[f"{name}{i}"] = dense(fan_in, fan_out, last or init if output else init)
        layers[f"activation{i}"] = nn.Sigmoid() if output else activation()
    return nn.Sequential(layers)


def make_mlp(name: str, init: Init = normal) -> nn.Sequential:
    """The net 2-5-5-5-5-1 of an activation."""
    return named_net(name, (2, 5, 5, 5, 5, 1), ACTIVATIONS[name], init)


def kernels(model: nn.Sequential) -> dict[str, mg.Tensor]:
    """The weight of every dense layer by its name, from the input on."""
    return {name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)}


class KerasRMSprop(optim.Optimizer):
    """s = alpha * s + (1 - alpha) * grad**2; p -= lr * grad / sqrt(s + eps): Keras's form and defaults.

    Its epsilon stands under the root, where 1e-7 counts as much as a gradient of 3e-4, about what reaches the front of a sigmoid net here.
    """

    slots = ("lr", "alpha", "eps")
    keeps = ("square_avg",)
    counted = False

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, alpha: float = 0.9, eps: float = 1e-7) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    def update(self, run: Segment, numbers: Numbers) -> None:
        p, grad, square = run.data, run.grad, self.moment("square_avg", run)
        lr, alpha, eps = (numbers.tensor[i] for i in range(3))
        keep, weight = alpha.astype(p.dtype), (1.0 - alpha).astype(p.dtype)
        square.copy_(keep * square + weight * grad * grad)
        p.copy_(p - lr.astype(p.dtype) * grad / mg.sqrt(square + eps.astype(p.dtype)))


def keras_adam(params: Iterable[Any]) -> optim.Optimizer:
    """Adam in Keras's form, with its defaults."""
    return optim.Adam(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-7, eps_mode="hat")


class WeightCapture(Callback):
    """Keeps every kernel as it is at the end of each epoch; call `on_epoch_end(-1)` before the training for the first one."""

    def __init__(self, model: nn.Sequential) -> None:
        self.model: nn.Sequential = model
        self.epochs: list[int] = []
        self.weights: list[dict[str, Array]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Copy the kernels."""
        self.epochs.append(epoch)
        self.weights.append({name: weight.detach().numpy().copy() for name, weight in kernels(self.model).items()})


def judged(model: nn.Sequential, data: Data) -> tuple[float, float]:
    """Mean binary cross-entropy and accuracy over all rows."""
    with mg.no_grad():
        output = model(mg.tensor(data.x))
        loss = F.binary_cross_entropy(output, mg.tensor(data.y)).item()
    return float(loss), float(np.mean((output.numpy() > 0.5) == (data.y > 0.5)))


class Records(NamedTuple):
    """What was met at the first step of each epoch, and at the very last step: the loss, and each kernel's gradient by name."""

    losses: Array
    gradients: dict[str, Array]  # (records, out, in)

    def means(self) -> dict[str, Array]:
        """Of each gradient, by record."""
        return {name: g.mean(axis=(1, 2), dtype=np.float64) for name, g in self.gradients.items()}

    def deviations(self) -> dict[str, Array]:
        """Of each gradient, by record."""
        return {name: g.std(axis=(1, 2), dtype=np.float64) for name, g in self.gradients.items()}


def train_by_hand(model: nn.Sequential, optimizer: optim.Optimizer, data: Data, epochs: int,
                  watch: Watch = iter) -> Records:
    """The loop written out: a shuffled pass over all rows each epoch, the last batch as short as it comes out; epochs + 1 records."""
    loader = DataLoader(TensorDataset(mg.tensor(data.x), mg.tensor(data.y)), batch_size=BATCH, shuffle=True)
    losses: list[float] = []
    gradients: list[dict[str, Array]] = []

    def record() -> None:
        losses.append(loss.item())
        gradients.append({name: weight.grad.numpy().copy() for name, weight in kernels(model).items()})  # type: ignore[union-attr]

    for _ in watch(range(epochs)):
        for step, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if step == 0:
                record()
    record()
    return Records(np.array(losses), {name: np.stack([g[name] for g in gradients]) for name in kernels(model)})


def ends(values: Array) -> tuple[float, float]:
    """The lowest and the highest."""
    return float(values.min()), float(values.max())


class Runs(NamedTuple):
    """Nets of one kind, one a seed, and how each fared: arrays by seed."""

    models: list[nn.Sequential]
    before: Array  # accuracy before training
    loss: Array
    accuracy: Array
    records: list[Records]

    def deviations(self) -> Array:
        """Of each kernel's gradient, a mean over the records: (seeds, layers)."""
        return np.array([[d.mean() for d in one.deviations().values()] for one in self.records])

    def means(self) -> Array:
        """Of each kernel's gradient, the size, a mean over the records: (seeds, layers)."""
        return np.array([[np.abs(m).mean() for m in one.means().values()] for one in self.records])


def train_many(make: Callable[[], nn.Sequential], optimizer: Callable[[Iterable[Any]], optim.Optimizer], data: Data, seeds: Sequence[int],
               epochs: int, watch: Watch = iter) -> Runs:
    """`train_by_hand` for every seed at once, each with initial weights and orders of its own, with the same bits.

    All steps get the same places of an order; whose row stands there, each looks up in its own.
    """
    x, y = mg.tensor(data.x), mg.tensor(data.y)
    models, steps = [], []
    for seed in seeds:
        mg.manual_seed(seed)
        model = make()
        order = np.concatenate([rows for _ in range(epochs) for rows in _epoch(len(data.x))])
        models.append(model)
        steps.append(mg.capture(_step(model, optimizer(model.parameters()), x, y, mg.tensor(order))))
    before = np.array([judged(model, data)[1] for model in models])
    whole, rest = index_batches(len(data.x), BATCH)
    places = np.arange(epochs * len(data.x))
    kept: list[tuple[Array, list[Array]]] = []
    for epoch in watch(range(epochs)):
        first, last = _taken(steps, places, [table + epoch * len(data.x) for table in (whole, rest[None]) if table.size])
        kept.append(first)
    kept.append(last)
    records = [Records(np.array([loss[i] for loss, _ in kept]),
                       {name: np.stack([found[k][i] for _, found in kept]) for k, name in enumerate(kernels(model))})
               for i, model in enumerate(models)]
    after = np.array([judged(model, data) for model in models])
    return Runs(models, before, after[:, 0], after[:, 1], records)


def _epoch(rows: int) -> tuple[Array, Array]:
    """The order of one epoch as a DataLoader draws it."""
    table, rest = index_batches(rows, BATCH, config.generator())
    return table.reshape(-1), rest


def _step(model: nn.Sequential, optimizer: optim.Optimizer, x: mg.Tensor, y: mg.Tensor, order: mg.Tensor) -> Callable[[Any], Any]:
    weights = list(kernels(model).values())

    def step(places: Any) -> Any:
        rows = order[places]
        optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        return loss, [weight.grad for weight in weights]

    return step


def _taken(steps: Sequence[Any], places: Array, tables: Sequence[Array]) -> list[tuple[Array, list[Array]]]:
    """Loss and gradients by net of the first and of the last of these steps."""
    results = [mg.run_many(steps, len(table), places, index=table) for table in tables]
    return [(loss.numpy()[:, at], [g.numpy()[:, at] for g in gradients]) for (loss, gradients), at in ((results[0], 0), (results[-1], -1))]
