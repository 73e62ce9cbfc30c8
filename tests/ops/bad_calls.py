"""Bad calls, made from good ones: a wrong number, kind, dtype or shape of inputs, attributes of wrong types and values, places that are none."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.ops.op import Op
from tests.ops.test_every_op import Array, cases


class Call(NamedTuple):
    """What to call an op with, and what was done to a good call."""

    what: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    wrong: bool  # whether there is no way to take it; the others may be good calls


OBJECTS: tuple[Any, ...] = ("text", None, object(), {"a": 1}, {1}, b"bytes", lambda x: x, 1j, [1.0, 2.0], (1, 2))
#: Arrays of dtypes that no op computes with.
DTYPES = (np.complex128, np.float16, np.longdouble, np.object_, "U3", "S3", "datetime64[s]", [("a", np.float64)])
VALUES: tuple[Any, ...] = ("text", None, object(), 1.5, -1.5, float("nan"), float("inf"), [0, "a"], ["a"], (1, 2, 3), {"a": 1}, 10**30, -10**30,
                           2**62, 99, -99,
                           1j, b"x", ("a",), (99,), (0, 0), (-1, -1), ((1,),), True, np.array([1, 2]), np.float32, "float32", int)
#: Inputs that an optimiser or a recording makes, which knows its memory: places, and what is written there.
TRUSTED = {"blocks", "ticks", "bounds", "stats", "now"}


def replaced(values: tuple[Any, ...], i: int, by: Any) -> tuple[Any, ...]:
    return (*values[:i], by, *values[i + 1:])


def shapes_near(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """One axis more, one less, one longer, one empty."""
    yield (2, *shape)
    yield (*shape, 3)
    if shape:
        yield shape[1:]
        yield shape[:-1]
    for i, n in enumerate(shape):
        yield (*shape[:i], n + 1, *shape[i + 1:])
        yield (*shape[:i], 0, *shape[i + 1:])


def resized(a: Array, shape: tuple[int, ...]) -> Array:
    return np.resize(a, shape) if a.size else np.zeros(shape, a.dtype)


def bad_calls(op: Op) -> Iterator[Call]:
    """Of the first sample of each way to set the attributes."""
    seen: set[Any] = set()
    for arrays, attributes in cases(op):
        key = (tuple(attributes), tuple(a.ndim for a in arrays))
        if key in seen:
            continue
        seen.add(key)
        yield from spoiled(op, tuple(mg.tensor(a) for a in arrays), arrays, attributes)


def spoiled(op: Op, inputs: tuple[Any, ...], arrays: tuple[Array, ...], attributes: dict[str, Any]) -> Iterator[Call]:
    yield Call("an input too few", inputs[:-1], attributes, True)
    yield Call("no input", (), attributes, True)
    yield Call("an input too many", (*inputs, inputs[0]), attributes, True)
    yield Call("an unknown attribute", inputs, {**attributes, "nonsense": 1}, True)
    yield Call("an input by name", inputs[:-1], {**attributes, op.inputs[-1]: inputs[-1]}, False)
    for i, (name, a) in enumerate(zip(op.inputs, arrays, strict=True)):
        for thing in OBJECTS:
            yield Call(f"{name}={thing!r}", replaced(inputs, i, thing), attributes, True)
        for dtype in DTYPES:
            yield Call(f"{name} of {dtype}", replaced(inputs, i, np.zeros(a.shape, dtype)), attributes, True)
        for other in ("float32", "float64", "int32", "int64", "uint8", "bool"):
            yield Call(f"{name} of {other}", replaced(inputs, i, mg.tensor(a.astype(other))), attributes, False)
        for shape in shapes_near(a.shape) if name not in TRUSTED else ():
            yield Call(f"{name} of shape {shape}", replaced(inputs, i, mg.tensor(resized(a, shape))), attributes, False)
        if a.dtype.kind == "i" and a.size and name not in TRUSTED:
            for place in (-10**6, 10**6, -2**63, 2**63 - 1):
                spoiled_places = a.copy()
                spoiled_places.flat[-1] = place
                yield Call(f"{name} with {place}", replaced(inputs, i, mg.tensor(spoiled_places)), attributes, False)
    for name in op.defaults:
        without = {key: value for key, value in attributes.items() if key != name}
        yield Call(f"no {name}", inputs, without, False)
        for value in VALUES:
            yield Call(f"{name}={value!r}", inputs, {**attributes, name: value}, False)
