"""Ops that programs drawn at random are made of: how minigrad and PyTorch run them, and which operands they take.

In minigrad only what is a run of memory is a view; PyTorch's other views are given `clone`, so that the same values share memory in both.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

#: Values stay within this, and as far from a kink or a tie.
LARGEST, GAP = 8.0, 1e-3
#: Elements of the largest value, and lengths of axes: around a vector's width, and ones that broadcast.
MOST, LENGTHS = 600, (1, 2, 3, 4, 5, 8, 17)


class Node(NamedTuple):
    """One instruction: its operands are places of earlier ones; a leaf has none."""

    op: str
    inputs: tuple[int, ...]
    attributes: dict[str, Any]
    grad: bool = True  # False: under no_grad
    shares: bool = False  # the result is in its first operand's memory

    def __str__(self) -> str:
        given = [*(f"v{i}" for i in self.inputs), *(f"{name}={value!r}" for name, value in self.attributes.items())]
        return f"{self.op}({', '.join(given)}){'' if self.grad else '  # no_grad'}"


# ---- ops ----------------------------------------------------------------------------------------------------------------------------
class Lib(NamedTuple):
    """A library: its module, its functional module, and how it makes a Tensor of an array."""

    core: Any
    functional: Any
    tensor: Callable[[Any], Any]
    copies: bool  # whether what minigrad copies has to be cloned


class Draws(Protocol):
    """A program that is being drawn, as ops ask it for operands. A value is the place of an instruction."""

    rng: np.random.Generator

    def value(self, at: int) -> Any:
        """The numbers of a value."""

    def pick(self, fits: Callable[[Any], bool] = ..., prepare: tuple[float, float] | None = None) -> int | None:
        """A value whose numbers fit; if there is none, one that is made to be within `prepare`."""

    def beside(self, x: int, fits: Callable[[Any, Any], bool], prepare: tuple[float, float]) -> int | None:
        """A value that broadcasts with x and fits to it."""

    def writable(self, fits: Callable[[Any], bool]) -> int | None:
        """A value that may be written in place."""

    def leaf(self, shape: tuple[int, ...]) -> int:
        """A new leaf."""


@dataclass(frozen=True)
class Kind:
    """How an op is run, which operands it takes, and what else has to be known of it."""

    run: Callable[..., Any]  # of (lib, *inputs, **attributes)
    choose: Callable[[Draws], tuple[tuple[int, ...], dict[str, Any]] | None]
    fused: tuple[str, ...] = ()  # names of the elementwise ops that it may be part of a chain as
    view: bool = False  # in PyTorch, and in minigrad where it is a run of memory
    writes: bool = False  # into its first input
    keeps: bool = True  # its rule may need the values of its inputs or of its result


KINDS: dict[str, Kind] = {}


def _is_far(x: Any, *kinks: float) -> bool:
    """Whether no element is near a kink; on it is far enough if it is there exactly."""
    return all(bool(((np.abs(x - kink) >= GAP) | (x == kink)).all()) for kink in kinks)


def _are_far(x: Any, y: Any) -> bool:
    return _is_far(x - y, 0.0)


def _untied(x: Any, axis: int | None, exact: bool) -> bool:
    line = np.sort(x, axis=None if axis is None else axis)
    gaps = np.diff(line, axis=0 if axis is None else axis)
    return bool(((gaps >= GAP) | (exact & (gaps == 0))).all())


def _unary(name: str, run: Callable[..., Any], *, low: float = -math.inf, high: float = math.inf, kinks: tuple[float, ...] = (), keeps: bool = True,
           fused: tuple[str, ...] | None = None, **attributes: Callable[[Draws], Any]) -> None:
    def choose(g: Draws) -> Any:
        x = g.pick(lambda v: bool((v >= low).all() and (v <= high).all()) and _is_far(v, *kinks), prepare=(low, high))
        return None if x is None else ((x,), {key: draw(g) for key, draw in attributes.items()})

    KINDS[name] = Kind(run, choose, (name,) if fused is None else fused, keeps=keeps)


def _factor(g: Draws) -> float:
    return float(g.rng.choice([-1.5, -0.5, 0.25, 0.75, 1.25]))


_unary("neg", lambda lib, x: -x, keeps=False)
_unary("scale", lambda lib, x, by: x * by, keeps=False, fused=("scale", "mul"), by=_factor)
_unary("shift", lambda lib, x, by: x + by, keeps=False, fused=("shift", "add"), by=_factor)
_unary("from", lambda lib, x, by: by - x, keeps=False, fused=("sub",), by=_factor)
for _name in ("tanh", "sigmoid", "sin", "cos", "square", "erf"):
    _unary(_name, lambda lib, x, name=_name: getattr(x, name)())
_unary("relu", lambda lib, x: x.relu(), kinks=(0.0,))
_unary("abs", lambda lib, x: x.abs(), kinks=(0.0,))
_unary("sign", lambda lib, x: x.sign(), kinks=(0.0,))
_unary("clamp", lambda lib, x: x.clamp(-0.75, 1.0), kinks=(-0.75, 1.0), fused=("clamp_between",))
_unary("exp", lambda lib, x: x.exp(), high=1.5)
_unary("expm1", lambda lib, x: x.expm1(), high=1.5)
for _name in ("log", "sqrt", "rsqrt", "reciprocal", "log1p"):
    _unary(_name, lambda lib, x, name=_name: getattr(x, name)(), low=0.25)
_unary("power", lambda lib, x, exponent: x ** exponent, low=0.25, high=2.0, fused=("power_by", "whole_power", "square"),
       exponent=lambda g: float(g.rng.choice([1.5, 3.0, -0.75, 2.0])))
for _name in ("softplus", "silu", "gelu", "elu", "logsigmoid", "hardtanh", "leaky_relu"):
    _unary(_name, lambda lib, x, name=_name: getattr(lib.functional, name)(x),
           kinks={"hardtanh": (-1.0, 1.0), "leaky_relu": (0.0,), "elu": (0.0,)}.get(_name, ()))
_unary("clone", lambda lib, x: x.clone(), keeps=False, fused=())
_unary("detach", lambda lib, x: x.detach(), keeps=False, fused=())


def _binary(name: str, run: Callable[..., Any], *, low: float = -math.inf, fits: Callable[[Any, Any], bool] = lambda x, y: True, keeps: bool = True,
            fused: tuple[str, ...] | None = None) -> None:
    def choose(g: Draws) -> Any:
        x = g.pick()
        if x is None:
            return None
        y = g.beside(x, lambda a, b: bool((b >= low).all()) and fits(a, b), prepare=(low, math.inf))
        return None if y is None else ((x, y), {})

    KINDS[name] = Kind(run, choose, (name,) if fused is None else fused, keeps=keeps)


_binary("add", lambda lib, x, y: x + y, keeps=False)
_binary("sub", lambda lib, x, y: x - y, keeps=False)
_binary("mul", lambda lib, x, y: x * y)
_binary("div", lambda lib, x, y: x / y, low=0.25)
_binary("maximum", lambda lib, x, y: lib.core.maximum(x, y), fits=_are_far)
_binary("minimum", lambda lib, x, y: lib.core.minimum(x, y), fits=_are_far)
_binary("larger_of", lambda lib, x, y: lib.core.where(x > y, x, y * 0.5), fits=_are_far, fused=("where",))
_binary("where_shared", lambda lib, x, y: lib.core.where(x > 0.25, x, y), fits=lambda x, y: _is_far(x, 0.25), keeps=False, fused=("where",))


def _reduction(name: str, run: Callable[..., Any], *, fits: Callable[[Any, Any], bool] = lambda x, axis: True, whole: bool = True,
               keeps: bool = True) -> None:
    def choose(g: Draws) -> Any:
        x = g.pick(lambda v: v.ndim > 0)
        if x is None:
            return None
        value = g.value(x)
        axis = None if whole and g.rng.integers(6) == 0 else int(g.rng.integers(-value.ndim, value.ndim))
        return ((x,), {"dim": axis}) if fits(value, axis) else None

    KINDS[name] = Kind(run, choose, keeps=keeps)


def _along(name: str) -> Callable[..., Any]:
    return lambda lib, x, dim: getattr(x, name)() if dim is None else getattr(x, name)(dim=dim)


def _kept(name: str) -> Callable[..., Any]:
    return lambda lib, x, dim: getattr(x, name)(dim=dim, keepdim=True)


_reduction("sum", _along("sum"), keeps=False)
_reduction("mean", _kept("mean"), keeps=False, whole=False)
_reduction("amax", _kept("amax"), fits=lambda x, axis: _untied(x, axis, True), whole=False)
_reduction("amin", lambda lib, x, dim: x.amin(dim=dim), fits=lambda x, axis: _untied(x, axis, True), whole=False)
_reduction("argmax", lambda lib, x, dim: x.argmax(dim=dim), fits=lambda x, axis: _untied(x, axis, False), whole=False, keeps=False)
_reduction("prod", _along("prod"))
_reduction("var", _kept("var"), fits=lambda x, axis: x.shape[axis] > 1, whole=False)
_reduction("std", lambda lib, x, dim: x.std(dim=dim), fits=lambda x, axis: x.shape[axis] > 1 and bool((x.std(axis) > 0.1).all()), whole=False)
_reduction("norm", lambda lib, x, dim: x.norm(dim=dim), fits=lambda x, axis: bool((np.linalg.norm(x, axis=axis) > 0.1).all()), whole=False)
_reduction("logsumexp", _kept("logsumexp"), whole=False)
_reduction("cumsum", lambda lib, x, dim: x.cumsum(dim=dim), whole=False, keeps=False)
_reduction("softmax", lambda lib, x, dim: lib.functional.softmax(x, dim=dim), whole=False)
_reduction("log_softmax", lambda lib, x, dim: lib.functional.log_softmax(x, dim=dim), whole=False)


# ---- shapes -------------------------------------------------------------------------------------------------------------------------
def _shaped(name: str, run: Callable[..., Any], attributes: Callable[[Draws, Any], dict[str, Any] | None], *, rank: int = 1,
            view: bool = False) -> None:
    def choose(g: Draws) -> Any:
        x = g.pick(lambda v: v.ndim >= rank)
        chosen = None if x is None else attributes(g, g.value(x))
        return None if chosen is None else ((x,), chosen)

    KINDS[name] = Kind(run, choose, view=view, keeps=False)


def _axis(g: Draws, x: Any) -> dict[str, Any]:
    return {"dim": int(g.rng.integers(-x.ndim, x.ndim))}


def _split_in_two(g: Draws, x: Any) -> dict[str, Any]:
    factors = [n for n in range(1, x.size + 1) if x.size % n == 0]
    first = int(g.rng.choice(factors))
    return {"shape": (first, x.size // first)}


def _run_of_rows(g: Draws, x: Any) -> dict[str, Any]:
    start = int(g.rng.integers(x.shape[0]))
    return {"start": start, "stop": int(g.rng.integers(start, x.shape[0])) + 1}


def _some_places(g: Draws, x: Any) -> dict[str, Any]:
    axis = int(g.rng.integers(x.ndim))
    return {"dim": axis, "index": tuple(int(i) for i in g.rng.integers(0, x.shape[axis], int(g.rng.integers(1, 6))))}


_shaped("reshape", lambda lib, x, shape: x.reshape(shape), _split_in_two, view=True)
_shaped("flatten", lambda lib, x: x.flatten(), lambda g, x: {}, view=True)
_shaped("unsqueeze", lambda lib, x, dim: x.unsqueeze(dim), lambda g, x: _axis(g, x) if x.ndim < 4 else None, view=True)
_shaped("row", lambda lib, x, at: x[at], lambda g, x: {"at": int(g.rng.integers(-len(x), len(x)))}, view=True)
_shaped("rows", lambda lib, x, start, stop: x[start:stop], _run_of_rows, view=True)
_shaped("narrow", lambda lib, x, start, length: x.narrow(0, start, length),
        lambda g, x: {"start": int(g.rng.integers(len(x))), "length": 1}, view=True)
_shaped("steps", lambda lib, x: x[..., ::2], lambda g, x: {}, view=True)
_shaped("column", lambda lib, x, at: x[:, at], lambda g, x: {"at": int(g.rng.integers(x.shape[1]))}, rank=2, view=True)
_shaped("transpose", lambda lib, x: x.transpose(-1, -2), lambda g, x: {}, rank=2, view=True)
_shaped("permute", lambda lib, x, axes: x.permute(*axes), lambda g, x: {"axes": tuple(int(i) for i in g.rng.permutation(x.ndim))}, rank=2, view=True)
_shaped("expand", lambda lib, x, times: x.unsqueeze(0).expand(times, *x.shape), lambda g, x: {"times": int(g.rng.integers(2, 4))}, view=True)
_shaped("flip", lambda lib, x, dim: x.flip(dim), _axis)
_shaped("roll", lambda lib, x, dim: x.roll(1, dim), _axis)
_shaped("repeat", lambda lib, x: x.repeat(*(2,) * x.ndim), lambda g, x: {})
_shaped("tril", lambda lib, x: lib.core.tril(x), lambda g, x: {}, rank=2)
_shaped("index_select", lambda lib, x, dim, index: x.index_select(dim, lib.tensor(np.array(index))), _some_places)
_shaped("take", lambda lib, x, dim, index: x[(*(slice(None),) * dim, lib.tensor(np.array(index)))], _some_places)
_shaped("chunk", lambda lib, x: x.chunk(2, -1)[0], lambda g, x: {}, view=True)


def _joins(g: Draws) -> Any:
    x = g.pick(lambda v: v.ndim > 0)
    if x is None:
        return None
    shape = g.value(x).shape
    others = [y for y in (g.pick(lambda v: v.shape == shape) for _ in range(int(g.rng.integers(1, 3)))) if y is not None]
    return (x, *others), {"dim": int(g.rng.integers(-len(shape), len(shape)))}


def _gathers(g: Draws) -> Any:
    x = g.pick(lambda v: v.ndim > 0)
    if x is None:
        return None
    shape = g.value(x).shape
    axis = int(g.rng.integers(len(shape)))
    return (x,), {"dim": axis, "index": g.rng.integers(0, shape[axis], (*shape[:axis], 2, *shape[axis + 1:])).tolist()}


def _masks(g: Draws) -> Any:
    x = g.pick()
    return None if x is None else ((x,), {"seed": int(g.rng.integers(1000)), "value": _factor(g)})


def _mask(lib: Lib, x: Any, seed: int) -> Any:
    return lib.tensor(np.random.default_rng(seed).random(tuple(x.shape)) < 0.5)


KINDS["cat"] = Kind(lambda lib, *parts, dim: lib.core.cat(parts, dim), _joins, keeps=False)
KINDS["stack"] = Kind(lambda lib, *parts, dim: lib.core.stack(parts, dim), _joins, keeps=False)
KINDS["gather"] = Kind(lambda lib, x, dim, index: x.gather(dim, lib.tensor(np.array(index))), _gathers)
KINDS["masked_fill"] = Kind(lambda lib, x, seed, value: x.masked_fill(_mask(lib, x, seed), value), _masks, keeps=False)


# ---- layers and losses --------------------------------------------------------------------------------------------------------------
def _matrices(g: Draws) -> Any:
    x = g.pick(lambda v: v.ndim == 2)
    if x is None:
        return None
    y = g.pick(lambda v: v.ndim == 2 and v.shape[0] == g.value(x).shape[1])
    return (x, g.leaf((g.value(x).shape[1], int(g.rng.choice(LENGTHS)))) if y is None else y), {}


def _layer(g: Draws) -> Any:
    x = g.pick(lambda v: v.ndim == 2)
    if x is None:
        return None
    out = int(g.rng.choice(LENGTHS))
    return (x, g.leaf((out, g.value(x).shape[1])), g.leaf((out,))), {}


def _normalised(least: Callable[[Any], Any]) -> Callable[[Draws], Any]:
    def choose(g: Draws) -> Any:
        x = g.pick(lambda v: v.ndim == 2 and min(v.shape) > 1 and bool((least(v) > 0.1).all()))
        return None if x is None else ((x, *(g.leaf(g.value(x).shape[1:]) for _ in range(2))), {})

    return choose


def _of_targets(g: Draws) -> Any:
    x = g.pick()
    y = None if x is None else g.pick(lambda v: v.shape == g.value(x).shape and _are_far(np.abs(v - g.value(x)), 1.0))
    return None if x is None else ((x, g.leaf(g.value(x).shape) if y is None else y), {})


def _of_labels(g: Draws) -> Any:
    x = g.pick(lambda v: v.ndim == 2)
    return None if x is None else ((x,), {"labels": tuple(int(i) for i in g.rng.integers(0, g.value(x).shape[1], len(g.value(x))))})


KINDS["matmul"] = Kind(lambda lib, x, y: x @ y, _matrices)
KINDS["linear"] = Kind(lambda lib, x, w, b: lib.functional.linear(x, w, b), _layer)
KINDS["layer_norm"] = Kind(lambda lib, x, w, b: lib.functional.layer_norm(x, tuple(w.shape), w, b), _normalised(lambda v: v.std(1)))
KINDS["batch_norm"] = Kind(lambda lib, x, w, b: lib.functional.batch_norm(x, None, None, w, b, training=True), _normalised(lambda v: v.std(0)))
KINDS["mse_loss"] = Kind(lambda lib, x, y: lib.functional.mse_loss(x, y), _of_targets)
KINDS["smooth_l1_loss"] = Kind(lambda lib, x, y: lib.functional.smooth_l1_loss(x, y), _of_targets)
KINDS["logits_loss"] = Kind(lambda lib, x, y: lib.functional.binary_cross_entropy_with_logits(x, y.sigmoid()), _of_targets)
KINDS["cross_entropy"] = Kind(lambda lib, x, labels: lib.functional.cross_entropy(x, lib.tensor(np.array(labels))), _of_labels)


# ---- in place -----------------------------------------------------------------------------------------------------------------------
def _write(name: str, run: Callable[..., Any], *, operand: bool, fused: tuple[str, ...] = (), keeps: bool = False, low: float = -math.inf,
           attributes: Callable[[Draws, Any], dict[str, Any] | None] = lambda g, x: {}, part: Callable[[Any, dict[str, Any]], Any] | None = None,
           rank: int = 0) -> None:
    def choose(g: Draws) -> Any:
        x = g.writable(lambda v: v.ndim >= rank)
        chosen = None if x is None else attributes(g, g.value(x))
        if x is None or chosen is None or not operand:
            return None if chosen is None else ((x,), chosen)
        shape = (g.value(x) if part is None else part(g.value(x), chosen)).shape
        y = g.pick(lambda v: _fit(v.shape, shape) and bool((v >= low).all()))
        y = g.leaf(shape) if y is None and low < 0 else y
        return None if y is None else ((x, y), chosen)

    KINDS[name] = Kind(run, choose, fused, writes=True, keeps=keeps)


def _fit(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) <= len(wanted) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(wanted), strict=False))


def _set(lib: Lib, x: Any, key: Any, value: Any) -> Any:
    x[key] = value
    return x


_write("add_", lambda lib, x, y: x.add_(y), operand=True, fused=("add",))
_write("sub_", lambda lib, x, y: x.sub_(y), operand=True, fused=("sub",))
_write("mul_", lambda lib, x, y: x.mul_(y), operand=True, fused=("mul",), keeps=True)
_write("div_", lambda lib, x, y: x.div_(y), operand=True, fused=("div",), keeps=True, low=0.25)
_write("copy_", lambda lib, x, y: x.copy_(y.expand(tuple(x.shape))), operand=True)
_write("scale_", lambda lib, x, by: x.mul_(by), operand=False, fused=("scale", "mul"), attributes=lambda g, x: {"by": _factor(g)})
_write("shift_", lambda lib, x, by: x.add_(by), operand=False, fused=("shift", "add"), attributes=lambda g, x: {"by": _factor(g)})
_write("neg_", lambda lib, x: x.neg_(), operand=False, fused=("neg",))
_write("tanh_", lambda lib, x: x.tanh_(), operand=False, fused=("tanh",), keeps=True)
_write("sigmoid_", lambda lib, x: x.sigmoid_(), operand=False, fused=("sigmoid",), keeps=True)
_write("zero_", lambda lib, x: x.zero_(), operand=False)
_write("fill_", lambda lib, x, value: x.fill_(value), operand=False, attributes=lambda g, x: {"value": _factor(g)})
_write("masked_fill_", lambda lib, x, seed, value: x.masked_fill_(_mask(lib, x, seed), value), operand=False,
       attributes=lambda g, x: {"seed": int(g.rng.integers(1000)), "value": _factor(g)})
_write("set_rows", lambda lib, x, y, start, stop: _set(lib, x, slice(start, stop), y), operand=True, attributes=_run_of_rows, rank=1,
       part=lambda x, a: x[a["start"]:a["stop"]])
_write("set_steps", lambda lib, x, y: _set(lib, x, (..., slice(None, None, 2)), y), operand=True, rank=1, part=lambda x, a: x[..., ::2])
_write("set_number", lambda lib, x, at, value: _set(lib, x, at, value), operand=False, rank=1,
       attributes=lambda g, x: {"at": int(g.rng.integers(len(x))), "value": _factor(g)})
_write("set_places", lambda lib, x, y, index: _set(lib, x, lib.tensor(np.array(index)), y), operand=True, rank=1,
       attributes=lambda g, x: {"index": tuple(int(i) for i in g.rng.permutation(len(x))[:2])}, part=lambda x, a: x[list(a["index"])])
