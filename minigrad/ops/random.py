"""Random numbers from a key (seed, offset), one offset for each op that draws: a number depends on the key and its element's index alone."""
from __future__ import annotations

from statistics import NormalDist
from typing import Any, Final

import numpy as np

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, op, per_element
from minigrad.ops.spec import Shape, Spec
from minigrad_kernels import random as kernels

_U = np.uint64
_GOLDEN: Final = _U(0x9E3779B97F4A7C15)


def _mix(z: Any, first: int = 30, second: int = 27, factors: tuple[int, int] = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)) -> Any:
    z = (z ^ (z >> _U(first))) * _U(factors[0])
    return (z ^ (z >> _U(second))) * _U(factors[1])


def bits(key: Any, count: int) -> Any:
    """The definition: `count` numbers of 64 bits from SplitMix64, split `offset` times from its generator for the seed.

    G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the seed is mixed first, so that
    neighbouring seeds are no neighbours, and each split has an increment of its own, so that no stream is another one shifted.
    """
    seed, offset = np.asarray(key, np.int64).astype(_U).reshape(2, 1)
    z = _mix(seed + _GOLDEN)
    here = (z ^ (z >> _U(31))) + _U(2) * offset * _GOLDEN
    start, gamma = _mix(here + _GOLDEN), _mix(here + _GOLDEN + _GOLDEN, 33, 33, (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))
    start ^= start >> _U(31)
    gamma = (gamma ^ (gamma >> _U(33))) | _U(1)
    if int(gamma[0] ^ (gamma[0] >> _U(1))).bit_count() < 24:
        gamma ^= _U(0xAAAAAAAAAAAAAAAA)
    z = _mix(start + (np.arange(count, dtype=_U) + _U(1)) * gamma)
    return z ^ (z >> _U(31))


def _keyed(op: Op, specs: tuple[Spec, ...]) -> None:
    key = specs[op.inputs.index("key")]
    if key.dtype != rules.INT64 or key.shape != (2,):
        raise ShapeError(f"{op.name}: key is {key!r}, expected int64[2]: draw one with minigrad.tape.random.draw()")


