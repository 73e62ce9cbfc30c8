"""`import minigrad` needs numpy and numba, compiles nothing and asks nobody."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import minigrad
from minigrad_kernels import _cache, abi
print(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - set(sys.argv[1:])))
print(len(abi.loaded()), _cache.stats.hits, _cache.stats.misses)
"""


def test_importing_brings_in_numpy_and_numba_only_and_compiles_nothing(tmp_path: Path) -> None:
    paths = os.pathsep.join(p for p in sys.path if p)
    bare = subprocess.run([sys.executable, "-c", "import sys, numba; print(*{n.partition('.')[0] for n in sys.modules})"],
                          capture_output=True, text=True, check=True)
    run = subprocess.run([sys.executable, "-c", SCRIPT, *bare.stdout.split()], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": paths, "MINIGRAD_CACHE_DIR": str(tmp_path / "cache")})
    modules, counts = run.stdout.splitlines()
    assert modules == "['minigrad', 'minigrad_kernels']"
    assert counts == "0 0 0"
    assert not (tmp_path / "cache").exists()
