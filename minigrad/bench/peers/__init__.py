"""Who takes part. A peer's own module is imported when it is built, so that only installed and chosen ones are loaded."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from minigrad.bench.workloads import Work, Workload

CHUNK_FLOPS = 2e8


@dataclass(frozen=True)
class Job:
    """Work made ready: each call does `steps` of it, waits for their end, and gives their losses."""

    call: Callable[[], float | Sequence[float]]
    steps: int = 1
    note: str = ""
    first_calls: int = 1  # after so many calls nothing is left to record or compile: all of them count as the first

    def losses(self, count: int) -> list[float]:
        """The losses of the next `count` steps, or a few more where a call makes several."""
        found: list[float] = []
        while len(found) < count:
            result = self.call()
            found.extend([float(result)] if isinstance(result, (int, float)) else map(float, result))
        return found


@dataclass(frozen=True)
class Contestant:
    """One line of the report: `module`.build(work, mode, threads) makes its Job, in a process with `env` set."""

    name: str
    module: str
    mode: str = ""
    package: str = ""
    env: tuple[tuple[str, str], ...] = ()

    @property
    def installed(self) -> bool:
        """Whether the package that it measures can be imported."""
        try:
            return find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False

    def build(self, work: Work, threads: int = 1) -> Job:
        """Parameters and data in this framework's own form, and the step over them."""
        job: Job = import_module(f"{__name__}.{self.module}").build(work, self.mode, threads)
        return job


def chunk(workload: Workload) -> int:
    """Steps in one call of a contestant that trains several: enough to hide the call, and a few milliseconds at most for one net."""
    return int(min(200, max(5, CHUNK_FLOPS // workload.flops())))


CONTESTANTS = (
    Contestant("minigrad repeat", "minigrad_step", "repeat", package="minigrad"),
    Contestant("minigrad", "minigrad_step", "captured", package="minigrad"),
    Contestant("minigrad eager", "minigrad_step", "eager", package="minigrad"),
    Contestant("numpy", "numpy_step", package="numpy"),
    Contestant("jax scan", "jax_step", "scan", package="jax"),
    Contestant("jax flat", "jax_step", "flat", package="jax"),
    Contestant("jax", "jax_step", "jit", package="jax"),
    Contestant("torch", "torch_step", package="torch"),
    Contestant("autograd", "autograd_step", package="autograd"),
)
MULTIPLIERS = (
    Contestant("minigrad", "products", "kernel", package="minigrad_kernels.matmul"),
    Contestant("numpy", "products", "numpy", package="numpy"),
    Contestant("torch", "products", "torch", package="torch"),
)
BASELINE = "minigrad"  # the captured call, or our kernel: the ratio column is time over its time


def thread_env(threads: int) -> dict[str, str]:
    """What libraries read when they start, for `threads` threads."""
    env = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    env["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        # Without it XLA calls its threaded products, which alone double the time of a scan over a small net
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return env
