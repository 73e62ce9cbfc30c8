"""Tensor: an array, its gradient, and Python's operators; every operator is an op of `minigrad.ops`."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from minigrad import config, display
from minigrad.errors import CaptureError, DtypeError, GraphError, ShapeError
from minigrad.ops import elementwise
from minigrad.ops import shape as shapes
from minigrad.ops.spec import Shape, Spec
from minigrad.tape import handle as handles
from minigrad.tape import hooks, live
from minigrad.tape.arithmetic import Arithmetic
from minigrad.tape.backward import add_up, send_back
from minigrad.tape.conversion import Conversion
from minigrad.tape.handle import Array, Handle, Leaf, gradient, twin, wrap
from minigrad.tape.inplace import overwrite
from minigrad.tape.mode import caller, local, no_grad
from minigrad.tape.record import Record
from minigrad.tape.reductions import Reductions
from minigrad.tape.shaping import Shaping


def _read(tensor: Tensor, how: str) -> Array:
    """The array, for reading a value out of the graph. Raises inside a captured step: a replay would not see the value."""
    if local.mode.listener is not None:
        raise CaptureError(f"{how} at {caller()} reads a Tensor's value inside a captured step, where a replay could not follow it: "
                           "return the Tensor from the step and read it outside, choose with mg.where, or show it with mg.debug_print")
    return tensor.array


class Tensor(Arithmetic, Reductions, Shaping, Conversion):
    """An n-dimensional array that remembers how it was made. Make one with `mg.tensor`."""

    __slots__ = ()
    # Set by `interop`, which knows all functions. Without them np.float64(2) * t would go through __array__ and silently leave the tape.
    __array_ufunc__: ClassVar[Any] = None
    __array_function__: ClassVar[Any]
    __dlpack__: ClassVar[Any]
    __dlpack_device__: ClassVar[Any]

    # ---- what it is
    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    @property
    def device(self) -> config.device:
        """Where it is: "cpu"."""
        return config.device("cpu")

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one of its sizes."""
        return self.spec.shape if dim is None else self.spec.shape[dim]

    def numel(self) -> int:
        """How many elements it has."""
        return self.spec.size

    nelement = numel

    def dim(self) -> int:
        """How many axes it has."""
        return len(self.spec.shape)

    ndimension = dim

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.spec.nbytes

    @property
    def itemsize(self) -> int:
        """How many bytes one element takes."""
        return self.spec.dtype.itemsize

    def element_size(self) -> int:
        """How many bytes one element takes."""
        return self.spec.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether it is float32 or float64."""
        return self.spec.is_float

    def contiguous(self) -> Tensor:
        """Itself: every Tensor is C-contiguous."""
        return self

    def is_contiguous(self) -> bool:
        """True: every Tensor is C-contiguous."""
        return True

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
        text = np.array2string(_read(self, "repr()"), separator=", ", prefix="tensor(", threshold=200)
        default = "" if self.dtype in (config.get_default_dtype(), config.int64, config.boolean) else f", dtype={self.dtype.name}"
        tail = f", grad_fn=<{self.record.op.name}>" if self.record else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{default}{tail})"

    def __format__(self, form: str) -> str:
        """A scalar's number in this form, as in f"{loss:.4f}"; of others the repr."""
        return format(self.item(), form) if not self.spec.shape else format(repr(self), form)

    def _repr_html_(self) -> str:
        """A table of the values, rows and columns in the middle of many left out; for a notebook."""
        rest = f", grad_fn=<{self.record.op.name}>" if self.record else ", requires_grad=True" if self.requires_grad else ""
        return display.values(_read(self, "repr()"), f"{self.spec!r}{rest}")

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

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Sequence[Tensor] | Tensor | None = None) -> None:
        """Add the gradient of this Tensor to the `.grad` of every leaf it was made from, or to that of `inputs` alone.

        gradient: of its shape; may be left out for a scalar. The graph is freed unless `retain_graph` (default: `create_graph`).
        """
        start = seed(self, gradient)
        keep = create_graph if retain_graph is None else retain_graph
        send_back([self], [start], retain_graph=keep, create_graph=create_graph, inputs=[inputs] if isinstance(inputs, Tensor) else inputs)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> hooks.Removable:
        """Call `hook(gradient)` when backward has the whole gradient of this Tensor; a Tensor that it returns takes the gradient's place.

        Returns an object whose `remove()` takes the hook away. In a captured step it runs while the step is recorded, and what it did with ops
        is replayed.
        """
        return hooks.register(self, hook)

    def retain_grad(self) -> None:
        """Let backward keep the gradient of this result in `.grad`, as it does for leaves."""
        if not self.needs_grad:
            raise GraphError("can't retain_grad on Tensor that has requires_grad=False")
        if self.record is not None and not self.retains_grad:
            own = weakref.ref(self)

            def keep(g: Tensor) -> None:
                result = own()
                if result is not None:
                    add_up(result, g, local.mode.grad)

            self.leaf = Leaf()
            hooks.register(self, keep)

    @property
    def retains_grad(self) -> bool:
        """Whether it is a result that keeps its gradient."""
        return self.record is not None and self.leaf is not None

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return twin(self)  # type: ignore[no-any-return]

    @property
    def data(self) -> Tensor:
        """The same memory, outside the graph, as `detach()`; assigning writes values of the same shape and dtype into the memory of a leaf."""
        return self.detach()

    @data.setter
    def data(self, values: Any) -> None:
        if self.record is not None:
            raise GraphError("data can be assigned to leaves only: give the result a new name, or use copy_()")
        given = values if isinstance(values, Handle) else tensor(np.asarray(values))
        if given.spec is not self.spec:
            raise ShapeError(f"data: a {self.spec!r} cannot become a {given.spec!r}: "
                             "its memory is fixed; a module's dtype is changed by model.to(dtype)")
        with no_grad():
            self.copy_(given)

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
        if self.spec.size != 1:
            raise ShapeError(f"the truth value of a Tensor with {self.spec.size} elements is ambiguous: Boolean value of Tensor with more than one "
                             "value (or none): use any() or all()")
        return bool(self.item())

    def __index__(self) -> int:
        if self.spec.is_float or self.spec.size != 1:
            raise TypeError(f"only integer tensors of a single element can be converted to an index, not {self.spec!r}")
        return int(self.item())

    def copy_(self, source: Any) -> Tensor:
        """Write values of this shape into this Tensor's memory; returns itself. Under no_grad for a leaf that requires gradients."""
        given = source if isinstance(source, Handle) else tensor(np.asarray(source))
        if given.spec.shape != self.spec.shape:
            raise ShapeError(f"copy_: the Tensor has shape {self.shape}, the source {given.spec.shape}")
        if given.spec is not self.spec:
            given = shapes.cast(given, dtype=self.dtype)
        if self.record is None and self.requires_grad:
            with no_grad():
                elementwise.copy_(self, given)
            return self
        return overwrite(self, "copy_", lambda: given)  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        """For copy and pickle: a leaf with memory of its own."""
        if self.record is not None:
            raise GraphError("only leaf Tensors can be copied or pickled: detach() this one first")
        return _rebuilt, (type(self) if type(self) is not Gradient else Tensor, _read(self, "a copy").copy(), self.requires_grad)

