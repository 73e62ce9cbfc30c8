from __future__ import annotations

import gc
import os

import pytest

from minigrad.bench.timing import Samples, calibrate, compare, pin, race, turn_order
from minigrad.bench.worker import ContestantError, Start, timed
from minigrad.bench.workloads import Work, select

WORK = select(["xor-deep"])[0]


class Clockwork:
    """A racer whose call takes exactly `seconds`, and who notes every turn."""

    def __init__(self, name: str, seconds: float, log: list[str], steps: int = 1) -> None:
        self.name, self.seconds, self.log, self.steps = name, seconds, log, steps

    def start(self, work: Work) -> Start:
        return Start([1.0, 0.5], self.steps, 0.25, "")

    def turn(self, calls: int) -> float:
        self.log.append(self.name)
        return calls * self.seconds


def test_orders_are_permutations_that_change() -> None:
    orders = [tuple(turn_order(3, i)) for i in range(6)]
    assert len(set(orders)) == 6 and all(sorted(order) == [0, 1, 2] for order in orders)


def test_every_round_gives_each_one_turn() -> None:
    log: list[str] = []
    racers = [Clockwork(name, 1.0, log) for name in "abc"]
    samples = race(racers, WORK, [1.0, 0.5], rounds=4, sample_s=0.1)
    turns = log[3:]  # the first three calibrate
    assert [sorted(turns[i : i + 3]) for i in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert len({tuple(turns[i : i + 3]) for i in range(0, 12, 3)}) == 4
    assert all(len(sample.seconds) == 4 for sample in samples.values())


def test_seconds_are_per_step() -> None:
    samples = race([Clockwork("one", 2e-3, []), Clockwork("ten", 2e-3, [], steps=10)], WORK, [], rounds=3, sample_s=0.01)
    assert samples["one"].median == pytest.approx(2e-3) and samples["ten"].median == pytest.approx(2e-4)
    assert samples["one"].iqr == pytest.approx(0)
    assert samples["one"].ratio(samples["ten"]) == pytest.approx(10)


def test_median_spread_and_ratio() -> None:
    start = Start([], 1, 0.0, "")
    ours, theirs = Samples(start, 1, [1.0, 2.0, 3.0, 4.0, 100.0]), Samples(start, 1, [2.0, 4.0, 6.0, 8.0, 200.0])
    assert (ours.median, ours.iqr) == (3.0, 2.0)
    assert theirs.ratio(ours) == 2.0


@pytest.mark.parametrize("seconds", [1e-6, 1e-3, 1.0])
def test_calibration_fills_a_sample(seconds: float) -> None:
    calls = calibrate(Clockwork("a", seconds, []), 0.02)
    assert calls == 1 if seconds > 0.02 else calls * seconds == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("loss", [1.002, float("nan"), float("inf")])
def test_a_wrong_loss_names_the_contestant(loss: float) -> None:
    with pytest.raises(ContestantError, match=r"liar: loss .* after 1 steps"):
        compare("liar", [1.0, loss], [1.0, 1.0])
    compare("honest", [1.0, 1.0005], [1.0, 1.0])


def test_race_refuses_before_it_times() -> None:
    log: list[str] = []
    with pytest.raises(ContestantError, match=r"a: loss"):
        race([Clockwork("a", 1.0, log)], WORK, [1.0, 0.6], rounds=1, sample_s=0.1)
    assert log == []


def test_timed_warms_up_and_leaves_gc_on() -> None:
    seen: list[bool] = []
    assert timed(lambda: seen.append(gc.isenabled()), 8) > 0
    assert seen == [False] * (8 // 4 + 1 + 8) and gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pin_holds_for_new_processes() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    try:
        assert pin([core]) and os.sched_getaffinity(0) == {core}
    finally:
        pin(before)
