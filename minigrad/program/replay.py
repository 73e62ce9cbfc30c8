"""`capture`: a step that is recorded on its first calls and replayed by the machine from then on."""
from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, MinigradError, ShapeError, StepBusyError
from minigrad.ops.spec import Spec
from minigrad.program import explain
from minigrad.program.encode import Program
from minigrad.program.plan import lay_out
from minigrad.program.record import Recorder, signature
from minigrad.program.tree import build, flatten
from minigrad.tape import handle as handles
from minigrad.tape import live
from minigrad.tape.handle import Array, Handle, address_of, empty, twin, wrap
from minigrad.tape.mode import is_grad_enabled, listening, local
from minigrad_kernels import machine, workers

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds of native work between looks at Ctrl-C.
CHUNK_SECONDS = 0.05
#: Programs that one step keeps, the latest used last.
PROGRAMS = 16


class Recording:
    """One signature of arguments: its recordings so far, and the program once two of them agree."""

    def __init__(self) -> None:
        self.runs = 0
        self.lines: list[Any] = []
        self.entry: dict[int, bool] = {}
        self.program: Program | None = None
        self.changes = -1  # live.counter when the program was made
        self.gradients = -1  # live.gradients when the leaves were last looked at
        self.needs: list[tuple[Any, bool]] = []  # leaves and whether their gradient must be there before a replay
        self.leaves: dict[int, Any] = {}
        self.present: list[tuple[Any, bool]] = []  # and after it
        self.fresh: frozenset[int] = frozenset()
        self.clocks: list[list[int]] = []
        self.out: Any = None
        self.seconds = 0.0  # of one step, measured
        self.busy = threading.Lock()

    def holds(self) -> bool:
        """Whether the program would do what eager would do now."""
        if self.changes != live.counter.value:
            return False
        if self.gradients != live.gradients.value:
            if any(leaf.present is not there for leaf, there in self.needs):
                return False
            self.gradients = live.gradients.value
            for leaf, there in self.present:
                leaf.present = there
        return True


class Flat:
    """The last call's arguments, if they were arrays and nothing else: the next call most often has the same ones, or the like."""

    __slots__ = ("recording", "arguments", "specs", "bases")

    def __init__(self, recording: Recording, arguments: tuple[Any, ...], specs: list[Spec]) -> None:
        self.recording = recording
        self.arguments: list[Any] = [None] * len(arguments)  # none is seen yet
        self.specs = specs
        assert recording.program is not None
        self.bases = [border.base for border in recording.program.feeds]

    def takes(self, arguments: tuple[Any, ...]) -> bool:
        """Whether these arguments can be read in place by the program as it is; if so, its words say where they are."""
        seen, specs, recording = self.arguments, self.specs, self.recording
        if len(arguments) != len(seen) or recording.changes != live.counter.value or not (
                recording.gradients == live.gradients.value or recording.holds()):
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
            cells = recording.program.cells  # type: ignore[union-attr]
            cells[self.bases[i]] = address
            cells[self.bases[i] + 1] = 0
            seen[i] = x
        return True


