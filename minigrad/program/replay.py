"""One signature of a captured step: its recordings, the program made of them, and what running that leaves behind."""
from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, StepBusyError
from minigrad.ops.norms import guard
from minigrad.ops.spec import Spec
from minigrad.program.checked import refused
from minigrad.program.encode import Program, arena_bytes
from minigrad.program.fuse import fuse
from minigrad.program.plan import Layout, lay_out
from minigrad.program.recompute import recompute
from minigrad.program.record import Operand, Ran, Recorder, difference, display
from minigrad.tape import handle as handles
from minigrad.tape import live, observe
from minigrad.tape.handle import Array, Handle, Leaf, address_of, empty
from minigrad.tape.mode import local
from minigrad.tape.tree import TENSOR, build, kinds
from minigrad_kernels import machine, workers

#: Seconds of native work between looks at Ctrl-C.
CHUNK_SECONDS: Final = 0.05


#: What several threads may do at a time is native; the marks that a run leaves in Python are made by one after the other.
_leaving = threading.Lock()
_side_by_side = threading.local()


@contextmanager
def stopping(event: threading.Event) -> Iterator[None]:
    """In this thread programs run on one core each, and end between two steps, with InterruptedError, once the event is set."""
    _side_by_side.stop = event
    try:
        yield
    finally:
        _side_by_side.stop = None


