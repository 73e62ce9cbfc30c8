"""Gradient checking: what backward says against central differences, in float64, element by element or along random directions."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from minigrad.errors import CaptureError, DtypeError, GradcheckError
from minigrad.ops.op import Op
from minigrad.tape import journal
from minigrad.tape.backward import gradients, reachable
from minigrad.tape.handle import Array, Handle
from minigrad.tape.mode import Listener, enable_grad, listening, local, no_grad
from minigrad.tape.tensor import Tensor, seed, tensor, zeros_of
from minigrad.tape.tree import flatten

#: Directions that the fast mode tries for each input.
DIRECTIONS: Final = 3


class _Input(NamedTuple):
    """A Tensor that is checked: the one the caller passed, moved in place and put back."""

    tensor: Any
    label: str  # `input 1 (weight)`
    number: int


class _Point(NamedTuple):
    """One element of the Jacobian, or a direction through it, and what was found there."""

    output: int
    row: tuple[int, ...]  # the output's element
    input: int
    column: tuple[int, ...]  # the input's element
    analytic: float
    numeric: float


class _Function:
    """The function with its arguments: it can be run where it is, and an element away from there."""

    def __init__(self, func: Callable[..., Any], given: Any, name: str, labels: Sequence[str] | None = None) -> None:
        self.func, self.name = func, name
        self.args = tuple(given) if isinstance(given, tuple | list) else (given,)
        self.labels = _labels(func, len(self.args)) if labels is None else labels
        self.inputs = self._inputs()
        if not self.inputs:
            raise ValueError(f"{name} expects at least one input Tensor with requires_grad=True")

    def _inputs(self) -> list[_Input]:
        """The arguments' Tensors and a module's parameters, each once. Raises DtypeError, or ValueError for memory in common."""
        named: list[tuple[int, str, Any]] = []
        for i, (arg, label) in enumerate(zip(self.args, self.labels, strict=True)):
            leaves: list[Any] = []
            flatten(arg, leaves)
            named += [(i, label if x is arg else f"{label}, Tensor {k}", x) for k, x in enumerate(leaves)]
        parameters = getattr(self.func, "named_parameters", None)
        if callable(parameters):
            named += [(len(self.args) + k, f"parameter {path}", p) for k, (path, p) in enumerate(parameters())]
        chosen: list[_Input] = []
        for i, label, x in named:
            if not isinstance(x, Handle) or not x.needs_grad or any(x is other.tensor for other in chosen):
                continue
            if x.spec.dtype != np.float64:
                raise DtypeError(f"{self.name}: {label} is {x.spec.dtype.name}: differences drown in rounding below float64, use .double()")
            for other in chosen:
                if np.may_share_memory(x.array, other.tensor.array):
                    raise ValueError(f"{self.name}: {label} and {other.label} share memory, so that one cannot be moved without the other: "
                                     "clone() one of them")
            chosen.append(_Input(x, label, i))
        return chosen

    def outputs(self) -> list[Any]:
        """Run it: its floating-point Tensors, in order. Random numbers and running statistics are those of every other run."""
        with journal.aside():
            result = self.func(*self.args)
        leaves: list[Any] = []
        flatten(result, leaves)
        found = [x for x in leaves if isinstance(x, Handle) and x.spec.is_float]
        if not found:
            raise TypeError(f"{self.name}: the function must return floating-point Tensors, got a {type(result).__name__}")
        for o, x in enumerate(found):
            if x.spec.dtype != np.float64:
                raise DtypeError(f"{self.name}: output {o} is {x.spec.dtype.name}: differences drown in rounding below float64, compute in float64")
        return found

    def values(self) -> list[Array]:
        """The outputs' values, where it is now."""
        with no_grad():
            return [x.array.copy() for x in self.outputs()]

    @contextmanager
    def _moved(self, i: int, shift: Array) -> Iterator[None]:
        values = self.inputs[i].tensor.array
        before = values.copy()
        try:
            values += shift
            yield
        finally:
            values[...] = before

    def at(self, i: int, shift: Array) -> list[Array]:
        """The outputs' values with input i moved by `shift`."""
        with self._moved(i, shift):
            return self.values()

    def slopes(self, i: int, direction: Array, step: float) -> list[Array]:
        """The derivative of each output as input i moves: central differences of fourth order."""
        near, far = [[self.at(i, k * step * direction) for k in pair] for pair in ((1, -1), (2, -2))]
        with np.errstate(invalid="ignore", over="ignore"):
            # The far difference cancels the second-order error of the near one.
            return [(8 * (a - b) - (c - d)) / (12 * step) for a, b, c, d in zip(*near, *far, strict=True)]

    def bend(self, i: int, direction: Array, step: float, o: int, where: Any) -> tuple[float, float] | None:
        """The one-sided slopes of an output's element where it has a kink or a jump, else None.

        What is smooth has one-sided slopes that differ in proportion to the step; across a kink they do not.
        """
        here = float(self.values()[o][where])
        apart = []
        sides = (0.0, 0.0)
        for k in (2.0, 1.0, 0.5, 0.25, 0.125):
            up = (float(self.at(i, k * step * direction)[o][where]) - here) / (k * step)
            down = (here - float(self.at(i, -k * step * direction)[o][where])) / (k * step)
            apart.append(abs(up - down) / k)
            sides = sides if apart[-1] * k < abs(sides[1] - sides[0]) else (down, up)
        noise = 1e-9 * (1 + abs(here) + abs(sides[0]) + abs(sides[1])) / min(step * 1e5, 1.0)
        return sides if abs(sides[1] - sides[0]) > 1e3 * noise and max(apart) > 3 * min(apart) else None


