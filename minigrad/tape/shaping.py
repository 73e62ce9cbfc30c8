"""Views and copies of a Tensor in other shapes and dtypes."""
from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import config
from minigrad.errors import DeviceError
from minigrad.ops import shape as shapes
from minigrad.ops.spec import Shape
from minigrad.tape.handle import Handle

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


def sizes(shape: Sequence[Any]) -> Shape:
    """A shape from what a method was given: sizes, or one sequence of them."""
    given = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return tuple(operator.index(n) for n in given)


class Shaping(Handle):
    """Shapes and dtypes of a Tensor."""

    __slots__ = ()

    def reshape(self, *shape: Any) -> Tensor:
        """A view with another shape; one size may be -1."""
        return shapes.reshape(self, shape=sizes(shape))  # type: ignore[no-any-return]

    view = reshape

    def expand(self, *shape: Any) -> Tensor:
        """The values repeated to a shape, as numpy.broadcast_to."""
        return shapes.expand(self, shape=sizes(shape))  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; itself if it has that dtype."""
        return self if self.spec.dtype == np.dtype(dtype) else shapes.cast(self, dtype=np.dtype(dtype))  # type: ignore[return-value]

    def float(self) -> Tensor:
        """The values in float32."""
        return self.astype(config.float32)

    def double(self) -> Tensor:
        """The values in float64."""
        return self.astype(config.float64)

    def to(self, target: Any) -> Tensor:
        """Another dtype; or the device "cpu", the only one there is."""
        if isinstance(target, str) and not hasattr(np, target):
            if target.split(":")[0] != "cpu":
                raise DeviceError(f"device {target!r}: minigrad computes on the CPU, use \"cpu\"")
            return self  # type: ignore[return-value]
        return self.astype(target)

    @property
    def T(self) -> Tensor:  # noqa: N802  NumPy's name
        """The transpose of a matrix, as a copy."""
        return shapes.transpose(self)  # type: ignore[no-any-return]
