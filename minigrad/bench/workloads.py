"""The training steps that are timed: one net, one batch, and what every contestant has to do with them.

One step is forward, mean squared error, backward, clipping of the global gradient norm and SGD with momentum, in float32.
"""
from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Activation = Literal["relu", "sigmoid", "tanh"]

MAX_NORM = 0.25
CLIP_EPS = 1e-6  # PyTorch's clip_grad_norm_ divides by norm + 1e-6
LEARNING_RATE = 0.01
MOMENTUM = 0.9
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Layer:
    """Sizes of one dense layer, and what follows the product."""

    fan_in: int
    fan_out: int
    activation: Activation | None
    residual: bool


@dataclass(frozen=True)
class Product:
    """One matrix product of a dense layer: "y" = x @ W.T, "dw" = g.T @ x, "dx" = g @ W; m x k by k x n."""

    kind: Literal["y", "dw", "dx"]
    m: int
    k: int
    n: int

    @property
    def name(self) -> str:
        """Kind and sizes."""
        return f"{self.kind} {self.m}x{self.k}x{self.n}"

    @property
    def samples(self) -> int:
        """One product."""
        return 1

    def flops(self) -> int:
        """A multiplication and an addition for each of m k n."""
        return 2 * self.m * self.k * self.n


@dataclass(frozen=True)
class Workload:
    """A dense net and its batch. `init` is the rule of the weights' deviation, `task` what x and y are."""

    name: str
    batch: int
    widths: tuple[int, ...]
    activation: Activation
    residual: bool = False
    init: Literal["glorot", "depth"] = "glorot"
    task: Literal["xor", "circles", "regression", "digits"] = "regression"

    @property
    def samples(self) -> int:
        """Samples that one step consumes."""
        return self.batch

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return len(self.widths) - 2

    @property
    def layers(self) -> list[Layer]:
        """Hidden layers with the activation, and a shortcut where widths match; then a linear one."""
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        hidden = [Layer(i, o, self.activation, self.residual and i == o) for i, o in pairs[:-1]]
        return [*hidden, Layer(*pairs[-1], None, False)]

    @property
    def products(self) -> list[Product]:
        """The matrix products of one step. The first layer's input needs no gradient."""
        forward = [Product("y", self.batch, layer.fan_in, layer.fan_out) for layer in self.layers]
        weight = [Product("dw", layer.fan_out, self.batch, layer.fan_in) for layer in self.layers]
        data = [Product("dx", self.batch, layer.fan_out, layer.fan_in) for layer in self.layers[1:]]
        return forward + weight + data

    def flops(self) -> int:
        """Floating-point operations in the matrix products of one step."""
        return sum(product.flops() for product in self.products)

    def parameters(self, seed: int = 0) -> list[tuple[Array, Array]]:
        """(W, b) of every layer, W of shape (out, in)."""
        rng = np.random.default_rng(seed)
        return [(self._weight(rng, layer), np.zeros(layer.fan_out, np.float32)) for layer in self.layers]

    def _weight(self, rng: np.random.Generator, layer: Layer) -> Array:
        variance = 2 / (layer.fan_in + layer.fan_out) if self.init == "glorot" else 1 / (self.widths[0] * self.depth)
        return rng.normal(0, variance**0.5, (layer.fan_out, layer.fan_in)).astype(np.float32)

    def data(self, seed: int = 1) -> tuple[Array, Array]:
        """Inputs (batch, widths[0]) and targets (batch, widths[-1])."""
        rng = np.random.default_rng(seed)
        x, y = {"xor": self._xor, "circles": self._circles, "regression": self._regression, "digits": self._digits}[self.task](rng)
        return np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)

    def _xor(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        bits = np.arange(self.batch)[:, None] >> np.array([1, 0]) & 1
        return bits.astype(float), (bits[:, :1] ^ bits[:, 1:]).astype(float)

    def _circles(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inner = np.arange(self.batch)[:, None] % 2
        angle = rng.uniform(0, 2 * np.pi, (self.batch, 1))
        ring = np.hstack([np.cos(angle), np.sin(angle)]) * np.where(inner, 0.5, 1.0)
        return ring + rng.normal(0, 0.05, ring.shape), inner.astype(float)

    def _regression(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = rng.normal(0, 1, (self.batch, self.widths[0]))
        return x, np.sin(x[:, : self.widths[-1]])

    def _digits(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        classes = self.widths[-1]
        pixels = rng.uniform(0, 1, (self.batch, self.widths[0])) * (rng.uniform(0, 1, (self.batch, self.widths[0])) < 0.2)
        return pixels, np.eye(classes)[rng.integers(0, classes, self.batch)]


Work = Workload | Product


def deep(depth: int, width: int, batch: int) -> Workload:
    """`depth` residual ReLU layers of one width, then one output.

    N(0, 1/(width depth)) bounds the branches' variance and not their mean, which ReLU makes positive: the loss of the deepest begins near 1e6.
    """
    return Workload(f"deep-{depth}-w{width}", batch, (width,) * (depth + 1) + (1,), "relu", residual=True, init="depth")


WORKLOADS = (
    Workload("xor-deep", 4, (2, *(4,) * 11, 1), "tanh", residual=True, task="xor"),
    Workload("circles", 32, (2, *(5,) * 4, 1), "sigmoid", task="circles"),
    *(deep(depth, 32, 32) for depth in DEPTHS),
    deep(100, 256, 64),
    Workload("mnist-mlp", 100, (784, 1000, 750, 500, 10), "sigmoid", task="digits"),
)


def select(patterns: list[str]) -> list[Workload]:
    """Workloads whose name matches one of the shell patterns, in the table's order."""
    for pattern in patterns:
        if not any(fnmatchcase(workload.name, pattern) for workload in WORKLOADS):
            raise ValueError(f"no workload matches {pattern!r}; there are: {', '.join(workload.name for workload in WORKLOADS)}")
    return [workload for workload in WORKLOADS if any(fnmatchcase(workload.name, pattern) for pattern in patterns)]
