"""Small mistakes in the rules of ops, made one at a time in their syntax trees, and the checks that should find them.

A rule is a vector-Jacobian product, or a function of the ops' modules that one calls. A mutant is put in its place by giving the function
other code, so that whoever has imported it runs the mutant too.
"""
from __future__ import annotations
import __future__

import ast
import copy
import inspect
import textwrap
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import standard
from minigrad.ops.op import Op, registry
from minigrad.ops.powers import power
from tests.ops.test_every_op import OPS, STEP, Array, along, cases, directions, evaluate, first_derivative, moved, split

#: Ops that one check may run; a mutant that wants more never ends.
MOST_CALLS = 4000
#: What takes the same arguments: one written for another is a mistake that nothing but numbers shows.
SIBLINGS = (
    ("add", "sub"), ("mul", "div"), ("div_or_zero", "div", "mul"), ("sum", "mean"), ("total", "mean"), ("average", "sum"), ("exp", "log", "neg"),
    ("sin", "cos"),
    ("matmul_nn", "matmul_nt", "matmul_tn"), ("bmm_nn", "bmm_nt", "bmm_tn"), ("take_rows", "clear_rows"),
    ("relu_grad", "sigmoid_grad", "tanh_grad", "logsigmoid_grad"),
    ("eq", "ne"), ("ge", "gt", "le", "lt"), ("logical_and", "logical_or"), ("square", "sqrt", "neg"), ("sign", "abs"), ("softmax", "log_softmax"),
    ("ones", "zeros"), ("scale", "shift"), ("maximum", "minimum"), ("sigmoid", "tanh"), ("silu_grad", "gelu_grad", "gelu_tanh_grad"),
)
#: Exchanging their arguments changes no bit.
COMMUTATIVE = ("add", "mul", "eq", "ne", "equals", "logical_and", "maximum", "minimum", "max", "min")
#: Where mutants find ops that their module does not import.
LIBRARY = types.SimpleNamespace(**registry, ones=standard.ones, zeros=standard.zeros)
ARITHMETIC: dict[type, Any] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add}
COMPARISONS: dict[type, Any] = {
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Lt: [ast.LtE, ast.GtE], ast.Gt: [ast.GtE, ast.LtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.GtE: [ast.Gt, ast.Lt], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In]}


@dataclass
class Rule:
    """Functions of one code, and the ops whose derivatives run it."""

    label: str
    functions: list[types.FunctionType]
    ops: list[Op] = field(default_factory=list)

    def tree(self) -> ast.FunctionDef:
        """The function without decorators and docstring."""
        found = ast.parse(textwrap.dedent(inspect.getsource(self.functions[0]))).body[0]
        assert isinstance(found, ast.FunctionDef)
        found.decorator_list = []
        if ast.get_docstring(found) is not None:
            del found.body[0]
        return found

    def digest(self) -> str:
        """Changes with what the rule says, not with how it is laid out."""
        return f"{zlib.crc32(ast.unparse(self.tree()).encode()):08x}"


@dataclass(frozen=True)
class Mutant:
    """A rule with one mistake."""

    rule: Rule = field(repr=False)
    lines: str  # those that differ, with their numbers
    code: types.CodeType = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.rule.label}: {self.lines}"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The rule's functions run the mutant."""
        for op in self.rule.ops:
            probes(op.name)  # what is expected does not come from a mutant
        functions = self.rule.functions
        before = [function.__code__ for function in functions]
        try:
            for function in functions:
                function.__globals__["LIBRARY"] = LIBRARY
                function.__code__ = self.code
            yield
        finally:
            for function, code in zip(functions, before, strict=True):
                function.__code__ = code
                function.__globals__.pop("LIBRARY", None)


# ---- rules --------------------------------------------------------------------------------------------------------------------------
def _called(code: types.CodeType, space: dict[str, Any]) -> Iterator[types.FunctionType]:
    """Functions of the ops' modules that the code names, those of shape rules left out."""
    for name in code.co_names:
        found = space.get(name)
        module = getattr(found, "__module__", None) or ""
        if isinstance(found, types.FunctionType) and module.startswith("minigrad.ops.") and not module.startswith("minigrad.ops.rules"):
            yield found
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _called(inner, space)


