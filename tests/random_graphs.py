"""Programs of the ops of `random_ops`, drawn at random with values in safe ranges: how they are drawn, run and shrunk."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigrad as mg
from tests.random_ops import KINDS, LARGEST, LENGTHS, MOST, Lib, Node

FEATURES = ("fused", "view", "reused", "in-place", "no-grad")
Program = list[Node]


def listing(program: Program) -> str:
    """The program, to be read."""
    return "\n".join(f"v{at} = {node}" for at, node in enumerate(program))


# ---- running ------------------------------------------------------------------------------------------------------------------------
def leaf_array(attributes: dict[str, Any]) -> Any:
    """The numbers of a leaf."""
    return np.random.default_rng(attributes["seed"]).uniform(-1.5, 1.5, attributes["shape"])


def perform(lib: Lib, node: Node, values: list[Any]) -> Any:
    """The result of one instruction."""
    kind = KINDS[node.op]
    given = [values[i] for i in node.inputs]
    if lib.copies and kind.writes:
        given[1:] = [x.clone() for x in given[1:]]  # PyTorch refuses to read what it writes,
        assert len([x.grad_fn for x in values]) == len(values)  # and finds the place of a view in the graph when it is asked for
    if node.grad:
        out = kind.run(lib, *given, **node.attributes)
    else:
        with lib.core.no_grad():
            out = kind.run(lib, *given, **node.attributes)
    if lib.copies and kind.view:
        if not node.shares:
            out = out.clone(memory_format=lib.core.contiguous_format)
        elif out is given[0] and not node.grad:
            out = out.detach()  # flatten of a line is the line
    return out


def run(lib: Lib, program: Program, leaves: dict[int, Any], moved: Any = None) -> list[Any]:
    """Every value of the program, after the last instruction. `moved` is added to the first leaf."""
    values: list[Any] = []
    for at, node in enumerate(program):
        values.append(leaves[at] if node.op == "leaf" else perform(lib, node, values))
        if node.op == "leaf" and at == 0 and moved is not None:
            values[0] = values[0] + moved
    return values


def loss(lib: Lib, program: Program, values: list[Any], leaves: dict[int, Any]) -> Any:
    """A weighted sum of what nobody used, of everything that shares memory with what was written, and a little of each leaf."""
    used = {i for node in program for i in node.inputs}
    written = {i for at, node in enumerate(program) if node.op != "leaf" and KINDS[node.op].writes for i in (at, *node.inputs[:1])}
    changed = True
    while changed:  # views of what was written, and what they are views of
        more = {i for at, node in enumerate(program) if node.shares for pair in ((at, node.inputs[0]),) if written & {*pair} for i in pair}
        changed = not more <= written
        written |= more
    total = None
    for at, (node, value) in enumerate(zip(program, values, strict=True)):
        if node.op != "argmax" and (at not in used or at in written):
            shape = tuple(value.shape)
            weights = np.cos(np.arange(math.prod(shape)) + at).reshape(shape) / max(1.0, math.sqrt(math.prod(shape)))
            term = (value * lib.tensor(weights.astype(str(value.dtype).rpartition(".")[2]))).sum()
            total = term if total is None else total + term
    for leaf in leaves.values():
        term = leaf.sum() * 0.125
        total = term if total is None else total + term
    return total


# ---- drawing ------------------------------------------------------------------------------------------------------------------------
@dataclass
class Memory:
    """What values share."""

    leaf: bool = False
    kept: bool = False  # a rule may need what is in it now
    written: bool = False
    locked: bool = False  # one of the libraries refuses to write it
    values: list[int] = field(default_factory=list)


#: Drawn twice as often, as what they need is not always there.
SELDOM = ("batch_norm", "batch_norm", "layer_norm", "linear", "matmul", "cross_entropy", "std", "norm", "var", "cumsum", "argmax", "div_", "column")
def remembering(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`make`, but once for each array: a captured step makes no Tensor of values."""
    made: dict[Any, Any] = {}

    def remembered(array: Any) -> Any:
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in made:
            made[key] = make(array)
        return made[key]

    return remembered


MINIGRAD = Lib(mg, mg.nn.functional, mg.tensor, copies=False)


