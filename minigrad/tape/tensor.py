"""Tensor: an array, its gradient, and Python's operators; every operator is an op of `minigrad.ops`."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, DtypeError, GraphError, ShapeError
from minigrad.ops import elementwise
from minigrad.ops import shape as shapes
from minigrad.ops.spec import Shape, Spec
from minigrad.tape import handle as handles
from minigrad.tape import live
from minigrad.tape.arithmetic import Arithmetic
from minigrad.tape.backward import backward
from minigrad.tape.handle import Array, Handle, Leaf, gradient, twin, wrap
from minigrad.tape.mode import caller, local, no_grad
from minigrad.tape.record import Record
from minigrad.tape.reductions import Reductions
from minigrad.tape.shaping import Shaping, sizes


def _read(tensor: Tensor, how: str) -> Array:
    """The array, for reading a value out of the graph. Raises inside a captured step: a replay would not see the value."""
    if local.mode.listener is not None:
        raise CaptureError(f"{how} at {caller()} reads a Tensor's value inside a captured step, where a replay could not follow it: "
                           "return the Tensor from the step and read it outside")
    return tensor.array


class Tensor(Arithmetic, Reductions, Shaping):
    """An n-dimensional array that remembers how it was made. Make one with `mg.tensor`."""

    __slots__ = ()
    # Otherwise np.float64(2) * t would go through __array__ and silently leave the tape.
    __array_ufunc__ = None

    # ---- what it is
    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one of its sizes."""
        return self.spec.shape if dim is None else self.spec.shape[dim]

    def numel(self) -> int:
        """How many elements it has."""
        return self.spec.size

    @property
    def is_leaf(self) -> bool:
        return self.record is None

    @property
    def grad_fn(self) -> Record | None:
        return self.record

    @property
    def requires_grad(self) -> bool:
        """Whether backward computes its gradient. Can be set on leaves, to freeze them or not."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        if self.record is not None:
            raise GraphError("requires_grad can be changed on leaves only; use detach() to take a result out of its graph")
        if requires_grad and not self.spec.is_float:
            raise DtypeError(f"only floating-point Tensors can require gradients, not {self.dtype.name}")
        if self.needs_grad is not requires_grad:
            self.needs_grad = requires_grad
            live.changed()

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Let backward compute this leaf's gradient, or not; returns itself."""
        self.requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        text = np.array2string(self.array, separator=", ", prefix="tensor(", threshold=200)
        default = "" if self.dtype in (config.get_default_dtype(), config.int64) else f", dtype={self.dtype.name}"
        tail = f", grad_fn=<{self.record.op.name}>" if self.record else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{default}{tail})"

    def __len__(self) -> int:
        if not self.spec.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.spec.shape[0]

    # ---- its gradient
    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward left here, or None. It lives in the leaf's slot, which the next backward may write."""
        found: Tensor | None = gradient(self)
        if type(found) is Tensor and found.record is None:
            found.__class__ = Gradient
        return found

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is None:
            if self.leaf is not None:
                handles.clear_gradient(self.leaf)
            live.gradients.value += 1
            return
        if value.spec is not self.spec:
            raise ShapeError(f"grad of a {self.spec!r} must be the same, got {value.spec!r}")
        with no_grad():
            given = value.clone()  # it may be the gradient that stood here
            slot = handles.slot_for_writing(self)
            elementwise.copy_(slot, given)
        assert self.leaf is not None
        self.leaf.present = True
        live.gradients.value += 1

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add the gradient of this Tensor to the `.grad` of every leaf it was made from.

        gradient: of its shape; may be left out for a scalar. The graph is freed unless `retain_graph` (default: `create_graph`).
        """
        start = _ones(self.spec) if gradient is None and self.spec.size == 1 and not create_graph else seed(self, gradient)
        backward(self, start, retain_graph=create_graph if retain_graph is None else retain_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return twin(self)  # type: ignore[no-any-return]

    def clone(self) -> Tensor:
        """A copy that gradients flow through."""
        return elementwise.clone(self)  # type: ignore[no-any-return]

    # ---- reading and writing
    def numpy(self) -> Array:
        """The values as a read-only array on the same memory."""
        if self.requires_grad:
            raise GraphError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        values = _read(self, "numpy()")
        if copy or (dtype is not None and np.dtype(dtype) != values.dtype):
            return np.array(values, dtype)
        shown = values.view()
        shown.flags.writeable = False
        return shown

    def item(self) -> Any:
        """The value of a one-element Tensor as a Python number."""
        if self.spec.size != 1:
            raise ShapeError(f"a Tensor with {self.spec.size} elements cannot be converted to Scalar")
        return _read(self, "item()").item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return _read(self, "tolist()").tolist()

    def __float__(self) -> float:
        if self.spec.size != 1 or local.mode.listener is not None:
            self.item()  # raises
        return float(self.array.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def copy_(self, source: Any) -> Tensor:
        """Write values of this shape into this Tensor's memory; returns itself. Under no_grad for a leaf that requires gradients."""
        given = source if isinstance(source, Handle) else tensor(np.asarray(source))
        if given.spec.shape != self.spec.shape:
            raise ShapeError(f"copy_: the Tensor has shape {self.shape}, the source {given.spec.shape}")
        if given.spec is not self.spec:
            given = shapes.cast(given, dtype=self.dtype)
        if self.record is None:
            with no_grad():
                elementwise.copy_(self, given)
        else:
            elementwise.copy_(self, given)
        return self

    def __reduce__(self) -> Any:
        """For copy and pickle: a leaf with memory of its own."""
        if self.record is not None:
            raise GraphError("only leaf Tensors can be copied or pickled: detach() this one first")
        return _rebuilt, (type(self) if type(self) is not Gradient else Tensor, self.array.copy(), self.requires_grad)

