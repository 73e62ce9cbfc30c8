"""Why a step was refused: what it computed is computed again, op by op, and values that are not finite are followed back to where they began.

A value may be infinite on purpose, such as the -inf of a mask. An op is to blame only if what it made reaches the gradients.
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad.errors import NonFiniteError
from minigrad.ops import norms
from minigrad.ops.op import Op, Plan
from minigrad.ops.spec import Spec
from minigrad.tape.backward import TRAIL_RECORDS, Trail, gradients
from minigrad.tape.handle import Array, Handle, twin, wrap
from minigrad.tape.mode import GradMode, Listener, Mode, listening, local
from minigrad.tape.record import Record
from minigrad.tape.sites import line_of

#: Parameters that an error lists.
LISTED: Final = 4


class Bad(NamedTuple):
    """Values that are not finite: where the first is, what it is, and the share of them all."""

    place: tuple[int, ...]
    value: float
    share: float


class Read(NamedTuple):
    """What stood at an address when an op read or wrote it."""

    begin: int
    spec: Spec
    low: float = 0.0  # over the finite values
    high: float = 0.0
    bad: Bad | None = None

    @property
    def end(self) -> int:
        return self.begin + self.spec.nbytes

    def __str__(self) -> str:
        known = self.spec.is_float and self.spec.size and (self.bad is None or self.bad.share < 1.0)
        return repr(self.spec) + (f", {self.low:.4g} to {self.high:.4g}" if known else "") + (
            f", {100 * self.bad.share:.3g} % not finite" if self.bad is not None else "")


def read(begin: int, array: Array, spec: Spec) -> Read:
    """Look at the values."""
    if not spec.is_float or not array.size:
        return Read(begin, spec)
    with np.errstate(all="ignore"):
        low, high = float(array.min()), float(array.max())
        if np.isfinite(low) and np.isfinite(high):
            return Read(begin, spec, low, high)
        finite = np.isfinite(array)
        index = np.unravel_index(int(np.argmin(finite)), array.shape)
        bad = Bad(tuple(map(int, index)), float(array[index]), 1.0 - float(finite.mean()))
        return Read(begin, spec, float(np.min(array, initial=np.inf, where=finite)), float(np.max(array, initial=-np.inf, where=finite)), bad)


class Event(NamedTuple):
    """An op that ran again."""

    op: Any
    path: str
    line: str
    backward: str  # the op whose rule it is a part of; "" in the forward pass
    inputs: tuple[Read, ...]
    outputs: tuple[Read, ...]
    around: bool = False  # whether the line is that of the outermost model's call, in which the op ran


class Cause(NamedTuple):
    """Where values that are not finite, and reach the gradients, began: at an op, or at what it read as its input `place`."""

    number: int  # of the event
    event: Event
    place: int  # -1: the op made them from finite ones


class _Writes:
    """Which events wrote to an address."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._by: dict[tuple[int, int], list[tuple[int, Read]]] = {}
        for number, event in enumerate(events):
            for out in event.outputs:
                self._by.setdefault((out.begin, out.end), []).append((number, out))
        self._places = sorted(self._by)
        self._reach: list[int] = []  # the furthest end of the places up to each
        for _, end in self._places:
            self._reach.append(max(end, self._reach[-1] if self._reach else end))

    def of(self, x: Read, before: int) -> list[tuple[int, Read]]:
        """The events that wrote what stands there when event `before` reads it."""
        found: list[tuple[int, Read]] = []
        at = bisect_left(self._places, (x.end, -1)) - 1
        while at >= 0 and self._reach[at] > x.begin:
            begin, end = self._places[at]
            if end > x.begin:
                mine = self._by[begin, end]
                last = bisect_left(mine, before, key=lambda pair: pair[0]) - 1
                if last >= 0:
                    found.append(mine[last])
            at -= 1
        found.sort(key=lambda pair: pair[0], reverse=True)
        whole = next((i for i, (_, out) in enumerate(found) if out.begin <= x.begin and out.end >= x.end), len(found))
        return found[:whole + 1]


