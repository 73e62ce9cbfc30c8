"""Tensors from sizes, ranges and random numbers.

Inside a captured step, constant ones are filled anew at each replay, so that they may be written in place. What is drawn would be drawn
once only, and raises CaptureError. `device` may be "cpu", the only one there is.
"""
from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, DtypeError, ShapeError
from minigrad.ops import elementwise
from minigrad.ops import shape as shapes
from minigrad.ops.spec import Shape, Spec
from minigrad.tape.conversion import dtype_of
from minigrad.tape.handle import Array, Handle, wrap
from minigrad.tape.mode import caller, local, no_grad
from minigrad.tape.record import constant
from minigrad.tape.shaping import sizes
from minigrad.tape.tensor import Tensor, tensor


def _marked(made: Tensor, requires_grad: bool) -> Tensor:
    """The Tensor as a leaf that requires gradients, if asked for."""
    if requires_grad:
        if local.mode.listener is not None:
            raise CaptureError(f"a leaf that requires gradients is made at {caller()} inside a captured step, where each replay would need another: "
                               "make it outside and let the step close over it")
        made.requires_grad_()
    return made


def _whole(shape: Shape, value: Any, dtype: np.dtype[Any], requires_grad: bool) -> Tensor:
    if any(n < 0 for n in shape):
        raise ShapeError(f"a shape has no negative sizes, got {shape}")
    if local.mode.listener is None:
        return _marked(wrap(np.full(shape, value, dtype), Spec.of(shape, dtype)), requires_grad)
    with no_grad():
        one = constant(float(value), dtype)
        made = shapes.expand(one, shape=shape)
        if made.spec.size == 1:  # a view of a constant that others share
            made = elementwise.clone(made)
    return _marked(made, requires_grad)


