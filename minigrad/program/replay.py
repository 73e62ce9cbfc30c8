"""One signature of a captured step: its recordings, the program made of them, and what running that leaves behind."""
from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, MinigradError, StepBusyError
from minigrad.ops.spec import Spec
from minigrad.program.encode import Program
from minigrad.program.fuse import fuse
from minigrad.program.plan import lay_out
from minigrad.program.record import Recorder, difference, signature
from minigrad.program.tree import LEAF, build
from minigrad.tape import handle as handles
from minigrad.tape import live
from minigrad.tape.handle import Array, Handle, Leaf, address_of, empty
from minigrad_kernels import machine, workers

#: Seconds of native work between looks at Ctrl-C.
CHUNK_SECONDS: Final = 0.05


class Replay:
    """What a step does for arguments of one structure and these specs: recorded until two recordings agree, then a program."""

    def __init__(self, name: str, specs: list[Spec]) -> None:
        self.name = name
        self.specs = specs
        self.runs = 0
        self.program: Program | None = None
        self.changes = -1  # live.counter at the end of the last recording
        self.gradients = -1  # live.gradients when the leaves were last looked at
        self._lines: tuple[Any, Any] | None = None  # what the last recording did, and the structure it returned
        self._entry: dict[int, tuple[Leaf, bool]] = {}  # leaves whose gradient has to be there, or not, before a replay
        self._exit: list[tuple[Leaf, bool]] = []  # and is there, or not, after it
        self._fresh: frozenset[int] = frozenset()  # leaves whose gradient is replaced
        self.clocks: list[list[int]] = []  # versions that a step moves
        self.seconds = 0.0  # of one step, measured
        self.busy = threading.Lock()

    @property
    def structure(self) -> Any:
        """Of the results."""
        assert self._lines is not None
        return self._lines[1]

    def holds(self) -> bool:
        """Whether the program would do what eager mode would do now."""
        if self.program is None or self.changes != live.counter.value:
            return False
        if self.gradients != live.gradients.value:
            if any(leaf.present is not there for leaf, there in self._entry.values()):
                return False
            self.gradients = live.gradients.value
            for leaf, there in self._exit:
                leaf.present = there
        return True

    # ---- recording
    def learn(self, recorder: Recorder, arguments: list[Handle], outputs: list[Handle], structure: Any, changes: int) -> None:
        """Take in one more recording; the program is made when it agrees with the one before.

        Raises CaptureError if they differ although nothing that a step may depend on has changed in between.
        """
        lines = (signature(recorder.items, arguments), structure)
        same_entry = {i: there for i, (_, there) in self._entry.items()} == {i: there for i, (_, there) in recorder.entry.items()}
        if self._lines is not None and lines != self._lines and self.changes == changes and same_entry:
            raise CaptureError(difference(self._lines[0], lines[0], recorder))
        agreed = lines == self._lines
        self.runs += 1
        self._lines, self._entry, self.changes, self.program = lines, recorder.entry, live.counter.value, None
        if not agreed:
            return
        layout = lay_out(fuse(recorder.items), recorder.slots, arguments, outputs)
        self.program = Program(layout, self.specs)
        self.gradients = -1
        self._exit = [(leaf, leaf.present) for leaf in recorder.leaves.values()]
        self._fresh = frozenset(recorder.fresh)
        self.clocks = list({id(x.clock): x.clock for x in layout.written}.values())
        for leaf in recorder.leaves.values():
            leaf.norm = None  # a replay writes the slots without saying so

    # ---- running
    def once(self, arrays: Sequence[Any]) -> Any:
        """One step with arguments whose addresses the program's words already hold, with as little Python as it takes."""
        program = self.program
        assert program is not None
        if program.worth_sharing or handles.handed_out():
            return self.many([getattr(x, "array", x) for x in arrays], [0] * len(arrays), None)
        if not self.busy.acquire(False):
            raise self._is_busy()
        try:
            cells = program.cells
            outs = []
            for at, spec in program.results:
                out = empty(spec)
                cells[at] = out.address
                outs.append(out)
            if program.run() != 1:
                raise self._failure(program, 0)
            for clock in self.clocks:
                clock[0] += 1
        finally:
            self.busy.release()
        return outs[0] if self.structure == LEAF else build(self.structure, partial(next, iter(outs)))

    def many(self, arrays: Sequence[Array], strides: Sequence[int], steps: int | None) -> Any:
        """Step after step, argument i read at `strides[i]` bytes further each time; results stacked, or single for steps=None."""
        program = self.program
        assert program is not None
        if not self.busy.acquire(False):
            raise self._is_busy()
        try:
            if handles.handed_out():
                handles.reclaim(self._fresh)
            cells = program.cells
            for border, array, stride in zip(program.feeds, arrays, strides, strict=True):
                cells[border.base] = address_of(array)
                cells[border.base + 1] = stride
            outs = []
            for at, spec in program.results:
                out = empty(spec if steps is None else Spec.of((steps, *spec.shape), spec.dtype))
                cells[at] = out.address
                cells[at + 1] = spec.nbytes
                outs.append(out)
            self._run(program, steps or 1)
        finally:
            self.busy.release()
        return build(self.structure, partial(next, iter(outs)))

    def _run(self, program: Program, steps: int) -> None:
        """All steps, in chunks between which Python looks at signals."""
        parts = config.get_num_threads() if program.worth_sharing else 1
        done = 0
        while done < steps:
            chunk = min(steps - done, max(1, int(CHUNK_SECONDS / self.seconds)) if self.seconds else 1)
            began = time.perf_counter()
            if parts == 1:
                ran = program.run(done, chunk)
            else:
                ran = workers.crew.run(program.address, program.length, done, chunk, parts, program.state_address)
            for clock in self.clocks:
                clock[0] += ran
            if ran < chunk:
                raise self._failure(program, done + ran)
            self.seconds = max((time.perf_counter() - began) / chunk, 1e-9)
            done += chunk

    def _is_busy(self) -> StepBusyError:
        return StepBusyError(f"{self.name} is running in another thread: give each thread a captured step of its own")

    def _failure(self, program: Program, step: int) -> Exception:
        """The error of the op that ended the run, with the place where it was recorded."""
        at = int(program.state[machine.FAILED])
        program.state[machine.FAILED] = -1
        source = program.source_at(at)
        reason = source.op.fails or MinigradError(f"{source.op.name}: a kernel failed without a reason: this is a bug in minigrad")
        where = ", ".join(x for x in (f"step {step}", source.path and f"in {source.path}", source.line) if x)
        return type(reason)(f"{reason} ({where})")


