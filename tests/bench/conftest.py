"""Fixtures of the bench's tests."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def same_threads(unchanged_settings: None) -> Iterator[None]:
    """A contestant sets the number of threads of its own process; here that is the tests' process."""
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)
