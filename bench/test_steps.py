"""Training steps under pytest-benchmark, one group a workload. A call of a repeat or scan is several steps: see `steps_per_call`."""
from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from minigrad.bench.peers import CONTESTANTS, Contestant
from minigrad.bench.peers.numpy_step import reference_losses
from minigrad.bench.timing import compare
from minigrad.bench.workloads import Workload, select

WORKLOADS = select(["xor-deep", "circles", "deep-10-w32", "deep-100-w32", "mnist-mlp"])
STEPS = 5


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_step(benchmark: BenchmarkFixture, workload: Workload, contestant: Contestant) -> None:
    if not contestant.installed:
        pytest.skip(f"{contestant.package} is not installed")
    job = contestant.build(workload)
    compare(contestant.name, job.losses(STEPS)[:STEPS], reference_losses(workload, STEPS))
    benchmark.group = workload.name
    benchmark.extra_info.update(steps_per_call=job.steps, flops_per_step=workload.flops())
    benchmark(job.call)
