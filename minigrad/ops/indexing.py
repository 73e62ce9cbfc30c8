"""Rows taken by index, put there, and added up there; places along an axis; masks.

An index is int32 or int64, may be negative as NumPy's, and is an input, so that it may differ between calls of a captured step.
Equal places are served in the order in which they stand.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.errors import DtypeError, IndexRangeError, LabelError, ShapeError
from minigrad.ops import rules
from minigrad.ops.elementwise import mul
from minigrad.ops.op import Attributes, Op, Plan, Value, op
from minigrad.ops.reduce import sum
from minigrad.ops.samples import Case
from minigrad.ops.shape import clear_strided, expand, reshape
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import indexing as kernels


def outside(op: str) -> IndexRangeError:
    """The error for an index that is out of range."""
    return IndexRangeError(f"{op}: an index is out of range: an axis of size n has the places -n to n - 1")


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """An unsigned number of the same size: a move is the same for all dtypes."""
    return np.dtype(f"u{dtype.itemsize}")


def _integers(op: Op, spec: Spec, name: str = "index") -> np.dtype[Any]:
    if spec.dtype.name not in ("int32", "int64"):
        raise DtypeError(f"{op.name}: {name} is {spec.dtype.name}, expected int32 or int64: convert it, e.g. {name}.astype(mg.int64)")
    return spec.dtype


def _numbers(op: Op, x: Spec) -> None:
    if x.dtype.kind == "b":
        raise DtypeError(f"{op.name}: x is bool, and truth values are not added up: convert it, e.g. x.astype(mg.int64)")


def _axis(op: Op, spec: Spec, axis: int) -> tuple[int, dict[str, int]]:
    """The axis from the front, and the array as (outer, n, inner) around it."""
    if not spec.shape:
        raise ShapeError(f"{op.name}: a scalar has no axis to index")
    at = rules.axes_of(op, spec, axis)[0]
    return at, {"o": math.prod(spec.shape[:at]), "n": spec.shape[at], "i": math.prod(spec.shape[at + 1:])}


def _rows(op: Op, spec: Spec, index: Spec, axis: int) -> Shape:
    """The shape of rows of `spec`: the axis gives way to the shape of the index."""
    at, _ = _axis(op, spec, axis)
    return (*spec.shape[:at], *index.shape, *spec.shape[at + 1:])


def _same_rows(op: Op, spec: Spec, index: Spec, value: Spec, axis: int, name: str) -> None:
    wanted = _rows(op, spec, index, axis)
    if value.shape != wanted:
        raise ShapeError(f"{op.name}: {name} is {value!r}, expected shape {wanted}: that of {spec!r} with index {index!r} in place of axis {axis}")


def _take(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index = specs
    places, (_, dims) = _integers(op, index), _axis(op, x, attributes["axis"])
    out = x.with_shape(_rows(op, x, index, attributes["axis"]))
    how = rules.layout("x[o,n,i] index[m] out(o,m,i)", "m", status=True)
    return Plan((out,), (rules.step(op.kernel, how, [_plain(x.dtype), places, _plain(x.dtype)], [0, 1, 2], {**dims, "m": index.size}),))


def _place(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index = specs
    _numbers(op, x)
    out = x.with_shape(tuple(attributes["shape"]))
    places, (_, dims) = _integers(op, index), _axis(op, out, attributes["axis"])
    _same_rows(op, out, index, x, attributes["axis"], "x")
    skip = attributes["skip"]
    how = rules.layout("x(o,m,i) index[m] skip:i out(o,n,i)", "i", status=True)
    return Plan((out,), (rules.step(op.kernel, how, [x.dtype, places, x.dtype], [0, 1, 2], {**dims, "m": index.size},
                                    {"skip": -1 if skip is None else skip % max(dims["n"], 1)}),))


def _put(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index, value = specs
    if value.dtype != x.dtype:
        raise DtypeError(f"{op.name}: value is {value.dtype.name}, x {x.dtype.name}: convert one, e.g. value.astype(mg.{x.dtype.name})")
    places, (_, dims) = _integers(op, index), _axis(op, x, attributes["axis"])
    _same_rows(op, x, index, value, attributes["axis"], "value")
    plain, how = _plain(x.dtype), rules.layout("x(o,n,i) index[m] value(o,m,i) out(o,n,i)", "i", status=True)
    return Plan((x,), (rules.step(op.kernel, how, [plain, places, plain, plain], [0, 1, 2, 3], {**dims, "m": index.size}),))


def _clear(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index = specs
    places, (_, dims) = _integers(op, index), _axis(op, x, attributes["axis"])
    how = rules.layout("x(o,n,i) index[m] out(o,n,i)", "i", status=True)
    return Plan((x,), (rules.step(op.kernel, how, [_plain(x.dtype), places, _plain(x.dtype)], [0, 1, 2], {**dims, "m": index.size}),))


# ---- samples ----------------------------------------------------------------------------------------------------------------------
_PLACES = (((5, 3), (4,), 0), ((2, 5, 3), (2, 3), 1), ((4, 6), (7,), -1), ((6,), (), 0), ((3, 4), (0,), 0), ((9, 40), (20,), 0))


def _indexed(rng: np.random.Generator) -> Iterator[tuple[Any, Any, Any, int]]:
    """An array, an index with repetitions and negative places, an array for the rows, and the axis."""
    for shape, places, axis in _PLACES:
        at = axis % len(shape)
        rows = (*shape[:at], *places, *shape[at + 1:])
        yield rng.uniform(-2, 2, shape), rng.integers(-shape[at], shape[at], places), rng.uniform(-2, 2, rows), axis


def _takes(rng: np.random.Generator) -> Iterator[Case]:
    for x, index, _, axis in _indexed(rng):
        yield (x, index), {"axis": axis}


def _places(rng: np.random.Generator) -> Iterator[Case]:
    for n, (x, index, rows, axis) in enumerate(_indexed(rng)):
        yield (rows, index), {"shape": x.shape, "axis": axis, **({"skip": int(index.flat[0]) % x.shape[axis]} if n in (1, 2) else {})}


def _puts(rng: np.random.Generator) -> Iterator[Case]:
    for x, index, rows, axis in _indexed(rng):
        yield (x, index, rows), {"axis": axis}


# ---- rows -------------------------------------------------------------------------------------------------------------------------
@op(kernel=kernels.take_rows, shape=_take, samples=_takes, integers=("index",), fails=outside("take_rows"))
def take_rows(x: Value, index: Value, *, axis: int = 0) -> Value:
    """The rows of x at `index` along `axis`, which gives way to the shape of the index; as numpy.take."""
    return np.take(x, index, axis)


@take_rows.vjp("x")
def _(g: Value, index: Value, x_spec: Spec, axis: int) -> Value:
    return place_rows(g, index, shape=x_spec.shape, axis=axis)


@op(kernel=kernels.take_rows, shape=_take, samples=_takes, integers=("index",), fails=outside("embedding"))
def embedding(weight: Value, index: Value, *, axis: int = 0, padding_idx: int | None = None) -> Value:
    """As take_rows; the row `padding_idx` gets no gradient."""
    return np.take(weight, index, axis)


@embedding.vjp("weight")
def _(g: Value, index: Value, weight_spec: Spec, axis: int, padding_idx: int | None) -> Value:
    return place_rows(g, index, shape=weight_spec.shape, axis=axis, skip=padding_idx)


@op(kernel=kernels.place_rows, shape=_place, samples=_places, integers=("index",), fails=outside("place_rows"))
def place_rows(x: Value, index: Value, *, shape: Shape, axis: int = 0, skip: int | None = None) -> Value:
    """Zeros of `shape`, with the rows of x added at `index` along `axis`; those for the place `skip` are left out."""
    out = np.zeros(shape, np.asarray(x).dtype)
    at = axis % len(shape)
    rows = np.moveaxis(np.reshape(x, (*shape[:at], np.size(index), *shape[at + 1:])), at, 0)
    places = np.reshape(index, -1) % shape[at]
    keep = places != skip if skip is not None else np.ones(places.shape, bool)
    np.add.at(np.moveaxis(out, at, 0), places[keep], rows[keep])
    return out


@place_rows.vjp("x")
def _(g: Value, index: Value, shape: Shape, axis: int, skip: int | None) -> Value:
    if skip is not None:
        at = axis % len(shape)
        inner = math.prod(shape[at + 1:])
        g = clear_strided(g, start=skip * inner, shape=(math.prod(shape[:at]), inner), strides=(shape[at] * inner, 1))
    return take_rows(g, index, axis=axis)


@op(kernel=kernels.put_rows, shape=_put, samples=_puts, integers=("index",), fails=outside("put_rows"))
def put_rows(x: Value, index: Value, value: Value, *, axis: int = 0) -> Value:
    """x with its rows at `index` along `axis` replaced by those of `value`; of equal places the last one stays."""
    at = axis % np.ndim(x)
    out = np.array(x, np.result_type(x, value))
    rows, source = np.moveaxis(out, at, 0), np.moveaxis(np.reshape(value, (*out.shape[:at], np.size(index), *out.shape[at + 1:])), at, 0)
    for m, place in enumerate(np.reshape(index, -1)):
        rows[place] = source[m]
    return out


@put_rows.vjp("x")
def _(g: Value, index: Value, axis: int) -> Value:
    return clear_rows(g, index, axis=axis)


@put_rows.vjp("value")
def _(g: Value, index: Value, x_spec: Spec, value_spec: Spec, index_spec: Spec, axis: int) -> Value:
    at = axis % len(x_spec.shape)
    last = is_last(index, size=x_spec.shape[at], dtype=g.spec.dtype)
    lined = reshape(last, shape=(*index_spec.shape, *(1,) * (len(x_spec.shape) - at - 1)))
    return mul(take_rows(g, index, axis=axis), expand(lined, shape=value_spec.shape))


@op(kernel=kernels.clear_rows, shape=_clear, samples=_takes, integers=("index",), fails=outside("clear_rows"))
def clear_rows(x: Value, index: Value, *, axis: int = 0) -> Value:
    """x with zeros in its rows at `index` along `axis`."""
    out = np.array(x)
    np.moveaxis(out, axis, 0)[index] = 0
    return out


@clear_rows.vjp("x")
def _(g: Value, index: Value, axis: int) -> Value:
    return clear_rows(g, index, axis=axis)


# ---- indices ----------------------------------------------------------------------------------------------------------------------
def _last(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    (index,), size = specs, attributes["size"]
    out, seen = index.with_dtype(attributes["dtype"]), Spec.of((size,), rules.INT64)
    return Plan((out,), (rules.step(op.kernel, rules.layout("index[m] seen[n] out[m]", status=True), [_integers(op, index), rules.INT64, out.dtype],
                                    [0, 2, 1], {"m": index.size, "n": size}),), (seen,))


def _fit(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    (index,) = specs
    how = rules.layout("index[m] size:i out[m]", "m", status=True)
    return Plan((index.with_dtype(rules.INT64),), (rules.step(op.kernel, how, [_integers(op, index), rules.INT64], [0, 1], {"m": index.size},
                                                              {"size": attributes["size"]}),))


def _join(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index = specs
    rules.same_shape(op, specs)
    how, kinds = rules.layout("x[m] index[m] size:i out[m]", "m", status=True), [_integers(op, x, "x"), _integers(op, index), rules.INT64]
    return Plan((index.with_dtype(rules.INT64),), (rules.step(op.kernel, how, kinds, [0, 1, 2], {"m": index.size}, {"size": attributes["size"]}),))


def _fits(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((7,), (2, 3), (), (0,), (33,)):
        yield (rng.integers(-5, 5, shape),), {"size": 5}


def _lasts(rng: np.random.Generator) -> Iterator[Case]:
    for (index,), size in _fits(rng):
        yield (index,), {**size, "dtype": np.dtype(np.float64)}


def _joins(rng: np.random.Generator) -> Iterator[Case]:
    for (index,), size in _fits(rng):
        yield (np.asarray(rng.integers(0, 4, index.shape)), index), size


@op(kernel=kernels.is_last, shape=_last, samples=_lasts, integers=("index",), fails=outside("is_last"))
def is_last(index: Value, *, size: int, dtype: Any) -> Value:
    """1 where no later element of the index is the same place of an axis of `size`, else 0."""
    flat = np.reshape(index, -1) % size
    return np.reshape([float(place not in flat[m + 1:]) for m, place in enumerate(flat)], np.shape(index)).astype(dtype)


@op(kernel=kernels.fit_index, shape=_fit, samples=_fits, integers=("index",), fails=outside("fit_index"))
def fit_index(index: Value, *, size: int) -> Value:
    """The index, counted from the front of an axis of `size`, as int64."""
    return index % size


@op(kernel=kernels.join_index, shape=_join, samples=_joins, integers=("x", "index"), fails=outside("join_index"))
def join_index(x: Value, index: Value, *, size: int) -> Value:
    """x * size + index: places along two neighbouring axes, the second of `size`, as places along their product."""
    return x * size + index % size


# ---- along an axis ------------------------------------------------------------------------------------------------------------------
def _along(op: Op, specs: tuple[Spec, ...], whole: Spec, part: Spec, axis: int, text: str) -> Plan:
    """`whole` has any size along the axis, `part` and the index have one shape, `whole`'s but for the axis."""
    index = specs[1]
    places, (at, dims) = _integers(op, index), _axis(op, whole, axis)
    if part.shape != index.shape or len(index.shape) != len(whole.shape) or any(
            n != m for a, (n, m) in enumerate(zip(index.shape, whole.shape, strict=True)) if a != at):
        raise ShapeError(f"{op.name}: got {rules.listed(op, specs)}: shapes must be equal but for axis {at}")
    dims["m"] = index.shape[at]
    share = "o" if dims["o"] > 1 or dims["i"] == 1 else "i"
    how = rules.layout(text if share == "o" else text.replace("[", "(").replace("]", ")"), share, status=True)
    out = part if whole is specs[0] else whole
    dtype = whole.dtype if op.kernel is kernels.scatter_along else _plain(whole.dtype)
    return Plan((out,), (rules.step(op.kernel, how, [dtype, places, dtype], [0, 1, 2], dims),))