def _labels(func: Callable[..., Any], count: int) -> list[str]:
    """`input 1 (weight)`, where the function's parameters have names."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [f"input {i} ({names[i]})" if i < len(names) else f"input {i}" for i in range(count)]


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-5, atol: float = 1e-6, rtol: float = 1e-5, raise_exception: bool = True,
              nondet_tol: float = 0.0, fast_mode: bool = False) -> bool:
    """Whether backward's gradients of func agree with central differences, for every element of every input and output.

    inputs: the arguments; float64 Tensors in them with requires_grad are checked, and the parameters of a Module. They are moved in place and
    put back. The differences are of fourth order, so steps and tolerances are tighter than PyTorch's. eps: the step, times an element's size
    where that is above 1. fast_mode: compare u' J v for random u and v, at a cost that does not grow with the sizes, and look for the element
    only where they differ. Raises GradcheckError, which names op, output, input, index and both values and has them as attributes; also if
    two runs with the same inputs differ by more than nondet_tol.
    """
    return _verdict(_Function(func, inputs, "gradcheck"), eps, (atol, rtol), raise_exception, nondet_tol, fast_mode)


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-5, atol: float = 1e-6, rtol: float = 1e-5,
                  raise_exception: bool = True, nondet_tol: float = 0.0, fast_mode: bool = False) -> bool:
    """Whether second derivatives agree with differences of first ones; otherwise as gradcheck.

    grad_outputs: the gradients that backward starts with, float64 Tensors, one per output; random unless given.
    """
    function = _Function(func, inputs, "gradgradcheck")
    return _verdict(_second(function, grad_outputs), eps, (atol, rtol), raise_exception, nondet_tol, fast_mode)


def _second(function: _Function, grad_outputs: Any = None) -> _Function:
    """The first derivatives as a function of the arguments and of the outputs' gradients."""
    outputs = _recorded(function)
    if grad_outputs is None:
        random = np.random.default_rng(1)
        grad_outputs = [tensor(random.standard_normal(x.shape), requires_grad=True) for x in outputs]
    upstream = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    labels = [*function.labels, *[f"the gradient of output {o}" for o in range(len(upstream))]]
    return _Function(_Gradient(function), (*function.args, *upstream), function.name, labels)


class _Gradient:
    """A function's first derivatives: it is called with the arguments and the gradients of the outputs."""

    def __init__(self, function: _Function) -> None:
        self.function = function
        self.named_parameters = getattr(function.func, "named_parameters", None)

    def __call__(self, *values: Any) -> tuple[Tensor, ...]:
        # Without a graph gradcheck asks for values only, but a gradient needs one.
        with enable_grad():
            outputs = self.function.outputs()
            linked = [(x, u) for x, u in zip(outputs, values[len(self.function.args):], strict=True) if x.needs_grad]
            wanted = [one.tensor for one in self.function.inputs]
            found = gradients([x for x, _ in linked], wanted, [seed(x, u) for x, u in linked], retain_graph=True, create_graph=True)
        return tuple(zeros_of(x.spec) if g is None else g for x, g in zip(wanted, found, strict=True))


def _verdict(function: _Function, eps: float, tolerance: tuple[float, float], raising: bool, nondet_tol: float, fast: bool) -> bool:
    """Whether the derivatives are right. Raises GradcheckError, if asked to."""
    outputs = _recorded(function)
    try:
        _deterministic(function, outputs, nondet_tol)
        found = (_along_directions if fast else _at_elements)(function, outputs, eps, tolerance)
        if found is not None:
            raise _error(function, outputs, found, eps, tolerance)
    except GradcheckError:
        if raising:
            raise
        return False
    return True