def rules(ops: list[Op] = OPS) -> list[Rule]:
    """Every rule of the ops, and every function that one calls, once."""
    found: dict[types.CodeType, Rule] = {}

    def visit(function: types.FunctionType, label: str, op: Op) -> None:
        rule = found.setdefault(function.__code__, Rule(label, []))
        if function not in rule.functions:
            rule.functions.append(function)
        if op not in rule.ops:
            rule.ops.append(op)
            for other in _called(function.__code__, function.__globals__):
                visit(other, f"{other.__module__.removeprefix('minigrad.ops.')}.{other.__name__}()", op)

    for op in ops:
        for name, vjp in zip(op.inputs, op.vjps, strict=True):
            if vjp is not None:
                assert isinstance(vjp.function, types.FunctionType)
                visit(vjp.function, f"{op.name}.{name}", op)
    return list(found.values())


# ---- mistakes -----------------------------------------------------------------------------------------------------------------------
def _alike(tree: ast.FunctionDef) -> dict[str, list[str]]:
    """For each variable of the function those that could stand for it: values, specs or attributes. Locals may stand for anything."""
    kinds = {a.arg: {"Value": "value", "Spec": "spec"}.get(ast.unparse(a.annotation) if a.annotation else "", "attribute")
             for a in [*tree.args.args, *tree.args.kwonlyargs]}
    kinds |= {node.id: "local" for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name: sorted(other for other in kinds if other != name and (kinds[other] == kind or "local" in (kind, kinds[other])))
            for name, kind in kinds.items()}


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    return [value + 1, *([-value, 0 * value] if value else [])] if isinstance(value, int | float) else []


def _of_library(name: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name("LIBRARY", ast.Load()), name, ast.Load()), arguments, keywords)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    """Two arguments exchanged, the call left out, a keyword left out, another op called."""
    called = node.func.id if isinstance(node.func, ast.Name) else ""
    for i in range(len(node.args) if called not in COMMUTATIVE else 0):
        for j in range(i + 1, len(node.args)):
            arguments = list(node.args)
            arguments[i], arguments[j] = arguments[j], arguments[i]
            yield ast.Call(node.func, arguments, node.keywords)
    yield from (argument for argument in node.args if not isinstance(argument, ast.Starred | ast.GeneratorExp))
    for i in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1:]])
    for group in SIBLINGS:
        if called == group[0] or (called in group and "div_or_zero" not in group):
            yield from (_of_library(other, node.args, node.keywords) for other in group if hasattr(LIBRARY, other) and other != called)


def _instead(node: ast.AST, alike: dict[str, list[str]], valued: bool) -> Iterator[ast.AST]:
    """What could stand in the place of a node by mistake."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from (ast.Name(other, ast.Load()) for other in alike.get(node.id, ()))
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _numbers(node.value))
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Compare):
        for i, comparison in enumerate(node.ops):
            for other in COMPARISONS[type(comparison)]:
                yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1:]], node.comparators)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.If):
        yield from (ast.If(ast.Constant(value), node.body, node.orelse) for value in (True, False))
    elif isinstance(node, ast.Return) and node.value is not None and valued:
        yield ast.Return(_of_library("neg", [node.value], []))
        yield ast.Return(_of_library("scale", [node.value], [ast.keyword("by", ast.Constant(2.0))]))


def _places(tree: ast.FunctionDef) -> Iterator[tuple[Callable[[ast.AST], None], ast.AST]]:
    """Every node of the function's body with what puts another there; neither annotations nor the functions that are called."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    for at, statement in enumerate(tree.body):
        yield lambda node, at=at: tree.body.__setitem__(at, node), statement  # type: ignore[misc]
    while waiting:
        parent = waiting.pop()
        for name, value in ast.iter_fields(parent):
            operands = name != "func" if isinstance(parent, ast.Call) else name == "body" if isinstance(parent, ast.FunctionDef) else True
            if not operands:
                continue
            if isinstance(value, list):
                for at, node in enumerate(value):
                    if isinstance(node, ast.AST):
                        waiting.append(node)
                        yield lambda new, value=value, at=at: value.__setitem__(at, new), node  # type: ignore[misc]
            elif isinstance(value, ast.AST):
                waiting.append(value)
                yield lambda new, parent=parent, name=name: setattr(parent, name, new), value  # type: ignore[misc]


