"""Random numbers: the definition is SplitMix64, the distributions are right, and no key's stream has to do with another's."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import random
from minigrad.ops.spec import Shape

N = 1 << 16
Array = np.ndarray[Any, np.dtype[Any]]


def key(seed: int, offset: int) -> Any:
    return mg.tensor(np.array([seed, offset]))


def uniform(seed: int, offset: int, n: int = N, dtype: Any = np.float64) -> Array:
    return np.asarray(random.uniform(key(seed, offset), shape=(n,), dtype=np.dtype(dtype)).array)


def normal(seed: int, offset: int, n: int = N, dtype: Any = np.float64) -> Array:
    return np.asarray(random.normal(key(seed, offset), shape=(n,), dtype=np.dtype(dtype)).array)


def test_the_generator_is_splitmix64() -> None:
    """The first numbers that Java's SplittableRandom makes, as a loop over one state in Python's own integers."""
    mask = 2**64 - 1

    def mix(z: int, shifts: tuple[int, int, int], factors: tuple[int, int]) -> int:
        z = (z ^ z >> shifts[0]) * factors[0] & mask
        z = (z ^ z >> shifts[1]) * factors[1] & mask
        return z ^ z >> shifts[2]

    def mix64(z: int) -> int:
        return mix(z & mask, (30, 27, 31), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

    # J. Bloch's reference: the generator of seed 0 starts with this number.
    golden = 0x9E3779B97F4A7C15
    assert mix64(golden) == 0xE220A8397B1DCDAF
    for seed, offset in ((0, 0), (1, 0), (-5, 3), (2**62, 10**12)):
        root = mix64(seed + golden) + 2 * offset * golden
        start, gamma = mix64(root + golden), mix((root + 2 * golden) & mask, (33, 33, 33), (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)) | 1
        if (gamma ^ gamma >> 1).bit_count() < 24:
            gamma ^= 0xAAAAAAAAAAAAAAAA
        assert random.bits([seed, offset], 5).tolist() == [mix64(start + (i + 1) * gamma) for i in range(5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_are_uniform(dtype: Any) -> None:
    u = uniform(1, 2, dtype=dtype)
    assert u.dtype == dtype and u.min() >= 0.0 and u.max() < 1.0
    # 4 standard errors, of the mean and of the variance, are passed by one key in 16,000.
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * N)
    assert abs(u.var() - 1 / 12) < 4 / np.sqrt(180 * N)
    counts = np.bincount((u * 256).astype(int), minlength=256)
    assert abs(((counts - N / 256) ** 2 / (N / 256)).sum() - 255) < 4 * np.sqrt(2 * 255)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_are_normal(dtype: Any) -> None:
    z = normal(3, 4, dtype=dtype).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z ** power).mean() - moment) < 4 * np.sqrt(variance / N)
    assert [np.mean(np.abs(z) > far) for far in (1, 2, 3)] == pytest.approx([0.3173, 0.0455, 0.0027], abs=0.006)
    assert 4 < np.abs(z).max() < 8.3


def test_a_float32_is_the_float64_rounded() -> None:
    assert np.array_equal(normal(5, 6).astype(np.float32), normal(5, 6, dtype=np.float32))


@pytest.mark.parametrize("bit", range(64))
def test_every_bit_is_fair_and_so_is_every_pair_of_neighbours(bit: int) -> None:
    ones = (random.bits([7, 8], N) >> np.uint64(bit) & np.uint64(1)).astype(int)
    pairs = np.bincount(2 * ones[::2] + ones[1::2], minlength=4)
    assert ((pairs - N / 8) ** 2 / (N / 8)).sum() < 21.1  # chi-square of 3 degrees of freedom, 1 in 10,000


@pytest.mark.parametrize(("a", "b"), [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 0)), ((5, 100), (6, 100)), ((-1, 0), (0, 0)),
                                      ((0, 0), (2**32, 0)), ((0, 0), (0, 2**32)), ((0, 2), (2, 0))])
def test_neighbouring_keys_have_streams_that_know_nothing_of_each_other(a: tuple[int, int], b: tuple[int, int]) -> None:
    x, y = uniform(*a) - 0.5, uniform(*b) - 0.5
    for lag in (0, 1, 2, 7):
        correlation = 12 * np.mean(x[lag:] * y[:N - lag])
        assert abs(correlation) < 4.5 / np.sqrt(N)
    assert np.intersect1d(random.bits(a, N), random.bits(b, N)).size == 0


def test_elements_do_not_know_their_neighbours() -> None:
    x = uniform(9, 10) - 0.5
    for lag in (1, 2, 3, 8, 16, 64, 4096):
        assert abs(12 * np.mean(x[lag:] * x[:N - lag])) < 4.5 / np.sqrt(N)


def test_no_two_of_many_streams_begin_alike() -> None:
    firsts = {int(random.bits([seed, offset], 1)[0]) for seed in range(100) for offset in range(100)}
    assert len(firsts) == 10_000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_the_mean(p: float, dtype: Any) -> None:
    out = random.dropout(mg.tensor(np.ones(N, dtype)), key(1, 1), p=p).array
    assert set(np.unique(out)) <= {dtype(0), dtype(1 / (1 - p)) if p < 1 else dtype(0)}
    assert abs(np.mean(out == 0) - p) <= 4 * np.sqrt(p * (1 - p) / N)


def test_bernoulli_is_one_as_often_as_it_should_be() -> None:
    for p in (0.0, 0.25, 1.0):
        ones = random.bernoulli(mg.tensor(np.full(N, p)), key(2, 2)).array
        assert abs(ones.mean() - p) <= 4 * np.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize("shape", [(0,), (1,), (15,), (16,), (17,), (3, 5, 7), ()])
def test_a_number_depends_on_its_index_and_on_nothing_else(shape: Shape) -> None:
    count = int(np.prod(shape))
    found = random.uniform(key(4, 4), shape=shape, dtype=np.dtype(np.float32))
    assert found.shape == shape and np.array_equal(found.array.ravel(), uniform(4, 4, dtype=np.float32)[:count])


def test_bad_keys_numbers_and_dtypes_are_named() -> None:
    x = mg.tensor(np.ones(3))
    with pytest.raises(ShapeError, match=r"dropout: key is int64\[3\], expected int64\[2\]"):
        random.dropout(x, mg.tensor(np.zeros(3, np.int64)), p=0.5)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1, but got"):
            random.dropout(x, key(0, 0), p=p)
    with pytest.raises(DtypeError, match="cannot draw int64"):
        random.uniform(key(0, 0), shape=(3,), dtype=np.dtype(np.int64))
