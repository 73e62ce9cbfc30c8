"""Arrays put together along an axis, and parts of one."""
from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from minigrad.errors import ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op
from minigrad.ops.ranges import take_range
from minigrad.ops.samples import Case
from minigrad.ops.shape import take_strided
from minigrad.ops.spec import Spec

#: Inputs that one op joins; more are joined in groups.
MOST: Final = 8


def narrow(x: Value, axis: int, start: int, length: int) -> Value:
    """`length` places of x along `axis`, from `start` on: a view where they are neighbours in memory, else a copy."""
    shape = x.spec.shape
    if length == shape[axis]:
        return take_range(x, start=0, shape=shape)
    inner = math.prod(shape[axis + 1:])
    wanted = (*shape[:axis], length, *shape[axis + 1:])
    if math.prod(shape[:axis]) == 1:
        return take_range(x, start=start * inner, shape=wanted)
    return take_strided(x, start=start * inner, shape=wanted, strides=rules.c_strides(shape))


def _joined(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """One dtype and shape but for the size along attribute `axis`, which add up; each input is moved to its place."""
    dtype, first = rules.same_dtype(op, specs), specs[0].shape
    if not first:
        raise ShapeError(f"{op.name}: a scalar has no axis to join along: stack makes a new one")
    axis = rules.axes_of(op, specs[0], attributes["axis"])[0]
    rest = [(*spec.shape[:axis], *spec.shape[axis + 1:]) for spec in specs]
    if any(len(spec.shape) != len(first) for spec in specs) or any(other != rest[0] for other in rest):
        raise ShapeError(f"{op.name}: all sizes but those of axis {axis} must be equal, got {rules.listed(op, specs)}")
    total = sum(spec.shape[axis] for spec in specs)
    out = Spec.of((*first[:axis], total, *first[axis + 1:]), dtype)
    outer, inner = math.prod(first[:axis]), math.prod(first[axis + 1:])
    steps, start = [], 0
    for i, spec in enumerate(specs):
        width = spec.shape[axis] * inner
        steps.append(rules.move(dtype, (i, len(specs)), (outer, width), (0, (width, 1)), (start, (total * inner, 1))))
        start += width
    return Plan((out,), tuple(steps))


def _samples(count: int) -> Any:
    def cases(rng: np.random.Generator) -> Iterator[Case]:
        yield tuple(rng.uniform(-2, 2, (1 + i % 3, 4)) for i in range(count)), {"axis": 0}
        yield tuple(rng.uniform(-2, 2, (2, i % 4, 3)) for i in range(count)), {"axis": -2}
        yield tuple(rng.uniform(-2, 2, (1, 2, 1 + i % 3)) for i in range(count)), {"axis": -1}

    return cases


def _parameters(names: Sequence[str], keyword: str) -> inspect.Signature:
    """A signature of these positional parameters and one keyword-only."""
    positional = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    return inspect.Signature([*positional, inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default=0, annotation="int")])


def _declared(count: int) -> Op:
    """The op that joins `count` arrays."""
    names = [f"x{i}" for i in range(count)]

    def definition(*parts: Value, axis: int = 0) -> Value:
        return np.concatenate(parts, axis)

    definition.__name__, definition.__doc__ = f"cat{count}", f"{count} arrays one after the other along `axis`."
    definition.__signature__ = _parameters(names, "axis")  # type: ignore[attr-defined]
    made = op(shape=_joined, samples=_samples(count))(definition)

    def rule_of(i: int) -> Any:
        def rule(g: Value, axis: int, *specs: Spec) -> Value:
            at = axis % len(g.spec.shape)
            return narrow(g, at, sum(spec.shape[at] for spec in specs[:i]), specs[i].shape[at])

        wanted = ["g", "axis", *[f"{name}_spec" for name in names[:i + 1]]]
        rule.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in wanted])
        return rule

    for i, name in enumerate(names):
        made.vjp(name)(rule_of(i))
    return made


_OPS: Final = {count: _declared(count) for count in range(2, MOST + 1)}


def cat(parts: Sequence[Value], axis: int) -> Value:
    """All parts, at least one, one after the other along `axis`."""
    while len(parts) > 1:
        groups = [parts[i:i + MOST] for i in range(0, len(parts), MOST)]
        parts = [_OPS[len(group)](*group, axis=axis) if len(group) > 1 else group[0] for group in groups]
    return parts[0]
