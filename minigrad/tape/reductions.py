"""What a Tensor reduces along axes; `axis`, `keepdims` and PyTorch's `dim`, `keepdim` both work."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad.ops import reduce
from minigrad.tape.handle import Handle

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


class Reductions(Handle):
    """Sums, extrema and statistics of a Tensor."""

    __slots__ = ()

    def sum(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The sum over an axis, several, or all."""
        return reduce.sum(self, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The mean over an axis, several, or all."""
        return reduce.mean(self, **_axes(axis, dim, keepdims or keepdim))  # type: ignore[no-any-return]


def _axes(axis: Any, dim: Any, keepdims: bool) -> dict[str, Any]:
    chosen = axis if dim is None else dim
    return {"axis": tuple(chosen) if isinstance(chosen, list) else chosen, "keepdims": keepdims}
