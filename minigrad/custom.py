"""`@mg.op`: an op of one's own from scalar maths, compiled, checked, and used like any other, eager and captured."""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import count
from types import FunctionType, ModuleType
from typing import Any, Final

import numpy as np
from numba import types
from numba.core.errors import NumbaError

from minigrad.errors import OpError
from minigrad.ops import activations, elementwise, rules
from minigrad.ops.op import Op, Value, per_element
from minigrad.ops.samples import reals
from minigrad.tape.handle import Array
from minigrad.tape.mode import is_grad_enabled, no_grad
from minigrad.tape.tensor import tensor
from minigrad_kernels import loops
from minigrad_kernels.scalar import generic

Scalar = Callable[..., Any]

#: Points at which a new op's kernel and derivative are compared with its definition.
POINTS: Final = 97
#: Relative to 1 + the value: what the kernel's polynomials, and fourth-order differences in float64, may be off by.
VALUE_TOLERANCE: Final = 1e-12
DERIVATIVE_TOLERANCE: Final = 1e-7
_LOOPS: Final = {1: loops.map1, 2: loops.zip2, 3: loops.zip3, 4: loops.zip4}
_made = count()


def op(function: Scalar | None = None, *, vjp: Scalar, domain: tuple[float, float] = (-3.0, 3.0)) -> Any:
    """Make an elementwise op from a function of one or two numbers; a decorator.

    vjp: (g, y, x) or (g, y, a, b) -> the gradient of the input, or a tuple with that of each; y is the op's output. In both functions
    `math.*` and `np.*` mean minigrad's own scalar maths. domain: where both are checked, now, in float64. Raises OpError with the point
    and both values where the derivative does not hold. For a second derivative the vjp must consist of operators, exp, log and tanh.
    """
    if function is None:
        return lambda given: op(given, vjp=vjp, domain=domain)
    name, names = function.__name__, list(inspect.signature(function).parameters)
    wanted = ["g", "y", *names]
    if not 1 <= len(names) <= 2 or len(inspect.signature(vjp).parameters) != len(wanted):
        raise OpError(f"{name}: an op takes one or two numbers, and its vjp ({', '.join(wanted)}); "
                      f"got ({', '.join(names)}) and ({', '.join(inspect.signature(vjp).parameters)})")
    points = np.random.default_rng(0).uniform(*domain, (len(names), POINTS))
    points[:, :2] = domain
    try:
        several = isinstance(vjp(1.0, function(*points[:, 0]), *points[:, 0]), tuple)
    except (ArithmeticError, ValueError) as error:
        raise OpError(f"{name} cannot be computed at {_shown(points[:, 0])}: {error}: say where it can, as domain=(low, high)") from None
    parts = [_part(vjp, i, len(names)) for i in range(len(names))] if several else [vjp]
    if len(parts) != len(names):
        raise OpError(f"{name}: the vjp of two inputs returns a tuple of two gradients")
    _check_derivative(name, function, parts, points)
    made = _declare(function, name, names)
    _check_kernel(made, function, points)
    for i, (wrt, part) in enumerate(zip(names, parts, strict=True)):
        compiled = _declare(part, f"{name}_vjp_{wrt}", ["grad", "out", *names])
        made.vjp(wrt)(_rule(compiled, _on_tensors(vjp), i if several else None, names))
    return made


def _part(vjp: Scalar, i: int, inputs: int) -> Scalar:
    """Element i of a vjp that returns a tuple."""
    return (lambda g, y, a: vjp(g, y, a)[i]) if inputs == 1 else (lambda g, y, a, b: vjp(g, y, a, b)[i])


def _signature(names: list[str]) -> inspect.Signature:
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names])


def _declare(function: Scalar, name: str, names: list[str]) -> Op:
    """An elementwise op that computes `function`."""

    def definition(*values: Value) -> Value:
        return np.vectorize(function, otypes=[float])(*values)

    definition.__name__, definition.__doc__, definition.__module__ = name, function.__doc__, function.__module__
    definition.__signature__ = _signature(names)  # type: ignore[attr-defined]
    return Op(definition, kernel=_kernel(function, name, len(names)), shape=rules.elementwise, samples=reals(-3, 3, arity=len(names)),
              flops=per_element(8), mutates=(), commit=False, fails=None, stored=False)


