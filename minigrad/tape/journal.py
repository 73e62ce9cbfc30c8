"""What a step wrote before its guard was heard: running statistics and the random state, put back if the step is refused.

A captured step writes these after its guard, in its commit part. Eager mode writes them at once, and remembers, for each thread, what was
there: `mode.journal`, by address the Tensor and a copy of its values.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minigrad.tape.handle import Handle
from minigrad.tape.mode import local


def remember(*written: Handle) -> None:
    """Keep the values of Tensors that are about to be written, unless they are kept already."""
    before = local.mode.journal
    for x in written:
        if x.address not in before:
            before[x.address] = (x, x.array.copy())


def commit() -> None:
    """An optimiser took its step: what was written stays."""
    local.mode.journal.clear()


def roll_back() -> None:
    """A step was refused: put everything back that was written since the last one."""
    before = local.mode.journal
    for x, values in before.values():
        x.array[...] = values
        x.clock[0] += 1
    before.clear()


def keep(*written: Handle) -> None:
    """Let what these hold now stay, element by element, whatever becomes of the step."""
    for y in written:
        for x, values in local.mode.journal.values():
            first, end = max(x.address, y.address), min(x.address + x.spec.nbytes, y.address + y.spec.nbytes)
            if first < end:
                part = slice((first - x.address) // x.spec.dtype.itemsize, (end - x.address) // x.spec.dtype.itemsize)
                values.reshape(-1)[part] = x.array.reshape(-1)[part]


@contextmanager
def aside() -> Iterator[None]:
    """Put back whatever is written inside, and forget that it was."""
    before = dict(local.mode.journal)
    local.mode.journal.clear()
    try:
        yield
    finally:
        roll_back()
        local.mode.journal.update(before)