class CapturedStep(Generic[P, R]):
    """A function of arrays and Tensors, recorded by its first two calls for each set of shapes and dtypes, replayed natively after.

    What it computes, and what it leaves in parameters, gradients and optimiser state, has the bits of the plain function.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self._recordings: dict[Any, Recording] = {}
        self._last: Flat | None = None
        functools.update_wrapper(self, function)

    # ---- calling
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        last = self._last
        if last is not None and not kwargs and last.takes(args):
            return self._once(last.recording, args)  # type: ignore[no-any-return]
        leaves: list[Any] = []
        structure = flatten((args, kwargs) if kwargs else args, leaves)
        given = [_as_array(x) for x in leaves]
        specs = [Spec.of(a.shape, a.dtype) for a in given]
        recording = self._recording(specs, structure)
        if recording.program is None or not recording.holds():
            return self._record(recording, given, specs, structure)  # type: ignore[no-any-return]
        result = self._replay(recording, given, [0] * len(given), 1, False)
        self._last = Flat(recording, args, specs) if not kwargs and len(leaves) == len(args) else None
        return result  # type: ignore[no-any-return]

    def _once(self, recording: Recording, arrays: Any) -> Any:
        """`_replay` of one step with arrays that fit, with as little Python as it takes."""
        program = recording.program
        if program.worth_sharing or handles.handed_out():  # type: ignore[union-attr]
            return self._replay(recording, [getattr(x, "array", x) for x in arrays], [0] * len(arrays), 1, False)
        if not recording.busy.acquire(False):
            raise StepBusyError(f"{self.__name__} is running in another thread: give each thread a captured step of its own")
        try:
            cells = program.cells  # type: ignore[union-attr]
            outs = []
            for at, spec in program.results:  # type: ignore[union-attr]
                out = empty(spec)
                cells[at] = out.address
                outs.append(out)
            if program.run() != 1:  # type: ignore[union-attr]
                raise self._failure(program, 0)  # type: ignore[arg-type]
            for clock in recording.clocks:
                clock[0] += 1
        finally:
            recording.busy.release()
        return outs[0] if recording.out == _ONE else build(recording.out, functools.partial(next, iter(outs)))

    def _recording(self, specs: list[Spec], structure: Any) -> Recording:
        key = (structure, tuple(specs), is_grad_enabled())
        found = self._recordings.pop(key, None) or Recording()
        self._recordings[key] = found  # the latest used stands last
        if len(self._recordings) > PROGRAMS:
            self._recordings.pop(next(iter(self._recordings)))
        return found

    # ---- recording
    def _record(self, recording: Recording, arrays: list[Array], specs: list[Spec], structure: Any) -> Any:
        if local.mode.listener is not None:
            raise CaptureError("a captured step was called inside another one: capture the outer function only")
        arguments = [wrap(np.array(a, order="C"), spec, weak=True) for a, spec in zip(arrays, specs, strict=True)]
        waiting = iter(arguments)
        given = build(structure, lambda: next(waiting))
        args, kwargs = given if structure[1] and len(structure[1]) == 2 and structure[1][1][0] == "dict" and _is_kwargs(structure) else (given, {})
        recorder = Recorder()
        changes = live.counter.value
        with listening(recorder):
            result = self.function(*args, **kwargs)
        outputs: list[Any] = []
        shape = flatten(result, outputs)
        for x in outputs:
            if not isinstance(x, Handle):
                raise CaptureError(f"a captured step returned a {type(x).__name__}, which a replay could not compute: return Tensors")
        outputs = [twin(x) for x in outputs]
        lines = [signature(recorder.items, arguments), shape]
        entry = {i: present for i, (_, present) in recorder.entry.items()}
        if recording.runs and recording.changes == changes == live.counter.value and recording.entry == entry and lines != recording.lines:
            raise CaptureError(_difference(recording.lines[0], lines[0], recorder))
        agreed = recording.runs and lines == recording.lines
        recording.runs += 1
        recording.lines, recording.entry, recording.changes = lines, entry, live.counter.value
        recording.program = None
        if agreed:
            self._build(recording, recorder, arguments, specs, outputs, shape)
        self._last = None
        return build(shape, functools.partial(next, iter(outputs)))

    def _build(self, recording: Recording, recorder: Recorder, arguments: list[Handle], specs: list[Spec], outputs: list[Handle],
               shape: Any) -> None:
        layout = lay_out(recorder.items, recorder.slots, arguments, outputs)
        recording.program = Program(layout, specs)
        recording.out = shape
        recording.needs = list(recorder.entry.values())
        recording.leaves = recorder.leaves
        recording.present = [(leaf, leaf.present) for leaf in recorder.leaves.values()]
        recording.fresh = frozenset(recorder.fresh)
        recording.gradients = -1
        for leaf in recorder.leaves.values():
            leaf.norm = None
        clocks = {id(x.clock): x.clock for x in layout.written}
        recording.clocks = list(clocks.values())

    # ---- replaying
    def _replay(self, recording: Recording, arrays: list[Array], strides: list[int], steps: int, stacked: bool) -> Any:
        program = recording.program
        assert program is not None
        if not recording.busy.acquire(False):
            raise StepBusyError(f"{self.__name__} is running in another thread: give each thread a captured step of its own")
        try:
            if handles.handed_out():
                handles.reclaim(recording.fresh)
            self._last = None  # the words no longer say where its arguments are
            cells = program.cells
            for border, array, stride in zip(program.feeds, arrays, strides, strict=True):
                cells[border.base] = address_of(array)
                cells[border.base + 1] = stride
            outs = []
            for at, spec in program.results:
                out = empty(Spec.of((steps, *spec.shape), spec.dtype) if stacked else spec)
                cells[at] = out.address
                cells[at + 1] = spec.nbytes
                outs.append(out)
            self._run(recording, program, steps)
        finally:
            recording.busy.release()
        if recording.out == _ONE:
            return outs[0]
        return build(recording.out, functools.partial(next, iter(outs)))

    def _run(self, recording: Recording, program: Program, steps: int) -> None:
        parts = config.get_num_threads() if program.worth_sharing else 1
        done = 0
        while done < steps:
            chunk = steps - done if steps == 1 else min(steps - done, max(1, int(CHUNK_SECONDS / recording.seconds)) if recording.seconds else 1)
            began = time.perf_counter() if steps > 1 else 0.0
            if parts == 1:
                ran = program.run(done, chunk)
            else:
                ran = workers.crew.run(program.address, program.words.size, done, chunk, parts, program.state_address)
            for clock in recording.clocks:
                clock[0] += ran
            if ran < chunk:
                raise self._failure(program, done + ran)
            if steps > 1:
                recording.seconds = max((time.perf_counter() - began) / chunk, 1e-9)
            done += chunk

    def _failure(self, program: Program, step: int) -> Exception:
        at = int(program.state[machine.FAILED])
        program.state[machine.FAILED] = -1
        program.state[machine.ARRIVALS] = 0
        source = program.instructions[program.starts.index(at) - program.first].source
        reason = source.op.fails or MinigradError(f"{source.op.name}: a kernel failed without a reason: this is a bug in minigrad")
        where = ", ".join(x for x in (f"step {step}", source.path and f"in {source.path}", source.line) if x)
        return type(reason)(f"{reason} ({where})")

    # ---- many steps
    def repeat(self, steps: int, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Take `steps` steps with the same arguments, without Python between them; every output with a leading step axis."""
        leaves: list[Any] = []
        structure = flatten((args, kwargs) if kwargs else args, leaves)
        arrays = [_as_array(x) for x in leaves]
        return self._many(steps, structure, arrays, lambda step: arrays, [0] * len(arrays))

    def scan(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Take one step for each index of the arguments' first axis, natively; every output with a leading step axis.

        With `index=`, an int64 array (steps, rows), step s gets row index[s] of every argument instead: an epoch in any order.
        """
        index = kwargs.pop("index", None)
        leaves: list[Any] = []
        structure = flatten((args, kwargs) if kwargs else args, leaves)
        arrays = [_as_array(x) for x in leaves]
        if index is not None:
            return self._gathered(structure, arrays, np.ascontiguousarray(np.asarray(index), np.int64))
        counts = {a.shape[0] if a.ndim else None for a in arrays}
        if len(counts) != 1 or None in counts:
            raise ShapeError(f"{self.__name__}.scan: the arguments need one leading step axis, got shapes {[a.shape for a in arrays]}")
        steps = counts.pop()
        assert steps is not None
        return self._many(steps, structure, arrays, lambda step: [a[step] for a in arrays], [a.nbytes // max(steps, 1) for a in arrays])

    def _many(self, steps: int, structure: Any, arrays: list[Array], at: Callable[[int], list[Array]], strides: list[int]) -> Any:
        """Record with the first steps where needed, replay the others, and stack the outputs."""
        if steps < 1:
            raise ValueError(f"{self.__name__}: {steps} steps; at least one is needed")
        recorded: list[Any] = []
        while len(recorded) < steps:
            here = at(len(recorded))
            specs = [Spec.of(a.shape, a.dtype) for a in here]
            recording = self._recording(specs, structure)
            if recording.program is not None and recording.holds():
                break
            recorded.append(self._record(recording, here, specs, structure))
        done = len(recorded)
        if done == steps:
            return _stacked(recorded, None)
        bases = [a if stride == 0 else a[done:] for a, stride in zip(arrays, strides, strict=True)]
        return _stacked(recorded, self._replay(recording, bases, strides, steps - done, True))

    def _gathered(self, structure: Any, arrays: list[Array], index: Array) -> Any:
        if index.ndim != 2:
            raise ShapeError(f"{self.__name__}.scan: index has shape {index.shape}, expected (steps, rows)")
        for a in arrays:
            if not a.ndim or (index.size and not (0 <= index.min() and index.max() < a.shape[0])):
                raise IndexError(f"{self.__name__}.scan: index runs from {index.min()} to {index.max()}, an argument has shape {a.shape}")
        # A block of steps at a time is gathered, so that what is held beside the data stays small.
        rows = max(1, sum(a[0].nbytes for a in arrays) * index.shape[1])
        block = max(3, (1 << 24) // rows)
        results = []
        for start in range(0, len(index), block):
            part = index[start:start + block]
            taken = [np.take(a, part, axis=0) for a in arrays]
            strides = [a.nbytes // len(part) for a in taken]
            results.append(self._many(len(part), structure, taken, lambda step, taken=taken: [a[step] for a in taken], strides))  # type: ignore[misc]
        return results[0] if len(results) == 1 else _joined(results)

    # ---- showing
    @property
    def nbytes(self) -> int:
        """Bytes that all programs of this step hold: arenas, words and state."""
        return sum(r.program.nbytes for r in self._recordings.values() if r.program is not None)

    def explain(self) -> explain.Explanation:
        """What each program runs: a table of instructions, and what it allocates."""
        return explain.Explanation(self.__name__, [(key, r.runs, r.program) for key, r in self._recordings.items()])

    def __repr__(self) -> str:
        made = sum(r.program is not None for r in self._recordings.values())
        return f"<captured step {self.__name__}, {made} programs, {self.nbytes} bytes>"


_ONE = ("leaf",)


def _is_kwargs(structure: Any) -> bool:
    return bool(structure[0] == "tuple" and structure[1][0][0] == "tuple")


def _as_array(x: Any) -> Array:
    if isinstance(x, Handle):
        if x.requires_grad:
            raise CaptureError("an argument of a captured step requires gradients: pass plain values, and let the step close over its parameters")
        x = x.array
    array = np.ascontiguousarray(x)
    return array if array.ndim == np.ndim(x) else array.reshape(np.shape(x))


def _difference(before: list[Any], now: list[Any], recorder: Recorder) -> str:
    """Say where the second recording departs from the first."""
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    item = recorder.items[min(at, len(recorder.items) - 1)] if recorder.items else None
    what = f"{item.op.name}{f' in {item.path}' if item.path else ''} at {item.line}" if item else "an op"
    return (f"the step did something else when it was run again, first at op {at}: {what}. A captured step must do the same each time: "
            "a number that changes has to be an argument of array type, a Tensor made inside has to be made from arguments")


def _leaves_of(tree: Any) -> tuple[Any, list[Any]]:
    leaves: list[Any] = []
    return flatten(tree, leaves), leaves


def _stacked(single: list[Any], replayed: Any) -> Any:
    """Outputs of single steps, stacked, followed by those of the replayed ones."""
    if not single:
        return replayed
    structure, _ = _leaves_of(single[0])
    rows = [_leaves_of(tree)[1] for tree in single]
    rest = _leaves_of(replayed)[1] if replayed is not None else [None] * len(rows[0])
    joined = []
    for i, tail in enumerate(rest):
        stack = np.stack([row[i].array for row in rows])
        stack = stack if tail is None else np.concatenate([stack, tail.array])
        joined.append(wrap(stack, Spec.of(stack.shape, stack.dtype)))
    return build(structure, functools.partial(next, iter(joined)))


def _joined(results: list[Any]) -> Any:
    structure, _ = _leaves_of(results[0])
    columns = zip(*[_leaves_of(tree)[1] for tree in results], strict=True)
    joined = [np.concatenate([x.array for x in column]) for column in columns]
    return build(structure, functools.partial(next, iter([wrap(a, Spec.of(a.shape, a.dtype)) for a in joined])))


def capture(function: Callable[P, R]) -> CapturedStep[P, R]:
    """Record a training step on its first calls and replay it natively afterwards, with the same bits. Usable as a decorator.

    The function takes arrays or Tensors (nested in tuples, lists and dicts) and returns Tensors. Its parameters, optimiser and
    hyper-parameters are read where they live, so a changed learning rate is seen. Raises CaptureError for what a replay cannot follow.
    """
    return CapturedStep(function)
