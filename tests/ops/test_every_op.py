"""Every op of the registry: value, first and second derivative, rules written in ops alone, and a replay with the bits of eager mode."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import NonFiniteError
from minigrad.ops import norms
from minigrad.ops.op import Op, registry
from minigrad.ops.samples import Case
from minigrad.ops.spec import Spec

Array = np.ndarray[Any, np.dtype[Any]]
STEP = 1e-100  # of the complex step: it has no cancellation, so it may be as small as one likes

#: Ops without a domain to sample: an optimiser's and a norm's, whose operands are lists of runs, numbers and flat memory.
OPERANDS: dict[str, Callable[[np.random.Generator], tuple[Any, ...]]] = {
    "sum_squares_": lambda rng: (rng.normal(size=100), np.array([[0, 50, 97], [37, 47, 3]]), np.zeros(3)),
    "norm": lambda rng: (rng.uniform(0, 9, 5),),
    "clip_factor": lambda rng: (np.array(7.0), np.array(0.25)),
    "clip_": lambda rng: (rng.normal(size=67), np.array(0.3)),
    "clip_value_": lambda rng: (rng.normal(size=67), np.array(0.3)),
    "guard": lambda rng: (np.array(7.0),),
}
#: Of each update: how many arrays it keeps beside the parameter, and its numbers.
UPDATES = {
    "sgd_": (0, [0.1, 0.0]),
    "sgd_momentum_": (1, [0.1, 0.9]),
    "sgd_decayed_": (0, [0.1, 0.0, 0.0, 0.2, 0.0, 1.0, 1.0]),
    "sgd_dampened_": (1, [0.1, 0.9, 0.0, 0.2, 1.0, 0.0, 3.0]),
    "rmsprop_": (1, [0.1, 0.9, 1e-8, 0.2, 0.0, 0.0, 1.0]),
    "rmsprop_momentum_": (2, [0.1, 0.9, 1e-8, 0.2, 0.9, 0.0, 1.0]),
    "rmsprop_centered_": (2, [0.1, 0.3, 1e-8, 0.2, 0.0, 1.0, 1.0]),
    "rmsprop_centered_momentum_": (3, [0.1, 0.3, 1e-8, 0.0, 0.9, 0.0, 1.0]),
    "adagrad_": (1, [0.1, 0.2, 0.1, 1e-10, 0.0, 4.0]),
    "adam_": (2, [0.1, 0.9, 0.99, 1e-8, 0.2, 0.0, 1.0, 0.0, 5.0]),
    "amsgrad_": (3, [0.1, 0.9, 0.99, 1e-8, 0.2, 1.0, 0.0, 1.0, 1.0]),
}


def updated(states: int, numbers: list[float], *factor: float) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: (*rng.normal(size=(2, 67)), *(rng.uniform(2, 3, 67) / 10**i for i in range(states)), np.array(numbers), *map(np.array, factor))


OPERANDS |= {name: updated(*given) for name, given in UPDATES.items()}
CLOCK, BLOCKS = np.array([1, 5, 1, 0]), np.array([[0, 50], [50, 17], [8, 0]])


def watched(states: int, numbers: list[float], *factor: float) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """The operands of an update, and where statistics of two blocks go."""
    return lambda rng: (*updated(states, numbers)(rng), CLOCK, BLOCKS, np.zeros(16), *map(np.array, factor))


for plain, numbers in UPDATES.items():
    OPERANDS |= {f"clip_{plain}": updated(*numbers, 0.3), f"watch_{plain}": watched(*numbers), f"watch_clip_{plain}": watched(*numbers, 0.3)}
#: Inputs that are float64 whatever the parameters are.
DOUBLE = {"partials", "total", "bound", "factor", "hyper", "clock", "table", "stats", "now"}

OPS = [op for op in registry.values() if op.__module__.startswith("minigrad.ops.")]


def cases(op: Op) -> Iterator[Case]:
    """The op's samples, the same at each call."""
    rng = np.random.default_rng(7)
    if op.samples is None:
        yield OPERANDS[op.name](rng), {}
    else:
        yield from op.samples(rng)