class Generator:
    """Draws a program, running it as it grows, so that ranges, kinks and ties are known."""

    def __init__(self, seed: int, plain: bool = False) -> None:
        self.rng = np.random.default_rng([seed, 4])
        self.plain = plain  # without what hides from a derivative: no_grad and detach
        self.program: Program = []
        self.values: list[Any] = []
        self.memories: list[Memory] = []
        self.uses: list[int] = []
        self.cut: list[bool] = []  # does not depend on a leaf any more
        u = self.rng.random()
        self.size = 3 + int(100 * u if u < 0.05 else 55 * math.sqrt(u))  # and at most three more with their leaves
        for _ in range(int(self.rng.integers(1, 3))):
            self.leaf(tuple(int(n) for n in self.rng.choice(LENGTHS, int(self.rng.integers(1, 4)))))
        deck: list[str] = []
        names = [*(name for name in KINDS if not (plain and name == "detach")), *SELDOM]
        while len(self.program) < self.size:
            if not deck:
                deck = [str(name) for name in self.rng.permutation(names)]
            self.draw(deck.pop())

    # ---- what ops ask
    def value(self, at: int) -> Any:
        return self.values[at].array

    def pick(self, fits: Callable[[Any], bool] = lambda v: True, prepare: tuple[float, float] | None = None) -> int | None:
        """The place of a value; those with something special about them more often."""
        fitting = [i for i, v in enumerate(self.values) if v.dtype == mg.float64 and fits(v.array)]
        if not fitting and prepare is not None:
            low, high = prepare
            made = self.add("sigmoid", (int(self.rng.integers(len(self.values))),), {}) if low > 0 or high < LARGEST else None
            made = self.add("shift", (made,), {"by": 0.25}) if low > 0 and made is not None else made
            fitting = [] if made is None else [made]
        if not fitting:
            return None
        want = int(self.rng.choice(5, p=(0.4, 0.2, 0.15, 0.1, 0.15)))
        special = [i for i in fitting if (len(self.memories[i].values) > 1, self.memories[i].written, self.cut[i], self.uses[i] > 0, True)[want]]
        at = int(self.rng.choice(special or fitting))
        return at if special or len(self.program) + 4 > self.size else self.made_special(at, want)

    def made_special(self, at: int, want: int) -> int:
        """The same numbers as a view, written in place, or cut off from the leaves."""
        if want == 0:
            return self.same("reshape", at, shape=self.value(at).shape)
        if want == 1:
            return self.same("neg_", self.same("neg", at))
        return self.same("detach", at) if want == 2 and not self.plain else at

    def same(self, name: str, at: int, **attributes: Any) -> int:
        made = self.add(name, (at,), attributes)
        return at if made is None else made

    def beside(self, x: int, fits: Callable[[Any, Any], bool], prepare: tuple[float, float]) -> int | None:
        """The place of a value that broadcasts with x."""
        a = self.value(x)

        def both(v: Any) -> bool:
            try:
                return math.prod(np.broadcast_shapes(a.shape, v.shape)) <= MOST and fits(a, v)
            except ValueError:
                return False

        found = self.pick(both)
        if found is not None or prepare[0] == -math.inf:
            return found
        raised = self.add("sigmoid", (x,), {})
        return None if raised is None else self.add("shift", (raised,), {"by": 0.25})

    def writable(self, fits: Callable[[Any], bool]) -> int | None:
        free = [i for i, memory in enumerate(self.memories)
                if not (memory.leaf or memory.kept or memory.locked) and self.values[i].dtype == mg.float64 and fits(self.values[i].array)]
        if not free:
            source = self.pick(fits)
            return None if source is None else self.add("scale", (source,), {"by": 0.75})
        at = int(self.rng.choice([i for i in free if len(self.memories[i].values) > 1] or free))
        return at if self.rng.integers(2) else self.same("reshape", at, shape=self.value(at).shape)

    def leaf(self, shape: tuple[int, ...]) -> int:
        attributes = {"shape": shape, "seed": [int(self.rng.integers(2**31))]}
        self._append(Node("leaf", (), attributes, True), mg.tensor(leaf_array(attributes)), Memory(leaf=True), False)
        return len(self.program) - 1

    # ---- growing
    def draw(self, name: str) -> None:
        found = KINDS[name].choose(self)
        if found is not None:
            self.add(name, *found, grad=self.plain or bool(self.rng.integers(7)))

    def add(self, name: str, inputs: tuple[int, ...], attributes: dict[str, Any], grad: bool = True) -> int | None:
        """Run an instruction, and keep it if what it gives is in range."""
        kind, node = KINDS[name], Node(name, inputs, attributes, grad)
        memory = self.memories[inputs[0]]
        if any(self.values[i].dtype != mg.float64 for i in inputs):
            return None
        own = self.values[inputs[0]].array
        before = [self.values[i].array.copy() for i in memory.values] if kind.writes else []
        with mg.no_grad():
            out = perform(MINIGRAD, node, self.values)
        if out.numel() > MOST or out.numel() == 0 or not bool((np.abs(out.array) <= LARGEST).all()):
            for i, array in zip(memory.values, before, strict=False):
                self.values[i].array[...] = array
            return None
        shares = bool(np.shares_memory(out.array, own))
        assert shares <= (kind.view or kind.writes or name == "detach"), f"{name} gave a view"
        memory.locked |= shares and ((kind.view and not grad) or name in ("detach", "chunk"))
        if kind.writes:
            memory.written = True
        if kind.keeps and grad:
            for i in inputs:
                self.memories[i].kept = True
        mine = memory if shares else Memory(locked=kind.view)  # minigrad refuses to write into a copy that PyTorch has as a view
        mine.kept |= kind.keeps and grad
        cut = (not grad and not kind.writes) or name in ("detach", "argmax") or all(self.cut[i] for i in inputs)
        for i in inputs:
            self.uses[i] += 1
        self._append(node._replace(shares=shares), out, mine, cut)
        return len(self.program) - 1

    def _append(self, node: Node, value: Any, memory: Memory, cut: bool) -> None:
        memory.values.append(len(self.program))
        self.program.append(node)
        self.values.append(value)
        self.memories.append(memory)
        self.uses.append(0)
        self.cut.append(cut)


