"""Slabs: parameters stand aligned beside each other, and a run of neighbours is one segment."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Parameter
from minigrad.tape import slab
from minigrad.tape.gradnorm import Group
from minigrad_kernels._host import CACHE_LINE


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of this test's own, of 256 elements."""
    monkeypatch.setattr(slab, "_current", {})
    monkeypatch.setattr(slab, "SLAB_ELEMENTS", 256)


def parameters(*sizes: int, dtype: Any = np.float32) -> list[Parameter]:
    return [Parameter(np.full(n, i + 1, dtype)) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_parameter_starts_on_a_cache_line_and_its_gradient_mirrors_it(dtype: Any) -> None:
    for p in parameters(1, 3, 16, 17, 5, dtype=dtype):
        assert p.address % CACHE_LINE == 0 and p.address == p.array.ctypes.data
        assert p.leaf is not None and p.leaf.slot is not None
        assert p.leaf.slot.address - p.place.slab.grad.ctypes.data == p.address - p.place.slab.data.ctypes.data


def test_what_pads_a_parameter_is_zero() -> None:
    first, second = parameters(3, 5)
    data = first.place.slab.data
    assert data[:3].tolist() == [1] * 3 and data[16:21].tolist() == [2] * 5
    assert data[3:16].sum() == data[21:].sum() == 0 and second.place.offset == 16


def test_an_empty_parameter_has_a_place_of_its_own() -> None:
    empty, p = Parameter(np.zeros((0, 3), np.float32)), Parameter(np.ones(20, np.float32))
    assert empty.address != p.address
    del empty
    q = Parameter(np.full(20, 7.0, np.float32))
    assert q.address != p.address and p.detach().numpy().tolist() == [1.0] * 20


def test_neighbours_are_one_segment_and_its_blocks_are_theirs() -> None:
    given = parameters(3, 17, 5)
    run, = slab.segments(given)
    assert run.leaves == tuple(given) and run.offset == 0
    assert run.data.array.size == 48 + 5 and run.data.address == given[0].address
    assert run.blocks.tolist() == [[0, 16, 48], [3, 17, 5]]


@pytest.mark.parametrize(("chosen", "cut"), [((0, 1, 3, 4), [(0, 1), (3, 4)]), ((0, 2, 4), [(0,), (2,), (4,)]), ((1, 2), [(1, 2)]), ((), [])])
def test_a_gap_cuts_a_run(chosen: tuple[int, ...], cut: list[tuple[int, ...]]) -> None:
    given = parameters(3, 17, 5, 1, 2)
    runs = slab.segments([given[i] for i in chosen])
    place = {id(p): i for i, p in enumerate(given)}
    assert [tuple(place[id(p)] for p in run.leaves) for run in runs] == cut


def test_the_order_in_which_neighbours_are_given_does_not_cut_a_run() -> None:
    first, second, third = parameters(3, 17, 5)
    run, = slab.segments([third, first, second])
    assert run.leaves == (first, second, third)


def test_a_full_slab_is_followed_by_another_and_nothing_moves() -> None:
    given = parameters(100, 100)
    addresses = [p.address for p in given]
    given += parameters(100)
    assert [p.address for p in given[:2]] == addresses
    assert given[2].place.slab is not given[0].place.slab
    assert [run.leaves for run in slab.segments(given)] == [tuple(given[:2]), (given[2],)]


def test_a_parameter_larger_than_a_slab_has_one_that_fits() -> None:
    big, = parameters(1000)
    assert big.place.slab.elements >= 1000 and big.array.tolist() == [1.0] * 1000


def test_two_dtypes_are_two_slabs() -> None:
    runs = slab.segments(parameters(3) + parameters(3, dtype=np.float64) + parameters(4))
    assert [run.data.dtype.name for run in runs] == ["float32", "float64"]
    assert [len(run.leaves) for run in runs] == [2, 1]


def test_a_leaf_outside_any_slab_is_a_run_of_its_own() -> None:
    loose = mg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loose.sum().backward()
    placed, = parameters(3)
    runs = slab.segments([loose, placed])
    assert [run.slab is None for run in runs] == [True, False] and runs[0].data.array.shape == (6,)


def test_a_long_parameter_is_cut_into_blocks_that_depend_on_it_alone() -> None:
    run, = slab.segments(parameters(2 * slab.BLOCK + 7))
    assert run.blocks.tolist() == [[0, slab.BLOCK, 2 * slab.BLOCK], [slab.BLOCK, slab.BLOCK, 7]]


def test_a_group_has_runs_of_what_has_a_gradient_and_a_norm_of_it() -> None:
    given = parameters(3, 17, 5)
    group = Group(given)
    assert group.runs() == []
    (given[0].sum() + given[2].sum()).backward()
    assert [run.leaves for run in group.runs()] == [(given[0],), (given[2],)]
    assert group.norm().item() == np.sqrt(8.0)
    given[1].sum().backward()
    assert [run.leaves for run in group.runs()] == [tuple(given)]
    assert group.norm().item() == 5.0