def begin(events: Sequence[Event]) -> Cause | None:
    """Where what is not finite in the inputs of the last event began; the earliest place, if there are several. None if they are finite."""
    writes, waiting, seen, causes = _Writes(events), [len(events) - 1], set[int](), []
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        event = events[number]
        watched = event.op.mutates if event.op.__module__ == "minigrad.ops.observe" else ()  # statistics, which nothing is made from
        places = [i for i, x in enumerate(event.inputs) if x.bad is not None and i not in watched]
        if not places and number != len(events) - 1:
            causes.append(Cause(number, event, -1))
        for i in places:
            writers = [writer for writer, out in writes.of(event.inputs[i], number) if out.bad is not None]
            waiting += writers
            if not writers:
                causes.append(Cause(number, event, i))
    return min(causes, default=None, key=lambda cause: cause[::2])


# ---- words ---------------------------------------------------------------------------------------------------------------------------------
class Label(NamedTuple):
    """What to call the memory of a parameter or an argument."""

    begin: int
    end: int
    parameter: str | None
    argument: int | None = None

    def __str__(self) -> str:
        return f"argument {self.argument} of the step" if self.argument is not None else f"parameter {self.parameter}"


def name_of(parameter: Handle, i: int) -> str:
    """Its path in the model, or else its place in the optimiser."""
    return getattr(parameter, "path", "") or f"{i} of the optimizer"


def labels(parameters: Iterable[Handle]) -> list[Label]:
    """Where the parameters are, in the optimiser's order."""
    return [Label(p.address, p.address + p.spec.nbytes, name_of(p, i)) for i, p in enumerate(parameters)]


def _at(x: Read) -> str:
    """The first bad value, and where it is."""
    assert x.bad is not None
    return f"{x.bad.value} at [{', '.join(map(str, x.bad.place))}]" if x.spec.shape else f"{x.bad.value}"


def _where(event: Event) -> str:
    """The op, or the one whose rule it is a part of: its layer, its line, or where the model was called that it ran in."""
    name = event.backward or event.op.name
    line = f" ({'called at ' * event.around}{event.line})" if event.line else ""
    return f"{name}{f' in {event.path}' if event.path else ''}{line}"


def worded(cause: Cause, known: Sequence[Label]) -> tuple[str, dict[str, Any]]:
    """A sentence that says where it began, and the attributes of the error."""
    event = cause.event
    about: dict[str, Any] = {"op": event.backward or event.op.name, "module": event.path, "line": event.line, "backward": bool(event.backward)}
    names = [*getattr(event.op, "inputs", ())]
    if cause.place >= 0:
        x = event.inputs[cause.place]
        assert x.bad is not None
        label = next((one for one in known if one.begin < x.end and x.begin < one.end), None)
        what = str(label) if label is not None else f"the input {names[cause.place]} of {_where(event)}"
        if label is not None:
            about |= {"parameter": label.parameter, "argument": label.argument}
        else:
            about["input"] = names[cause.place]
        about |= {"index": x.bad.place, "value": x.bad.value}
        by = f"; {_where(event)} reads it first" if label is not None else ""
        return f"It was there before: {what} has {_at(x)} ({x}){by}", about
    out = next(x for x in event.outputs if x.bad is not None)
    assert out.bad is not None
    about |= {"index": out.bad.place, "value": out.bad.value}
    given = ", ".join(f"{name} ({x})" for name, x in zip(names, event.inputs, strict=False) if x.spec.is_float)
    by = f"the backward of {_where(event)}, whose {event.op.name} makes" if event.backward else f"{_where(event)}, which makes"
    return f"It began at {by} {_at(out)} ({out}), from {given or 'nothing'}", about


