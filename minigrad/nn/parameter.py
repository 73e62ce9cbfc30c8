"""A parameter: a leaf Tensor in a slab, with its gradient's slot beside it."""
from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, DtypeError
from minigrad.ops.spec import Spec
from minigrad.tape import live
from minigrad.tape.handle import Handle, Leaf, empty
from minigrad.tape.mode import caller, local
from minigrad.tape.slab import Place, allocate, moved
from minigrad.tape.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a module owns and an optimiser updates; its memory moves only when its dtype is changed."""

    __slots__ = ("home", "place")

    place: Place
    home: tuple[weakref.ref[Any], str]  # the module that holds it, and as what; not set where there is none

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        values = data.array if isinstance(data, Handle) else np.asarray(data, None if isinstance(data, np.ndarray) else config.get_default_dtype())
        if requires_grad and values.dtype.kind != "f":
            raise DtypeError(f"only floating-point Tensors can require gradients, not {values.dtype.name}")
        made, self.place = allocate(Spec.of(values.shape, values.dtype))
        self.array, self.address, self.spec, self.clock, self.leaf = made.array, made.address, made.spec, made.clock, made.leaf
        self.record, self.weak = None, False
        self.array[...] = values
        self.needs_grad = requires_grad

    @property
    def path(self) -> str:
        """Where it is in its model, e.g. 2.weight; "" for one that no module holds."""
        reference, name = getattr(self, "home", (None, ""))
        module = reference() if reference is not None else None
        if module is None:
            return ""
        path = module._find_path()
        return f"{path}.{name}" if path else name


def retype(x: Tensor, dtype: np.dtype[Any]) -> None:
    """Give a leaf, and the gradient that it has, new memory in another dtype; the object, its hooks and whether it is trained stay."""
    if local.mode.listener is not None:
        raise CaptureError(f"a module's dtype is changed at {caller()} inside a captured step, which a replay would not do again")
    spec = x.spec.with_dtype(dtype)
    values, before, clock = x.array, x.leaf, x.clock
    if isinstance(x, Parameter):
        made, x.place = allocate(spec)
    else:
        made = empty(spec)
    made.array[...] = values
    x.array, x.address, x.spec, x.leaf = made.array, made.address, spec, made.leaf
    if before is not None:
        leaf = x.leaf = x.leaf or Leaf(empty(spec))
        leaf.hooks, leaf.shared_clock, leaf.owned, leaf.present = before.hooks, before.shared_clock, before.owned, before.present
        if before.present:
            assert leaf.slot is not None and before.slot is not None
            leaf.slot.array[...] = before.slot.array
    if hasattr(x, "kin"):
        del x.kin  # its views stay on the memory that was left
    clock[0] += 1
    moved.value += 1
    live.gradients.value += 1
    live.changed()
