"""From what ran to instructions over storages, and from storages to offsets in one arena by liveness."""
from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final, NamedTuple

from minigrad.errors import CaptureError
from minigrad.ops.op import SCRATCH, Op, Step
from minigrad.ops.spec import Shape, Spec
from minigrad.program.record import Operand, Ran
from minigrad.tape.handle import Handle
from minigrad_kernels._host import CACHE_LINE

#: Up to so many values are also packed in another order, which takes less room and more time.
PACKED: Final = 512


class Storage:
    """A piece of memory: part of the arena, or somebody else's at a fixed address."""

    __slots__ = ("nbytes", "address", "last", "offset", "owner", "whole", "shift")

    def __init__(self, nbytes: int, address: int | None = None, owner: Handle | None = None, whole: Storage | None = None, shift: int = 0) -> None:
        self.nbytes = nbytes
        self.address = address  # None: in the arena
        self.owner = owner  # keeps somebody else's memory alive
        self.whole: Storage = self if whole is None else whole  # the storage of which this is a part, `shift` bytes from its start
        self.shift = shift
        self.last = -1  # the last instruction that uses it
        self.offset = -1


class Value(NamedTuple):
    """What an op reads or writes: where it is, and an address that no other value of the step has."""

    storage: Storage
    spec: Spec
    at: int


class Source(NamedTuple):
    """The op behind an instruction, for people and for looking again at what it made."""

    op: Op
    path: str
    line: str
    shapes: tuple[Shape, ...]
    again: bool  # computed a second time, to save memory
    number: int = -1  # of the op in the step
    backward: str = ""  # the op whose rule it is a part of
    reads: tuple[Value, ...] = ()
    writes: tuple[Value, ...] = ()
    nbytes: int = 0  # that the instruction reads and writes


class Instruction(NamedTuple):
    """One kernel call: its step of a plan, and the storage of each operand."""

    step: Step
    operands: tuple[Storage | None, ...]  # None is scratch
    source: Source


class Layout(NamedTuple):
    """A step as instructions in order, and where its arguments and results are."""

    compute: list[Instruction]
    commit: list[Instruction]
    arguments: list[Storage]
    results: list[tuple[Storage, Spec]]
    written: list[Handle]  # Tensors outside the step that it changes
    places: list[tuple[int, int]]  # addresses outside the step that it writes: begin, end
    early: list[Handle]  # Tensors there that it writes before it commits
    given: list[int]  # addresses of the arguments in the recording


def lay_out(ran: list[Ran], slots: set[int], arguments: list[Operand], results: list[Operand]) -> Layout:
    """Name the storage of every operand; put what commits behind all that computes. Raises CaptureError if that changes the result."""
    # What an op writes is the step's own, but for the gradient slots of leaves.
    places: dict[int, Storage] = {x.address: Storage(x.spec.nbytes) for x in arguments}
    given = list(places.values())
    compute: list[Instruction] = []
    commit: list[Instruction] = []
    written: list[Handle] = []
    late: list[Ran] = []

    def place(x: Operand) -> Storage:
        found = places.get(x.address)
        if found is None:
            found = places[x.address] = Storage(x.spec.nbytes, x.address, x.owner)
        return found

    for number, item in enumerate(ran):
        operands = [place(x) for x in item.inputs]
        if item.out is not None:
            if item.plan.alias is not None:
                base = operands[item.plan.alias]
                if item.out.address not in places:
                    shift = item.out.address - item.inputs[item.plan.alias].address
                    places[item.out.address] = Storage(item.out.spec.nbytes, None if base.address is None else item.out.address, base.owner,
                                                       base.whole, base.shift + shift)
            elif item.out.address not in places and item.out.address not in slots:
                places[item.out.address] = Storage(item.out.spec.nbytes)
            operands.append(place(item.out))
        operands += [Storage(spec.nbytes) for spec in item.plan.temps]
        target = commit if item.op.commit else compute
        written += [x.owner for x in (item.inputs[i] for i in item.op.mutates) if x.owner is not None]
        reads = tuple([Value(s, x.spec, x.address) for s, x in zip(operands, item.inputs, strict=False)])
        writes = tuple([reads[i] for i in item.op.mutates])
        if item.out is not None and item.plan.alias is None:
            writes += (Value(place(item.out), item.out.spec, item.out.address),)
        source = Source(item.op, item.path, item.line, tuple([x.spec.shape for x in item.inputs]), item.again, number, item.backward, reads, writes)
        sizes = [spec.nbytes for spec in (*[x.spec for x in item.inputs], *([item.out.spec] if item.out is not None else []), *item.plan.temps)]
        for step in item.plan.steps:
            nbytes = sum(sizes[i] for i in set(step.operands) if i != SCRATCH)
            target.append(Instruction(step, tuple([None if i == SCRATCH else operands[i] for i in step.operands]), source._replace(nbytes=nbytes)))
        if item.op.commit:
            late.append(item)
        elif late:
            _check_order(item, late)
    outside = [(x, x.owner, item.op.commit) for item in ran for x in (*[item.inputs[i] for i in item.op.mutates], item.out)
               if x is not None and x.owner is not None and item.plan.alias is None]
    early = list({x.address: owner for x, owner, late_ in outside if not late_}.values())
    return Layout(compute, commit, given, [(place(x), x.spec) for x in results], written,
                  [(x.address, x.address + x.spec.nbytes) for x, *_ in outside], early, [x.address for x in arguments])


