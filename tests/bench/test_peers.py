from __future__ import annotations

import numpy as np
import pytest

from minigrad.bench.peers import CONTESTANTS, MULTIPLIERS, Contestant, Job, chunk
from minigrad.bench.peers.numpy_step import NumpyStep, reference_losses
from minigrad.bench.workloads import Workload, select

STEPS = 5
WORKLOADS = [*select(["xor-deep", "circles", "deep-5-w32"]), Workload("wide", 7, (20, 30, 10), "sigmoid", task="digits")]


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.name)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_losses_agree(workload: Workload, contestant: Contestant) -> None:
    if not contestant.installed:
        pytest.skip(f"{contestant.package} is not installed")
    losses = contestant.build(workload).losses(STEPS)[:STEPS]
    np.testing.assert_allclose(losses, reference_losses(workload, STEPS), rtol=1e-4)


@pytest.mark.parametrize("variant", ["loop", "foreach", "fused"])
def test_torch_variants_agree(variant: str) -> None:
    pytest.importorskip("torch")
    workload = select(["circles"])[0]
    job = Contestant("torch", "torch_step", variant, package="torch").build(workload)
    assert job.note == variant
    np.testing.assert_allclose(job.losses(STEPS), reference_losses(workload, STEPS), rtol=1e-4)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_the_oracle_s_gradient(workload: Workload) -> None:
    """The float64 NumPy step, which judges all others, against a central difference along one random direction."""
    step = NumpyStep(workload, np.float64)
    step.forward()
    step.backward()
    start, direction = step.parameters.copy(), np.random.default_rng(3).normal(size=step.parameters.size)
    sides = []
    for sign in (1, -1):
        step.parameters[:] = start + sign * 1e-6 * direction
        sides.append(step.forward())
    np.testing.assert_allclose((sides[0] - sides[1]) / 2e-6, step.gradients @ direction, rtol=1e-6)


def test_the_oracle_s_update() -> None:
    """Clipping and momentum in PyTorch's formulas, over two steps."""
    step = NumpyStep(Workload("one", 4, (2, 3, 1), "tanh", task="xor"), np.float64)
    p, g = step.parameters, step.gradients
    start, v = p.copy(), np.zeros_like(p)
    for scale in (100.0, 1e-3):
        g[:] = scale * np.arange(1.0, p.size + 1)
        clipped = g * min(1.0, 0.25 / (np.linalg.norm(g) + 1e-6))
        v = 0.9 * v + clipped
        start -= 0.01 * v
        step.update()
        np.testing.assert_allclose(p, start, rtol=1e-14)


@pytest.mark.parametrize("contestant", MULTIPLIERS, ids=lambda contestant: contestant.name)
def test_products_are_right(contestant: Contestant) -> None:
    """Each compares itself with a float64 product when it is built."""
    if not contestant.installed:
        pytest.skip(f"{contestant.package} is not installed")
    for product in Workload("odd", 5, (33, 17, 10), "relu").products:
        contestant.build(product).call()


def test_job_gathers_losses_of_steps_and_of_repeats() -> None:
    assert Job(lambda: 0.5).losses(3) == [0.5] * 3
    assert Job(lambda: [1.0, 2.0], steps=2).losses(3) == [1.0, 2.0, 1.0, 2.0]


def test_chunks_shrink_with_the_work() -> None:
    assert [chunk(workload) for workload in select(["xor-deep", "deep-100-w32", "mnist-mlp"])] == [200, 10, 5]


def test_a_missing_package_is_not_installed() -> None:
    assert not Contestant("none", "none", package="no_such_package.at_all").installed
