"""What the compiler is doing, said while it does it."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from minigrad_kernels import _cache

CLEAR_LINE = "\r\x1b[K"


@contextmanager
def announced(stream: TextIO | None = None) -> Iterator[None]:
    """Name each kernel that is compiled inside the block, and at its end say how many there were and how long they took.

    On a terminal the names share one line; elsewhere the first is announced and the rest are counted. A warm start says nothing.
    """
    out, stats = stream or sys.stderr, _cache.stats
    misses, seconds, before = stats.misses, stats.compile_seconds, stats.on_compile
    started: list[float] = []

    def tell(kernel: str) -> None:
        if not started:
            started.append(time.perf_counter())
            print(f"compiling kernels for this CPU, once; they are kept in {_cache.directory()}", file=out, flush=True)
        if out.isatty():
            elapsed = time.perf_counter() - started[0]
            print(f"{CLEAR_LINE}  {elapsed:4.0f} s  {stats.misses - misses + 1:3}  {kernel.partition('|')[0]}", end="", file=out, flush=True)

    stats.on_compile = tell
    try:
        yield
    finally:
        stats.on_compile = before
        if started:
            end = CLEAR_LINE if out.isatty() else ""
            print(f"{end}compiled {stats.misses - misses} kernels in {stats.compile_seconds - seconds:.1f} s", file=out, flush=True)