def _compiled(function: types.FunctionType, tree: ast.FunctionDef) -> types.CodeType:
    """The code of a function from its tree, with the free variables of `function` whether the tree names them or not."""
    free = function.__code__.co_freevars
    inner = copy.deepcopy(tree)
    inner.body[:0] = [ast.Expr(ast.Name(name, ast.Load())) for name in free]
    outer = ast.parse(f"def outer({', '.join(free)}):\n    global {tree.name}")  # which may call itself; nothing of this is run
    outer.body[0].body.append(inner)  # type: ignore[attr-defined]
    code: Any = compile(ast.fix_missing_locations(outer), "<mutant>", "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    for name in ("outer", tree.name):
        code = next(part for part in code.co_consts if isinstance(part, types.CodeType) and part.co_name == name)
    assert isinstance(code, types.CodeType) and code.co_freevars == free
    return code


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Every mutant of a rule, no two of one text."""
    tree = rule.tree()
    alike, original = _alike(tree), ast.unparse(tree)
    valued = tree.returns is not None and ast.unparse(tree.returns) == "Value"
    seen = {original}
    for put, node in list(_places(tree)):
        for other in _instead(node, alike, valued):
            put(ast.fix_missing_locations(other))
            text = ast.unparse(tree)
            if text not in seen:
                seen.add(text)
                before, after = original.splitlines(), text.splitlines()
                lines = [f"{i}: {new.strip()}" for i, new in enumerate(after) if len(before) != len(after) or new != before[i]]
                yield Mutant(rule, "; ".join(lines), _compiled(rule.functions[0], tree))
            put(node)


# ---- checks -------------------------------------------------------------------------------------------------------------------------
@dataclass
class Probe:
    """A sample of an op, and derivatives that its rules have nothing to do with: in some directions, by a complex step."""

    op: Op
    arrays: tuple[Array, ...]
    attributes: dict[str, Any]
    upstream: Array
    weights: dict[int, Array]
    directions: list[list[Array]]  # of the floating inputs and of what comes from above
    first: list[float]
    second: list[float]

    def gradients(self, dtype: Any = np.float64, *, twice: bool) -> tuple[list[Array | None], list[Array | None]]:
        """What the op's rules give for each floating input, and, of the sum of these times `weights`, for the inputs and what comes from above."""
        places = [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]
        tensors = [mg.tensor(a.astype(dtype), requires_grad=True) if i in places else mg.tensor(a) for i, a in enumerate(self.arrays)]
        leaves = [tensors[i] for i in places]
        out = self.op(*tensors, **self.attributes)
        seed = mg.tensor(self.upstream.astype(out.dtype), requires_grad=twice)
        first = mg.autograd.grad(out, leaves, seed, create_graph=twice, allow_unused=True)
        found = [None if g is None else g.array for g in first]
        if not twice:
            return found, []
        total = mg.tensor(np.zeros((), dtype))
        for i, g in zip(places, first, strict=True):
            if i in self.weights:
                total = total + (g * mg.tensor(self.weights[i].astype(dtype))).sum()
        second = mg.autograd.grad(total, [*leaves, seed], allow_unused=True)
        return found, [None if g is None else g.array for g in second]

    def agrees(self, gradients: list[Array | None], expected: list[float], tolerance: float = 1e-9, dtype: Any = np.float64) -> bool:
        """Whether the gradients have the dtypes and shapes of what they are gradients of, and those derivatives."""
        shapes = [*(a.shape for a in self.arrays if a.dtype.kind == "f"), self.upstream.shape][:len(gradients)]
        if any(g is not None and (g.shape != shape or g.dtype != dtype) for g, shape in zip(gradients, shapes, strict=True)):
            return False
        whole = [np.zeros(shape) if g is None else g for g, shape in zip(gradients, shapes, strict=True)]
        found = [along(whole, direction[:len(whole)]) for direction in self.directions]
        return all(bool(abs(value - wanted) <= tolerance * size) for (value, size), wanted in zip(found, expected, strict=True))


def probe(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any]) -> Probe:
    """The expectations of one sample, from the op's definition and, for the second derivative, from its rules as they are now."""
    rng = np.random.default_rng(11)
    floats, whole = split(arrays)
    upstream = np.asarray(rng.normal(size=np.shape(op.definition(*arrays, **attributes))))
    weights = {i: np.asarray(rng.normal(size=arrays[i].shape)) for i, rule in enumerate(op.vjps) if rule is not None}
    made = Probe(op, arrays, attributes, upstream, weights, [directions(rng, [*floats, upstream]) for _ in range(2)], [], [])
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore", invalid="ignore"):
        patch.setattr(Op, "__call__", lambda op, *inputs, **attributes: evaluate(op, inputs, attributes))
        for *direction, rise in made.directions:
            out = op.definition(*whole(moved(floats, direction)), **attributes)
            made.first.append(float(np.sum(upstream * out.imag)) / STEP)
            *inputs, above = moved([*floats, upstream], [*direction, rise])
            made.second.append(sum(float(np.sum(weight * first_derivative(op, i, above, whole(inputs), attributes).imag))
                                   for i, weight in weights.items()) / STEP)
    return made


