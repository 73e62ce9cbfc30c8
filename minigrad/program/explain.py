"""What a captured step runs and allocates, for people."""
from __future__ import annotations

from typing import Any

from minigrad.program.encode import Program
from minigrad_kernels.machine import BARRIER, PARALLEL


class Explanation:
    """The programs of one captured step; print it."""

    def __init__(self, name: str, recordings: list[tuple[Any, int, Program | None]]) -> None:
        self.name = name
        self.recordings = recordings

    def __repr__(self) -> str:
        return "\n\n".join([f"{self.name}: {len(self.recordings)} signatures"] + [self._one(*recording) for recording in self.recordings])

    def _one(self, key: Any, runs: int, program: Program | None) -> str:
        specs = ", ".join(map(repr, key[1])) or "no arguments"
        if program is None:
            return f"({specs}): run eagerly {runs} times, not replayed yet"
        flops = sum(step.flops for unit in program.units for step, _ in unit)
        lines = [f"({specs}): recorded {runs} times; {len(program.units)} instructions, {flops / 1e6:.3g} MFLOP, "
                 f"{program.arena_bytes:,} bytes of arena, {program.nbytes:,} in all"
                 + ("; shared among workers" if program.worth_sharing else "")]
        lines.append(f"{'':>5}  {'op':<28} {'module':<20} {'operands':<36} {'FLOP':>12}  line")
        for i, unit in enumerate(program.units):
            flags = int(program.words[program.starts[program.first + i] + 1])
            mark = ("*" if flags & PARALLEL else " ") + ("|" if flags & BARRIER else " ")
            for place, (step, source) in enumerate(unit):
                shapes = " ".join(str(list(shape)).replace(" ", "") for shape in source.shapes)
                head = f"{i:>5}{mark}" if place == 0 else f"{'+':>5}  "  # runs block by block with the one above
                lines.append(f"{head}{source.op.name:<28} {source.path[-20:]:<20} {shapes[:36]:<36} {step.flops:>12,}  {source.line}")
        return "\n".join(lines)