class Replay:
    """What a step does for arguments of one structure and these specs, from one pattern of gradients that are there.

    It is recorded until two recordings agree, then it is a program.
    """

    def __init__(self, name: str, specs: list[Spec], budget: int | None = None, audited: bool = False) -> None:
        self.name = name
        self.specs = specs
        self.budget = budget  # bytes that the arena may take
        self.audited = audited  # whether what was recorded is kept, for comparing
        self.runs = 0
        self.program: Program | None = None
        self.changes = -1  # live.counter at the end of the last recording
        self.gradients = -1  # live.gradients when the leaves were last looked at
        self.structure: Any = None  # of the results
        self.shows: list[str] = []  # labels of what `debug_print` shows of a run, which stands behind the results
        self.leaves: list[Leaf] = []  # whose gradients a run looks at or writes
        self._lines: list[Any] | None = None  # what the last recording did, until there is a program
        self._digest = b""  # of it, and of the structure
        self._recorder: Recorder | None = None  # alive until the next one, so that one address means one array in both
        self._entry: dict[int, tuple[Leaf, bool]] = {}  # leaves whose gradient has to be there, or not, before a replay
        self._exit: list[tuple[Leaf, bool]] = []  # and is there, or not, after it
        self.settles = False  # whether the exit is the entry, so that one replay after the other needs no look
        self._fresh: frozenset[int] = frozenset()  # leaves whose gradient is replaced
        self._cleared: list[Leaf] = []  # the same leaves
        self.clocks: list[list[int]] = []  # versions that a step moves
        self.prepare: Callable[[int], None] | None = None  # what has to be called before so many steps
        self.at_once = sys.maxsize  # steps that this can be called for
        self.seconds = 0.0  # of one step, measured
        self.guards: list[Any] = []  # optimisers whose gradients a run looks at
        self.skips: Any = None  # the one of them whose bad steps are dropped
        self.busy = threading.Lock()

    def fits(self) -> bool:
        """Whether the leaves that it looks at have a gradient, or none, as when it was recorded."""
        return all(leaf.present is there for leaf, there in self._entry.values())

    def holds(self) -> bool:
        """Whether the program would do what eager mode would do now."""
        return self.program is not None and self.changes == live.counter.value and (self.gradients == live.gradients.value or self.fits())

    def leave(self) -> None:
        """What a run leaves behind beside memory: which leaves have a gradient now."""
        live.replays.value += 1
        if self.gradients != live.gradients.value:
            for leaf, there in self._exit:
                leaf.present = there
                leaf.linked = None  # what was there with a graph of its own was written over, or is gone
            live.gradients.value += 1  # other programs have to look again
            if self.settles:
                self.gradients = live.gradients.value

    # ---- recording
    def learn(self, recorder: Recorder, outputs: list[Operand], structure: Any, changes: int) -> None:
        """Take in one more recording; the program is made when it agrees with the one before.

        Raises CaptureError if they differ although nothing that a step may depend on has changed in between.
        """
        self.guards = recorder.guards
        self.skips = next((one for one in self.guards if one.nonfinite == "skip"), None)
        lines = recorder.signature()
        digest = blake2b(repr((lines, structure)).encode()).digest()  # not `hash`: that of -1 is that of -2
        if self._lines is not None and digest != self._digest and self.changes == changes:
            raise CaptureError(difference(self._lines, lines, recorder))
        agreed = self.runs > 0 and digest == self._digest
        self.runs += 1
        self._lines, self._digest, self.structure = lines, digest, structure
        self._entry, self.changes, self._recorder = recorder.entry, live.counter.value, recorder
        if not agreed:
            self.program = None
            recorder.items.clear()
            return
        self._recorder = None
        if not self.audited:
            self._lines = None
        if self.program is not None:
            recorder.items.clear()
            return  # something else had changed
        self.program = self._program(fuse(recorder.items, outputs), recorder, outputs)
        self.gradients = -1
        leaves = {**recorder.leaves, **recorder.fresh}
        self._exit = [(leaf, leaf.present) for leaf in leaves.values()]
        self.leaves, self.shows = list(leaves.values()), [label for label, _ in recorder.shows]
        self.settles = all(leaf.present is there for leaf, there in self._entry.values())
        self._fresh, self._cleared = frozenset(recorder.fresh), list(recorder.fresh.values())
        self.prepare = _all_prepared(recorder.prepare)
        self.at_once = max(1, recorder.at_once)
        self.clocks = list({id(clock): clock for clock in (*recorder.clocks, *self.program.clocks)}.values())

    def deviation(self, recorder: Recorder) -> str | None:
        """Where this recording departs from the one that the program was made of, in words; None if it does not."""
        lines = recorder.signature()
        return difference(self._lines or [], lines, recorder) if lines != self._lines else None

    def forget(self) -> None:
        """Record anew."""
        self.program, self.runs, self._lines = None, 0, None

    def _program(self, ran: list[Ran], recorder: Recorder, outputs: list[Operand]) -> Program:
        """What ran, as a program whose arena is within the budget."""
        def laid_out(items: list[Ran]) -> Layout:
            return lay_out(items, recorder.slots, recorder.arguments, outputs)

        recorder.items.clear()
        if self.budget is not None:
            fixed = {x.address for x in (*recorder.arguments, *outputs)}
            ran = recompute(ran, fixed, self.budget, lambda items: arena_bytes(laid_out(items)))
        return Program(laid_out(ran), self.specs)

    # ---- running
    def many(self, arrays: Sequence[Array], strides: Sequence[int], steps: int | None, indices: Array | None = None) -> Any:
        """Step after step, argument i read at `strides[i]` bytes further each time, or its rows by index; results stacked unless steps=None."""
        program = self.program
        assert program is not None
        with self.alone():
            if handles.handed:
                with _leaving:
                    handles.reclaim(self._fresh)
            program.enter(local.mode)
            cells = program.cells
            for border, array, stride in zip(program.feeds, arrays, strides, strict=True):
                cells[border.base] = address_of(array)
                cells[border.base + 1] = stride
                cells[border.base + 2] = 0 if indices is None else address_of(indices)
                cells[border.base + 3] = 0 if indices is None else indices.shape[1]
            outs = []
            for at, spec in program.results:
                out = empty(spec if steps is None else Spec.of((steps, *spec.shape), spec.dtype))
                cells[at] = out.address
                cells[at + 1] = spec.nbytes
                outs.append(out)
            self._run(program, steps or 1)
        return self.given(outs, steps)

    def given(self, outs: list[Any], steps: int | None = None) -> Any:
        """The results of a run in their structure; what else stands behind them is printed, step by step."""
        if self.shows:
            shown = outs[len(outs) - len(self.shows):]
            for step in range(steps or 1):
                for label, x in zip(self.shows, shown, strict=True):
                    display(label, x.array if steps is None else x.array[step])
        return build(self.structure, partial(next, iter(outs)))

    def taken(self) -> StepBusyError:
        """The error of a call while another thread runs the program."""
        return StepBusyError(f"{self.name} is running in another thread: give each thread a captured step of its own")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The program to ourselves. Raises StepBusyError."""
        if not self.busy.acquire(False):
            raise self.taken()
        try:
            yield
        finally:
            self.busy.release()

    def _run(self, program: Program, steps: int) -> None:
        """All steps, in chunks between which Python looks at signals."""
        stop: threading.Event | None = getattr(_side_by_side, "stop", None)
        parts = min(config.get_num_threads(), program.workers) if stop is None else 1
        done = 0
        while done < steps:
            if stop is not None and stop.is_set():
                raise InterruptedError(f"{self.name} was stopped after {done} of {steps} steps")
            chunk = min(steps - done, self.at_once, max(1, int(CHUNK_SECONDS / self.seconds)) if self.seconds else 1)
            if self.prepare is not None:
                self.prepare(chunk)
            began = time.perf_counter()
            if parts == 1:
                ran = program.run(done, chunk)
            else:
                ran = workers.crew.run(program.address, program.length, done, chunk, parts, program.state_address)
            with _leaving:
                for clock in self.clocks:
                    clock[0] += ran
                if ran:
                    self.leave()
            done += ran
            if ran < chunk:
                self.ended(program, done)
                done += 1
            else:
                self.seconds = max((time.perf_counter() - began) / chunk, 1e-9)

    def ended(self, program: Program, step: int) -> None:
        """An op ended the run. Raises its error, or takes the rest of a step that is to be skipped."""
        at = int(program.state[machine.FAILED])
        program.state[machine.FAILED] = -1
        if program.source_at(at).op is guard:
            with _leaving:
                live.replays.value += 1  # norms of gradients that were written over hold no more
                self.leave()  # the gradients are those of the refused step
                observe.refused()
            if self.skips is None:
                raise refused(program, at, step, self.guards)
            with _leaving:
                self.skips.skipped += 1
            _, commit, emit = program.parts
            at = program.run_part(at + int(program.words[at + 2]), commit, step)
            if at < 0:
                program.run_part(emit, program.length, step)  # copies cannot fail
                return
        raise self.failure(program, at, step)

    def failure(self, program: Program, at: int, step: int) -> Exception:
        """The error of the op at this word, with the place where it was recorded."""
        source = program.source_at(at)
        live.replays.value += 1
        for leaf in self._cleared:
            leaf.present, leaf.linked = False, None
        live.gradients.value += 1
        reason = source.op.failure()
        where = ", ".join(x for x in (f"step {step}", source.path and f"in {source.path}", source.line) if x)
        return type(reason)(f"{reason} ({where})")


def _all_prepared(times: Counter[Callable[[int], None]]) -> Callable[[int], None] | None:
    """What has to be called before so many steps; None if nothing has."""
    if len(times) == 1 and times.total() == 1:
        return next(iter(times))
    return partial(_prepare, dict(times)) if times else None


def _prepare(times: dict[Callable[[int], None], int], steps: int) -> None:
    """Call each for as many steps as are its own."""
    for prepare, count in times.items():
        prepare(steps * count)


class Flat:
    """The last call's arguments, if they were arrays and nothing else: the next call most often has the same ones, or the like."""

    __slots__ = ("_arguments", "_bases", "_grad", "_program", "_replay", "_seen", "_single", "_specs", "_tensors")

    def __init__(self, replay: Replay, structure: Any) -> None:
        assert replay.program is not None
        self._replay, self._program = replay, replay.program
        self._arguments = self._program.arguments
        self._grad = local.mode.grad
        self._single = replay.structure == TENSOR and not replay.shows
        self._specs = replay.specs
        self._tensors = [kind == TENSOR for kind in kinds(structure)]
        self._seen: list[Any] = [None] * len(replay.specs)  # the array whose address the program's words hold
        self._bases = [border.base for border in replay.program.feeds]

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """One step with as little Python as it takes, or NOT_TAKEN if the program cannot read these arguments as they are."""
        replay, program, mode, seen = self._replay, self._program, local.mode, self._seen
        if (len(arguments) != len(seen) or replay.changes != _changes.value or replay.gradients != _gradients.value
                or mode.grad is not self._grad or mode.listener is not None or _handed_out or mode.journal or program.worth_sharing):
            return NOT_TAKEN
        arrays = None
        i = -1
        for x in arguments:
            i += 1
            if self._tensors[i]:
                if not isinstance(x, Handle) or x.needs_grad:
                    return NOT_TAKEN
                x = x.array
            spec = self._specs[i]
            if x is seen[i]:  # its memory does not move
                if x.shape != spec.shape:
                    return NOT_TAKEN
            elif type(x) is not np.ndarray or x.dtype is not spec.dtype or x.shape != spec.shape or not x.flags.c_contiguous:
                return NOT_TAKEN
            else:
                arrays = arrays or {}
                arrays[i] = x
        if not replay.busy.acquire(False):
            raise replay.taken()
        try:
            if not program.at_home(mode):
                return NOT_TAKEN
            cells = program.cells
            if arrays is not None:
                for i, x in arrays.items():
                    cells[self._bases[i]] = address_of(x)
                    seen[i] = x
            if replay.prepare is not None:
                replay.prepare(1)
            outs = []
            for at, spec in program.results:
                out = empty(spec)
                cells[at] = out.address
                outs.append(out)
            if program.native(*self._arguments) == 1:
                for clock in replay.clocks:
                    clock[0] += 1
                _replays.value += 1
            else:
                replay.ended(program, 0)
        finally:
            replay.busy.release()
        return outs[0] if self._single else replay.given(outs)


NOT_TAKEN: Final = object()
_changes, _gradients, _replays, _handed_out = live.counter, live.gradients, live.replays, handles.handed