class Excerpt(Tensor):
    """A copy where NumPy gives a view: of a transposition, a strided or an inner slice. In-place operations refuse it, `clone()` frees it."""

    __slots__ = ()


class Gradient(Tensor):
    """What `.grad` gives: a Tensor on a slot that the next backward writes, so its array and its views are copies."""

    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(_read(self, "numpy()"), dtype)

    def detach(self) -> Tensor:
        return self.clone()

    def _base(self) -> Tensor:
        return self.clone()


Handle.concrete, Handle.excerpt = Tensor, Excerpt


def seed(root: Handle, gradient: Any) -> Any:
    """The gradient that a backward pass starts with. Raises if it cannot be guessed or does not fit."""
    if gradient is None:
        if root.spec.size != 1:
            raise GraphError(f"grad can be implicitly created only for scalar outputs, and this one has shape {root.spec.shape}: "
                             "pass gradient= of that shape, or reduce it with sum() or mean()")
        return ones_of(root.spec)
    given = gradient if isinstance(gradient, Handle) else tensor(np.asarray(gradient, root.spec.dtype))
    if given.spec is not root.spec:
        raise ShapeError(f"backward: gradient is {given.spec!r}, expected {root.spec!r}")
    return given


def _rebuilt(kind: type[Tensor], array: Array, requires_grad: bool) -> Tensor:
    if kind is Tensor:
        return tensor(array, requires_grad=requires_grad)
    made: Tensor = kind(array, requires_grad)  # type: ignore[call-arg]
    return made


_filled: dict[tuple[Spec, int], Any] = {}


def _filled_with(spec: Spec, value: int) -> Any:
    found = _filled.get((spec, value))
    if found is None:
        if len(_filled) >= 256:
            _filled.clear()
        found = _filled[spec, value] = wrap(np.full(spec.shape, value, spec.dtype), spec)
    return found


def ones_of(spec: Spec) -> Any:
    """A Tensor of ones that nobody writes: for the library's own use, which hands out copies only. Captured steps find the same one."""
    return _filled_with(spec, 1)


def zeros_of(spec: Spec) -> Any:
    """A Tensor of zeros, as `ones_of`."""
    return _filled_with(spec, 0)


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A Tensor with a copy of `data`.

    data: numbers, nested lists, an array or a Tensor. Arrays keep their dtype; Python floats become the default dtype, ints int64.
    device: "cpu". Raises CaptureError inside a captured step.
    """
    if device is not None:
        config.device(device)
    if isinstance(data, Tensor):
        data = _read(data, "mg.tensor()")
    if local.mode.listener is not None:
        raise CaptureError(f"a Tensor is made from values at {caller()} inside a captured step, where a replay would not see them change: make it "
                           "once outside, pass the values as an argument, or use mg.full or mg.zeros for a constant")
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


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor."""
    return isinstance(x, Tensor)
