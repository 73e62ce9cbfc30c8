"""Looking again: what a program did, beside what the function would have done from the same state."""
from __future__ import annotations

from minigrad.program.replay import Replay
from minigrad.tape import journal, live
from minigrad.tape.handle import Array, Handle, Leaf, reclaim


class State:
    """All that a program writes outside itself, as it is now: parameters, moments, running statistics, random offset, gradients."""

    def __init__(self, replay: Replay) -> None:
        program = replay.program
        assert program is not None
        self._handles: list[Handle] = list({x.address: x for x in (*program.written, *(leaf.slot for leaf in replay.leaves if leaf.slot is not None))}
                                           .values())
        self.values: list[Array] = [x.array.copy() for x in self._handles]
        self._leaves: list[tuple[Leaf, bool, Handle | None]] = [(leaf, leaf.present, leaf.linked) for leaf in replay.leaves]

    def put_back(self) -> None:
        """Make everything as it was, and let whoever knows a version of it look again."""
        reclaim()
        journal.commit()
        for x, values in zip(self._handles, self.values, strict=True):
            x.array[...] = values
            x.clock[0] += 1
        for leaf, present, linked in self._leaves:
            leaf.present, leaf.linked, leaf.norm = present, linked, None
        live.gradients.value += 1
        live.replays.value += 1

    def difference(self, other: State) -> str | None:
        """What has other bits than in `other`, in words; None if nothing has. Gradients that are not there do not count."""
        gone = {id(leaf.slot) for leaf, present, _ in other._leaves if not present}
        for x, mine, theirs in zip(self._handles, self.values, other.values, strict=True):
            if id(x) not in gone and mine.tobytes() != theirs.tobytes():
                return f"what it leaves in a {x.spec!r}"
        present, others = ([there for _, there, _ in state._leaves] for state in (self, other))
        return None if present == others else "which parameters have a gradient afterwards"


def results_differ(mine: list[Array], theirs: list[Array]) -> str | None:
    """Which result has other bits, in words; None if all have the same."""
    for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if a.tobytes() != b.tobytes():
            return f"result {i}"
    return None
