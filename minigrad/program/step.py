"""`capture`: a step that is recorded on its first calls and replayed by the machine from then on."""
from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial, update_wrapper
from os.path import basename
from types import MethodType
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

import numpy as np

from minigrad.errors import CaptureError, NonFiniteError, ShapeError
from minigrad.ops.spec import Spec
from minigrad.program.audit import State, results_differ
from minigrad.program.constants import PLAIN, Constants, random_states
from minigrad.program.explain import Explanation
from minigrad.program.record import Recorder
from minigrad.program.replay import NOT_TAKEN, Flat, Replay
from minigrad.tape import journal, live
from minigrad.tape.checked import later
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

    def __init__(self, function: Callable[P, R], memory_budget: int | str | None = None, audit: float | None = None) -> None:
        self._static = isinstance(function, staticmethod)
        if isinstance(function, staticmethod):
            function = function.__func__
        _check(function)
        if audit is not None and not 0 < audit <= 1:
            raise ValueError(f"audit is {audit}, expected the share of calls that are run eagerly as well, above 0 and up to 1, or None")
        self.function = function
        self._options = (memory_budget, audit)
        self._budget = None if memory_budget is None else in_bytes(memory_budget)
        self._every = None if audit is None else round(1 / audit)  # one call of so many is looked at again
        self._until = 1  # native steps before the next one that is
        self._replays: dict[Any, list[Replay]] = {}
        self._last: Flat | None = None
        self._constants = Constants(None)
        update_wrapper(self, function, updated=())
        if not hasattr(self, "__name__"):
            self.__name__ = getattr(getattr(function, "func", None), "__name__", type(function).__name__)

    # ---- as a function: methods, copies
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The captured step of one object, kept in the object: that of a class itself captures its function's first argument as any other."""
        if instance is None or self._static:
            return self
        if isinstance(instance, type) or not hasattr(instance, "__dict__"):
            raise TypeError(f"{self.__name__} cannot be a captured method of {instance!r}, which cannot keep it: capture the bound method, "
                            f"step = mg.capture(object.{self.__name__}), of an object with a __dict__")
        name = next(name for kind in type(instance).__mro__ for name, value in vars(kind).items() if value is self)
        kept = instance.__dict__
        if name not in kept:
            kept[name] = CapturedStep(MethodType(self.function, instance), *self._options)
        return kept[name]

    def __copy__(self) -> CapturedStep[P, R]:
        return CapturedStep(self.function, *self._options)

    def __deepcopy__(self, memo: dict[int, Any]) -> CapturedStep[P, R]:
        """A step that has recorded nothing; as for any function, what it closes over is not copied, but the object of a method is."""
        return CapturedStep(deepcopy(self.function, memo), *self._options)

    def __reduce__(self) -> Any:
        """By name, as functions are pickled. Programs are not saved: a step that is loaded records anew."""
        if isinstance(self.function, MethodType):
            return getattr, (self.function.__self__, self.__name__)
        return getattr(self, "__qualname__", self.__name__)

    # ---- calling
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        last = self._last
        if last is not None and not kwargs and (not self._constants.many or self._constants.hold()):
            result = last.call(args)
            if result is not NOT_TAKEN:
                return result  # type: ignore[no-any-return]
        self._begin()
        structure, arrays = _taken_apart(args, kwargs)
        replay = self._replay(structure, [Spec.of(a.shape, a.dtype) for a in arrays])
        if not replay.holds():
            return self._record(replay, structure, arrays)  # type: ignore[no-any-return]
        if self._due(1):
            return self._audit(replay, structure, arrays)  # type: ignore[no-any-return]
        result = replay.many(arrays, [0] * len(arrays), None)
        if not kwargs and len(args) == len(arrays) and self._every is None:
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
            for replay in self._known():
                replay.changes = -1

    def _known(self) -> Iterator[Replay]:
        for known in self._replays.values():
            yield from known

    def _replay(self, structure: Any, specs: list[Spec]) -> Replay:
        """What is known of this signature, from the gradients that are there now."""
        key = (structure, tuple(specs), is_grad_enabled())
        try:
            hash(key)
        except TypeError:
            other = next(x for x in values(structure) if getattr(x, "__hash__", None) is None)
            raise TypeError(f"{self.__name__}: an argument holds a {type(other).__name__}, which cannot be told from another one of its kind "
                            "(it has no hash): pass its arrays and numbers, or let the step close over it") from None
        known = self._replays.pop(key, [])
        self._replays[key] = known  # the latest used stands last
        if len(self._replays) > PROGRAMS:
            self._replays.pop(next(iter(self._replays)))
        found = next((replay for replay in known if replay.fits()), None)
        if found is None:
            found = Replay(self.__name__, specs, self._budget, self._every is not None)
            known.append(found)
            del known[:-PROGRAMS]
        return found

    def _record(self, replay: Replay, structure: Any, arrays: list[Array], audited: bool = False) -> Any:
        """Run the function eagerly and learn from it; its results are already right.

        audited: compare it with the program that there is instead.
        """
        # Copies: two arguments on one memory are still two arguments, and the caller may write to his.
        arguments: list[Any] = [wrap(np.array(a, order="C"), spec, weak=kind == ARRAY)
                                for a, spec, kind in zip(arrays, replay.specs, kinds(structure), strict=True)]
        args, kwargs = build(structure, partial(next, iter(arguments)))
        constants = self._read()
        recorder, changes, drawn = Recorder(arguments), live.counter.value, random_states(constants.generators)
        with listening(recorder):
            result = self.function(*args, **kwargs)
            recorder.finished()
        journal.commit()  # as a replay would
        self._unmoved(constants, drawn, replay)
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
        if audited and not recorder.dropped:
            difference = replay.deviation(recorder)
            if difference is not None:
                raise CaptureError(difference)
        elif not recorder.dropped:
            replay.learn(recorder, [*places, *[x for _, x in recorder.shows]], shape, changes)
        return build(shape, partial(next, iter(fresh)))

    def _read(self) -> Constants:
        """What the function reads now beside its arguments, objects among the arguments included."""
        given = {id(x): x for structure, *_ in self._replays for x in values(structure) if not isinstance(x, PLAIN)}
        return Constants(self.function, *given.values())

    def _unmoved(self, constants: Constants, drawn: list[tuple[str, Any]], replay: Replay) -> None:
        """Raise CaptureError if the step drew random numbers that a replay would not, or does not leave what it reads as it was."""
        for (name, before), (_, now) in zip(drawn, random_states(constants.generators), strict=True):
            if before != now:
                raise CaptureError(f"{self._place()} draws from {name}, where every replay would have the same numbers: use mg.random_normal, "
                                   "mg.random_uniform or mg.bernoulli, which each replay draws anew, or draw outside and pass an array")
        changed = list(constants.changes())
        if changed and replay.runs:  # the first time it may make what it needs
            name, now, before = changed[0]
            raise CaptureError(f"{self._place()} changes {name or 'what it reads'} from {before} to {now} while it runs, which "
                               "a replay would not do again: change it outside, between the calls")
        self._constants = self._read() if changed else constants

    def _place(self) -> str:
        """The step and where it is defined."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{self.__name__} ({basename(code.co_filename)}:{code.co_firstlineno})" if code is not None else self.__name__

    # ---- looking again
    def _due(self, steps: int) -> bool:
        """Whether one of so many native steps to come is looked at again; then it is the first of them."""
        if self._every is None:
            return False
        self._until -= steps
        due = self._until <= 0
        while self._until <= 0:
            self._until += self._every
        return due

    def _audit(self, replay: Replay, structure: Any, arrays: list[Array]) -> Any:
        """Take a step natively and eagerly from the same state. Raises CaptureError, with everything as it was before, if they differ."""
        before = State(replay)
        native = replay.many(arrays, [0] * len(arrays), None)
        after = State(replay)
        before.put_back()
        try:
            eager = self._record(replay, structure, arrays, audited=True)
            leaves: list[list[Any]] = [[], []]
            if flatten(native, leaves[0]) != flatten(eager, leaves[1]):
                raise CaptureError("its results have another structure")
            difference = results_differ(*[[x.array for x in one] for one in leaves]) or State(replay).difference(after)
            if difference is not None:
                raise CaptureError(f"{difference} has other bits")
        except BaseException as error:
            before.put_back()
            replay.forget()
            if not isinstance(error, CaptureError):
                raise
            raise CaptureError(f"audit: {self._place()} is not what was captured any more, for it reads something that was not noticed. Nothing "
                               f"was changed, and the next call records anew. In detail: {error}") from None
        return eager

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
        return rest, any(r.program is not None and r.program.draws for r in self._known())

    def writes(self) -> set[tuple[int, int]]:
        """The addresses outside the step that its programs write: begin, end."""
        return {place for r in self._known() if r.program is not None for place in r.program.writes}

    def _many(self, steps: int, structure: Any, arrays: list[Array], by: int | Array | None) -> Any:
        """Record with the first steps where needed, replay the others, and stack the outputs."""
        return self._started(steps, structure, arrays, by)()

    def _started(self, steps: int, structure: Any, arrays: list[Array], by: int | Array | None) -> Callable[[], Any]:
        """Record with the first steps where needed; what is returned replays the others and gives the outputs of all, stacked.

        by: 0 for the same arguments each time, None for one index of their first axis a step, or an index table.
        """
        if not isinstance(steps, int | np.integer):
            raise TypeError(f"{self.__name__}: the first argument is the number of steps, a whole number; got a {type(steps).__name__}")
        if steps < 1:
            raise ValueError(f"{self.__name__}: {steps} steps; at least one is needed")

        def at(step: int) -> list[Array]:
            if by is None:
                return [np.ascontiguousarray(a[step]).reshape(a.shape[1:]) for a in arrays]
            return arrays if isinstance(by, int) else [a[by[step]] for a in arrays]

        results: list[Any] = []
        specs = [Spec.of(a.shape, a.dtype) for a in at(0)]
        replay = self._replay(structure, specs)
        while len(results) < steps and not (replay.holds() and replay.settles):
            now = at(len(results))
            # A step that leaves other gradients than it found is followed by another program than its own.
            try:
                results.append(_stacked(replay.many(now, [0] * len(now), None) if replay.holds() else self._record(replay, structure, now)))
            except NonFiniteError as error:
                later(error, len(results))
                raise
            replay = self._replay(structure, specs)
        done = len(results)

        def rest() -> Any:
            at_step = done
            if at_step < steps and self._due(steps - at_step):
                results.append(_stacked(self._audit(replay, structure, at(at_step))))
                at_step += 1
            left = steps - at_step
            try:
                if left and by is None:
                    results.append(replay.many([a[at_step:] for a in arrays], [a.nbytes // steps for a in arrays], left))
                elif left:
                    table = None if isinstance(by, int) else np.ascontiguousarray(by[at_step:])  # type: ignore[index]
                    results.append(replay.many(arrays, [0] * len(arrays), left, table))
            except NonFiniteError as error:
                later(error, at_step)
                raise
            return _joined(results)

        return rest

    def _table(self, arrays: list[Array], index: Any) -> Array:
        """The index as int64 (steps, rows). Raises ShapeError or IndexError before anything runs."""
        table = np.asarray(index)
        if table.ndim != 2 or table.dtype.kind not in "iu":
            raise ShapeError(f"{self.__name__}.scan: index is {table.dtype.name}{list(table.shape)}, expected integers (steps, rows)")
        counts = [a.shape[0] if a.ndim else 0 for a in arrays]
        if len(set(counts)) != 1:
            raise ShapeError(f"{self.__name__}.scan: by index the arguments need one number of rows, got shapes {[a.shape for a in arrays]}")
        rows = counts[0]
        if table.size and (table.min() < 0 or table.max() >= rows):
            raise IndexError(f"{self.__name__}.scan: index runs from {table.min()} to {table.max()}, the arguments have {rows} rows")
        return np.ascontiguousarray(table, np.int64)

    # ---- showing
    @property
    def nbytes(self) -> int:
        """Bytes that all programs of this step hold: arenas, words and state."""
        return sum(r.program.nbytes for r in self._known() if r.program is not None)

    def explain(self) -> Explanation:
        """What each program runs: a table of instructions, and what it allocates."""
        return Explanation(self.__name__, [(key, r.runs, r.program) for key, known in self._replays.items() for r in known])

    def __repr__(self) -> str:
        made = sum(r.program is not None for r in self._known())
        return f"<captured step {self.__name__}, {made} programs, {self.nbytes} bytes>"


@overload
def capture(function: Callable[P, R], *, memory_budget: int | str | None = None, audit: float | None = None) -> CapturedStep[P, R]: ...
@overload
def capture(function: None = None, *, memory_budget: int | str | None = None,
            audit: float | None = None) -> Callable[[Callable[P, R]], CapturedStep[P, R]]: ...
def capture(function: Callable[P, R] | None = None, *, memory_budget: int | str | None = None, audit: float | None = None) -> Any:
    """Record a training step on its first calls and replay it natively afterwards, with the same bits. Usable as a decorator.

    The function takes arrays or Tensors (nested in tuples, lists and dicts) and returns Tensors. Its parameters, optimiser and
    hyper-parameters are read where they live, so a changed learning rate is seen. Raises CaptureError for what a replay cannot follow.

    memory_budget: bytes, or text such as "2MB", that the program's arena may take; activations are then computed again where that is
    needed (Chen et al. 2016), with the same bits. Raises MemoryBudgetError when the program is made, if it cannot be met.

    audit: the share of calls, 0.01 for every hundredth, that are run eagerly as well, from the same state, and compared bit for bit: for
    steps that read what cannot be seen to change. Raises CaptureError, and changes nothing, where they differ.
    """
    if function is None:
        return partial(CapturedStep, memory_budget=memory_budget, audit=audit)
    return CapturedStep(function, memory_budget, audit)


def _check(function: Any) -> None:
    """Raise TypeError for what is not called once a step."""
    if not callable(function):
        advice = ": write @staticmethod above @mg.capture, or capture a plain function" if isinstance(function, classmethod) else ""
        raise TypeError(f"capture takes a function, got a {type(function).__name__}{advice}")
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    for kind, is_kind in (("a coroutine", inspect.iscoroutinefunction), ("a generator", inspect.isgeneratorfunction),
                          ("an asynchronous generator", inspect.isasyncgenfunction)):
        if is_kind(inner) or is_kind(getattr(inner, "__call__", None)):  # noqa: B004  its method, if it is an object
            raise TypeError(f"{getattr(inner, '__name__', inner)} is {kind} function, whose body does not run in one call: capture a plain function")


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