def drawn(seed: int, plain: bool = False) -> Program:
    """The program of a seed, of 3 to 60 instructions and what they need."""
    return Generator(seed, plain).program


# ---- what a program has in it -------------------------------------------------------------------------------------------------------
def possible(feature: str, op: str) -> bool:
    """Whether an op can have a feature: only elementwise ones are part of chains, all others have all."""
    return bool(KINDS[op].fused) if feature == "fused" else True


def features(program: Program) -> Iterator[tuple[str, str]]:
    """(op, feature) for each instruction that has it; `fused` is known only of a compiled program."""
    memory: list[int] = []
    shared: dict[int, int] = {}
    uses = [0] * len(program)
    written: set[int] = set()
    cut: list[bool] = []
    for node in program:
        for i in set(node.inputs):
            uses[i] += 1
    for at, node in enumerate(program):
        kind = KINDS.get(node.op)
        memory.append(memory[node.inputs[0]] if node.shares else at)
        cut.append(kind is not None and ((not node.grad and not kind.writes) or node.op == "detach" or all(cut[i] for i in node.inputs)))
        if kind is None:
            continue
        if kind.writes:
            written.add(memory[at])
        places = {memory[i] for i in node.inputs}
        viewed = kind.view and node.shares
        if viewed or any(shared.get(m, 0) for m in places):
            yield node.op, "view"
        if viewed:
            shared[memory[at]] = shared.get(memory[at], 0) + 1
        if any(uses[i] > 1 for i in node.inputs):
            yield node.op, "reused"
        if places & written:
            yield node.op, "in-place"
        if not node.grad or any(cut[i] for i in node.inputs):
            yield node.op, "no-grad"


# ---- shrinking ----------------------------------------------------------------------------------------------------------------------
def without(program: Program, at: int) -> Program | None:
    """The program less one instruction; what used its result uses its first operand's. None if there is nothing in its place."""
    node = program[at]
    uses = any(at in other.inputs for other in program)
    if uses and not node.inputs:
        return None

    def moved(i: int) -> int:
        i = node.inputs[0] if i == at else i
        return i - (i > at)

    return settled([other._replace(inputs=tuple(moved(i) for i in other.inputs)) for i, other in enumerate(program) if i != at])


def settled(program: Program) -> Program | None:
    """The program with what shares memory in it now; None if it does not run any more."""
    values: list[Any] = []
    made: Program = []
    try:
        with mg.no_grad():
            for node in program:
                values.append(mg.tensor(leaf_array(node.attributes)) if node.op == "leaf" else perform(MINIGRAD, node, values))
                made.append(node._replace(shares=node.op != "leaf" and bool(np.shares_memory(values[-1].array, values[node.inputs[0]].array))))
    except Exception:  # noqa: BLE001  shapes do not fit, or any other reason
        return None
    return made


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that fails still, from which no instruction can be left out."""
    smaller = True
    while smaller:
        smaller = False
        for at in reversed(range(len(program))):
            shorter = without(program, at)
            if shorter and fails(shorter):
                program, smaller = shorter, True
                break
    return program
