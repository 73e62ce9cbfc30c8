"""The compile cache: a second process compiles nothing, and whatever is wrong with the directory costs a warning, never a result."""
from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from minigrad_kernels import _cache, _jit, abi, activations, elementwise, machine, matmul

CHECKOUT = Path(__file__).parents[2]
FLOAT64 = np.dtype(np.float64)
LAYOUT = abi.Layout("x[n] out[n]", "n")


@_jit.jit
def twice(x, out):  # type: ignore[no-untyped-def]
    """A kernel that compiles in a moment."""
    for i in range(x.size):
        out[i] = x[i] + x[i]


def compute() -> tuple[list[float], int, int]:
    """What a fresh entry of `twice` makes of 0, 1, 2, and the hits and misses of getting it."""
    before = _cache.stats.hits, _cache.stats.misses
    entry = abi.Entry(twice, LAYOUT, (FLOAT64, FLOAT64)).load()
    x, out = np.arange(3.0), np.zeros(3)
    operands = np.array([*LAYOUT.words({"n": 3}), *[0] * machine.INVOKE_ADDRESSES])
    assert machine.calls().invoke(entry.address, operands.ctypes.data, 1, x.ctypes.data, out.ctypes.data, *[0] * (machine.INVOKE_ADDRESSES - 2)) == 1
    return out.tolist(), _cache.stats.hits - before[0], _cache.stats.misses - before[1]


RIGHT = [0.0, 2.0, 4.0]
LOADED, COMPILED = (RIGHT, 1, 0), (RIGHT, 0, 1)


def forget() -> None:
    _cache.directory.cache_clear()
    _cache._usable.cache_clear()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of this test's own, in a process that has not warned yet."""
    machine.calls()  # from the real cache
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_cache, "stats", _cache.Stats())
    forget()
    yield tmp_path / "cache"
    forget()


def entries(root: Path) -> list[Path]:
    return sorted(root.rglob("*.entry"))


def refuse(*arguments: Any, **more: Any) -> NoReturn:
    raise OSError(30, "Read-only file system")


def test_what_was_compiled_is_loaded(root: Path) -> None:
    assert compute() == COMPILED
    assert compute() == LOADED
    assert len(entries(root)) == 1


def test_the_directory_is_the_users_alone(root: Path) -> None:
    compute()
    assert _cache.directory().parent == root
    assert stat.S_IMODE(_cache.directory().stat().st_mode) == 0o700


def test_without_a_setting_the_cache_is_under_xdgs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGRAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "xdg"))
    forget()
    assert _cache.directory().parent == root / "xdg" / "minigrad"


def test_another_source_is_another_entry(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compute() == COMPILED
    monkeypatch.setattr(_cache, "sources", lambda *functions: "edited")
    assert compute() == COMPILED
    assert len(entries(root)) == 2


def test_a_kernel_depends_on_the_files_that_it_is_made_from_and_on_no_others() -> None:
    files, _ = _cache._ingredients(activations.sigmoid_grad)
    assert files == {"activations", "loops"}
    behind = frozenset[str]().union(*map(_cache._imports, files))
    assert {"_exp_log", "simd", "_vector", "_jit"} <= behind and not behind & {"matmul", "losses", "update"}
    assert _cache.sources(activations.tanh) != _cache.sources(matmul.matmul)
    assert _cache.sources(elementwise.add.both) != _cache.sources(elementwise.sub.both)  # one file, another operator


@pytest.mark.parametrize("spoil", [
    lambda blob: blob[:-1],
    lambda blob: blob[:10],
    lambda blob: b"",
    lambda blob: blob[:len(blob) // 2] + bytes([blob[len(blob) // 2] ^ 1]) + blob[len(blob) // 2 + 1:],
    lambda blob: bytes([blob[0] ^ 1]) + blob[1:],
], ids=["truncated", "short", "empty", "a flipped bit", "a flipped bit of the checksum"])
def test_a_damaged_entry_is_compiled_again_and_replaced(root: Path, spoil: Any) -> None:
    compute()
    path, = entries(root)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert compute() == COMPILED
    assert compute() == LOADED


@pytest.mark.parametrize(("module", "name"), [(tempfile, "mkstemp"), (os, "replace")], ids=["nothing can be made", "nothing can be renamed"])
def test_a_directory_that_cannot_be_written_costs_one_warning(root: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    monkeypatch.setattr(module, name, refuse)
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        assert compute() == COMPILED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute() == COMPILED
    assert list(_cache.directory().iterdir()) == []


def test_a_directory_that_cannot_be_made_costs_one_warning(root: Path) -> None:
    root.write_text("a file where the directory should be")
    with pytest.warns(RuntimeWarning, match="cache is not usable"):
        assert compute() == COMPILED


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners and modes here")
def test_a_directory_that_others_can_write_is_not_trusted(root: Path) -> None:
    compute()
    _cache.directory().chmod(0o777)
    _cache._usable.cache_clear()
    with pytest.warns(RuntimeWarning, match="can be written by others"):
        assert compute() == COMPILED


TRAIN = """
import numpy as np
import minigrad as mg
from minigrad import nn, optim
from minigrad_kernels import _cache, abi
mg.manual_seed(0)
model = nn.Linear(3, 2)
opt = optim.SGD(model.parameters(), lr=0.1)
loss = model(np.ones((4, 3), np.float32)).sum()
loss.backward()
opt.step()
print(_cache.stats.hits, _cache.stats.misses, len(abi.loaded()), model.weight.array.tobytes().hex())
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing_and_has_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "kernels")])}

    def train() -> list[str]:
        done = subprocess.run([sys.executable, "-c", TRAIN], env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    hits, misses, loaded, bits = train()
    files = entries(tmp_path)
    assert int(hits) == 0 and int(misses) == len(files) >= int(loaded) > 0
    times = [path.stat().st_mtime_ns for path in files]
    hits_again, misses_again, loaded_again, bits_again = train()
    assert (int(misses_again), int(hits_again)) == (0, len(files))
    assert (loaded_again, bits_again) == (loaded, bits)
    assert entries(tmp_path) == files and [path.stat().st_mtime_ns for path in files] == times
