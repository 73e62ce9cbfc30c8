"""Chains give the bits of their instructions one after the other, whatever elementwise program they are cut from."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.program import chain, encode

UNARY = (mg.tanh, mg.relu, mg.sigmoid, mg.abs, mg.negative, mg.square, lambda x: x * 0.5, lambda x: 1.5 - x, lambda x: x.clone())
BINARY = (lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x - y, mg.maximum, lambda x, y: mg.where(x > y, x, y * 0.25))
IN_PLACE = ("add_", "mul_", "sub_")


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def small_chains(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every run of elementwise instructions is a chain, cut into blocks of a few elements; on two threads it is shared however small."""
    before = mg.get_num_threads()
    monkeypatch.setattr(chain, "CHAIN_BYTES", 0)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 512)
    if request.param == 2:
        monkeypatch.setattr(encode, "WORTH_SHARING", -1.0)
        monkeypatch.setattr(encode, "BARRIER_SECONDS", 0.0)
    mg.set_num_threads(request.param)
    yield
    mg.set_num_threads(before)


def random_program(seed: int) -> tuple[Any, list[Any]]:
    """A step drawn from the seed, and its arguments. Values stay between about -1 and 1."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 7, 64, 333, 1000]))
    length = int(rng.integers(4, 24))
    choices = rng.integers(0, 1 << 30, (length, 6)).tolist()
    rows = [d for d in (1, 2, 3, 4, 5, 8) if n % d == 0]
    weight = mg.tensor(rng.uniform(-1, 1, n).astype(np.float32), requires_grad=bool(seed % 2))

    def step(x: Any, y: Any, s: Any) -> Any:
        alive, kept = [x * 1.0, y * weight, mg.cat([x, y])[n // 2:n // 2 + n] * 1.0], []
        for kind, a, b, c, d, e in choices:
            one, other = alive[a % len(alive)], alive[b % len(alive)]
            if one.shape != other.shape:
                other = other.reshape(one.shape)
            kind %= 10
            if kind < 3:
                made = UNARY[c % len(UNARY)](one)
            elif kind < 6:
                made = BINARY[c % len(BINARY)](one, other)
            elif kind == 6:
                made = one * s + other  # a number that is broadcast
            elif kind == 7 and not one.is_leaf | one.requires_grad:
                getattr(one, IN_PLACE[c % 3])(other.clone() * 0.5)
                made = one + 0.0
            elif kind == 8:
                r = rows[c % len(rows)]
                made = one.reshape(r, n // r) if d % 2 else one.reshape(-1)
            else:
                whole = mg.cat([one.reshape(-1), other.reshape(-1)])
                at = d % (n + 1)
                part = whole[at:at + n]  # a view that begins within
                if e % 3 == 0 and not part.requires_grad:
                    part.mul_(0.5)
                    kept.append(whole * 1.0)
                made = part if e % 2 else part + one.reshape(-1)
            alive.append(mg.clamp(made, -2.0, 2.0) if kind in (3, 4, 6) else made)
            if e % 4 == 0:
                kept.append(made.clone() if d % 2 else made)
        total = (weight * 0.5).sum() + sum(t.sum() for t in alive[-3:])
        if weight.requires_grad:
            weight.grad = None
            total.backward()
            kept.append(getattr(weight, "grad") * 1.0)  # noqa: B009  mypy takes it for None
        return [t.detach() for t in (*kept, total)]

    arguments = [rng.uniform(-1, 1, n).astype(np.float32) for _ in range(2)]
    return step, [*arguments, np.float32(0.75)]


def same(seed: int) -> int:
    """Check one program; how many of its calls form chains."""
    step, arguments = random_program(seed)
    captured = mg.capture(step)
    expected = [t.numpy().copy() for t in step(*map(mg.tensor, arguments))]
    for call in range(4):
        found = [t.numpy() for t in captured(*arguments)]
        for i, (a, b) in enumerate(zip(expected, found, strict=True)):
            assert a.tobytes() == b.tobytes(), f"seed {seed}, call {call}, result {i}"
    return sum(row.chained for row in captured.explain().recordings[0].rows)


@pytest.mark.usefixtures("small_chains")
def test_random_programs_have_the_bits_of_eager_mode() -> None:
    chained = [same(seed) for seed in range(40)]
    assert sum(chained) > 200


@pytest.mark.slow
@pytest.mark.usefixtures("small_chains")
def test_many_random_programs_have_the_bits_of_eager_mode() -> None:
    for seed in range(40, 600):
        same(seed)


def test_a_chain_is_made_only_where_its_operands_fill_a_cache() -> None:
    def step(x: Any) -> Any:
        return mg.tanh(mg.relu(x * 2.0) + 1.0)

    for n, chained in ((100, False), (100_000, True)):
        captured = mg.capture(step)
        x = np.linspace(-1, 1, n, dtype=np.float32)
        expected = step(mg.tensor(x)).numpy().tobytes()
        assert [captured(x).numpy().tobytes() for _ in range(4)] == [expected] * 4
        assert any(row.chained for row in captured.explain().recordings[0].rows) is chained


@pytest.mark.usefixtures("small_chains")
def test_a_shifted_view_ends_a_chain() -> None:
    def step(x: Any) -> Any:
        y = x * 2.0
        return y[1:] + y[:-1], y * 3.0

    captured, x = mg.capture(step), np.arange(1000, dtype=np.float32)
    for _ in range(4):
        shifted, scaled = captured(x)
        assert np.array_equal(shifted.numpy(), 2 * x[1:] + 2 * x[:-1]) and np.array_equal(scaled.numpy(), 6 * x)


@pytest.mark.usefixtures("small_chains")
def test_writing_over_what_was_read_before_waits_its_turn() -> None:
    def step(x: Any) -> Any:
        y = x + 1.0
        z = y * 2.0
        y.mul_(3.0)
        y.add_(z)
        return y * 1.0, z * 1.0

    captured, x = mg.capture(step), np.arange(777, dtype=np.float32)
    for _ in range(4):
        y, z = captured(x)
        assert np.array_equal(y.numpy(), 5 * (x + 1)) and np.array_equal(z.numpy(), 2 * (x + 1))