TABLE = [pytest.param(op, *case, id=f"{op.name}-{i}") for op in OPS for i, case in enumerate(cases(op))]
#: Those whose result is a place or a truth, or stays the same when an input moves a little.
STEPS = {"argmax", "argmin", "any", "all", "equals", "sign_at", "label_weights"}
STEPS |= {op.name for op in OPS if op.__module__ == "minigrad.ops.compare" and op.name != "where"}
#: Places and classes.
INDICES = {"is_last", "fit_index", "join_index", "one_hot"}
#: Numbers that come out of nothing.
DRAWS = {"draw_key", "uniform", "normal", "bernoulli"}
#: Parts of a norm that nothing is differentiated through.
NORMS = {"add_powers", "root"}
#: Those that return something with a derivative.
SMOOTH = [p for p in TABLE if any(p.values[0].vjps)]  # type: ignore[union-attr]
IN_PLACE = {op.name for op in OPS if op.mutates}


def cast(op: Op, arrays: tuple[Array, ...], dtype: Any) -> list[Array]:
    return [a.astype(dtype) if a.dtype.kind == "f" and name not in DOUBLE else a.copy() for name, a in zip(op.inputs, arrays, strict=True)]


def run(op: Op, tensors: list[Any], attributes: dict[str, Any]) -> Any:
    """The op's result; for one that writes in place, what it wrote to."""
    out = op(*tensors, **attributes)
    return tensors[op.mutates[0]] if op.mutates else out


def test_ops_without_samples_are_those_with_operands_here() -> None:
    assert {op.name for op in OPS if op.samples is None} == OPERANDS.keys()


def test_ops_without_a_derivative_write_in_place_or_belong_to_an_optimiser() -> None:
    assert {op.name for op in OPS if not any(op.vjps)} == OPERANDS.keys() | IN_PLACE | STEPS | INDICES | DRAWS | NORMS


@pytest.mark.parametrize(("op", "arrays", "attributes"), [p for p in TABLE if p.values[0] is not norms.guard])
class TestValue:
    def test_float64_is_the_definition(self, op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any]) -> None:
        expected = op.definition(*[a.copy() for a in arrays], **attributes)
        found = run(op, [mg.tensor(a) for a in arrays], attributes)
        np.testing.assert_allclose(found.array, expected, rtol=1e-12, atol=1e-14)

    def test_float32_is_the_definition_within_its_rounding(self, op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any]) -> None:
        given = cast(op, arrays, np.float32)
        expected = op.definition(*[a.astype(np.float64) if a.dtype.kind == "f" else a for a in given], **attributes)
        found = run(op, [mg.tensor(a) for a in given], attributes)
        np.testing.assert_allclose(found.array, expected, rtol=4e-6, atol=4e-6)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_result_is_what_the_plan_says(self, op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any], dtype: Any) -> None:
        tensors = [mg.tensor(a) for a in cast(op, arrays, dtype)]
        plan = op.plan(tuple(t.spec for t in tensors), attributes)
        out = op(*tensors, **attributes)
        assert [out.spec] == [*plan.outs] if plan.outs else out is None
        if out is not None:
            assert (out.array.shape, out.array.dtype) == (plan.outs[0].shape, plan.outs[0].dtype)
            assert out.array.flags.c_contiguous and out.address == out.array.ctypes.data

    def test_inputs_are_left_alone(self, op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any]) -> None:
        tensors = [mg.tensor(a) for a in arrays]
        op(*tensors, **attributes)
        for i, (t, a) in enumerate(zip(tensors, arrays, strict=True)):
            assert i in op.mutates or (np.array_equal(t.array, a) and t.clock[0] == 0)

    def test_what_is_written_has_a_new_version(self, op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any]) -> None:
        tensors = [mg.tensor(a) for a in arrays]
        op(*tensors, **attributes)
        assert [t.clock[0] for t in tensors] == [int(i in op.mutates) for i in range(len(tensors))]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_the_guard_lets_finite_norms_pass_and_no_other(bad: float) -> None:
    norms.guard(mg.tensor(np.array(1e300)))
    with pytest.raises(NonFiniteError, match="the step was refused"):
        norms.guard(mg.tensor(np.array(bad)))


# ---- derivatives --------------------------------------------------------------------------------------------------------------------
def directions(rng: np.random.Generator, arrays: list[Array]) -> list[Array]:
    return [np.asarray(rng.normal(size=a.shape)) for a in arrays]


