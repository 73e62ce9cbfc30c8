"""`Function`: an operation of one's own with a Python forward and backward, as `torch.autograd.Function`."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final

from minigrad.errors import GraphError, OpError, ShapeError
from minigrad.ops import elementwise, ranges
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle, twin
from minigrad.tape.mode import GradMode, local
from minigrad.tape.record import Record, new_record

Rules = tuple[tuple[int, Callable[..., Any], tuple[int, ...]], ...]


class _Act:
    """What stands in a record in the place of an op: it has a name, keeps nothing, and its rules are made anew for each pass."""

    ruled: Final[dict[int, Rules]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def positions(self, mask: int) -> tuple[int, ...]:
        """Places of the kept values."""
        return ()


class Context:
    """What `forward` leaves for `backward`: saved Tensors, and any attribute."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: list[Any] = []
        self._constant: list[Any] = []
        self._materialize = True
        self._applied: weakref.ref[_Applied] | None = None  # once it is in the graph, whose record then holds what was saved

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep Tensors, or None, for `backward`; changing one in place in between is an error."""
        for x in tensors:
            if x is not None and not isinstance(x, Handle):
                raise TypeError(f"save_for_backward takes Tensors, got a {type(x).__name__}: keep other things as attributes of ctx")
        self._saved = list(tensors)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, in its place in the graph. Raises GraphError after the pass that freed it."""
        if self._applied is None:
            return tuple(self._saved)
        applied = self._applied()
        record = applied._record() if applied is not None and applied._record is not None else None
        if applied is None or record is None or record.kept is None:
            raise GraphError("saved_tensors were freed by the backward pass: pass retain_graph=True to it, or read them inside")
        return applied.saved(record, record.kept)

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Say that no gradient flows through these outputs."""
        self._constant = list(outputs)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default), or None, for an output that nothing depends on."""
        self._materialize = value


class _Applied(_Act):
    """One use of a Function, in the place of an op: its rules call the Function's backward, once for all inputs.

    A record has one output. Several are parts of one flat result, which has the record, so that backward runs once.
    """

    def __init__(self, kind: type[Function], context: Context, args: Sequence[Any], outputs: Sequence[Handle]) -> None:
        super().__init__(kind.__name__)
        self.kind, self.context = kind, context
        self.specs = [x.spec if isinstance(x, Handle) else None for x in args]
        self.outputs = [out.spec for out in outputs]
        self.starts = [sum(spec.size for spec in self.outputs[:i]) for i in range(len(outputs))]
        self.flat = Spec.of((sum(spec.size for spec in self.outputs),), self.outputs[0].dtype) if len(outputs) > 1 else self.outputs[0]
        # The outputs hold the record that holds this: what was saved of them is kept by twins.
        self.places = [next((i for i, out in enumerate(outputs) if x is out), -1) for x in context._saved]
        self.inputs = tuple(f"saved_tensors[{i}]" for i, x in enumerate(context._saved) if x is not None)
        self.used: set[int] = set()  # outputs that a gradient came from in this pass
        self._record: weakref.ref[Record] | None = None

    def enter(self, args: Sequence[Any], outputs: Sequence[Handle]) -> None:
        """Put the outputs into the graph."""
        context = self.context
        flat = outputs[0] if len(outputs) == 1 else twin(outputs[0])  # stands for memory that nobody reads
        parents = tuple([(x.record or x) if need else None for x, need in zip(args, context.needs_input_grad, strict=True)])
        new_record(flat, self, sum(1 << i for i, need in enumerate(context.needs_input_grad) if need), parents, tuple(self.specs), {})
        record = flat.record
        assert record is not None
        record.kept = [x if at < 0 else twin(x) for x, at in zip(context._saved, self.places, strict=True) if x is not None]
        record.versions = [x.clock[0] for x in record.kept]
        self._record, context._applied = weakref.ref(record), weakref.ref(self)
        context._saved = [x is not None for x in context._saved]
        if len(outputs) > 1:
            for i, out in enumerate(outputs):
                self._link(out, i, record)

    def _link(self, out: Handle, i: int, record: Record) -> None:
        """Make `out` output i in the graph."""
        if len(self.outputs) == 1:
            out.record, out.needs_grad = record, True
        else:
            new_record(out, _Part(self, i), 1, (record,), (self.flat,), {})

    def saved(self, record: Record, values: Sequence[Handle]) -> tuple[Any, ...]:
        """What forward saved; outputs in their places in the graph."""
        kept = iter(values)
        found: list[Any] = []
        for there, at in zip(self.context._saved, self.places, strict=True):
            x = next(kept) if there else None
            if x is not None and at >= 0:
                x = twin(x)
                self._link(x, at, record)
            found.append(x)
        return tuple(found)

    # ---- what the sweep asks an op
    def positions(self, mask: int) -> tuple[int, ...]:
        """The kept values, by their names in `inputs`."""
        return tuple(range(len(self.inputs)))

    def rules(self, mask: int) -> Rules:
        """For each input in `mask`, its part of what backward returns."""
        found: list[Any] = []

        def rule(i: int) -> Callable[[Any], Any]:
            def part(g: Any) -> Any:
                if not found:
                    local.mode.destination = None  # the first op in there need not be the one that makes this gradient
                    found.extend(self._backward(g))
                return found[i]

            return part

        return tuple((i, rule(i), ()) for i in range(len(self.specs)) if mask >> i & 1)

    def _backward(self, g: Any) -> list[Any]:
        used, self.used = self.used, set()
        if len(self.outputs) == 1:
            parts = [elementwise.clone(g)]  # others may hold g, and a backward may write into what it is given
        else:
            parts = [ranges.take_range(g, start=start, shape=spec.shape) if self.context._materialize or i in used else None
                     for i, (start, spec) in enumerate(zip(self.starts, self.outputs, strict=True))]
        result = self.kind.backward(self.context, *parts)
        given = list(result) if isinstance(result, tuple | list) else [result]
        while len(given) > len(self.specs) and given[-1] is None:
            given.pop()
        if len(given) != len(self.specs):
            raise OpError(f"{self.name}.backward returned {len(given)} gradients, expected {len(self.specs)}: "
                          "one, or None, for each argument of forward")
        return [self._checked(i, one, spec) for i, (one, spec) in enumerate(zip(given, self.specs, strict=True))]

    def _checked(self, i: int, g: Any, spec: Spec | None) -> Any:
        """The gradient for argument i. Raises OpError or ShapeError if it cannot be one."""
        if g is None:
            return None
        if spec is None:
            raise OpError(f"{self.name}.backward returned a gradient for argument {i}, which is not a Tensor: return None for it")
        if not isinstance(g, Handle) or g.spec.dtype != spec.dtype or not _sums_to(g.spec.shape, spec.shape):
            shown = repr(g.spec) if isinstance(g, Handle) else f"a {type(g).__name__}"
            raise ShapeError(f"{self.name}.backward returned {shown} for argument {i}, expected a Tensor {spec!r}")
        return g


