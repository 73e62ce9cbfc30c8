"""Programs drawn at random, with values in safe ranges, that minigrad and PyTorch can both run from one list of instructions.

minigrad's slices with a step, transposes and repetitions are copies where PyTorch's are views, so PyTorch is given `clone` behind them:
what shares memory is the same in both.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg

#: Values stay within this, and as far from a kink or a tie.
LARGEST, GAP = 8.0, 1e-3
#: Elements of the largest value, and lengths of axes: around a vector's width, and ones that broadcast.
MOST, LENGTHS = 600, (1, 2, 3, 4, 5, 8, 17)
FEATURES = ("fused", "view", "reused", "in-place", "no-grad")


class Node(NamedTuple):
    """One instruction: its operands are places of earlier ones; a leaf has none."""

    op: str
    inputs: tuple[int, ...]
    attributes: dict[str, Any]
    grad: bool  # False: under no_grad

    def __str__(self) -> str:
        given = [*(f"v{i}" for i in self.inputs), *(f"{name}={value!r}" for name, value in self.attributes.items())]
        return f"{self.op}({', '.join(given)}){'' if self.grad else '  # no_grad'}"


Program = list[Node]


def listing(program: Program) -> str:
    """The program, to be read."""
    return "\n".join(f"v{at} = {node}" for at, node in enumerate(program))


# ---- ops ----------------------------------------------------------------------------------------------------------------------------
class Lib(NamedTuple):
    """A library: its module, its functional module, and how it makes a Tensor of an array."""

    core: Any
    functional: Any
    tensor: Callable[[Any], Any]
    copies: bool  # whether what minigrad copies has to be cloned


def _torch_like(x: Any, lib: Lib) -> Any:
    return x.clone() if lib.copies else x


@dataclass(frozen=True)
class Kind:
    """How an op is run, which operands it takes, and what else has to be known of it."""

    run: Callable[..., Any]  # of (lib, *inputs, **attributes)
    choose: Callable[[Generator], tuple[tuple[int, ...], dict[str, Any]] | None]
    fused: tuple[str, ...] = ()  # names of the elementwise ops that it may be part of a chain as
    copies: bool = False  # a view in PyTorch, a copy in minigrad
    view: bool = False
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
           fused: tuple[str, ...] | None = None, **attributes: Callable[[Generator], Any]) -> None:
    def choose(g: Generator) -> Any:
        x = g.pick(lambda v: bool((v >= low).all() and (v <= high).all()) and _is_far(v, *kinks), prepare=(low, high))
        return None if x is None else ((x,), {key: draw(g) for key, draw in attributes.items()})

    KINDS[name] = Kind(run, choose, (name,) if fused is None else fused, keeps=keeps)


def _factor(g: Generator) -> float:
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
    def choose(g: Generator) -> Any:
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
    def choose(g: Generator) -> Any:
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
def _shaped(name: str, run: Callable[..., Any], attributes: Callable[[Generator, Any], dict[str, Any] | None], *, rank: int = 1, copies: bool = False,
            view: bool = False) -> None:
    def choose(g: Generator) -> Any:
        x = g.pick(lambda v: v.ndim >= rank)
        chosen = None if x is None else attributes(g, g.value(x))
        return None if chosen is None else ((x,), chosen)

    KINDS[name] = Kind(run, choose, copies=copies, view=view, keeps=False)


def _axis(g: Generator, x: Any) -> dict[str, Any]:
    return {"dim": int(g.rng.integers(-x.ndim, x.ndim))}


def _split_in_two(g: Generator, x: Any) -> dict[str, Any]:
    factors = [n for n in range(1, x.size + 1) if x.size % n == 0]
    first = int(g.rng.choice(factors))
    return {"shape": (first, x.size // first)}


def _run_of_rows(g: Generator, x: Any) -> dict[str, Any]:
    start = int(g.rng.integers(x.shape[0]))
    return {"start": start, "stop": int(g.rng.integers(start, x.shape[0])) + 1}


def _some_places(g: Generator, x: Any) -> dict[str, Any]:
    axis = int(g.rng.integers(x.ndim))
    return {"dim": axis, "index": tuple(int(i) for i in g.rng.integers(0, x.shape[axis], int(g.rng.integers(1, 6))))}


_shaped("reshape", lambda lib, x, shape: x.reshape(shape), _split_in_two, view=True)
_shaped("flatten", lambda lib, x: x.flatten(), lambda g, x: {}, view=True)
_shaped("unsqueeze", lambda lib, x, dim: x.unsqueeze(dim), lambda g, x: _axis(g, x) if x.ndim < 4 else None, view=True)
_shaped("row", lambda lib, x, at: x[at], lambda g, x: {"at": int(g.rng.integers(-len(x), len(x)))}, view=True)
_shaped("rows", lambda lib, x, start, stop: x[start:stop], _run_of_rows, view=True)
_shaped("narrow", lambda lib, x, start, length: x.narrow(0, start, length),
        lambda g, x: {"start": int(g.rng.integers(len(x))), "length": 1}, view=True)
_shaped("steps", lambda lib, x: x[..., ::2], lambda g, x: {}, copies=True)
_shaped("column", lambda lib, x, at: x[:, at], lambda g, x: {"at": int(g.rng.integers(x.shape[1]))}, rank=2, copies=True)
_shaped("transpose", lambda lib, x: x.transpose(-1, -2), lambda g, x: {}, rank=2, copies=True)
_shaped("permute", lambda lib, x, axes: x.permute(*axes), lambda g, x: {"axes": tuple(int(i) for i in g.rng.permutation(x.ndim))}, rank=2, copies=True)
_shaped("expand", lambda lib, x, times: x.unsqueeze(0).expand(times, *x.shape), lambda g, x: {"times": int(g.rng.integers(2, 4))}, copies=True)
_shaped("flip", lambda lib, x, dim: x.flip(dim), _axis)
_shaped("roll", lambda lib, x, dim: x.roll(1, dim), _axis)
_shaped("repeat", lambda lib, x: x.repeat(*(2,) * x.ndim), lambda g, x: {})
_shaped("tril", lambda lib, x: lib.core.tril(x), lambda g, x: {}, rank=2)
_shaped("index_select", lambda lib, x, dim, index: x.index_select(dim, lib.tensor(np.array(index))), _some_places)
_shaped("take", lambda lib, x, dim, index: x[(*(slice(None),) * dim, lib.tensor(np.array(index)))], _some_places)
_shaped("chunk", lambda lib, x: x.chunk(2, -1)[0], lambda g, x: {}, copies=True)


def _joins(g: Generator) -> Any:
    x = g.pick(lambda v: v.ndim > 0)
    if x is None:
        return None
    shape = g.value(x).shape
    others = [y for y in (g.pick(lambda v: v.shape == shape) for _ in range(int(g.rng.integers(1, 3)))) if y is not None]
    return (x, *others), {"dim": int(g.rng.integers(-len(shape), len(shape)))}


def _gathers(g: Generator) -> Any:
    x = g.pick(lambda v: v.ndim > 0)
    if x is None:
        return None
    shape = g.value(x).shape
    axis = int(g.rng.integers(len(shape)))
    return (x,), {"dim": axis, "index": g.rng.integers(0, shape[axis], (*shape[:axis], 2, *shape[axis + 1:])).tolist()}


def _masks(g: Generator) -> Any:
    x = g.pick()
    return None if x is None else ((x,), {"seed": int(g.rng.integers(1000)), "value": _factor(g)})


def _mask(lib: Lib, x: Any, seed: int) -> Any:
    return lib.tensor(np.random.default_rng(seed).random(tuple(x.shape)) < 0.5)


KINDS["cat"] = Kind(lambda lib, *parts, dim: lib.core.cat(parts, dim), _joins, keeps=False)
KINDS["stack"] = Kind(lambda lib, *parts, dim: lib.core.stack(parts, dim), _joins, keeps=False)
KINDS["gather"] = Kind(lambda lib, x, dim, index: x.gather(dim, lib.tensor(np.array(index))), _gathers, keeps=False)
KINDS["masked_fill"] = Kind(lambda lib, x, seed, value: x.masked_fill(_mask(lib, x, seed), value), _masks, keeps=False)


# ---- layers and losses --------------------------------------------------------------------------------------------------------------
def _matrices(g: Generator) -> Any:
    x = g.pick(lambda v: v.ndim == 2)
    if x is None:
        return None
    y = g.pick(lambda v: v.ndim == 2 and v.shape[0] == g.value(x).shape[1])
    return (x, g.leaf((g.value(x).shape[1], int(g.rng.choice(LENGTHS)))) if y is None else y), {}


def _layer(g: Generator) -> Any:
    x = g.pick(lambda v: v.ndim == 2)
    if x is None:
        return None
    out = int(g.rng.choice(LENGTHS))
    return (x, g.leaf((out, g.value(x).shape[1])), g.leaf((out,))), {}


def _normalised(least: Callable[[Any], Any]) -> Callable[[Generator], Any]:
    def choose(g: Generator) -> Any:
        x = g.pick(lambda v: v.ndim == 2 and min(v.shape) > 1 and bool((least(v) > 0.1).all()))
        return None if x is None else ((x, *(g.leaf(g.value(x).shape[1:]) for _ in range(2))), {})

    return choose


def _of_targets(g: Generator) -> Any:
    x = g.pick()
    y = None if x is None else g.pick(lambda v: v.shape == g.value(x).shape and _are_far(np.abs(v - g.value(x)), 1.0))
    return None if x is None else ((x, g.leaf(g.value(x).shape) if y is None else y), {})


def _of_labels(g: Generator) -> Any:
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
           attributes: Callable[[Generator, Any], dict[str, Any] | None] = lambda g, x: {}, part: Callable[[Any, dict[str, Any]], Any] | None = None,
           rank: int = 0) -> None:
    def choose(g: Generator) -> Any:
        x = g.writable(lambda v: v.ndim >= rank)
        chosen = None if x is None else attributes(g, g.value(x))
        if x is None or chosen is None:
            return None
        if not operand:
            return (x,), chosen
        shape = (g.value(x) if part is None else part(g.value(x), chosen)).shape
        y = g.pick(lambda v: v.ndim <= len(shape) and bool((v >= low).all()) and np.broadcast_shapes(v.shape, shape) == shape
                   if _fit(v.shape, shape) else False)
        return (x, g.leaf(shape) if y is None and low < 0 else y) if y is not None or low < 0 else None, chosen

    def checked(g: Generator) -> Any:
        found = choose(g)
        return None if found is None or found[0] is None else found

    KINDS[name] = Kind(run, checked, fused, writes=True, keeps=keeps)


def _fit(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(n in (1, m) for n, m in zip(reversed(shape), reversed(wanted), strict=False))


def _set(lib: Lib, x: Any, key: Any, value: Any) -> Any:
    x[key] = value
    return x


_write("add_", lambda lib, x, y: x.add_(y), operand=True, fused=("add",))
_write("sub_", lambda lib, x, y: x.sub_(y), operand=True, fused=("sub",))
_write("mul_", lambda lib, x, y: x.mul_(y), operand=True, fused=("mul",), keeps=True)
_write("div_", lambda lib, x, y: x.div_(y), operand=True, fused=("div",), keeps=True, low=0.25)
_write("copy_", lambda lib, x, y: x.copy_(y.expand(*x.shape)), operand=True)
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


# ---- running ------------------------------------------------------------------------------------------------------------------------
def leaf_array(attributes: dict[str, Any]) -> Any:
    """The numbers of a leaf."""
    return np.random.default_rng(attributes["seed"]).uniform(-1.5, 1.5, attributes["shape"])


def perform(lib: Lib, node: Node, values: list[Any]) -> Any:
    """The result of one instruction."""
    kind = KINDS[node.op]
    given = [values[i] for i in node.inputs]
    if lib.copies and kind.writes:
        given[1:] = [x.clone() for x in given[1:]]  # PyTorch refuses to read what it writes
    if node.grad:
        out = kind.run(lib, *given, **node.attributes)
    else:
        with lib.core.no_grad():
            out = kind.run(lib, *given, **node.attributes)
    return out.clone() if lib.copies and kind.copies else out


def run(lib: Lib, program: Program, leaves: dict[int, Any], moved: Any = None) -> list[Any]:
    """Every value of the program, after the last instruction. `moved` is added to the first leaf."""
    values: list[Any] = []
    for at, node in enumerate(program):
        values.append(leaves[at] if node.op == "leaf" else perform(lib, node, values))
        if node.op == "leaf" and at == 0 and moved is not None:
            values[0] = values[0] + moved
    return values


def loss(lib: Lib, program: Program, values: list[Any], leaves: dict[int, Any]) -> Any:
    """A weighted sum of what nobody used, of everything that shares memory with what was written, and a little of each leaf."""
    used = {i for node in program for i in node.inputs}
    written = {i for at, node in enumerate(program) if node.op != "leaf" and KINDS[node.op].writes for i in (at, *node.inputs[:1])}
    changed = True
    while changed:  # views of what was written, and what they are views of
        more = {i for at, node in enumerate(program) if node.op != "leaf" and (KINDS[node.op].view or KINDS[node.op].writes or node.op == "detach")
                for pair in ((at, node.inputs[0]),) if written & {*pair} for i in pair}
        changed = not more <= written
        written |= more
    total = None
    for at, (node, value) in enumerate(zip(program, values, strict=True)):
        if node.op != "argmax" and (at not in used or at in written):
            shape = tuple(value.shape)
            weights = np.cos(np.arange(math.prod(shape)) + at).reshape(shape) / max(1.0, math.sqrt(math.prod(shape)))
            term = (value * lib.tensor(weights.astype(str(value.dtype).rpartition(".")[2]))).sum()
            total = term if total is None else total + term
    for leaf in leaves.values():
        term = leaf.sum() * 0.125
        total = term if total is None else total + term
    return total


# ---- drawing ------------------------------------------------------------------------------------------------------------------------
@dataclass
class Memory:
    """What values share."""

    leaf: bool = False
    kept: bool = False  # a rule may need what is in it now
    written: bool = False
    locked: bool = False  # shared in a way in which PyTorch refuses to write
    values: list[int] = field(default_factory=list)


#: Drawn twice as often, as what they need is not always there.
SELDOM = ("batch_norm", "batch_norm", "layer_norm", "linear", "matmul", "cross_entropy", "std", "norm", "var", "cumsum", "argmax", "div_", "column")
MINIGRAD = Lib(mg, mg.nn.functional, mg.tensor, copies=False)


class Generator:
    """Draws a program, running it as it grows, so that ranges, kinks and ties are known."""

    def __init__(self, seed: int, plain: bool = False) -> None:
        self.rng = np.random.default_rng([seed, 4])
        self.plain = plain  # without what hides from a derivative: no_grad and detach
        self.program: Program = []
        self.values: list[Any] = []
        self.memories: list[Memory] = []
        self.uses: list[int] = []
        self.cut: list[bool] = []  # does not depend on a leaf any more
        self.size = 3 + int(58 * math.sqrt(self.rng.random()))
        for _ in range(int(self.rng.integers(1, 3))):
            self.leaf(tuple(int(n) for n in self.rng.choice(LENGTHS, int(self.rng.integers(1, 4)))))
        deck: list[str] = []
        names = [*(name for name in KINDS if not (plain and name == "detach")), *SELDOM]
        while len(self.program) < self.size:
            if not deck:
                deck = [str(name) for name in self.rng.permutation(names)]
            self.draw(deck.pop())

    # ---- what ops ask
    def value(self, at: int) -> Any:
        return self.values[at].array

    def pick(self, fits: Callable[[Any], bool] = lambda v: True, prepare: tuple[float, float] | None = None) -> int | None:
        """The place of a value; those with something special about them more often."""
        fitting = [i for i, v in enumerate(self.values) if v.dtype == mg.float64 and fits(v.array)]
        if not fitting and prepare is not None:
            low, high = prepare
            made = self.add("sigmoid", (int(self.rng.integers(len(self.values))),), {}) if low > 0 or high < LARGEST else None
            made = self.add("shift", (made,), {"by": 0.25}) if low > 0 and made is not None else made
            fitting = [] if made is None else [made]
        if not fitting:
            return None
        want = int(self.rng.choice(5, p=(0.4, 0.2, 0.15, 0.1, 0.15)))
        special = [i for i in fitting if (len(self.memories[i].values) > 1, self.memories[i].written, self.cut[i], self.uses[i] > 0, True)[want]]
        at = int(self.rng.choice(special or fitting))
        return at if special or len(self.program) + 4 > self.size else self.made_special(at, want)

    def made_special(self, at: int, want: int) -> int:
        """The same numbers as a view, written in place, or cut off from the leaves."""
        if want == 0:
            return self.same("reshape", at, shape=self.value(at).shape)
        if want == 1:
            return self.same("neg_", self.same("neg", at))
        return self.same("detach", at) if want == 2 and not self.plain else at

    def same(self, name: str, at: int, **attributes: Any) -> int:
        made = self.add(name, (at,), attributes)
        return at if made is None else made

    def beside(self, x: int, fits: Callable[[Any, Any], bool], prepare: tuple[float, float]) -> int | None:
        """The place of a value that broadcasts with x."""
        a = self.value(x)

        def both(v: Any) -> bool:
            try:
                return math.prod(np.broadcast_shapes(a.shape, v.shape)) <= MOST and fits(a, v)
            except ValueError:
                return False

        found = self.pick(both)
        if found is not None or prepare[0] == -math.inf:
            return found
        raised = self.add("sigmoid", (x,), {})
        return None if raised is None else self.add("shift", (raised,), {"by": 0.25})

    def writable(self, fits: Callable[[Any], bool]) -> int | None:
        free = [i for i, memory in enumerate(self.memories)
                if not (memory.leaf or memory.kept or memory.locked) and self.values[i].dtype == mg.float64 and fits(self.values[i].array)]
        if not free:
            source = self.pick(fits)
            return None if source is None else self.add("scale", (source,), {"by": 0.75})
        at = int(self.rng.choice([i for i in free if len(self.memories[i].values) > 1] or free))
        return at if self.rng.integers(2) else self.same("reshape", at, shape=self.value(at).shape)

    def leaf(self, shape: tuple[int, ...]) -> int:
        attributes = {"shape": shape, "seed": [int(self.rng.integers(2**31))]}
        self._append(Node("leaf", (), attributes, True), mg.tensor(leaf_array(attributes)), Memory(leaf=True), False)
        return len(self.program) - 1

    # ---- growing
    def draw(self, name: str) -> None:
        found = KINDS[name].choose(self)
        if found is not None:
            self.add(name, *found, grad=self.plain or self.rng.integers(7) > 0)

    def add(self, name: str, inputs: tuple[int, ...], attributes: dict[str, Any], grad: bool = True) -> int | None:
        """Run an instruction, and keep it if what it gives is in range."""
        kind, node = KINDS[name], Node(name, inputs, attributes, grad)
        memory = self.memories[inputs[0]]
        if any(self.values[i].dtype != mg.float64 for i in inputs):
            return None
        before = [self.values[i].array.copy() for i in memory.values] if kind.writes else []
        with mg.no_grad():
            out = perform(MINIGRAD, node, self.values)
        if out.numel() > MOST or out.numel() == 0 or not bool((np.abs(out.array) <= LARGEST).all()):
            for i, array in zip(memory.values, before, strict=False):
                self.values[i].array[...] = array
            return None
        shares = kind.view or kind.writes or name == "detach"
        if kind.view and (not grad or name == "detach"):
            memory.locked = True
        if name == "detach":
            memory.locked = True
        if kind.writes:
            memory.written = True
        if kind.keeps and grad:
            for i in inputs:
                self.memories[i].kept = True
        mine = memory if shares else Memory()
        mine.kept |= kind.keeps and grad
        cut = not grad and not kind.writes or name in ("detach", "argmax") or all(self.cut[i] for i in inputs)
        for i in inputs:
            self.uses[i] += 1
        self._append(node, out, mine, cut)
        return len(self.program) - 1

    def _append(self, node: Node, value: Any, memory: Memory, cut: bool) -> None:
        memory.values.append(len(self.program))
        self.program.append(node)
        self.values.append(value)
        self.memories.append(memory)
        self.uses.append(0)
        self.cut.append(cut)


def drawn(seed: int, plain: bool = False) -> Program:
    """The program of a seed, of 3 to 60 instructions and what they need."""
    return Generator(seed, plain).program


# ---- what a program has in it -------------------------------------------------------------------------------------------------------
def possible(feature: str, op: str) -> bool:
    """Whether an op can have a feature at all."""
    if op == "leaf":
        return False
    return bool(KINDS[op].fused) if feature == "fused" else True


def features(program: Program) -> Iterator[tuple[str, str]]:
    """(op, feature) for each instruction that has it; `fused` is known only of a compiled program."""
    memory: list[int] = []
    shared: dict[int, int] = {}
    uses = [0] * len(program)
    written: set[int] = set()
    cut: list[bool] = []
    for node in program:
        for i in set(node.inputs):
            uses[i] += 1
    for at, node in enumerate(program):
        kind = KINDS.get(node.op)
        shares = kind is not None and (kind.view or kind.writes or node.op == "detach")
        memory.append(memory[node.inputs[0]] if shares else at)
        cut.append(kind is not None and (not node.grad and not kind.writes or node.op == "detach" or all(cut[i] for i in node.inputs)))
        if kind is None:
            continue
        if kind.writes:
            written.add(memory[at])
        places = {memory[i] for i in node.inputs}
        if kind.view or any(shared.get(m, 0) for m in places):
            yield node.op, "view"
        if kind.view:
            shared[memory[at]] = shared.get(memory[at], 0) + 1
        if any(uses[i] > 1 for i in node.inputs):
            yield node.op, "reused"
        if places & written:
            yield node.op, "in-place"
        if not node.grad or any(cut[i] for i in node.inputs):
            yield node.op, "no-grad"


# ---- shrinking ----------------------------------------------------------------------------------------------------------------------
def without(program: Program, at: int) -> Program | None:
    """The program less one instruction; what used its result uses its first operand's. None if there is nothing in its place."""
    node = program[at]
    uses = any(at in other.inputs for other in program)
    if uses and not node.inputs:
        return None

    def moved(i: int) -> int:
        i = node.inputs[0] if i == at else i
        return i - (i > at)

    return [replace_inputs(other, tuple(moved(i) for i in other.inputs)) for i, other in enumerate(program) if i != at]


def replace_inputs(node: Node, inputs: tuple[int, ...]) -> Node:
    return node._replace(inputs=inputs)


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that fails still, from which no instruction can be left out."""
    smaller = True
    while smaller:
        smaller = False
        for at in reversed(range(len(program))):
            shorter = without(program, at)
            if shorter and fails(shorter):
                program, smaller = shorter, True
                break
    return program


__all__ = ["FEATURES", "KINDS", "replace"]
