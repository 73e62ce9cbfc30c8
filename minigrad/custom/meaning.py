"""What a user's function says: its parameters, the form that a compiler takes, and what its maths means on Tensors."""
from __future__ import annotations

import dis
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import numpy as np
from numba.extending import is_jitted

from minigrad.errors import OpError
from minigrad.ops import activations, compare, elementwise, maths, powers
from minigrad.ops.op import Value
from minigrad.tape.handle import Handle
from minigrad.tape.tensor import tensor

Scalar = Callable[..., Any]
Number = int | float
#: Names that a rule gives a meaning of its own.
RESERVED: Final = frozenset({"g", "out"})


class Parameters(NamedTuple):
    """The inputs of a function, and its attributes with their defaults."""

    inputs: tuple[str, ...]
    attributes: dict[str, Number]


def plain(function: Any, what: str) -> FunctionType:
    """The Python function behind `function`. Raises OpError for other callables."""
    found = function.py_func if is_jitted(function) else function
    if not isinstance(found, FunctionType):
        raise OpError(f"{what} is {function!r}, expected a function written in Python: wrap it in a def or a lambda")
    return found


def parameters(function: FunctionType, reserved: frozenset[str] = RESERVED) -> Parameters:
    """Positional parameters are inputs, keyword-only ones attributes. Raises OpError for others, and for defaults that are no numbers."""
    name, inputs, attributes = function.__name__, [], {}
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.KEYWORD_ONLY:
            if not isinstance(one.default, int | float):
                raise OpError(f"{name}: the attribute {one.name} needs a number as its default, e.g. *, {one.name}=1.0")
            attributes[one.name] = one.default
        elif one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.default is not one.empty:
            raise OpError(f"{name}: {one} is no input: inputs are plain parameters, and attributes stand behind a *, e.g. *, {one.name}=1.0")
        else:
            inputs.append(one.name)
    odd = [one for one in (*inputs, *attributes) if one in reserved or one.endswith("_spec")]
    if odd:
        raise OpError(f"{name}: {odd[0]} has a meaning of its own in rules: rename it")
    return Parameters(tuple(inputs), attributes)


def positional(function: FunctionType) -> FunctionType:
    """A copy whose keyword-only parameters follow the others by position, without defaults: the compiler knows no others."""
    code = function.__code__
    code = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount, co_kwonlyargcount=0)
    return FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)


def mentions(function: FunctionType, names: Sequence[str]) -> tuple[str, ...]:
    """Those of its parameters that the function looks at."""
    seen: set[Any] = set()
    for instruction in dis.get_instructions(function.__code__):
        seen.update(instruction.argval if isinstance(instruction.argval, tuple) else [instruction.argval])
    return tuple(name for name in names if name in seen)


def described(body: Scalar, like: Scalar, name: str, given: Parameters) -> Scalar:
    """`body` as a definition: with the name, the docstring and the place of `like`, and these parameters."""

    def definition(*values: Value, **attributes: Number) -> Value:
        return body(*values, **attributes)

    definition.__name__, definition.__doc__, definition.__module__ = name, like.__doc__, like.__module__
    definition.__qualname__ = like.__qualname__
    definition.__signature__ = signature(given.inputs, given.attributes)  # type: ignore[attr-defined]
    return definition


def signature(names: Sequence[str], attributes: Mapping[str, Number]) -> inspect.Signature:
    """Positional parameters, and keyword-only ones with defaults."""
    one = inspect.Parameter
    return inspect.Signature([*[one(name, one.POSITIONAL_OR_KEYWORD) for name in names],
                              *[one(name, one.KEYWORD_ONLY, default=value) for name, value in attributes.items()]])


def shown(point: Sequence[Number]) -> str:
    """A point, for an error's text."""
    return "(" + ", ".join(repr(float(v)) for v in point) + ")"


# ---- on Tensors ----------------------------------------------------------------------------------------------------------------------
def _either(on_tensors: Scalar, on_numbers: Scalar) -> Scalar:
    """The op if one of the values is a Tensor, else Python's or NumPy's function."""
    return lambda *values: (on_tensors if any(isinstance(v, Handle) for v in values) else on_numbers)(*values)


