"""Fixtures of all tests: seeded numbers, the MNIST files where they are at hand, and a guard over the settings of the process."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.tape.mode import local

CHECKOUT = Path(__file__).parents[1]


def settings() -> dict[str, object]:
    """Everything a test could leave behind that the next one would feel."""
    mode = local.mode
    return {
        "grad mode": mode.grad,
        "listener": mode.listener,
        "destination": mode.destination,
        "module path": mode.path,
        "default dtype": mg.get_default_dtype(),
        "threads": mg.get_num_threads(),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
    }


@pytest.fixture(autouse=True)
def unchanged_settings() -> Iterator[None]:
    """A test ends with the settings that it began with, and begins with the same random numbers in any order of tests."""
    before = settings()
    mg.manual_seed(0)
    yield
    after = settings()
    assert {name: after[name] for name in after if after[name] != before[name]} == {}, "the test left these settings changed"


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run and in any order of tests."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The directory of MNIST's IDX files: MINIGRAD_MNIST, else a folder shared/data/mnist beside the checkout or above it."""
    given = os.environ.get("MINIGRAD_MNIST")
    candidates = [Path(given)] if given else [parent / "shared" / "data" / "mnist" for parent in CHECKOUT.parents]
    for directory in candidates:
        if any(directory.glob("t10k-images-idx3-ubyte*")):
            return directory
    pytest.skip(f"no MNIST files in {', '.join(map(str, candidates))}: set MINIGRAD_MNIST to their directory")