def largest(pairs: Iterable[tuple[str, Array]]) -> tuple[str, dict[str, Any]]:
    """Which gradient has the largest value, where all are finite and their norm is not."""
    name, array = max(pairs, key=lambda pair: float(np.abs(pair[1]).max(initial=0.0)))
    index = tuple(map(int, np.unravel_index(int(np.argmax(np.abs(array))), array.shape)))
    value = float(array[index])
    return (f"Every gradient is finite, but the sum of their squares is beyond float64: the largest is in parameter {name}, "
            f"{value:.4g} at [{', '.join(map(str, index))}]"), {"parameter": name, "index": index, "value": value}


def _advice(about: Mapping[str, Any]) -> str:
    """What to do about a value that was not finite before the step; "" if the step made it, for which its own advice holds."""
    index = about.get("index")
    if about.get("op") is None or index is None:
        return ""
    if about.get("parameter") is not None:
        return (f"Parameter {about['parameter']} was set so before the step, and no step that is refused changes it: look at its initial values, at "
                "what was loaded, and at what else writes to it.")
    if about.get("argument") is None and about.get("input") is None:
        return ""
    place = (f": row {index[0]}, feature {index[1]} is the first that is not finite" if len(index) == 2 else
             f": number {index[0]} is the first that is not finite" if len(index) == 1 else
             f": sample {index[0]} is the first that has such a value" if index else "")
    return f"Look at the data, and at how they were prepared{place}. No learning rate mends that."


def refusal(reason: Exception, found: str, about: dict[str, Any], step: str = "") -> NonFiniteError:
    """The error with what was found, between what happened and what to do."""
    head, _, advice = str(reason).partition(" were. ")
    error = NonFiniteError(f"{head} were{f' ({step})' if step else ''}.\n{found}.\n{_advice(about) or advice}")
    for name, value in about.items():
        setattr(error, name, value)
    return error


def later(error: NonFiniteError, steps: int) -> None:
    """Count the step that was refused from the start of a run in which so many steps came before."""
    step = (error.step or 0) + steps
    error.args = (str(error).replace(f"(step {error.step})", f"(step {step})", 1),)
    error.step = step


# ---- eager -----------------------------------------------------------------------------------------------------------------------------------
class _UnknownError(Exception):
    """A record that cannot be computed again."""


class _Checker(Listener):
    """Looks at what each op reads and makes."""

    def __init__(self, mode: Mode) -> None:
        self.mode, self.events, self.line = mode, list[Event](), ("", False)
        self.lines: dict[Record, tuple[str, bool]] = {}  # of the records that were made again
        self._alive: list[Any] = []  # an address means one value, to the end
        self._known: dict[int, Read] = {}

    def ran(self, op: Op, plan: Plan, inputs: tuple[Handle, ...], out: Handle | None) -> None:
        self._alive += [*inputs, out]
        if plan.alias is not None:
            return
        turn, mutated = self.mode.turn, set(op.mutates)
        given = tuple([self._known.get(x.address, Read(x.address, x.spec)) if i in mutated else self.look(x) for i, x in enumerate(inputs)])
        made = tuple([self.look(x) for x in (*[inputs[i] for i in op.mutates], *([out] if out is not None else []))])
        self._known.update({x.begin: x for x in made})
        path, line, backward = (self.mode.path, self.line, "") if turn is None else (turn.path, self.lines.get(turn, ("", False)), turn.op.name)
        self.events.append(Event(op, path, line[0], backward, given, made, around=line[1]))

    def look(self, x: Handle) -> Read:
        """Its values now."""
        return read(x.address, x.array, x.spec)


