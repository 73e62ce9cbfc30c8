"""Elementwise ops from a function of numbers: one kernel for the function, and one for the derivative of each input."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from types import FunctionType
from typing import Any, Final

import numpy as np
from numba import types
from numba.core.errors import NumbaError

from minigrad.custom import checks
from minigrad.custom.meaning import Number, Parameters, Scalar, described, mentions, on_tensors, parameters, plain, positional, shown, signature
from minigrad.errors import MinigradError, OpError
from minigrad.ops import maths, rules
from minigrad.ops.op import Attributes, Op, Plan, Value, per_element
from minigrad.ops.samples import reals
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle
from minigrad.tape.mode import is_grad_enabled
from minigrad_kernels import loops
from minigrad_kernels.scalar import generic

Domain = tuple[float, float]

MOST_INPUTS: Final = 4
#: Points at which a new op's kernels and derivative are compared with its definition.
POINTS: Final = 97
EVERYWHERE: Final = (-3.0, 3.0)
_made = count()


def elementwise_op(function: Scalar, vjp: Scalar | None, domain: Domain | Mapping[str, Domain] | None) -> Op:
    """The op of a function of numbers. Raises OpError if its declaration does not hold."""
    own = plain(function, "an op's function")
    name, given = own.__name__, parameters(own)
    takes = ", ".join(["g", "y", *given.inputs, *(["*", *given.attributes] if given.attributes else [])])
    if vjp is None:
        raise OpError(f"{name} has no derivative: declare it with @mg.op(vjp=lambda {takes}: ...), which returns g times the derivative of "
                      f"{name}, for g the gradient of its output and y the output itself; for several inputs, a tuple with one for each")
    rule = plain(vjp, f"{name}'s vjp")
    wanted = _called_with(rule, name, given, takes)
    domains = _domains(name, given, domain)
    points = np.stack([np.random.default_rng(i).uniform(*bounds, POINTS) for i, bounds in enumerate(domains)])
    points[:, :2] = np.array(domains)
    computed, slopes = positional(own), _aligned(rule, given, wanted)
    start = [*map(float, points[:, 0]), *given.attributes.values()]
    try:
        first = slopes(1.0, computed(*start), *start)
    except (ArithmeticError, ValueError) as error:
        raise OpError(f"{name} cannot be computed at {shown(start)}: {error}: say where it can, as domain=(low, high)") from None
    several = isinstance(first, tuple)
    if (len(first) if several else 1) != len(given.inputs):
        raise OpError(f"{name}: the vjp of {len(given.inputs)} inputs returns a tuple of {len(given.inputs)} gradients, "
                      f"got {len(first) if several else 'a number'}")
    parts = [_part(slopes, [], given, i if several else None) for i in range(len(given.inputs))]
    checks.derivative(name, computed, parts, given, points)
    made = _declare(computed, own, name, given)
    checks.kernel(made, computed, points)
    _give_rules(made, own, computed, rule, slopes, given, several, points)
    return made


def _called_with(rule: FunctionType, name: str, given: Parameters, takes: str) -> tuple[str, ...]:
    """The attributes that a vjp takes behind g, y and the inputs. Raises OpError for a vjp that takes anything else."""
    names = tuple(signature_of(rule))
    behind = names[2 + len(given.inputs):]
    if len(names) < 2 + len(given.inputs) or not set(behind) <= set(given.attributes) or not 1 <= len(given.inputs) <= MOST_INPUTS:
        raise OpError(f"{name}: an op takes one to {MOST_INPUTS} numbers, and its vjp ({takes}); "
                      f"got ({', '.join(given.inputs)}) and ({', '.join(names)})")
    return behind


def signature_of(function: FunctionType) -> tuple[str, ...]:
    """The names of all parameters, in order."""
    code = function.__code__
    return code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]


def _domains(name: str, given: Parameters, domain: Domain | Mapping[str, Domain] | None) -> list[Domain]:
    """Where each input is tried. Raises OpError for a name that is no input."""
    if not isinstance(domain, Mapping):
        return [domain or EVERYWHERE] * len(given.inputs)
    unknown = set(domain) - set(given.inputs)
    if unknown:
        raise OpError(f"{name}: domain names {min(unknown)!r}, which is no input: these are {', '.join(given.inputs)}")
    return [domain.get(one, EVERYWHERE) for one in given.inputs]


def _aligned(rule: FunctionType, given: Parameters, wanted: Sequence[str]) -> FunctionType:
    """The vjp with parameters g, y, the inputs, and all attributes, by position, whatever it calls them and whichever it wants."""
    head = ["g", "y", *[f"x{i}" for i in range(len(given.inputs))]]
    return _written(f"lambda {', '.join([*head, *given.attributes])}: rule({', '.join([*head, *wanted])})", rule=positional(rule))


def _part(slopes: FunctionType, without: Sequence[str], given: Parameters, i: int | None) -> FunctionType:
    """The gradient of one input, element i of what the vjp returns, as a function of those arguments that are not in `without`."""
    inputs, attributes = [f"x{k}" for k in range(len(given.inputs))], list(given.attributes)
    every = ["g", "y", *inputs, *attributes]
    filled = {name: name if name not in without else "0.0" for name in every}
    chosen = "" if i is None else f"[{i}]"
    return _written(f"lambda {', '.join(n for n in every if n not in without)}: slopes({', '.join(filled.values())}){chosen}",
                    slopes=slopes)


def _written(text: str, **cells: Any) -> FunctionType:
    """The function that `text` spells, with these names in its closure: the compiler takes no function of variable arguments."""
    made: FunctionType = eval(f"lambda {', '.join(cells)}: {text}", {"__name__": "written"})(**cells)
    return made


# ---- ops -----------------------------------------------------------------------------------------------------------------------------
def _declare(computed: FunctionType, like: Scalar, name: str, given: Parameters) -> Op:
    """An elementwise op that computes a function of inputs and attributes by position."""

    def body(*values: Value, **attributes: Number) -> Value:
        numbers = {**given.attributes, **attributes}
        return np.vectorize(lambda *element: computed(*element, *numbers.values()), otypes=[float])(*values)

    return Op(described(body, like, name, given), kernel=_kernel(computed, name, len(given.inputs), len(given.attributes)), shape=_shape,
              samples=reals(*EVERYWHERE, arity=len(given.inputs)), flops=per_element(8), mutates=(), commit=False, fails=None, stored=False)


def _shape(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """As the library's elementwise ops. Raises OpError for an attribute that is no number."""
    checks.numbers(op, attributes)
    return rules.elementwise(op, specs, attributes)


