"""Derivatives of functions, in JAX's words: a function goes in, a function comes out, and no `.grad` is touched.

Arguments and results may be nested in tuples, lists and dicts. The functions returned can be differentiated again; what they return carries
a graph only inside another of these functions, or if an argument requires gradients.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import elementwise, ranges
from minigrad.ops import shape as shapes
from minigrad.tape.arranging import stack
from minigrad.tape.backward import gradients
from minigrad.tape.handle import Handle, twin
from minigrad.tape.mode import GradMode
from minigrad.tape.tensor import ones_of, seed, tensor, zeros_of
from minigrad.tape.tree import build, flatten

Function = Callable[..., Any]


class _Nesting(threading.local):
    depth = 0


_nesting = _Nesting()


@contextmanager
def _inside() -> Iterator[None]:
    _nesting.depth += 1
    try:
        with GradMode(True):
            yield
    finally:
        _nesting.depth -= 1


class _Primals:
    """Arguments as leaves of a graph of their own, or as its continuation where they are part of one."""

    def __init__(self, name: str, given: Sequence[Any]) -> None:
        values: list[Any] = []
        self.structures = [flatten(_as_tensors(name, one), values) for one in given]
        self.linked = _nesting.depth > 0 or any(x.needs_grad for x in values)
        self.leaves: list[Any] = []
        for x in values:
            if not x.spec.is_float:
                raise DtypeError(f"{name}: an argument to differentiate with respect to is {x.spec.dtype.name}, expected float32 or float64")
            if x.needs_grad:
                self.leaves.append(elementwise.clone(x))
            else:
                leaf = twin(x)
                leaf.needs_grad = True
                self.leaves.append(leaf)

    def trees(self, leaves: Sequence[Any]) -> list[Any]:
        """Values for the leaves, in the structure of the arguments."""
        take = partial(next, iter(leaves))
        return [build(structure, take) for structure in self.structures]

    def gradients(self, outputs: Sequence[Any], seeds: Sequence[Any], *, again: bool = False, linked: bool = False) -> list[Any]:
        """The gradient of the outputs for each leaf; zeros where nothing depends on it. linked: with a graph, as if the arguments had one."""
        linked = linked or self.linked
        found = gradients(outputs, self.leaves, seeds, retain_graph=linked or again, create_graph=linked)
        return [elementwise.clone(zeros_of(leaf.spec)) if g is None else g for leaf, g in zip(self.leaves, found, strict=True)]

    def zeros(self) -> list[Any]:
        """The gradient of what depends on no leaf."""
        return [elementwise.clone(zeros_of(leaf.spec)) for leaf in self.leaves]

    def shown(self, tree: Any) -> Any:
        """Results for the caller: outside the graph, unless it goes on."""
        if self.linked:
            return tree
        leaves: list[Any] = []
        structure = flatten(tree, leaves)
        return build(structure, partial(next, iter([twin(x) if isinstance(x, Handle) else x for x in leaves])))


def _as_tensors(name: str, value: Any) -> Any:
    """The tree with Tensors for arrays and numbers."""
    if isinstance(value, Handle):
        return value
    if isinstance(value, dict):
        return type(value)((key, _as_tensors(name, one)) for key, one in value.items())
    if isinstance(value, tuple | list) and not all(isinstance(one, int | float) for one in value):
        parts = [_as_tensors(name, one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return tensor(value)


def _positions(name: str, argnums: int | Sequence[int], count: int) -> list[int]:
    wanted = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in wanted:
        if not -count <= i < count:
            raise ValueError(f"{name}: argnums names argument {i}, the function was called with {count}")
    return [i % count for i in wanted]


def _called(function: Function, args: Sequence[Any], places: Sequence[int], values: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    given = list(args)
    for i, value in zip(places, values, strict=True):
        given[i] = value
    return function(*given, **kwargs)


def _parts(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name} with has_aux: the function must return a pair (output, auxiliary data), got a {type(result).__name__}")
    return result


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that gives (f(...), gradient) for f with a scalar result.

    argnums: which argument, or arguments (then a tuple of gradients). has_aux: f returns (scalar, anything), and the first result is that pair.
    """

    @wraps(f)
    def evaluated(*args: Any, **kwargs: Any) -> Any:
        places = _positions("grad", argnums, len(args))
        primals = _Primals("grad", [args[i] for i in places])
        with _inside():
            result = _called(f, args, places, primals.trees(primals.leaves), kwargs)
            value, aux = _parts(result, has_aux, "grad")
            if not isinstance(value, Handle) or value.spec.size != 1:
                raise ShapeError(f"grad is for functions with a scalar result, and this one gave {_described(value)}: "
                                 "reduce it with sum() or mean(), or use jacobian")
            found = primals.gradients([value], [seed(value, None)]) if value.needs_grad else primals.zeros()
        trees = primals.trees(found)
        value, aux = primals.shown(value), primals.shown(aux)
        return ((value, aux) if has_aux else value), (trees[0] if isinstance(argnums, int) else tuple(trees))

    return evaluated


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of f, which has a scalar result; with has_aux, the pair (gradient, auxiliary data)."""
    evaluated = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = evaluated(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _described(value: Any) -> str:
    return f"{value.spec!r}" if isinstance(value, Handle) else f"a {type(value).__name__}"


def _several(name: str, *given: Any) -> None:
    """Raise TypeError for a Tensor or an array where a tuple of them belongs."""
    for one in given:
        if not isinstance(one, tuple | list):
            raise TypeError(f"{name}: primals and tangents are tuples, one entry for each argument of the function, got a {type(one).__name__}: "
                            "write (x,) for one argument")


class _Outputs:
    """The Tensors that a function returned, and how they were nested."""

    def __init__(self, name: str, result: Any) -> None:
        self.leaves: list[Any] = []
        self.structure = flatten(result, self.leaves)
        for x in self.leaves:
            if not isinstance(x, Handle):
                raise TypeError(f"{name}: the function must return Tensors, got a {type(x).__name__}")

    def tree(self, leaves: Sequence[Any]) -> Any:
        return build(self.structure, partial(next, iter(leaves)))

    def matching(self, name: str, given: Any) -> list[Any]:
        """What was given for each output. Raises ShapeError."""
        values: list[Any] = []
        structure = flatten(_as_tensors(name, given), values)
        if structure != self.structure or any(x.spec is not y.spec for x, y in zip(values, self.leaves, strict=True)):
            raise ShapeError(f"{name}: expected {', '.join(repr(x.spec) for x in self.leaves)}, got {', '.join(repr(x.spec) for x in values)}")
        return values


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """(f(*primals), pull): pull(v), for v like the output, gives a tuple of the gradients of <v, f> for each primal, any number of times.

    With has_aux, f returns (output, anything) and the result is (output, pull, anything).
    """
    given = _Primals("vjp", primals)
    with _inside():
        result, aux = _parts(f(*given.trees(given.leaves)), has_aux, "vjp")
    outputs = _Outputs("vjp", result)

    def pull(cotangent: Any) -> tuple[Any, ...]:
        seeds = outputs.matching("vjp", cotangent)
        pairs = [(x, s) for x, s in zip(outputs.leaves, seeds, strict=True) if x.needs_grad]
        linked = _nesting.depth > 0 or any(s.needs_grad for s in seeds)
        with _inside():
            found = given.gradients([x for x, _ in pairs], [s for _, s in pairs], again=True, linked=linked)
        return tuple(given.trees(found))

    shown = given.shown(result)
    return (shown, pull, given.shown(aux)) if has_aux else (shown, pull)


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(f(*primals), the derivative of f in the direction of the tangents).

    Two reverse passes: <J'u, t> is linear in u, and its gradient is J t (Townsend 2017, "A new trick for calculating Jacobian vector products").
    """
    _several("jvp", primals, tangents)
    given = _Primals("jvp", primals)
    directions: list[Any] = []
    structures = [flatten(_as_tensors("jvp", t), directions) for t in tangents]
    if structures != given.structures or any(t.spec is not x.spec for t, x in zip(directions, given.leaves, strict=True)):
        raise ShapeError(f"jvp: the tangents must be like the primals {', '.join(repr(x.spec) for x in given.leaves)}, "
                         f"got {', '.join(repr(t.spec) for t in directions)}")
    with _inside():
        outputs = _Outputs("jvp", f(*given.trees(given.leaves)))
        duals = []
        for x in outputs.leaves:
            dual = twin(zeros_of(x.spec))
            dual.needs_grad = True
            duals.append(dual)
        pairs = [(x, u) for x, u in zip(outputs.leaves, duals, strict=True) if x.needs_grad]
        pulled = gradients([x for x, _ in pairs], given.leaves, [u for _, u in pairs], retain_graph=True, create_graph=True)
        used = [(g, t) for g, t in zip(pulled, directions, strict=True) if g is not None and g.needs_grad]
        linked = given.linked or any(t.needs_grad for t in directions)
        found = gradients([g for g, _ in used], duals, [t for _, t in used], retain_graph=linked, create_graph=linked)
    pushed = [elementwise.clone(zeros_of(u.spec)) if d is None else d for u, d in zip(duals, found, strict=True)]
    return given.shown(outputs.tree(outputs.leaves)), outputs.tree(pushed)


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that gives the Jacobian of f: for an output of shape s and an argument of shape t, a Tensor of shape s + t.

    Nested outputs and arguments give nested Jacobians, outputs outside. One reverse pass for each element of the output.
    """

    @wraps(f)
    def evaluated(*args: Any, **kwargs: Any) -> Any:
        places = _positions("jacobian", argnums, len(args))
        primals = _Primals("jacobian", [args[i] for i in places])
        with _inside():
            outputs = _Outputs("jacobian", _called(f, args, places, primals.trees(primals.leaves), kwargs))
            blocks = [_rows(primals, x) for x in outputs.leaves]
        trees = [primals.trees(block) for block in blocks]
        return outputs.tree([tree[0] if isinstance(argnums, int) else tuple(tree) for tree in trees])

    return evaluated


def _rows(primals: _Primals, output: Any) -> list[Any]:
    """The Jacobian of one output for each leaf."""
    if not output.needs_grad or not output.spec.size:
        return [elementwise.clone(zeros_of(output.spec.with_shape((*output.spec.shape, *leaf.spec.shape)))) for leaf in primals.leaves]
    one = ones_of(output.spec.with_shape(()))
    rows = [primals.gradients([output], [ranges.place_range(one, start=i, shape=output.spec.shape)], again=True) for i in range(output.spec.size)]
    return [shapes.reshape(stack(column), shape=(*output.spec.shape, *leaf.spec.shape))
            for leaf, column in zip(primals.leaves, zip(*rows, strict=True), strict=True)]


jacrev = jacobian


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that gives the matrix of second derivatives of f, which has a scalar result: shape t + t for an argument of shape t."""
    return jacobian(grad(f, argnums), argnums)


