"""What a recording and the guard add to a step: measured on one net in one process, so that all ways to run it share its memory."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final

import minigrad as mg
from minigrad import optim
from minigrad.bench import workloads
from minigrad.bench.peers.minigrad_step import network, training_step
from minigrad.bench.workloads import Workload

#: What is added to the step: how often it is recorded, and whether there is a guard.
VARIANTS: Final[dict[str, tuple[int | None, str]]] = {
    "plain": (None, "raise"), "recorded": (1, "raise"), "each 4th recorded": (4, "raise"), "unguarded": (None, "ignore"),
}
RUNS: Final = ("call", "repeat")
WORKLOADS: Final = ("xor-deep", "deep-100-w32", "mnist-mlp")
#: Of one look, of which there are LOOKS a round; the quickest counts.
LOOK_S: Final = 0.005
LOOKS: Final = 5
FIRST_CALLS: Final = 3


@dataclass(frozen=True)
class Cost:
    """One way to run one workload. `added` is its time over that of the plain step of the same round, less 1: median and quartiles."""

    work: str
    run: str
    variant: str
    median_us: float
    added: float
    quartiles: tuple[float, float]
    rounds: int


def costs(workload: Workload, run: str, rounds: int) -> list[Cost]:
    """Time every variant once a round, one after the other."""
    model = network(workload)
    opt = optim.SGD(model.parameters(), lr=workloads.LEARNING_RATE, momentum=workloads.MOMENTUM)
    x, y = map(mg.tensor, workload.data())
    step = mg.capture(training_step(model, opt))

    def several(steps: int) -> Callable[[], object]:
        if run == "repeat":
            return lambda: step.repeat(steps, x, y)
        return lambda: [step(x, y) for _ in range(steps)]

    several(FIRST_CALLS + 1)()
    began = time.perf_counter()
    several(FIRST_CALLS)()
    steps = max(3, int(LOOK_S / ((time.perf_counter() - began) / FIRST_CALLS)))
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (every, policy) in VARIANTS.items():
            opt.nonfinite = policy
            watch = mg.watch(model, every=every) if every is not None else None
            several(FIRST_CALLS)()  # recorded anew, for something has changed
            found[name].append(min(_seconds(several(steps), watch) for _ in range(LOOKS)) / steps)
            if watch is not None:
                watch.stop()
    opt.nonfinite = "raise"
    return [_cost(workload.name, run, name, seconds, found["plain"]) for name, seconds in found.items()]


def _seconds(call: Callable[[], object], watch: mg.Watch | None) -> float:
    if watch is not None:
        watch.clear()  # into memory that is there: a page's first use is the system's cost
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _cost(work: str, run: str, variant: str, seconds: list[float], plain: list[float]) -> Cost:
    added = [mine / other - 1 for mine, other in zip(seconds, plain, strict=True)]
    low, _, high = quantiles(added, n=4) if len(added) > 1 else added * 3
    return Cost(work, run, variant, median(seconds) * 1e6, median(added), (low, high), len(seconds))


def race(chosen: list[Workload], rounds: int) -> Iterator[list[Cost]]:
    """The costs of each workload and way to run it, as soon as they are measured."""
    for workload in chosen:
        for run in RUNS:
            yield costs(workload, run, rounds)


def table(found: list[Cost]) -> str:
    """The costs of one workload, in columns."""
    lines = [f"{found[0].work}, {found[0].run}"]
    for one in found:
        low, high = one.quartiles
        lines.append(f"{one.variant:<18} {one.median_us:>10,.2f} us  {one.added:>+7.1%}  ({low:+.1%} to {high:+.1%})")
    return "\n".join(lines)


def document(found: list[Cost], **about: Any) -> dict[str, Any]:
    """The JSON file's content."""
    return {"schema": 1, **about, "costs": [vars(one) for one in found]}
