"""What a function reads beside its arguments and its parameters, and a program has baked in: numbers, strings, which object a name stands for.

They are found by walking from the function's closure, globals and `self` along the names that its code mentions, through functions, plain
objects and small containers of the user's. What a library or a C function reads stays unseen: see `audit` of `mg.capture`.
"""
from __future__ import annotations

import dis
import pickle
import random
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np

from minigrad.tape.handle import Handle

PLAIN: Final = (bool, int, float, complex, str, bytes, type(None))
#: Containers of more entries than this are not looked into.
ENTRIES: Final = 64
#: Arrays of more bytes than this are not watched for what the function itself writes; what others write into any array, a replay reads.
ARRAY_BYTES: Final = 1 << 16
#: Objects that one walk looks into at most.
OBJECTS: Final = 4096
#: How far from the function the walk goes.
DEPTH: Final = 12
#: Whose objects and functions are not looked into: what of theirs may change bumps `live.counter`, or is out of reach.
LIBRARIES: Final = frozenset({"minigrad", "minigrad_kernels", "numpy", "numba", "llvmlite", *sys.stdlib_module_names} - {"__main__"})
#: Methods that are called without being named.
CALLED: Final = frozenset({"__call__", "__getitem__", "__len__", "__iter__", "forward"})


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING: Final = _Nothing()


class Constants:
    """What a function, and objects given to it, hold now, compared with what they hold later."""

    def __init__(self, function: Any, *given: Any) -> None:
        #: In mappings, namespaces and objects: the mapping, the key, the value, and what to call it.
        self._entries: list[tuple[Any, Any, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._sequences: list[tuple[Any, tuple[Any, ...]]] = []  # lists, and keys and values of dicts
        self._slots: list[tuple[Any, str, Any]] = []  # attributes of objects without a __dict__
        self._arrays: list[tuple[str, Any, bytes]] = []
        self._noticed: list[tuple[Any, Any, Any]] = []  # entries whose change makes programs stale by itself
        self._labels: dict[tuple[int, Any], str] = {}
        self.generators: list[Any] = []  # of random numbers, other than minigrad's
        _Walk(self).go(function, given)
        self._more = bool(self._sequences or self._slots)
        self.many = bool(self._entries or self._cells or self._more)

    def __bool__(self) -> bool:
        return self.many

    def hold(self) -> bool:
        """Whether all is as it was. Costs about 30 ns for each name."""
        try:
            for cell, value in self._cells:
                if cell.cell_contents is not value and _differ(cell.cell_contents, value):
                    return False
        except ValueError:  # it is empty now
            return False
        for mapping, key, value in self._entries:
            now = mapping.get(key, NOTHING)
            if now is not value and _differ(now, value):
                return False
        return not self._more or not any(True for _ in self._others())

    def _others(self) -> Iterator[tuple[str, str, str]]:
        for items, values in self._sequences:
            now = tuple(items)
            if len(now) != len(values) or any(a is not b and _differ(a, b) for a, b in zip(now, values, strict=True)):
                yield self._labels[id(items), None], _entries(now), _entries(values)
        for held, name, value in self._slots:
            found = getattr(held, name, NOTHING)
            if found is not value and _differ(found, value):
                yield self._labels[id(held), name], _said(found), _said(value)

    def changes(self) -> Iterator[tuple[str, str, str]]:
        """What is not as it was, arrays and what modules say by themselves too: what it is called, its value now, and then, in words."""
        for cell, value in self._cells:
            content = _content(cell)
            if content is not value and _differ(content, value):
                yield self._labels[id(cell), None], _said(content), _said(value)
        for mapping, key, value in (*self._entries, *self._noticed):
            found = mapping.get(key, NOTHING)
            if found is not value and _differ(found, value):
                yield self._labels[id(mapping), key], _said(found), _said(value)
        for name, array, held in self._arrays:
            if array.tobytes() != held:
                yield name, "other values", "its values"
        yield from self._others()


def random_states(generators: list[Any]) -> list[tuple[str, Any]]:
    """Where the random numbers of Python, NumPy and these generators stand: not minigrad's own."""
    old = np.random.get_state(legacy=False)  # noqa: NPY002  the user may still use it
    return [("random", random.getstate()), ("np.random", pickle.dumps(old)),
            *[(f"a {type(g).__name__}", g.getstate() if isinstance(g, random.Random) else pickle.dumps(_state(g))) for g in generators]]


def _state(generator: np.random.Generator | np.random.RandomState) -> Any:
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state(legacy=False)


def _differ(a: Any, b: Any) -> bool:
    """Whether two values that are not one object are two different values: compared only if they are plain."""
    if type(a) is not type(b) or not isinstance(a, (*PLAIN, np.generic)):
        return not (type(a) is MethodType and type(b) is MethodType and a.__self__ is b.__self__ and a.__func__ is b.__func__)
    return (bool(a != b) and (a == a or b == b)) or (not a and repr(a) != repr(b))  # 0.0 and -0.0 are equal


def _said(value: Any) -> str:
    """A value in words: itself if it is plain, else its kind."""
    return repr(value) if isinstance(value, (*PLAIN, _Nothing)) else f"a {type(value).__name__}"


def _entries(values: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(_said, values))}]" if len(values) < 5 else f"{len(values)} entries"


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING


