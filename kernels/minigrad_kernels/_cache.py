"""Compiled code on disk: one file an entry, whose name a change of any source file behind it, of Numba or of the CPU changes.

Numba's own cache does not see a change in another file, cannot key a closure over a dispatcher, and raises on a damaged or full
directory. This store sits behind the same two calls that Numba makes (`load_overload`, `save_overload`), so it needs neither a
locator nor a source file: an entry is found by the name that `abi` gives it. A damaged, full or read-only directory costs a warning
and a compilation, never an error. The files are pickles, so the directory must belong to the user and to nobody else (0700).
"""
from __future__ import annotations

import ast
import hashlib
import os
import pickle
import stat
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba.core import compiler, serialize
from numba.core.caching import _Cache

DIGEST_BYTES = 32


class Stats:
    """What this process loaded and compiled: counts, and seconds spent on each."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.load_seconds = 0.0
        self.compile_seconds = 0.0
        self.on_compile: Callable[[str], None] | None = None
        self._warned = False

    def warn_once(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"minigrad's compile cache is not usable ({reason}): kernels are compiled again in each process. "
                          "Set MINIGRAD_CACHE_DIR to a directory that only you can write.", RuntimeWarning, stacklevel=2)


stats = Stats()


PACKAGE = __name__.rpartition(".")[0]


@cache
def _imports(module: str) -> frozenset[str]:
    """The module and all that it imports of this package, and what those import."""
    found, waiting = {module}, [module]
    while waiting:
        tree = ast.parse((Path(__file__).parent / f"{waiting.pop()}.py").read_text())
        named = [[node.module] if node.module else [name.name for name in node.names]
                 for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
        new = {name for names in named for name in names} - found
        found |= new
        waiting += new
    return frozenset(found)


def _ingredients(value: Any) -> tuple[set[str], list[str]]:
    """The files of this package that a kernel is made of, and whatever else stands in the closures of its factories, as text."""
    plain = getattr(value, "py_func", value)
    module, name = getattr(plain, "__module__", None) or "", getattr(plain, "__qualname__", None)
    files = {module.removeprefix(f"{PACKAGE}.")} if module.startswith(f"{PACKAGE}.") else set()
    others = [] if files else [f"{module}.{name}" if name else repr(value)]
    for cell in getattr(plain, "__closure__", None) or ():
        more, texts = _ingredients(cell.cell_contents)
        files |= more
        others += texts
    return files, others


@cache
def _digest(modules: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(module.encode() + b"\0" + (Path(__file__).parent / f"{module}.py").read_bytes())
    return digest.hexdigest()


def sources(kernel: Any) -> str:
    """Hash of every file of this package that the kernel may have been compiled from, and of what its factory was given."""
    files, others = _ingredients(kernel)
    return _digest(frozenset[str]().union(*map(_imports, files | {"abi", "_jit"}))) + ",".join(others)


@cache
def directory() -> Path:
    """Where the entries of this CPU and this Numba live: MINIGRAD_CACHE_DIR, else XDG_CACHE_HOME/minigrad, else ~/.cache/minigrad."""
    given = os.environ.get("MINIGRAD_CACHE_DIR")
    if given:
        root = Path(given)
    else:
        home = os.environ.get("XDG_CACHE_HOME")
        root = (Path(home) if home else Path("~/.cache").expanduser()) / "minigrad"
    host = f"{binding.get_host_cpu_name()}:{binding.get_host_cpu_features().flatten()}"
    build = f"{numba.__version__}:{llvmlite.__version__}:{host}"
    return root / hashlib.sha256(build.encode()).hexdigest()[:24]


@cache
def _usable() -> bool:
    """Whether the directory exists, or could be made, and is the user's alone."""
    try:
        path = directory()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat()
    except (OSError, RuntimeError) as problem:
        stats.warn_once(str(problem))
        return False
    if hasattr(os, "getuid") and (owner.st_uid != os.getuid() or stat.S_IMODE(owner.st_mode) & 0o022):
        stats.warn_once(f"{path} can be written by others, and its files are executed")
        return False
    return True


class Store(_Cache):  # type: ignore[misc]
    """The cache of one compiled function, known by `name` and by the files that `function` comes from instead of by bytecode."""

    def __init__(self, name: str, function: Any) -> None:
        self._name = name
        self._sources = sources(function)
        self._started = 0.0

    @property
    def cache_path(self) -> str:
        return str(directory())

    def enable(self) -> None:
        """Always on; part of Numba's interface."""

    def disable(self) -> None:
        """Always on; part of Numba's interface."""

    def flush(self) -> None:
        self._path(None).unlink(missing_ok=True)

    def _path(self, sig: object) -> Path:
        return directory() / (hashlib.sha256(f"{self._name}:{sig}:{self._sources}".encode()).hexdigest()[:32] + ".entry")

    def load_overload(self, sig: object, target_context: Any) -> Any:
        target_context.refresh()
        self._started = time.perf_counter()
        found = None
        if _usable():
            path = self._path(sig)
            try:
                blob = path.read_bytes()
                if hashlib.sha256(blob[DIGEST_BYTES:]).digest() != blob[:DIGEST_BYTES]:
                    raise pickle.UnpicklingError("the checksum does not fit")
                found = compiler.CompileResult._rebuild(target_context, *pickle.loads(blob[DIGEST_BYTES:]))
            except FileNotFoundError:
                pass
            except Exception as problem:  # noqa: BLE001  whatever a damaged pickle raises, the cure is to compile
                stats.warn_once(f"{path.name} is damaged: {problem}")
        if found is not None:
            stats.hits += 1
            stats.load_seconds += time.perf_counter() - self._started
        elif stats.on_compile is not None:
            stats.on_compile(self._name)
        return found

    def save_overload(self, sig: object, data: Any) -> None:
        stats.misses += 1
        stats.compile_seconds += time.perf_counter() - self._started
        if data.library.has_dynamic_globals:
            raise RuntimeError(f"{self._name} bakes an address of this process into its code: pass it as an operand instead")
        if not _usable():
            return
        body = serialize.dumps(data._reduce())
        handle, temporary = -1, ""
        try:
            handle, temporary = tempfile.mkstemp(dir=directory(), suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).digest() + body)
            os.replace(temporary, self._path(sig))
        except OSError as problem:
            stats.warn_once(str(problem))
            if temporary:
                Path(temporary).unlink(missing_ok=True)
