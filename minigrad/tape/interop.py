"""NumPy's functions on Tensors, and memory shared with other libraries.

`np.exp(t)`, `array + t` and `np.mean(t, axis=0)` are minigrad's ops, with gradients, where there is one that means the same. NumPy's other
functions get the values, unless that would lose a gradient in silence: then they raise.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import numpy as np

from minigrad.errors import DtypeError, GraphError
from minigrad.ops import activations, compare, division, elementwise, maths, powers
from minigrad.tape import arranging, products, reducing
from minigrad.tape.creation import from_numpy
from minigrad.tape.handle import Handle
from minigrad.tape.mode import local
from minigrad.tape.tensor import Gradient, Tensor, _read

#: What a ufunc is here.
UFUNCS: Final[Mapping[Any, Callable[..., Any]]] = {
    np.add: elementwise.add, np.subtract: elementwise.sub, np.multiply: elementwise.mul, np.divide: lambda x, y: _divided(x, y),
    np.floor_divide: division.floor_divide, np.remainder: division.remainder, np.negative: elementwise.neg,
    np.power: powers.power, np.float_power: powers.power, np.matmul: products.matmul,
    np.absolute: maths.abs, np.fabs: maths.abs, np.sign: maths.sign, np.square: maths.square, np.sqrt: maths.sqrt, np.reciprocal: maths.reciprocal,
    np.exp: elementwise.exp, np.exp2: maths.exp2, np.expm1: maths.expm1, np.log: elementwise.log, np.log2: maths.log2, np.log10: maths.log10,
    np.log1p: maths.log1p, np.sin: maths.sin, np.cos: maths.cos, np.tan: maths.tan, np.tanh: activations.tanh,
    np.floor: maths.floor, np.ceil: maths.ceil, np.trunc: maths.trunc, np.rint: maths.round, np.maximum: maths.maximum, np.minimum: maths.minimum,
    np.equal: compare.eq, np.not_equal: compare.ne, np.less: compare.lt, np.less_equal: compare.le, np.greater: compare.gt,
    np.greater_equal: compare.ge, np.logical_and: compare.logical_and, np.logical_or: compare.logical_or, np.logical_xor: compare.logical_xor,
    np.logical_not: compare.logical_not, np.bitwise_and: compare.bitwise_and, np.bitwise_or: compare.bitwise_or,
    np.bitwise_xor: compare.bitwise_xor, np.isnan: compare.isnan, np.isinf: compare.isinf, np.isfinite: compare.isfinite,
}


def _divided(x: Any, y: Any) -> Any:
    return x.__truediv__(y) if isinstance(x, Tensor) else y.__rtruediv__(x)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A variance or deviation with NumPy's correction of 0."""
    return lambda a, axis=None, *, ddof=0, keepdims=False: function(a, axis, correction=ddof, keepdims=keepdims)


#: What a function of NumPy's is here, for the arguments named; others leave it to NumPy.
FUNCTIONS: Final[Mapping[Any, Callable[..., Any]]] = {
    np.sum: lambda a, axis=None, *, keepdims=False: reducing.sum(a, axis, keepdims),
    np.mean: lambda a, axis=None, *, keepdims=False: reducing.mean(a, axis, keepdims),
    np.prod: lambda a, axis=None, *, keepdims=False: reducing.prod(a, axis, keepdims),
    np.max: lambda a, axis=None, *, keepdims=False: reducing.amax(a, axis, keepdims),
    np.min: lambda a, axis=None, *, keepdims=False: reducing.amin(a, axis, keepdims),
    np.any: lambda a, axis=None, *, keepdims=False: reducing.any(a, axis, keepdims),
    np.all: lambda a, axis=None, *, keepdims=False: reducing.all(a, axis, keepdims),
    np.argmax: lambda a, axis=None, *, keepdims=False: reducing.argmax(a, axis, keepdims),
    np.argmin: lambda a, axis=None, *, keepdims=False: reducing.argmin(a, axis, keepdims),
    np.var: _spread(reducing.var), np.std: _spread(reducing.std),
    np.cumsum: lambda a, axis=None: reducing.cumsum(a, axis),
    np.concatenate: lambda arrays, axis=0: arranging.cat(arrays, axis),
    np.stack: lambda arrays, axis=0: arranging.stack(arrays, axis),
    np.hstack: lambda tup: arranging.hstack(tup), np.vstack: lambda tup: arranging.vstack(tup),
    np.where: lambda condition, x, y: compare.where(condition, x, y),
    np.clip: lambda a, a_min=None, a_max=None: maths.clamp(a, a_min, a_max),
    np.reshape: lambda a, shape: arranging.reshape(a, shape),
    np.ravel: lambda a: arranging.ravel(a), np.squeeze: lambda a, axis=None: arranging.squeeze(a, axis),
    np.expand_dims: lambda a, axis: arranging.expand_dims(a, axis),
    np.transpose: lambda a, axes=None: a.transpose() if axes is None else a.permute(axes),
    np.swapaxes: lambda a, axis1, axis2: a.swapaxes(axis1, axis2), np.moveaxis: lambda a, source, destination: a.movedim(source, destination),
    np.broadcast_to: lambda array, shape: arranging.broadcast_to(array, shape),
    np.tril: lambda m, k=0: arranging.tril(m, k), np.triu: lambda m, k=0: arranging.triu(m, k),
}


