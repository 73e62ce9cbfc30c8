"""Where an experiment's parts run in tests."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from minigrad.lab.experiment import Lab


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Lab]:
    """A function that makes a `Lab`; options by name."""
    def lab(quick: bool = False, asks: bool = False, **options: object) -> Lab:
        return Lab(argparse.Namespace(**{"out": tmp_path, "data": None, "quick": quick, "seed": 0} | options), quick, asks)

    return lab