def _recorded(function: _Function) -> list[Any]:
    with enable_grad():
        return function.outputs()


def _deterministic(function: _Function, outputs: list[Any], tolerance: float) -> None:
    """Raise GradcheckError if a second run gives something else."""
    for o, (x, again) in enumerate(zip(outputs, function.values(), strict=True)):
        same = x.array.shape == again.shape and np.array_equal(x.array, again, equal_nan=True)
        if not same and (x.array.shape != again.shape or not np.abs(x.array - again).max() <= tolerance):
            raise GradcheckError(f"{function.name}: the function is not deterministic: two runs with the same inputs differ in output {o}. "
                                 "Seed it inside, draw from minigrad's own generator, or allow for it with nondet_tol")


def _pulled(function: _Function, output: Any, direction: Array) -> list[Array]:
    """The gradient of <direction, output> for each input."""
    wanted = [one.tensor for one in function.inputs]
    found = gradients([output], wanted, [tensor(direction)], retain_graph=True, create_graph=False) if output.needs_grad else [None] * len(wanted)
    return [np.zeros(x.spec.shape) if g is None else g.array for x, g in zip(wanted, found, strict=True)]


def _differs(analytic: Any, numeric: Any, tolerance: tuple[float, float]) -> Any:
    """Where two values are further apart than allowed; NaN is."""
    atol, rtol = tolerance
    with np.errstate(invalid="ignore"):
        return ~((np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric)) | (analytic == numeric))


def _dot(a: Array, b: Array) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sum(a * b))


