"""Chains: neighbouring elementwise instructions over the same elements, run block by block so that what one writes the next reads from cache.

The kernels and their bits are the same: a block is the part of the elements that a worker with that number would get.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from minigrad.program.plan import Instruction, Storage

#: Bytes that a block's operands may take together: a first-level cache of 48 KB, less what else is in it.
BLOCK_BYTES: Final = 32 * 1024
#: Chains whose operands take less than this in all are not worth the calls for each block.
CHAIN_BYTES: Final = 128 * 1024


def grouped(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """The instructions in order, those that form a chain together; the others alone."""
    groups: list[list[Instruction]] = []
    for instruction in instructions:
        if groups and _elements(instruction) and _follows(groups[-1], instruction):
            groups[-1].append(instruction)
        else:
            groups.append([instruction])
    return [part for group in groups for part in ([group] if len(group) == 1 or _bytes(group) >= CHAIN_BYTES else [[one] for one in group])]


def settle(groups: Sequence[Sequence[Instruction]], staying: Sequence[Storage]) -> None:
    """Let what a chain makes take the place of what ends in it, element for element: elsewhere blocks would write over one another.

    staying: storages that outlive the instructions, or are there before them.
    """
    last: dict[Storage, int] = {}
    first: dict[Storage, int] = {}
    parts: dict[Storage, list[Storage]] = {}  # of each whole: itself and views
    for index, instruction in enumerate(one for group in groups for one in group):
        for s in instruction.operands:
            if s is not None and s.address is None:
                last[s.whole] = index
                first.setdefault(s.whole, index)
                parts.setdefault(s.whole, []).append(s)
    fixed = {s.whole for s in staying}
    index = 0
    for group in groups:
        free: list[Storage] = []
        places: dict[Storage, Storage] = {}
        # Only what is gone over as a whole, from its start, has an element for each of the others.
        odd = {s.whole for one in (group if len(group) > 1 else ()) for s, part in _parts(one)
               if not part.flat or s.whole.shift or part.begin != 0 or part.nbytes != s.whole.nbytes}
        for instruction in group if len(group) > 1 else ():
            wholes = [w for w in dict.fromkeys(s.whole for s in instruction.operands if s is not None) if w in first and w not in fixed | odd]
            free += [places.get(w, w) for w in wholes if last[w] == index and first[w] < index]
            for w in wholes:
                place = next((f for f in free if f.nbytes == w.nbytes), None) if first[w] == index else None
                if place is not None:
                    free.remove(place)
                    places[w] = place
            index += 1
        index += len(group) == 1
        for w, place in places.items():
            for s in parts[w]:
                s.whole = place


def blocks(group: Sequence[Instruction]) -> int:
    """How many blocks a chain is cut into."""
    return -(-_bytes(group) // BLOCK_BYTES)


def _elements(instruction: Instruction) -> int:
    """How many elements a flat instruction goes over, each on its own; 0 for any other kind."""
    layout = instruction.step.entry.layout
    if layout.share != "n" or layout.status or layout.dims != ("n",) or len(layout.arrays) + len(layout.immediates) != len(layout.arguments):
        return 0
    return instruction.step.words[0] if all(array.dims in (("n",), ("1",)) and not array.strided for array in layout.arrays) else 0


class _Part(NamedTuple):
    """What one operand of a flat instruction goes over, in bytes from `begin` in the memory called `space`."""

    space: int
    begin: int
    nbytes: int
    flat: bool  # element by element; else one element, which is only read

    def touches(self, other: _Part) -> bool:
        """Whether two operands share memory."""
        return self.space == other.space and self.begin < other.begin + other.nbytes and other.begin < self.begin + self.nbytes


def _parts(instruction: Instruction) -> list[tuple[Storage, _Part]]:
    """The operands of a flat instruction. A storage may be larger than what is gone over, or known by a smaller view of it."""
    entry, found = instruction.step.entry, []
    for s, array, dtype in zip(instruction.operands, entry.layout.arrays, entry.dtypes, strict=True):
        assert s is not None
        flat = array.dims == ("n",)
        space, begin = (0, s.address) if s.address is not None else (id(s.whole), s.shift)
        found.append((s, _Part(space, begin, dtype.itemsize * (instruction.step.words[0] if flat else 1), flat)))
    return found


def _follows(group: Sequence[Instruction], instruction: Instruction) -> bool:
    """Whether each element of `instruction` needs, of what the group makes, that element only."""
    if _elements(group[0]) != _elements(instruction):
        return False
    theirs = [part for one in group for _, part in _parts(one)]
    return all(not a.touches(b) or (a.flat and b.flat and a == b) or not (a.flat or b.flat) for _, a in _parts(instruction) for b in theirs)


def _bytes(group: Sequence[Instruction]) -> int:
    return sum({part[:2]: part.nbytes for one in group for _, part in _parts(one) if part.flat}.values())