def _where(condition: Value, x: Value, y: Value) -> Value:
    if isinstance(x, Handle) or isinstance(y, Handle):
        return compare.where(condition, x, y)
    chosen = compare.where(condition, tensor(x, dtype=np.float64), tensor(y, dtype=np.float64))
    chosen.weak = True  # two numbers take the dtype of the Tensors beside them
    return chosen


def _copysign(x: Value, y: Value) -> Value:
    negative = compare.logical_or(compare.lt(y, 0.0), compare.lt(maths.reciprocal(y), 0.0))  # -0.0 has a negative reciprocal
    size = maths.abs(x)
    return compare.where(negative, elementwise.neg(size), size)


def _sinh(x: Value) -> Value:
    grown = maths.expm1(x)
    return elementwise.scale(elementwise.add(grown, elementwise.div(grown, maths.shift(grown, by=1.0))), by=0.5)


def _cosh(x: Value) -> Value:
    return elementwise.scale(elementwise.add(elementwise.exp(x), elementwise.exp(elementwise.neg(x))), by=0.5)


_ON_TENSORS: Final[dict[str, Scalar]] = {
    "exp": elementwise.exp, "exp2": maths.exp2, "expm1": maths.expm1, "log": elementwise.log, "log2": maths.log2, "log10": maths.log10,
    "log1p": maths.log1p, "tanh": activations.tanh, "erf": maths.erf, "sin": maths.sin, "cos": maths.cos, "tan": maths.tan, "pow": powers.power,
    "power": powers.power, "sqrt": maths.sqrt, "floor": maths.floor, "ceil": maths.ceil, "trunc": maths.trunc, "rint": maths.round,
    "fabs": maths.abs, "abs": maths.abs, "absolute": maths.abs, "copysign": _copysign, "sign": maths.sign, "square": maths.square,
    "maximum": maths.maximum, "minimum": maths.minimum, "where": _where, "clip": maths.clamp, "isnan": compare.isnan,
    "isfinite": compare.isfinite, "sinh": _sinh, "cosh": _cosh,
}
#: What `math` and `np` stand for; a name that is not ours (`pi`, `inf`) comes from `math`, else from NumPy.
_namespace: Final = ModuleType(f"{__name__}.on_tensors")
_namespace.__dict__.update(
    {name: _either(ours, getattr(math, name, None) or getattr(np, name)) for name, ours in _ON_TENSORS.items()},
    __getattr__=lambda name: getattr(math, name, None) or getattr(np, name))
_INSTEAD: Final = {id(getattr(module, name)): getattr(_namespace, name) for name in _ON_TENSORS for module in (math, np) if hasattr(module, name)}
_BUILTINS: Final = {"max": _either(lambda x, y: compare.where(compare.gt(y, x), y, x), max),
                    "min": _either(lambda x, y: compare.where(compare.lt(y, x), y, x), min)}


def on_tensors(function: FunctionType) -> FunctionType:
    """The function with ops of Tensors in the place of `math` and NumPy, in it and in the functions that it calls."""
    return _translated(function, frozenset())


def _translated(function: FunctionType, outer: frozenset[int]) -> FunctionType:
    outer |= {id(function)}
    names = _names(function.__code__)
    scope = {**_BUILTINS, **{name: _meant(value, outer) for name, value in function.__globals__.items() if name in names}}
    cells = tuple(CellType(_meant(cell.cell_contents, outer)) for cell in function.__closure__ or ())
    made = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _meant(value: Any, outer: frozenset[int]) -> Any:
    """What a name of a user's function stands for; `outer` are the functions being translated, against recursion."""
    if value is math or value is np:
        return _namespace
    if id(value) in _INSTEAD:
        return _INSTEAD[id(value)]
    function = value.py_func if is_jitted(value) else value
    ours = (getattr(function, "__module__", None) or "").partition(".")[0] in ("minigrad", "minigrad_kernels")
    if isinstance(function, FunctionType) and id(function) not in outer and not ours:
        return _translated(function, outer)
    return value