@cache
def probes(name: str) -> tuple[Probe, ...]:
    """Those of all samples of an op, the small ones first. To be made while no mutant is installed."""
    op = registry[name]
    return tuple(sorted((probe(op, *case) for case in cases(op)), key=lambda made: sum(a.size for a in made.arrays)))


class Point(NamedTuple):
    """Inputs at which a derivative is a matter of agreement: a kink, a tie, a zero, nothing. Its gradients with ones from above."""

    arrays: tuple[Any, ...]
    attributes: dict[str, Any]
    expected: tuple[Any, ...]  # for each floating input

    def agrees(self, op: Op) -> bool:
        given = [np.asarray(a) for a in self.arrays]
        tensors = [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
        out = op(*tensors, **self.attributes)
        found = mg.autograd.grad(out, [t for t in tensors if t.requires_grad], mg.tensor(np.ones(out.shape)), allow_unused=True)
        return all(np.array_equal(np.zeros(np.shape(wanted)) if g is None else g.array, wanted, equal_nan=True)
                   for g, wanted in zip(found, self.expected, strict=True))


_NONE = np.zeros((0, 3))
_INF, _NAN = np.inf, np.nan
#: What the documentation of ops promises, of derivatives that no step can measure.
POINTS: dict[str, list[Point]] = {
    "div": [Point(([1.0, 0.0], [0.0, 0.0]), {}, ([_INF, _INF], [-_INF, _NAN]))],
    "div_or_zero": [Point(([1.0, 0.0], [0.0, 0.0]), {}, ([0.0, 0.0], [0.0, 0.0]))],
    "relu": [Point(([0.0, -0.0, 1.0],), {}, ([0.0, 0.0, 1.0],))],
    "abs": [Point(([0.0, -0.0],), {}, ([0.0, 0.0],))],
    "maximum": [Point(([1.0], [1.0]), {}, ([0.5], [0.5]))],
    "minimum": [Point(([1.0], [1.0]), {}, ([0.5], [0.5]))],
    "amax": [Point(([1.0, 3.0, 3.0],), {}, ([0.0, 0.5, 0.5],))],
    "amin": [Point(([1.0, 1.0, 3.0],), {}, ([0.5, 0.5, 0.0],))],
    "clamp_between": [Point(([-1.0, 0.0, 1.0, 2.0],), {"min": 0.0, "max": 1.0}, ([0.0, 1.0, 1.0, 0.0],))],
    "hardtanh": [Point(([-1.0, 0.0, 1.0],), {}, ([0.0, 1.0, 0.0],))],
    "tensor_power": [Point(([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [2.0, 1.0, 0.5, 0.0, -1.0, 0.0]), {},
                           ([0.0, 1.0, _INF, 0.0, -_INF, 0.0], [0.0, 0.0, 0.0, 0.0, -_INF, 0.0]))],
    "power_by": [Point(([0.0, -2.0, 3.0],), {"exponent": 0.0}, ([0.0, 0.0, 0.0],))],
    "embedding": [Point((np.ones((3, 2)), [0, 2, 0]), {"padding_idx": 2}, ([[2.0, 2.0], [0.0, 0.0], [0.0, 0.0]],)),
                  Point((np.ones((3, 2)), [0, 2, 0]), {"padding_idx": 0}, ([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]],))],
    "vector_norm": [*(Point(([0.0, 0.0],), {"p": p}, ([0.0, 0.0],)) for p in (2.0, 1.0, 3.0, _INF)),
                    Point(([[3.0, -3.0, 1.0]],), {"p": _INF, "axis": 1}, ([[0.5, -0.5, 0.0]],)),
                    Point(([1.0, _INF],), {"p": 0.0}, ([0.0, 0.0],))],
    "norm_slope": [Point(([0.0, 0.0], [1.0, 0.0]), {"p": 3.0}, ([0.0, 0.0], [0.0, 0.0]))],
    "std": [Point(([2.0, 2.0, 2.0],), {}, ([0.0, 0.0, 0.0],))],
    "var": [Point(([2.0],), {}, ([_NAN],)), Point(([1.0, 3.0],), {"correction": 3}, ([-_INF, _INF],)), Point((_NONE,), {"axis": 1}, (_NONE,))],
    "mean": [Point((_NONE,), {}, (_NONE,))],
    "prod": [Point(([0.0, 2.0, 3.0],), {}, ([6.0, 0.0, 0.0],)), Point((_NONE,), {}, (_NONE,))],
    "mse": [Point((_NONE, _NONE), {}, (_NONE, _NONE))],
    "mse_grad": [Point((1.0, _NONE, _NONE), {}, (0.0, _NONE, _NONE)), Point((3.0, [1.0], [2.0]), {}, (-2.0, [6.0], [-6.0]))],
    "batch_moments": [Point((np.ones((1, 2)),), {}, ([[_NAN, _NAN]],)), Point((_NONE,), {}, (_NONE,)),
                      Point((np.zeros((2, 0)),), {}, (np.zeros((2, 0)),))],
}


def _powers() -> bool:
    """What `power` chooses between, by value and by who computed it."""
    x = mg.tensor(np.array([0.5, 2.0, 3.0]))
    chosen = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt", 1: "whole_power", 3: "whole_power", 64: "whole_power", 65: "power_by",
              0: "power_by", -2: "power_by", 1.5: "power_by"}
    names: list[str] = []
    call = Op.__call__
    with pytest.MonkeyPatch.context() as patch:
        def noting(op: Op, *inputs: Any, **attributes: Any) -> Any:
            names.append(op.name)
            return call(op, *inputs, **attributes)

        patch.setattr(Op, "__call__", noting)
        values = [np.allclose(power(x, exponent).array, x.array ** exponent, rtol=1e-12) for exponent in chosen]
        values += [np.allclose(power(x, np.float64(3)).array, x.array ** 3, rtol=1e-12), np.allclose(power(2.0, x).array, 2 ** x.array, rtol=1e-12),
                   np.allclose(power(x, x).array, x.array ** x.array, rtol=1e-12)]
    return all(values) and names == [*chosen.values(), "whole_power", "tensor_power", "tensor_power"]


