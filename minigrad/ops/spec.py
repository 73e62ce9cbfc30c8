"""What an op knows of an operand before it runs: shape and dtype, interned so that equal specs are one object."""
from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

Shape = tuple[int, ...]


class Spec:
    """Shape and dtype of a C-contiguous array. Get one by `Spec.of`: equal specs are the same object, so plans are found by identity."""

    __slots__ = ("shape", "dtype", "size", "nbytes")
    _interned: ClassVar[dict[tuple[Shape, Any], Spec]] = {}

    shape: Shape
    dtype: np.dtype[Any]
    size: int
    nbytes: int

    @classmethod
    def of(cls, shape: Shape, dtype: np.dtype[Any]) -> Spec:
        found = cls._interned.get((shape, dtype))
        if found is None:
            found = cls.__new__(cls)
            found.shape, found.dtype = tuple(int(d) for d in shape), np.dtype(dtype.type)  # NumPy's one object for it
            found.size = math.prod(found.shape)
            found.nbytes = found.size * found.dtype.itemsize
            found = cls._interned.setdefault((found.shape, found.dtype), found)
        return found

    def with_shape(self, shape: Shape) -> Spec:
        return Spec.of(shape, self.dtype)

    def with_dtype(self, dtype: Any) -> Spec:
        return Spec.of(self.shape, np.dtype(dtype))

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"
