"""Inputs for every op in every shape: empty, scalar, one element, prime, large, broadcast. Values come from the op's own samples.

An elementwise op gets any shape; what reduces, moves, multiplies or indexes has a generator of its own here, found by the op's name. An op
without one fails `test_every_op_has_shapes`.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad.ops import activations, rules
from minigrad.ops.op import Op
from minigrad.ops.samples import Case
from tests.ops.test_every_op import OPERANDS, UPDATES, Array, cases

KINDS = ("empty", "scalar", "one", "prime", "large", "broadcast")
LARGE = 100_003
Shape = tuple[int, ...]
Shapes = dict[str, list[tuple[Shape, ...]]]
#: Of one array.
SINGLE: dict[str, list[Shape]] = {"empty": [(0,), (3, 0, 2)], "scalar": [()], "one": [(1,), (1, 1)], "prime": [(7, 13), (5, 3, 7)],
                                  "large": [(LARGE,)]}
#: Of several that broadcast: each is repeated, one is a single element, nothing is left.
BROADCAST: tuple[tuple[Shape, ...], ...] = (((5, 1, 7), (3, 1), (1,)), ((7,), (5, 3, 7), (3, 7)), ((), (13,), (2, 1)), ((1,), (3, 1), (1, 5)),
                                            ((0, 1), (3,), (1, 3)))

POINTWISE = {rules.elementwise, rules.logical, rules.same, activations._rising}
PAIRED = {rules.paired, rules.inplace}
#: Attributes that belong to the shape, and not to what is computed.
PLACES = {"axis", "keepdims", "shape", "start", "strides", "size", "reverse"}
#: Of nothing there is no extreme.
NO_IDENTITY = {"amax", "amin", "argmax", "argmin"}


def rule_of(op: Op) -> Any:
    """The rule's function, without what is fixed in it."""
    return op.shape.func if isinstance(op.shape, partial) else op.shape


def is_pointwise(op: Op) -> bool:
    return rule_of(op) in POINTWISE | PAIRED


def pools(op: Op) -> list[tuple[list[Array], dict[str, Any]]]:
    """For each way that the samples set the op's attributes: the values of each input in them."""
    found: list[tuple[dict[str, Any], list[list[Array]]]] = []
    for arrays, attributes in cases(op):
        kept = {name: value for name, value in attributes.items() if name not in PLACES}
        values = next((v for known, v in found if known == kept), None)
        if values is None:
            values = [[] for _ in arrays]
            found.append((kept, values))
        for pool, a in zip(values, arrays, strict=True):
            pool.append(np.ravel(a))
    made = [([np.concatenate(pool) for pool in values], kept) for kept, values in found]
    return [(values, kept) for values, kept in made if all(pool.size for pool in values)]


def drawn(rng: np.random.Generator, pool: Array, shape: Shape) -> Array:
    return np.asarray(rng.choice(pool, shape)).astype(pool.dtype)