def _kernel(function: Scalar, name: str, inputs: int) -> Any:
    """The kernel: over vectors, or over one lane at a time for a function that branches, which no vector can."""
    own = f"custom_{next(_made)}_{name}"
    arrays = (types.float32[::1],) * (inputs + 1)
    for vector in (True, False):
        kernel = _LOOPS[inputs](generic(function), own, vector=vector)
        try:
            kernel.compile(arrays)
        except NumbaError as error:
            if not vector:
                raise OpError(f"{name} cannot be compiled: {error}") from None
        else:
            return kernel
    return None


def _rule(compiled: Op, plain: Scalar, part: int | None, names: list[str]) -> Scalar:
    """The rule of one input: the compiled vjp, or, where it will itself be differentiated, the vjp on Tensors."""

    def rule(*values: Value) -> Value:
        if not is_grad_enabled():
            return compiled(*values)
        given = plain(*values)
        return given if part is None else given[part]

    rule.__signature__ = _signature(["g", "out", *names])  # type: ignore[attr-defined]
    return rule


#: What `math` and `np` mean when a vjp runs on Tensors.
_tensor_maths = ModuleType(f"{__name__}.tensor_maths")
_tensor_maths.__dict__.update(exp=elementwise.exp, log=elementwise.log, tanh=activations.tanh, pi=math.pi, e=math.e)
_TENSOR_OPS: Final = {id(getattr(module, name)): getattr(_tensor_maths, name) for module in (math, np) for name in ("exp", "log", "tanh")}


def _on_tensors(function: Scalar) -> Scalar:
    """The function with the ops of Tensors in the place of `math` and NumPy."""
    if not isinstance(function, FunctionType):
        return function
    scope = {name: _tensor_maths if value is math or value is np else _TENSOR_OPS.get(id(value), value)
             for name, value in function.__globals__.items()}
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)


# ---- checks --------------------------------------------------------------------------------------------------------------------------
def _check_kernel(made: Op, function: Scalar, points: Array) -> None:
    """The compiled op gives what Python gives. Raises OpError with the point and both values."""
    with no_grad():
        got = made(*[tensor(row) for row in points]).array
    for i, point in enumerate(points.T):
        expected = float(function(*map(float, point)))
        if not (abs(got[i] - expected) <= VALUE_TOLERANCE * (1 + abs(expected)) or (got[i] != got[i] and expected != expected)):
            raise OpError(f"{made.name}: compiled, it gives {got[i]!r} at {_shown(point)} (index {i}), Python gives {expected!r}")


def _check_derivative(name: str, function: Scalar, parts: list[Scalar], points: Array, step: float = 1e-3) -> None:
    """Each vjp is the derivative by fourth-order differences, but at kinks. Raises OpError with the point and both values."""
    for k, part in enumerate(parts):
        for i, point in enumerate(points.T):
            inner = [float(v) for v in point]

            def along(shift: float, inner: list[float] = inner, k: int = k) -> float:
                return float(function(*[v + shift if j == k else v for j, v in enumerate(inner)]))

            try:
                # Five points, and the same with half the step: where the two differ there is a kink, or a pole.
                wide, expected = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h)) for h in (step, step / 2))
                wide, expected = wide / (12 * step), expected / (6 * step)
                got = float(part(1.0, function(*inner), *inner))
            except (ArithmeticError, ValueError):
                continue  # outside the function's domain
            tolerance = DERIVATIVE_TOLERANCE * (1 + abs(expected))
            if not abs(got - expected) <= tolerance and abs(wide - expected) <= tolerance:
                raise OpError(f"{name}: the vjp gives {got!r} for input {k} at {_shown(point)} (index {i}), differences give {expected!r}")


def _shown(point: Array) -> str:
    return "(" + ", ".join(repr(float(v)) for v in point) + ")"
