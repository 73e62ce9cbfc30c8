"""The step written by hand in NumPy: every array made beforehand, every operation in place, one slab for all parameters.

It is also the oracle of the losses, in float64.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad.bench import workloads
from minigrad.bench.peers import Job
from minigrad.bench.workloads import Workload

# float32 or float64, as the step is asked for
Array = NDArray[Any]
# The update's passes over parameters, gradients and momentum stay in the L2 cache; smaller blocks cost more calls than they save
UPDATE_BLOCK = 65536


def sigmoid(z: Array) -> None:
    """In place. The tanh form costs one SIMD call of NumPy and cannot overflow."""
    z *= 0.5
    np.tanh(z, out=z)
    z *= 0.5
    z += 0.5


def sigmoid_grad(g: Array, a: Array, out: Array) -> None:
    """out = g * a * (1 - a)."""
    np.subtract(1, a, out=out)
    out *= a
    out *= g


def tanh(z: Array) -> None:
    """In place."""
    np.tanh(z, out=z)


def tanh_grad(g: Array, a: Array, out: Array) -> None:
    """out = g * (1 - a * a)."""
    np.multiply(a, a, out=out)
    np.subtract(1, out, out=out)
    out *= g


def relu(z: Array) -> None:
    """In place."""
    np.maximum(z, 0, out=z)


def relu_grad(g: Array, a: Array, out: Array) -> None:
    """out = g * (a > 0). np.sign of something not negative is that mask, already in g's dtype."""
    np.sign(a, out=out)
    out *= g


ACTIVATIONS: dict[str | None, tuple[Callable[[Array], None] | None, Callable[[Array, Array, Array], None] | None]] = {
    "relu": (relu, relu_grad),
    "sigmoid": (sigmoid, sigmoid_grad),
    "tanh": (tanh, tanh_grad),
    None: (None, None),
}


class DenseLayer:
    """Views of one layer's parameters and gradients in the slabs, and its own work arrays."""

    def __init__(self, layer: workloads.Layer, batch: int, parameters: Iterator[Array], gradients: Iterator[Array]) -> None:
        self.weight, self.bias = next(parameters), next(parameters)
        self.grad_weight, self.grad_bias = next(gradients), next(gradients)
        self.weight_t = self.weight.T
        self.residual = layer.residual
        self.activation, self.grad_activation = ACTIVATIONS[layer.activation]
        dtype = self.weight.dtype
        self.z = np.empty((batch, layer.fan_out), dtype)
        self.out = np.empty_like(self.z) if layer.residual else self.z
        self.grad_z = np.empty_like(self.z)
        self.grad_in = np.empty((batch, layer.fan_in), dtype)


def views(flat: Array, shapes: list[tuple[int, ...]]) -> Iterator[Array]:
    """Consecutive pieces of a slab in the given shapes."""
    start = 0
    for shape in shapes:
        yield flat[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)


class NumpyStep:
    """A call trains one step and returns its loss."""

    def __init__(self, workload: Workload, dtype: DTypeLike = np.float32) -> None:
        arrays = [a for pair in workload.parameters() for a in pair]
        shapes = [a.shape for a in arrays]
        self.parameters: Array = np.concatenate([a.ravel() for a in arrays]).astype(dtype)
        self.gradients = np.zeros_like(self.parameters)
        momentum, scratch = np.zeros_like(self.parameters), np.empty(UPDATE_BLOCK, self.parameters.dtype)
        starts = range(0, self.parameters.size, UPDATE_BLOCK)
        slabs = (self.parameters, self.gradients, momentum)
        self.blocks = [(*(slab[i : i + UPDATE_BLOCK] for slab in slabs), scratch[: self.parameters.size - i]) for i in starts]
        parameters, gradients = views(self.parameters, shapes), views(self.gradients, shapes)
        self.layers = [DenseLayer(layer, workload.batch, parameters, gradients) for layer in workload.layers]
        self.x, self.y = (a.astype(dtype) for a in workload.data())
        self.ones = np.ones(workload.batch, dtype)
        self.error = np.empty_like(self.y)


    def __call__(self) -> float:
        """np.dot, and not np.matmul, throughout: it starts 0.3 us sooner."""
        loss = self.forward()
        self.backward()
        self.update()
        return loss

    def forward(self) -> float:
        """Mean squared error of the batch."""
        h = self.x
        for layer in self.layers:
            z = layer.z
            np.dot(h, layer.weight_t, out=z)
            z += layer.bias
            if layer.activation is not None:
                layer.activation(z)
            if layer.residual:
                np.add(h, z, out=layer.out)
            h = layer.out
        np.subtract(h, self.y, out=self.error)
        return float(np.vdot(self.error, self.error)) / self.error.size

    def backward(self) -> None:
        """Gradients of all parameters, into their slab."""
        self.error *= 2 / self.error.size
        g = self.error
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            grad_z = g
            if layer.grad_activation is not None:
                grad_z = layer.grad_z
                layer.grad_activation(g, layer.z, grad_z)
            np.dot(grad_z.T, self.layers[i - 1].out if i else self.x, out=layer.grad_weight)
            np.dot(self.ones, grad_z, out=layer.grad_bias)
            if i:
                np.dot(grad_z, layer.weight, out=layer.grad_in)
                if layer.residual:
                    layer.grad_in += g
                g = layer.grad_in

    def update(self) -> None:
        """Clip the global norm, then SGD with momentum, block by block."""
        norm = math.sqrt(np.dot(self.gradients, self.gradients))
        scale = workloads.MAX_NORM / (norm + workloads.CLIP_EPS)
        for p, g, v, scratch in self.blocks:
            if scale < 1:
                g *= scale
            v *= workloads.MOMENTUM
            v += g
            np.multiply(v, workloads.LEARNING_RATE, out=scratch)
            p -= scratch


def build(workload: Workload, mode: str, threads: int) -> Job:
    """The threads of NumPy's BLAS are set in the environment, before NumPy starts."""
    return Job(NumpyStep(workload))


def reference_losses(workload: Workload, count: int) -> list[float]:
    """The first losses in float64: what every contestant must agree with."""
    step = NumpyStep(workload, np.float64)
    return [step() for _ in range(count)]
