"""A Tensor in another dtype."""
from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import config
from minigrad.errors import DeviceError, DtypeError
from minigrad.ops import elementwise
from minigrad.ops import shape as shapes
from minigrad.tape.handle import Handle

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


def dtype_of(given: Any) -> np.dtype[Any]:
    """A dtype from what NumPy takes as one. Raises DtypeError."""
    try:
        found: np.dtype[Any] = np.dtype(given)
        return found
    except TypeError:
        raise DtypeError(f"{given!r} is no dtype: use mg.float32, mg.float64, mg.int64, bool, or their names") from None


class Conversion(Handle):
    """Dtypes of a Tensor."""

    __slots__ = ()

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; itself if it has that dtype. float64 is rounded to nearest, as integers floats lose their fraction."""
        wanted = dtype_of(dtype)
        return self if self.spec.dtype == wanted else shapes.cast(self, dtype=wanted)  # type: ignore[return-value]

    def float(self) -> Tensor:
        """The values in float32."""
        return self.astype(config.float32)

    def double(self) -> Tensor:
        """The values in float64."""
        return self.astype(config.float64)

    def long(self) -> Tensor:
        """The values in int64."""
        return self.astype(config.int64)

    def int(self) -> Tensor:
        """The values in int32."""
        return self.astype(config.int32)

    def bool(self) -> Tensor:
        """Whether each value is other than zero."""
        return self.astype(config.boolean)

    def type(self, dtype: Any = None) -> Any:
        """The values in another dtype; without one, the name of its own."""
        return self.spec.dtype.name if dtype is None else self.astype(dtype)

    def type_as(self, other: Handle) -> Tensor:
        """The values in the dtype of `other`."""
        return self.astype(other.spec.dtype)

    def to(self, *args: Any, device: Any = None, dtype: Any = None, non_blocking: builtins.bool = False, copy: builtins.bool = False) -> Tensor:
        """Another dtype, or that of a Tensor; or the device "cpu", the only one there is. Itself if nothing changes, unless copy=True."""
        wanted = config.destination(args, device, dtype)
        given: Any = self if wanted is None else self.astype(wanted)
        return elementwise.clone(given) if copy and given is self else given  # type: ignore[no-any-return]

    def cpu(self) -> Tensor:
        """Itself: there is no other device."""
        return self  # type: ignore[return-value]

    def cuda(self, device: Any = None) -> Tensor:
        """Raises DeviceError: minigrad computes on the CPU."""
        raise DeviceError("cuda: minigrad computes on the CPU: leave the call out, or use .to(\"cpu\")")
