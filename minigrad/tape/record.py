"""The tape: running an op appends a record of what its backward needs; records of one pass are a list ordered by serial number."""
from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import DtypeError, GraphError, MinigradError, ShapeError
from minigrad.ops.op import SCRATCH, Op, Plan
from minigrad.ops.reduce import cast
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle, empty, twin, view, wrap
from minigrad.tape.mode import Mode, local
from minigrad_kernels import machine, workers

_serial = count()


class Record:
    """One op that ran: its inputs' places in the graph, and the values that its rules named."""

    __slots__ = ("op", "mask", "parents", "kept", "versions", "attributes", "specs", "serial", "grad", "path")

    def __init__(self, op: Op, mask: int, inputs: tuple[Handle, ...], out: Handle, attributes: dict[str, Any], path: str) -> None:
        self.op = op
        self.mask = mask
        self.parents: tuple[Record | Handle | None, ...] = tuple([(x.record or x) if x.requires_grad else None for x in inputs])
        # `out` is kept as a twin: out holds this record, so keeping out itself would be a cycle.
        self.kept: tuple[Handle, ...] | None = tuple([twin(out) if i < 0 else inputs[i] for i in op.positions(mask)])
        self.versions = [x.clock[0] for x in self.kept]
        self.attributes = attributes
        self.specs = tuple([x.spec for x in inputs])
        self.serial = next(_serial)
        self.grad: Any = None
        self.path = path

    @property
    def name(self) -> str:
        """`linear in net.3`: the op and the module that ran it."""
        return f"{self.op.name} in {self.path}" if self.path else self.op.name


def lift(op: Op, inputs: tuple[Any, ...]) -> tuple[Handle, ...]:
    """Python numbers and NumPy arrays as Tensors: weak, so that they take the dtype of the Tensors beside them."""
    dtype = next((x.spec.dtype for x in inputs if isinstance(x, Handle) and x.spec.is_float and not x.weak), None)
    lifted: list[Handle] = []
    for name, x in zip(op.inputs, inputs, strict=False):
        if isinstance(x, Handle):
            lifted.append(x)
        elif isinstance(x, bool | int | float | np.generic):
            lifted.append(constant(float(x), dtype or config.get_default_dtype()))
        elif isinstance(x, np.ndarray):
            lifted.append(wrap(np.ascontiguousarray(x).reshape(x.shape), Spec.of(x.shape, x.dtype), weak=True))
        else:
            raise DtypeError(f"{op.name}: {name} is a {type(x).__name__}, expected a Tensor, a NumPy array or a number: use mg.tensor(...)")
    return tuple(lifted)


_constants: dict[tuple[float, bool, np.dtype[Any]], Handle] = {}


def constant(value: float, dtype: np.dtype[Any]) -> Any:
    """A scalar Tensor that nobody writes; the common ones are made once."""
    key = (value, str(value)[0] == "-", dtype)  # 0.0 and -0.0 are equal but not the same
    found = _constants.get(key)
    if found is None:
        found = wrap(np.array(value, dtype), Spec.of((), dtype))
        if len(_constants) < 1024:
            _constants[key] = found
    return found


def _plan(op: Op, inputs: tuple[Handle, ...], attributes: dict[str, Any], key: Any, mode: Mode) -> tuple[Plan, tuple[Handle, ...]]:
    """The plan of a call not seen before; weak inputs are cast to the dtype of the others first."""
    strong = next((x.spec.dtype for x in inputs if x.spec.is_float and not x.weak), None)
    if strong is not None and any(x.weak and x.spec.is_float and x.spec.dtype != strong for x in inputs):
        from_weak = tuple(x if not x.weak or not x.spec.is_float else cast(x, dtype=strong) for x in inputs)
        return _plan(op, from_weak, attributes, None, mode)
    specs = tuple(x.spec for x in inputs)
    try:
        plan = op.plan(specs, attributes)
    except MinigradError as error:
        if mode.path and isinstance(error, ShapeError | DtypeError) and not str(error).startswith("in "):
            raise type(error)(f"in {mode.path}: {error}") from None
        raise
    if key is not None:
        op.plans[key] = plan
    return plan, inputs


def call(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Run `op` now, tell who listens, and record it if an input needs a gradient."""
    mode = local.mode
    try:
        key: Any = [x.spec for x in inputs]
    except AttributeError:
        return call(op, lift(op, inputs), attributes)
    if attributes:
        key += attributes.items()
    key = tuple(key)
    plan = op.plans.get(key)
    if plan is None:
        plan, inputs = _plan(op, inputs, attributes, key, mode)

    out: Handle | None = None
    if plan.alias is not None:
        out = view(inputs[plan.alias], plan.outs[0])
    else:
        addresses = [x.address for x in inputs]
        if plan.outs:
            spec = plan.outs[0]
            out = mode.destination
            if out is not None and out.spec is spec:
                mode.destination = None
            else:
                out = empty(spec)
            addresses.append(out.address)
        if plan.temps:
            temporaries = [empty(spec) for spec in plan.temps]
            addresses += [x.address for x in temporaries]
        addresses.append(_scratch)  # SCRATCH is -1
        invoke = _invoke or _load()
        for entry, _, block, at, operands in plan.eager or plan.ready():
            a = [addresses[i] for i in operands]
            if invoke(entry, block, at, *a, *_PADDING[len(a)]) != 1:
                raise _failure(op, mode)
    for i in op.mutates:
        inputs[i].clock[0] += 1
    if mode.listener is not None:
        mode.listener.ran(op, plan, inputs, out)

    if mode.grad:
        mask = 0
        for i, x in enumerate(inputs):
            if x.requires_grad:
                if op.mutates and i in op.mutates:
                    raise GraphError(f"{op.name}: a leaf Variable that requires grad is being used in an in-place operation: "
                                     "write it under mg.no_grad()")
                if op.vjps[i] is not None:
                    mask |= 1 << i
        if mask and out is not None:
            out.record = Record(op, mask, inputs, out, attributes, mode.path)
            out.requires_grad = True
    return out


def _failure(op: Op, mode: Mode) -> Exception:
    """The error that the op declares for a kernel that ended with another status than 1."""
    reason = op.fails or MinigradError(f"{op.name}: a kernel failed without a reason: this is a bug in minigrad")
    return type(reason)(f"in {mode.path}: {reason}" if mode.path else str(reason))


_PADDING = [(0,) * (machine.INVOKE_ADDRESSES - n) for n in range(machine.INVOKE_ADDRESSES + 1)]
_scratch = workers.scratch_address()
_invoke: Any = None


def _load() -> Any:
    global _invoke
    _invoke = machine.calls().invoke
    return _invoke


assert SCRATCH == -1
Op.apply = staticmethod(call)
