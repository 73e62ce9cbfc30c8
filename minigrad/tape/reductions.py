"""What a Tensor reduces along axes: the functions of `reducing` as methods; `axis`, `keepdims` and PyTorch's `dim`, `keepdim` both work."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad.ops import softmax
from minigrad.ops.shape import cast
from minigrad.tape import comparing, reducing
from minigrad.tape.conversion import dtype_of
from minigrad.tape.handle import Handle

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


class Reductions(Handle):
    """Sums, statistics, extrema and truth of a Tensor."""

    __slots__ = ()

    sum = reducing.sum
    mean = reducing.mean
    prod = reducing.prod
    var = reducing.var
    std = reducing.std
    norm = reducing.norm
    logsumexp = reducing.logsumexp
    cumsum = reducing.cumsum
    any = reducing.any
    all = reducing.all
    max = reducing.max
    min = reducing.min
    amax = reducing.amax
    amin = reducing.amin
    argmax = reducing.argmax
    argmin = reducing.argmin
    count_nonzero = comparing.count_nonzero
    nonzero = comparing.nonzero
    isclose = comparing.isclose
    allclose = comparing.allclose
    equal = comparing.equal

    def softmax(self, dim: int = -1, dtype: Any = None) -> Tensor:
        """exp(self) / sum(exp(self)) along `dim`; dtype: that of the Tensor is cast first."""
        return softmax.softmax(self if dtype is None else cast(self, dtype=dtype_of(dtype)), axis=dim)  # type: ignore[no-any-return]

    def log_softmax(self, dim: int = -1, dtype: Any = None) -> Tensor:
        """log(softmax(self)), finite where self is; arguments as `softmax`."""
        return softmax.log_softmax(self if dtype is None else cast(self, dtype=dtype_of(dtype)), axis=dim)  # type: ignore[no-any-return]
