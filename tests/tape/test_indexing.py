"""Keys of every kind against NumPy: values, what is written, gradients of both; and what a key that does not fit is told."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import CaptureError, DtypeError, IndexRangeError, ShapeError

Array = np.ndarray[Any, np.dtype[Any]]
DATA = np.arange(60.0).reshape(3, 4, 5)
MASK = DATA[..., 0] % 2 == 0

KEYS = [
    1, -1, (0, 1), (0, slice(1, 3)), (2, 3, 4), slice(1, 3), slice(None), ..., None, (None, 1), (..., 2), (..., None), (slice(None), 2),
    (slice(None), slice(1, 3)), (slice(None, None, 2),), (slice(None, None, -1), slice(3, 0, -2), slice(None, None, 3)),
    (1, ..., slice(None, None, -1)),
    slice(2, 2), (slice(5, 9), 0), slice(-2, None), (slice(None), None, 3, None, slice(1, None, 2)),
    [0, 2], [0, 0, -1], np.array([2, 1]), np.array([[0, 1], [2, 0]]), np.array(1), np.array([], int), ([0, 2], [1, 3]), ([[0], [2]], [1, 3]),
    (slice(None), [0, 3, 3]), (slice(None), [0, 3], slice(1, 4)), (slice(None), [1, 2], [0, 4]), ([0, 2], slice(None), [1, 3]),
    (0, slice(None), [1, 2]),
    ([0, 1], ..., 2), (slice(None), 2, [0, 1]), (slice(None, None, 2), [1, 0], slice(None, None, -2)), (None, [0, 1], [1, 2], None), ([1], 2, 3),
    (slice(0, 2), [[0, 1], [2, 3]], [1, 2]), np.array([0, 1], np.int32), np.array([0, 1], np.uint8), ([0, 1], None, [1, 2]),
    DATA > 20, MASK, (0, MASK[0]), (slice(None), np.array([True, False, True, True])), (MASK[:, 0], 1), (MASK[:, 0], slice(None), [2]), True, False,
    (np.array([True, False, True]), [1, 2]),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
class TestKeys:
    def test_values_are_numpys(self, key: Any) -> None:
        found = mg.tensor(DATA)[key]
        assert np.array_equal(found.array, DATA[key]) and found.array.flags.c_contiguous

    def test_index_tensors_are_as_good(self, key: Any) -> None:
        def lifted(part: Any) -> Any:
            return mg.tensor(part) if isinstance(part, np.ndarray) else part

        found = mg.tensor(DATA)[tuple(map(lifted, key)) if isinstance(key, tuple) else lifted(key)]
        assert np.array_equal(found.array, DATA[key])

    def test_the_gradient_adds_up_at_the_places(self, key: Any, rng: np.random.Generator) -> None:
        x = mg.tensor(DATA, requires_grad=True)
        weights = rng.normal(size=DATA[key].shape)
        (x[key] * mg.tensor(weights)).sum().backward()
        expected = np.zeros_like(DATA)
        np.add.at(expected, key, weights)
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.array, expected, rtol=1e-14)

    def test_writing_is_numpys_and_reaches_both_gradients(self, key: Any, rng: np.random.Generator) -> None:
        x, v = mg.tensor(DATA, requires_grad=True), mg.tensor(rng.normal(size=DATA[key].shape), requires_grad=True)
        y: Any = x * 2.0
        y[key] = v
        expected = DATA * 2
        expected[key] = v.array
        assert np.array_equal(y.array, expected)
        weights = rng.normal(size=DATA.shape)
        (y * mg.tensor(weights)).sum().backward()
        last = np.full(DATA.shape, -1)
        last[key] = np.arange(v.array.size).reshape(v.shape)
        wins: Array = np.zeros(v.array.size)
        wins[last[last >= 0]] = weights[last >= 0]
        for found, exact in ((x.grad, np.where(last < 0, 2 * weights, 0)), (v.grad, wins)):
            np.testing.assert_allclose(0.0 if found is None else found.array.reshape(exact.shape), exact, rtol=1e-14)

    def test_a_number_is_written_everywhere(self, key: Any) -> None:
        x: Any = mg.tensor(DATA)
        expected = DATA.copy()
        x[key] = 7
        expected[key] = 7
        assert np.array_equal(x.array, expected)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_basic_key_is_numpys(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    array = np.arange(float(np.prod(shape))).reshape(shape)
    ends = st.one_of(st.none(), st.integers(-5, 5))
    key = tuple(data.draw(st.one_of(
        st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 3, -1, -2])), *([st.integers(-n, n - 1)] if n else []))) for n in shape)
    found = mg.tensor(array)[key]
    assert np.array_equal(found.array, array[key])
    written: Any = mg.tensor(array)
    written[key] = -1.0
    expected = array.copy()
    expected[key] = -1.0
    assert np.array_equal(written.array, expected)


@pytest.mark.parametrize("key", [1, slice(1, 3), (0, slice(1, 3)), (2, 1), ..., (None, slice(None)), (1, 2, slice(2, 4)), slice(0, 1)], ids=str)
def test_runs_of_memory_are_views(key: Any) -> None:
    x: Any = mg.tensor(DATA)
    part = x[key]
    assert np.shares_memory(part.array, x.array)
    part[...] = -1.0
    expected = DATA.copy()
    expected[key] = -1.0
    assert np.array_equal(x.array, expected)


@pytest.mark.parametrize("key", [(slice(None), 1), slice(None, None, -1), slice(None, None, 2), [0, 1], (0, slice(None), 1)], ids=str)
def test_others_are_copies(key: Any) -> None:
    x = mg.tensor(DATA)
    assert not np.shares_memory(x[key].array, x.array)


def test_equal_places_add_up_in_float32_with_the_same_bits_each_time(rng: np.random.Generator) -> None:
    index, upstream = rng.integers(0, 7, 1000), mg.tensor(rng.normal(size=(1000, 33)).astype(np.float32))
    seen = set()
    for _ in range(3):
        x = mg.tensor(np.zeros((7, 33), np.float32), requires_grad=True)
        x[index].backward(upstream)
        assert x.grad is not None
        seen.add(x.grad.array.tobytes())
    expected = np.zeros((7, 33), np.float32)
    np.add.at(expected, index, upstream.array)
    assert seen == {expected.tobytes()}


def test_second_derivatives_pass_through_an_index() -> None:
    x = mg.tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    y = (x[[0, 2, 2]] * x[[1, 1, 2]]).sum()
    first: Any
    second: Any
    (first,) = mg.autograd.grad(y, [x], create_graph=True)
    (second,) = mg.autograd.grad((first * first).sum(), [x])
    a, b, c = 1.0, 2.0, 3.0  # y = ab + cb + cc
    assert first.tolist() == [b, a + c, b + 2 * c]
    assert second.tolist() == [2 * (a + c), 2 * b + 2 * (b + 2 * c), 2 * (a + c) + 4 * (b + 2 * c)]


# ---- errors -----------------------------------------------------------------------------------------------------------------------
def test_an_index_out_of_range_is_named_and_nothing_is_written() -> None:
    x: Any = mg.tensor(DATA)
    for act in (lambda: x[np.array([[0, 1], [3, 2]])], lambda: x.__setitem__(np.array([[0, 1], [3, 2]]), 0.0)):
        with pytest.raises(IndexRangeError, match=r"index\[1, 0\] is 3, out of range for size 3: the places are -3 to 2"):
            act()
    with pytest.raises(IndexRangeError, match=r"index\[1\] is -5, out of range for size 4"):
        x[[0, 1], [2, -5]]
    with pytest.raises(IndexRangeError, match=r"index 4 is out of range for axis 1 of float64\[3, 4, 5\]"):
        x[:, 4]
    with pytest.raises(IndexError):
        x[3]
    assert np.array_equal(x.array, DATA)


@pytest.mark.parametrize(("key", "error", "words"), [
    ((0, 0, 0, 0), ShapeError, "too many indices"), ((..., ...), ShapeError, "one ellipsis"), (np.array([0.5]), DtypeError, "expected integers"),
    ("a", DtypeError, "expected integers"), (np.array([True, False]), ShapeError, "a mask has shape"),
    (([0, 1], [0, 1, 2]), ShapeError, "broadcast"),
])
def test_a_key_that_does_not_fit_is_told_why(key: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        mg.tensor(DATA)[key]


def test_a_value_that_does_not_fit_is_not_written() -> None:
    x: Any = mg.tensor(DATA)
    for key in (0, (slice(None), 1), [0, 1], slice(2, 2)):
        with pytest.raises(ShapeError, match="cannot assign"):
            x[key] = np.ones((7, 7))
    assert np.array_equal(x.array, DATA)


# ---- captured ---------------------------------------------------------------------------------------------------------------------
def test_an_index_may_change_between_captured_calls_and_has_eager_bits(rng: np.random.Generator) -> None:
    w = mg.tensor(rng.normal(size=(6, 4)).astype(np.float32), requires_grad=True)

    def step(i: Any, j: Any, v: Any) -> Any:
        w.grad = None
        y = w * 2.0
        y[i, 1:3] = v
        part = y[i[:2]] * y[[0, 5, 5]][1:]
        out = (part * y[:, j][:2]).sum() + y[::-2, 0].sum()
        out.backward()
        return out, w.grad

    captured = mg.capture(step)
    for _ in range(5):
        i, j, v = rng.integers(-6, 6, 3), rng.integers(0, 4, 4), rng.normal(size=2).astype(np.float32)
        one, two = captured(i, j, v), step(mg.tensor(i), mg.tensor(j), mg.tensor(v))
        assert [x.array.tobytes() for x in one] == [x.array.tobytes() for x in two]


def test_a_captured_index_out_of_range_is_refused_before_anything_changes() -> None:
    w = mg.tensor(np.zeros((3, 2)), requires_grad=True)
    total: Any = mg.tensor(np.zeros((3, 2)))

    @mg.capture
    def step(i: Any) -> Any:
        out = (w[i] * 2.0).sum()
        with mg.no_grad():
            total.copy_(total + 1.0)
        return out

    for _ in range(3):
        step(np.array([0, 1]))
    before = total.array.copy()
    with pytest.raises(IndexRangeError, match="out of range"):
        step(np.array([0, 3]))
    assert np.array_equal(total.array, before)


def test_a_mask_inside_a_captured_step_is_refused_with_the_way_out() -> None:
    captured = mg.capture(lambda x, m: x[m].sum())
    with pytest.raises(CaptureError, match=r"mg\.where"):
        captured(np.ones(3), np.array([True, False, True]))


def test_a_number_for_a_mask_may_be_captured() -> None:
    def step(x: Any, m: Any) -> Any:
        y = x * 1.0
        y[m] = -np.inf
        return y

    captured = mg.capture(step)
    for m in ([True, False, True], [False, False, True], [True, True, True]):
        assert captured(np.arange(3.0), np.array(m)).tolist() == [-np.inf if at else float(i) for i, at in enumerate(m)]