def _tensors(tree: Any) -> Iterator[Handle]:
    """The Tensors among the arguments."""
    if isinstance(tree, Handle):
        yield tree
    elif isinstance(tree, tuple | list):
        for branch in tree:
            yield from _tensors(branch)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))


def _arrays(tree: Any) -> Any:
    """The arguments with arrays in the place of Tensors."""
    if isinstance(tree, Handle):
        return np.asarray(tree)
    if isinstance(tree, tuple | list):
        return type(tree)([_arrays(branch) for branch in tree])
    return {name: _arrays(branch) for name, branch in tree.items()} if isinstance(tree, dict) else tree


def _numpys(function: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
    """What NumPy gives for the values. Raises TypeError if that is a float that gradients should flow through, or is written into an array."""
    asked = local.mode.grad and any(x.needs_grad for x in _tensors((args, kwargs)))
    if asked and kwargs.get("out") is None:
        found = function(*_arrays(args), **_arrays(kwargs))
        parts = found if isinstance(found, tuple | list) else (found,)
        if not any(isinstance(part, np.ndarray | np.floating) and part.dtype.kind == "f" for part in parts):
            return found
    if asked:
        raise TypeError(f"np.{name} would lose the gradients of a Tensor that requires them: use a function of minigrad, "
                        "or t.detach() to leave the graph")
    return function(*_arrays(args), **_arrays(kwargs))


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy's ufuncs on Tensors."""
    found = UFUNCS.get(ufunc) if method == "__call__" and not kwargs else None
    if found is not None:
        return found(*inputs)
    return _numpys(getattr(ufunc, method), ufunc.__name__, inputs, kwargs)


def _function(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's other functions on Tensors."""
    found = FUNCTIONS.get(func)
    if found is not None:
        try:
            bound = _signature(found).bind(*args, **kwargs)
        except TypeError:  # an option that only NumPy has, such as out=
            pass
        else:
            return found(*bound.args, **bound.kwargs)
    return _numpys(func, func.__name__, args, kwargs)


# ---- memory shared with other libraries ---------------------------------------------------------------------------------------------
def _dlpack(self: Tensor, **options: Any) -> Any:
    """A capsule on the same memory, for `from_dlpack` of other libraries: what they write is seen here, but not by the tape."""
    if self.requires_grad:
        raise GraphError("Can't export tensors that require gradient, use tensor.detach()")
    options.pop("stream", None)
    return _read(self, "__dlpack__()").__dlpack__(**options)


def _dlpack_device(self: Tensor) -> tuple[int, int]:
    """The CPU, in DLPack's numbers."""
    return (1, 0)


def from_dlpack(other: Any) -> Tensor:
    """A Tensor on the memory of another library's array on the CPU: PyTorch's, JAX's, NumPy's. Raises for what cannot be shared."""
    array = np.from_dlpack(other)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"from_dlpack: cannot hold {array.dtype.name}: numbers only")
    return from_numpy(array)


def _gradients_dlpack(self: Tensor, **options: Any) -> Any:
    """A copy, for the next backward writes the slot."""
    return _dlpack(self.clone(), **options)


Tensor.__array_ufunc__ = _ufunc
Tensor.__array_function__ = _function
Tensor.__dlpack__ = _dlpack
Tensor.__dlpack_device__ = _dlpack_device
Gradient.__dlpack__ = _gradients_dlpack
