"""What the figures were measured on: CPU, versions, commit, BLAS, and the peak that shares are taken of."""
from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from minigrad_kernels.matmul import fma_peak

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "autograd")
VECTOR_FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve")
# The core types whose float32 product uses 512-bit vectors
AVX512_CORES = ("SkylakeX", "Cooperlake", "SapphireRapids")


@dataclass(frozen=True)
class Peak:
    """GFLOP/s of fused multiply-adds on one core, float32: by our kernel, and by a C loop where a compiler exists."""

    kernel: float | None
    c: float | None

    @property
    def gflops(self) -> float | None:
        """The figure that shares are taken of."""
        return self.kernel or self.c

    def __str__(self) -> str:
        by_kernel, by_c = (f"{peak:.1f}" if peak else "-" for peak in (self.kernel, self.c))
        apart = f", {abs(self.kernel / self.c - 1):.1%} apart" if self.kernel and self.c else ""
        return f"FMA peak of one core {by_kernel} GFLOP/s by kernel, {by_c} by C loop{apart}"


def cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().partition("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def features() -> list[str]:
    """The vector extensions of this CPU, in Linux's words."""
    info = cpuinfo()
    flags = info.get("flags", info.get("Features", "")).split()
    return [flag for flag in VECTOR_FEATURES if flag in flags]


def openblas_core() -> str | None:
    """The core type that NumPy's bundled OpenBLAS took this CPU for."""
    for library in Path(np.__file__).parent.with_name("numpy.libs").glob("*openblas*"):
        for symbol in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename"):
            corename = getattr(ctypes.CDLL(str(library)), symbol, None)
            if corename is not None:
                corename.restype = ctypes.c_char_p
                return str(corename().decode())
    return None


def better_openblas_core() -> str | None:
    """The core type to ask OpenBLAS for, if it has overlooked this CPU's AVX-512."""
    core = openblas_core()
    return "SkylakeX" if core and core not in AVX512_CORES and "avx512f" in features() else None


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package that takes part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The checkout's commit, with "+" if files have changed since; None for an installed wheel."""
    here = Path(__file__).parent
    if not (here.parents[1] / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")


def c_peak() -> float | None:
    """Compile fma_peak.c and run it; None without a compiler, or where it fails."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    source = resources.files(__package__).joinpath("fma_peak.c").read_text()
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "fma_peak")
        # GNU C contracts a * b + c by default, clang on this flag
        command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", "-x", "c", "-", "-o", str(program)]
        compiled = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
        if compiled.returncode != 0:
            return None
        run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    return float(run.stdout) if run.returncode == 0 else None


def kernel_peak(rounds: int = 1_000_000, repeats: int = 30) -> float:
    """GFLOP/s of our own chains of fused multiply-adds in registers, the best of some repeats."""
    seed = np.float32(0.5)
    fma_peak(1, seed)
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        done = fma_peak(rounds, seed)
        best = max(best, done / (time.perf_counter() - start) * 1e-9)
    return best


def describe(cores: Sequence[int], peak: Peak) -> dict[str, Any]:
    """Everything above, for the JSON file."""
    return {
        "cpu": cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "features": features(),
        "cpu_count": os.cpu_count(),
        "pinned_cores": list(cores),
        "platform": platform.platform(),
        "versions": versions(),
        "openblas_core": openblas_core(),
        "fma_peak_gflops": asdict(peak),
        "commit": commit(),
    }
