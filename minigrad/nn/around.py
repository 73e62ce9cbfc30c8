"""What runs around a module's forward: hooks before and after it, and on the gradients that come back through it."""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from minigrad.errors import ShapeError
from minigrad.ops import shape as shapes
from minigrad.tape import hooks
from minigrad.tape.mode import local
from minigrad.tape.record import Record
from minigrad.tape.tensor import Tensor

if TYPE_CHECKING:
    from minigrad.nn.module import Module


class Hooks:
    """The hooks of one module."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}  # (hook, whether it takes keyword arguments)
        self.after: dict[int, Any] = {}
        self.backward: dict[int, Any] = {}

    def call(self, module: Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run the module's forward with its hooks around it."""
        for hook, with_kwargs in list(self.before.values()):
            given = hook(module, inputs, options) if with_kwargs else hook(module, inputs)
            if given is None:
                continue
            if not with_kwargs:
                inputs = given if isinstance(given, tuple) else (given,)
            elif isinstance(given, tuple) and len(given) == 2:
                inputs, options = given
            else:
                raise TypeError(f"a forward pre-hook with keyword arguments returned a {type(given).__name__}, expected None or (args, kwargs)")
        flow = Flow(module, list(self.backward.values())) if self.backward and local.mode.grad else None
        if flow is not None:
            inputs = flow.enter(inputs)
        out = module.forward(*inputs, **options)
        for hook, with_kwargs in list(self.after.values()):
            given = hook(module, inputs, options, out) if with_kwargs else hook(module, inputs, out)
            out = out if given is None else given
        return out if flow is None else flow.leave(out)


class Flow:
    """One call of a module with backward hooks: its inputs and outputs pass through views, whose gradients are those of this call alone.

    A sweep goes through records latest first, so when it comes to the first of the outputs' views, what arrives at the others is complete
    too, and the same holds for the inputs.
    """

    def __init__(self, module: Module, called: list[Any]) -> None:
        self.module, self.called = module, called
        # Weak: the table of hooks keeps this object as long as the views live.
        self.inputs: list[weakref.ref[Record] | None] = []
        self.outputs: list[weakref.ref[Record] | None] = []
        self.specs: list[Any] = []
        self.grad_output: tuple[Any, ...] | None = None
        self.replaced: dict[int, Any] | None = None

    def enter(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs as views, so that what a caller does with the same Tensor elsewhere does not count."""
        passed, self.inputs = self._through(inputs)
        self.specs = [x.spec if isinstance(x, Tensor) else None for x in passed]
        for i, record in enumerate(self.inputs):
            if record is not None:
                hooks.register(passed[i], hooks.Reader(partial(self._at_input, i)))
        return tuple(passed)

    def leave(self, out: Any) -> Any:
        """The output as a view. Raises TypeError if it is no Tensor or tuple of Tensors."""
        several = isinstance(out, tuple | list)
        if not several and not isinstance(out, Tensor):
            raise TypeError(f"For backward hooks to be called, module output should be a Tensor or a tuple of Tensors, "
                            f"but {type(self.module).__name__} gave a {type(out).__name__}")
        passed, self.outputs = self._through(out if several else (out,))
        for i, record in enumerate(self.outputs):
            if record is not None:
                hooks.register(passed[i], hooks.Reader(partial(self._at_output, i)))
        if not several:
            return passed[0]
        return type(out)(*passed) if hasattr(out, "_fields") else type(out)(passed)

    def _through(self, values: Sequence[Any]) -> tuple[list[Any], list[weakref.ref[Record] | None]]:
        passed: list[Any] = []
        records: list[weakref.ref[Record] | None] = []
        for x in values:
            flows = isinstance(x, Tensor) and x.needs_grad
            passed.append(shapes.reshape(x, shape=x.spec.shape) if flows else x)
            records.append(weakref.ref(passed[-1].record) if flows else None)
        return passed, records

    def _at_output(self, i: int, g: Any) -> None:
        if self.grad_output is None:
            self.grad_output, self.replaced = _arrived(self.outputs, i, g), None
            if not any(record is not None for record in self.inputs):
                self._run(tuple([None] * len(self.inputs)))
                self.grad_output = None
        elif self.grad_output[i] is not g:  # the next pass through a graph that was retained
            self.grad_output = None
            self._at_output(i, g)

    def _at_input(self, i: int, g: Any) -> Any:
        if self.replaced is None:
            given = self._run(_arrived(self.inputs, i, g))
            self.replaced = {j: x for j, x in enumerate(given) if x is not None}
            self.grad_output = None
        return self.replaced.get(i)

    def _run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        """Call the hooks one after the other; returns the gradients of the inputs after them. Raises ShapeError."""
        for hook in self.called:
            given = hook(self.module, grad_input, self.grad_output)
            if given is None:
                continue
            given = given if isinstance(given, tuple) else (given,)
            wrong = len(given) != len(grad_input)
            for before, x in zip(grad_input, given, strict=False):
                wrong |= (before is None) != (x is None) or (x is not None and x.spec is not before.spec)
            if wrong:
                raise ShapeError(f"a backward hook of {type(self.module).__name__} returned {_shown(given)} for grad_input, "
                                 f"which is {_shown(grad_input)}")
            grad_input = given
        return grad_input


def _arrived(records: Sequence[weakref.ref[Record] | None], i: int, g: Any) -> tuple[Any, ...]:
    """The gradients at these places, g at place i."""
    found = []
    for j, reference in enumerate(records):
        record = reference() if reference is not None else None
        found.append(g if j == i else record.grad if record is not None else None)
    return tuple(found)


def _shown(values: Sequence[Any]) -> str:
    return f"({', '.join(repr(x.spec) if isinstance(x, Tensor) else type(x).__name__ for x in values)})"
