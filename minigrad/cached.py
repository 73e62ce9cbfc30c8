"""The compiled kernels on disk: how many there are, and how to be rid of them."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minigrad_kernels import _cache


class CacheInfo(NamedTuple):
    """What the directory holds, and what this process took from it."""

    directory: Path
    entries: int
    nbytes: int
    loaded: int
    compiled: int
    load_seconds: float
    compile_seconds: float


def cache_info() -> CacheInfo:
    """The compiled kernels of this CPU on disk, and how many of them this process loaded, or compiled because they were not there."""
    directory, stats = _cache.directory(), _cache.stats
    sizes = [path.stat().st_size for path in directory.glob("*.entry")]
    return CacheInfo(directory, len(sizes), sum(sizes), stats.hits, stats.misses, stats.load_seconds, stats.compile_seconds)


def cache_clear() -> None:
    """Remove the compiled kernels of this CPU from disk; those that are loaded stay in use. They are compiled again when they are needed."""
    for path in _cache.directory().glob("*.entry"):
        path.unlink(missing_ok=True)
