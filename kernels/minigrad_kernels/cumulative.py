"""Running sums over the middle of (outer, n, inner): each a chain over n, so the bits are those of NumPy's."""
from __future__ import annotations

from ._jit import jit
from .along import piece, put
from .reduce import line
from .simd import lanes


@jit
def running_sum(x, reverse, out):
    """out[:, j] = x[:, 0] + ... + x[:, j], or x[:, -1] + ... + x[:, j] if `reverse`; floats, added in their dtype."""
    outer, n, inner = x.shape
    step = lanes(line(x, 0, inner))
    for o in range(outer):
        if inner == 1 and x.strides[1] == x.itemsize:
            source, target = line(x, o * x.strides[0], n), line(out, o * out.strides[0], n)
            for k in range(n):
                j = n - 1 - k if reverse else k
                target[j] = source[j] if k == 0 else target[j + 1 if reverse else j - 1] + source[j]
        else:
            for k in range(n):
                j = n - 1 - k if reverse else k
                before = j if k == 0 else j + 1 if reverse else j - 1
                source = line(x, o * x.strides[0] + j * x.strides[1], inner)
                last = line(out, o * out.strides[0] + before * out.strides[1], inner)
                target = line(out, o * out.strides[0] + j * out.strides[1], inner)
                for i in range(0, inner, step):
                    count = min(step, inner - i)
                    if k == 0:
                        put(target, i, count, piece(source, i, count, 0.0))
                    else:
                        put(target, i, count, piece(last, i, count, 0.0) + piece(source, i, count, 0.0))


@jit
def running_count(x, reverse, out):
    """As `running_sum`, of whole numbers in int64."""
    outer, n, inner = x.shape
    for o in range(outer):
        for k in range(n):
            j = n - 1 - k if reverse else k
            for i in range(inner):
                before = 0 if k == 0 else out[o, j + 1 if reverse else j - 1, i]
                out[o, j, i] = before + out.dtype.type(x[o, j, i])
