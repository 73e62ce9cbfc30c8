"""A contestant in a process of its own: its libraries start with the environment they need, and no other's threads or garbage disturb it.

The process takes one JSON request a line on stdin and answers one line on stdout.
"""
from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from minigrad.bench.peers import Contestant, Job, thread_env
from minigrad.bench.workloads import Product, Work, Workload
from minigrad.errors import MinigradError

COMPARED_STEPS = 5
# Built and run once before the first workload, so that a first call shows what the model costs and not what the process does
TINY = Workload("tiny", 4, (2, 3, 1), "tanh")


class ContestantError(MinigradError, RuntimeError):
    """A contestant failed in its process, or its losses are not the others'."""


@dataclass(frozen=True)
class Start:
    """What building a piece of work and calling it for the first time gave."""

    losses: list[float]
    steps: int
    first_call_s: float
    note: str


class Worker:
    """The near end: starts the process, asks, waits."""

    def __init__(self, contestant: Contestant, threads: int = 1) -> None:
        self.contestant = contestant
        command = [sys.executable, "-m", __name__, json.dumps(asdict(contestant)), str(threads)]
        # A checkout that is not installed is found where this process found it
        path = os.pathsep.join(filter(None, sys.path))
        env = {**os.environ, "PYTHONPATH": path, **thread_env(threads), **dict(contestant.env)}
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, bufsize=1)
        try:
            self._ask("ready")
        except ContestantError:
            self.close()
            raise
        self.start_s = time.perf_counter() - start

    @property
    def name(self) -> str:
        """The contestant's name."""
        return self.contestant.name

    def start(self, work: Work) -> Start:
        """Build it, time the first call, keep the first losses."""
        return Start(**self._ask("start", kind=type(work).__name__, work=asdict(work)))

    def turn(self, calls: int) -> float:
        """Seconds for so many calls."""
        return float(self._ask("turn", calls=calls))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, request: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([request, arguments]) + "\n")
            reply = json.loads(self._process.stdout.readline() or "null")
        except BrokenPipeError:
            reply = None
        if reply is None:
            raise ContestantError(f"{self.name}: its process ended with status {self._process.wait()}")
        if "error" in reply:
            raise ContestantError(f"{self.name}: {reply['error']}")
        return reply["result"]


def timed(call: Callable[[], object], calls: int) -> float:
    """Seconds for so many calls, after a quarter as many that bring caches and branch predictors back."""
    gc.collect()
    gc.disable()
    try:
        for _ in repeat(None, calls // 4 + 1):
            call()
        start = time.perf_counter()
        for _ in repeat(None, calls):
            call()
        return time.perf_counter() - start
    finally:
        gc.enable()


class Stand:
    """The far end: one contestant and the job it has in hand."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        self.contestant, self.threads = contestant, threads
        self.job: Job | None = None

    def ready(self) -> None:
        """Import everything and run once."""
        self.contestant.build(Product("y", 2, 2, 2) if self.contestant.module == "products" else TINY, self.threads).call()

    def start(self, kind: str, work: dict[str, Any]) -> dict[str, Any]:
        """Build the work and call it until there are losses to compare."""
        self.job = None
        gc.collect()
        self.job = self.contestant.build(from_json(kind, work), self.threads)
        start = time.perf_counter()
        losses = self.job.losses(self.job.first_calls)
        seconds = time.perf_counter() - start
        losses += self.job.losses(COMPARED_STEPS - len(losses))
        return asdict(Start(losses[:COMPARED_STEPS], self.job.steps, seconds, self.job.note))

    def turn(self, calls: int) -> float:
        """Time the job in hand."""
        assert self.job is not None
        return timed(self.job.call, calls)


def from_json(kind: str, fields: dict[str, Any]) -> Work:
    """The Workload or Product that asdict took apart."""
    if kind == "Product":
        return Product(**fields)
    return Workload(**{**fields, "widths": tuple(fields["widths"])})


def main(argv: list[str]) -> int:
    """Answer requests until stdin ends. What a library prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    fields = json.loads(argv[0])
    stand = Stand(Contestant(**{**fields, "env": tuple(map(tuple, fields["env"]))}), int(argv[1]))
    for line in sys.stdin:
        request, arguments = json.loads(line)
        try:
            reply = {"result": getattr(stand, request)(**arguments)}
        except Exception:  # noqa: BLE001 - whatever a peer raises, the near end reports it under its name
            reply = {"error": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
