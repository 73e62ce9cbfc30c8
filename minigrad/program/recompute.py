"""Trading time for memory: values of the forward pass are dropped and computed again just before backward needs them.

The forward pass is cut into segments. What crosses a cut is kept; the rest of a segment is dropped and, before the first later use, made
again by the same instructions, so with the same bits (Chen et al. 2016, "Training deep nets with sublinear memory cost").
"""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from minigrad.errors import MemoryBudgetError
from minigrad.program.record import FIRST, Operand, Ran
from minigrad_kernels._host import CACHE_LINE

#: Numbers of segments that are tried, fewest first: more segments save more, up to about the square root of the depth.
SEGMENTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class _Values:
    """The values that a step makes: which instruction makes each, which read it, and how many bytes it has."""

    def __init__(self, ran: Sequence[Ran], fixed: set[int]) -> None:
        self.home: dict[int, int] = {}  # address -> that of the value it is a part of
        self.maker: dict[int, int] = {}
        self.views: dict[int, list[int]] = {}  # instructions that name a part of the value
        self.nbytes: dict[int, int] = {}
        self.reads: dict[int, list[int]] = {}
        self.pinned = set(fixed)  # values that cannot be made again
        for index, item in enumerate(ran):
            at = len(ran) if item.op.commit else index  # these run at the end
            out = item.out
            if item.plan.alias is not None:
                assert out is not None
                home = self.home.get(item.inputs[item.plan.alias].address)
                if home is not None:
                    self.home[out.address] = home
                    self.maker.setdefault(out.address, index)
                    self.views[home].append(index)
                continue
            for x in item.inputs:
                if x.address in self.home:
                    self.reads[self.home[x.address]].append(at)
            if out is not None and out.address >= FIRST:
                self.home[out.address] = out.address
                self.maker[out.address], self.nbytes[out.address] = index, out.spec.nbytes
                self.reads[out.address], self.views[out.address] = [], []
        changing = _changing(ran)
        for item in ran:
            if item.out is not None and item.plan.alias is None and any(changing(x) for x in (*item.inputs, item.out)):
                self.pinned.add(item.out.address)

    def peak(self, count: int) -> int:
        """The instruction at which most bytes are alive."""
        change = [0] * (count + 2)
        for home, reads in self.reads.items():
            change[self.maker[home]] += self.nbytes[home]
            change[max([self.maker[home], *reads]) + 1] -= self.nbytes[home]
        alive = list(accumulate(change))
        return alive.index(max(alive))


def _changing(ran: Sequence[Ran]) -> Callable[[Operand], bool]:
    """Whether memory is written over in the course of a step, so that what was made from it cannot be made again later."""
    written: list[tuple[int, int]] = []
    for item in ran:
        if item.op.commit:
            continue
        targets = [item.inputs[i] for i in item.op.mutates]
        if item.out is not None and item.out.address < FIRST and item.plan.alias is None:
            targets.append(item.out)
        written += [(x.address, x.address + x.spec.nbytes) for x in targets]
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(written):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    begins = [begin for begin, _ in merged]

    def changing(x: Operand) -> bool:
        at = bisect_right(begins, x.address + max(x.spec.nbytes, 1) - 1) - 1
        return at >= 0 and merged[at][1] > x.address

    return changing


def recompute(ran: Sequence[Ran], fixed: set[int], budget: int, arena_bytes: Callable[[list[Ran]], int]) -> list[Ran]:
    """What ran, with values dropped and made again so that its arena fits into `budget` bytes; unchanged if it fits already.

    fixed: addresses that must stay, those of arguments and results. Raises MemoryBudgetError, with the least that can be had.
    """
    best = arena_bytes(list(ran))
    if best <= budget:
        return list(ran)
    values = _Values(ran, fixed)
    peak = values.peak(len(ran))
    across = sorted((home for home, reads in values.reads.items() if home not in values.pinned and values.maker[home] <= peak
                     and any(peak < at < len(ran) for at in reads) and len(ran) not in reads), key=values.maker.__getitem__)
    for count in SEGMENTS:
        if count > max(len(across), 1):
            break
        rewritten = _segmented(ran, values, peak, across, count)
        needed = arena_bytes(rewritten)
        if needed <= budget:
            return rewritten
        best = min(best, needed)
    raise MemoryBudgetError(f"the step needs at least {best:,} bytes of arena, even when activations are computed again; the budget is {budget:,}: "
                            "raise memory_budget, or make the batch smaller")


def _segmented(ran: Sequence[Ran], values: _Values, peak: int, across: list[int], count: int) -> list[Ran]:
    """What ran, with the forward pass cut into `count` segments of about as many bytes each."""
    total = sum(values.nbytes[home] for home in across)
    starts, seen = [0], 0
    for home in across:
        if seen >= total * len(starts) / count and values.maker[home] > starts[-1]:
            starts.append(values.maker[home])
        seen += values.nbytes[home]

    def segment(index: int) -> int:
        return bisect_right(starts, index) - 1

    last = len(starts) - 1  # its values are needed at once, so they are not dropped
    dropped = {home for home in across if (mine := segment(values.maker[home])) < last
               and all(segment(at) == mine for at in values.reads[home] if at <= peak)}
    again: list[set[int]] = [set() for _ in starts]  # instructions that make a segment's dropped values again
    kept = set(across) - dropped
    for home in dropped:
        mine = segment(values.maker[home])
        waiting = [values.maker[home], *[view for view in values.views[home] if view <= peak]]
        while waiting:
            index = waiting.pop()
            if index in again[mine]:
                continue
            again[mine].add(index)
            for x in ran[index].inputs:
                source = values.home.get(x.address)
                if source is None or source in values.pinned or segment(values.maker[source]) < mine or source in kept:
                    continue  # still there: reading it keeps it alive
                waiting += [values.maker[source], *values.views[source]]

    made_in = {home: segment(values.maker[home]) for home in dropped}
    rewritten: list[Ran] = []
    moved: dict[int, int] = {}
    done: set[int] = set()
    free = max((x.address + x.spec.nbytes for item in ran for x in (*item.inputs, *([item.out] if item.out else []))), default=FIRST)

    def renamed(x: Operand) -> Operand:
        return Operand(moved[x.address], x.spec, x.owner) if x.address in moved else x

    for index, item in enumerate(ran):
        if index > peak:
            for x in item.inputs:
                mine = made_in.get(values.home.get(x.address, -1), -1)
                if mine < 0 or mine in done:
                    continue
                done.add(mine)
                for at in sorted(again[mine]):
                    old = ran[at]
                    assert old.out is not None
                    inputs = tuple([renamed(y) for y in old.inputs])
                    if old.plan.alias is not None:
                        new = inputs[old.plan.alias].address + old.out.address - old.inputs[old.plan.alias].address
                    else:
                        free = new = -(-max(free, FIRST) // CACHE_LINE) * CACHE_LINE
                        free += old.out.spec.nbytes + CACHE_LINE
                        for view in values.views[old.out.address]:  # those that are taken later, too
                            part = ran[view].out
                            assert part is not None
                            moved[part.address] = new + part.address - old.out.address
                    moved[old.out.address] = new
                    rewritten.append(old._replace(inputs=inputs, out=Operand(new, old.out.spec), again=True))
            item = item._replace(inputs=tuple([renamed(x) for x in item.inputs]),
                                 out=renamed(item.out) if item.out is not None and item.plan.alias is not None else item.out)
        rewritten.append(item)
    return rewritten
