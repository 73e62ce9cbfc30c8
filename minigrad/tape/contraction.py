"""Sums of products over named axes: einsum's notation, and the ops that a contraction is made of.

An axis of size 1 repeats against any other of its name and is dropped at the start; an axis that one operand alone has, and the result has not,
is summed at once. Then the pair that costs least is contracted, until one operand is left: as a product of elements if nothing is summed, else
as a matrix product whose batch, rows and columns are the axes that stay. Copies are made only where the order of axes asks for one.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import elementwise, matmul, reduce
from minigrad.ops import shape as shapes
from minigrad.ops.op import Op
from minigrad.ops.rules import c_strides
from minigrad.ops.spec import Shape, Spec
from minigrad.tape.handle import Handle, wrap
from minigrad.tape.record import constant

#: A letter, a number of the form with lists, or an axis under an ellipsis, counted from its right end.
Label = Any
Labels = tuple[Label, ...]


class Move(NamedTuple):
    """One op of a contraction, on operands and on what moves before it made."""

    op: Op
    inputs: tuple[int, ...]
    attributes: dict[str, Any]


class Term(NamedTuple):
    """A value, by its index, and the names of its axes."""

    at: int
    labels: Labels


def operands(name: str, given: Sequence[Any]) -> list[Any]:
    """Arrays and numbers as Tensors, which take the dtype of the Tensors beside them. Raises DtypeError for other things."""
    made: list[Any] = []
    for i, x in enumerate(given):
        if isinstance(x, Handle):
            made.append(x)
        elif isinstance(x, np.ndarray) and x.dtype.kind in "fiub":
            native = np.ascontiguousarray(x, x.dtype.newbyteorder("=")).reshape(x.shape)
            made.append(wrap(native, Spec.of(native.shape, native.dtype), weak=True))
        elif isinstance(x, bool | int | float | np.number | np.bool_):
            made.append(constant(x.item() if isinstance(x, np.generic) else x, _like(given, x)))
        else:
            raise DtypeError(f"{name}: operand {i} is a {type(x).__name__}, expected a Tensor, a NumPy array or a number: use mg.tensor(...)")
    strong = next((x.spec.dtype for x in made if x.spec.is_float and not x.weak), None)
    if strong is None:
        return made
    return [shapes.cast(x, dtype=strong) if x.weak and x.spec.dtype != strong else x for x in made]


def _like(given: Sequence[Any], number: Any) -> np.dtype[Any]:
    """The dtype of a number beside operands: that of a floating one, Tensors before arrays."""
    kinds = [x.spec.dtype for x in given if isinstance(x, Handle)] + [x.dtype.newbyteorder("=") for x in given if isinstance(x, np.ndarray)]
    own = np.asarray(number).dtype
    return next((kind for kind in kinds if kind.kind == "f"), config.get_default_dtype() if own.kind == "f" else own)


# ---- from labels to ops -------------------------------------------------------------------------------------------------------------
class _Recipe:
    """The moves of a contraction, written down one by one."""

    def __init__(self, inputs: Sequence[Labels], output: Labels, given: Sequence[Shape]) -> None:
        self.moves: list[Move] = []
        self.values = len(given)
        self.sizes: dict[Label, int] = {}
        for labels, shape in zip(inputs, given, strict=True):
            for label, n in zip(labels, shape, strict=True):
                if self.sizes.get(label, 1) == 1:
                    self.sizes[label] = n
        wanted = tuple(label for label in output if self.sizes[label] != 1)
        bare = [self.bare(Term(i, labels), shape) for i, (labels, shape) in enumerate(zip(inputs, given, strict=True))]
        terms = [self.summed(term, {*wanted}.union(*(other.labels for other in bare if other is not term))) for term in bare]
        while len(terms) > 1:
            i, j = min(combinations(range(len(terms)), 2), key=lambda pair: self.cost(terms, pair, wanted))
            others = [t for n, t in enumerate(terms) if n not in (i, j)]
            kept = {*wanted}.union(*(t.labels for t in others))
            terms[i] = self.pair(terms[i], terms[j], kept, None if others else wanted)
            del terms[j]
        last = self.ordered(terms[0], wanted)
        shape = tuple(self.sizes[label] for label in output)
        # A result is a Tensor of its own: a view at least.
        if last.at < len(given) or wanted != output:
            self.run(shapes.reshape, last.at, shape=shape)

    def run(self, op: Op, *inputs: int, **attributes: Any) -> int:
        self.moves.append(Move(op, inputs, attributes))
        self.values += 1
        return self.values - 1

    def count(self, labels: Sequence[Label]) -> int:
        return math.prod(self.sizes[label] for label in labels)

    def bare(self, term: Term, shape: Shape) -> Term:
        """An operand with each of its axes once, and none of size 1."""
        at, labels = term
        unique = tuple(dict.fromkeys(labels))
        if len(unique) < len(labels):
            own = c_strides(shape)
            strides = tuple(sum(s for s, label in zip(own, labels, strict=True) if label == one) for one in unique)
            shape = tuple(shape[labels.index(one)] for one in unique)
            at = self.run(shapes.take_strided, at, start=0, shape=shape, strides=strides)
        labels = tuple(label for label, n in zip(unique, shape, strict=True) if n != 1)
        if len(labels) < len(unique):
            at = self.run(shapes.reshape, at, shape=tuple(n for n in shape if n != 1))
        return Term(at, labels)

    def summed(self, term: Term, kept: set[Label]) -> Term:
        """The term without the axes that are not to be kept."""
        gone = tuple(i for i, label in enumerate(term.labels) if label not in kept)
        if not gone:
            return term
        return Term(self.run(reduce.sum, term.at, axis=gone, keepdims=False), tuple(label for label in term.labels if label in kept))

    def cost(self, terms: Sequence[Term], pair: tuple[int, int], wanted: Labels) -> tuple[int, int]:
        """Multiplications that a pair takes, and the size of what it makes."""
        x, y = (terms[i] for i in pair)
        kept = {*wanted}.union(*(t.labels for i, t in enumerate(terms) if i not in pair))
        union = {*x.labels, *y.labels}
        return self.count([*union]), self.count([*union & kept])

    def ordered(self, term: Term, labels: Labels) -> Term:
        """The term with its axes in this order."""
        if term.labels == labels:
            return term
        return Term(self.run(shapes.permute, term.at, axes=tuple(term.labels.index(label) for label in labels)), labels)

    def shaped(self, term: Term, shape: Shape) -> int:
        """The term's value with another shape."""
        return term.at if shape == tuple(self.sizes[label] for label in term.labels) else self.run(shapes.reshape, term.at, shape=shape)

    # ---- two operands
    def pair(self, x: Term, y: Term, kept: set[Label], wanted: Labels | None) -> Term:
        """The contraction of two terms; `wanted`: the order of the result's axes, if this is the last one."""
        shared = [label for label in x.labels if label in y.labels]
        summed = [label for label in shared if label not in kept]
        if not summed:
            return self.multiplied(x, y, wanted or (*x.labels, *(label for label in y.labels if label not in shared)))
        if len(shared) == len(x.labels) == len(y.labels) and len(shared) > len(summed):
            # Many products of a row and a column: elements first, then their sums.
            return self.summed(self.multiplied(x, y, x.labels), kept)
        return self.matrices(min(self.ways(x, y, shared, {*summed}, wanted), key=lambda way: way.copied))

    def multiplied(self, x: Term, y: Term, labels: Labels) -> Term:
        """Element by element, repeated along the axes that one of them lacks."""
        sides = []
        for term in (x, y):
            own = self.ordered(term, tuple(label for label in labels if label in term.labels))
            sides.append(self.shaped(own, tuple(self.sizes[label] if label in own.labels else 1 for label in labels)))
        return Term(self.run(elementwise.mul, *sides), labels)

    def ways(self, x: Term, y: Term, shared: list[Label], summed: set[Label], wanted: Labels | None) -> Iterator[_Way]:
        """Each order of axes in which the pair may be contracted; the first is taken of those that copy as little."""
        for (a, b), batch_of, summed_of in product(((x, y), (y, x)), (x, y), (x, y)):
            batch = tuple(label for label in batch_of.labels if label in shared and label not in summed)
            inner = tuple(label for label in summed_of.labels if label in summed)
            rows, columns = (tuple(label for label in term.labels if label not in shared) for term in (a, b))
            forms = {"n": ((*batch, *rows, *inner), (*batch, *inner, *columns)), "t": ((*batch, *inner, *rows), (*batch, *columns, *inner))}
            turned = [next((form for form in "nt" if forms[form][i] == term.labels), "") for i, term in enumerate((a, b))]
            if turned == ["t", "t"]:
                turned[0] = ""
            copied = sum(self.count(term.labels) for term, form in zip((a, b), turned, strict=True) if not form)
            result = (*batch, *rows, *columns)
            if wanted is not None and result != wanted:
                copied += self.count(result)
            yield _Way(copied, self, (a, b), (turned[0] or "n", turned[1] or "n"), batch, rows, inner, columns)

    def matrices(self, way: _Way) -> Term:
        """The pair as one product of matrices, or of stacks of them."""
        sizes = [self.count(labels) for labels in (way.batch, way.rows, way.inner, way.columns)]
        lead, (m, k, n) = tuple(sizes[:1] if way.batch else []), sizes[1:]
        first, second = way.forms
        a = self.ordered(way.pair[0], (*way.batch, *way.rows, *way.inner) if first == "n" else (*way.batch, *way.inner, *way.rows))
        b = self.ordered(way.pair[1], (*way.batch, *way.inner, *way.columns) if second == "n" else (*way.batch, *way.columns, *way.inner))
        left = self.shaped(a, (*lead, m, k) if first == "n" else (*lead, k, m))
        right = self.shaped(b, (*lead, k, n) if second == "n" else (*lead, n, k))
        labels = (*way.batch, *way.rows, *way.columns)
        at = self.run(_PRODUCTS[bool(lead), first + second], left, right)
        shape = tuple(self.sizes[label] for label in labels)
        return Term(at if shape == (*lead, m, n) else self.run(shapes.reshape, at, shape=shape), labels)


