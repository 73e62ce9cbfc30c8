"""Numbers that a function reads from its closure and its module, which a program has baked in."""
from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Final

CONSTANT: Final = (bool, int, float, complex, str, type(None))


def _names(code: CodeType) -> set[str]:
    """The names that a function mentions, and those of the functions inside it."""
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


class Constants:
    """The plain values that a function's closure and globals hold now, compared with what they hold later."""

    def __init__(self, function: Callable[..., Any]) -> None:
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        code = getattr(function, "__code__", None)
        self._globals: dict[str, Any] = getattr(function, "__globals__", {})
        names = _names(code) if code is not None else set()
        self._named = [(name, self._globals[name]) for name in sorted(names) if isinstance(self._globals.get(name, self), CONSTANT)]
        self._cells = [(cell, cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()
                       if _filled(cell) and isinstance(cell.cell_contents, CONSTANT)]

    def __bool__(self) -> bool:
        return bool(self._named or self._cells)

    def hold(self) -> bool:
        """Whether they are all as they were."""
        for cell, value in self._cells:
            if cell.cell_contents is not value and cell.cell_contents != value:
                return False
        for name, value in self._named:
            now = self._globals.get(name, self)
            if now is not value and now != value:
                return False
        return True


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  raises where there is none
    except ValueError:
        return False
    return True
