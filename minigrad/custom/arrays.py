"""Ops of arrays from a kernel in plain loops: its own shape function, and rules in ops of Tensors; both are tried out on samples."""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from types import FunctionType
from typing import Any, Final, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.np.numpy_support import from_dtype

from minigrad.custom import checks
from minigrad.custom.meaning import RESERVED, Number, Parameters, described, parameters, plain, positional
from minigrad.errors import DtypeError, MinigradError, OpError, ShapeError
from minigrad.ops import rules
from minigrad.ops.op import Attributes, Op, Plan, Value, no_flops
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Array, Handle
from minigrad.tape.mode import no_grad
from minigrad.tape.tensor import tensor
from minigrad_kernels import _jit
from minigrad_kernels.machine import INVOKE_ADDRESSES
from minigrad_kernels.scalar import generic

Rule = Callable[..., Value]

MOST_RANK: Final = 4
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
DTYPES: Final = frozenset(map(np.dtype, (np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)))
DEFINITION_TOLERANCE: Final = 1e-10
#: Of float32 against float64, relative to 1 + the largest value: a kernel that computes something else is further off.
FLOAT32_TOLERANCE: Final = 1e-3
_made = count()


class Case(NamedTuple):
    """Arrays of one call, floating ones in float64, and attributes."""

    arrays: tuple[Array, ...]
    attributes: dict[str, Number]

    def cast(self, dtype: np.dtype[Any]) -> tuple[Array, ...]:
        """The arrays, floating ones in this dtype."""
        return tuple(np.array(a, dtype if a.dtype.kind == "f" else a.dtype, order="C") for a in self.arrays)


def array_op(kernel: Callable[..., Any], out: Callable[..., Any], samples: Callable[..., Any], vjp: Mapping[str, Rule | None],
             definition: Callable[..., Any] | None, fails: Exception | None) -> ArrayOp:
    """The op of a kernel on arrays. Raises OpError if its declaration does not hold."""
    own = plain(kernel, "an op's kernel")
    made = ArrayOp(own, out, samples, definition, fails)
    made.try_out()
    unknown = set(vjp) - set(made.inputs)
    if unknown:
        raise OpError(f"{made.name} has no input {min(unknown)!r}: its inputs are {', '.join(made.inputs)}")
    for wrt in made.inputs:
        rule = vjp.get(wrt)
        if rule is not None:
            made.vjp(wrt)(rule)
        elif wrt not in vjp and made.smooth and made.inputs.index(wrt) not in made.integers:
            made.lacks(wrt)
    return made