def _kernel(computed: FunctionType, name: str, inputs: int, numbers: int) -> loops.Zip:
    """The kernels: over vectors, or over one lane at a time for a function that branches, which no vector can."""
    own = f"custom_{next(_made)}_{name}"
    arguments = (*(types.float64[::1],) * inputs, *(types.float64,) * numbers, types.float64[::1])
    failed: NumbaError | None = None
    for vector in (True, False):

        def make(f: Scalar, form: str, pattern: str, vector: bool = vector) -> Any:
            return loops.loop(f, form, pattern + "c" * numbers, vector)

        forms = loops.Zip(generic(computed), own, make)
        try:
            forms.form("v" * inputs).compile(arguments)
        except NumbaError as error:
            failed = error
        else:
            return forms
    raise OpError(f"{name} cannot be compiled: {failed}") from None


def _give_rules(made: Op, own: FunctionType, computed: FunctionType, rule: FunctionType, slopes: FunctionType, given: Parameters,
                several: bool, points: Any) -> None:
    """Give each input its rule, which reads, and has the tape keep, what the vjp looks at."""
    names = signature_of(rule)
    called = dict(zip(names[:2 + len(given.inputs)], ["g", "y", *[f"x{i}" for i in range(len(given.inputs))]], strict=True))
    looked = {called.get(one, one) for one in mentions(rule, names)}
    places = [f"x{i}" for i in range(len(given.inputs))]
    unseen = [one for one in ("y", *places, *given.attributes) if one not in looked]
    kept = [one for one in ("y", *places) if one not in unseen]
    numbers = {one: value for one, value in given.attributes.items() if one not in unseen}
    wants = ["out" if one == "y" else given.inputs[int(one[1:])] for one in kept]
    tensors = on_tensors(_part(slopes, unseen, given, None))
    for i, wrt in enumerate(given.inputs):
        part = _part(slopes, unseen, given, i if several else None)
        compiled = _declare(part, own, f"{made.name}_vjp_{wrt}", Parameters(("g", *wants), numbers))
        rows = [np.linspace(-1, 2, points.shape[1]), *[_values(computed, points, given) if one == "y" else points[int(one[1:])] for one in kept]]
        checks.kernel(compiled, part, np.stack(rows), checks.DERIVATIVE_TOLERANCE)
        made.vjp(wrt)(_rule(made.name, compiled, tensors, i if several else None, wants, numbers))


def _values(computed: FunctionType, points: Any, given: Parameters) -> Any:
    """The function at all points; NaN where Python cannot compute it."""

    def value(point: Any) -> float:
        try:
            return float(computed(*map(float, point), *given.attributes.values()))
        except (ArithmeticError, ValueError, TypeError):
            return float("nan")

    return np.array([value(point) for point in points.T])


def _rule(name: str, compiled: Op, tensors: FunctionType, part: int | None, wants: Sequence[str], numbers: Mapping[str, Number]) -> Scalar:
    """The rule of one input: the compiled vjp, or, where it will itself be differentiated, the vjp on Tensors."""

    def rule(*values: Value) -> Value:
        tensors_given, attributes = values[:1 + len(wants)], values[1 + len(wants):]
        if not is_grad_enabled():
            return compiled(*tensors_given, **dict(zip(numbers, attributes, strict=True)))
        try:
            found = tensors(*tensors_given, *attributes)
        except (MinigradError, ValueError, TypeError) as error:
            raise OpError(f"{name}: its vjp cannot be differentiated: {error}. On Tensors it may consist of operators and maths, and chooses "
                          "with np.where instead of an if") from error
        gradient = found if part is None else found[part]
        return gradient if isinstance(gradient, Handle) else maths.filled(values[0], value=float(gradient))

    rule.__signature__ = signature(["g", *wants, *numbers], {})  # type: ignore[attr-defined]
    return rule
