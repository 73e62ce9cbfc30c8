"""`capture`: a step that is recorded on its first calls and replayed by the machine from then on."""
from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

import numpy as np

from minigrad.errors import CaptureError, ShapeError
from minigrad.ops.spec import Spec
from minigrad.program.constants import Constants
from minigrad.program.explain import Explanation
from minigrad.program.record import Recorder
from minigrad.program.replay import NOT_TAKEN, Flat, Replay
from minigrad.tape import journal, live
from minigrad.tape.handle import Array, Handle, twin, wrap
from minigrad.tape.mode import caller, is_grad_enabled, listening, local
from minigrad.tape.tree import ARRAY, build, flatten, kinds, values

P = ParamSpec("P")
R = TypeVar("R")

#: Programs that one step keeps; the one that was used longest ago goes first.
PROGRAMS: Final = 16


class CapturedStep(Generic[P, R]):
    """A function of arrays and Tensors, recorded by its first two calls for each set of shapes and dtypes, replayed natively after.

    What it computes, and what it leaves in parameters, gradients and optimiser state, has the bits of the plain function.
    """

    __name__: str

    def __init__(self, function: Callable[P, R], memory_budget: int | str | None = None) -> None:
        self.function = function
        self._budget = None if memory_budget is None else in_bytes(memory_budget)
        self._replays: dict[Any, list[Replay]] = {}
        self._last: Flat | None = None
        self._constants = Constants(function)
        update_wrapper(self, function)

    # ---- calling
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        last = self._last
        if last is not None and not kwargs and (not self._constants or self._constants.hold()):
            result = last.call(args)
            if result is not NOT_TAKEN:
                return result  # type: ignore[no-any-return]
        self._begin()
        structure, arrays = _taken_apart(args, kwargs)
        replay = self._replay(structure, [Spec.of(a.shape, a.dtype) for a in arrays])
        if not replay.holds():
            return self._record(replay, structure, arrays)  # type: ignore[no-any-return]
        result = replay.many(arrays, [0] * len(arrays), None)
        if not kwargs and len(args) == len(arrays):
            self._last = Flat(replay, structure)
        return result  # type: ignore[no-any-return]

    def repeat(self, steps: int, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Take `steps` steps with the same arguments, without Python between them; every output with a leading step axis."""
        self._begin()
        structure, arrays = _taken_apart(args, kwargs)
        return self._many(steps, structure, arrays, 0)

    def scan(self, *args: Any, index: Any = None, **kwargs: Any) -> Any:
        """Take one step for each index of the arguments' first axis, natively; every output with a leading step axis.

        With `index`, an int64 array (steps, rows), step s gets row index[s] of every argument instead: an epoch in any order.
        """
        self._begin()
        structure, arrays = _taken_apart(args, kwargs)
        if index is not None:
            table = self._table(arrays, index)
            return self._many(len(table), structure, arrays, table)
        counts = {a.shape[0] if a.ndim else None for a in arrays}
        if len(counts) != 1 or None in counts:
            raise ShapeError(f"{self.__name__}.scan: the arguments need one leading step axis, got shapes {[a.shape for a in arrays]}")
        steps = counts.pop() or 0
        return self._many(steps, structure, arrays, None)

    # ---- recording
    def _begin(self) -> None:
        """What every way of running that takes Python does first. Raises CaptureError inside another captured step."""
        if local.mode.listener is not None:
            raise CaptureError(f"{self.__name__} was called inside another captured step, at {caller()}: capture the outer function only")
        self._last = None  # the program's words may point elsewhere afterwards
        journal.commit()  # a step that is refused goes back to its own beginning
        if not self._constants.hold():
            live.changed()
            self._constants = Constants(self.function)

    def _replay(self, structure: Any, specs: list[Spec]) -> Replay:
        """What is known of this signature, from the gradients that are there now."""
        key = (structure, tuple(specs), is_grad_enabled())
        known = self._replays.pop(key, [])
        self._replays[key] = known  # the latest used stands last
        if len(self._replays) > PROGRAMS:
            self._replays.pop(next(iter(self._replays)))
        found = next((replay for replay in known if replay.fits()), None)
        if found is None:
            found = Replay(self.__name__, specs, self._budget)
            known.append(found)
            del known[:-PROGRAMS]
        return found

    def _record(self, replay: Replay, structure: Any, arrays: list[Array]) -> Any:
        """Run the function eagerly and learn from it; its results are already right."""
        # Copies: two arguments on one memory are still two arguments, and the caller may write to his.
        arguments: list[Any] = [wrap(np.array(a, order="C"), spec, weak=kind == ARRAY)
                                for a, spec, kind in zip(arrays, replay.specs, kinds(structure), strict=True)]
        args, kwargs = build(structure, partial(next, iter(arguments)))
        recorder, changes = Recorder(arguments), live.counter.value
        with listening(recorder):
            result = self.function(*args, **kwargs)
            recorder.finished()
        journal.commit()  # as a replay would
        shape, outputs = self._results(result)
        del result, args, kwargs
        leak = recorder.leaked()
        if leak is not None:
            raise CaptureError(f"{self.__name__} keeps the Tensor that {leak.op.name} made at {leak.line} beyond the step, where a replay would "
                               "leave its value as it is now: return it instead")
        # Copies, so that what a replay returns and what a recording returns are both the caller's own.
        fresh = [wrap(x.array.copy(), x.spec) for x in outputs]
        places = [recorder.operand(x) for x in outputs]
        del outputs, arguments
        replay.learn(recorder, places, shape, changes)
        return build(shape, partial(next, iter(fresh)))

    def _results(self, result: Any) -> tuple[Any, list[Any]]:
        """The structure of what the function returned, and its Tensors outside the graph. Raises CaptureError for other values."""
        leaves: list[Any] = []
        shape = flatten(result, leaves)
        frozen = [x for x in (*leaves, *values(shape)) if not isinstance(x, Handle | str | None)]
        if frozen:
            raise CaptureError(f"{self.__name__} returned {frozen[0]!r}, a {type(frozen[0]).__name__}, which every replay would return again: "
                               "return Tensors")
        return shape, [twin(x) for x in leaves]

    def begun(self, steps: int, args: tuple[Any, ...], kwargs: dict[str, Any], index: Any = None) -> tuple[Callable[[], Any], bool]:
        """`repeat`, or `scan` by index, up to where the rest is native.

        Returns what does the rest, in any thread, and gives all results; and whether it draws random numbers.
        """
        self._begin()
        structure, arrays = _taken_apart(args, kwargs)
        rest = self._started(steps, structure, arrays, 0 if index is None else self._table(arrays, index))
        return rest, any(r.program is not None and r.program.draws for known in self._replays.values() for r in known)

    def _many(self, steps: int, structure: Any, arrays: list[Array], by: int | Array | None) -> Any:
        """Record with the first steps where needed, replay the others, and stack the outputs."""
        return self._started(steps, structure, arrays, by)()

    def _started(self, steps: int, structure: Any, arrays: list[Array], by: int | Array | None) -> Callable[[], Any]:
        """Record with the first steps where needed; what is returned replays the others and gives the outputs of all, stacked.

        by: 0 for the same arguments each time, None for one index of their first axis a step, or an index table.
        """
        if steps < 1:
            raise ValueError(f"{self.__name__}: {steps} steps; at least one is needed")

        def at(step: int) -> list[Array]:
            if by is None:
                return [np.ascontiguousarray(a[step]).reshape(a.shape[1:]) for a in arrays]
            return arrays if isinstance(by, int) else [a[by[step]] for a in arrays]

        results: list[Any] = []
        specs = [Spec.of(a.shape, a.dtype) for a in at(0)]
        replay = self._replay(structure, specs)
        while len(results) < steps and not replay.holds():
            results.append(_stacked(self._record(replay, structure, at(len(results)))))
            replay = self._replay(structure, specs)
        done = len(results)

        def rest() -> Any:
            if done < steps:
                if by is None:
                    results.append(replay.many([a[done:] for a in arrays], [a.nbytes // steps for a in arrays], steps - done))
                else:
                    table = None if isinstance(by, int) else np.ascontiguousarray(by[done:])
                    results.append(replay.many(arrays, [0] * len(arrays), steps - done, table))
            return _joined(results)

        return rest

    def _table(self, arrays: list[Array], index: Any) -> Array:
        """The index as int64 (steps, rows). Raises ShapeError or IndexError before anything runs."""
        table = np.asarray(index)
        if table.ndim != 2 or table.dtype.kind not in "iu":
            raise ShapeError(f"{self.__name__}.scan: index is {table.dtype.name}{list(table.shape)}, expected integers (steps, rows)")
        rows = min((a.shape[0] if a.ndim else 0) for a in arrays)
        if table.size and (table.min() < 0 or table.max() >= rows):
            raise IndexError(f"{self.__name__}.scan: index runs from {table.min()} to {table.max()}, the arguments have {rows} rows")
        return np.ascontiguousarray(table, np.int64)

    # ---- showing
    @property
    def nbytes(self) -> int:
        """Bytes that all programs of this step hold: arenas, words and state."""
        return sum(r.program.nbytes for known in self._replays.values() for r in known if r.program is not None)

    def explain(self) -> Explanation:
        """What each program runs: a table of instructions, and what it allocates."""
        return Explanation(self.__name__, [(key, r.runs, r.program) for key, known in self._replays.items() for r in known])

    def __repr__(self) -> str:
        made = sum(r.program is not None for known in self._replays.values() for r in known)
        return f"<captured step {self.__name__}, {made} programs, {self.nbytes} bytes>"


@overload
def capture(function: Callable[P, R], *, memory_budget: int | str | None = None) -> CapturedStep[P, R]: ...
@overload
def capture(function: None = None, *, memory_budget: int | str | None = None) -> Callable[[Callable[P, R]], CapturedStep[P, R]]: ...
def capture(function: Callable[P, R] | None = None, *, memory_budget: int | str | None = None) -> Any:
    """Record a training step on its first calls and replay it natively afterwards, with the same bits. Usable as a decorator.

    The function takes arrays or Tensors (nested in tuples, lists and dicts) and returns Tensors. Its parameters, optimiser and
    hyper-parameters are read where they live, so a changed learning rate is seen. Raises CaptureError for what a replay cannot follow.

    memory_budget: bytes, or text such as "2MB", that the program's arena may take; activations are then computed again where that is
    needed (Chen et al. 2016), with the same bits. Raises MemoryBudgetError when the program is made, if it cannot be met.
    """
    if function is None:
        return partial(CapturedStep, memory_budget=memory_budget)
    return CapturedStep(function, memory_budget)


_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def in_bytes(size: int | str) -> int:
    """A number of bytes from itself or from text such as "2MB" or "512 KiB". Raises ValueError."""
    if isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", size)
        if match is None or match[2].upper() not in _UNITS:
            raise ValueError(f"memory_budget is {size!r}, expected a number of bytes or text such as '2MB' or '512 KiB'")
        size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size <= 0:
        raise ValueError(f"memory_budget is {size} bytes, expected more than none")
    return size


def _taken_apart(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Array]]:
    """The arguments' structure and their arrays, C-contiguous. Raises CaptureError for a Tensor that requires gradients."""
    leaves: list[Any] = []
    structure = flatten((args, kwargs), leaves)
    arrays = []
    for x in leaves:
        if isinstance(x, Handle):
            if x.needs_grad:
                raise CaptureError("an argument of a captured step requires gradients: pass plain values, "
                                   "and let the step close over its parameters")
            x = x.array
        given = np.asarray(x)
        native = given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))
        arrays.append(native if native.flags.c_contiguous else np.ascontiguousarray(native))
    return structure, arrays


def _mapped(trees: list[Any], function: Callable[[list[Array]], Array]) -> Any:
    """One tree from several of the same structure, leaf by leaf."""
    columns: list[list[Any]] = []
    for tree in trees:
        leaves: list[Any] = []
        structure = flatten(tree, leaves)
        columns.append(leaves)
    arrays = [function([x.array for x in leaves]) for leaves in zip(*columns, strict=True)]
    return build(structure, partial(next, iter([wrap(a, Spec.of(a.shape, a.dtype)) for a in arrays])))


def _stacked(tree: Any) -> Any:
    """One step's results with a leading step axis."""
    return _mapped([tree], lambda parts: parts[0][None])


def _joined(trees: list[Any]) -> Any:
    """Results of some steps after those of others."""
    return trees[0] if len(trees) == 1 else _mapped(trees, np.concatenate)


def stacked(trees: list[Any]) -> Any:
    """Several results as one, with a leading axis for which of them."""
    return _mapped(trees, np.stack)
