"""Gradient checking: analytic gradients against central differences, in float64, element by element."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, GradcheckError
from minigrad.tape.backward import gradients
from minigrad.tape.creation import randn
from minigrad.tape.handle import Array
from minigrad.tape.mode import enable_grad, no_grad
from minigrad.tape.tensor import Tensor, seed, tensor


def _outputs(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _differentiable(inputs: Sequence[Any]) -> list[int]:
    chosen = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not chosen:
        raise ValueError("gradcheck expects at least one input Tensor with requires_grad=True")
    for i in chosen:
        if inputs[i].dtype != np.float64:
            raise DtypeError(f"gradcheck: input {i} is {inputs[i].dtype.name}: differences drown in rounding below float64, use .double()")
    return chosen


def _numeric(f: Callable[..., Any], inputs: Sequence[Any], i: int, eps: float) -> Iterator[tuple[tuple[int, ...], list[Array], list[Array]]]:
    """For each element of input i: its index, the fourth-order differences of all outputs, and how far both sides' slopes are apart."""
    base = inputs[i].array.copy()

    def at(index: tuple[int, ...], shift: float) -> list[Array]:
        moved = base.copy()
        moved[index] += shift
        with no_grad():
            return [o.array.copy() for o in _outputs(f(*inputs[:i], tensor(moved), *inputs[i + 1:]))]

    for index in np.ndindex(base.shape):
        up, down, here = at(index, eps), at(index, -eps), at(index, 0.0)
        far = [(a - b) / (4 * eps) for a, b in zip(at(index, 2 * eps), at(index, -2 * eps), strict=True)]
        # The far difference cancels the second-order error of the near one.
        fourth = [(4 * (a - b) / (2 * eps) - c) / 3 for a, b, c in zip(up, down, far, strict=True)]
        yield index, fourth, [np.abs(a - 2 * h + b) / eps for a, h, b in zip(up, here, down, strict=True)]


def gradcheck(f: Callable[..., Any], inputs: Any, *, eps: float = 1e-5, atol: float = 1e-6, rtol: float = 1e-5,
              raise_exception: bool = True) -> bool:
    """Whether backward's gradients of f agree with fourth-order central differences, at every element of every input.

    inputs: float64 Tensors; those with requires_grad are checked. Raises GradcheckError naming input, index and both values.
    """
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    chosen = _differentiable(arguments)
    outputs = _outputs(f(*arguments))
    for o, output in enumerate(outputs):
        analytic: dict[int, Array] = {i: np.zeros(output.shape + arguments[i].shape) for i in chosen}
        for index in np.ndindex(output.shape):
            direction = np.zeros(output.shape)
            direction[index] = 1
            found = gradients([output], [arguments[i] for i in chosen], [seed(output, direction)], retain_graph=True, create_graph=False)
            for i, g in zip(chosen, found, strict=True):
                if g is not None:
                    analytic[i][index] = g.array
        for i in chosen:
            for index, slopes, sides in _numeric(f, arguments, i, eps):
                expected = slopes[o]
                got = analytic[i][tuple([slice(None)] * len(output.shape)) + index]
                wrong = np.abs(got - expected) > atol + rtol * np.abs(expected)
                if wrong.any():
                    if not raise_exception:
                        return False
                    where = tuple(int(n) for n in np.argwhere(wrong)[0])
                    kink = bool(sides[o][where] > 1e-3 * (1 + np.abs(expected[where])))
                    raise GradcheckError(
                        f"gradient of output {o}{list(where)} with respect to input {i}{list(index)} is {float(got[where])!r}, "
                        f"differences say {float(expected[where])!r}" + (": the function has a kink there" if kink else ""))
    return True


def gradgradcheck(f: Callable[..., Any], inputs: Any, *, eps: float = 1e-5, atol: float = 1e-6, rtol: float = 1e-5,
                  raise_exception: bool = True) -> bool:
    """Whether second derivatives agree with differences of first ones, for random upstream gradients."""
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    chosen = _differentiable(arguments)
    upstream = [tensor(randn(*o.shape, dtype=np.float64).array, requires_grad=True) for o in _outputs(f(*arguments))]

    def first(*values: Any) -> tuple[Tensor, ...]:
        # Under no_grad gradcheck asks for values only, but a gradient needs its graph.
        given = [tensor(v.array, requires_grad=True) if i in chosen and not v.requires_grad else v
                 for i, v in enumerate(values[:len(arguments)])]
        from_outputs = _outputs(_recorded(f, given))
        found = gradients(from_outputs, [given[i] for i in chosen], list(values[len(arguments):]), retain_graph=True, create_graph=True)
        return tuple(tensor(np.zeros(given[i].shape)) if g is None else g for i, g in zip(chosen, found, strict=True))

    return gradcheck(first, (*arguments, *upstream), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)


def _recorded(f: Callable[..., Any], values: Sequence[Any]) -> Any:
    with enable_grad():
        return f(*values)