class ArrayOp(Op):
    """An op whose kernel and shape function are a user's."""

    def __init__(self, kernel: FunctionType, out: Callable[..., Any], samples: Callable[..., Any], definition: Callable[..., Any] | None,
                 fails: Exception | None) -> None:
        name, (inputs, attributes) = kernel.__name__, parameters(kernel, RESERVED - {"out"})
        given = Parameters(inputs[:-1], attributes)
        if inputs[-1:] != ("out",) or "out" in given.inputs or not 1 <= len(given.inputs) < INVOKE_ADDRESSES:
            raise OpError(f"{name}({', '.join(inputs)}): a kernel takes one to {INVOKE_ADDRESSES - 1} arrays, then out, which it writes, then "
                          "attributes behind a *")
        self.cases = _cases(name, given, samples)
        kinds = [{array.dtype.kind == "f" for array in column} for column in zip(*[case.arrays for case in self.cases], strict=True)]
        if any(len(one) > 1 for one in kinds):
            raise OpError(f"{name}: the samples give both floating and whole numbers for one input: give it floating ones throughout")
        self.ranks = {tuple(a.ndim for a in case.arrays) for case in self.cases}
        self.outs = out
        self.reference = definition
        code = getattr(out, "__code__", None)
        self.wanted = [one for one in attributes if code is not None and one in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]]
        meant = generic(positional(kernel))
        self.bounded = numba.njit(error_model="numpy", boundscheck=True)(meant)
        super().__init__(described(self._compute, kernel, name, given), kernel=_jit.jit(_jit.named(f"custom_{next(_made)}_{name}")(meant)),
                         shape=_shape, samples=self._samples, flops=no_flops, stored=False,
                         fails=fails or OpError(f"{name}: the kernel reported a failure: it returned another number than 1"),
                         integers=tuple(one for one, kind in zip(given.inputs, kinds, strict=True) if kind == {False}))
        self.status = self._returns_status()
        self.smooth = self._first_result().is_float

    def vjp(self, wrt: str) -> Callable[[Rule], Rule]:
        """Declare and check the rule of input `wrt`; see `Op.vjp`. Raises OpError with the index and both values."""
        declare = super().vjp(wrt)
        whole = wrt if self.inputs.index(wrt) in self.integers else None if self.smooth else "out"
        if whole is not None:
            raise OpError(f"{self.name}: whole numbers have no gradient, and such are {whole} in the samples")

        def checked(rule: Rule) -> Rule:
            before = self.vjps[self.inputs.index(wrt)]
            declare(rule)
            try:
                self._try_rule(wrt, rule)
            except BaseException:
                if before is None:
                    self.lacks(wrt)
                else:
                    declare(before.function)
                raise
            return rule

        return checked

    def lacks(self, wrt: str) -> None:
        """From now on a backward pass to this input is an error, and not a gradient that is missing in silence."""

        def missing(g: Value) -> Value:
            raise OpError(f"{self.name} has no rule for {wrt}: declare it with @{self.name}.vjp({wrt!r}), or say that there is no gradient, "
                          f"vjp={{{wrt!r}: None}}")

        super().vjp(wrt)(missing)

    def numbers(self, attributes: Attributes) -> list[Number]:
        """All attributes in order, of the types of their defaults."""
        return [int(attributes[name]) if isinstance(default, int) else float(attributes[name]) for name, default in self.defaults.items()]

    def result(self, specs: tuple[Spec, ...], attributes: Attributes) -> Spec:
        """What the shape function says. Raises ShapeError or OpError."""
        try:
            said = self.outs(*specs, **{name: attributes[name] for name in self.wanted})
        except MinigradError:
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ShapeError(f"{self.name}: its shape function cannot take {rules.listed(self, specs)}: {type(error).__name__}: {error}") from None
        try:
            shape, dtype = said
            spec = Spec.of(tuple(operator.index(n) for n in shape), np.dtype(dtype))
        except (TypeError, ValueError):
            raise OpError(f"{self.name}: out returned {said!r}, expected (shape, dtype), e.g. lambda x: (x.shape, x.dtype)") from None
        if spec.dtype not in DTYPES or len(spec.shape) > MOST_RANK or min(spec.shape, default=0) < 0:
            raise OpError(f"{self.name}: out says {spec!r} for {rules.listed(self, specs)}: an output has up to {MOST_RANK} dimensions and one of "
                          f"the dtypes {', '.join(sorted(d.name for d in DTYPES))}")
        return spec

    # ---- trying it out
    def try_out(self) -> None:
        """The kernel on all samples: inside its arrays, everything written, the same each time, and what the definition gives."""
        for number, case in enumerate(self.cases):
            place = f"{self.name}: sample {number}"
            wide = self._try_kernel(case, FLOAT64, place)
            if self.reference is not None:
                expected = np.asarray(self.reference(*[a.copy() for a in case.arrays], **case.attributes))
                if expected.shape != wide.shape:
                    raise OpError(f"{place}: out says shape {wide.shape}, the definition gives {expected.shape}")
                checks.same_values(place, "out", wide, expected, DEFINITION_TOLERANCE, "the definition gives")
            elif wide.dtype.kind == "f" and np.isnan(wide).any():
                index = tuple(map(operator.index, np.argwhere(np.isnan(wide))[0]))
                raise OpError(f"{place}: out{list(index)} is nan: take samples for which the op is defined")
            narrow = self._try_kernel(case, FLOAT32, place)
            if narrow.shape != wide.shape:
                raise OpError(f"{place}: out says shape {narrow.shape} for float32 and {wide.shape} for float64")
            if wide.dtype.kind == "f":
                most = float(np.max(np.abs(wide), initial=1.0, where=np.isfinite(wide)))
                checks.same_values(f"{place} in float32", "out", narrow.astype(FLOAT64), wide.astype(FLOAT64), FLOAT32_TOLERANCE * most,
                                   "and in float64")

    def _try_kernel(self, case: Case, dtype: np.dtype[Any], place: str) -> Array:
        arrays = case.cast(dtype)
        specs = tuple(Spec.of(a.shape, a.dtype) for a in arrays)
        attributes = {**self.defaults, **case.attributes}
        with no_grad():
            spec = self.plan(specs, case.attributes).outs[0]
        if spec.is_float and any(s.is_float for s in specs) and spec.dtype != dtype:
            raise OpError(f"{place}: out says {spec.dtype.name} for {rules.listed(self, specs)}: take the dtype from an input, x.dtype")
        first, second = {"f": (np.nan, 1.5), "b": (True, False)}.get(spec.dtype.kind, (77, 55))
        self._run(self.bounded, arrays, attributes, spec, first, place)
        one, other, again = [self._run(self.kernel, arrays, attributes, spec, fill, place) for fill in (first, second, first)]
        fill_of_one = one != one if spec.is_float else one == first
        self._refuse(place, fill_of_one & (other == second), "is not written: out says the shape {shape}")
        self._refuse(place, ~_same(one, again), "differs between two calls on the same arrays: a kernel depends on nothing else")
        self._refuse(place, ~_same(one, other), "depends on what was there before: write it first")
        with no_grad():
            called = self(*[tensor(a) for a in arrays], **case.attributes).array
        self._refuse(place, ~_same(one, called), "differs between two calls on the same arrays: a kernel depends on nothing else")
        return one

    @staticmethod
    def _refuse(place: str, wrong: Array, reason: str) -> None:
        if wrong.any():
            index = list(map(operator.index, np.argwhere(wrong)[0]))
            raise OpError(f"{place}: out{index} {reason.format(shape=wrong.shape)}")

    def _run(self, kernel: Any, arrays: Sequence[Array], attributes: Attributes, spec: Spec, fill: Any, place: str) -> Array:
        """One direct call, on copies. Raises OpError for an index outside, a failure, and an input that was written."""
        given = [a.copy().reshape(a.shape or (1,)) for a in arrays]
        out = np.full(spec.shape or (1,), fill, spec.dtype)
        try:
            status = kernel(*given, out, *self.numbers(attributes))
        except IndexError as error:
            raise OpError(f"{place}: the kernel uses an index outside its array ({error}): got "
                          f"{rules.listed(self, [Spec.of(a.shape, a.dtype) for a in arrays])}, out {spec!r}") from None
        if status not in (None, 1):
            raise OpError(f"{place}: the kernel reports a failure, {status!r}: take samples for which the op is defined")
        for name, before, after in zip(self.inputs, arrays, given, strict=True):
            if not np.array_equal(before.reshape(after.shape), after, equal_nan=before.dtype.kind == "f"):
                raise OpError(f"{place}: the kernel writes to its input {name}: it may write to out only")
        return out.reshape(spec.shape)

    def _try_rule(self, wrt: str, rule: Rule) -> None:
        """The rule on all samples: the input's shape and dtype, and the derivative by differences."""
        told = smooth = 0
        for number, case in enumerate(self.cases):
            for attributes in checks.moved({**self.defaults, **case.attributes}):
                place = f"{self.name}: sample {number}"
                try:
                    found, direction = self._gradient(wrt, rule, case._replace(attributes=attributes), FLOAT64, place)
                except type(self.failure()):
                    if attributes == {**self.defaults, **case.attributes}:
                        raise
                    continue  # not defined for these attributes
                smooth += found.size

                def total(array: Array, case: Case = case, direction: Array = direction, attributes: Attributes = attributes) -> float:
                    inputs = [tensor(array if name == wrt else a) for name, a in zip(self.inputs, case.arrays, strict=True)]
                    with no_grad():
                        return float((self(*inputs, **attributes).array * direction).sum())

                told += checks.gradient(place, wrt, found, case.arrays[self.inputs.index(wrt)], total)
            self._gradient(wrt, rule, case, FLOAT32, f"{self.name}: sample {number} in float32")
        if smooth and not told:
            raise OpError(f"{self.name}: at none of the samples could the rule for {wrt} be checked: take some where the op is smooth")

    def _gradient(self, wrt: str, rule: Rule, case: Case, dtype: np.dtype[Any], place: str) -> tuple[Array, Array]:
        """What the rule gives, and the direction that it was given."""
        inputs = [tensor(a) for a in case.cast(dtype)]
        attributes = {**self.defaults, **case.attributes}
        with no_grad():
            out = self(*inputs, **attributes)
            rng = np.random.default_rng(0)
            direction = (rng.uniform(0.5, 1.5, out.shape) * rng.choice([-1, 1], out.shape)).astype(out.dtype)
            values = {**dict(zip(self.inputs, inputs, strict=True)), **attributes, "out": out,
                      **{f"{name}_spec": x.spec for name, x in zip(self.inputs, inputs, strict=True)}}
            wanted = self.vjps[self.inputs.index(wrt)]
            assert wanted is not None
            try:
                found = rule(tensor(direction), *[values[name] for name in wanted.wants])
            except (MinigradError, AttributeError, LookupError, NameError, TypeError, ValueError) as error:
                later = f": a rule that uses the op itself is declared after it, with @{self.name}.vjp({wrt!r})"
                hint = later if isinstance(error, NameError) else ""
                raise OpError(f"{place}: the rule for {wrt} fails: {type(error).__name__}: {error}{hint}") from error
        expected = inputs[self.inputs.index(wrt)].spec
        if not isinstance(found, Handle) or found.spec is not expected:
            came = repr(found.spec) if isinstance(found, Handle) else f"a {type(found).__name__}"
            raise OpError(f"{place}: the rule for {wrt} gives {came}, expected a Tensor {expected!r}, as {wrt} is")
        return found.array, direction

    # ---- what an op has
    def _compute(self, *values: Value, **attributes: Number) -> Value:
        """The definition; where none is given, the kernel itself."""
        if self.reference is not None:
            return self.reference(*values, **attributes)
        with no_grad():
            return self(*[tensor(v) for v in values], **attributes).array

    def _samples(self, rng: np.random.Generator) -> Iterator[Case]:
        yield from self.cases

    def _first_result(self) -> Spec:
        """What the shape function says of the first sample."""
        case = self.cases[0]
        return self.result(tuple(Spec.of(a.shape, a.dtype) for a in case.arrays), {**self.defaults, **case.attributes})

    def _returns_status(self) -> bool:
        """Whether the kernel returns a number. Raises OpError if it cannot be compiled, or returns anything else."""
        case = self.cases[0]
        arrays, spec = case.cast(FLOAT64), self._first_result()
        numbers = [types.int64 if isinstance(default, int) else types.float64 for default in self.defaults.values()]
        kinds = [types.Array(from_dtype(dtype), max(rank, 1), "C")
                 for dtype, rank in [*[(a.dtype, a.ndim) for a in arrays], (spec.dtype, len(spec.shape))]]
        try:
            self.kernel.compile((*kinds, *numbers))
        except NumbaError as error:
            raise OpError(f"{self.name} cannot be compiled: {error}") from None
        given = self.kernel.overloads[(*kinds, *numbers)].signature.return_type
        if given != types.none and not isinstance(given, types.Integer | types.Boolean):
            raise OpError(f"{self.name}: the kernel returns {given}, expected nothing, or on every path a whole number, which is 1 if all is well")
        return bool(given != types.none)


