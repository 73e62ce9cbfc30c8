from __future__ import annotations

import numpy as np
import pytest

from minigrad.health.sparklines import BLOCKS, BROKEN, NOTHING, sparkline


def test_the_least_is_lowest_and_the_largest_highest(rng: np.random.Generator) -> None:
    for log in (False, True):
        for _ in range(20):
            values = rng.lognormal(0, 20, rng.integers(2, 30))
            line = sparkline(values, log=log)
            assert len(line) == len(values) and line[values.argmin()] == BLOCKS[0] and line[values.argmax()] == BLOCKS[-1]
            order = np.argsort(values)
            heights = [BLOCKS.index(line[i]) for i in order]
            assert heights == sorted(heights)


def test_equal_distances_are_equal_steps() -> None:
    assert sparkline(range(8)) == BLOCKS
    assert sparkline(10.0 ** np.linspace(-300, 300, 8), log=True) == BLOCKS
    assert sparkline([0, 7], width=5) == BLOCKS[0] + BLOCKS[-1]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [1e-300, 0.1, 3.0, 1e300])
def test_numbers_that_are_all_alike_stand_at_half_height(value: float, log: bool) -> None:
    assert sparkline([value] * 5, log=log) == BLOCKS[3] * 5
    assert sparkline([value] * 1001, 7, log=log) == BLOCKS[3] * 7


def test_what_cannot_be_drawn_is_seen() -> None:
    assert sparkline([1, np.nan, 2, np.inf]) == BLOCKS[0] + BROKEN + BLOCKS[-1] + BROKEN
    assert sparkline([1, 0, 2, -1], log=True) == BLOCKS[0] + NOTHING + BLOCKS[-1] + NOTHING
    assert sparkline([np.nan] * 3) == BROKEN * 3 and sparkline([0.0], log=True) == NOTHING
    assert sparkline([0, np.nan, 0]) == NOTHING + BROKEN + NOTHING and sparkline([0, 1]) == BLOCKS[0] + BLOCKS[-1]
    assert BROKEN in sparkline([*np.arange(500.0), np.nan, *np.arange(500.0)], 10)
    assert sparkline([]) == ""


def test_neighbours_share_a_character() -> None:
    assert sparkline(np.repeat(np.arange(8.0), 100), 8) == BLOCKS
    assert sparkline(np.repeat(10.0 ** np.arange(8.0), 100), 8, log=True) == BLOCKS
    assert sparkline([1e308, -1e308], 2) == BLOCKS[-1] + BLOCKS[0]
    with pytest.raises(ValueError, match="width is 0, expected at least 1"):
        sparkline([1], 0)
