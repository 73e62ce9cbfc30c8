"""What an op is: a definition, a kernel, a rule for shapes, and a vector-Jacobian product for each input, declared in one place.

The declared object is the public function. Eager mode, tape, capture, gradcheck, the test table, FLOP counts and documentation read
the declaration and nothing else.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from minigrad.errors import MinigradError, OpError, ShapeError
from minigrad.ops.attributes import check, check_dtype, kinds
from minigrad.ops.spec import Spec
from minigrad_kernels.abi import Entry
from minigrad_kernels.machine import BEGIN_INPUTS, INVOKE_ADDRESSES

#: In a rule, a Tensor; in a definition, a NumPy array.
Value = Any
Attributes = dict[str, Any]
Failure = Exception | Callable[..., Exception]


class Step(NamedTuple):
    """One kernel call of a plan: its entry, its static words, and which operands its addresses are."""

    entry: Entry
    words: tuple[int, ...]
    operands: tuple[int, ...]  # indices into inputs + outputs + temporaries; SCRATCH for the worker's scratch
    flops: int = 0


SCRATCH: Final = -1
#: Plans that one op keeps.
PLANS: Final = 512
#: What no machine's memory holds: a size that large is a mistake.
MOST_BYTES: Final = 2**46


class Plan:
    """How an op runs on given specs: what it makes, and the kernel calls in order. Depends on nothing but the key it is cached under."""

    __slots__ = ("outs", "temps", "steps", "alias", "start", "key", "eager", "direct")

    def __init__(self, outs: tuple[Spec, ...], steps: tuple[Step, ...], temps: tuple[Spec, ...] = (), alias: int | None = None,
                 start: int = 0) -> None:
        self.outs = outs
        self.temps = temps
        self.steps = steps
        self.alias = alias  # the input whose memory the only output shares: a view
        self.start = start  # of the view, in elements
        self.key: Any = None  # under which the op finds it again: specs and attributes
        self.eager: tuple[tuple[int, Any, int, int, tuple[int, ...]], ...] | None = None
        self.direct: tuple[int, int, int] | None = None  # entry, block and address place, if `machine.begin` can make the call

    @property
    def flops(self) -> int:
        return sum(step.flops for step in self.steps)

    def ready(self) -> tuple[tuple[int, Any, int, int, tuple[int, ...]], ...]:
        """For each step: the entry's address, its operand block (kept alive here), the block's address, where addresses go, operands."""
        if self.eager is None:
            calls: list[tuple[int, Any, int, int, tuple[int, ...]]] = []
            for step in self.steps:
                if len(step.operands) > INVOKE_ADDRESSES:
                    raise OpError(f"{step.entry.name} takes {len(step.operands)} arrays; an entry can be called with {INVOKE_ADDRESSES}")
                block = np.array([*step.words, *[0] * INVOKE_ADDRESSES], np.int64)
                calls.append((step.entry.load().address, block, int(block.ctypes.data), len(step.words), step.operands))
            self.eager = tuple(calls)
            if len(calls) == 1 and len(self.outs) == 1:
                address, _, place, at, operands = calls[0]
                inputs = len(operands) - 1 - (operands[-1] == SCRATCH)
                if inputs <= BEGIN_INPUTS and operands in ((*range(inputs + 1),), (*range(inputs + 1), SCRATCH)):
                    self.direct = (address, place, at)
        return self.eager


class Rule(Protocol):
    """A shape rule: checks the inputs and lays out the kernel calls, or raises an error that names the op and the fix."""

    def __call__(self, op: Op, specs: tuple[Spec, ...], attributes: Attributes) -> Plan: ...


class Vjp(NamedTuple):
    """A rule for one input: the function, and what it is called with beside `g`."""

    function: Callable[..., Value]
    wants: tuple[str, ...]


class Op:
    """A differentiable function of Tensors. Positional parameters of the definition are inputs, keyword-only ones attributes."""

    #: Filled by the tape at import: runs the op and records it. It stands in `__call__`, so that an op costs one Python frame.
    apply: Callable[..., Any]

    def __init__(self, definition: Callable[..., Any], *, kernel: Any, shape: Rule, samples: Any, flops: Callable[..., int],
                 mutates: tuple[str, ...] = (), commit: bool = False, fails: Failure | None = None, integers: tuple[str, ...] = (),
                 stored: bool = True) -> None:
        self.definition = definition
        self.name = definition.__name__
        self.__name__ = self.name
        self.__doc__ = definition.__doc__
        self.__module__, self.__qualname__ = definition.__module__, definition.__qualname__
        self.kernel = kernel
        self.shape = shape
        self.samples = samples
        self.flops = flops
        self.commit = commit
        self.stored = stored  # whether its compiled code is kept on disk
        self.fails = fails
        parameters = inspect.signature(definition).parameters.values()
        self.inputs = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        self.defaults: Attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.kinds = {p.name: kinds(p.annotation) for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.mutates = tuple(self.inputs.index(name) for name in mutates)
        self.integers = frozenset(self.inputs.index(name) for name in integers)
        self.vjps: list[Vjp | None] = [None] * len(self.inputs)
        self.plans: dict[Any, Plan] = {}
        self.keep: dict[int, tuple[str, ...]] = {}
        self._positions: dict[int, tuple[int, ...]] = {}
        self.ruled: dict[int, tuple[tuple[int, Callable[..., Value], tuple[int, ...] | None], ...]] = {}
        self._sources: dict[tuple[int, int], tuple[tuple[int, Any, Any], ...]] = {}
        self.differentiable = 0  # bit i: input i has a rule

    def vjp(self, wrt: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
        """Declare the vector-Jacobian product for input `wrt`: a function of `g` and of what it needs by name.

        Names are the op's inputs (kept by the tape), `out` (the result, kept), `x_spec` (shape and dtype of input `x`, nothing kept)
        and the op's attributes. It receives and returns Tensors and is written in ops, so it can be differentiated again.
        """
        if wrt not in self.inputs:
            raise OpError(f"{self.name} has no input {wrt!r}: its inputs are {', '.join(self.inputs)}")

        def declare(function: Callable[..., Value]) -> Callable[..., Value]:
            names = tuple(inspect.signature(function).parameters)
            usable = {*self.inputs, "out", *self.defaults, *(f"{name}_spec" for name in self.inputs)}
            if names[:1] != ("g",) or not usable.issuperset(names[1:]):
                raise OpError(f"{self.name}.vjp({wrt!r}): the rule takes g, then any of {', '.join(sorted(usable))}; got ({', '.join(names)})")
            self.vjps[self.inputs.index(wrt)] = Vjp(function, names[1:])
            self.differentiable |= 1 << self.inputs.index(wrt)
            self.forget()
            return function

        return declare

    def forget(self) -> None:
        """Drop what was worked out from the rules: they are others now."""
        for known in (self.keep, self._positions, self.ruled, self._sources):
            known.clear()

    def kept(self, mask: int) -> tuple[str, ...]:
        """Names of the values that the rules of the inputs in `mask` (bit i = input i) need: what the tape keeps."""
        found = self.keep.get(mask)
        if found is None:
            wants = [v.wants for i, v in enumerate(self.vjps) if mask >> i & 1 and v is not None]
            keepable = {*self.inputs, "out"}
            found = self.keep[mask] = tuple(dict.fromkeys(name for names in wants for name in names if name in keepable))
        return found

    def positions(self, mask: int) -> tuple[int, ...]:
        """`kept(mask)` as indices of inputs; -1 is the output."""
        found = self._positions.get(mask)
        if found is None:
            found = self._positions[mask] = tuple(-1 if name == "out" else self.inputs.index(name) for name in self.kept(mask))
        return found

    def rules(self, mask: int) -> tuple[tuple[int, Callable[..., Value], tuple[int, ...] | None], ...]:
        """For each input in `mask`: its index, its rule, and where in the kept values the rule's arguments are (None: not all are kept)."""
        found = self.ruled.get(mask)
        if found is None:
            kept = self.kept(mask)
            found = self.ruled[mask] = tuple(
                (i, rule.function, tuple(map(kept.index, rule.wants)) if set(kept).issuperset(rule.wants) else None)
                for i, rule in enumerate(self.vjps) if mask >> i & 1 and rule is not None)
        return found

    def sources(self, mask: int, i: int) -> tuple[tuple[int, Any, Any], ...]:
        """Where the arguments of input i's rule are: (0, place in the kept values), (1, attribute, default), (2, place in the specs)."""
        found = self._sources.get((mask, i))
        if found is None:
            rule = self.vjps[i]
            assert rule is not None
            found = self._sources[mask, i] = tuple(
                (1, name, self.defaults[name]) if name in self.defaults else (2, self.inputs.index(name[:-5]), None) if name.endswith("_spec")
                else (0, self.kept(mask).index(name), None) for name in rule.wants)
        return found

    def plan(self, specs: tuple[Spec, ...], attributes: Attributes) -> Plan:
        """Check the inputs and lay out the call. Raises ShapeError, DtypeError, AxisError, or TypeError for attributes."""
        unknown = [name for name in attributes if name not in self.defaults]
        if unknown:
            raise TypeError(f"{self.name}() has no argument {unknown[0]!r}: it takes {', '.join([*self.inputs, *self.defaults])}")
        if len(specs) != len(self.inputs):
            raise TypeError(f"{self.name}() takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), got {len(specs)}")
        for name, spec in zip(self.inputs, specs, strict=True):
            check_dtype(self.name, name, spec.dtype)
        given = {**self.defaults, **attributes}
        check(self.name, self.kinds, given)
        plan = self.shape(self, specs, given)
        for spec in (*plan.outs, *plan.temps):
            if min(spec.shape, default=0) < 0 or spec.nbytes > MOST_BYTES:
                raise ShapeError(f"{self.name}: the result would have shape {spec.shape}: sizes are not negative, and fit into memory")
        return plan

    def failure(self, *arrays: Any, **attributes: Any) -> Exception:
        """What is raised when the kernel's status is not 1; it says more if the arrays are known."""
        made = self.fails if self.fails is None or isinstance(self.fails, Exception) else self.fails(*arrays, **attributes)
        return made or MinigradError(f"{self.name}: a kernel failed without a reason: this is a bug in minigrad")

    def remember(self, key: Any, plan: Plan) -> Plan:
        """Keep the plan under its key. Plans are few in a net, but a process that makes net after net must not fill up with them."""
        if len(self.plans) >= PLANS:
            self.plans.clear()
        plan.key = key
        self.plans[key] = plan
        return plan

    def __call__(self, *inputs: Value, **attributes: Any) -> Any:
        return Op.apply(self, *inputs, **attributes)

    def __reduce__(self) -> str:
        """For copy and pickle: an op is its own copy, and is pickled as functions are, by the name of what its module holds."""
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join([*self.inputs, *self.defaults])})>"


