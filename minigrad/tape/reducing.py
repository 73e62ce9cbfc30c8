"""Reductions in NumPy's and PyTorch's words: `axis` and `keepdims`, or `dim` and `keepdim`. Functions here, methods of a Tensor too.

`axis` is an int, a tuple or None for all, and may be negative.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, overload

from minigrad.errors import AxisError
from minigrad.ops import cumulative, extrema, indexing, maths, reduce, shape, statistics
from minigrad.tape.handle import Handle
from minigrad.tape.record import lift

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


class Extremum(NamedTuple):
    """What max and min along a `dim` give, as in PyTorch: the values, and their places in int64."""

    values: Tensor
    indices: Tensor


def _one(axis: Any, dim: Any) -> Any:
    """The axis, whichever of its names it came under; lists become tuples."""
    if axis is not None and dim is not None:
        raise TypeError(f"axis={axis!r} and dim={dim!r} are two names of one argument: give one of them")
    chosen = axis if dim is None else dim
    if isinstance(chosen, bool):
        raise AxisError(f"axis={chosen} is a truth value, expected an int, a tuple or None: name what you mean, e.g. keepdims={chosen}")
    return tuple(chosen) if isinstance(chosen, list) else chosen


def _axes(axis: Any, dim: Any, keepdims: bool) -> dict[str, Any]:
    return {"axis": _one(axis, dim), "keepdims": bool(keepdims)}


# ---- sums and statistics ------------------------------------------------------------------------------------------------------------
def sum(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum over an axis, several, or all; of whole numbers and truth values in int64."""
    return reduce.sum(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def mean(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over an axis, several, or all; NaN of nothing."""
    return reduce.mean(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def prod(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The product over an axis, several, or all; of whole numbers and truth values in int64. Zeros have the right gradient."""
    return statistics.prod(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def var(x: Any, axis: Any = None, *, dim: Any = None, correction: float = 1, ddof: float | None = None, unbiased: bool | None = None,
        keepdims: bool = False, keepdim: bool = False) -> Tensor:
    """The variance over an axis, several, or all: squared distances from the mean, divided by their number less `correction`.

    correction: 1 as in PyTorch (NumPy's default is 0); `ddof=` is NumPy's name for it, `unbiased=False` PyTorch's older word for 0.
    """
    return statistics.var(x, correction=_correction(correction, ddof, unbiased), **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def std(x: Any, axis: Any = None, *, dim: Any = None, correction: float = 1, ddof: float | None = None, unbiased: bool | None = None,
        keepdims: bool = False, keepdim: bool = False) -> Tensor:
    """The square root of `var`, which explains the arguments; where it is 0 the gradient is 0."""
    return statistics.std(x, correction=_correction(correction, ddof, unbiased), **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def _correction(correction: float, ddof: float | None, unbiased: bool | None) -> float:
    if ddof is not None and unbiased is not None:
        raise TypeError(f"ddof={ddof} and unbiased={unbiased} both say the correction: give one of them")
    return int(unbiased) if unbiased is not None else correction if ddof is None else ddof


def norm(x: Any, p: float = 2.0, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """sum(|x|**p)**(1/p) over an axis, several, or all: the norm of vectors, never of matrices.

    p = inf and -inf are the largest and smallest |x|, p = 0 counts what is not 0. The gradient is 0 at 0.
    """
    return statistics.vector_norm(x, p=float(p), **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over an axis, several, or all, without overflow; -inf of nothing and of -inf alone."""
    return statistics.logsumexp(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def cumsum(x: Any, axis: Any = None, *, dim: Any = None) -> Tensor:
    """Running sums along an axis, or of the flattened array; of whole numbers and truth values in int64."""
    return cumulative.cumsum(x, axis=_one(axis, dim))  # type: ignore[no-any-return]


def any(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether anything is not 0, over an axis, several, or all; bool."""
    return statistics.any(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def all(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether everything is not 0, over an axis, several, or all; bool."""
    return statistics.all(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


# ---- extrema ------------------------------------------------------------------------------------------------------------------------
def amax(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest value over an axis, several, or all; NaN if there is one. Equal ones share the gradient.

    Raises ShapeError if there is nothing to compare.
    """
    return extrema.amax(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def amin(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest value over an axis, several, or all; see `amax`."""
    return extrema.amin(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def argmax(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Where along one axis, or in the flattened array, the first largest value or the first NaN is; int64."""
    return extrema.argmax(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def argmin(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Where along one axis, or in the flattened array, the first smallest value or the first NaN is; int64."""
    return extrema.argmin(x, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


@overload
def max(x: Any, dim: Handle | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor: ...
@overload
def max(x: Any, dim: int, keepdim: bool = False, *, axis: None = None, keepdims: bool = False) -> Extremum: ...
def max(x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor | Extremum:
    """The largest value: of all, or with `axis=` over these, as `amax`; with `dim`, PyTorch's pair (values, indices) along it.

    A second positional argument is `dim`, or another Tensor for the larger of each pair of elements, as in PyTorch. Of (values, indices),
    the gradient goes to the element at the index alone.
    """
    if isinstance(dim, Handle) and not (dim.spec.size == 1 and dim.spec.dtype.kind in "iu"):
        return maths.maximum(x, dim)  # type: ignore[no-any-return]
    if dim is None:
        return extrema.amax(x, **_axes(axis, None, keepdims or keepdim))  # type: ignore[no-any-return]
    return _extremum(x, extrema.argmax, _one(axis, dim), keepdims or keepdim)


@overload
def min(x: Any, dim: Handle | None = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor: ...
@overload
def min(x: Any, dim: int, keepdim: bool = False, *, axis: None = None, keepdims: bool = False) -> Extremum: ...
def min(x: Any, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor | Extremum:
    """The smallest value: of all, or with `axis=` over these, as `amin`; with `dim`, PyTorch's pair (values, indices) along it.

    A second positional argument is `dim`, or another Tensor for the smaller of each pair of elements, as in PyTorch. Of (values, indices),
    the gradient goes to the element at the index alone.
    """
    if isinstance(dim, Handle) and not (dim.spec.size == 1 and dim.spec.dtype.kind in "iu"):
        return maths.minimum(x, dim)  # type: ignore[no-any-return]
    if dim is None:
        return extrema.amin(x, **_axes(axis, None, keepdims or keepdim))  # type: ignore[no-any-return]
    return _extremum(x, extrema.argmin, _one(axis, dim), keepdims or keepdim)


def _extremum(x: Any, place: Any, axis: Any, keepdims: bool) -> Extremum:
    (given,) = (x,) if isinstance(x, Handle) else lift(place, (x,))
    indices = place(given, axis=axis, keepdims=True)
    values = indexing.gather_along(given, indices, axis=axis)
    if keepdims:
        return Extremum(values, indices)
    at = axis % len(values.spec.shape)
    left = (*values.spec.shape[:at], *values.spec.shape[at + 1:])
    return Extremum(shape.reshape(values, shape=left), shape.reshape(indices, shape=left))
