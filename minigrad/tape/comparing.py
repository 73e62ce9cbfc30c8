"""Whether Tensors are equal, or close, and where they are not 0: PyTorch's and NumPy's names."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from minigrad.ops import compare, elementwise, joining, maths, shape
from minigrad.tape import reducing
from minigrad.tape.handle import Handle
from minigrad.tape.indexing import nonzero as found_at
from minigrad.tape.record import lift

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor

FLOAT64: Final = np.dtype(np.float64)


def _double(x: Any) -> Any:
    (given,) = lift(compare.eq, (x,))
    return given if given.spec.dtype == FLOAT64 else shape.cast(given, dtype=FLOAT64)


def isclose(x: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x - other| <= atol + rtol * |other|, element by element, computed in float64; infinities are close to themselves; bool."""
    a, b = _double(x), _double(other)
    near = compare.le(maths.abs(elementwise.sub(a, b)), elementwise.add(elementwise.mul(maths.abs(b), rtol), atol))
    close = compare.logical_or(compare.logical_and(near, compare.isfinite(b)), compare.eq(a, b))
    if equal_nan:
        close = compare.logical_or(close, compare.logical_and(compare.isnan(a), compare.isnan(b)))
    return close  # type: ignore[no-any-return]


def allclose(x: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as `isclose`. A Python bool, so not inside a captured step."""
    return bool(reducing.all(isclose(x, other, rtol, atol, equal_nan)))


def equal(x: Any, other: Any) -> bool:
    """Whether shapes and all elements are equal; a NaN equals nothing. A Python bool, so not inside a captured step."""
    (a,), (b,) = lift(compare.eq, (x,)), lift(compare.eq, (other,))
    return a.spec.shape == b.spec.shape and bool(reducing.all(compare.eq(a, b)))


def count_nonzero(x: Any, dim: Any = None, *, axis: Any = None) -> Tensor:
    """How many elements are not 0, over an axis, several, or all; int64."""
    return reducing.sum(compare.ne(x, 0), dim if axis is None else axis)


def nonzero(x: Any, *, as_tuple: bool = False) -> Any:
    """Where elements are not 0: int64 (places, axes), or a Tensor for each axis. Not inside a captured step: the shape depends on values."""
    (given,) = lift(compare.eq, (x,))
    places = found_at(compare.ne(given, 0))
    if as_tuple:
        return places
    return joining.cat([shape.reshape(at, shape=(at.spec.size, 1)) for at in places], 1) if len(places) > 1 else (
        shape.reshape(places[0], shape=(places[0].spec.size, 1)))


def numel(x: Handle) -> int:
    """How many elements it has."""
    return x.spec.size


def is_floating_point(x: Handle) -> bool:
    """Whether it is float32 or float64."""
    return x.spec.is_float
