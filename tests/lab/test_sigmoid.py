from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.lab import sigmoid as experiment
from minigrad.lab.experiment import Lab, Picture
from tests.lab.pictures import assert_readable


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("layers", [1, 2, 6, 20, 60])
def test_a_chain_has_exactly_a_power_of_a_quarter(layers: int, dtype: Any) -> None:
    assert experiment.chain(layers, dtype) == 0.25**layers


def test_the_slope_is_a_times_one_minus_a() -> None:
    activation, slope = experiment.curve()
    assert np.array_equal(slope, experiment.sigmoid_gradient(activation))
    np.testing.assert_allclose(activation, 1 / (1 + np.exp(-experiment.X)), rtol=1e-14)
    assert [f"{x:.3f}" for x in (activation.max(), activation.min(), slope.max(), slope.min())] == ["0.993", "0.007", "0.250", "0.007"]


def test_everything_passes_and_can_be_read(make: Callable[..., Lab]) -> None:
    lab = make()
    experiment.run(lab)
    assert len(lab.checks) == 15 and all(check.passed for check in lab.checks)
    pictures = {item.name: item.figure for item in lab.items if isinstance(item, Picture)}
    assert not lab.draws or set(pictures) == {"steepest", "panels", "compression", "products"}
    for figure in pictures.values():
        assert_readable(figure)
