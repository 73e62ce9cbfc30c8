"""What a step wrote before its guard was heard: running statistics and the random state, put back if the step is refused.

A captured step writes these after its guard, in its commit part. Eager mode writes them at once, and remembers what was there.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from minigrad.tape.handle import Array, Handle

_before: dict[int, tuple[Handle, Array]] = {}
#: What is remembered, for whoever asks whether there is anything.
pending: Final = _before


def remember(*written: Handle) -> None:
    """Keep the values of Tensors that are about to be written, unless they are kept already."""
    for x in written:
        if x.address not in _before:
            _before[x.address] = (x, x.array.copy())


def commit() -> None:
    """An optimiser took its step: what was written stays."""
    _before.clear()


def roll_back() -> None:
    """A step was refused: put everything back that was written since the last one."""
    for x, values in _before.values():
        x.array[...] = values
        x.clock[0] += 1
    _before.clear()


def forget(*written: Handle) -> None:
    """Let what these hold now stay, whatever becomes of the step."""
    for x in written:
        _before.pop(x.address, None)


@contextmanager
def aside() -> Iterator[None]:
    """Put back whatever is written inside, and forget that it was."""
    before = dict(_before)
    _before.clear()
    try:
        yield
    finally:
        roll_back()
        _before.update(before)
