"""Lines of the user's code: where the outermost module was called, or under `trace_lines` where each op was.

Finding a line costs more than an op, so eager mode does not: a thread remembers where modules were called, and records are numbered.
"""
from __future__ import annotations

from bisect import bisect_right
from collections import deque
from contextlib import ContextDecorator
from os.path import basename
from types import CodeType
from typing import Any, Final

from minigrad.ops.op import Op
from minigrad.tape.mode import PACKAGE, Mode, caller, local
from minigrad.tape.record import Record, call, next_serial

#: Lines that a thread remembers while they are traced.
TRACED: Final = 1 << 16

_tracing = [0]  # how many times over, in all threads


def line_of(mode: Mode, record: Record) -> tuple[str, bool]:
    """`file.py:12` of what made the record in this thread, or of the outermost model's call around it; "" if neither is known.

    Also returns whether it is only the line of that call.
    """
    at = bisect_right(mode.sites, record.serial, key=lambda site: site[0]) - 1
    if at < 0:
        return "", False
    _, site, offset = mode.sites[at]
    if isinstance(site, str):
        return site, False
    return _line(site, offset) if record.path else "", True


def _line(code: CodeType, offset: int) -> str:
    """The line of an instruction, unless it is the package's own."""
    if code.co_filename.startswith(PACKAGE):
        return ""
    number = next((line for begin, end, line in code.co_lines() if begin <= offset < end), None)
    return f"{basename(code.co_filename)}:{number}" if number is not None else ""


def _traced(op: Op, *inputs: Any, **attributes: Any) -> Any:
    """Run an op as ever, and remember the line."""
    mode = local.mode
    if mode.grad:
        mode.sites.append((next_serial(), caller(), 0))
    return call(op, *inputs, **attributes)


class trace_lines(ContextDecorator):  # noqa: N801  as PyTorch's context managers
    """Remember the line of the user's code that runs each op, inside a `with` block or a decorated function; costs about 2 us an op.

    The error of a step that is not finite then names the line of the first bad op in eager mode, too. Captured steps always know it.
    """

    def __enter__(self) -> None:
        local.mode.sites = deque(local.mode.sites, TRACED)
        _tracing[0] += 1
        Op.__call__ = _traced  # type: ignore[method-assign, assignment]

    def __exit__(self, *exception: object) -> None:
        _tracing[0] -= 1
        if not _tracing[0]:
            Op.__call__ = call  # type: ignore[method-assign, assignment]
