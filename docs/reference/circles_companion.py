"""Two circles of radius 1 and 0.8 and a net of five hidden layers: ranges over seeds, by NumPy alone, in float64.

The net, its data and its training are those of "How to Fix Vanishing Gradients Using the Rectified Linear Activation Function"
(machinelearningmastery.com), which prints one unseeded run. `python circles_companion.py` prints medians and ranges as a Markdown table.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WIDTHS = (2, 5, 5, 5, 5, 5, 1)
BATCH, RATE, MOMENTUM = 32, 0.01, 0.9


def circles(count: int = 1000, factor: float = 0.8, noise: float = 0.1, state: int = 1) -> tuple[Array, Array]:
    """The points of scikit-learn's make_circles, which shuffles first and draws noise second, with each column scaled to [-1, 1]."""
    rng = np.random.RandomState(state)
    angle = np.linspace(0, 2 * np.pi, count // 2, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = np.concatenate([ring, factor * ring]), np.repeat([0.0, 1.0], count // 2)
    order = np.arange(count)
    rng.shuffle(order)
    x = x[order] + rng.normal(scale=noise, size=(count, 2))
    low, high = x.min(axis=0), x.max(axis=0)
    return 2 * (x - low) / (high - low) - 1, y[order, None]


def weights(kind: str, rng: np.random.Generator) -> list[Array]:
    """Kernels (in, out). tanh: all uniform in [0, 1). relu: He's uniform rule, Glorot's for the output."""
    drawn = []
    for fan_in, fan_out in pairwise(WIDTHS):
        bound = np.sqrt(6 / (fan_in + fan_out) if fan_out == 1 else 6 / fan_in)
        low, high = (0.0, 1.0) if kind == "tanh" else (-bound, bound)
        drawn.append(rng.uniform(low, high, (fan_in, fan_out)))
    return drawn


class Nets:
    """As many nets as seeds, side by side: the first axis of every array."""

    def __init__(self, kind: str, seeds: int) -> None:
        self.kind = kind
        self.rngs = [np.random.default_rng(seed) for seed in range(seeds)]
        self.kernels = [np.stack(kernels) for kernels in zip(*(weights(kind, rng) for rng in self.rngs), strict=True)]
        self.biases = [np.zeros((seeds, 1, kernel.shape[2])) for kernel in self.kernels]
        self.velocities = [np.zeros_like(p) for p in (*self.kernels, *self.biases)]

    def forward(self, x: Array) -> tuple[list[Array], Array]:
        """What each layer gets, and the logits."""
        inputs, h = [], x
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            inputs.append(h)
            h = h @ kernel + bias
            if i < len(self.kernels) - 1:
                h = np.tanh(h) if self.kind == "tanh" else np.maximum(h, 0)
        return inputs, h

    def step(self, x: Array, y: Array) -> list[Array]:
        """One step of gradient descent with momentum on the mean binary cross-entropy; gives the kernels' gradients."""
        inputs, logits = self.forward(x)
        flow = (1 / (1 + np.exp(-logits)) - y) / x.shape[1]
        kernels: list[Array] = []
        biases: list[Array] = []
        for i in reversed(range(len(self.kernels))):
            h = inputs[i]
            kernels.insert(0, h.transpose(0, 2, 1) @ flow)
            biases.insert(0, flow.sum(axis=1, keepdims=True))
            if i:
                flow = flow @ self.kernels[i].transpose(0, 2, 1) * (1 - h**2 if self.kind == "tanh" else h > 0)
        for p, g, v in zip((*self.kernels, *self.biases), (*kernels, *biases), self.velocities, strict=True):
            v *= MOMENTUM
            v -= RATE * g
            p += v
        return kernels

    def judged(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Loss and accuracy of each net over all rows."""
        logits = self.forward(np.broadcast_to(x, (len(self.rngs), *x.shape)))[1]
        loss = np.mean(np.logaddexp(0, logits) - y * logits, axis=(1, 2))
        return loss, np.mean((logits > 0) == (y > 0.5), axis=(1, 2))

    def batches(self, rows: int) -> Iterator[NDArray[np.int64]]:
        """An epoch of row numbers, shuffled for each net by itself, the short batch last."""
        orders = np.stack([rng.permutation(rows) for rng in self.rngs])
        for begin in range(0, rows, BATCH):
            yield orders[:, begin:begin + BATCH]


def measured(kind: str, seeds: int, epochs: int) -> dict[str, Array]:
    """What is compared, by seed: final losses and accuracies, and the deviation of each kernel's gradient, a mean over the epochs' first steps."""
    x, y = circles()
    half = len(x) // 2
    nets = Nets(kind, seeds)
    deviations = []
    for _ in range(epochs):
        for step, rows in enumerate(nets.batches(half)):
            gradients = nets.step(x[rows], y[rows])
            if step == 0:
                deviations.append([g.std(axis=(1, 2)) for g in gradients])
    (train_loss, train), (test_loss, test) = nets.judged(x[:half], y[:half]), nets.judged(x[half:], y[half:])
    by_layer = np.mean(deviations, axis=0)
    layers = {f"S.D. of the gradient, {kind}{i + 1}": by_layer[i] for i in range(len(by_layer))}
    return {"training loss": train_loss, "training accuracy": train, "test loss": test_loss, "test accuracy": test, **layers}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=500)
    options = parser.parse_args()
    print(f"| net | figure | median of {options.seeds} seeds | lowest | highest |\n|---|---|---|---|---|")
    for kind, name in (("tanh", "tanh, U(0, 1)"), ("relu", "ReLU, He")):
        for figure, values in measured(kind, options.seeds, options.epochs).items():
            print(f"| {name} | {figure} | {np.median(values):.4g} | {values.min():.4g} | {values.max():.4g} |")


if __name__ == "__main__":
    main()
