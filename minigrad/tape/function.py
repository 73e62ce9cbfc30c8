"""`Function`: an operation of one's own with a Python forward and backward, as `torch.autograd.Function`."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from minigrad.errors import GraphError, OpError, SavedValueError, ShapeError
from minigrad.ops import elementwise, ranges
from minigrad.ops.spec import Spec
from minigrad.tape.handle import Handle, twin
from minigrad.tape.mode import GradMode, local
from minigrad.tape.record import Record, attach, new_record
from minigrad.tape.tensor import zeros_of


class Context:
    """What `forward` leaves for `backward`: saved Tensors, and any attribute."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: list[tuple[Any, int]] = []
        self._outputs: list[tuple[Any, weakref.ref[Record]]] = []  # what was saved of the outputs, and their records
        self._constant: set[int] = set()
        self._materialize = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep Tensors, or None, for `backward`; changing one in place in between is an error."""
        for x in tensors:
            if x is not None and not isinstance(x, Handle):
                raise TypeError(f"save_for_backward takes Tensors, got a {type(x).__name__}: keep other things as attributes of ctx")
        self._saved = [(x, -1 if x is None else x.clock[0]) for x in tensors]

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, in its place in the graph. Raises SavedValueError if one was modified since."""
        found = []
        for x, version in self._saved:
            if x is not None and x.clock[0] != version:
                raise SavedValueError(f"a Tensor {x.spec!r} saved by a Function was modified by an inplace operation since "
                                      f"(version {x.clock[0]}, expected {version}): run backward before changing it")
            for output, record in self._outputs:
                if x is output and record() is not None:
                    x = twin(x)
                    x.record, x.needs_grad = record(), True
            found.append(x)
        return tuple(found)

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Say that no gradient flows through these outputs."""
        self._constant = {id(x) for x in outputs}

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default), or None, for an output that nothing depends on."""
        self._materialize = value


class _Applied:
    """One use of a Function, in the place of an op: its rules call the Function's backward, once for all inputs."""

    def __init__(self, kind: type[Function], context: Context, specs: Sequence[Spec], outputs: Sequence[Spec], starts: Sequence[int]) -> None:
        self.name = kind.__name__
        self.kind, self.context, self.specs, self.outputs, self.starts = kind, context, specs, outputs, starts
        self._given: Any = None
        self._found: list[Any] = []

    def positions(self, mask: int) -> tuple[int, ...]:
        """Nothing is kept beside the context."""
        return ()

    def rules(self, mask: int) -> tuple[tuple[int, Callable[..., Any], tuple[int, ...]], ...]:
        """For each input in `mask`, its part of what backward returns."""
        wanted = [i for i in range(len(self.specs)) if mask >> i & 1]

        def rule(i: int) -> Callable[[Any], Any]:
            def part(g: Any) -> Any:
                if self._given is not g:
                    self._found, self._given = self._backward(g), g
                found = self._found[i]
                if i == wanted[-1]:
                    self._given, self._found = None, []
                return found

            return part

        return tuple((i, rule(i), ()) for i in wanted)

    def _backward(self, g: Any) -> list[Any]:
        if self.starts:
            parts = [ranges.take_range(g, start=start, shape=spec.shape) for start, spec in zip(self.starts, self.outputs, strict=True)]
        else:
            parts = [g]
        result = self.kind.backward(self.context, *parts)
        given = list(result) if isinstance(result, tuple | list) else [result]
        if len(given) != len(self.specs):
            raise OpError(f"{self.name}.backward returned {len(given)} gradients, expected {len(self.specs)}: "
                          "one, or None, for each argument of forward")
        found: list[Any] = []
        for i, (one, spec) in enumerate(zip(given, self.specs, strict=True)):
            if one is None and spec is not None:
                one = zeros_of(spec)
            elif one is not None and spec is not None and (not isinstance(one, Handle) or one.spec.dtype != spec.dtype):
                shown = repr(one.spec) if isinstance(one, Handle) else f"a {type(one).__name__}"
                raise ShapeError(f"{self.name}.backward returned {shown} for argument {i}, expected a Tensor {spec!r}")
            found.append(one)
        return found


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
        needs = tuple(isinstance(x, Handle) and x.needs_grad for x in args)
        context = Context(needs)
        setup: Callable[..., None] | None = getattr(cls, "setup_context", None)
        with GradMode(False):
            result = cls.forward(context, *args) if setup is None else cls.forward(*args)
            if setup is not None:
                setup(context, args, result)
        outputs = list(result) if isinstance(result, tuple | list) else [result]
        for i, out in enumerate(outputs):
            if not isinstance(out, Handle):
                raise TypeError(f"{cls.__name__}.forward returned a {type(out).__name__}, expected a Tensor or a tuple of them")
            if any(out is x for x in args):
                with GradMode(False):
                    outputs[i] = elementwise.clone(out)
        if local.mode.grad and any(needs):
            smooth = [out for out in outputs if out.spec.is_float and id(out) not in context._constant]
            _record(cls, context, args, smooth)
        return type(result)(outputs) if isinstance(result, tuple | list) else outputs[0]


def _record(kind: type[Function], context: Context, args: Sequence[Any], outputs: list[Any]) -> None:
    """Put the outputs into the graph. Several are parts of one flat result, so that backward runs once."""
    if not outputs:
        return
    dtype = outputs[0].spec.dtype
    if any(out.spec.dtype != dtype for out in outputs):
        raise GraphError(f"{kind.__name__}: the outputs that gradients flow through need one dtype: mark the others with ctx.mark_non_differentiable")
    starts: list[int] = []
    total = 0
    for out in outputs:
        starts.append(total)
        total += out.spec.size
    specs: list[Any] = [x.spec if isinstance(x, Handle) else None for x in args]
    applied = _Applied(kind, context, specs, [out.spec for out in outputs], starts if len(outputs) > 1 else ())
    flat = outputs[0]
    if len(outputs) > 1:
        flat = twin(outputs[0])
        flat.spec = Spec.of((total,), dtype)  # stands for memory that nobody reads
    new_record(flat, applied, sum(1 << i for i, need in enumerate(context.needs_input_grad) if need),
               tuple([(x.record or x) if need else None for x, need in zip(args, context.needs_input_grad, strict=True)]), tuple(specs), {})
    if len(outputs) > 1:
        for start, out in zip(starts, outputs, strict=True):
            attach(out, ranges.take_range, (flat,), {"start": start, "shape": out.spec.shape})
    context._saved = _relinked(context, outputs)


def _relinked(context: Context, outputs: list[Any]) -> list[tuple[Any, int]]:
    """What was saved; an output, which holds the record that holds the context, by a twin without its record."""
    found = []
    for x, version in context._saved:
        for out in outputs:
            if x is out:
                x = twin(out)
                context._outputs.append((x, weakref.ref(out.record)))
        found.append((x, version))
    return found