def _probability(op: Op, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{op.name}: probability has to be between 0 and 1, but got {p}")


def _like(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """An array and a key -> the array's shape and dtype."""
    _keyed(op, specs)
    x, dtype = specs[0], specs[0].dtype
    if not x.is_float:
        raise DtypeError(f"{op.name}: {op.inputs[0]} is {dtype.name}, expected float32 or float64 (got {rules.listed(op, specs)}): "
                         f"convert it, e.g. {op.inputs[0]}.astype(mg.float32)")
    immediates: dict[str, float] = {}
    if "p" in attributes:
        p = float(attributes["p"])
        _probability(op, p)
        immediates = {"threshold": round(p * 2 ** kernels.DIGITS), "scale": 1 / (1 - p) if p < 1 else 0.0}
    text = f"x[n] key[2] whole[m]{' threshold:i scale:f' if immediates else ''} out[n]"
    call = rules.step(op.kernel, rules.layout(text, "n"), [dtype, rules.INT64, dtype, dtype], [0, 1, 2, 2], {"n": x.size, "m": x.size}, immediates,
                      op.flops(specs, attributes))
    return Plan((x,), (call,))


def _made(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """A key -> an array of attributes `shape` and `dtype`."""
    _keyed(op, specs)
    out = Spec.of(tuple(attributes["shape"]), np.dtype(attributes["dtype"]))
    if out.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DtypeError(f"{op.name}: cannot draw {out.dtype.name}: random numbers are float32 or float64")
    call = rules.step(op.kernel, rules.layout("key[2] whole[m] out[n]", "n"), [rules.INT64, out.dtype, out.dtype], [0, 1, 1],
                      {"n": out.size, "m": out.size}, flops=op.flops((out,), attributes))
    return Plan((out,), (call,))


def _keys(*shapes: Shape, low: float = -2.0, high: float = 2.0, **attributes: Any) -> Any:
    def cases(rng: np.random.Generator) -> Any:
        for shape in shapes:
            yield (rng.uniform(low, high, shape), rng.integers(-2**62, 2**62, 2)), attributes

    return cases


def _chances(rng: np.random.Generator) -> Any:
    for p in (0.0, 0.1, 0.5, 0.9, 1.0):
        for shape in ((67,), (3, 4, 5), ()):
            yield (rng.uniform(-2, 2, shape), rng.integers(-2**62, 2**62, 2)), {"p": p}


def _drawn(*dtypes: Any) -> Any:
    def cases(rng: np.random.Generator) -> Any:
        for dtype in dtypes:
            for shape in ((67,), (3, 4, 5), ()):
                yield (rng.integers(-2**62, 2**62, 2),), {"shape": shape, "dtype": np.dtype(dtype)}

    return cases


@op(kernel=kernels.dropout, shape=_like, samples=_chances, flops=per_element(12), integers=("key",))
def dropout(x: Value, key: Value, *, p: float) -> Value:
    """Each element zero with probability p, else x / (1 - p); which ones is decided by the key. With p = 1 all are zero.

    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014), scaled while training.
    """
    kept = (bits(key, np.size(x)) >> _U(64 - kernels.DIGITS)) >= round(p * 2 ** kernels.DIGITS)
    return np.where(kept.reshape(np.shape(x)), x * (1 / (1 - p) if p < 1 else 0.0), 0)


@dropout.vjp("x")
def _(g: Value, key: Value, p: float) -> Value:
    return dropout(g, key, p=p)


@op(kernel=kernels.uniform, shape=_made, samples=_drawn(np.float32, np.float64), flops=per_element(12), integers=("key",))
def uniform(key: Value, *, shape: Shape, dtype: Any) -> Value:
    """Numbers uniform in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64."""
    digits = 24 if dtype == np.float32 else 53
    return ((bits(key, int(np.prod(shape))) >> _U(64 - digits)) * 2.0 ** -digits).reshape(shape).astype(dtype)


@op(kernel=kernels.normal, shape=_made, samples=_drawn(np.float64), flops=per_element(60), integers=("key",))
def normal(key: Value, *, shape: Shape, dtype: Any) -> Value:
    """Normal numbers of mean 0 and variance 1: the quantiles of uniform ones with 52 bits, so none is beyond 8.3; float32 is float64, rounded."""
    quantile = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])
    return quantile((bits(key, int(np.prod(shape))) >> _U(12)) * 2.0 ** -52 + 2.0 ** -53).reshape(shape).astype(dtype)


@op(kernel=kernels.bernoulli, shape=_like, samples=_keys((67,), (3, 4, 5), (), low=-0.2, high=1.2), flops=per_element(12), integers=("key",))
def bernoulli(p: Value, key: Value) -> Value:
    """1 with probability p, else 0, for each element of p."""
    digits = 24 if np.asarray(p).dtype == np.float32 else 53
    return (((bits(key, np.size(p)) >> _U(64 - digits)) * 2.0 ** -digits).reshape(np.shape(p)) < np.asarray(p)) * np.ones((), np.asarray(p).dtype)


# ---- the state: seed and offset of the next draw -------------------------------------------------------------------------------------
def _integers(rng: np.random.Generator) -> Any:
    yield (rng.integers(0, 2**40, 2),), {}
    yield (rng.integers(0, 2**40, 2),), {"ahead": 3}


def _counters(rng: np.random.Generator) -> Any:
    for shape in ((2,), (), (5,)):
        yield (rng.integers(0, 2**40, shape),), {"by": 3}


def _key_rule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    if specs[0].dtype != rules.INT64 or specs[0].shape != (2,):
        raise ShapeError(f"{op.name}: state is {specs[0]!r}, expected int64[2], a seed and an offset")
    how = rules.layout("state[2] ahead:i out[2]")
    return Plan((specs[0],), (rules.step(op.kernel, how, [rules.INT64] * 2, [0, 1], {}, {"ahead": attributes["ahead"]}),))


def _advance_rule(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    if specs[0].dtype != rules.INT64 or not specs[0].size:
        raise DtypeError(f"{op.name}: x is {specs[0]!r}, expected at least one int64")
    return Plan((), (rules.step(op.kernel, rules.layout("x[n] by:i"), [rules.INT64], [0], {"n": specs[0].size}, {"by": attributes["by"]}),))


@op(kernel=kernels.draw_key, shape=_key_rule, samples=_integers, integers=("state",))
def draw_key(state: Value, *, ahead: int = 0) -> Value:
    """The key (seed, offset + ahead) of a draw, from the state (seed, offset)."""
    return state + np.array([0, ahead])


@op(kernel=kernels.advance, shape=_advance_rule, samples=_counters, mutates=("x",), commit=True, integers=("x",))
def advance_(x: Value, *, by: int) -> Value:
    """Add to the last element of an int64 array, which may be a single number: a count, or the offset of a random state."""
    out = np.array(x)
    out.reshape(-1)[-1] += by
    return out
