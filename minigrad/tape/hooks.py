"""Functions that are called with a gradient on its way back, and may replace it."""
from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Self
from weakref import WeakKeyDictionary

from minigrad.errors import GraphError, ShapeError
from minigrad.tape.handle import Handle, Leaf
from minigrad.tape.record import Record

Hook = Callable[[Any], Any]
Hooks = dict[int, Hook]

#: Of results; a leaf keeps its own.
on_records: WeakKeyDictionary[Record, Hooks] = WeakKeyDictionary()
_numbers = count()


class Removable:
    """What registering a hook returns: `remove()` takes the hook away, as does leaving a `with` block."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self._number = hooks, next(_numbers)
        hooks[self._number] = hook

    def remove(self) -> None:
        """Take the hook away; does nothing the second time."""
        self._hooks.pop(self._number, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register(handle: Handle, hook: Hook) -> Removable:
    """Call `hook(gradient)` whenever the gradient of this Tensor is complete; a Tensor that it returns takes the gradient's place."""
    if not handle.needs_grad:
        raise GraphError("cannot register a hook on a Tensor that doesn't require gradient")
    if handle.record is not None:
        return Removable(on_records.setdefault(handle.record, {}), hook)
    if handle.leaf is None:
        handle.leaf = Leaf()
    if handle.leaf.hooks is None:
        handle.leaf.hooks = {}
    return Removable(handle.leaf.hooks, hook)


def run(hooks: Hooks, g: Any) -> Any:
    """The gradient after all hooks. Raises ShapeError for a hook that gives another shape or dtype."""
    for hook in list(hooks.values()):
        given = hook(g)
        if given is None:
            continue
        if not isinstance(given, Handle) or given.spec is not g.spec:
            shown = repr(given.spec) if isinstance(given, Handle) else type(given).__name__
            raise ShapeError(f"a gradient hook returned {shown}, expected None or a Tensor {g.spec!r} as it was given")
        g = given
    return g