def _basis(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    one = np.zeros(shape)
    one[index] = 1.0
    return one


def _step(function: _Function, i: int, index: tuple[int, ...], eps: float) -> float:
    size = abs(float(function.inputs[i].tensor.array[index]))
    return eps * size if 1.0 < size < np.inf else eps


def _at_elements(function: _Function, outputs: list[Any], eps: float, tolerance: tuple[float, float]) -> _Point | None:
    """The first element of the Jacobian that is wrong, or None."""
    jacobians = [[np.zeros((*x.shape, *one.tensor.shape)) for one in function.inputs] for x in outputs]
    for output, blocks in zip(outputs, jacobians, strict=True):
        for where in np.ndindex(output.shape):
            for block, g in zip(blocks, _pulled(function, output, _basis(output.shape, where)), strict=True):
                block[where] = g
    for i, one in enumerate(function.inputs):
        for index in np.ndindex(one.tensor.shape):
            columns = function.slopes(i, _basis(one.tensor.shape, index), _step(function, i, index, eps))
            for o, numeric in enumerate(columns):
                analytic = jacobians[o][i][(..., *index)]
                wrong = np.argwhere(_differs(analytic, numeric, tolerance))
                if len(wrong):
                    where = tuple(wrong[0].tolist())
                    return _Point(o, where, i, index, float(analytic[where]), float(numeric[where]))
    return None


def _along_directions(function: _Function, outputs: list[Any], eps: float, tolerance: tuple[float, float]) -> _Point | None:
    """An element of the Jacobian that is wrong, found from a direction that is; None if all are right."""
    random = np.random.default_rng(0)
    for _ in range(DIRECTIONS):
        ups = [random.standard_normal(x.shape) for x in outputs]
        pulled = [_pulled(function, x, u) for x, u in zip(outputs, ups, strict=True)]
        for i, one in enumerate(function.inputs):
            v = random.standard_normal(one.tensor.shape)
            for o, (u, slope) in enumerate(zip(ups, function.slopes(i, v, eps), strict=True)):
                analytic, numeric = _dot(pulled[o][i], v), _dot(u, slope)
                # The sum has terms of both signs, and is as exact as it would be without them.
                if _differs(analytic, numeric, (tolerance[0] + tolerance[1] * float(np.linalg.norm(slope)), tolerance[1])):
                    return _narrowed(function, outputs, (o, i), u, v, eps, tolerance) or _Point(o, (), i, (), analytic, numeric)
    return None


def _narrowed(function: _Function, outputs: list[Any], block: tuple[int, int], u: Array, v: Array, eps: float,
              tolerance: tuple[float, float]) -> _Point | None:
    """A wrong element, by halving the direction where the difference is; None if it gets lost on the way."""
    o, i = block
    g = _pulled(function, outputs[o], u)[i]

    def worse(direction: Array) -> float:
        return float(np.nan_to_num(abs(_dot(g, direction) - _dot(u, function.slopes(i, direction, eps)[o])), nan=np.inf))

    index = _unravelled(_halved(v, worse), v.shape)
    slope = function.slopes(i, _basis(v.shape, index), _step(function, i, index, eps))[o]

    def wrong(direction: Array) -> float:
        return float(np.nan_to_num(abs(float(_pulled(function, outputs[o], direction)[i][index]) - _dot(direction, slope)), nan=np.inf))

    where = _unravelled(_halved(u, wrong), u.shape)
    analytic, numeric = float(_pulled(function, outputs[o], _basis(u.shape, where))[i][index]), float(slope[where])
    found = _Point(o, where, i, index, analytic, numeric)
    return found if _differs(analytic, numeric, tolerance) else None


def _unravelled(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.unravel_index(place, shape))


def _halved(direction: Array, measure: Callable[[Array], float]) -> int:
    """The element of the direction that the measure is largest for, following the larger half."""
    first, last = 0, direction.size
    while last - first > 1:
        middle = (first + last) // 2
        halves = []
        for a, b in ((first, middle), (middle, last)):
            part = np.zeros(direction.size)
            part[a:b] = direction.reshape(-1)[a:b]
            halves.append(measure(part.reshape(direction.shape)))
        first, last = (first, middle) if halves[0] >= halves[1] else (middle, last)
    return first


def _error(function: _Function, outputs: list[Any], found: _Point, eps: float, tolerance: tuple[float, float]) -> GradcheckError:
    """What is said of a wrong element: where, both values, how far apart, whether it is a kink, and which op's rule is to blame."""
    one, output = function.inputs[found.input], outputs[found.output]
    located = len(found.row) == len(output.shape) and len(found.column) == len(one.tensor.shape)
    guilty = _culprit(function, output, eps, tolerance)
    outer = output.record.name if output.record is not None else None
    sides = None
    if located:
        step = _step(function, found.input, found.column, eps)
        sides = function.bend(found.input, _basis(one.tensor.shape, found.column), step, found.output, found.row)
    relative = abs(found.analytic - found.numeric) / max(abs(found.numeric), abs(found.analytic), 1e-300)
    first = function.func.function if isinstance(function.func, _Gradient) else None
    spot = f"output {found.output}" if first is None else f"the gradient for {first.inputs[found.output].label}"
    spot += str(list(found.row)) if located else ", in a random direction,"
    place = f"{one.label}{list(found.column)}" if located else one.label
    text = (f"{function.name}: gradient of {spot}{f' ({outer})' if outer else ''} with respect to {place} is {found.analytic!r}, "
            f"differences say {found.numeric!r} (relative error {relative:.2g})")
    if sides is not None:
        text += (f": {guilty or 'the function'} has a kink there, one-sided slopes are {sides[0]:.6g} and {sides[1]:.6g}: "
                 "move the point or exclude it")
    elif guilty:
        text += f": the rule of {guilty} is wrong"
    error = GradcheckError(text)
    error.op, error.output, error.input = guilty or outer, found.output, one.number
    error.index, error.output_index = (found.column, found.row) if located else (None, None)
    error.analytic, error.numeric, error.kink = found.analytic, found.numeric, sides is not None
    return error


class _Heard(Listener):
    """Keeps the ops that ran, each with what it was given and the module that ran it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any], list[Array], str]] = []

    def ran(self, op: Any, plan: Any, inputs: tuple[Handle, ...], out: Handle | None) -> None:
        if op.differentiable and not op.mutates:
            key = plan.key if isinstance(plan.key, tuple) else (plan.key,)
            self.calls.append((op, dict(key[len(inputs):]), [x.array.copy() for x in inputs], local.mode.path))


def _culprit(function: _Function, output: Any, eps: float, tolerance: tuple[float, float]) -> str | None:
    """The first op that ran whose own derivatives are wrong where it ran, else a Function in the graph; None if there is neither."""
    heard = _Heard()
    try:
        with listening(heard), no_grad():
            function.outputs()
    except CaptureError:  # it reads values, which nobody who listens may
        return None
    for second in (False, True)[:1 + isinstance(function.func, _Gradient)]:
        for op, attributes, arrays, path in heard.calls:
            given = [tensor(a, requires_grad=a.dtype == np.float64 and bool(op.differentiable >> i & 1)) for i, a in enumerate(arrays)]
            if any(x.requires_grad for x in given) and not any(x.dtype == np.float32 for x in given):
                alone = _Function(partial(op, **attributes), given, op.name, [str(name) for name in op.inputs])
                alone = _second(alone) if second else alone
                if _along_directions(alone, _recorded(alone), eps, tolerance) is not None:
                    return f"{op.name} in {path}" if path else str(op.name)
    records = reachable([output.record]) if output.record is not None else []
    return next((record.name for record in records if not isinstance(record.op, Op)), None)
