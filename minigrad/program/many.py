"""`run_many`: independent captured steps side by side, each on one core."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Any

from minigrad import config
from minigrad.errors import CaptureError, NonFiniteError
from minigrad.program.replay import stopping
from minigrad.program.step import CapturedStep, stacked


def run_many(steps: Sequence[CapturedStep[..., Any]], n: int, *args: Any, index: Any = None, **kwargs: Any) -> Any:
    """Take `n` steps with each of K captured steps, as many at a time as there are threads; every output with leading axes (K, n).

    All get the same arguments each time, as `repeat`; with `index`, int64 (n, rows), step s gets row index[s] of every argument, as `scan`.
    The steps must be independent: own parameters, own optimiser. They may be of different nets if their outputs have the same shapes. The
    results, and what is left in each net, have the bits of running one after the other. Raises CaptureError for a step given twice.
    """
    if len({id(step) for step in steps}) < len(steps):
        raise CaptureError("run_many got one captured step twice: make one for each net")
    if not steps:
        raise ValueError("run_many got no steps")
    for step in steps:
        if not isinstance(step, CapturedStep):
            raise TypeError(f"run_many takes captured steps, got a {type(step).__name__}: wrap it in mg.capture(...)")
    results: list[Any] = [None] * len(steps)
    waiting: dict[int, Any] = {}
    for i, step in enumerate(steps):
        with _named(i):
            rest, draws = step.begun(n, args, kwargs, index)
            if draws:
                results[i] = rest()  # the order of those that draw from the one random state is the order in which they were given
        if not draws:
            waiting[i] = rest
    _check_independent({i: steps[i] for i in waiting})
    for i, result in _side_by_side(waiting).items():
        results[i] = result
    return stacked(results)


@contextmanager
def _named(i: int) -> Iterator[None]:
    """Say of a refused step in whose place it was."""
    try:
        yield
    except NonFiniteError as error:
        error.args = (f"run_many: in steps[{i}]: {error}",)
        raise


def _check_independent(steps: dict[int, CapturedStep[..., Any]]) -> None:
    """Raise CaptureError if two of the steps write the same memory."""
    ranges = sorted({(begin, end, i) for i, step in steps.items() for begin, end in step.writes()})
    reach, owner = 0, -1
    for begin, end, i in ranges:
        if begin < reach and i != owner:
            raise CaptureError(f"run_many: steps {owner} and {i} write the same parameters, gradients or state, so that what comes out would depend "
                               "on which is faster: give each step a net and an optimiser of its own, or run them one after the other")
        if end > reach:
            reach, owner = end, i


def _side_by_side(runs: dict[int, Any]) -> dict[int, Any]:
    """The results of all, each run in one thread."""
    stop = Event()

    def go(i: int, run: Any) -> Any:
        with stopping(stop), _named(i):
            return run()

    with ThreadPoolExecutor(max(1, min(config.get_num_threads(), len(runs)))) as pool:
        futures = {i: pool.submit(go, i, run) for i, run in runs.items()}
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            if any(not future.done() for future in futures.values()):  # Ctrl-C, or a step that failed: the others end at a step's border
                stop.set()
        for future in futures.values():
            failed = future.exception() if future.done() else None
            if failed is not None and not isinstance(failed, InterruptedError):
                raise failed
        return {i: future.result() for i, future in futures.items()}
