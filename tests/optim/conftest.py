"""A small net, its training, and the same in PyTorch."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

X = np.random.default_rng(0).normal(size=(6, 3))


class Training:
    """A net, an optimiser made for its parameters, and a plain step; `state` is what a step may change, as bytes."""

    def __init__(self, make: Callable[[Any], Any], dtype: Any = np.float64, *, clip: float | None = None,
                 schedule: Callable[[Any], Any] | None = None) -> None:
        mg.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 5, dtype=dtype), nn.Tanh(), nn.Linear(5, 1, dtype=dtype))
        self.opt = make(self.model.parameters())
        self.clip, self.dtype = clip, dtype
        self.schedule = schedule(self.opt) if schedule is not None else None

    def step(self, x: Any) -> Any:
        self.opt.zero_grad()
        loss = (self.model(x) ** 2.0).mean()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.opt.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss

    def batch(self, seed: int = 0) -> Any:
        return (X * (1 + 0.1 * seed)).astype(self.dtype)

    def state(self) -> list[bytes]:
        kept = [x.array.tobytes() for state in self.opt.state.values() for x in state.values()]
        return [*(p.array.tobytes() for p in self.model.parameters()), *kept, *(g.tensor.array.tobytes() for g in self.opt.param_groups)]


@pytest.fixture
def training() -> type[Training]:
    return Training


@pytest.fixture
def compared() -> Callable[..., Any]:
    """Train in PyTorch as well, from the same parameters on the same batches, and compare parameters after each step."""
    torch = pytest.importorskip("torch")

    def run(make: Any, theirs: Any, dtype: Any = np.float64, steps: int = 50, rtol: float = 1e-12, schedules: Any = (None, None)) -> None:
        ours = Training(make, dtype, schedule=schedules[0])
        model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).to(torch.tensor(np.zeros(0, dtype)).dtype)
        model.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in ours.model.state_dict().items()})
        opt = theirs(model.parameters())
        schedule = schedules[1](opt) if schedules[1] is not None else None
        for step in range(steps):
            ours.step(ours.batch(step % 7))
            opt.zero_grad()
            (model(torch.tensor(ours.batch(step % 7))) ** 2).mean().backward()
            opt.step()
            if schedule is not None:
                schedule.step()
                np.testing.assert_allclose(ours.opt.param_groups[0]["lr"], opt.param_groups[0]["lr"], rtol=1e-9, atol=1e-15)
        for p, q in zip(ours.model.parameters(), model.parameters(), strict=True):
            np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=rtol, atol=rtol)

    return run
