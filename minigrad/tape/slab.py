"""Where parameters live: aligned slabs per dtype, not moved but to change the dtype, with gradient and moment slabs that mirror the offsets.

Neighbours in a slab are neighbours in memory, so that a norm or an update over an ordinary net is one kernel call.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from minigrad.ops.spec import Spec
from minigrad.tape import live
from minigrad.tape.handle import Array, Handle, Leaf, wrap
from minigrad_kernels._host import CACHE_LINE

#: Elements of one slab. Memory is reserved, not touched: the operating system gives zero pages on first write.
SLAB_ELEMENTS = 1 << 24
#: Elements whose squares are summed into one partial: fixed, so that a norm's bits depend on nothing else.
BLOCK = 4096
#: Counts parameters that were given other memory, in a slab of another dtype: whoever knows runs of them looks again.
moved = live.Counter()


def aligned(elements: int, dtype: np.dtype[Any]) -> Array:
    """Zeros that start on a cache line and are padded to one."""
    room = np.zeros(elements * dtype.itemsize + 2 * CACHE_LINE, np.uint8)
    skip = -room.ctypes.data % CACHE_LINE
    return room[skip:skip + elements * dtype.itemsize].view(dtype)


class Slab:
    """One block of parameters, and the blocks that mirror it."""

    def __init__(self, elements: int, dtype: np.dtype[Any]) -> None:
        self.elements, self.dtype, self.used = elements, dtype, 0
        self.data = aligned(elements, dtype)
        self.grad = aligned(elements, dtype)
        self._let: dict[int, int] = {}  # offset -> end of what is in use
        self._ended: deque[int] = deque()  # offsets of what no longer is: added to by whichever thread lets go last
        self._taking = Lock()

    def take(self, size: int) -> int | None:
        """Offset of `size` new elements behind all that are in use, or None if they do not fit."""
        lanes = CACHE_LINE // self.dtype.itemsize
        padded = max(1, -(-size // lanes)) * lanes  # an empty parameter has a place of its own, too
        with self._taking:
            if self._ended:
                while self._ended:
                    del self._let[self._ended.popleft()]
                self.used = max(self._let.values(), default=0)
            if self.used + padded > self.elements:
                return None
            offset, self.used = self.used, self.used + padded
            self._let[offset] = end = self.used
        for block in (self.data, self.grad):
            block[offset + size:end] = 0
        return offset

    def give_back(self, offset: int) -> None:
        """What begins at the offset is not in use any more."""
        self._ended.append(offset)


class Lease:
    """The right to a place in a slab; the place is free again when no array on it is left, be it a view that outlived its model."""

    def __init__(self, slab: Slab, offset: int) -> None:
        self.slab, self.offset = slab, offset

    def __del__(self) -> None:
        self.slab.give_back(self.offset)

    def array(self, block: Array, spec: Spec) -> Array:
        """An array on this place of the slab's data or gradients; NumPy gives its views the array for a base, and that the lease."""
        return np.asarray(_Window(self, int(block.ctypes.data) + self.offset * spec.dtype.itemsize, spec))


class _Window:
    def __init__(self, lease: Lease, address: int, spec: Spec) -> None:
        self._lease = lease
        self.__array_interface__ = {"data": (address, False), "shape": spec.shape, "typestr": spec.dtype.str, "version": 3}


class Place(NamedTuple):
    """Where a parameter is."""

    slab: Slab
    offset: int


_current: dict[np.dtype[Any], Slab] = {}


def allocate(spec: Spec) -> tuple[Any, Place]:
    """A Tensor in a slab, with its gradient's slot beside it."""
    slab = _current.get(spec.dtype)
    offset = slab.take(spec.size) if slab is not None else None
    if slab is None or offset is None:
        slab = _current[spec.dtype] = Slab(max(SLAB_ELEMENTS, spec.size + CACHE_LINE), spec.dtype)
        offset = slab.take(spec.size)
        assert offset is not None
    lease = Lease(slab, offset)
    handle = wrap(lease.array(slab.data, spec), spec)
    handle.leaf = Leaf(wrap(lease.array(slab.grad, spec), spec))
    return handle, Place(slab, offset)


class Segment(NamedTuple):
    """A run of parameters that one kernel call can treat: flat Tensors over their data and gradients, and the runs inside."""

    data: Any
    grad: Any
    blocks: Any  # int64 (2, blocks): start and length, none of them across two parameters
    slab: Slab | None
    offset: int
    leaves: tuple[Handle, ...]


def _blocks(sizes: Sequence[tuple[int, int]]) -> Any:
    starts = [(start + i, min(BLOCK, size - i)) for start, size in sizes for i in range(0, size, BLOCK)]
    table = np.array(starts, np.int64).reshape(-1, 2).T
    return wrap(np.ascontiguousarray(table), Spec.of(table.shape, table.dtype))


def segments(parameters: Sequence[Handle]) -> list[Segment]:
    """The parameters as runs of memory: neighbours in a slab coalesce, a leaf outside any slab is a run of its own."""
    placed = sorted(((p, p.place) for p in parameters if getattr(p, "place", None) is not None),  # type: ignore[attr-defined]
                    key=lambda pair: (id(pair[1].slab), pair[1].offset))
    runs: list[list[tuple[Handle, Place]]] = []
    end = -1
    for p, place in placed:
        if not runs or runs[-1][0][1].slab is not place.slab or place.offset != end:
            runs.append([])
        runs[-1].append((p, place))
        lanes = CACHE_LINE // p.spec.dtype.itemsize
        end = place.offset + -(-p.spec.size // lanes) * lanes
    made: list[Segment] = []
    for run in runs:
        slab, first = run[0][1]
        last, place = run[-1]
        window = slice(first, place.offset + last.spec.size)
        spec = Spec.of((window.stop - first,), slab.dtype)
        made.append(Segment(wrap(slab.data[window], spec), wrap(slab.grad[window], spec),
                            _blocks([(at.offset - first, p.spec.size) for p, at in run]), slab, first, tuple(p for p, _ in run)))
    for p in parameters:
        if getattr(p, "place", None) is None:
            flat = Spec.of((p.spec.size,), p.spec.dtype)
            assert p.leaf is not None and p.leaf.slot is not None
            made.append(Segment(wrap(p.array.reshape(-1), flat), wrap(p.leaf.slot.array.reshape(-1), flat),
                                _blocks([(0, p.spec.size)]), None, 0, (p,)))
    order = {id(p): i for i, p in enumerate(parameters)}
    return sorted(made, key=lambda s: min(order[id(p)] for p in s.leaves))
