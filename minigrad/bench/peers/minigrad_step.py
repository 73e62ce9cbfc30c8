"""minigrad: one step function, run eagerly, as a captured call, or repeated inside the program; with a recording, or without the guard."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.bench import workloads
from minigrad.bench.peers import Job, chunk
from minigrad.bench.workloads import Workload

CALLS_KEPT = 1000
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


def build(workload: Workload, mode: str, threads: int) -> Job:
    """`mode` is "eager", "captured" or "repeat"; then maybe "watched" and every how many steps, or "unguarded"."""
    mode, *more = mode.split()
    mg.set_num_threads(threads)
    model = network(workload)
    opt = optim.SGD(model.parameters(), lr=workloads.LEARNING_RATE, momentum=workloads.MOMENTUM)
    if more[:1] == ["unguarded"]:
        opt.nonfinite = "ignore"
    watch = mg.watch(model, every=int(more[1])) if more[:1] == ["watched"] else None
    x, y = map(mg.tensor, workload.data())

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), workloads.MAX_NORM)
        opt.step()
        return loss

    if mode == "eager":
        return Job(lambda: float(step(x, y)))
    captured = mg.capture(step)
    if mode == "captured":
        call: Any = lambda: float(captured(x, y))  # noqa: E731
        return Job(call if watch is None else _kept_small(call, watch), first_calls=3)  # two recordings, the second makes the program, its first run
    steps = chunk(workload)

    def repeat() -> Sequence[float]:
        return captured.repeat(steps, x, y).numpy().tolist()  # type: ignore[no-any-return]

    return Job(repeat if watch is None else _kept_small(repeat, watch), steps)


def _kept_small(call: Callable[[], Any], watch: mg.Watch) -> Callable[[], Any]:
    """The call, which forgets what was recorded now and then: a bench takes more steps than anybody keeps."""
    calls = count(1)

    def clearing() -> Any:
        if next(calls) % CALLS_KEPT == 0:
            watch.clear()
        return call()

    return clearing
