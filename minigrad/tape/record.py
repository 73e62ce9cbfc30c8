"""The tape: running an op appends a record of what its backward needs; records of one pass are a list ordered by serial number."""
from __future__ import annotations

from itertools import count
from typing import Any, Final

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError, GraphError, MinigradError, ShapeError
from minigrad.ops.attributes import check_dtype
from minigrad.ops.op import SCRATCH, Op, Plan
from minigrad.ops.shape import cast
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle, empty, twin, view, wrap
from minigrad.tape.mode import Mode, local
from minigrad_kernels import machine, workers

_serial = count()


class Record:
    """One op that ran: its inputs' places in the graph, and the values that its rules named."""

    __slots__ = ("op", "mask", "parents", "kept", "versions", "attributes", "specs", "serial", "grad", "path", "hooks", "__weakref__")

    op: Op
    mask: int  # bit i: input i needs a gradient and has a rule
    parents: tuple[Any, ...]  # for each input a Record, a leaf, or, where no gradient flows, its array (None if that is not known any more)
    kept: list[Handle] | None  # None once backward has consumed them
    versions: list[int]
    attributes: dict[str, Any]
    specs: tuple[Any, ...]  # of the inputs, and behind them what else the plan was found by
    serial: int
    grad: Any
    path: str
    hooks: dict[int, Any]  # called with the gradient; not set where there are none

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def name(self) -> str:
        """`linear in net.3`: the op and the module that ran it."""
        return f"{self.op.name} in {self.path}" if self.path else self.op.name


