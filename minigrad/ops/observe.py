"""What `health.watch` has a step do beside its work: statistics of gradients, weights and signals, and the row of them that a step leaves.

A group is GROUP float64 numbers of one array; `ticks` the clock of the recording; see `minigrad_kernels.observe` for what stands in both.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.samples import Case
from minigrad.ops.spec import Spec
from minigrad_kernels import observe as kernels

CLOCK: Final = 4
GROUP: Final = kernels.GROUP


def check_tables(op: Op, specs: Sequence[Spec], ticks: Spec, blocks: Spec) -> None:
    """Raise ShapeError or DtypeError unless these are a clock, and three rows for each block: start, length, where its group goes."""
    if ticks.dtype != rules.INT64 or ticks.shape != (CLOCK,) or blocks.dtype != rules.INT64 or len(blocks.shape) != 2 or blocks.shape[0] != 3:
        raise ShapeError(f"{op.name}: expected ticks int64[{CLOCK}] and blocks int64[3, n], got {rules.listed(op, specs)}")


def _doubles(op: Op, specs: tuple[Spec, ...], names: Iterable[str]) -> None:
    """These inputs are float64; the others, but for tables, are floats. Raises DtypeError."""
    for i, (name, spec) in enumerate(zip(op.inputs, specs, strict=True)):
        if spec.dtype != rules.FLOAT64 if name in names else not spec.is_float and i not in op.integers:
            raise DtypeError(f"{op.name}: {name} is {spec.dtype.name}, expected {'float64' if name in names else 'float32 or float64'} "
                             f"(got {rules.listed(op, specs)}): convert it, e.g. {name}.astype(mg.float64)")


def _gradients(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, ticks, blocks, partials, stats = specs
    _doubles(op, specs, ("partials", "stats"))
    check_tables(op, specs, ticks, blocks)
    if partials.shape != blocks.shape[1:]:
        raise ShapeError(f"{op.name}: expected a partial sum for each block, got {rules.listed(op, specs)}")
    how = rules.layout(f"ticks[{CLOCK}] x[n] blocks(3,b) partials[b] stats[m]", "b")
    dims = {"n": x.size, "b": partials.size, "m": stats.size}
    return Plan((), (rules.step(op.kernel, how, [rules.INT64, x.dtype, rules.INT64, *[rules.FLOAT64] * 2], [1, 0, 2, 3, 4], dims, flops=6 * x.size),))


def _weights(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, ticks, blocks, stats = specs
    _doubles(op, specs, ("stats",))
    check_tables(op, specs, ticks, blocks)
    how = rules.layout(f"ticks[{CLOCK}] x[n] blocks(3,b) stats[m]", "b")
    dims = {"n": x.size, "b": blocks.shape[1], "m": stats.size}
    return Plan((), (rules.step(op.kernel, how, [rules.INT64, x.dtype, rules.INT64, rules.FLOAT64], [1, 0, 2, 3], dims, flops=3 * x.size),))


def _signal(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    x, ticks, stats = specs
    _doubles(op, specs, ("stats",))
    if not x.is_float:
        raise DtypeError(f"{op.name}: x is {x.dtype.name}, expected float32 or float64 (got {rules.listed(op, specs)}): .astype(mg.float32)")
    if ticks.dtype != rules.INT64 or ticks.shape != (CLOCK,) or stats.shape != (GROUP,):
        raise ShapeError(f"{op.name}: expected ticks int64[{CLOCK}] and stats float64[{GROUP}], got {rules.listed(op, specs)}")
    units = x.size if attributes["flat"] else x.shape[-1] if len(x.shape) > 1 else 1
    how = rules.layout(f"low:f high:f ticks[{CLOCK}] x[rows,n] stats[{GROUP}]")
    return Plan((), (rules.step(op.kernel, how, [rules.INT64, x.dtype, rules.FLOAT64], [1, 0, 2],
                                {"rows": x.size // max(1, units), "n": units}, {"low": attributes["low"], "high": attributes["high"]},
                                flops=8 * x.size),))


def _gather(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    stats, ticks, bounds, now = specs
    _doubles(op, specs, ("stats", "now"))
    check_tables(op, specs, ticks, bounds)
    first, end = (kernels.WEIGHT, GROUP) if op.commit else (0, kernels.WEIGHT)
    how = rules.layout(f"begin:i end:i ticks[{CLOCK}] stats[m] bounds(3,s) now[k]")
    return Plan((), (rules.step(op.kernel, how, [rules.INT64, rules.FLOAT64, rules.INT64, rules.FLOAT64], [1, 0, 2, 3],
                                {"m": stats.size, "s": bounds.shape[1], "k": now.size}, {"begin": first, "end": end}),))


def _record(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    now = specs[0]
    _doubles(op, specs, ("now",))
    if specs[1].dtype != rules.INT64 or specs[1].shape != (CLOCK,):
        raise ShapeError(f"{op.name}: expected ticks int64[{CLOCK}], got {rules.listed(op, specs)}")
    how = rules.layout(f"now[k] ticks[{CLOCK}]")
    return Plan((), (rules.step(op.kernel, how, [rules.FLOAT64, rules.INT64], [0, 1], {"k": now.size}),))


def group_of(x: Value, low: float = -np.inf, high: float = np.inf) -> Value:
    """The group of an array (rows, units), as the kernels define it: an oracle."""
    x = np.asarray(x, np.float64)
    size = np.abs(x[~np.isnan(x)])
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array([x.sum(), np.square(x).sum(), size.max(initial=0.0), np.sum(x == 0), np.sum(~np.isfinite(x)),
                         np.sum((x <= low) | (x >= high)) if low > -np.inf or high < np.inf else 0, _dead(x), x.size])


def _dead(x: Value) -> Value:
    """The share of units that are 0 in all rows."""
    return np.mean(np.all(x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1) == 0, axis=0)) if x.size else 0.0


def _at(stats: Value, ticks: Value, places: Value, groups: Iterable[Value], part: slice) -> Value:
    """The groups' numbers of this part, at their places in stats, where the clock says so."""
    written = np.array(stats)
    for at, group in zip(places, groups, strict=True):
        if ticks[0]:
            written[at:at + GROUP][part] = group[part]
    return written