# ---- element by element ---------------------------------------------------------------------------------------------------------------
def pointwise(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    arity = len(op.inputs)
    if kind == "broadcast":
        wanted = BROADCAST if arity > 1 and rule_of(op) not in PAIRED else ()
    else:
        wanted = tuple((shape,) * arity for shape in SINGLE[kind])
    for values, attributes in pools(op):
        for shapes in wanted:
            yield tuple(drawn(rng, pool, shape) for pool, shape in zip(values, shapes, strict=False)), attributes


# ---- along axes -----------------------------------------------------------------------------------------------------------------------
def reduction(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    """One array and `axis`; a tuple of axes where the op takes one, and nothing to reduce where it has a value."""
    one_axis = op.name in ("argmax", "argmin", "cumsum")
    nothing: list[tuple[Shape, Any]] = [((0, 3), 0), ((0,), None)]
    wanted: dict[str, list[tuple[Shape, Any]]] = {
        "empty": [((0, 3), 1), ((3, 0), 0), *([] if op.name in NO_IDENTITY else nothing)],
        "scalar": [((), None)],
        "one": [((1,), 0), ((1, 1), None)],
        "prime": [((7, 13), 0), ((7, 13), 1), ((5, 3, 7), 1), *([] if one_axis else [((5, 3, 7), (0, 2)), ((5, 3, 7), (1, -1))])],
        "large": [((331, 307), 1), ((331, 307), 0)] if op.name == "prod" else [((LARGE,), None), ((331, 307), 0)],
    }
    for (pool,), attributes in pools(op):
        for n, (shape, axis) in enumerate(wanted.get(kind, ())):
            if kind == "empty" and attributes.get("p", 2) < 0 and axis != 1:
                continue  # what has no value for nothing
            rest = {"reverse": n % 2 == 1} if op.name == "cumsum" else {"keepdims": n % 2 == 1}
            yield (drawn(rng, pool, shape) * rng.uniform(0.999, 1, shape),), {**attributes, "axis": axis, **rest}  # no two are equal


def along_axis(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    wanted: dict[str, list[tuple[Shape, int]]] = {"empty": [((0, 3), 1), ((3, 0), 0)], "one": [((1,), 0), ((1, 1), -1)],
                                                  "prime": [((7, 13), 0), ((7, 13), 1)],
                                                  "large": [((37, 2711), 1), ((2711, 37), 0)]}
    for values, _ in pools(op):
        for shape, axis in wanted.get(kind, ()):
            yield tuple(drawn(rng, pool, shape) for pool in values), {"axis": axis}


# ---- tables of shapes -----------------------------------------------------------------------------------------------------------------
Generator = Callable[[Op, str, np.random.Generator], Iterator[Case]]


def table(shapes: Shapes, **attributes: Any) -> Generator:
    """Floats of these shapes: a tuple of shapes for each case."""

    def generate(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
        for given in shapes.get(kind, ()):
            yield tuple(rng.uniform(-2, 2, shape) for shape in given), attributes

    return generate


def arranged(shapes: dict[str, list[tuple[Shape, dict[str, Any]]]]) -> Generator:
    """One array of floats, with the attributes that fit its shape."""

    def generate(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
        for shape, attributes in shapes.get(kind, ()):
            yield (rng.uniform(-2, 2, shape),), attributes

    return generate


def product(a: Callable[[int, int, int], Shape], b: Callable[[int, int, int], Shape], *more: Callable[[int, int, int], Shape],
            batches: Sequence[tuple[str, Shape, Shape]] = ()) -> Generator:
    """Operands of a product by its sizes m, k, n, stacked where there are batches."""
    sizes = {"empty": [(0, 3, 2), (2, 0, 3), (2, 3, 0)], "one": [(1, 1, 1)], "prime": [(7, 13, 5), (1, 13, 1), (3, 1, 31)], "large": [(131, 257, 97)]}
    shapes: Shapes = {kind: [tuple(f(*size) for f in (a, b, *more)) for size in found] for kind, found in sizes.items()}
    for kind, of_a, of_b in batches:
        shapes.setdefault(kind, []).append(((*of_a, *a(7, 13, 5)), (*of_b, *b(7, 13, 5))))
    return table(shapes)


_STACKS = (("empty", (0,), (0,)), ("prime", (3,), (3,)), ("broadcast", (3, 1), (2,)), ("broadcast", (), (5,)), ("broadcast", (2, 1, 3), (5, 1)),
           ("large", (67,), (67,)))
_GEOMETRY: dict[str, list[tuple[Shape, int, Shape, tuple[int, ...]]]] = {  # the whole, where the part starts, its shape and strides
    "empty": [((4, 5), 0, (0, 2), (5, 1)), ((0,), 0, (0,), (1,))], "scalar": [((), 0, (), ()), ((7,), 3, (), ())], "one": [((1,), 0, (1,), (1,)),
                                                                                                                           ((1, 1), 0, (1,), (-1,))],
    "prime": [((7, 13), 1, (7, 6), (13, 2)), ((7, 13), 90, (13, 7), (-1, -13))], "large": [((331, 307), 306, (307, 166), (-1, 614)),
                                                                                           ((LARGE,), 0, (50_002,), (2,))],
}


def sliced(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    for whole, start, shape, strides in _GEOMETRY.get(kind, ()):
        x, value, where = rng.uniform(-2, 2, whole), rng.uniform(-2, 2, shape), {"start": start, "strides": strides}
        yield {"place_strided": ((value,), {**where, "shape": whole, "fill": 0.5}), "put_strided": ((x, value), where)}.get(
            op.name, ((x,), {**where, "shape": shape}))


def ranged(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    runs: dict[str, list[tuple[Shape, int, Shape]]] = {"empty": [((4, 5), 3, (0,)), ((0,), 0, (2, 0))], "scalar": [((), 0, ()), ((7,), 3, ())],
                                                       "one": [((1,), 0, (1,))],
                                                       "prime": [((7, 13), 13, (2, 13)), ((7, 13), 5, (41,))], "large": [((LARGE,), 17, (331, 100))]}
    for whole, start, shape in runs.get(kind, ()):
        x, value = rng.uniform(-2, 2, whole), rng.uniform(-2, 2, shape)
        made: dict[str, Case] = {"take_range": ((x,), {"start": start, "shape": shape}), "place_range": ((value,), {"start": start, "shape": whole}),
                                 "clear_range": ((x,), {"start": start, "size": value.size})}
        yield made.get(op.name, ((x, value), {"start": start}))


def rows(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    wanted: dict[str, list[tuple[Shape, Shape, int]]] = {
        "empty": [((3, 4), (0,), 0), ((3, 0), (2,), 0), ((0, 3), (0,), 0)], "scalar": [((6,), (), 0), ((5, 3), (), 0)], "one": [((1,), (1,), 0),
                                                                                                                                ((1, 1), (1, 1), -1)],
        "prime": [((7, 13), (5,), 0), ((7, 13), (3, 11), 1), ((3, 5, 7), (11,), -2)], "large": [((307, 331), (211,), 0)]}
    for shape, places, axis in wanted.get(kind, ()):
        at = axis % len(shape)
        x, index = rng.uniform(-2, 2, shape), np.asarray(rng.integers(-shape[at], shape[at], places)) if math.prod(places) else np.zeros(places, int)
        value = rng.uniform(-2, 2, (*shape[:at], *places, *shape[at + 1:]))
        yield {"place_rows": ((value, index), {"shape": shape, "axis": axis}), "put_rows": ((x, index, value), {"axis": axis})}.get(op.name,
                                                                                                                                    ((x, index),
                                                                                                                                     {"axis": axis}))


def along(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    wanted: dict[str, list[tuple[Shape, int, int]]] = {"empty": [((2, 3), 0, 1), ((0, 3), 2, 1)], "one": [((1,), 1, 0), ((1, 1), 1, -1)],
                                                       "prime": [((7, 13), 5, 0), ((7, 13), 17, 1),
                                                                 ((3, 5, 7), 11, -2)], "large": [((307, 331), 97, 1), ((307, 331), 97, 0)]}
    for shape, count, axis in wanted.get(kind, ()):
        at = axis % len(shape)
        x, index = rng.uniform(-2, 2, shape), rng.integers(-shape[at], shape[at], (*shape[:at], count, *shape[at + 1:]))
        yield ((x, index), {"axis": axis}) if op.name == "gather_along" else ((rng.uniform(-2, 2, index.shape), index),
                                                                              {"axis": axis, "size": shape[at]})


def indices(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    low, attributes = (0, {"classes": 5}) if op.name == "one_hot" else (-5, {"size": 5})
    for shape in SINGLE.get(kind, ()):
        if op.name == "is_last" and kind == "large":
            shape = (997,)  # its definition takes quadratic time
        index = np.asarray(rng.integers(low, 5, shape))
        yield ((np.asarray(rng.integers(0, 4, shape)), index) if op.name == "join_index" else (index,),
               {**attributes, "dtype": np.dtype(np.float64)} if op.name == "is_last" else attributes)


def masked(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    for n, shape in enumerate(SINGLE.get(kind, ())):
        x, mask = rng.uniform(-2, 2, shape), np.asarray(rng.integers(0, 2, shape)).astype(bool)
        yield ((x, mask, rng.uniform(-2, 2, (1,) * n)), {}) if op.name == "masked_fill" else ((x, mask), {"unset": n == 1})


def joined(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    wanted: dict[str, list[tuple[Callable[[int], Shape], int]]] = {
        "empty": [(lambda i: (0, 3), 0), (lambda i: (2, i % 2), 1), (lambda i: (i, 0), 0)], "one": [(lambda i: (1,), 0), (lambda i: (1, 1), -1)],
        "prime": [(lambda i: (2 + i, 7), 0), (lambda i: (7, 13 - i), 1)], "large": [(lambda i: (307, 331 - i), 1), (lambda i: (LARGE + i,), 0)]}
    for shape_of, axis in wanted.get(kind, ()):
        yield tuple(rng.uniform(-2, 2, shape_of(i)) for i in range(len(op.inputs))), {"axis": axis}


# ---- losses -----------------------------------------------------------------------------------------------------------------------------
def classified(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    """Labels for classes; of the mean of a loss at least one row, since the mean of nothing has no gradient."""
    wanted: dict[str, list[Shape]] = {"empty": [(0, 3)], "one": [(1, 1)], "prime": [(7, 13), (13, 2)], "large": [(3001, 33)]}
    if not op.name.startswith("softmax"):
        wanted |= {"empty": [(0, 3), (2, 3, 0)], "scalar": [(6,)], "prime": [(7, 13), (5, 3, 7)]}
    for shape in wanted.get(kind, ()):
        axis = min(1, len(shape) - 1)
        labels = np.asarray(rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1:]))
        if labels.size > 2:
            labels.flat[2] = -100
        x, weight, grad = rng.uniform(-4, 4, shape), rng.uniform(0.5, 2, shape[axis]), rng.uniform(-2, 2, labels.shape)
        made: dict[str, Case] = {"softmax_cross_entropy_grad": ((rng.uniform(0.5, 2, ()), x, labels), {}),
                                 "nll_grad": ((grad, labels), {"classes": shape[axis]}),
                                 "label_weights": ((labels, weight), {})}
        yield made.get(op.name, ((x, labels), {}))


# ---- normalisation ----------------------------------------------------------------------------------------------------------------------
_BATCHES: dict[str, list[Shape]] = {"empty": [(3, 0), (3, 0, 2)], "one": [(1, 1), (1, 1, 1)], "prime": [(7, 13), (5, 3, 7)],
                                    "large": [(307, 331), (31, 11, 293)]}


def batches(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape in _BATCHES.get(kind, ()):
        if op.name == "batch_moments" and kind == "one":
            continue  # one number has no variance
        if op.name in ("running_", "running_average_"):
            count = (np.array(3),) if op.name == "running_average_" else ()
            yield (*rng.uniform(0.5, 2, (2, shape[1])), rng.uniform(0.5, 2, (2, shape[1])), *count), {} if count else {"momentum": 0.1}
        else:
            arrays = tuple(rng.uniform(0.5 if name == "variance" else -2, 2, shape if name in ("grad", "x") else shape[1]) for name in op.inputs)
            yield arrays, {"eps": 0.1} if "eps" in op.defaults else {}


def layers(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    wanted: dict[str, list[tuple[Shape, Shape]]] = {"empty": [((0, 3), (3,)), ((2, 0, 3), (3,))], "one": [((1,), (1,)), ((1, 1), (1,))],
                                                    "prime": [((7, 13), (13,)), ((5, 3, 7), (3, 7)),
                                                              ((5, 3, 7), (5, 3, 7))], "large": [((307, 331), (331,))]}
    for shape, inner in wanted.get(kind, ()):
        by_shape = op.name == "layer_norm_scale_grad"
        arrays = tuple(rng.uniform(-2, 2, shape if name in ("grad", "x") else inner) for name in op.inputs)
        yield arrays, {"eps": 0.1, **({"shape": inner} if by_shape else {})}


# ---- random numbers and optimisers ------------------------------------------------------------------------------------------------------
def keyed(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape in SINGLE.get(kind, ()):
        key = rng.integers(-2**62, 2**62, 2)
        if op.name in ("dropout", "bernoulli"):
            yield (rng.uniform(0, 1, shape), key), {"p": 0.25} if op.name == "dropout" else {}
        else:
            yield (key,), {"shape": shape, "dtype": np.dtype(np.float64)}


def stepped(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    """An update's arrays, of one length, and its numbers; or what a norm is made of."""
    for n in {"empty": [0], "one": [1], "prime": [101], "large": [LARGE]}.get(kind, ()):
        given = [*OPERANDS[op.name](rng)]
        lined = np.ndim(given[0]) == 1
        yield tuple(np.resize(a, n) if lined and a.shape == given[0].shape and a.dtype.kind == "f" else a for a in given), {}


def as_sampled(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    """For operands whose shape is fixed."""
    if kind == "prime":
        yield from cases(op)


def powers(op: Op, kind: str, rng: np.random.Generator) -> Iterator[Case]:
    for n, p in {"empty": [(0, 2.5)], "one": [(1, 1.0)], "prime": [(101, 2.5), (101, math.inf)], "large": [(LARGE, 3.0)]}.get(kind, ()):
        yield (rng.uniform(-3, 3, n), rng.uniform(0, 1, ())), {"p": p}


_PAIRS: Shapes = {kind: [(shape, shape) for shape in shapes] for kind, shapes in SINGLE.items()}

GENERATORS: dict[str, Generator] = {
    **dict.fromkeys(("sum", "mean", "prod", "amax", "amin", "argmax", "argmin", "any", "all", "var", "std", "vector_norm", "logsumexp", "cumsum"),
                    reduction),
    **dict.fromkeys(("softmax", "softmax_grad", "log_softmax", "log_softmax_grad"), along_axis),
    "matmul_nn": product(lambda m, k, n: (m, k), lambda m, k, n: (k, n)), "matmul_nt": product(lambda m, k, n: (m, k), lambda m, k, n: (n, k)),
    "matmul_tn": product(lambda m, k, n: (k, m), lambda m, k, n: (k, n)), "linear": product(lambda m, k, n: (m, k), lambda m, k, n: (n, k), lambda m,
                                                                                            k, n: (n,)),
    "bmm_nn": product(lambda m, k, n: (m, k), lambda m, k, n: (k, n), batches=_STACKS), "bmm_nt": product(lambda m, k, n: (m, k), lambda m, k,
                                                                                                          n: (n, k), batches=_STACKS),
    "bmm_tn": product(lambda m, k, n: (k, m), lambda m, k, n: (k, n), batches=_STACKS),
    "expand": arranged({"empty": [((0,), {"shape": (3, 0)}), ((1,), {"shape": (0,)})], "scalar": [((), {"shape": (3, 2)}), ((), {"shape": ()})],
                        "one": [((1,), {"shape": (1, 1)})], "prime": [((7, 1), {"shape": (5, 7, 13)}), ((7, 13), {"shape": (3, 7, 13)})],
                        "large": [((1, 331), {"shape": (307, 331)}), ((307, 1), {"shape": (307, 331)})]}),
    "reshape": arranged({"empty": [((0, 3), {"shape": (3, 0, 2)}), ((0,), {"shape": (2, 0)})], "scalar": [((), {"shape": (1, 1)})],
                         "one": [((1,), {"shape": ()})],
                         "prime": [((7, 13), {"shape": (13, -1)})], "large": [((LARGE,), {"shape": (-1, 1)})]}),
    "transpose": table({"empty": [((0, 3),), ((3, 0),)], "one": [((1, 1),)], "prime": [((7, 13),), ((1, 13),)], "large": [((331, 307),)]}),
    "sum_rows": table({"empty": [((0, 3),), ((3, 0),)], "one": [((1, 1),)], "prime": [((7, 13),), ((1, 13),)], "large": [((331, 307),)]}),
    "permute": arranged({"empty": [((0, 3), {"axes": (1, 0)})], "scalar": [((), {"axes": ()})], "one": [((1, 1), {"axes": (1, 0)})],
                         "prime": [((5, 3, 7), {"axes": (2, 0, 1)}), ((7, 13), {"axes": (-1, 0)})], "large": [((331, 3, 101), {"axes": (2, 1, 0)})]}),
    "cast": arranged({kind: [(shape, {"dtype": np.dtype(np.float64)}) for shape in shapes] for kind, shapes in SINGLE.items()}),
    **dict.fromkeys(("take_strided", "place_strided", "put_strided", "clear_strided"), sliced),
    **dict.fromkeys(("take_range", "place_range", "put_range", "clear_range"), ranged),
    **dict.fromkeys(("take_rows", "embedding", "place_rows", "put_rows", "clear_rows"), rows),
    **dict.fromkeys(("gather_along", "scatter_along"), along),
    **dict.fromkeys(("is_last", "fit_index", "join_index", "one_hot"), indices),
    **dict.fromkeys(("masked_fill", "masked_keep"), masked),
    **{f"cat{count}": joined for count in range(2, 9)},
    "mse": table(_PAIRS),
    "mse_grad": table({kind: [((), *shapes) for shapes in found] for kind, found in _PAIRS.items()}),
    **dict.fromkeys(("softmax_cross_entropy", "softmax_cross_entropy_grad", "nll", "nll_grad", "label_weights"), classified),
    **dict.fromkeys(("batch_norm", "batch_norm_grad", "batch_norm_scale_grad", "batch_moments", "batch_norm_by", "running_", "running_average_"),
                    batches),
    **dict.fromkeys(("layer_norm", "layer_norm_grad", "layer_norm_scale_grad"), layers),
    **dict.fromkeys(("dropout", "bernoulli", "uniform", "normal"), keyed),
    **dict.fromkeys(("clip_", "clip_value_", "norm"), stepped),
    **dict.fromkeys(UPDATES, stepped), **dict.fromkeys((f"clip_{plain}" for plain in UPDATES), stepped),
    **dict.fromkeys((f"{watch}_{plain}" for plain in UPDATES for watch in ("watch", "watch_clip")), as_sampled),
    **dict.fromkeys(("gradients_", "weights_", "signal_", "gather_", "gather_late_", "record_"), as_sampled),
    **dict.fromkeys(("draw_key", "advance_", "count_", "schedule_", "clip_factor", "root", "sum_squares_", "guard"), as_sampled),
    "add_powers": powers,
}


def generator(op: Op) -> Generator | None:
    """What makes the op's inputs, or None."""
    return pointwise if is_pointwise(op) else GENERATORS.get(op.name)


def inputs(op: Op, kind: str) -> list[Case]:
    """The op's inputs of this kind of shape, the same at each call; none if it has no such inputs."""
    made = generator(op)
    rng = np.random.default_rng([KINDS.index(kind), *op.name.encode()])
    return [] if made is None else [(tuple(np.asarray(a) for a in arrays), attributes) for arrays, attributes in made(op, kind, rng)]
