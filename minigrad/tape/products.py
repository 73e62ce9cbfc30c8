"""Products of matrices, vectors and stacks of them, in NumPy's and PyTorch's words; functions here, methods of a Tensor too."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.errors import AxisError, ShapeError
from minigrad.ops import elementwise, reduce
from minigrad.ops import matmul as ops
from minigrad.tape.contraction import contract, operands

if TYPE_CHECKING:
    from minigrad.tape.tensor import Tensor


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b: matrices in the last two axes, whose other axes broadcast; a vector is a row on the left, a column on the right.

    (k,) @ (k,) -> (); (m, k) @ (k,) -> (m,); (k,) @ (k, n) -> (n,); (..., m, k) @ (..., k, n) -> (..., m, n). float32 or float64. Each
    element is one chain of fused multiply-adds over ascending k, whatever the shapes. Raises ShapeError, DtypeError.
    """
    try:
        plain = len(a.spec.shape) == 2 == len(b.spec.shape)
    except AttributeError:
        plain = False
    if plain:
        return ops.matmul_nn(a, b)  # type: ignore[no-any-return]
    return _matmul("matmul", *operands("matmul", (a, b)))


def _matmul(name: str, a: Any, b: Any) -> Tensor:
    left, right = a.spec.shape, b.spec.shape
    if not left or not right:
        raise ShapeError(f"{name}: a scalar is no matrix (got a {a.spec!r}, b {b.spec!r}): multiply by it with *")
    k, other = left[-1], right[-2:][0]
    if k != other:
        fits = len(right) > 1 and right[-1] == k
        raise ShapeError(f"{name}: inner sizes differ, {k} against {other} (got a {a.spec!r}, b {b.spec!r}; the last axis of a meets "
                         f"{'the last but one' if len(right) > 1 else 'the only one'} of b): "
                         f"{'transpose b, e.g. b.mT' if fits else 'transpose or reshape one of them'}")
    try:
        batch = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        raise ShapeError(f"{name}: batch axes {left[:-2]} and {right[:-2]} do not broadcast (got a {a.spec!r}, b {b.spec!r}): "
                         "aligned from the right, each pair of sizes must be equal or hold a 1") from None
    m, n = left[-2:-1], right[-1:] if len(right) > 1 else ()
    out: Any
    if math.prod(right[:-2]) == 1:
        # One matrix for all rows of a, whatever stack they are in.
        rows = a if len(left) == 2 else a.reshape((math.prod(left[:-1]), k))
        out = ops.matmul_nn(rows, b if len(right) == 2 else b.reshape((k, *(n or (1,)))))
    else:
        out = ops.bmm_nn(a if m else a.reshape((1, k)), b)
    shape = (*batch, *m, *n)
    return out if out.spec.shape == shape else out.reshape(shape)  # type: ignore[no-any-return]


def _of_ranks(name: str, a: Any, b: Any, ranks: tuple[int, int]) -> list[Any]:
    """The operands, if they have so many axes. Raises ShapeError."""
    given = operands(name, (a, b))
    for label, x, rank in zip("ab", given, ranks, strict=True):
        if len(x.spec.shape) != rank:
            raise ShapeError(f"{name}: {label} has {len(x.spec.shape)} axes, expected {rank} (got a {given[0].spec!r}, b {given[1].spec!r}): "
                             "use matmul, which takes all ranks")
    return given


def mm(a: Any, b: Any) -> Tensor:
    """The product of two matrices, (m, k) and (k, n)."""
    return _matmul("mm", *_of_ranks("mm", a, b, (2, 2)))


def mv(a: Any, b: Any) -> Tensor:
    """The product of a matrix (m, k) and a vector (k,)."""
    return _matmul("mv", *_of_ranks("mv", a, b, (2, 1)))


def bmm(a: Any, b: Any) -> Tensor:
    """The products of matrices in pairs: (batch, m, k) and (batch, k, n) -> (batch, m, n); nothing broadcasts."""
    x, y = _of_ranks("bmm", a, b, (3, 3))
    if x.spec.shape[0] != y.spec.shape[0]:
        raise ShapeError(f"bmm: {x.spec.shape[0]} matrices against {y.spec.shape[0]} (got a {x.spec!r}, b {y.spec!r}): use matmul, which broadcasts")
    return _matmul("bmm", x, y)


