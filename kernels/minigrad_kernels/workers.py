"""Workers: Python threads that run a program's loop natively, each its part, without the interpreter's lock.

A worker waits for a job natively (spin, then yield), so that programs run back to back start it in well under a microsecond; after a
while without work it parks on a lock. Workers are made by the first parallel program and dropped in a forked child.
"""
from __future__ import annotations

import atexit
import os
import threading
from functools import cache
from typing import Any, Final

import numpy as np

from . import _jit, machine
from .abi import SCRATCH_BYTES, word
from .machine import SPINS, call_nothing, exchange_if, load, loop, pause, store, wait_while

# A worker's mailbox: [0] number of the newest job, [8] 1 while parked, [16] number of the last job done, [24...] the arguments of `loop`.
JOB, PARKED, DONE, ARGUMENTS = 0, 8, 16, 24
MAILBOX_WORDS: Final = 40
YIELDS: Final = 2000
QUIT: Final = -1


@_jit.jit
def _serve(mailbox: int, part: int, done: int, yield_address: int, spins: int) -> int:
    """Run jobs as they come; return the number of the last one when there is none for a while, or QUIT."""
    idle = 0
    while True:
        job = load(mailbox + 8 * JOB)
        if job == done:
            idle += 1
            if idle < spins:
                pause()
            elif idle < spins + YIELDS:
                call_nothing(yield_address)
            elif exchange_if(mailbox + 8 * PARKED, 0, 1) and (
                # A job that came in between takes the mark back; if its sender did so first, the lock is already open.
                load(mailbox + 8 * JOB) == done or not exchange_if(mailbox + 8 * PARKED, 1, 0)
            ):
                return done
        elif job == QUIT:
            return job
        else:
            done, idle = job, 0
            at = mailbox + 8 * ARGUMENTS
            loop(word(at, 0), word(at, 1), word(at, 2), word(at, 3), part, word(at, 4), word(at, 5), word(at, 6))
            store(mailbox + 8 * DONE, job)


class _Worker:
    """One thread and its mailbox."""

    def __init__(self, part: int) -> None:
        self.part = part
        self.room = np.zeros(MAILBOX_WORDS, np.int64)
        self.mailbox = int(self.room.ctypes.data)
        self.wake = threading.Semaphore(0)
        self._serve = _native()  # here, not in the thread: without it the thread would be gone, and who waits for it would wait for ever
        self.thread = threading.Thread(target=self._live, name=f"minigrad-worker-{part}", daemon=True)
        self.thread.start()

    def _live(self) -> None:
        done = 0
        while True:
            done = self._serve(self.mailbox, self.part, done, machine.yield_address(), SPINS if machine.available_cores() > 1 else 0)
            if done == QUIT:
                return
            self.wake.acquire()

    def send(self, job: int, arguments: tuple[int, ...]) -> None:
        """Hand over a job; the worker starts at once if it is not parked."""
        self.room[ARGUMENTS:ARGUMENTS + len(arguments)] = arguments
        if _post()(self.mailbox, job):
            self.wake.release()


@_jit.jit
def _post_native(mailbox: int, job: int) -> int:
    """Announce a job; 1 if the worker is parked and has to be woken."""
    machine.store(mailbox + 8 * JOB, job)
    return 1 if exchange_if(mailbox + 8 * PARKED, 1, 0) else 0


@_jit.jit
def _join_native(mailbox: int, before: int, state: int) -> int:
    """Return when the worker has left the job after `before`: only then may its program be changed or freed."""
    wait_while(mailbox + 8 * DONE, before, state)
    return 1


@cache
def _join() -> Any:
    return machine.compiled(_join_native, "workers.join", 3)


@cache
def _native() -> Any:
    return machine.compiled(_serve, "workers.serve", 5)


@cache
def _post() -> Any:
    return machine.compiled(_post_native, "workers.post", 2)


class Crew:
    """The workers of this process; worker 0 is whoever calls `run`."""

    def __init__(self) -> None:
        self.workers: list[_Worker] = []
        self.jobs = 0
        self.busy = threading.Lock()

    def run(self, program: int, length: int, first: int, steps: int, parts: int, state: int) -> int:
        """Run a program on `parts` workers; the number of steps completed. One program at a time."""
        with self.busy:
            while len(self.workers) < parts - 1:
                self.workers.append(_Worker(len(self.workers) + 1))
            helpers = self.workers[:parts - 1]
            before = [int(worker.room[DONE]) for worker in helpers]
            self.jobs += 1
            arguments = (program, length, first, steps, parts, state, machine.table_address())
            run, join = machine.calls().run, _join()
            for worker in helpers:
                worker.send(self.jobs, arguments)
            done = int(run(program, length, first, steps, 0, parts, state, machine.table_address()))
            for worker, last in zip(helpers, before, strict=True):
                join(worker.mailbox, last, state)
            return done

    def stop(self) -> None:
        """Let every worker return; used at exit."""
        for worker in self.workers:
            worker.send(QUIT, ())
        for worker in self.workers:
            worker.thread.join(1.0)
        self.workers = []


crew = Crew()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global crew
    crew = Crew()


atexit.register(lambda: crew.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache
def scratch_address() -> int:
    """The scratch of all workers, SCRATCH_BYTES each, one after the other; reserved, not touched."""
    room = np.zeros(machine.MAX_WORKERS * SCRATCH_BYTES + 64, np.uint8)
    _rooms.append(room)
    return int(room.ctypes.data + -room.ctypes.data % 64)


_rooms: list[Any] = []
