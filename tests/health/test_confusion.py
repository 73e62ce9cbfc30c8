"""`diagnose` against nets whose fault is known."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

import minigrad as mg
from minigrad.health.findings import MEANINGS
from tests.health.faults import FAULTS, ORDER, Case, draw, healthy

#: A healthy net and one of each fault.
FEW = [1, 4, 5, 9, 14, 17, 21, 25, 29, 34, 37, 44]
EVALUATION = range(2000, 2200)


def first_of(case: Case) -> str:
    """What is named first."""
    return mg.diagnose(case.model, case.x, case.y, case.loss, case.optimizer, cures=False).verdicts[0].name


def confusion(seeds: Iterable[int]) -> tuple[str, float, int]:
    """The matrix as text, a line for what a net has and a column for what it is said to have; the share that is right; healthy ones accused."""
    pairs = Counter((case.expected, first_of(case)) for case in map(draw, seeds))
    names = [name for name in MEANINGS if any(name in pair for pair in pairs)]
    width = max(map(len, names))
    lines = ["".rjust(width) + "".join(f"  {name}" for name in names)]
    lines += [true.rjust(width) + "".join(f"  {pairs[true, found] or '.':>{len(found)}}" for found in names) for true in names]
    right = sum(count for (true, found), count in pairs.items() if true == found) / pairs.total()
    accused = sum(count for (true, found), count in pairs.items() if true == "healthy" and found not in ("healthy", "converged"))
    return "\n".join(lines), right, accused


@pytest.mark.parametrize("seed", FEW)
def test_the_fault_is_named_first(seed: int) -> None:
    case = draw(seed)
    assert first_of(case) == case.expected, case.about


def test_forty_seeds_hold_every_fault_three_times_and_ten_healthy_nets() -> None:
    assert Counter(ORDER) == {healthy: 10, **dict.fromkeys(FAULTS, 3)}


@pytest.mark.exhaustive
def test_the_confusion_matrix_of_two_hundred_nets(capsys: pytest.CaptureFixture[str]) -> None:
    matrix, right, accused = confusion(EVALUATION)
    with capsys.disabled():
        print(f"\n{matrix}\n{right:.1%} right, {accused} healthy nets accused")
    assert right >= 0.95 and accused == 0
