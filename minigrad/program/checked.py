"""Why a program's step was refused: the program is data, so the step is taken once more, one kernel call after the other."""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from minigrad.errors import NonFiniteError
from minigrad.ops.norms import guard
from minigrad.ops.spec import Spec
from minigrad.program.encode import Program
from minigrad.program.plan import Value
from minigrad.tape.checked import Event, Label, Read, begin, labels, largest, name_of, read, refusal, worded
from minigrad.tape.handle import Array, Handle


def refused(program: Program, at: int, step: int, guards: Sequence[Any]) -> NonFiniteError:
    """The error of a step that ended at the guard in this word: where its gradients left the range. Leaves all memory as it is.

    guards: the optimisers of the program, in the order of their guards.
    """
    optimizer = guards[_guards(program).index(at)]
    reason = program.source_at(at).op.failure()
    assert isinstance(reason, NonFiniteError)
    parameters = [p for group in optimizer.groups for p in group.parameters]
    saved = [x.array.copy() for x in program.early]
    try:
        found, about = _found(program, at, step, parameters)
    finally:
        for x, values in zip(program.early, saved, strict=True):
            x.array[...] = values
    return refusal(reason, found, about | {"step": step}, f"step {step}")


def _guards(program: Program) -> list[int]:
    """The words at which the guards of a program stand."""
    return [program.starts[program.first + i] for i, unit in enumerate(program.units) if unit[0][1].op is guard]


def _found(program: Program, at: int, step: int, parameters: Sequence[Handle]) -> tuple[str, dict[str, Any]]:
    events = _again(program, at, step)
    cause = begin(events)
    if cause is None:
        return "Taken once more, the step is finite: what it adds to, the gradients from before it, was not", {}
    if cause.place < 0 and _sums(cause.event):
        _again(program, at, step, cause.number)  # the gradients as that op read them
        slots = [(name_of(p, i), p.leaf.slot.array) for i, p in enumerate(parameters) if p.leaf is not None and p.leaf.present
                 and p.leaf.slot is not None]
        return largest(slots)
    arguments = [Label(first, first + spec.nbytes, None, i) for i, (first, spec) in enumerate(zip(program.given, program.specs, strict=True))]
    return worded(cause, [*arguments, *labels(parameters)])


def _sums(event: Event) -> bool:
    """Whether the op is a part of the norm: what stands between the gradients and the guard."""
    return not event.backward and event.op.__module__ in ("minigrad.ops.norms", "minigrad.ops.observe")


def _again(program: Program, at: int, step: int, stop: int = -1) -> list[Event]:
    """Take the step once more up to the guard at this word, the last event; or up to event number `stop`, which does not run."""
    for x in program.early:
        if x.spec.is_float:  # what the first run left there is no cause; what was there before it is lost
            x.array[~np.isfinite(x.array)] = 0
    compute, _, _ = program.parts
    program.run_part(0, compute, step)
    calls = [(place, source) for i, unit in enumerate(program.units) for place, (_, source) in zip(program.calls(i), unit, strict=True)]
    events: list[Event] = []
    for _, group in groupby(calls, key=lambda call: call[1].number):
        mine = list(group)
        source = mine[0][1]
        reads = tuple([_read(program, value) for value in source.reads])
        last = mine[0][0][0] == at
        if last or len(events) == stop:
            events.append(Event(source.op, source.path, source.line, source.backward, reads, ()))
            break
        for words, _ in mine:
            program.run_part(*words, step)
        events.append(Event(source.op, source.path, source.line, source.backward, reads, tuple([_read(program, value) for value in source.writes])))
    return events


def _read(program: Program, value: Value) -> Read:
    return read(value.at, _array(program.address_of(value.storage), value.spec), value.spec)


def _array(address: int, spec: Spec) -> Array:
    """The memory at an address, which the program keeps alive."""
    if not spec.nbytes:
        return np.empty(spec.shape, spec.dtype)
    memory: Any = (ctypes.c_char * spec.nbytes).from_address(address)
    return np.frombuffer(memory, spec.dtype).reshape(spec.shape)
