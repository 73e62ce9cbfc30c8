"""What may change between two calls of a captured step: numbers that a program reads where they live, and a counter for the rest."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Final

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


#: Steps that a program takes at most before it asks again what has to be ready for the next ones.
HORIZON: Final = 1024


class Numbers(MutableMapping[str, Any]):
    """A mapping with fixed keys. Those named in `slots` live in a float64 Tensor, which kernels read, and may write, at every step.

    A tuple takes as many cells of the Tensor as it has numbers; a truth value is 0 or 1; a word its place among `choices[name]`. The last
    cell, `age`, counts steps. `check` gets all values as they would be, before one is set, and raises what is wrong with them. Keys of
    `notes` may be set though they were not there; a program does not depend on them.
    """

    def __init__(self, values: Mapping[str, Any], slots: tuple[str, ...], check: Callable[[Mapping[str, Any]], None] = lambda values: None,
                 choices: Mapping[str, tuple[str, ...]] = MappingProxyType({}), notes: tuple[str, ...] = ()) -> None:
        check(values)
        self._values = {name: value for name, value in values.items() if name not in slots}
        self._order = tuple(values)
        self.slots, self.notes, self.check, self._choices = slots, notes, check, choices
        self._cells: dict[str, tuple[int, Any]] = {}  # where a number, or the first of several, is; and a value of its kind
        cells: list[float] = []
        for name in slots:
            self._cells[name] = (len(cells), values[name])
            cells += self._numbers(name, values[name])
        self.age = len(cells)
        self.tensor = wrap(np.array([*cells, 0.0]), Spec.of((len(cells) + 1,), np.dtype(np.float64)))

    def _numbers(self, name: str, value: Any) -> tuple[float, ...]:
        """The value as what stands in the Tensor. Raises ValueError for a word that is no choice, and for other lengths or kinds."""
        if name in self._choices:
            if value not in self._choices[name]:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, self._choices[name]))}")
            return (float(self._choices[name].index(value)),)
        kind = self._cells[name][1] if name in self._cells else value
        if isinstance(kind, tuple):
            if len(value) != len(kind):
                raise ValueError(f"{name} is {value}, expected {len(kind)} numbers")
            return tuple([float(x) for x in value])
        return (float(value),)

    def cell(self, name: str) -> int:
        """Where the number, or the first of several, stands in the Tensor."""
        return self._cells[name][0]

    def __getitem__(self, name: str) -> Any:
        if name not in self._cells:
            return self._values[name]
        at, kind = self._cells[name]
        if name in self._choices:
            return self._choices[name][int(self.tensor.array[at])]
        if isinstance(kind, tuple):
            return tuple(self.tensor.array[at:at + len(kind)].tolist())
        return bool(self.tensor.array[at]) if isinstance(kind, bool) else float(self.tensor.array[at])

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def accepts(self, values: Mapping[str, Any]) -> None:
        """Raise KeyError, ValueError or what `check` raises, if these may not be set."""
        for name, value in values.items():
            if name not in self and name not in self.notes:
                raise KeyError(f"{name!r} is not one of {', '.join(self)}")
            if name in self._cells:
                self._numbers(name, value)
        self.check({**self, **values})

    def update(self, values: Mapping[str, Any] = MappingProxyType({}), **named: Any) -> None:  # type: ignore[override]
        """Set several at once, or none if one of them may not be set. Raises CaptureError inside a captured step."""
        values = {**values, **named}
        if values and local.mode.listener is not None:
            raise CaptureError(f"{next(iter(values))} is set at {caller()} inside a captured step, which a replay would not do again: "
                               "set it between the calls, or let a scheduler of minigrad.optim.lr_scheduler do it")
        self.accepts(values)
        for name, value in values.items():
            if name in self._cells:
                at, new = self.cell(name), self._numbers(name, value)
                cells = self.tensor.array[at:at + len(new)]
                if any((x == 0.0) != (y == 0.0) for x, y in zip(new, cells, strict=True)):
                    changed()  # an optimiser may leave a term out that is zero
                cells[:] = new
            else:
                self._values[name] = value
                if name not in self.notes:
                    changed()

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be removed: its value is read at every step")

    def __iter__(self) -> Iterator[str]:
        yield from self._order
        yield from (name for name in self._values if name not in self._order)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