class _Way(NamedTuple):
    """How two terms become a matrix product: which one is left, what is transposed, and the axes in order."""

    copied: int  # elements
    recipe: _Recipe
    pair: tuple[Term, Term]
    forms: tuple[str, str]
    batch: Labels
    rows: Labels
    inner: Labels
    columns: Labels


#: By whether there is a batch, and which operand is transposed.
_PRODUCTS: dict[tuple[bool, str], Op] = {
    (False, "nn"): matmul.matmul_nn, (False, "nt"): matmul.matmul_nt, (False, "tn"): matmul.matmul_tn,
    (True, "nn"): matmul.bmm_nn, (True, "nt"): matmul.bmm_nt, (True, "tn"): matmul.bmm_tn,
}


@lru_cache(maxsize=1024)
def recipe(inputs: tuple[Labels, ...], output: Labels, given: tuple[Shape, ...]) -> tuple[Move, ...]:
    """The ops that contract operands of these shapes, whose sizes fit."""
    return tuple(_Recipe(inputs, output, given).moves)


def contract(inputs: tuple[Labels, ...], output: Labels, given: Sequence[Any]) -> Any:
    """Contract Tensors whose axes have these names."""
    values = [x._base() for x in given]
    for op, places, attributes in recipe(inputs, output, tuple([x.spec.shape for x in values])):
        values.append(op(*[values[i] for i in places], **attributes))
    return values[-1]


