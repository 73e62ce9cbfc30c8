"""A parameter: a leaf Tensor in a slab, with its gradient's slot beside it."""
from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle
from minigrad.tape.slab import Place, allocate
from minigrad.tape.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a module owns and an optimiser updates; its memory never moves."""

    __slots__ = ("place",)

    place: Place

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        values = data.array if isinstance(data, Handle) else np.asarray(data, None if isinstance(data, np.ndarray) else config.get_default_dtype())
        if requires_grad and values.dtype.kind != "f":
            raise DtypeError(f"only floating-point Tensors can require gradients, not {values.dtype.name}")
        made, self.place = allocate(Spec.of(values.shape, values.dtype))
        for name in Handle.__slots__:
            if name not in ("__weakref__", "kin"):
                setattr(self, name, getattr(made, name))
        self.array[...] = values
        self.needs_grad = requires_grad
