"""Several Python threads, each with a captured step of its own, compute what each would alone."""
from __future__ import annotations

import threading
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

REPEATS = 200


def _step(seed: int) -> tuple[Any, Any]:
    mg.manual_seed(seed)
    model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(4)])
    x = np.random.default_rng(seed).standard_normal((128, 256)).astype(np.float32)
    step = mg.capture(lambda x: model(x).sum())
    step.repeat(3, x)
    return step, x


def test_programs_that_run_side_by_side_do_not_share_scratch() -> None:
    steps = [_step(seed) for seed in range(2)]
    alone = [step(x).item() for step, x in steps]
    together: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda i=i: together.update({i: steps[i][0].repeat(REPEATS, steps[i][1]).numpy()})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, value in enumerate(alone):
        assert np.array_equal(together[i], np.full(REPEATS, value, np.float32))