# ---- einsum -------------------------------------------------------------------------------------------------------------------------
def _letters(text: str, equation: str) -> list[Any]:
    """Letters and `...` of one operand."""
    found: list[Any] = []
    for i, part in enumerate(text.split("...")):
        found += [Ellipsis] * (i > 0)
        for letter in part:
            if not (letter.isascii() and letter.isalpha()):
                raise ShapeError(f"einsum: {letter!r} in {equation!r} is not a letter: a name of an axis is one letter, the others stand under '...'")
            found.append(letter)
    return found


@lru_cache(maxsize=1024)
def _parsed(equation: str, given: tuple[Shape, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The names of the operands' axes and of the result's."""
    text = "".join(equation.split())
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    return named(equation, [_letters(part, equation) for part in parts], _letters(right, equation) if arrow else None, given)


def named(equation: str, written: Sequence[list[Any]], result: list[Any] | None, given: Sequence[Shape]) -> tuple[tuple[Labels, ...], Labels]:
    """Names for the axes under each ellipsis, and the result's names if they are not written. Raises ShapeError for what does not fit."""
    if len(written) != len(given):
        raise ShapeError(f"einsum: {equation!r} names {len(written)} operands, got {len(given)}")
    inputs: list[Labels] = []
    sizes: dict[Label, int] = {}
    under = 0
    for i, (labels, shape) in enumerate(zip(written, given, strict=True)):
        dots, plain = labels.count(Ellipsis), len(labels) - labels.count(Ellipsis)
        if dots > 1:
            raise ShapeError(f"einsum: operand {i} of {equation!r} has {dots} ellipses: one is possible")
        if len(shape) < plain or (not dots and len(shape) > plain):
            raise ShapeError(f"einsum: operand {i} of {equation!r} has {plain} names{' and an ellipsis' * dots}, but shape {shape} has "
                             f"{len(shape)} axes{'' if dots or len(shape) < plain else ': stand for the others with ...'}")
        hidden = len(shape) - plain
        under = max(under, hidden)
        inputs.append(_spread(labels, hidden))
        for label, n in zip(inputs[-1], shape, strict=True):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            if n not in (1, sizes[label]):
                raise ShapeError(f"einsum: axis {_said(label)} of {equation!r} has size {n} in operand {i}, {sizes[label]} before it "
                                 f"(got shapes {', '.join(map(str, given))}): the sizes of one name must be equal or 1")
        for label in {*inputs[-1]}:
            own = {n for one, n in zip(inputs[-1], shape, strict=True) if one == label}
            if len(own) > 1:
                raise ShapeError(f"einsum: a diagonal of operand {i} of {equation!r} needs equal sizes, axis {_said(label)} has {sorted(own)} "
                                 f"in shape {shape}")
    if result is None:
        plain_labels = [label for labels in written for label in labels if label is not Ellipsis]
        result = [Ellipsis, *sorted(label for label in {*plain_labels} if plain_labels.count(label) == 1)]
    output = _spread(result, under)
    for label in result:
        if result.count(label) > 1:
            raise ShapeError(f"einsum: the result of {equation!r} names {_said(label)} {result.count(label)} times: once is possible")
    for label in output:
        if label not in sizes:
            raise ShapeError(f"einsum: the result of {equation!r} names {_said(label)}, which no operand has")
    return tuple(inputs), output


def _spread(labels: Sequence[Any], hidden: int) -> Labels:
    """Names with those of `hidden` axes in place of the ellipsis."""
    return tuple(one for label in labels for one in ([("...", i) for i in range(hidden, 0, -1)] if label is Ellipsis else [label]))


def _said(label: Label) -> str:
    return "..." if label is Ellipsis else f"{-label[1]} of '...'" if isinstance(label, tuple) else repr(label)


def einsum(equation: Any, *arguments: Any) -> Any:
    """The sum of products that an equation names, e.g. "bij,bjk->bik"; as numpy.einsum, for any number of operands.

    equation: a letter for each axis of each operand, "..." for axes that broadcast. A letter twice in one operand is its diagonal; what the
    result lacks is summed, axes under "..." too. Without "->" the result has the axes under "...", then the letters that occur once, in order.
    Or NumPy's other form: operands followed by lists of numbers, einsum(x, [0, 1], y, [1, 2], [0, 2]).
    Differentiable to any order. Raises ShapeError for sizes that differ and for what cannot be read.
    """
    if isinstance(equation, str):
        given = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
        values = operands("einsum", given)
        inputs, output = _parsed(equation, tuple([x.spec.shape for x in values]))
        return contract(inputs, output, values)
    flat = [equation, *arguments]
    result = list(flat.pop()) if len(flat) % 2 else None
    values, written = operands("einsum", flat[::2]), [list(labels) for labels in flat[1::2]]
    inputs, output = named(f"{written} -> {result}" if result is not None else str(written), written, result, [x.spec.shape for x in values])
    return contract(inputs, output, values)