class Flat:
    """The last call's arguments, if they were arrays and nothing else: the next call most often has the same ones, or the like."""

    __slots__ = ("replay", "_bases", "_seen", "_specs")

    def __init__(self, replay: Replay) -> None:
        assert replay.program is not None
        self.replay = replay
        self._specs = replay.specs
        self._seen: list[Any] = [None] * len(replay.specs)
        self._bases = [border.base for border in replay.program.feeds]

    def takes(self, arguments: tuple[Any, ...]) -> bool:
        """Whether these arguments can be read in place by the program as it is; if so, its words say where they are."""
        seen, specs, replay = self._seen, self._specs, self.replay
        if len(arguments) != len(seen) or replay.changes != live.counter.value or not (
                replay.gradients == live.gradients.value or replay.holds()):
            return False
        for i, x in enumerate(arguments):
            spec = specs[i]
            if x is seen[i]:  # the array object of the call before: its memory does not move
                if x.shape != spec.shape:
                    return False
                continue
            if type(x) is np.ndarray:
                if x.dtype is not spec.dtype or x.shape != spec.shape or not x.flags.c_contiguous:
                    return False
                address = address_of(x)
            elif isinstance(x, Handle) and x.spec is spec and not x.requires_grad:
                address = x.address
            else:
                return False
            cells = replay.program.cells  # type: ignore[union-attr]
            cells[self._bases[i]] = address
            cells[self._bases[i] + 1] = 0
            seen[i] = x
        return True
