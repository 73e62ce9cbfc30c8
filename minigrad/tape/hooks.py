"""Functions that are called with a gradient on its way back, and may replace it."""
from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Self

from minigrad.errors import GraphError, ShapeError
from minigrad.ops import elementwise
from minigrad.tape import live
from minigrad.tape.handle import Handle, Leaf

Hook = Callable[[Any], Any]
Hooks = dict[int, Hook]

#: Whether a result ever had a hook: until then backward does not look for them.
registered: list[bool] = []
_numbers = count()


class Removable:
    """What registering a hook returns: `remove()` takes the hook away, as does leaving a `with` block."""

    def __init__(self, hooks: dict[int, Any], hook: Any, *, prepend: bool = False, lasting: bool = True) -> None:
        """Add `hook` to `hooks`, before the others if asked. lasting: a captured step may have to be recorded again, with it or without."""
        self._hooks, self._number, self._lasting = hooks, next(_numbers), lasting
        others = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        hooks[self._number] = hook
        hooks.update(others)
        if lasting:
            live.changed()

    def remove(self) -> None:
        """Take the hook away; does nothing the second time."""
        if self._hooks.pop(self._number, None) is not None and self._lasting:
            live.changed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Reader:
    """A hook of the library's own that writes into nothing: it gets the gradient itself, not a copy."""

    __slots__ = ("hook",)

    def __init__(self, hook: Hook) -> None:
        self.hook = hook

    def __call__(self, g: Any) -> Any:
        return self.hook(g)


def register(handle: Handle, hook: Hook) -> Removable:
    """Call `hook(gradient)` whenever the gradient of this Tensor is complete; a Tensor that it returns takes the gradient's place."""
    if not handle.needs_grad:
        raise GraphError("cannot register a hook on a Tensor that doesn't require gradient")
    if handle.record is not None:
        own: Hooks | None = getattr(handle.record, "hooks", None)
        if own is None:
            own = handle.record.hooks = {}
        registered[:] = [True]
        return Removable(own, hook, lasting=False)  # lives as long as this one graph
    if handle.leaf is None:
        handle.leaf = Leaf()
    if handle.leaf.hooks is None:
        handle.leaf.hooks = {}
    return Removable(handle.leaf.hooks, hook)


def run(hooks: Hooks, g: Any) -> Any:
    """The gradient after all hooks, each of which gets a copy that it may write into. Raises ShapeError for another shape or dtype."""
    for hook in list(hooks.values()):
        copy = g if type(hook) is Reader else elementwise.clone(g)  # the gradient may be others' too, or a constant of the library
        version = copy.clock[0]
        given = hook(copy)
        if given is None:
            g = g if copy.clock[0] == version else copy
            continue
        if not isinstance(given, Handle) or given.spec is not g.spec:
            shown = repr(given.spec) if isinstance(given, Handle) else type(given).__name__
            raise ShapeError(f"a gradient hook returned {shown}, expected None or a Tensor {g.spec!r} as it was given")
        g = given
    return g