def along(gradients: list[Any], direction: list[Array]) -> tuple[float, float]:
    """The derivative in a direction, and what its terms add up to without their signs."""
    terms = [np.ravel(g * v) for g, v in zip(gradients, direction, strict=True)]
    return sum(float(t.sum()) for t in terms), sum(float(np.abs(t).sum()) for t in terms)


def moved(arrays: list[Array], direction: list[Array]) -> list[Array]:
    """The arrays, a complex step along."""
    return [a + 1j * STEP * v for a, v in zip(arrays, direction, strict=True)]


def split(arrays: tuple[Array, ...]) -> tuple[list[Array], Callable[[list[Any]], list[Any]]]:
    """The floating arrays, and what puts the others back among them."""
    floats = [a for a in arrays if a.dtype.kind == "f"]

    def whole(given: list[Any]) -> list[Any]:
        left = iter(given)
        return [next(left) if a.dtype.kind == "f" else a for a in arrays]

    return floats, whole


def check_gradient(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any], rng: np.random.Generator, times: int = 3,
                   least: float = 0.0) -> None:
    """The gradient, in `times` directions, is the complex step of the definition; `least`: what is nothing beside 1."""
    floats, whole = split(arrays)
    leaves = [mg.tensor(a, requires_grad=True) for a in floats]
    out = op(*[t if isinstance(t, mg.Tensor) else mg.tensor(t) for t in whole(leaves)], **attributes)
    upstream = rng.normal(size=out.shape)
    found = mg.autograd.grad(out, leaves, mg.tensor(upstream), allow_unused=True)
    gradients = [np.zeros(a.shape) if g is None else g.array for g, a in zip(found, floats, strict=True)]
    assert [g.shape for g in gradients] == [a.shape for a in floats]
    for _ in range(times):
        direction = directions(rng, floats)
        expected = np.sum(upstream * op.definition(*whole(moved(floats, direction)), **attributes).imag) / STEP
        value, size = along(gradients, direction)
        assert bool(abs(value - expected) <= 1e-9 * size + least)


@pytest.mark.parametrize(("op", "arrays", "attributes"), SMOOTH)
def test_the_gradient_is_the_complex_step_of_the_definition(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any],
                                                            rng: np.random.Generator) -> None:
    check_gradient(op, arrays, attributes, rng)


class Plain:
    """An array that rules may pass on to ops and ask for its spec, and nothing else: it has no operators."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        self.spec = Spec.of(self.array.shape, np.dtype(np.float64))


def evaluate(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Plain:
    """In place of the tape: the op's definition, on complex arrays as well."""
    arrays = [x.array if isinstance(x, Plain) else x for x in inputs]
    return Plain(op.definition(*arrays, **{**op.defaults, **attributes}))


def first_derivative(op: Op, i: int, g: Array, arrays: list[Array], attributes: dict[str, Any]) -> Array:
    """The rule of input i, on arrays; broadcasting undone as the engine would."""
    rule = op.vjps[i]
    assert rule is not None
    given: dict[str, Any] = {**{name: Plain(a) for name, a in zip(op.inputs, arrays, strict=True)}, **op.defaults, **attributes,
                             **{f"{name}_spec": Plain(a).spec for name, a in zip(op.inputs, arrays, strict=True)}}
    if "out" in rule.wants:
        given["out"] = Plain(op.definition(*arrays, **attributes))
    found = rule.function(Plain(g), *[given[name] for name in rule.wants]).array
    shape = arrays[i].shape
    lead = found.ndim - len(shape)
    axes = (*range(lead), *(lead + k for k, n in enumerate(shape) if n == 1 and found.shape[lead + k] != 1))
    return np.asarray(found.sum(axis=axes).reshape(shape))


@pytest.mark.parametrize(("op", "arrays", "attributes"), SMOOTH)
def test_rules_call_ops_and_use_no_operators(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any], rng: np.random.Generator,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Op, "__call__", lambda op, *inputs, **attributes: evaluate(op, inputs, attributes))
    upstream = rng.normal(size=np.shape(op.definition(*arrays, **attributes)))
    for i, rule in enumerate(op.vjps):
        if rule is not None:
            assert first_derivative(op, i, upstream, list(arrays), attributes).shape == arrays[i].shape