def _blocks(x: Value, blocks: Value) -> list[Value]:
    return [np.asarray(x[start:start + n], np.float64) for start, n, _ in blocks.T]


#: Of a parameter's group: the gradient's part, and the weight's.
GRADIENT, WEIGHT = slice(0, kernels.WEIGHT), slice(kernels.WEIGHT, GROUP)


def _runs(rng: np.random.Generator) -> Iterator[tuple[Value, Value, Value]]:
    """A run of parameters, a clock, and blocks with a gap between them."""
    for due in (1, 0):
        yield rng.normal(size=100), np.array([due, 5, 1, 0]), np.array([[0, 50, 97], [37, 47, 3], [16, 0, 8]])


def _gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    for run in _runs(rng):
        yield (*run, np.zeros(3), np.zeros(24)), {}


def _weight_cases(rng: np.random.Generator) -> Iterator[Case]:
    for run in _runs(rng):
        yield (*run, np.zeros(24)), {}


def _signal_cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((), (5,), (3, 7), (2, 3, 17)):
        for flat in (False, True):
            yield (rng.normal(size=shape), np.array([1, 0, 1, 0]), np.zeros(GROUP)), {"low": -0.5, "high": 1.0, "flat": flat}


def _gather_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield (rng.uniform(1, 2, 24), np.array([1, 0, 1, 0]), np.array([[0, 16], [16, 24], [8, 0]]), np.zeros(24)), {}


def _record_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield (rng.normal(size=16), np.array([0, 4, 3, 0])), {}


@op(kernel=kernels.gradients, shape=_gradients, samples=_gradient_cases, mutates=("partials", "stats"), integers=("ticks", "blocks"),
    flops=per_element(6))
def gradients_(x: Value, ticks: Value, blocks: Value, partials: Value, stats: Value) -> Value:
    """`norms.sum_squares_` by the first two rows of `blocks`; where the clock says so also the group of each block, at stats[blocks[2]]."""
    return np.array([np.sum(part ** 2) for part in _blocks(x, blocks)])


@op(kernel=kernels.weights, shape=_weights, samples=_weight_cases, mutates=("stats",), commit=True, integers=("ticks", "blocks"),
    flops=per_element(3))
def weights_(x: Value, ticks: Value, blocks: Value, stats: Value) -> Value:
    """Where the clock says so, the group of each block of weights, at stats[blocks[2]], without their change."""
    groups = [np.array([*[0.0] * kernels.WEIGHT, np.sum(part), np.sum(part ** 2), np.nan]) for part in _blocks(x, blocks)]
    return _at(stats, ticks, blocks[2], groups, WEIGHT)


@op(kernel=kernels.signal, shape=_signal, samples=_signal_cases, mutates=("stats",), integers=("x", "ticks"), flops=per_element(8))
def signal_(x: Value, ticks: Value, stats: Value, *, low: float, high: float, flat: bool = False) -> Value:
    """Where the clock says so, stats = the group of x, of which elements at or beyond `low` or `high` count as saturated.

    flat: each element is a unit of its own, where nobody asks which units are dead; that is quicker.
    """
    return group_of(x.reshape(1, -1) if flat else x, low, high)


def _gathered(stats: Value, bounds: Value) -> Value:
    return np.array([[np.max(g) if k == kernels.LARGEST else np.sum(g) for k, g in enumerate(stats[first:end].reshape(-1, GROUP).T)]
                     for first, end, _ in bounds.T])


@op(kernel=kernels.gather, shape=_gather, samples=_gather_cases, mutates=("now",), integers=("ticks", "bounds"), flops=per_element(1))
def gather_(stats: Value, ticks: Value, bounds: Value, now: Value) -> Value:
    """Where the clock says so, for each column [first, end, where] of `bounds`: gradients' groups in stats[first:end], as one, at now[where]."""
    return _at(now, ticks, bounds[2], _gathered(stats, bounds), GRADIENT)


@op(kernel=kernels.gather, shape=_gather, samples=_gather_cases, mutates=("now",), commit=True, integers=("ticks", "bounds"), flops=per_element(1))
def gather_late_(stats: Value, ticks: Value, bounds: Value, now: Value) -> Value:
    """`gather_` of what an update took of the weights."""
    return _at(now, ticks, bounds[2], _gathered(stats, bounds), WEIGHT)


@op(kernel=kernels.record, shape=_record, samples=_record_cases, mutates=("now", "ticks"), commit=True, integers=("ticks",), flops=per_element(1))
def record_(now: Value, ticks: Value) -> Value:
    """End a step: where the clock says so `now` becomes a row of the recording; the clock goes on."""
    return now
