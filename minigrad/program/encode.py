"""From instructions to the machine's words. One pass over the instructions, plus one over what crosses the border."""
from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad import config
from minigrad.ops.random import advance_
from minigrad.ops.spec import Spec
from minigrad.program.chain import blocks, grouped, settle
from minigrad.program.plan import Instruction, Layout, Source, Storage, allocate
from minigrad.tape.backward import trim
from minigrad.tape.mode import Mode
from minigrad.tape.slab import aligned
from minigrad_kernels import abi, feed, machine
from minigrad_kernels.abi import entry
from minigrad_kernels.machine import BARRIER, HEADER_WORDS, PARALLEL

#: A kernel call is shared when one worker would take longer than this many seconds (measured: a barrier is 0.1 to 0.5 us).
WORTH_SHARING: Final = 4e-6
FLOPS_PER_SECOND: Final = 1e11
BYTES_PER_SECOND: Final = 1e10
BARRIER_SECONDS: Final = 0.5e-6

#: An arena of more bytes than this is made after freed memory was handed back to the system.
TRIM_BYTES: Final = 8 << 20

UINT8: Final = np.dtype(np.uint8)
FEED: Final = abi.Layout("base:i stride:i indices:i rows:i state:i out[n]")
CHAIN: Final = abi.Layout("at:i length:i blocks:i entries:i part parts")
EMIT: Final = abi.Layout("base:i stride:i state:i x[n]")


class Border(NamedTuple):
    """Where an argument or a result crosses: its instruction's words, as offsets in the program."""

    at: int  # word offset of the instruction
    spec: Spec

    @property
    def base(self) -> int:
        return self.at + HEADER_WORDS + 1  # operands are: bytes, base, stride, ...; of a feed then indices, rows