#: Of functions that rules call and others call too: the rest of what they do.
VALUES: dict[str, Callable[[], bool]] = {"powers.power()": _powers}


class EndlessError(Exception):
    """A mutant that runs more ops than any rule."""


@contextmanager
def counted() -> Iterator[None]:
    """Stop what runs more than MOST_CALLS ops."""
    call, calls = Op.__call__, iter(range(MOST_CALLS))

    def counting(op: Op, *inputs: Any, **attributes: Any) -> Any:
        if next(calls, None) is None:
            raise EndlessError(op.name)
        return call(op, *inputs, **attributes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Op, "__call__", counting)
        yield


def _passes(op: Op, made: Probe | Point, stage: str) -> bool:
    with counted():
        if isinstance(made, Point):
            return made.agrees(op)
        if stage == "first":
            return made.agrees(made.gradients(twice=False)[0], made.first)
        if stage == "second":
            return made.agrees(made.gradients(twice=True)[1], made.second)
        return made.agrees(made.gradients(np.float32, twice=False)[0], made.first, 1e-3, np.float32)


def killer(rule: Rule) -> str | None:
    """What finds a mistake in a rule as it is now: the stage and the op, or None where nothing does."""
    for stage in ("first", "points", "second", "float32"):
        for op in rule.ops:
            for made in probes(op.name) if stage != "points" else POINTS.get(op.name, []):
                try:
                    if not _passes(op, made, stage):
                        return f"{stage}: {op.name}"
                except Exception as error:  # noqa: BLE001  any error finds the mistake
                    return f"{stage}: {op.name}: {type(error).__name__}"
    try:
        return None if rule.label not in VALUES or VALUES[rule.label]() else "values"
    except Exception as error:  # noqa: BLE001  any error finds the mistake
        return f"values: {type(error).__name__}"


def survives(mutant: Mutant) -> bool:
    """Whether no check finds the mistake."""
    with mutant.installed():
        return killer(mutant.rule) is None
