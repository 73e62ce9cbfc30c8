"""What a Tensor reduces along axes: the functions of `reducing` as methods; `axis`, `keepdims` and PyTorch's `dim`, `keepdim` both work."""
from __future__ import annotations

from minigrad.tape import reducing
from minigrad.tape.handle import Handle


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