def _shape(op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
    """The rule of all ops of arrays: inputs of one floating dtype and of ranks that were tried out."""
    assert isinstance(op, ArrayOp)
    checks.numbers(op, attributes)
    floats = [spec for i, spec in enumerate(specs) if i not in op.integers]
    if any(spec.dtype not in (FLOAT32, FLOAT64) for spec in floats) or len({spec.dtype for spec in floats}) > 1:
        raise DtypeError(f"{op.name}: floating inputs need one dtype, float32 or float64 (got {rules.listed(op, specs)}): convert with .astype")
    odd = next((spec for i, spec in enumerate(specs) if i in op.integers and (spec.is_float or spec.dtype not in DTYPES)), None)
    if odd is not None:
        raise DtypeError(f"{op.name}: whole numbers are expected in place of {odd!r} (got {rules.listed(op, specs)}): convert with .astype(mg.int64)")
    if tuple(len(spec.shape) for spec in specs) not in op.ranks:
        tried = " or ".join(str(ranks) for ranks in sorted(op.ranks))
        raise ShapeError(f"{op.name}: got {rules.listed(op, specs)}, but its kernel was tried out with inputs of {tried} dimensions: "
                         "reshape them, or add such a sample to the declaration")
    out = op.result(specs, attributes)
    text: list[str] = []
    dims: dict[str, int] = {}
    dtypes: list[np.dtype[Any]] = []
    for i, spec in enumerate((*specs, out)):
        names = [f"d{i}_{k}" for k in range(len(spec.shape))]
        dims.update(zip(names, spec.shape, strict=True))
        dtypes.append(spec.dtype)
        text.append(f"x{i}[{','.join(names) or '1'}]")
    text += [f"a{k}:{'i' if isinstance(default, int) else 'f'}" for k, default in enumerate(op.defaults.values())]
    numbers = {f"a{k}": value for k, value in enumerate(op.numbers(attributes))}
    return Plan((out,), (rules.step(op.kernel, rules.layout(" ".join(text), None, op.status), dtypes, range(len(specs) + 1), dims, numbers,
                                    stored=False),))


def _cases(name: str, given: Parameters, samples: Callable[..., Any]) -> list[Case]:
    """The samples in one form. Raises OpError for what is none."""
    made = samples(np.random.default_rng(0))
    listed = [made] if isinstance(made, tuple | np.ndarray) else list(made)
    found = []
    for one in listed:
        values = list(one) if isinstance(one, tuple | list) else [one]
        attributes = dict(values.pop()) if values and isinstance(values[-1], dict) else {}
        arrays = tuple(np.asarray(v) for v in values)
        arrays = tuple(a.astype(FLOAT64) if a.dtype.kind == "f" else a for a in arrays)
        if len(arrays) != len(given.inputs) or any(a.dtype not in DTYPES or a.ndim > MOST_RANK for a in arrays):
            raise OpError(f"{name}: a sample is the arrays ({', '.join(given.inputs)}), of numbers and of up to {MOST_RANK} dimensions, got "
                          f"({', '.join(f'{a.dtype.name}{list(a.shape)}' for a in arrays)})")
        found.append(Case(arrays, attributes))
    if not found:
        raise OpError(f"{name}: samples gave no arrays: it is tried out on them")
    return found


def _same(a: Array, b: Array) -> Array:
    """Where two arrays have the same bits, or a NaN each."""
    same: Array = a == b
    return same & (np.signbit(a) == np.signbit(b)) | (a != a) & (b != b) if a.dtype.kind == "f" else same
