"""The import direction: a file imports its own room and lower floors, and nothing inside a function but extras."""
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. Rooms on one floor do not know each other; a room is one module or package, or several that know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("minigrad_kernels",),
    ("minigrad.errors minigrad.config minigrad.dtypes", "minigrad.cached", "minigrad.cuda", "minigrad.display", "minigrad.files"),
    ("minigrad.ops.attributes", "minigrad.ops.spec"),
    ("minigrad.ops.op minigrad.ops.rules minigrad.ops.samples",),
    ("minigrad.ops",),
    ("minigrad.tape",),
    ("minigrad.check", "minigrad.func", "minigrad.program"),
    ("minigrad.autograd", "minigrad.custom", "minigrad.data", "minigrad.nn", "minigrad.optim"),
    ("minigrad.health", "minigrad.io", "minigrad.utils", "minigrad.viz"),
    ("minigrad.train",),
    ("minigrad",),
    ("minigrad.lab", "minigrad.bench"),
    ("minigrad.cli minigrad.compiling minigrad.diagnosing minigrad.__main__",),
)
PLACES = {prefix: (floor, room) for floor, rooms in enumerate(FLOORS) for room in rooms for prefix in room.split()}
REQUIRED = {"numpy", "numba", "llvmlite"}
EXTRAS = {"autograd", "jax", "matplotlib", "safetensors", "sklearn", "threadpoolctl", "torch", "tqdm"}
# The only upward links: a slot of a lower room that a higher one fills when it is imported.
SLOTS = {("minigrad.tape", "minigrad.ops.op.Op.apply"), ("minigrad.tape", "minigrad.ops.op.Op.__call__")}


@dataclass(frozen=True)
class Import:
    """One imported module, or name of a module, and whether a function imports it."""

    target: str
    line: int
    in_function: bool


@dataclass
class Source:
    """A parsed file."""

    module: str
    is_package: bool
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.module if self.is_package else self.module.rpartition(".")[0]

    @property
    def loads_contestants(self) -> bool:
        """Whether the file is the bench's, which imports a contestant's libraries in that contestant's process only."""
        return self.module.startswith("minigrad.bench.")

    def may_need(self, extra: str, line: int) -> bool:
        """Whether the module is a peer's own, or the line is for types only."""
        types_only = [node for node in self.tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        return self.module == f"minigrad.bench.peers.{extra}_step" or any(n.lineno <= line <= (n.end_lineno or 0) for n in types_only)

    def imports(self) -> Iterator[Import]:
        """Relative and absolute ones, and `import_module` of a literal."""
        inner = {id(node) for function in ast.walk(self.tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                 for node in ast.walk(function)}
        for node in ast.walk(self.tree):
            for target in self._targets(node):
                yield Import(target, node.lineno, id(node) in inner)  # type: ignore[attr-defined]

    def _targets(self, node: ast.AST) -> list[str]:
        match node:
            case ast.Import(names=names):
                return [name.name for name in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = resolve_name("." * level + (module or ""), self.package) if level else str(module)
                return [f"{base}.{name.name}" for name in names]
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]):
                return [name]
        return []

    def filled_slots(self) -> Iterator[str]:
        """Attributes of imported things that the module itself assigns."""
        imported = {(name.asname or name.name): f"{resolve_name('.' * node.level + (node.module or ''), self.package)}.{name.name}"
                    for node in self.tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
        for statement in self.tree.body:
            for target in statement.targets if isinstance(statement, ast.Assign) else []:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in imported:
                    yield f"{imported[target.value.id]}.{target.attr}"


def sources(root: Path) -> list[Source]:
    """Every file of the two packages."""
    found = []
    for base in (root, root / "kernels"):
        for package in ("minigrad", "minigrad_kernels"):
            for path in sorted((base / package).rglob("*.py")):
                parts = path.relative_to(base).with_suffix("").parts
                is_package = parts[-1] == "__init__"
                found.append(Source(".".join(parts[:-1] if is_package else parts), is_package, ast.parse(path.read_text(), str(path))))
    return found


def place(name: str) -> tuple[int, str] | None:
    """Floor and room of a module or of a name in one; None outside the two packages."""
    while name:
        if name in PLACES:
            return PLACES[name]
        name = name.rpartition(".")[0]
    return None


def violations(root: Path) -> list[str]:
    """What is imported against the rules."""
    found = []
    for source in sources(root):
        here = place(source.module)
        assert here is not None, source.module
        for one in source.imports():
            there, top = place(one.target), one.target.partition(".")[0]
            where = f"{source.module}:{one.line} imports {one.target}"
            if there is not None and there != here and there[0] >= here[0]:
                found.append(f"{where}: not on a lower floor")
            elif one.in_function and top not in EXTRAS and not source.loads_contestants:
                found.append(f"{where} inside a function")
            elif not one.in_function and there is None and top not in REQUIRED | sys.stdlib_module_names and not source.may_need(top, one.line):
                found.append(f"{where}: an extra is imported where it is used")
    return found


def test_every_file_has_a_floor() -> None:
    assert [s.module for s in sources(ROOT) if place(s.module) == PLACES["minigrad"] and s.module != "minigrad"] == []


def test_every_import_goes_down() -> None:
    assert violations(ROOT) == []


def test_only_the_tape_fills_a_slot_of_a_lower_room() -> None:
    filled = {(source.module, slot) for source in sources(ROOT) for slot in source.filled_slots() if place(slot) != place(source.module)}
    rooms = {(place(module), slot) for module, slot in filled}
    assert rooms == {(place(module), slot) for module, slot in SLOTS}


def test_no_name_hides_a_module() -> None:
    modules = {source.module for source in sources(ROOT)}
    for source in sources(ROOT):
        if source.is_package:
            hidden = {f"{source.package}.{(name.asname or name.name)}": f"{node.module}.{name.name}"
                      for node in source.tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
            assert {bound: origin for bound, origin in hidden.items() if bound in modules and bound != origin} == {}


@pytest.mark.parametrize(("path", "code", "complaint"), [
    ("minigrad/ops/op.py", "from minigrad.tape.tensor import Tensor", "minigrad.ops.op:1 imports minigrad.tape.tensor.Tensor: not on a lower floor"),
    ("minigrad/ops/op.py", "from ..tape import tensor", "minigrad.ops.op:1 imports minigrad.tape.tensor: not on a lower floor"),
    ("minigrad/optim/sgd.py", "from minigrad import nn", "minigrad.optim.sgd:1 imports minigrad.nn: not on a lower floor"),
    ("minigrad/tape/tensor.py", "import minigrad as mg", "minigrad.tape.tensor:1 imports minigrad: not on a lower floor"),
    ("minigrad/train/trainer.py", "def f():\n    from minigrad import nn", "minigrad.train.trainer:2 imports minigrad.nn inside a function"),
    ("minigrad/data/digits.py", "import sklearn", "minigrad.data.digits:1 imports sklearn: an extra is imported where it is used"),
    ("kernels/minigrad_kernels/abi.py", "import minigrad.errors", "minigrad_kernels.abi:1 imports minigrad.errors: not on a lower floor"),
])
def test_a_seeded_violation_is_caught(path: str, code: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(code)
    assert violations(tmp_path) == [complaint]


def test_what_is_allowed_is_not_caught(tmp_path: Path) -> None:
    allowed = {
        "minigrad/train/trainer.py": "from minigrad import nn\ndef f():\n    from tqdm import tqdm",
        "minigrad/nn/linear.py": "from .module import Module",
    }
    for path, code in allowed.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(code)
    assert violations(tmp_path) == []
