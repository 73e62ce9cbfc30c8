"""What a declaration promises, tried out before the op exists: each check raises OpError with the place and both values."""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from minigrad.custom.meaning import Number, Parameters, Scalar, shown
from minigrad.errors import OpError
from minigrad.ops.op import Op
from minigrad.tape.handle import Array
from minigrad.tape.mode import no_grad
from minigrad.tape.tensor import tensor

#: Relative to 1 + the value: what polynomials, fourth-order differences in float64, and a sum in another order may be off by.
VALUE_TOLERANCE: Final = 1e-12
DERIVATIVE_TOLERANCE: Final = 1e-7
STEP: Final = 1e-3


def moved(attributes: Mapping[str, Number]) -> list[dict[str, Number]]:
    """The attributes as they are, and with each number that is not whole a little off: a derivative that forgets one shows."""
    near = {name: value if isinstance(value, int) else 0.875 * value or 0.125 for name, value in attributes.items()}
    return [dict(attributes)] + ([near] if near != attributes else [])


def numbers(op: Op, attributes: Mapping[str, Any]) -> None:
    """Attributes are numbers, and whole ones where the default is. Raises OpError."""
    for name, value in attributes.items():
        default = op.defaults[name]
        if not isinstance(value, int | float | np.number | np.bool_):
            raise OpError(f"{op.name}: the attribute {name} is a {type(value).__name__}, expected a number: "
                          "declare it in front of the * to make it an input, with a gradient")
        if isinstance(default, int) and float(value) != int(value):
            raise OpError(f"{op.name}: the attribute {name} is {value!r}, expected a whole number, as its default {default!r}")


def slope(along: Callable[[float], float]) -> tuple[float, float]:
    """The derivative at 0 by fourth-order differences; and by a wider step: where the two differ there is a kink, or a pole."""
    near, far = ((8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step) for step in (STEP / 2, STEP))
    return near, far


def differs(got: float, expected: float, wide: float, tolerance: float = DERIVATIVE_TOLERANCE) -> bool | None:
    """Whether a derivative is wrong; None where differences cannot tell."""
    bound = tolerance * (1 + abs(expected))
    if not abs(wide - expected) <= bound:
        return None
    return not abs(got - expected) <= bound


# ---- of numbers ----------------------------------------------------------------------------------------------------------------------
def kernel(made: Op, function: Scalar, points: Array, tolerance: float = VALUE_TOLERANCE) -> None:
    """The compiled op gives what Python gives."""
    for attributes in moved(made.defaults):
        with no_grad():
            got = made(*[tensor(row) for row in points], **attributes).array
        for i, point in enumerate(points.T):
            try:
                expected = float(function(*map(float, point), *attributes.values()))
            except (ArithmeticError, ValueError, TypeError):
                continue  # outside the function's domain
            if not (abs(got[i] - expected) <= tolerance * (1 + abs(expected)) or got[i] == expected or (got[i] != got[i] and expected != expected)):
                raise OpError(f"{made.name}: compiled, it gives {float(got[i])!r} at {shown(point)} (index {i}){_with(attributes)}, "
                              f"Python gives {expected!r}")


def derivative(name: str, function: Scalar, parts: Sequence[Scalar], given: Parameters, points: Array) -> None:
    """Each part of the vjp is the derivative by fourth-order differences, but at kinks."""
    for k, part in enumerate(parts):
        told = 0
        for attributes in moved(given.attributes):
            rest = attributes.values()
            for i, point in enumerate(points.T):
                inner = [float(v) for v in point]

                def along(shift: float, inner: list[float] = inner, k: int = k, rest: Iterable[Number] = rest) -> float:
                    return float(function(*[v + shift if j == k else v for j, v in enumerate(inner)], *rest))

                try:
                    expected, wide = slope(along)
                    got = float(part(1.0, function(*inner, *rest), *inner, *rest))
                except (ArithmeticError, ValueError, TypeError):
                    continue  # outside the function's domain; a complex number is no float
                wrong = differs(got, expected, wide)
                told += wrong is not None
                if wrong:
                    raise OpError(f"{name}: the vjp gives {got!r} for input {given.inputs[k]} at {shown(point)} (index {i}){_with(attributes)}, "
                                  f"differences give {expected!r}")
        if not told:
            raise OpError(f"{name}: at none of {points.shape[1]} points could the derivative for input {given.inputs[k]} be checked: "
                          "say where the function is smooth, as domain=(low, high)")


def _with(attributes: Mapping[str, Number]) -> str:
    return f" with {', '.join(f'{name}={value!r}' for name, value in attributes.items())}" if attributes else ""


# ---- of arrays -----------------------------------------------------------------------------------------------------------------------
def same_values(name: str, what: str, got: Array, expected: Array, tolerance: float, by: str) -> None:
    """Two arrays of one shape agree, NaN with NaN."""
    with np.errstate(all="ignore"):
        far = ~(np.abs(got - expected) <= tolerance * (1 + np.abs(expected))) & (got != expected) & ~((got != got) & (expected != expected))
    if far.any():
        index = tuple(map(operator.index, np.argwhere(far)[0]))
        raise OpError(f"{name}: {what}{list(index)} is {got[index].item()!r}, {by} {expected[index].item()!r}")


def gradient(name: str, wrt: str, analytic: Array, array: Array, total: Callable[[Array], float]) -> int:
    """What a rule gives agrees with differences of `total`, a number that depends on the array; how many elements could tell."""
    told = 0
    for place in np.unique(np.linspace(0, max(array.size - 1, 0), min(array.size, MOST_ELEMENTS)).astype(int)):
        index = tuple(map(operator.index, np.unravel_index(place, array.shape)))

        def along(shift: float, index: tuple[int, ...] = index) -> float:
            shifted = array.copy()
            shifted[index] += shift
            return total(shifted)

        expected, wide = slope(along)
        wrong = differs(float(analytic[index]), expected, wide, ARRAY_TOLERANCE)
        told += wrong is not None
        if wrong:
            raise OpError(f"{name}: the rule gives {float(analytic[index])!r} for {wrt}{list(index)}, differences give {expected!r}")
    return told


#: Elements of an array at which a rule is compared with differences.
MOST_ELEMENTS: Final = 64
ARRAY_TOLERANCE: Final = 1e-6