def _sums_to(shape: tuple[int, ...], smaller: tuple[int, ...]) -> bool:
    """Whether `smaller` can be broadcast to `shape`."""
    behind = shape[len(shape) - len(smaller):]
    return len(shape) >= len(smaller) and all(n in (1, m) for n, m in zip(smaller, behind, strict=True))


class _Part(_Act):
    """One of several outputs, in the place of an op: a run of elements of the flat result."""

    def __init__(self, whole: _Applied, i: int) -> None:
        super().__init__(whole.name)
        self.whole, self.i = whole, i

    def rules(self, mask: int) -> Rules:
        """The gradient of the whole: zeros but for this part."""
        def place(g: Any) -> Any:
            self.whole.used.add(self.i)
            return ranges.place_range(g, start=self.whole.starts[self.i], shape=self.whole.flat.shape)

        return ((0, place, ()),)


class _Refusal(_Act):
    """What backward made without saying how to differentiate it."""

    def rules(self, mask: int) -> Rules:
        """One that raises GraphError."""
        def refuse(g: Any) -> Any:
            raise GraphError(f"{self.name}: trying to differentiate twice a function that was marked with @once_differentiable")

        return tuple((i, refuse, ()) for i in range(mask.bit_length()))


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a Function's backward that is not written in ops of Tensors: a derivative of what it returns raises GraphError."""

    @wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        with GradMode(False):
            result = backward(ctx, *gradients)
        if not local.mode.grad:
            return result
        applied = ctx._applied()
        record = applied._record()
        places = [*[g.record or g for g in gradients if g is not None and g.needs_grad], *[p for p in record.parents if p is not None]]
        several = list(result) if isinstance(result, tuple | list) else [result]
        for i, x in enumerate(several):
            if isinstance(x, Handle):
                several[i] = twin(x)
                new_record(several[i], _Refusal(applied.name), (1 << len(places)) - 1, tuple(places), (x.spec,) * len(places), {})
        return tuple(several)

    return once


class Function:
    """Base of operations with a backward of one's own: write the static methods `forward` and `backward`, call `apply`.

    forward(ctx, *args) computes, off the tape, from Tensors and anything else; backward(ctx, *gradients) gets one gradient an output and
    returns one, or None, for each argument. Written in ops of Tensors, backward can be differentiated again. Or, as in PyTorch 2, forward(*args)
    and setup_context(ctx, inputs, output). In a captured step both run while it is recorded, and what they did with Tensors is replayed.
    """

    @staticmethod
    def forward(*args: Any) -> Any:
        """Compute the result, a Tensor or a tuple of them; write this one."""
        raise TypeError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The gradient for each argument of forward; write this one."""
        raise TypeError("a Function needs a static method backward(ctx, *gradients)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward, and record it if an argument needs a gradient."""
        context = Context(tuple(isinstance(x, Handle) and x.needs_grad for x in args))
        setup: Callable[..., None] | None = getattr(cls, "setup_context", None)
        with GradMode(False):
            result = cls.forward(context, *args) if setup is None else cls.forward(*args)
            if setup is not None:
                setup(context, args, result)
        outputs = list(result) if isinstance(result, tuple | list) else [result]
        smooth = []
        for i, out in enumerate(outputs):
            if not isinstance(out, Handle):
                raise TypeError(f"{cls.__name__}.forward returned a {type(out).__name__}, expected a Tensor or a tuple of them")
            constant = not out.spec.is_float or any(out is x for x in context._constant)
            # An argument, a leaf from elsewhere, or one Tensor twice: an output needs a place of its own in the graph.
            if out.needs_grad or any(out is x for x in (*args, *outputs[:i])):
                with GradMode(False):
                    outputs[i] = elementwise.clone(out)
            if not constant:
                smooth.append(outputs[i])
        if smooth and local.mode.grad and any(context.needs_input_grad):
            if any(out.spec.dtype != smooth[0].spec.dtype for out in smooth):
                raise GraphError(f"{cls.__name__}: the outputs that gradients flow through need one dtype: "
                                 "mark the others with ctx.mark_non_differentiable")
            _Applied(cls, context, args, smooth).enter(args, smooth)
        return type(result)(outputs) if isinstance(result, tuple | list) else outputs[0]