def _gather(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    return _along(op, specs, specs[0], specs[0].with_shape(specs[1].shape), attributes["axis"], "x[o,n,i] index[o,m,i] out[o,m,i]")


def _scatter(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, index = specs
    _numbers(op, x)
    if x.shape != index.shape or not x.shape:
        raise ShapeError(f"{op.name}: got {rules.listed(op, specs)}: x and index need one shape, with at least one axis")
    at = rules.axes_of(op, x, attributes["axis"])[0]
    out = x.with_shape((*x.shape[:at], attributes["size"], *x.shape[at + 1:]))
    return _along(op, specs, out, x, attributes["axis"], "x[o,m,i] index[o,m,i] out[o,n,i]")


def _gathers(rng: np.random.Generator) -> Iterator[Case]:
    for shape, count, axis in (((4, 3), 5, 0), ((4, 3), 2, 1), ((2, 3, 4), 6, -2), ((7,), 3, 0), ((5, 40), 3, 0), ((2, 3), 0, 1)):
        at = axis % len(shape)
        yield (rng.uniform(-2, 2, shape), rng.integers(-shape[at], shape[at], (*shape[:at], count, *shape[at + 1:]))), {"axis": axis}


def _scatters(rng: np.random.Generator) -> Iterator[Case]:
    for (x, index), axis in _gathers(rng):
        yield (np.asarray(rng.uniform(-2, 2, index.shape)), index), {**axis, "size": x.shape[axis["axis"]]}


@op(kernel=kernels.gather_along, shape=_gather, samples=_gathers, integers=("index",), fails=outside("gather"))
def gather_along(x: Value, index: Value, *, axis: int) -> Value:
    """out[.., j, ..] = x[.., index[.., j, ..], ..] along `axis`: as numpy.take_along_axis, without broadcasting."""
    return np.take_along_axis(x, index, axis)


@gather_along.vjp("x")
def _(g: Value, index: Value, x_spec: Spec, axis: int) -> Value:
    return scatter_along(g, index, axis=axis, size=x_spec.shape[axis])


@op(kernel=kernels.scatter_along, shape=_scatter, samples=_scatters, integers=("index",), fails=outside("scatter_add"))
def scatter_along(x: Value, index: Value, *, axis: int, size: int) -> Value:
    """Zeros with `size` places along `axis`, to which x is added at index: out[.., index[.., j, ..], ..] += x[.., j, ..]."""
    shape = list(np.shape(x))
    shape[axis] = size
    out = np.zeros(shape, np.asarray(x).dtype)
    places = list(np.indices(np.shape(index)))
    places[axis] = index
    np.add.at(out, tuple(places), x)
    return out


@scatter_along.vjp("x")
def _(g: Value, index: Value, axis: int) -> Value:
    return gather_along(g, index, axis=axis)


# ---- classes and masks --------------------------------------------------------------------------------------------------------------
def _one_hot(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    (labels,), classes = specs, attributes["classes"]
    out = Spec.of((*labels.shape, classes), np.dtype(attributes["dtype"]))
    how = rules.layout("labels[m] out[m,c]", "m", status=True)
    return Plan((out,), (rules.step(op.kernel, how, [_integers(op, labels, "labels"), out.dtype], [0, 1], {"m": labels.size, "c": classes}),))


def _labels(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((7,), (2, 3), (), (33,)):
        yield (rng.integers(0, 5, shape),), {"classes": 5}


@op(kernel=kernels.one_hot, shape=_one_hot, samples=_labels, integers=("labels",),
    fails=LabelError("one_hot: a label is negative or not below the number of classes: labels are class indices 0 to classes - 1"))
def one_hot(labels: Value, *, classes: int, dtype: Any = rules.INT64) -> Value:
    """A last axis of `classes` with a 1 at the label and zeros elsewhere, int64 unless `dtype` says otherwise."""
    return np.eye(classes, dtype=dtype)[labels]


def _mask(op: Op, specs: tuple[Spec, ...]) -> np.dtype[Any]:
    x, mask = specs[:2]
    if mask.dtype.name not in ("bool", "uint8"):
        raise DtypeError(f"{op.name}: mask is {mask.dtype.name}, expected bool: compare, or convert it with .bool()")
    if x.shape != mask.shape:
        raise ShapeError(f"{op.name}: mask has shape {mask.shape}, x has {x.shape}: expand it first")
    return mask.dtype


def _filled(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, _, value = specs
    mask = _mask(op, specs)
    if value.size != 1 or value.dtype != x.dtype:
        raise ShapeError(f"{op.name}: value is {value!r}, expected one {x.dtype.name}")
    plain = _plain(x.dtype)
    return Plan((x,), (rules.step(op.kernel, rules.layout("x[n] mask[n] value[1] out[n]", "n"), [plain, mask, plain, plain], [0, 1, 2, 3],
                                  {"n": x.size}),))


def _kept(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, mask = specs[0], _mask(op, specs)
    plain = _plain(x.dtype)
    return Plan((x,), (rules.step(op.kernel, rules.layout("x[n] mask[n] unset:i out[n]", "n"), [plain, mask, plain], [0, 1, 2], {"n": x.size},
                                  {"unset": attributes["unset"]}),))


def _masks(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((3, 4), (67,), (), (0, 2)):
        yield (rng.uniform(-2, 2, shape), rng.integers(0, 2, shape).astype(bool)), {}


def _keeps(rng: np.random.Generator) -> Iterator[Case]:
    for n, (arrays, _) in enumerate(_masks(rng)):
        yield arrays, {"unset": n == 1}


def _fills(rng: np.random.Generator) -> Iterator[Case]:
    for n, (arrays, _) in enumerate(_masks(rng)):
        yield (*arrays, np.asarray(rng.uniform(-2, 2, (1,) * (n == 1)))), {}


@op(kernel=kernels.masked_fill, shape=_filled, samples=_fills, integers=("mask",))
def masked_fill(x: Value, mask: Value, value: Value) -> Value:
    """`value`, of one element, where the mask is set, else x; the mask has the shape of x."""
    return np.where(mask, value, x)


@masked_fill.vjp("x")
def _(g: Value, mask: Value) -> Value:
    return masked_keep(g, mask, unset=True)


@masked_fill.vjp("value")
def _(g: Value, mask: Value, value_spec: Spec) -> Value:
    return reshape(sum(masked_keep(g, mask)), shape=value_spec.shape)


@op(kernel=kernels.masked_keep, shape=_kept, samples=_keeps, integers=("mask",))
def masked_keep(x: Value, mask: Value, *, unset: bool = False) -> Value:
    """x where the mask is set, or where it is not, else 0."""
    return np.where(mask != unset, x, 0)


@masked_keep.vjp("x")
def _(g: Value, mask: Value, unset: bool) -> Value:
    return masked_keep(g, mask, unset=unset)
