"""Graphs drawn at random: PyTorch's values and gradients, the derivative by differences, and captured the bits of eager mode."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.op import registry
from minigrad.program import chain, encode
from tests.ops import mutants
from tests.random_graphs import FEATURES, MINIGRAD, Program, drawn, features, leaf_array, listing, loss, possible, remembering, run, shrunk, without
from tests.random_ops import KINDS, Lib, Node

#: How many programs the table is of, and how often each op has each feature in them.
GRAPHS, HITS = 300, 20
#: How far from PyTorch a value may be, of the largest in its array.
WITHIN = {np.float32: 1e-5, np.float64: 1e-9}


@pytest.fixture(autouse=True)
def chained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Small chains are chains too, cut into several blocks. The kernel entries of all instructions in them."""
    entries: list[Any] = []

    def noted(instructions: Any) -> Any:
        groups = chain.grouped(instructions)
        entries.extend(one.step.entry for group in groups if len(group) > 1 for one in group)
        return groups

    monkeypatch.setattr(chain, "CHAIN_BYTES", 1)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 256)
    monkeypatch.setattr(encode, "grouped", noted)
    return entries


# ---- one program in one library -----------------------------------------------------------------------------------------------------
def arrays(program: Program, dtype: Any) -> dict[int, Any]:
    return {at: leaf_array(node.attributes).astype(dtype) for at, node in enumerate(program) if node.op == "leaf"}


def outcome(lib: Lib, program: Program, leaves: dict[int, Any], moved: Any = None) -> tuple[list[Any], list[Any]]:
    """All values, after the last write, and the leaves' gradients."""
    values = run(lib, program, leaves, moved)
    loss(lib, program, values, leaves).backward()
    return values, [leaf.grad for leaf in leaves.values()]


def in_minigrad(program: Program, dtype: Any) -> list[Any]:
    leaves = {at: mg.tensor(a, requires_grad=True) for at, a in arrays(program, dtype).items()}
    values, gradients = outcome(MINIGRAD, program, leaves)
    return [x.detach().numpy().copy() for x in (*values, *gradients)]


def in_torch(program: Program, dtype: Any) -> list[Any]:
    torch = pytest.importorskip("torch")
    lib = Lib(torch, torch.nn.functional, torch.tensor, copies=True)
    leaves = {at: torch.tensor(a, requires_grad=True) for at, a in arrays(program, dtype).items()}
    values, gradients = outcome(lib, program, leaves)
    return [x.detach().numpy().copy() for x in (*values, *gradients)]


# ---- what has to hold ---------------------------------------------------------------------------------------------------------------
def differs(found: list[Any], wanted: list[Any], within: float) -> str:
    """Where two outcomes differ by more than `within` of the largest element, or ''."""
    for at, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"result {at}: {a.dtype}{a.shape}, not {b.dtype}{b.shape}"
        distance = float(np.max(np.abs(a - b)))
        if not distance <= within * max(1.0, float(np.max(np.abs(b)))):
            return f"result {at} is {distance:.3g} off:\n{a}\nexpected\n{b}"
    return ""


def against_torch(program: Program) -> str:
    """What PyTorch computes, in both dtypes."""
    wrong = differs(in_minigrad(program, np.float64), in_torch(program, np.float64), WITHIN[np.float64])
    if wrong:
        return f"float64: {wrong}"
    wrong = differs(in_minigrad(program, np.float32), in_torch(program, np.float32), WITHIN[np.float32])
    return f"float32: {wrong}" if wrong else ""


def against_differences(program: Program) -> str:
    """The derivative of the loss in a direction, by central differences."""
    at_zero = arrays(program, np.float64)
    gradients = in_minigrad(program, np.float64)[len(program):]
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = {at: rng.normal(size=a.shape) for at, a in at_zero.items()}

        def value(step: float, direction: dict[int, Any] = direction) -> float:
            leaves = {at: mg.tensor(a + step * direction[at]) for at, a in at_zero.items()}
            return float(loss(MINIGRAD, program, run(MINIGRAD, program, leaves), leaves))

        terms = [float((g * v).sum()) for g, v in zip(gradients, direction.values(), strict=True)]
        size = sum(float(np.abs(g * v).sum()) for g, v in zip(gradients, direction.values(), strict=True))
        slope = (value(1e-6) - value(-1e-6)) / 2e-6
        if not abs(slope - sum(terms)) <= 1e-6 * max(1.0, size):
            return f"the slope is {slope}, the gradient says {sum(terms)}"
    return ""


def bits(values: list[Any]) -> list[Any]:
    return [None if x is None else x.array.tobytes() for x in values]


def captured(program: Program, dtype: Any) -> str:
    """Whether five calls of a captured step, the leaves and an argument a little different in each, have the bits of eager mode."""
    lib = MINIGRAD._replace(tensor=remembering(mg.tensor))

    def step_of(leaves: dict[int, Any]) -> Callable[[Any], Any]:
        def step(moved: Any) -> Any:
            for leaf in leaves.values():
                leaf.grad = None
            values, gradients = outcome(lib, program, leaves, moved)
            return [*values, *gradients]

        return step

    ours = {at: mg.tensor(a, requires_grad=True) for at, a in arrays(program, dtype).items()}
    theirs = {at: mg.tensor(a, requires_grad=True) for at, a in arrays(program, dtype).items()}
    eager, replayed = step_of(ours), mg.capture(step_of(theirs))
    rng = np.random.default_rng(1)
    for call in range(5):
        moved = rng.uniform(-1e-2, 1e-2, ours[0].shape).astype(dtype)
        wanted, found = bits(eager(mg.tensor(moved))), bits(replayed(mg.tensor(moved)))
        if found != wanted:
            return f"call {call}: results {[at for at, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]} have other bits"
        with mg.no_grad():
            for at, leaf in ours.items():
                change = mg.tensor(rng.uniform(0.99, 1.01, leaf.shape).astype(dtype))
                leaf.mul_(change)
                theirs[at].mul_(change)
    return "" if replayed.nbytes else "nothing was replayed"