@lru_cache(maxsize=256)
def _table(make: Callable[..., Array], arguments: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    array = np.ascontiguousarray(make(*arguments), dtype)
    return wrap(array, Spec.of(array.shape, array.dtype))


def _made(make: Callable[..., Array], arguments: tuple[Any, ...], dtype: np.dtype[Any], requires_grad: bool) -> Tensor:
    """What NumPy makes of constant arguments; inside a captured step a copy of one table that stays."""
    if local.mode.listener is None:
        return tensor(np.ascontiguousarray(make(*arguments), dtype), requires_grad=requires_grad)
    with no_grad():
        return _marked(elementwise.clone(_table(make, arguments, dtype)), requires_grad)


def _floating(dtype: Any, device: Any) -> np.dtype[Any]:
    if device is not None:
        config.device(device)
    return config.get_default_dtype() if dtype is None else dtype_of(dtype)


def _guess(dtype: Any, device: Any, *values: Any) -> np.dtype[Any]:
    """The dtype that was given; else int64 for whole numbers, bool for truth values, and the default dtype."""
    if device is not None:
        config.device(device)
    if dtype is not None:
        return dtype_of(dtype)
    if all(isinstance(v, bool) for v in values):
        return config.boolean
    return config.int64 if all(isinstance(v, int) for v in values) else config.get_default_dtype()


# ---- constants --------------------------------------------------------------------------------------------------------------------
def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros of a shape, in the default dtype unless given."""
    return _whole(sizes(shape), 0, _floating(dtype, device), requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Ones of a shape, in the default dtype unless given."""
    return _whole(sizes(shape), 1, _floating(dtype, device), requires_grad)


def full(shape: Any, fill_value: float, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A shape full of one number; whole numbers give int64, truth values bool, others the default dtype unless given."""
    return _whole(sizes((shape,)), fill_value, _guess(dtype, device, fill_value), requires_grad)


def empty(*shape: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A shape for values to come. It holds zeros, so that forgotten elements are the same in every run."""
    return zeros(*shape, dtype=dtype, requires_grad=requires_grad, device=device)


def zeros_like(other: Handle, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros with the shape and dtype of another Tensor."""
    return _whole(other.spec.shape, 0, _of(other, dtype, device), requires_grad)


def ones_like(other: Handle, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Ones with the shape and dtype of another Tensor."""
    return _whole(other.spec.shape, 1, _of(other, dtype, device), requires_grad)


def full_like(other: Handle, fill_value: float, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """One number with the shape and dtype of another Tensor."""
    return _whole(other.spec.shape, fill_value, _of(other, dtype, device), requires_grad)


def empty_like(other: Handle, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """As `empty`, with the shape and dtype of another Tensor."""
    return zeros_like(other, dtype=dtype, requires_grad=requires_grad, device=device)


def _of(other: Handle, dtype: Any, device: Any) -> np.dtype[Any]:
    if device is not None:
        config.device(device)
    return other.spec.dtype if dtype is None else dtype_of(dtype)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A matrix (n, m), m = n unless given, with ones on its diagonal."""
    return _made(np.eye, (operator.index(n), operator.index(n if m is None else m)), _floating(dtype, device), requires_grad)


def arange(start: float, end: float | None = None, step: float = 1, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Numbers from `start` (0 if only one is given) up to, not including, `end`; int64 for whole numbers, else the default dtype."""
    first, last = (0, start) if end is None else (start, end)
    return _made(np.arange, (first, last, step), _guess(dtype, device, first, last, step), requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced."""
    return _made(np.linspace, (float(start), float(end), operator.index(steps)), _floating(dtype, device), requires_grad)


# ---- random numbers -----------------------------------------------------------------------------------------------------------------
def _drawn(draw: Callable[[np.random.Generator], Any], dtype: np.dtype[Any], requires_grad: bool) -> Tensor:
    if local.mode.listener is not None:
        raise CaptureError(f"random numbers are drawn at {caller()} inside a captured step, where every replay would have the same ones: "
                           "draw them outside and pass them as an argument")
    return tensor(np.asarray(draw(config.generator())).astype(dtype), requires_grad=requires_grad)


def rand(*shape: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uniform random numbers in [0, 1); `mg.manual_seed` starts them."""
    return _drawn(lambda rng: rng.random(sizes(shape)), _floating(dtype, device), requires_grad)


def randn(*shape: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Normal random numbers with mean 0 and deviation 1; `mg.manual_seed` starts them."""
    return _drawn(lambda rng: rng.standard_normal(sizes(shape)), _floating(dtype, device), requires_grad)


def rand_like(other: Handle, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """As `rand`, with the shape and dtype of another Tensor."""
    return rand(other.spec.shape, dtype=_of(other, dtype, device), requires_grad=requires_grad)


def randn_like(other: Handle, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """As `randn`, with the shape and dtype of another Tensor."""
    return randn(other.spec.shape, dtype=_of(other, dtype, device), requires_grad=requires_grad)


def randint(low: int, high: Any, size: Any = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Random whole numbers from `low` up to, not including, `high`, of shape `size`; randint(high, size) starts at 0. int64 unless given."""
    first, last, shape = (0, low, high) if size is None else (low, high, size)
    return _drawn(lambda rng: rng.integers(first, last, sizes((shape,))), _guess(dtype, device, 0), False)


def randperm(n: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in random order; int64 unless given."""
    return _drawn(lambda rng: rng.permutation(n), _guess(dtype, device, 0), False)


# ---- what is there already ------------------------------------------------------------------------------------------------------------
def from_numpy(array: Array) -> Tensor:
    """A Tensor on the memory of an array: what is written to one is seen in the other. Raises for arrays that are not C-contiguous and writable."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got a {type(array).__name__}")
    if array.dtype.kind not in "fiub" or not array.dtype.isnative:
        raise DtypeError(f"from_numpy: cannot hold {array.dtype}: numbers in the machine's byte order only")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ShapeError("from_numpy: the array must be C-contiguous and writable to be shared: use mg.tensor(array) for a copy")
    return wrap(array, Spec.of(array.shape, array.dtype))  # type: ignore[no-any-return]


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a Tensor: itself if it is one, on the same memory if it is an array that can be shared, else a copy."""
    if device is not None:
        config.device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(dtype)
    if (isinstance(data, np.ndarray) and data.dtype.kind in "fiub" and data.dtype.isnative and data.flags.c_contiguous and data.flags.writeable
            and (dtype is None or data.dtype == dtype_of(dtype))):
        return from_numpy(data)
    return tensor(data, dtype=dtype)