def overlap(x: Operand, y: Operand) -> bool:
    """Whether two operands share memory."""
    return x.address < y.address + y.spec.nbytes and y.address < x.address + x.spec.nbytes


def _check_order(item: Ran, late: list[Ran]) -> None:
    """After an update, nothing may touch what it writes, nor write what it reads: the update is moved to the end of the step."""
    writes = [item.inputs[i] for i in item.op.mutates]
    if item.out is not None and item.plan.alias is None:
        writes.append(item.out)
    for update in late:
        if (any(overlap(x, update.inputs[i]) for x in (*item.inputs, *writes) for i in update.op.mutates)
                or any(overlap(x, y) for x in writes for y in update.inputs)):
            raise CaptureError(f"{item.op.name} at {item.line or 'an unknown line'} uses what {update.op.name} updated before it in the same "
                               "captured step: updates are committed together at the end, so that a bad step changes nothing. "
                               "Capture one optimiser step per function")


class Arena:
    """Offsets for storages that live from a first to a last instruction, cut from free blocks, best fit first."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._by_size: list[tuple[int, int]] = []  # (size, offset) of free blocks
        self._starts: dict[int, int] = {}  # offset -> size
        self._ends: dict[int, int] = {}  # end -> offset

    def take(self, nbytes: int) -> int:
        """The offset of a block of at least `nbytes`, aligned to a cache line."""
        size = _lines(nbytes)
        at = bisect_left(self._by_size, (size, -1))
        if at < len(self._by_size):
            found, offset = self._by_size[at]
            self._forget(found, offset)
            if found > size:
                self._keep(found - size, offset + size)
            return offset
        tail = self._ends.get(self.nbytes)
        if tail is not None:  # grow the free block at the end
            self._forget(self._starts[tail], tail)
            self.nbytes = tail + size
            return tail
        self.nbytes += size
        return self.nbytes - size

    def give_back(self, offset: int, nbytes: int) -> None:
        """The block is free from here on."""
        size = _lines(nbytes)
        before, after = self._ends.get(offset), self._starts.get(offset + size)
        if before is not None:
            size += offset - before
            self._forget(offset - before, before)
            offset = before
        if after is not None:
            start = offset + size
            self._forget(after, start)
            size += after
        self._keep(size, offset)

    def _keep(self, size: int, offset: int) -> None:
        insort(self._by_size, (size, offset))
        self._starts[offset], self._ends[offset + size] = size, offset

    def _forget(self, size: int, offset: int) -> None:
        del self._by_size[bisect_left(self._by_size, (size, offset))]
        del self._starts[offset], self._ends[offset + size]


def allocate(order: list[tuple[Storage | None, ...]], arguments: list[Storage], results: list[Storage]) -> int:
    """Give every storage of the arena its offset, by the order in which instructions use them; returns the arena's size in bytes."""
    live = [[s.whole for s in operands if s is not None and s.address is None] for operands in order]
    for storage in arguments:
        storage.last = 0
    for index, operands in enumerate(live):
        for storage in operands:
            storage.last = index
    for storage in results:
        storage.whole.last = len(order)
    arena = Arena()
    ending: dict[int, list[Storage]] = {}
    first: dict[Storage, int] = {}
    alive = peak = 0
    for index, operands in enumerate([arguments, *live], start=-1):
        for storage in operands:
            if storage not in first:
                first[storage] = index
                storage.offset = arena.take(storage.nbytes)
                ending.setdefault(storage.last, []).append(storage)
                alive += _lines(storage.nbytes)
        peak = max(peak, alive)
        for storage in ending.pop(index, ()):
            arena.give_back(storage.offset, storage.nbytes)
            alive -= _lines(storage.nbytes)
    if len(first) <= PACKED and arena.nbytes > peak:
        offsets, nbytes = _packed(first)
        if nbytes < arena.nbytes:
            for storage, offset in offsets.items():
                storage.offset = offset
            return nbytes
    return arena.nbytes


def _packed(first: dict[Storage, int]) -> tuple[dict[Storage, int], int]:
    """Offsets by size, the largest first, each at the lowest place that is free in its time; and the bytes that they take.

    Greedy by size (Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference"); takes time in the square of the count.
    """
    offsets: dict[Storage, int] = {}
    nbytes = 0
    for storage in sorted(first, key=lambda s: -s.nbytes):
        begin, size, at = first[storage], _lines(storage.nbytes), 0
        for offset, end in sorted([(offset, offset + _lines(other.nbytes)) for other, offset in offsets.items()
                                   if first[other] <= storage.last and begin <= other.last]):
            if offset - at >= size:
                break
            at = max(at, end)
        offsets[storage] = at
        nbytes = max(nbytes, at + size)
    return offsets, nbytes


def _lines(nbytes: int) -> int:
    """The bytes in whole cache lines, of which everything takes one."""
    return max(CACHE_LINE, -(-nbytes // CACHE_LINE) * CACHE_LINE)
