"""minigrad: one step function, run eagerly, as a captured call, or repeated inside the program."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.bench import workloads
from minigrad.bench.peers import Job, chunk
from minigrad.bench.workloads import Workload

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def network(workload: Workload) -> nn.Sequential:
    """The workload's net with the workload's parameters."""
    blocks: list[nn.Module] = []
    for (weight, bias), layer in zip(workload.parameters(), workload.layers, strict=True):
        linear = nn.Linear(layer.fan_in, layer.fan_out)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
        block: nn.Module = linear if layer.activation is None else nn.Sequential(linear, ACTIVATIONS[layer.activation]())
        blocks.append(nn.Residual(block) if layer.residual else block)
    return nn.Sequential(*blocks)


def training_step(model: nn.Sequential, opt: optim.Optimizer) -> Callable[[mg.Tensor, mg.Tensor], mg.Tensor]:
    """Forward, loss, backward, clipping and update."""

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), workloads.MAX_NORM)
        opt.step()
        return loss

    return step


def build(workload: Workload, mode: str, threads: int) -> Job:
    """`mode` is "eager", "captured" or "repeat"."""
    mg.set_num_threads(threads)
    model = network(workload)
    opt = optim.SGD(model.parameters(), lr=workloads.LEARNING_RATE, momentum=workloads.MOMENTUM)
    x, y = map(mg.tensor, workload.data())
    step = training_step(model, opt)
    if mode == "eager":
        return Job(lambda: float(step(x, y)))
    captured = mg.capture(step)
    if mode == "captured":
        return Job(lambda: float(captured(x, y)), first_calls=3)  # two recordings, the second makes the program, and its first run
    steps = chunk(workload)

    def repeat() -> Sequence[float]:
        return captured.repeat(steps, x, y).numpy().tolist()  # type: ignore[no-any-return]

    return Job(repeat, steps)
