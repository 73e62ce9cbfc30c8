"""The one JIT policy of every kernel, and why.

* No fast-math flag: with `contract` or `reassoc` 5 to 25 % of the elements change when the same data is cut at another place.
  A fused multiply-add is written as `simd.fma`.
* `error_model="numpy"`: Python's division keeps a ZeroDivisionError branch in the loop, which stops vectorisation (13 x slower).
* `nogil=True`: workers run the same program side by side.
* No `parallel=True`: workqueue aborts the process on concurrent calls and GNU OpenMP kills forked children; workers are our own.
* No exception, no allocation: raising from compiled code leaks, and a callback that raises returns 0.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

POLICY: Final[dict[str, Any]] = {"error_model": "numpy", "nogil": True}


def jit(function: F) -> F:
    """Compile `function` on first use under the policy; only entries are cached on disk, with all that they call."""
    return numba.njit(**POLICY)(function)  # type: ignore[no-any-return]


def named(name: str) -> Callable[[F], F]:
    """Give a function made by a factory a name of its own: Numba derives linker symbols from it, so two may not share one."""

    def rename(function: F) -> F:
        function.__name__ = function.__qualname__ = name
        return function

    return rename