def functional_call(module: Any, values: Mapping[str, Any], args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
    """Call a Module with other Tensors in the place of the parameters and buffers that `values` names by their paths; the module stays as it is.

    args: a tuple of arguments, or one that is not a tuple. A parameter with several paths is replaced at all of them. Raises KeyError for a path
    that the module does not have and ShapeError for another shape.
    """
    places: dict[str, tuple[Any, str, Any]] = {}
    for path, part in module.named_modules():
        for name, x in (*part._parameters.items(), *part._buffers.items()):
            if x is not None:
                places[f"{path}.{name}" if path else name] = (part, name, x)
    given: dict[int, Any] = {}
    for path, value in values.items():
        if path not in places:
            raise KeyError(f"functional_call: {type(module).__name__} has no parameter or buffer {path!r}: it has {', '.join(places)}")
        x = places[path][2]
        if not isinstance(value, Handle) or value.spec.shape != x.spec.shape:
            raise ShapeError(f"functional_call: {path} is {_described(value)}, expected a Tensor of shape {x.spec.shape}")
        given[id(x)] = value
    swapped = [(part.__dict__, name, x) for part, name, x in places.values() if id(x) in given]
    try:
        for attributes, name, x in swapped:
            attributes[name] = given[id(x)]
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for attributes, name, x in swapped:
            attributes[name] = x


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of f at the primals times the tangents, one Tensor (or tree) a primal, in two reverse passes; f has a scalar result."""
    _several("hvp", primals, tangents)
    if len(primals) != len(tangents):
        raise ShapeError(f"hvp: {len(primals)} primals need as many tangents, got {len(tangents)}")
    _, pull = vjp(grad(f, tuple(range(len(primals)))), *primals)
    return pull(tuple(tangents))  # type: ignore[no-any-return]

