"""From instructions to the machine's words. One pass over the instructions, plus one over what crosses the border."""
from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad.ops.spec import Spec
from minigrad.program.plan import Instruction, Layout, Source, Storage, arena_bytes
from minigrad.tape.slab import aligned
from minigrad_kernels import abi, feed, machine
from minigrad_kernels.abi import entry
from minigrad_kernels.machine import BARRIER, HEADER_WORDS, PARALLEL

#: A kernel call is shared when one worker would take longer than this many seconds (measured: a barrier is 0.1 to 0.5 us).
WORTH_SHARING: Final = 4e-6
FLOPS_PER_SECOND: Final = 1e11
BYTES_PER_SECOND: Final = 1e10
BARRIER_SECONDS: Final = 0.5e-6

UINT8: Final = np.dtype(np.uint8)
FEED: Final = abi.Layout("base:i stride:i indices:i rows:i state:i out[n]")
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
        instructions = [*layout.compute, *layout.commit]
        self.steps = [i.step for i in instructions]
        self.sources = [i.source for i in instructions]
        order = [i.operands for i in instructions]
        self.clocks = [x.clock for x in layout.written]  # versions of what it changes
        self.arena_bytes = arena_bytes(layout)
        self.arena = aligned(self.arena_bytes, UINT8)
        self._arena = int(self.arena.ctypes.data)
        self.state = machine.new_state()
        self.state_address = int(self.state.ctypes.data)
        # Its own: programs run without the interpreter's lock, side by side with others and with eager mode. Reserved, not touched.
        needs_scratch = any(s is None for operands in order for s in operands)
        self._room = aligned(machine.MAX_WORKERS * abi.SCRATCH_BYTES if needs_scratch else 0, UINT8)
        self._scratch = int(self._room.ctypes.data)
        owners = [s.owner for operands in (*order, [storage for storage, _ in layout.results]) for s in operands if s is not None]
        self._owners = list({id(owner): owner for owner in owners if owner is not None}.values())

        words: list[int] = []
        seconds: list[float] = []
        starts: list[int] = []
        self.feeds = [self._border(words, starts, seconds, feed.feed, FEED, storage, spec)
                      for storage, spec in zip(layout.arguments, arguments, strict=True)]
        first = len(starts)
        for instruction in instructions:
            starts.append(len(words))
            seconds.append(_seconds(instruction))
            self._append(words, instruction)
        self.emits = [self._border(words, starts, seconds, feed.emit, EMIT, storage, spec) for storage, spec in layout.results]
        self.words = np.array(words, np.int64)
        self.first = first
        self.starts = starts
        self._share(seconds, [None] * first + [*instructions] + [None] * len(self.emits))
        self.address = int(self.words.ctypes.data)
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

    def address_of(self, storage: Storage | None) -> int:
        """Where a storage is; None is the workers' scratch."""
        if storage is None:
            return self._scratch
        return storage.address if storage.address is not None else self._arena + storage.whole.offset + storage.shift

    def _append(self, words: list[int], instruction: Instruction) -> None:
        step = instruction.step
        operands = [*step.words, *[self.address_of(s) for s in instruction.operands]]
        words += [step.entry.load().index, 0, HEADER_WORDS + len(operands), *operands]

    def _border(self, words: list[int], starts: list[int], seconds: list[float], kernel: Any, how: abi.Layout, storage: Storage,
                spec: Spec) -> Border:
        at = len(words)
        starts.append(at)
        seconds.append(0.0)
        made = entry(kernel, how, (UINT8,)).load()
        immediates = {a.name: 0 for a in how.immediates} | {"state": self.state_address}
        operands = [*how.words({"n": spec.nbytes}, immediates), self.address_of(storage)]
        words += [made.index, 0, HEADER_WORDS + len(operands), *operands]
        return Border(at, spec)

    def _share(self, seconds: list[float], instructions: list[Instruction | None]) -> None:
        """Mark what several workers do together, and where they wait: around shared work, and at the end."""
        shared = [i is not None and i.step.entry.layout.share is not None and s > WORTH_SHARING
                  for i, s in zip(instructions, seconds, strict=True)]
        barriers = 0
        for index, (at, mine) in enumerate(zip(self.starts, shared, strict=True)):
            last = index + 1 == len(shared)
            wait = last or mine or shared[index + 1]
            self.words[at + 1] = (PARALLEL if mine else 0) | (BARRIER if wait else 0)
            barriers += wait
        self.seconds = sum(seconds)
        gain = sum(s for s, mine in zip(seconds, shared, strict=True) if mine)
        self.worth_sharing = gain > 20 * barriers * BARRIER_SECONDS

    def source_at(self, at: int) -> Source:
        """The op behind the instruction at this word."""
        return self.sources[self.starts.index(at) - self.first]

    @property
    def nbytes(self) -> int:
        """Bytes that the program holds: arena, words and state."""
        return int(self.arena.nbytes + self.words.nbytes + self.state.nbytes)


def _seconds(instruction: Instruction) -> float:
    """A rough time for one worker: what its operations, or its bytes, would take."""
    moved = sum(s.nbytes for s in instruction.operands if s is not None)
    return max(instruction.step.flops / FLOPS_PER_SECOND, moved / BYTES_PER_SECOND)