#: Every declared op by name; the test table and the documentation are made from it.
registry: dict[str, Op] = {}


def no_flops(specs: tuple[Spec, ...], attributes: Attributes) -> int:
    """For ops that only move data."""
    return 0


def per_element(count: int) -> Callable[[tuple[Spec, ...], Attributes], int]:
    """`count` floating-point operations for each element of the largest input."""
    return lambda specs, attributes: count * max((s.size for s in specs), default=0)


def op(*, kernel: Any = None, shape: Rule, samples: Any = None, flops: Callable[..., int] = no_flops,
       mutates: Iterable[str] = (), commit: bool = False, fails: Failure | None = None,
       integers: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Op]:
    """Declare an op from its definition in NumPy.

    kernel: what `shape` lays out; samples: inputs over the mathematical domain, for the tests; flops: of (specs, attributes);
    mutates: inputs that it writes; commit: runs only after a captured step's guard; fails: raised when the kernel's status is not 1, or
    makes what is raised: of nothing, or of the arrays given to the op and its attributes;
    integers: inputs that are not floating, or need not be (labels, indices, conditions): plain NumPy arrays given for the others are cast.
    """

    def declare(definition: Callable[..., Any]) -> Op:
        made = Op(definition, kernel=kernel, shape=shape, samples=samples, flops=flops, mutates=tuple(mutates), commit=commit, fails=fails,
                  integers=tuple(integers))
        if made.name in registry:
            raise OpError(f"an op named {made.name!r} is already declared in {registry[made.name].__module__}")
        registry[made.name] = made
        return made

    return declare