def dot(a: Any, b: Any) -> Tensor:
    """The sum of products of two vectors, as torch.dot; of other operands over the last axis of a and the last but one of b, as numpy.dot.

    With a scalar it is the product.
    """
    x, y = operands("dot", (a, b))
    left, right = len(x.spec.shape), len(y.spec.shape)
    if not left or not right:
        return elementwise.mul(x, y)  # type: ignore[no-any-return]
    if left <= 2 and right <= 2:
        return _matmul("dot", x, y)
    return _over("dot", x, y, [left - 1], [max(right - 2, 0)])


def inner(a: Any, b: Any) -> Tensor:
    """The sum of products over the last axes: (..., k) and (~~~, k) -> (..., ~~~); with a scalar the product."""
    x, y = operands("inner", (a, b))
    if not x.spec.shape or not y.spec.shape:
        return elementwise.mul(x, y)  # type: ignore[no-any-return]
    return _over("inner", x, y, [len(x.spec.shape) - 1], [len(y.spec.shape) - 1])


def outer(a: Any, b: Any) -> Tensor:
    """All products of an element of a and an element of b: (a's, b's); as numpy.outer, axes are flattened."""
    x, y = operands("outer", (a, b))
    return elementwise.mul(x.reshape((x.spec.size, 1)), y.reshape((1, y.spec.size)))  # type: ignore[no-any-return]


def tensordot(a: Any, b: Any, axes: Any = 2, *, dims: Any = None) -> Tensor:
    """The sum of products over axes of a and as many of b; the others stay, a's first. As numpy.tensordot; `dims` is PyTorch's name.

    axes: how many last axes of a meet as many first ones of b, or two lists of axes.
    """
    x, y = operands("tensordot", (a, b))
    chosen = axes if dims is None else dims
    left, right = len(x.spec.shape), len(y.spec.shape)
    if isinstance(chosen, Sequence | np.ndarray):
        if len(chosen) != 2:
            raise AxisError(f"tensordot: axes is {chosen!r}, expected a number, or axes of a and axes of b")
        of_a, of_b = ([operator.index(i) for i in (part if isinstance(part, Sequence | np.ndarray) else [part])] for part in chosen)
    else:
        count = operator.index(chosen)
        if not 0 <= count <= min(left, right):
            raise AxisError(f"tensordot: {count} axes, expected 0 to {min(left, right)} (got a {x.spec!r}, b {y.spec!r})")
        of_a, of_b = [*range(left - count, left)], [*range(count)]
    for label, rank, places in (("a", left, of_a), ("b", right, of_b)):
        if any(not -rank <= i < rank for i in places) or len({i % rank for i in places}) < len(places):
            raise AxisError(f"tensordot: {places} are not axes of {label}, each once (got a {x.spec!r}, b {y.spec!r})")
    if len(of_a) != len(of_b):
        raise AxisError(f"tensordot: {len(of_a)} axes of a against {len(of_b)} of b: name as many")
    return _over("tensordot", x, y, [i % left for i in of_a], [i % right for i in of_b])


def _over(name: str, x: Any, y: Any, of_x: list[int], of_y: list[int]) -> Tensor:
    """Contract axes of x with axes of y. Raises ShapeError where sizes differ."""
    for i, j in zip(of_x, of_y, strict=True):
        m, n = x.spec.shape[i], y.spec.shape[j]
        if m != n:
            raise ShapeError(f"{name}: axis {i} of a has size {m}, axis {j} of b has {n} (got a {x.spec!r}, b {y.spec!r}): "
                             "transpose or reshape one of them")
    first = tuple(range(len(x.spec.shape)))
    second = tuple(of_x[of_y.index(j)] if j in of_y else len(first) + j for j in range(len(y.spec.shape)))
    output = tuple(label for label in (*first, *second) if label not in of_x)
    return contract((first, second), output, (x, y))  # type: ignore[no-any-return]


def vecdot(a: Any, b: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """The sum of products along one axis, the others broadcasting; as numpy.vecdot."""
    x, y = operands("vecdot", (a, b))
    return reduce.sum(elementwise.mul(x, y), axis=operator.index(axis if dim is None else dim))  # type: ignore[no-any-return]
