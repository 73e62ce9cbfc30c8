"""`run_many`: independent captured steps side by side, each on one core."""
from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import Any

from minigrad import config
from minigrad.errors import CaptureError
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
    runs = [step.begun(n, args, kwargs, index) for step in steps]
    stop = Event()

    def go(run: Any) -> Any:
        with stopping(stop):
            return run()

    with ThreadPoolExecutor(min(config.get_num_threads(), len(runs))) as pool:
        waiting = [pool.submit(go, run) for run in runs]
        try:
            wait(waiting, return_when=FIRST_EXCEPTION)
        finally:
            unfinished = any(not future.done() for future in waiting)
            if unfinished:  # Ctrl-C, or a step that failed: the others end at a step's border
                stop.set()
        for future in waiting:
            failed = future.exception() if future.done() else None
            if failed is not None and not isinstance(failed, InterruptedError):
                raise failed
        return stacked([future.result() for future in waiting])
