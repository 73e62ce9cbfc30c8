from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import pytest

from minigrad import nn
from minigrad.lab import explosion
from minigrad.lab.circles_nets import circles
from minigrad.lab.experiment import Lab, Picture
from minigrad.lab.explosion import DEFAULT_GAIN, VARIANTS, blocks, chain, glorot_ratio, learner, spread
from minigrad.lab.learners import epochs, trained


@pytest.mark.parametrize(("depth", "width", "gain"), [(20, 64, DEFAULT_GAIN), (5, 16, 2.0), (50, 32, 2**0.5)])
def test_weights_and_their_gradients_pair_to_the_same_number_in_every_layer(depth: int, width: int, gain: float) -> None:
    found = chain(depth, width, gain, seed=0)
    assert found.pairings.shape == (depth,) and found.pairings.all() and spread(found.pairings) <= 1e-12


def test_the_gradient_of_the_weights_is_flat_while_signal_and_gradient_die() -> None:
    flows = [chain(20, 64, DEFAULT_GAIN, seed).flow for seed in range(5)]
    assert np.median([flow.norm_dw[0] / flow.norm_dw[-1] for flow in flows]) == pytest.approx(1.25, abs=0.75)
    assert 1e7 <= np.median([flow.rms_h[0] / flow.rms_h[-1] for flow in flows]) <= 1e8
    assert 1e7 <= np.median([flow.rms_dh[-1] / flow.rms_dh[0] for flow in flows]) <= 1e8


def test_glorot_s_weights_keep_the_variance_of_the_gradient() -> None:
    ratios = [glorot_ratio(seed) for seed in range(20)]
    assert min(ratios) >= 0.5 and max(ratios) <= 2


def test_the_net_of_blocks() -> None:
    model = blocks(100, 0.1, seed=0)
    assert len(model) == 102 and all(isinstance(block, nn.Residual) and block.scale == 0.1 for block in list(model)[1:-1])
    inner = [p.detach().numpy() for block in list(model)[1:-1] for p in block.parameters()]
    assert np.std(inner[::2]) == pytest.approx((2 / 32) ** 0.5, rel=0.01) and not np.any(inner[1::2])
    assert np.abs(model[0].weight.detach().numpy()).max() <= 2**-0.5 and np.abs(model[-1].weight.detach().numpy()).max() <= 32**-0.5


def test_a_net_that_explodes_ends_where_it_was_and_the_others_go_on() -> None:
    x, y = circles()
    plain, clipped, scaled = ([learner(20, variant, seed) for seed in (0, 1)] for variant in VARIANTS)
    before = [p.detach().numpy().copy() for p in plain[0].model.parameters()]
    del clipped, scaled
    found = trained(lambda seed: learner(20, VARIANTS[0], seed), (0, 1), x, y, epochs(1000, 1, 0))
    for one in found:
        assert one.refused is not None and one.refused <= 11 and len(one.costs) == one.refused - 1 and len(one.accuracies) == 1
        assert all(np.isfinite(p.detach().numpy()).all() for p in one.model.parameters())
    assert any(not np.array_equal(p.detach().numpy(), old) for p, old in zip(found[0].model.parameters(), before, strict=True))


def test_side_by_side_has_the_bits_of_one_after_the_other() -> None:
    x, y = circles(64)
    tables = epochs(64, 3, 0)
    together = trained(lambda seed: learner(3, VARIANTS[1], seed), (0, 1), x, y, tables)
    for seed, one in enumerate(together):
        alone = learner(3, VARIANTS[1], seed)
        assert one.costs == [alone.step(x[rows], y[rows]).item() for table in tables for rows in table]
        assert one.refused is None and len(one.accuracies) == 4 and one.accuracies[-1] == alone.accuracy(x, y)


def test_a_rehearsal_names_its_own_depths() -> None:
    lab = Lab(argparse.Namespace(data=None, seed=0), quick=True)
    explosion.check(lab, 1, 4, {variant.name: trained(partial(learner, 4, variant), (0, 1), *circles(64), epochs(64, 1, 0)) for variant in VARIANTS})
    assert all(check.what.startswith("L = 4, ") for check in lab.checks) and "nets of 2 with" in lab.checks[0].what


def test_a_rehearsal_runs_through_and_its_pictures_have_labels_and_legends_outside() -> None:
    lab = Lab(argparse.Namespace(data=None, seed=0), quick=True)
    explosion.EXPERIMENT.run(lab)
    assert len(lab.checks) == 13
    pictures = {item.name: item.figure for item in lab.items if isinstance(item, Picture)}
    assert list(pictures) == ["flow", "training"] * lab.draws
    for picture in pictures.values():
        picture.draw_without_rendering()
        (legend,) = picture.legends
        for axis in picture.axes:
            assert axis.get_xlabel() and axis.get_ylabel().endswith(("(dimensionless)", "(nats)", "(share of points)"))
            assert not legend.get_window_extent().overlaps(axis.get_window_extent())
            assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == len(axis.lines) or axis.get_ylabel().endswith("(nats)")
