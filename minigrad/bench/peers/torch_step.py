"""PyTorch, eager, with the quickest of its three ways to clip and update: tensor by tensor, foreach, fused."""
from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F

from minigrad.bench import workloads
from minigrad.bench.peers import Job
from minigrad.bench.workloads import Workload

ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
VARIANTS: dict[str, dict[str, bool]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
TRIAL_STEPS = 10


class TorchStep:
    """A call trains one step and returns its loss. Plain tensors and functions: modules would add their hooks' time."""

    def __init__(self, workload: Workload, variant: str) -> None:
        layers = zip(workload.parameters(), workload.layers, strict=True)
        self.layers = [
            (torch.from_numpy(w).requires_grad_(), torch.from_numpy(b).requires_grad_(), ACTIVATIONS.get(layer.activation or ""), layer.residual)
            for (w, b), layer in layers
        ]
        self.parameters = [p for weight, bias, _, _ in self.layers for p in (weight, bias)]
        self.foreach = variant != "loop"
        self.opt = torch.optim.SGD(self.parameters, workloads.LEARNING_RATE, workloads.MOMENTUM, **VARIANTS[variant])
        self.x, self.y = map(torch.from_numpy, workload.data())

    def model(self, h: Any) -> Any:
        """The net's output."""
        for weight, bias, activation, residual in self.layers:
            z = F.linear(h, weight, bias)
            if activation is not None:
                z = activation(z)
            h = h + z if residual else z
        return h

    def __call__(self) -> float:
        self.opt.zero_grad()
        loss = F.mse_loss(self.model(self.x), self.y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, workloads.MAX_NORM, foreach=self.foreach)
        self.opt.step()
        return float(loss.item())


def trial(workload: Workload, variant: str) -> float:
    """Seconds of the quickest of a few steps, on a net of their own."""
    step, seconds = TorchStep(workload, variant), []
    for _ in range(TRIAL_STEPS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def build(workload: Workload, mode: str, threads: int) -> Job:
    """The quickest variant on this workload, on a fresh net; `mode` names one to skip the trial."""
    torch.set_num_threads(threads)
    variant = mode or min(VARIANTS, key=lambda name: trial(workload, name))
    return Job(TorchStep(workload, variant), note=variant)
