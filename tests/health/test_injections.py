"""Values that are not finite, put in at random, are caught, change nothing, and are named."""
from __future__ import annotations

from collections import Counter

import pytest

from tests.health.injections import Injection, Outcome


def judged(seeds: range) -> tuple[Counter[str], list[Outcome]]:
    """How many were caught, changed nothing, were named; and those for which that does not all hold."""
    counts: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        outcome = Injection(seed).outcome()
        counts.update({"injected": 1, "caught": outcome.caught, "unchanged": outcome.unchanged, "named": outcome.named})
        if not (outcome.caught and outcome.unchanged and outcome.named):
            wrong.append(outcome)
    return counts, wrong


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_each_is_caught_changes_nothing_and_is_named(first: int) -> None:
    counts, wrong = judged(range(first, first + 10))
    assert not wrong, [(one.what, one.caught, one.unchanged, str(one.error)) for one in wrong]
    assert counts["named"] == 10


@pytest.mark.exhaustive
def test_a_thousand_are_caught_change_nothing_and_are_named() -> None:
    counts, wrong = judged(range(1000))
    print(dict(counts))
    assert not wrong, [(one.what, one.caught, one.unchanged, str(one.error)) for one in wrong]
