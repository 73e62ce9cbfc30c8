"""What may change between two calls of a captured step: numbers that a program reads where they live, and a counter for the rest."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from minigrad.errors import CaptureError
from minigrad.ops.spec import Spec
from minigrad.tape.handle import wrap
from minigrad.tape.mode import caller, local


class Counter:
    """Counts changes that could make a program stale: a replay compares one number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


counter = Counter()
#: Counts events after which another set of leaves may have a gradient.
gradients = Counter()
#: Counts replays, which write gradients and versions without going through the tape.
replays = Counter()


def changed() -> None:
    """Say that something a program took for granted is different: a module's attribute, its mode, a parameter's identity."""
    counter.value += 1


class Numbers(MutableMapping[str, Any]):
    """A mapping with fixed keys whose entries named in `slots` also stand in a float64 Tensor, which kernels read at every step."""

    def __init__(self, values: Mapping[str, Any], slots: tuple[str, ...]) -> None:
        self._values = dict(values)
        self.slots = slots
        self.tensor = wrap(np.array([float(values[name]) for name in slots]), Spec.of((len(slots),), np.dtype(np.float64)))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if local.mode.listener is not None:
            raise CaptureError(f"{name} is set at {caller()} inside a captured step, which a replay would not do again: set it between the calls")
        if name not in self._values:
            raise KeyError(f"{name!r} is not one of {', '.join(self._values)}")
        if name in self.slots:
            if not 0 <= float(value) < float("inf"):
                raise ValueError(f"{name} is {value}, expected a finite number that is not negative")
            if (float(value) == 0.0) != (float(self[name]) == 0.0):
                changed()  # an optimiser may leave a term out that is zero
            self.tensor.array[self.slots.index(name)] = float(value)
        else:
            changed()
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be removed: its value is read at every step")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
