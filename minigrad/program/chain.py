"""Chains: neighbouring elementwise instructions over the same elements, run block by block so that what one writes the next reads from cache.

The kernels and their bits are the same: a block is the part of the elements that a worker with that number would get.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
        for instruction in group if len(group) > 1 else ():
            wholes = [w for w in dict.fromkeys(s.whole for s in instruction.operands if s is not None) if w in first and w not in fixed]
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


def _flat(instruction: Instruction) -> list[tuple[Storage, bool]]:
    """The operands, and whether each is gone through element by element."""
    arrays = instruction.step.entry.layout.arrays
    return [(s, array.dims == ("n",)) for s, array in zip(instruction.operands, arrays, strict=True) if s is not None]


def _follows(group: Sequence[Instruction], instruction: Instruction) -> bool:
    """Whether each element of `instruction` needs, of what the group makes, that element only."""
    if _elements(group[0]) != _elements(instruction):
        return False
    mine, theirs = _flat(instruction), [pair for one in group for pair in _flat(one)]
    return all(not _touch(a, b) or (a_flat and b_flat and _begin(a) == _begin(b) and a.nbytes == b.nbytes) or not (a_flat or b_flat)
               for a, a_flat in mine for b, b_flat in theirs)


def _begin(storage: Storage) -> tuple[int, int]:
    return (0, storage.address) if storage.address is not None else (id(storage.whole), storage.shift)


def _touch(a: Storage, b: Storage) -> bool:
    """Whether two storages share memory."""
    (space, first), (other, second) = _begin(a), _begin(b)
    return space == other and first < second + b.nbytes and second < first + a.nbytes


def _bytes(group: Sequence[Instruction]) -> int:
    return sum({_begin(s): s.nbytes for one in group for s, flat in _flat(one) if flat}.values())