class Program:
    """A captured step as data: words, arena and state, and what has to outlive them."""

    def __init__(self, layout: Layout, arguments: list[Spec]) -> None:
        groups = _groups(layout)
        #: What the machine runs one after the other: an instruction, or a chain of them.
        self.units = [tuple([(i.step, i.source) for i in group]) for group in groups]
        self.draws = any(source.op is advance_ for unit in self.units for _, source in unit)  # moves the random state
        order = [_operands(group) for group in groups]
        self.written = layout.written
        self.clocks = [x.clock for x in layout.written]  # versions of what it changes
        self.early, self.given, self.specs = layout.early, layout.given, arguments  # see `Layout`
        self.writes = sorted(set(layout.places))  # addresses of others' memory: begin, end
        self.arena_bytes = arena_bytes(layout)
        if self.arena_bytes > TRIM_BYTES:
            trim()  # of what the recording took, which the arena now stands for
        self.arena = aligned(self.arena_bytes, UINT8)
        self._arena = int(self.arena.ctypes.data)
        self.state = machine.new_state()
        self.state_address = int(self.state.ctypes.data)
        owners = [s.owner for operands in (*order, [storage for storage, _ in layout.results]) for s in operands if s is not None]
        self._owners = list({id(owner): owner for owner in owners if owner is not None}.values())

        # Inputs come first, outputs last; they are copied by one worker.
        seconds = [*[0.0] * len(arguments), *[sum(map(_seconds, group)) for group in groups], *[0.0] * len(layout.results)]
        may = [*[False] * len(arguments), *[all(i.step.entry.layout.share is not None for i in group) for group in groups],
               *[False] * len(layout.results)]
        marks = self._share(seconds, may)
        words: list[int] = []
        starts: list[int] = []
        self.feeds = [self._border(words, starts, feed.feed, FEED, storage, spec)
                      for storage, spec in zip(layout.arguments, arguments, strict=True)]
        first = len(starts)
        self._scratch: list[int] = []  # words that take the address of the room
        chains: list[tuple[int, int]] = []  # word that takes an address, and the word that is there
        for group in groups:
            starts.append(len(words))
            if len(group) == 1:
                self._append(words, group[0])
            else:
                chains.append(self._chain(words, group))
        self.emits = [self._border(words, starts, feed.emit, EMIT, storage, spec) for storage, spec in layout.results]
        borders = [*starts, len(words)]
        #: The words at which its parts begin that compute, commit, and hand out results.
        self.parts = (borders[first], borders[first + len(groups) - len(layout.commit)], borders[first + len(groups)])
        self.words = np.array(words, np.int64)
        self.first = first
        self.starts = starts
        self.words[np.array(starts, np.int64) + 1] = marks
        self._places = np.array(self._scratch, np.int64)
        self.room: Any = None  # what these words point to: a thread's, once it has run the program
        self.address = int(self.words.ctypes.data)
        for at, begin in chains:
            self.words[at] = self.address + 8 * begin
        self.results = [(border.base, border.spec) for border in self.emits]
        self.native = machine.calls().run
        # Writing one word through ctypes takes 40 ns, through NumPy 80.
        self.cells: Any = (ctypes.c_int64 * len(words)).from_address(self.address)
        self.length = len(words)
        #: Of the native call that runs one step on the calling thread.
        self.arguments = (self.address, self.length, 0, 1, 0, 1, self.state_address, machine.table_address())

    def run(self, first: int = 0, steps: int = 1) -> int:
        """Run steps on the calling thread, without the interpreter's lock; the number completed."""
        return self.native(self.address, self.length, first, steps, 0, 1, self.state_address, machine.table_address())  # type: ignore[no-any-return]

    def enter(self, mode: Mode) -> None:
        """Work in this thread's room. Programs run without the interpreter's lock, side by side with those of other threads."""
        if self._scratch and (self.room is None or self.room is not mode.room):
            if mode.room is None or mode.room.nbytes < self.workers * abi.SCRATCH_BYTES:
                mode.room = aligned(self.workers * abi.SCRATCH_BYTES, UINT8)  # reserved, not touched
            self.room = mode.room
            self.words[self._places] = self.room.ctypes.data

    def at_home(self, mode: Mode) -> bool:
        """Whether it works in this thread's room already."""
        return not self._scratch or self.room is mode.room

    def address_of(self, storage: Storage) -> int:
        """Where a storage is."""
        return storage.address if storage.address is not None else self._arena + storage.whole.offset + storage.shift

    def _append(self, words: list[int], instruction: Instruction) -> None:
        step = instruction.step
        first = len(words) + HEADER_WORDS + len(step.words)
        self._scratch += [first + i for i, s in enumerate(instruction.operands) if s is None]
        operands = [*step.words, *[0 if s is None else self.address_of(s) for s in instruction.operands]]
        words += [step.entry.load().index, 0, HEADER_WORDS + len(operands), *operands]

    def _chain(self, words: list[int], group: list[Instruction]) -> tuple[int, int]:
        """Append instructions inside the one that runs them; where it takes the address of the first, and that as a word offset."""
        inner: list[int] = []
        for instruction in group:
            self._append(inner, instruction)
        made = entry(feed.chain, CHAIN, ()).load()
        given = {"at": 0, "length": len(inner), "blocks": blocks(group), "entries": machine.table_address()}
        operands = CHAIN.words({}, given)
        begin = len(words) + HEADER_WORDS + len(operands)
        words += [made.index, 0, HEADER_WORDS + len(operands) + len(inner), *operands, *inner]
        return begin - len(operands), begin

    def _border(self, words: list[int], starts: list[int], kernel: Any, how: abi.Layout, storage: Storage, spec: Spec) -> Border:
        at = len(words)
        starts.append(at)
        made = entry(kernel, how, (UINT8,)).load()
        immediates = {a.name: 0 for a in how.immediates} | {"state": self.state_address}
        operands = [*how.words({"n": spec.nbytes}, immediates), self.address_of(storage)]
        words += [made.index, 0, HEADER_WORDS + len(operands), *operands]
        return Border(at, spec)

    def _share(self, seconds: list[float], shareable: list[bool]) -> list[int]:
        """Decide what several workers do together; the instructions' flags: shared work, and where all wait, around it and at the end."""
        shared = [may and s > WORTH_SHARING for may, s in zip(shareable, seconds, strict=True)]
        waits = [i + 1 == len(shared) or mine or shared[i + 1] for i, mine in enumerate(shared)]
        self.seconds = sum(seconds)
        gain = sum(s for s, mine in zip(seconds, shared, strict=True) if mine)
        self.worth_sharing = gain > 20 * sum(waits) * BARRIER_SECONDS
        #: How many can work on it at most.
        self.workers = max(config.get_num_threads(), machine.available_cores()) if self.worth_sharing else 1
        return [(PARALLEL if mine else 0) | (BARRIER if wait else 0) for mine, wait in zip(shared, waits, strict=True)]

    def run_part(self, begin: int, end: int, step: int) -> int:
        """Run the words from one to before another, of one step, on the calling thread; where it failed, else -1."""
        if begin == end or self.native(self.address + 8 * begin, end - begin, step, 1, 0, 1, self.state_address, machine.table_address()) == 1:
            return -1
        at = begin + int(self.state[machine.FAILED])
        self.state[machine.FAILED] = -1
        return at

    def calls(self, unit: int) -> list[tuple[int, int]]:
        """The words of each kernel call of a unit, begin and end: those inside a chain, too."""
        at, found = self.starts[self.first + unit], []
        if len(self.units[unit]) > 1:
            at = (int(self.words[at + HEADER_WORDS]) - self.address) // 8
        for _ in self.units[unit]:
            found.append((at, at + int(self.words[at + 2])))
            at = found[-1][1]
        return found

    def source_at(self, at: int) -> Source:
        """The op behind the instruction at this word."""
        return self.units[self.starts.index(at) - self.first][0][1]

    @property
    def nbytes(self) -> int:
        """Bytes that the program holds: arena, words and state."""
        return int(self.arena.nbytes + self.words.nbytes + self.state.nbytes)


def _groups(layout: Layout) -> list[list[Instruction]]:
    groups = [*grouped(layout.compute), *[[instruction] for instruction in layout.commit]]
    settle(groups, [*layout.arguments, *[storage for storage, _ in layout.results]])
    return groups


def _operands(group: list[Instruction]) -> tuple[Storage | None, ...]:
    return tuple([s for instruction in group for s in instruction.operands])


def arena_bytes(layout: Layout) -> int:
    """The size of the arena that a layout needs; gives every storage its offset."""
    return allocate([_operands(group) for group in _groups(layout)], layout.arguments, [storage for storage, _ in layout.results])


def _seconds(instruction: Instruction) -> float:
    """A rough time for one worker: what its operations, or its bytes, would take."""
    moved = sum(s.nbytes for s in instruction.operands if s is not None)
    return max(instruction.step.flops / FLOPS_PER_SECOND, moved / BYTES_PER_SECOND)