class Gradient(Tensor):
    """What `.grad` gives: a Tensor on a slot that the next backward writes, so its array and its views are copies."""

    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(_read(self, "numpy()"), dtype)

    def detach(self) -> Tensor:
        return self.clone()

    def reshape(self, *shape: Any) -> Tensor:
        return shapes.reshape(self.clone(), shape=sizes(shape))  # type: ignore[no-any-return]

    view = reshape

    def expand(self, *shape: Any) -> Tensor:
        return shapes.expand(self.clone(), shape=sizes(shape))  # type: ignore[no-any-return]


Handle.concrete = Tensor


def seed(root: Handle, gradient: Any) -> Any:
    """The gradient that a backward pass starts with. Raises if it cannot be guessed or does not fit."""
    if gradient is None:
        if root.spec.size != 1:
            raise GraphError(f"grad can be implicitly created only for scalar outputs, and this one has shape {root.spec.shape}: "
                             "pass gradient= of that shape, or reduce it with sum() or mean()")
        return wrap(np.ones(root.spec.shape, root.spec.dtype), root.spec)
    given = gradient if isinstance(gradient, Handle) else tensor(np.asarray(gradient, root.spec.dtype))
    if given.spec is not root.spec:
        raise ShapeError(f"backward: gradient is {given.spec!r}, expected {root.spec!r}")
    return given


def _rebuilt(kind: type[Tensor], array: Array, requires_grad: bool) -> Tensor:
    if kind is Tensor:
        return tensor(array, requires_grad=requires_grad)
    made: Tensor = kind(array, requires_grad)  # type: ignore[call-arg]
    return made


_one_each: dict[Spec, Tensor] = {}


def _ones(spec: Spec) -> Tensor:
    """A Tensor of ones for backward's own use, which never hands it out."""
    found = _one_each.get(spec)
    if found is None:
        found = _one_each[spec] = wrap(np.ones(spec.shape, spec.dtype), spec)
    return found


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`.

    data: numbers, nested lists, an array or a Tensor. Arrays keep their dtype; Python floats become the default dtype, ints int64.
    """
    if isinstance(data, Tensor):
        data = _read(data, "mg.tensor()")
    if dtype is None and not isinstance(data, np.ndarray | np.generic):
        guessed = np.asarray(data)
        dtype = config.get_default_dtype() if guessed.dtype.kind == "f" else guessed.dtype
    array = np.array(data, dtype, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"tensor: cannot hold {array.dtype.name}: numbers only")
    made: Tensor = wrap(array, Spec.of(array.shape, array.dtype))
    if requires_grad:
        if not made.spec.is_float:
            raise DtypeError(f"only floating-point Tensors can require gradients, not {made.dtype.name}")
        made.needs_grad = True
        made.leaf = Leaf()
    return made


def _filled(fill: Callable[[Shape, Any], Array]) -> Callable[..., Tensor]:
    def make(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
        return tensor(fill(sizes(shape), dtype or config.get_default_dtype()), requires_grad=requires_grad)

    return make


zeros = _filled(np.zeros)
ones = _filled(np.ones)
randn = _filled(lambda shape, dtype: config.generator().standard_normal(shape).astype(dtype))
rand = _filled(lambda shape, dtype: config.generator().random(shape).astype(dtype))