def check(seed: int, program: Program, *properties: Callable[[Program], str]) -> None:
    """Fail with the seed and with a program that is as short as it gets."""
    for holds in properties:
        reason = holds(program)
        if reason:
            def fails(shorter: Program, holds: Callable[[Program], str] = holds) -> bool:
                try:
                    return bool(holds(shorter))
                except Exception:  # noqa: BLE001  it is no program any more
                    return False

            short = shrunk(program, fails)
            pytest.fail(f"seed {seed}, {holds.__name__}: {reason}\nas short as\n{listing(short)}\n{holds(short)}")


def single(program: Program) -> str:
    return captured(program, np.float32)


def double(program: Program) -> str:
    return captured(program, np.float64)


# ---- tests --------------------------------------------------------------------------------------------------------------------------
QUICK = 60
BLOCKS = [pytest.param(range(at, at + 10), id=str(at), marks=[pytest.mark.exhaustive] if at >= QUICK else []) for at in range(0, GRAPHS, 10)]


@pytest.mark.parametrize("seeds", BLOCKS)
def test_values_and_gradients_are_pytorchs(seeds: range) -> None:
    pytest.importorskip("torch")
    for seed in seeds:
        check(seed, drawn(seed), against_torch)


@pytest.mark.parametrize("seeds", BLOCKS)
def test_gradients_are_differences(seeds: range) -> None:
    for seed in seeds:
        check(seed, drawn(seed, plain=True), against_differences)


@pytest.mark.parametrize("seeds", BLOCKS)
def test_captured_has_the_bits_of_eager_mode(seeds: range) -> None:
    for seed in seeds:
        check(seed, drawn(seed), single, double)


# ---- the table ----------------------------------------------------------------------------------------------------------------------
def in_chains(program: Program, entries: list[Any]) -> Iterator[tuple[str, str]]:
    """(op, "fused") for each instruction, at most for as many as its op's kernels were run in chains."""
    kernels = Counter(entries)
    for op, nodes in Counter(node.op for node in program if node.op != "leaf").items():
        own = {step.entry for name in KINDS[op].fused for plan in registry[name].plans.values() for step in plan.steps}
        yield from [(op, "fused")] * min(nodes, sum(kernels[entry] for entry in own))


@pytest.mark.parametrize(("graphs", "hits"), [(QUICK, 1), pytest.param(GRAPHS, HITS, marks=pytest.mark.exhaustive)])
def test_every_op_has_every_feature_often_enough(graphs: int, hits: int, chained: list[Any]) -> None:
    table: Counter[tuple[str, str]] = Counter()
    sizes: list[int] = []
    for seed in range(graphs):
        program = drawn(seed)
        sizes.append(len(program))
        chained.clear()
        assert single(program) == ""
        table.update([*features(program), *in_chains(program, chained)])
    width = max(map(len, KINDS)) + 2
    print(f"\n{graphs} graphs of {min(sizes)} to {max(sizes)} nodes; - where an op cannot have a feature")
    print("".ljust(width) + "".join(feature.rjust(10) for feature in FEATURES))
    for op in KINDS:
        print(op.ljust(width) + "".join(str(table[op, feature] if possible(feature, op) else "-").rjust(10) for feature in FEATURES))
    assert {cell: table[cell] for op in KINDS for feature in FEATURES if possible(feature, op) and table[cell := (op, feature)] < hits} == {}
    assert min(sizes) >= 3 and max(sizes) <= 60


def test_what_cannot_be_fused_is_no_elementwise_op() -> None:
    named = {name for kind in KINDS.values() for name in kind.fused}
    assert named <= registry.keys() and not any(possible("fused", op) for op in ("sum", "matmul", "reshape", "cat", "softmax", "set_rows", "argmax"))


# ---- the machinery itself -----------------------------------------------------------------------------------------------------------
def test_a_wrong_rule_is_found_and_the_program_shrunk() -> None:
    rule = next(rule for rule in mutants.rules([registry["sin"]]) if rule.label == "sin.x")
    wrong = next(mutant for mutant in mutants.mutants(rule) if "sin(x)" in mutant.lines)
    with wrong.installed():
        seed = next(seed for seed in range(GRAPHS) if against_differences(drawn(seed, plain=True)))
        with pytest.raises(pytest.fail.Exception, match=rf"seed {seed}, against_differences") as error:
            check(seed, drawn(seed, plain=True), against_differences)
    lines = str(error.value).partition("as short as\n")[2].splitlines()
    assert [line.split(" = ")[1].split("(")[0] for line in lines[:2]] == ["leaf", "sin"] and not lines[2].startswith("v")


def test_a_program_without_one_instruction_uses_its_operand() -> None:
    program = [Node("leaf", (), {"shape": (2,), "seed": [1]}), Node("sin", (0,), {}), Node("add", (1, 0), {})]
    assert without(program, 1) == [program[0], Node("add", (0, 0), {})]
    assert without(program, 0) is None and without(program, 2) == program[:2]


def test_a_part_that_is_the_whole_is_a_view_of_its_own() -> None:
    x = mg.tensor(np.ones(3), requires_grad=True)
    with mg.no_grad():
        parts = [x.narrow(0, 0, 3), *x.chunk(1), *x.split(3)]
    assert all(part is not x and not part.requires_grad and part.address == x.address for part in parts)


def test_writing_to_a_flipped_copy_leaves_what_it_was_taken_from() -> None:
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    x.flip(1).mul_(10.0)
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