@lru_cache(maxsize=1024)
def _mentioned(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The globals that a function and those inside it name; and what may be an attribute's name, strings among them."""
    outer = {i.argval for i in dis.get_instructions(code) if i.opname.endswith(("_GLOBAL", "_NAME"))}
    names = {*code.co_names, *[x for x in code.co_consts if isinstance(x, str) and x.isidentifier()]}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, others = _mentioned(inner)
            outer |= more
            names |= others
    return frozenset(outer), frozenset(names)


def ours(name: Any) -> bool:
    """Whether a module of this name is the user's, and no library that is known."""
    return str(name).partition(".")[0] not in LIBRARIES


class _Walk:
    """One walk; what it finds goes into `found`."""

    def __init__(self, found: Constants) -> None:
        self.found = found
        self.names: set[str] = set(CALLED)
        self.seen: set[int] = set()
        self.objects: list[tuple[Any, str, int]] = []  # in which another name may be of interest later
        self.entries: set[tuple[int, Any]] = set()
        self.keep: list[Any] = []  # so that no two have one id

    def go(self, function: Any, given: tuple[Any, ...]) -> None:
        self.visit(function, "", 0, root=True)
        for x in given:
            self.visit(x, f"an argument's {type(x).__name__}", 0)
        known = (-1, -1)
        while known != (len(self.names), len(self.objects)):  # a name that is met late may be an attribute of what was met early
            known = (len(self.names), len(self.objects))
            for held, label, depth in list(self.objects):
                self.attributes(held, label, depth)

    # ---- from one object to the next
    def visit(self, x: Any, label: str, depth: int, root: bool = False) -> None:
        if isinstance(x, (*PLAIN, Handle, np.generic)) or id(x) in self.seen or len(self.seen) > OBJECTS or depth > DEPTH:
            return
        self.seen.add(id(x))
        self.keep.append(x)
        if isinstance(x, np.random.Generator | np.random.RandomState | random.Random):
            self.found.generators.append(x)
        elif isinstance(x, np.ndarray):
            if x.nbytes <= ARRAY_BYTES and not x.dtype.hasobject:
                self.found._arrays.append((label, x, x.tobytes()))
        elif isinstance(x, FunctionType):
            if root or ours(x.__module__):
                self.function(x, label, depth)
            elif hasattr(x, "__wrapped__"):
                self.visit(x.__wrapped__, label, depth)
        elif isinstance(x, MethodType):
            self.visit(x.__self__, label or "self", depth + 1)
            self.visit(x.__func__, label, depth, root)
        elif isinstance(x, partial):
            self.visit(x.func, label, depth, root)
            for i, value in enumerate(x.args):
                self.visit(value, f"argument {i}", depth + 1)
            self.mapping(x.keywords, label or "keywords", depth + 1)
        elif isinstance(x, list | tuple | set | frozenset):
            self.sequence(x, label, depth)
        elif isinstance(x, Mapping):
            if isinstance(x, dict) or ours(type(x).__module__):
                self.mapping(x, label, depth)
        elif isinstance(x, ModuleType):
            if ours(x.__name__):
                self.objects.append((x, label, depth))
        elif isinstance(x, type):
            if ours(x.__module__):
                self.objects.append((x, label, depth))
        elif not isinstance(x, BuiltinFunctionType):
            self.instance(x, label, depth, root)

    def instance(self, x: Any, label: str, depth: int, root: bool) -> None:
        held = _namespace(x)
        if ours(type(x).__module__) or (type(x).__module__ == "types" and held is not None) or (root and held is not None):
            self.objects.append((x, label or "self", depth))
        children = (held or {}).get("_modules")
        for name, child in list(children.items()) if isinstance(children, dict) else ():
            self.visit(child, f"{label}.{name}", depth)  # however deep the net is

    def function(self, x: FunctionType, label: str, depth: int) -> None:
        outer, names = _mentioned(x.__code__)
        self.names |= names
        for cell, name in zip(x.__closure__ or (), x.__code__.co_freevars, strict=False):
            if name != "__class__":
                self.cell(cell, name, depth)
        for name in sorted(outer & x.__globals__.keys()):
            self.entry(x.__globals__, name, name, depth)
        for value in (*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()):
            self.visit(value, f"a default of {x.__name__}", depth + 1)

    def attributes(self, x: Any, label: str, depth: int) -> None:
        """Those whose names the code mentions."""
        space = _namespace(x)
        if isinstance(x, type | ModuleType):
            for name in sorted(self.names & vars(x).keys()):
                self.entry(vars(x), name, f"{label}.{name}", depth)
            return
        noticed = isinstance((space or {}).get("_modules"), dict)  # a module says when an attribute is set
        if space is not None:
            for name in sorted(self.names & space.keys()):
                self.entry(space, name, f"{label}.{name}", depth, noticed=noticed)
        for kind in type(x).__mro__:
            if not ours(kind.__module__):
                continue
            for name in sorted(self.names & vars(kind).keys()):
                value = vars(kind)[name]
                if isinstance(value, FunctionType | staticmethod | classmethod | property):
                    inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                    self.visit(inner, label, depth + 1)
                elif type(value).__name__ in ("member_descriptor", "getset_descriptor"):
                    self.slot(x, name, f"{label}.{name}", depth)
                elif isinstance(value, (*PLAIN, list, tuple, dict, set)):
                    self.entry(vars(kind), name, f"{label}.{name}", depth)
                    if space is not None and name not in space:
                        self.entry(space, name, f"{label}.{name}", depth, noticed=noticed)

    # ---- what is compared
    def cell(self, cell: CellType, name: str, depth: int) -> None:
        if (id(cell), None) not in self.entries:
            self.entries.add((id(cell), None))
            value = _content(cell)
            if _watched(value):
                self.found._cells.append((cell, value))
                self.found._labels[id(cell), None] = name
            self.visit(value, name, depth + 1)

    def entry(self, space: Any, key: Any, label: str, depth: int, noticed: bool = False) -> None:
        if (id(space), key) in self.entries:
            return
        value = space.get(key, NOTHING)
        self.entries.add((id(space), key))
        self.keep.append(space)
        if _watched(value):
            (self.found._noticed if noticed else self.found._entries).append((space, key, value))
            self.found._labels[id(space), key] = label
        self.visit(value, label, depth + 1)

    def slot(self, x: Any, name: str, label: str, depth: int) -> None:
        if (id(x), name) not in self.entries:
            self.entries.add((id(x), name))
            value = getattr(x, name, NOTHING)
            self.found._slots.append((x, name, value))
            self.found._labels[id(x), name] = label
            self.visit(value, label, depth + 1)

    def sequence(self, x: Any, label: str, depth: int) -> None:
        if len(x) > ENTRIES:
            return
        if not isinstance(x, tuple | frozenset):
            self.found._sequences.append((x, tuple(x)))
            self.found._labels[id(x), None] = label
        for i, value in enumerate(x):
            self.visit(value, f"{label}[{i}]", depth + 1)

    def mapping(self, x: Any, label: str, depth: int) -> None:
        if len(x) > ENTRIES:
            return
        for part in (x.keys(), x.values()):
            self.found._sequences.append((part, tuple(part)))
            self.found._labels[id(part), None] = label
            self.keep.append(part)
        for key, value in x.items():
            self.visit(value, f"{label}[{key!r}]", depth + 1)


def _namespace(x: Any) -> Any:
    try:
        held = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return None
    return held if isinstance(held, dict) else None


def _watched(value: Any) -> bool:
    """Whether a name that stands for something else is worth noticing: not for a module, and not for what a library defines."""
    if isinstance(value, ModuleType):
        return False
    return not isinstance(value, FunctionType | BuiltinFunctionType | type) or ours(value.__module__)
