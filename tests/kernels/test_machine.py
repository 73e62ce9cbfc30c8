"""The machine: one loop that runs any program, alone or shared among workers that wait for each other, stop together and park."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import abi, elementwise, machine, norms, workers
from minigrad_kernels.machine import BARRIER, FAILED, HEADER_WORDS, PARALLEL

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
SHIFT = abi.Layout("x[n] by:f out[n]", "n")
CHECK = abi.Layout("total[1]", status=True)
CHECKOUT = Path(__file__).parents[2]
Words = list[int]


def shift(x: np.ndarray[Any, Any], by: float, out: np.ndarray[Any, Any], flags: int = 0) -> Words:
    """out = x + by."""
    entry = abi.entry(elementwise.shift, SHIFT, (FLOAT32, FLOAT32)).load()
    operands = [*SHIFT.words({"n": x.size}, {"by": by}), x.ctypes.data, out.ctypes.data]
    return [entry.index, flags, HEADER_WORDS + len(operands), *operands]


def check(total: np.ndarray[Any, Any], flags: int = 0) -> Words:
    """End the run unless the number is finite."""
    return [abi.entry(norms.guard, CHECK, (FLOAT64,)).load().index, flags, HEADER_WORDS + 1, total.ctypes.data]


def run(*instructions: Words, steps: int = 1, parts: int = 1, state: Any = None) -> tuple[int, int]:
    """Steps completed, and where the run failed."""
    words = np.array([word for instruction in instructions for word in instruction])
    block = machine.new_state() if state is None else state
    place = (int(words.ctypes.data), words.size, 0, steps)
    if parts == 1:
        return machine.calls().run(*place, 0, 1, block.ctypes.data, machine.table_address()), int(block[FAILED])
    return workers.crew.run(*place, parts, int(block.ctypes.data)), int(block[FAILED])


def test_a_program_runs_its_instructions_in_order_step_after_step() -> None:
    x, y = np.zeros(67, np.float32), np.zeros(67, np.float32)
    assert run(shift(x, 1.0, y), shift(y, 2.0, x), steps=10) == (10, -1)
    assert np.all(x == 30) and np.all(y == 28)


def test_an_empty_program_completes() -> None:
    assert run(steps=3) == (3, -1)


def test_a_failing_instruction_stops_before_what_follows() -> None:
    x, total = np.zeros(67, np.float32), np.array([np.nan])
    first = shift(x, 1.0, x)
    assert run(first, check(total), shift(x, 10.0, x), steps=5) == (0, len(first))
    assert np.all(x == 1)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_workers_share_an_instruction_and_wait_for_each_other(size: int, parts: int) -> None:
    x, y = np.zeros(size, np.float32), np.zeros(size, np.float32)
    both = PARALLEL | BARRIER
    # y[::-1]-like neighbours would show a missing barrier: the whole of x is checked by a serial instruction in between.
    assert run(shift(x, 1.0, y, both), shift(y, 1.0, x, BARRIER), shift(x, 1.0, x, both), steps=200, parts=parts) == (200, -1)
    assert np.all(x == 600) and np.all(y == 598)


def in_a_process(code: str, seconds: float = 120.0) -> str:
    """What the code prints; a hang in native code cannot be interrupted from within."""
    body = "import sys, os, numpy as np\nsys.path.insert(0, 'tests/kernels')\nfrom test_machine import *\n" + textwrap.dedent(code)
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "kernels"), str(CHECKOUT / "tests" / "kernels")])
    done = subprocess.run([sys.executable, "-c", body], cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
                          timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_failure_stops_all_workers_before_what_follows_and_none_hangs() -> None:
    assert in_a_process("""
        x, total, both = np.zeros(4096, np.float32), np.array([np.inf]), PARALLEL | BARRIER
        state = machine.new_state()
        for trial in range(300):
            x[:] = 0
            first = shift(x, 1.0, x, both)
            ended = run(first, check(total), shift(x, 10.0, x), shift(x, 100.0, x, BARRIER), shift(x, 1000.0, x, both), steps=5, parts=2, state=state)
            assert ended == (0, len(first)), ended
            assert np.all(x == 1), x[:3]
            state[FAILED] = -1
        print("done")
    """) == "done"


def test_workers_go_on_after_a_failure() -> None:
    assert in_a_process("""
        x, total, both = np.zeros(4096, np.float32), np.array([0.0]), PARALLEL | BARRIER
        state = machine.new_state()
        for trial in range(100):
            x[:], total[0] = 0, np.inf if trial % 2 else 0.0
            found = run(shift(x, 1.0, x, both), check(total, BARRIER), shift(x, 10.0, x, both), steps=3, parts=2, state=state)[0]
            assert (found, x.max(), x.min()) == ((0, 1, 1) if trial % 2 else (3, 33, 33)), (trial, found, x.max())
            state[FAILED] = -1
        print("done")
    """) == "done"


def test_a_worker_parks_and_wakes() -> None:
    x, both = np.zeros(100, np.float32), PARALLEL | BARRIER
    assert run(shift(x, 1.0, x, both), parts=2) == (1, -1)
    worker, deadline = workers.crew.workers[0], time.monotonic() + 30
    while not worker.room[workers.PARKED] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert worker.room[workers.PARKED] == 1
    for i in range(20):
        assert run(shift(x, 1.0, x, both), parts=2) == (1, -1)
        assert np.all(x == i + 2)
        time.sleep(0.002 * (i % 3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_makes_workers_of_its_own() -> None:
    assert in_a_process("""
        x, both = np.zeros(1000, np.float32), PARALLEL | BARRIER
        assert run(shift(x, 1.0, x, both), parts=2) == (1, -1)
        import warnings; warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            fresh = len(workers.crew.workers)
            ok = fresh == 0 and run(shift(x, 1.0, x, both), parts=2) == (1, -1) and bool(np.all(x == 2))
            os._exit(0 if ok else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), run(shift(x, 1.0, x, both), parts=2), x.max())
    """) == "0 (1, -1) 2.0"
