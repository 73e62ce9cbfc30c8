"""`memory_budget`: the arena stays within, the bits stay the same; and without one the arena is about as small as what lives in it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.errors import MemoryBudgetError
from minigrad.program import chain, plan, replay
from minigrad.program.plan import Layout, Storage
from minigrad.program.step import in_bytes


class WithViews(nn.Module):
    """Views, and values that are written over, in the forward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        h.mul_(0.5)
        flat = h.reshape(-1)
        half = flat.shape[0] // 2
        flat[:half].add_(0.25)
        parts = flat.reshape(2, -1)
        return self.second(mg.tanh((parts * 1.5).reshape(h.shape))) + x


def block(width: int, kind: str) -> nn.Module:
    inner: list[nn.Module] = [nn.Linear(width, width)]
    if kind == "dropout and batch norm":
        inner += [nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3)]
    else:
        inner += [nn.Tanh() if kind == "plain" else nn.ReLU()]
    if kind == "views":
        return WithViews(width)
    return nn.Residual(nn.Sequential(*inner), scale=0.5) if kind in ("residual", "dropout and batch norm") else nn.Sequential(*inner)


KINDS = ("plain", "residual", "dropout and batch norm", "views")


def training(kind: str, depth: int = 16, width: int = 32, budget: int | str | None = None,
             make: Callable[[Any], Any] | None = None) -> tuple[nn.Module, Any, Any]:
    mg.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, width), *[block(width, kind) for _ in range(depth)], nn.Linear(width, 3))
    opt = (make or (lambda p: optim.SGD(p, lr=0.05, momentum=0.9)))(model.parameters())

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    return model, step, mg.capture(step, memory_budget=budget)


def data(rows: int = 64) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 6)).astype(np.float32), rng.normal(size=(rows, 3)).astype(np.float32)


def arena(step: Any) -> int:
    (_, _, program), = step.explain().recordings
    return int(program.arena_bytes)


def left(model: nn.Module) -> list[bytes]:
    return [np.asarray(v).tobytes() for v in model.state_dict().values()] + [p.grad.array.tobytes() for p in model.parameters()]  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "share"), [(kind, share) for kind in KINDS for share in (0.95, 0.8, 0.6) if kind != "views" or share > 0.6])
@pytest.mark.parametrize("chains", [False, True])
def test_a_budget_is_kept_and_the_bits_stay(kind: str, share: float, chains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if chains:
        monkeypatch.setattr(chain, "CHAIN_BYTES", 0)
        monkeypatch.setattr(chain, "BLOCK_BYTES", 1024)
    x, y = data()
    model, plain, free = training(kind)
    mg.manual_seed(4)
    expected = [float(plain(mg.tensor(x), mg.tensor(y))) for _ in range(6)]
    after = left(model)
    _, _, free = training(kind)
    free.repeat(2, x, y)
    budget = int(arena(free) * share)
    model, _, tight = training(kind, budget=budget)
    mg.manual_seed(4)
    assert [float(tight(x, y)) for _ in range(6)] == expected
    assert left(model) == after
    assert arena(tight) <= budget
    assert any(row.again for row in tight.explain().recordings[0].rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_that_is_large_enough_changes_nothing(kind: str) -> None:
    x, y = data()
    _, _, free = training(kind)
    free.repeat(2, x, y)
    _, _, same = training(kind, budget=arena(free))
    same.repeat(2, x, y)
    assert arena(same) == arena(free) and not any(row.again for row in same.explain().recordings[0].rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_that_cannot_be_met_says_what_could(kind: str) -> None:
    x, y = data()
    _, _, tight = training(kind, budget="1 KiB")
    tight(x, y)
    with pytest.raises(MemoryBudgetError, match=r"at least ([0-9,]+) bytes.*1,024") as caught:
        tight(x, y)
    least = int(str(caught.value).split("at least ")[1].split(" ")[0].replace(",", ""))
    _, _, enough = training(kind, budget=least)
    _, plain, _ = training(kind)
    mg.manual_seed(4)
    found = [float(enough(x, y)) for _ in range(5)]
    mg.manual_seed(4)
    assert found == [float(plain(mg.tensor(x), mg.tensor(y))) for _ in range(5)]
    assert arena(enough) <= least


@pytest.mark.parametrize(("given", "size"), [(1000, 1000), ("2MB", 2_000_000), ("1.5 KiB", 1536), ("7", 7), ("1 gb", 10**9)])
def test_sizes_are_numbers_or_text(given: int | str, size: int) -> None:
    assert in_bytes(given) == size


@pytest.mark.parametrize("given", ["", "MB", "2 bytes", "-1KB", 0, -5, "0"])
def test_sizes_that_are_none_are_refused(given: int | str) -> None:
    with pytest.raises(ValueError, match="memory_budget"):
        mg.capture(lambda x: x, memory_budget=given)


# ---- the arena -------------------------------------------------------------------------------------------------------------------------------------
def largest_live(layout: Layout) -> int:
    """The largest sum of bytes that are alive at one instruction, each value in whole cache lines, counted anew for each instruction."""
    order = [*layout.compute, *layout.commit]
    uses: dict[Storage, list[int]] = {}
    for index, instruction in enumerate(order):
        for s in instruction.operands:
            if s is not None and s.whole.address is None:
                uses.setdefault(s.whole, []).append(index)
    for s in layout.arguments:
        uses.setdefault(s.whole, []).append(-1)
    for s, _ in layout.results:
        if s.whole.address is None:
            uses.setdefault(s.whole, []).append(len(order))
    spans = [(min(at), max(at), max(64, -(-s.nbytes // 64) * 64)) for s, at in uses.items()]
    return max(sum(size for first, last, size in spans if first <= index <= last) for index in range(-1, len(order) + 1))


NETS = [*[(kind, 16, 32, 64) for kind in KINDS], ("plain", 3, 200, 7), ("residual", 40, 8, 4), ("plain", 2, 64, 3000),
        ("dropout and batch norm", 5, 48, 1000), ("views", 4, 16, 3000)]


@pytest.mark.parametrize("make", [None, lambda p: optim.Adam(p, lr=0.01)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_the_arena_is_little_more_than_what_lives_in_it(net: tuple[str, int, int, int], make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, depth, width, rows = net
    live: list[int] = []

    def measured(*arguments: Any) -> Layout:
        layout = plan.lay_out(*arguments)
        live.append(largest_live(layout))
        return layout

    monkeypatch.setattr(replay, "lay_out", measured)
    _, _, step = training(kind, depth, width, make=make)
    step.repeat(3, *data(rows))
    assert live[-1] * 0.9 <= arena(step) <= live[-1] * 1.15
