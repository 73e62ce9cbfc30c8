"""Turns: every round gives each contestant one short sample, in an order that changes, so that a slow moment of the machine hits all alike."""
from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

from minigrad.bench.worker import ContestantError, Start
from minigrad.bench.workloads import Work

TOLERANCE = 1e-3


class Racer(Protocol):
    """What a race needs of a contestant; `worker.Worker` is one."""

    @property
    def name(self) -> str: ...

    def start(self, work: Work) -> Start: ...

    def turn(self, calls: int) -> float: ...


@dataclass(frozen=True)
class Samples:
    """Seconds per step, one a round, of one contestant."""

    start: Start
    calls: int
    seconds: list[float]

    @property
    def median(self) -> float:
        """Seconds per step."""
        return median(self.seconds)

    @property
    def iqr(self) -> float:
        """Distance between the quartiles, in seconds per step."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return high - low

    def ratio(self, baseline: Samples) -> float:
        """Median over rounds of this time over the baseline's time in the same round."""
        return median(ours / theirs for ours, theirs in zip(self.seconds, baseline.seconds, strict=True))


def pin(cores: Iterable[int]) -> bool:
    """Keep all threads of this process, and all processes it starts, on these cores. False where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), set(cores))
    return True


def turn_order(count: int, round_index: int) -> list[int]:
    """Each round begins one place later, and every second one runs backwards, so nobody keeps a neighbour."""
    order = [(i + round_index // 2) % count for i in range(count)]
    return order[::-1] if round_index % 2 else order


def calibrate(racer: Racer, sample_s: float) -> int:
    """Calls that take about `sample_s`."""
    calls = 1
    while (seconds := racer.turn(calls)) < sample_s / 4:
        calls *= 4
    return max(1, math.ceil(calls * sample_s / seconds))


def compare(name: str, losses: Sequence[float], reference: Sequence[float]) -> None:
    """Raise unless the losses are the reference's."""
    for step, (loss, expected) in enumerate(zip(losses, reference, strict=True)):
        if not abs(loss - expected) <= TOLERANCE * abs(expected):
            raise ContestantError(f"{name}: loss {loss!r} after {step} steps, where {expected!r} is right (tolerance {TOLERANCE:g} relative)")


def race(racers: Sequence[Racer], work: Work, reference: Sequence[float], rounds: int, sample_s: float) -> dict[str, Samples]:
    """Samples by name: first calls, losses compared, then interleaved rounds. An empty reference compares nothing."""
    starts = {racer.name: racer.start(work) for racer in racers}
    if reference:
        for name, start in starts.items():
            compare(name, start.losses, reference)
    calls = {racer.name: calibrate(racer, sample_s) for racer in racers}
    seconds: dict[str, list[float]] = {racer.name: [] for racer in racers}
    for round_index in range(rounds):
        for i in turn_order(len(racers), round_index):
            name = racers[i].name
            seconds[name].append(racers[i].turn(calls[name]) / (calls[name] * starts[name].steps))
    return {name: Samples(starts[name], calls[name], seconds[name]) for name in starts}