def check_second(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
                 times: int = 3, least: float = 0.0) -> None:
    """The derivative of the gradient, in `times` directions, is the complex step of the op's rules on the definition."""
    floats, whole = split(arrays)
    ruled = [i for i, rule in enumerate(op.vjps) if rule is not None]
    places = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    upstream = rng.normal(size=np.shape(op.definition(*arrays, **attributes)))
    weights = {i: rng.normal(size=arrays[i].shape) for i in ruled}

    leaves = [mg.tensor(a, requires_grad=True) for a in floats]
    seed = mg.tensor(upstream, requires_grad=True)
    out = op(*[t if isinstance(t, mg.Tensor) else mg.tensor(t) for t in whole(leaves)], **attributes)
    first = mg.autograd.grad(out, [leaves[places.index(i)] for i in ruled], seed, create_graph=True)
    total = mg.tensor(np.array(0.0))
    for i, g in zip(ruled, first, strict=True):
        total = total + (g * mg.tensor(weights[i])).sum()
    second = mg.autograd.grad(total, [*leaves, seed], allow_unused=True)
    gradients = [np.zeros(a.shape) if g is None else g.array for g, a in zip(second, [*floats, upstream], strict=True)]

    monkeypatch.setattr(Op, "__call__", lambda op, *inputs, **attributes: evaluate(op, inputs, attributes))
    for _ in range(times):
        direction = directions(rng, [*floats, upstream])
        *inputs, up = moved([*floats, upstream], direction)
        expected = sum(float(np.sum(weights[i] * first_derivative(op, i, up, whole(inputs), attributes).imag)) for i in ruled) / STEP
        value, size = along(gradients, direction)
        assert bool(abs(value - expected) <= 1e-9 * size + least)


@pytest.mark.parametrize(("op", "arrays", "attributes"), SMOOTH)
def test_the_second_derivative_is_the_complex_step_of_the_first(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any],
                                                                rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    check_second(op, arrays, attributes, rng, monkeypatch)


# ---- captured -----------------------------------------------------------------------------------------------------------------------
def stepper(op: Op, specs: list[tuple[tuple[int, ...], Any]], attributes: dict[str, Any]) -> Callable[..., Any]:
    """A step that sends its arguments through the op and back; floating ones pass a leaf each, whose gradient is returned."""
    leaves = [mg.tensor(np.ones(shape, dtype), requires_grad=True) if np.dtype(dtype).kind == "f" else None for shape, dtype in specs]

    def step(upstream: Any, *arguments: Any) -> Any:
        for leaf in leaves:
            if leaf is not None:
                leaf.grad = None
        inputs = [x if leaf is None else x * leaf for x, leaf in zip(arguments, leaves, strict=True)]
        if not any(op.vjps):
            with mg.no_grad():
                return run(op, [x if leaf is None else x.detach() for x, leaf in zip(inputs, leaves, strict=True)], attributes)
        out = op(*inputs, **attributes)
        out.backward(upstream)
        return out, [None if leaf is None else leaf.grad for leaf in leaves]

    return step


def values(result: Any) -> list[Any]:
    if isinstance(result, mg.Tensor):
        return [result.array.tobytes()]
    return [part for branch in result for part in values(branch)] if result is not None else [None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "arrays", "attributes"), [p for p in TABLE if p.values[0].samples is not None])  # type: ignore[union-attr]
def test_a_replay_has_the_bits_of_eager_mode(op: Op, arrays: tuple[Array, ...], attributes: dict[str, Any], dtype: Any,
                                             rng: np.random.Generator) -> None:
    given = cast(op, arrays, dtype)
    specs = [(a.shape, a.dtype) for a in given]
    out = run(op, [mg.tensor(a) for a in given], attributes)
    eager, captured = stepper(op, specs, attributes), mg.capture(stepper(op, specs, attributes))
    for _ in range(4):
        upstream = mg.tensor(rng.normal(size=out.shape).astype(out.dtype))
        arguments = [mg.tensor((a * rng.uniform(0.9, 1.0)).astype(a.dtype) if a.dtype.kind == "f" else a) for a in given]
        assert values(captured(upstream, *arguments)) == values(eager(upstream, *arguments))
    assert captured.nbytes > 0
