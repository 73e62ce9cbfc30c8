"""What may change between two calls of a captured step: numbers that a program reads where they live, and a counter for the rest."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.ops.spec import Spec
from minigrad.tape.handle import wrap


class Counter:
    """Counts changes that could make a program stale: a replay compares one number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


counter = Counter()
#: Counts events after which another set of leaves may have a gradient.
gradients = Counter()


def changed() -> None:
    """Say that something a program took for granted is different: a module's attribute, its mode, a parameter's identity."""
    counter.value += 1


class Numbers(dict[str, Any]):
    """A dictionary whose float entries named in `slots` also stand in a float64 Tensor, which kernels read at every step."""

    def __init__(self, values: Mapping[str, Any], slots: tuple[str, ...]) -> None:
        super().__init__(values)
        self.names = slots
        self.tensor = wrap(np.array([float(values[name]) for name in slots]), Spec.of((len(slots),), np.dtype(np.float64)))

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self.names:
            if (float(value) == 0.0) != (float(self[name]) == 0.0):
                changed()  # an optimiser may leave a term out that is zero
            self.tensor.array[self.names.index(name)] = float(value)
        else:
            changed()
        super().__setitem__(name, value)

    def update(self, *others: Any, **more: Any) -> None:
        """As dict.update, through to the Tensor."""
        for name, value in dict(*others, **more).items():
            self[name] = value
