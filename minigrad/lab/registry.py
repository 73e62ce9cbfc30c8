"""The experiments of the lab, in the order in which `lab all` runs them."""
from __future__ import annotations

from typing import Final

from minigrad.lab import circles, cures, deep_sigmoid, explosion, gradient_check, sigmoid, xor
from minigrad.lab.experiment import Experiment

EXPERIMENTS: Final[tuple[Experiment, ...]] = tuple(
    module.EXPERIMENT for module in (gradient_check, circles, sigmoid, deep_sigmoid, xor, explosion, cures))
