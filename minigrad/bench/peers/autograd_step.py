"""HIPS autograd: its tape for the gradient, NumPy in place for the rest."""
from __future__ import annotations

import math
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from minigrad.bench import workloads
from minigrad.bench.peers import Job
from minigrad.bench.workloads import Workload

ACTIVATIONS = {
    "relu": lambda z: anp.maximum(z, 0),
    "sigmoid": lambda z: 0.5 * anp.tanh(0.5 * z) + 0.5,
    "tanh": anp.tanh,
}


class AutogradStep:
    """A call trains one step and returns its loss."""

    def __init__(self, workload: Workload) -> None:
        self.layers = workload.layers
        self.parameters = workload.parameters()
        self.momentum = [(np.zeros_like(w), np.zeros_like(b)) for w, b in self.parameters]
        self.x, self.y = workload.data()
        self.gradient = value_and_grad(self.loss)

    def loss(self, parameters: Any) -> Any:
        """Mean squared error of the batch."""
        h = self.x
        for (weight, bias), layer in zip(parameters, self.layers, strict=True):
            z = anp.dot(h, weight.T) + bias
            if layer.activation is not None:
                z = ACTIVATIONS[layer.activation](z)
            h = h + z if layer.residual else z
        return anp.mean((h - self.y) ** 2)

    def __call__(self) -> float:
        loss, gradients = self.gradient(self.parameters)
        flat = [g for pair in gradients for g in pair]
        scale = workloads.MAX_NORM / (math.sqrt(sum(float(np.vdot(g, g)) for g in flat)) + workloads.CLIP_EPS)
        for pairs in zip(self.parameters, self.momentum, gradients, strict=True):
            for p, v, g in zip(*pairs, strict=True):
                if scale < 1:
                    g *= scale
                v *= workloads.MOMENTUM
                v += g
                p -= workloads.LEARNING_RATE * v
        return float(loss)


def build(workload: Workload, mode: str, threads: int) -> Job:
    """The threads of NumPy's BLAS are set in the environment, before NumPy starts."""
    return Job(AutogradStep(workload))