def lift(op: Op, inputs: tuple[Any, ...]) -> tuple[Handle, ...]:
    """Python numbers and NumPy arrays as Tensors: weak, so that they take the dtype of the Tensors beside them."""
    floats = [(x.weak, x.spec.dtype) for x in inputs if isinstance(x, Handle) and x.spec.is_float]
    floats += [(True, x.dtype.newbyteorder("=")) for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    dtype = min(floats, key=lambda pair: pair[0])[1] if floats else None
    # Beside integers and bools alone a whole number is one of them.
    whole = [x.spec.dtype if isinstance(x, Handle) else x.dtype for x in inputs if isinstance(x, Handle | np.ndarray)] if dtype is None else []
    integer = next((one for one in whole if one.kind == "i"), np.dtype(np.int64))
    lifted: list[Handle] = []
    for i, (name, x) in enumerate(zip(op.inputs, inputs, strict=False)):
        if isinstance(x, Handle):
            lifted.append(x)
        elif isinstance(x, bool | int | np.bool_ | np.integer) and (whole or i in op.integers):
            lifted.append(constant(x, np.dtype(np.bool_) if isinstance(x, bool | np.bool_) else integer))
        elif isinstance(x, bool | int | float | np.generic):
            lifted.append(constant(float(x), dtype or config.get_default_dtype()))
        elif isinstance(x, np.ndarray):
            check_dtype(op.name, name, x.dtype)
            native = np.ascontiguousarray(x, x.dtype.newbyteorder("=")).reshape(x.shape)
            lifted.append(wrap(native, Spec.of(native.shape, native.dtype), weak=True))
        else:
            raise DtypeError(f"{op.name}: {name} is a {type(x).__name__}, expected a Tensor, a NumPy array or a number: use mg.tensor(...)")
    return tuple(lifted)


_constants: dict[tuple[Any, bool, np.dtype[Any]], Handle] = {}
#: Scalars that are kept: more than a step has, for one that has more cannot be captured.
CONSTANTS: Final = 1 << 16


def constant(value: Any, dtype: np.dtype[Any]) -> Any:
    """A scalar Tensor that nobody writes; the common ones are made once."""
    # 0.0 and -0.0 are equal but not the same, and NaN is not equal to itself.
    key = (value if value == value else "nan", str(value)[0] == "-", dtype)
    found = _constants.get(key)
    if found is None:
        found = wrap(np.array(value, dtype), Spec.of((), dtype))
        if len(_constants) >= CONSTANTS:  # the oldest goes; two recordings of a step have to find the same ones
            _constants.pop(next(iter(_constants)), None)
        _constants[key] = found
    return found


def hashable(op: Op, name: str, value: Any) -> Any:
    """An attribute that plans can be found by: lists as tuples. Raises TypeError for what is neither a value nor a list of some."""
    fixed = tuple([hashable(op, name, v) for v in value]) if isinstance(value, list | tuple) else value
    try:
        hash(fixed)
    except TypeError:
        raise TypeError(f"{op.name}: {name} is a {type(value).__name__}, expected a number, a name or a tuple of them: attributes are part of "
                        f"the program; what changes between calls is an input ({', '.join(op.inputs)})") from None
    return fixed


def _plan(op: Op, inputs: tuple[Handle, ...], attributes: dict[str, Any], key: Any, mode: Mode) -> tuple[Plan, tuple[Handle, ...]]:
    """The plan of a call not seen before; weak inputs are cast to the dtype of the others first."""
    strong = next((x.spec.dtype for x in inputs if x.spec.is_float and not x.weak), None)
    if strong is not None:
        from_weak = tuple([cast(x, dtype=strong) if x.weak and i not in op.integers and x.spec.dtype != strong else x for i, x in enumerate(inputs)])
        if any(a is not b for a, b in zip(from_weak, inputs, strict=True)):
            key = (*[x.spec for x in from_weak], *attributes.items())
            return (op.plans[key], from_weak) if key in op.plans else _plan(op, from_weak, attributes, key, mode)
    specs = tuple(x.spec for x in inputs)
    try:
        plan = op.plan(specs, attributes)
    except MinigradError as error:
        if mode.path and isinstance(error, ShapeError | DtypeError) and not str(error).startswith("in "):
            raise type(error)(f"in {mode.path}: {error}") from None
        raise
    return op.remember(key, plan), inputs


def call(op: Op, *inputs: Any, **attributes: Any) -> Any:
    """Run `op` now, tell who listens, and record it if an input needs a gradient."""
    mode = local.mode
    count = len(inputs)
    try:
        if attributes:
            key: Any = (*[x.spec for x in inputs], *attributes.items())
        elif count == 1:
            key = inputs[0].spec
        elif count == 2:
            key = (inputs[0].spec, inputs[1].spec)
        else:
            key = tuple([x.spec for x in inputs])
    except AttributeError:
        return call(op, *lift(op, inputs), **attributes)
    try:
        plan = op.plans.get(key)
    except TypeError:  # a list is as good as a tuple, but for finding plans
        return call(op, *inputs, **{name: hashable(op, name, value) for name, value in attributes.items()})
    if plan is None:
        plan, inputs = _plan(op, inputs, attributes, key, mode)
        key = tuple([x.spec for x in inputs])

    out: Any
    if plan.direct is None:
        out = _run(op, plan, inputs, attributes, mode)
    else:
        spec = plan.outs[0]
        out = mode.destination
        if out is not None and out.spec is spec:
            mode.destination = None
        else:
            out = _new(Handle.concrete)
            out.array = _empty(spec.shape, spec.dtype)
            out.spec = spec
            out.clock = [0]
            out.needs_grad = out.weak = False
            out.record = out.leaf = None
        entry, block, at = plan.direct
        if count == 1:
            out.address = _begin(entry, block, at, 1, id(out.array), inputs[0].address, 0, 0, _scratch)
        elif count == 2:
            out.address = _begin(entry, block, at, 2, id(out.array), inputs[0].address, inputs[1].address, 0, _scratch)
        else:
            out.address = _begin(entry, block, at, 3, id(out.array), inputs[0].address, inputs[1].address, inputs[2].address, _scratch)
        if out.address == 0:
            raise _failure(op, inputs, attributes, mode)
    if mode.listener is not None:
        mode.listener.ran(op, plan, inputs, out)

    if mode.grad and out is not None:
        # Written out for one and two inputs: half of what an op costs in Python is spent here.
        parents: tuple[Any, ...]
        if count == 1:
            (x,) = inputs
            mask = int(x.needs_grad)
            parents = (x.record or x,)
        elif count == 2:
            x, y = inputs
            mask = x.needs_grad | y.needs_grad << 1
            parents = ((x.record or x) if x.needs_grad else x.array, (y.record or y) if y.needs_grad else y.array)
        else:
            mask = sum([bit for x, bit in zip(inputs, _BITS) if x.needs_grad])  # noqa: B905  the shorter one ends it
            parents = tuple([(x.record or x) if x.needs_grad else x.array for x in inputs]) if mask else ()
        mask &= op.differentiable
        if mask:
            record = _new(Record)
            record.op = op
            record.mask = mask
            record.parents = parents
            positions = op.positions(mask)
            # `out` is kept as a twin: out holds this record, so keeping out itself would be a cycle.
            if len(positions) == 1:
                held = inputs[positions[0]] if positions[0] >= 0 else twin(out)
                record.kept = [held]
                record.versions = [held.clock[0]]
            else:
                record.kept = kept = [twin(out) if i < 0 else inputs[i] for i in positions]
                record.versions = [x.clock[0] for x in kept]
            record.attributes = attributes
            record.specs = key if type(key) is tuple else (key,)
            record.serial = next(_serial)
            record.grad = None
            record.path = mode.path
            out.record = record
            out.needs_grad = True
    return out


def next_serial() -> int:
    """A number below those of all records to come."""
    return next(_serial)


def attach(out: Handle, op: Op, inputs: tuple[Handle, ...], attributes: dict[str, Any]) -> None:
    """Record `out`, whose memory holds the values already, as what `op` makes of `inputs`; the op's rules must need neither by value."""
    mask = sum([bit for x, bit in zip(inputs, _BITS) if x.needs_grad]) & op.differentiable  # noqa: B905  the shorter one ends it
    out.record, out.needs_grad = None, False
    if mask:
        assert not op.positions(mask)
        parents = tuple([(x.record or x) if x.needs_grad else None for x in inputs])
        new_record(out, op, mask, parents, (*[x.spec for x in inputs], *attributes.items()), attributes)


def new_record(out: Handle, op: Any, mask: int, parents: tuple[Any, ...], specs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    """Give `out` a record of `op` that keeps no values."""
    record = _new(Record)
    record.op, record.mask, record.attributes, record.parents, record.specs = op, mask, attributes, parents, specs
    record.kept, record.versions = [], []
    record.serial, record.grad, record.path = next(_serial), None, local.mode.path
    out.record, out.needs_grad = record, True


def _run(op: Op, plan: Plan, inputs: tuple[Handle, ...], attributes: dict[str, Any], mode: Mode) -> Handle | None:
    """The general form of a call: views, updates in place, temporaries, several kernels."""
    if plan.alias is not None:
        return view(inputs[plan.alias], plan.outs[0], plan.start)  # type: ignore[no-any-return]
    if op.mutates and mode.grad and any(inputs[i].needs_grad for i in op.mutates):
        raise GraphError(f"{op.name}: a leaf Variable that requires grad is being used in an in-place operation: write it under mg.no_grad()")
    calls = plan.eager or plan.ready()
    addresses = [x.address for x in inputs]
    out: Handle | None = None
    if plan.outs:
        out = mode.destination
        if out is not None and out.spec is plan.outs[0]:
            mode.destination = None
        else:
            out = empty(plan.outs[0])
        addresses.append(out.address)
    temporaries = [empty(spec) for spec in plan.temps]
    addresses += [x.address for x in temporaries]
    addresses.append(_scratch)  # SCRATCH is -1
    for entry, _, block, at, operands in calls:
        a = [addresses[i] for i in operands]
        if _invoke(entry, block, at, *a, *_PADDING[len(a)]) != 1:
            raise _failure(op, inputs, attributes, mode)
    for i in op.mutates:
        clock = inputs[i].clock
        now = clock[0] + 1
        clock[:] = (now, op.name, now)
    return out


def _failure(op: Op, inputs: tuple[Handle, ...], attributes: dict[str, Any], mode: Mode) -> Exception:
    """The error that the op declares for a kernel that ended with another status than 1."""
    reason = op.failure(*[x.array for x in inputs], **{**op.defaults, **attributes})
    return type(reason)(f"in {mode.path}: {reason}" if mode.path else str(reason))


_PADDING = [(0,) * (machine.INVOKE_ADDRESSES - n) for n in range(machine.INVOKE_ADDRESSES + 1)]
_scratch = workers.scratch_address()
_BITS = tuple(1 << i for i in range(16))
_new: Any = object.__new__
_empty = np.empty


def _invoke(*arguments: int) -> int:
    """The compiled calls, fetched by the first op that runs: importing minigrad compiles and loads nothing."""
    global _invoke, _begin
    _invoke, _begin = machine.calls().invoke, machine.calls().begin
    return _invoke(*arguments)


def _begin(*arguments: int) -> int:
    """As `_invoke`."""
    global _invoke, _begin
    _invoke, _begin = machine.calls().invoke, machine.calls().begin
    return _begin(*arguments)


assert SCRATCH == -1
Op.apply = Op.__call__ = call  # type: ignore[assignment, method-assign]
