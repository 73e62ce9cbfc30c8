"""Dtypes of inputs, and attributes, checked by what an op's definition says they are: whole numbers, numbers, truth values, tuples, a dtype."""
from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from minigrad.errors import DtypeError, ShapeError

#: Annotations that stand for others.
_ALIASES: Final = {"Shape": "tuple[int, ...]", "Axis": "int | tuple[int, ...] | None"}
#: Annotations that are checked, and how an error's text says them.
_WORDS: Final = {"int": "a whole number", "float": "a number", "bool": "True or False", "tuple[int, ...]": "a tuple of whole numbers", "None": "None"}
_WHOLE: Final = range(-2**63, 2**63)


def _is_whole(value: Any) -> bool:
    try:
        return operator.index(value) in _WHOLE
    except TypeError:
        return False


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return float(value) is not None
    except OverflowError:
        return False


_TESTS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": _is_whole,
    "float": _is_number,
    "bool": lambda value: isinstance(value, bool | np.bool_) or (_is_whole(value) and operator.index(value) in (0, 1)),
    "tuple[int, ...]": lambda value: isinstance(value, tuple | list) and all(map(_is_whole, value)),
    "None": lambda value: value is None,
}


def is_known(dtype: np.dtype[Any]) -> bool:
    """Whether Tensors are of this dtype: float32, float64, whole numbers, bool."""
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize in (4, 8))


def check_dtype(op: str, name: str, dtype: np.dtype[Any]) -> None:
    """Raise DtypeError for an input that no Tensor can hold."""
    if not is_known(dtype):
        raise DtypeError(f"{op}: {name} is {dtype.name}, expected float32 or float64, whole numbers or bool: convert it with NumPy first, "
                         f"e.g. {name}.astype(np.float32)")


def kinds(annotation: Any) -> tuple[str, ...]:
    """What an annotation allows, in the words of `_WORDS`; () for what is not checked."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    parts = tuple(_ALIASES.get(text, text).split(" | "))
    return parts if all(part in _WORDS for part in parts) else ()


def check(op: str, wanted: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any]) -> None:
    """Raise TypeError for an attribute missing or not what `wanted` says, ShapeError for too many axes, DtypeError for a wrong `dtype`."""
    for name, value in attributes.items():
        if value is inspect.Parameter.empty:
            raise TypeError(f"{op}() needs {name}: give it by name, {op}(..., {name}=...)")
        allowed = wanted.get(name, ())
        if allowed and not any(_TESTS[kind](value) for kind in allowed):
            words = " or ".join(_WORDS[kind] for kind in allowed)
            if name == "axis" and _TESTS["tuple[int, ...]"](value):
                raise ShapeError(f"{op}: axis is {value!r}, and {op} goes along one axis: give {words}")
            raise TypeError(f"{op}: {name} is {value!r}, expected {words}")
        if name == "dtype":
            try:
                good = value is not None and is_known(np.dtype(value))
            except TypeError:
                good = False
            if not good:
                raise DtypeError(f"{op}: dtype is {value!r}, expected float32, float64, int32, int64, uint8 or bool, e.g. mg.float32")