def _again(mode: Mode, trail: Trail, parameters: Sequence[Handle]) -> tuple[list[Event], dict[int, Any]]:
    """Compute the pass again: what ran, the guard last, and the gradient of each parameter by its place. Raises _UnknownError."""
    checker, values, leaves = _Checker(mode), dict[Record, Any](), dict[Handle, Any]()
    before, heard = (mode.path, mode.turn, mode.destination), mode.listener
    mode.turn = mode.destination = None
    try:
        with listening(checker), GradMode(True):
            for record in reversed(trail.order):
                if not isinstance(record.op, Op):
                    raise _UnknownError(f"{record.name} is a Function, whose forward is not on the tape")
                inputs = []
                for spec, parent in zip(record.specs, record.parents, strict=False):
                    if isinstance(parent, Handle) and parent not in leaves:
                        leaves[parent] = twin(parent)
                        leaves[parent].needs_grad = True
                    x = leaves[parent] if isinstance(parent, Handle) else values.get(parent) if isinstance(parent, Record) else parent
                    if x is None:
                        raise _UnknownError(f"what {record.name} read was written over since")
                    inputs.append(wrap(x, spec) if isinstance(x, np.ndarray) else x)
                known = heard.line_of(record) if heard is not None else ""
                mode.path, checker.line = record.path, (known, False) if known else line_of(mode, record)
                out = values[record] = Op.apply(record.op, *inputs, **record.attributes)
                checker.lines[out.record] = checker.line
            asked = {i: leaves[p] for i, p in enumerate(parameters) if p in leaves}
            found = gradients([values[root] for root in trail.roots], list(asked.values()), list(trail.roots.values()), retain_graph=False,
                              create_graph=False)
    finally:
        mode.path, mode.turn, mode.destination = before
    given = {i: g for i, g in zip(asked, found, strict=True) if g is not None}
    checker.events.append(Event(norms.guard, "", "", "", tuple([checker.look(g) for g in given.values()]), ()))
    return checker.events, given


def explained(reason: NonFiniteError, parameters: Sequence[Handle]) -> NonFiniteError:
    """The error of a step that was refused in eager mode, with where its gradients left the range, as far as it can be found."""
    mode = local.mode
    found, about = _found(mode, parameters)
    return refusal(reason, found, about)


def _found(mode: Mode, parameters: Sequence[Handle]) -> tuple[str, dict[str, Any]]:
    trail: Trail | None = mode.trail
    if trail is None:
        return _broken(parameters, "no backward pass of this thread is known that led there")
    if not trail.order:
        return _broken(parameters, f"the pass has {trail.records:,} records, and up to {TRAIL_RECORDS:,} are computed again: capture the step")
    try:
        events, given = _again(mode, trail, parameters)
    except _UnknownError as unknown:
        return _broken(parameters, f"it is not known which op did it, for {unknown}")
    except Exception as error:  # noqa: BLE001  whatever it is, the step was refused, and that is what has to be said
        return _broken(parameters, f"it is not known which op did it, for computing it again ended with {type(error).__name__}: {error}")
    cause = begin(events)
    if cause is not None:
        text, about = worded(cause, labels(parameters))
        exact = cause.event.line and not cause.event.around
        return text + ("" if exact else "; with mg.autograd.trace_lines() around the step its line is known"), about
    with np.errstate(all="ignore"):
        if given and not np.isfinite(sum(float(np.sum(np.square(g.array, dtype=np.float64))) for g in given.values())):
            return largest((name_of(parameters[i], i), g.array) for i, g in given.items())
    return _broken(parameters, "the last backward pass, computed again, is finite: they are from before it, or were changed after it")


def _broken(parameters: Sequence[Handle], why: str) -> tuple[str, dict[str, Any]]:
    """Which parameters have a gradient that is not finite, where no more is known."""
    names = [name_of(p, i) for i, p in enumerate(parameters)
             if p.leaf is not None and p.leaf.present and p.leaf.slot is not None and not np.isfinite(p.leaf.slot.array).all()]
    if not names:
        return f"{why[:1].upper()}{why[1:]}", {}
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"Not finite: the gradients of {', '.join(names[:LISTED])}{more}; {why}", {"parameter": names[0]}


