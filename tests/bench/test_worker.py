from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from minigrad.bench.peers import Contestant
from minigrad.bench.peers.numpy_step import reference_losses
from minigrad.bench.worker import COMPARED_STEPS, ContestantError, Worker
from minigrad.bench.workloads import Product, select

NUMPY = Contestant("numpy", "numpy_step", package="numpy")


def test_a_worker_starts_and_takes_turns() -> None:
    workload = select(["circles"])[0]
    with closing(Worker(NUMPY)) as worker:
        start = worker.start(workload)
        np.testing.assert_allclose(start.losses, reference_losses(workload, COMPARED_STEPS), rtol=1e-4)
        assert start.steps == 1 and 0 < start.first_call_s < 1
        assert 0 < worker.turn(3) < 1


def test_a_worker_takes_products() -> None:
    with closing(Worker(Contestant("numpy", "products", "numpy", package="numpy"))) as worker:
        worker.start(Product("dw", 5, 3, 4))
        assert worker.turn(1) > 0


def test_a_failure_has_the_contestant_s_name() -> None:
    with pytest.raises(ContestantError, match=r"(?s)ghost: .*No module named 'minigrad.bench.peers.ghost_step'"):
        Worker(Contestant("ghost", "ghost_step"))
    with closing(Worker(NUMPY)) as worker, pytest.raises(ContestantError, match=r"(?s)numpy: .*AssertionError"):
        worker.turn(1)
