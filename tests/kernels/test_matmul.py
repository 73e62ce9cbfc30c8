"""The bits of the matrix product: every path equals one chain of fused multiply-adds over ascending k."""
from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from minigrad.ops.matmul import bmm_nn, bmm_nt, bmm_tn
from minigrad.ops.spec import Spec
from minigrad_kernels import abi, machine, matmul

DTYPES = (np.float32, np.float64)
ORIENTATIONS = ("nn", "nt", "tn", "tt")
SHAPES = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (40, 0, 200), (0, 0, 0),
    (1, 1, 1), (1, 7, 1), (4, 2, 4), (4, 4, 1), (4, 4, 4), (2, 3, 5), (3, 5, 2), (7, 11, 13),
    (5, 1, 50), (8, 16, 48), (9, 17, 49), (7, 15, 47), (12, 8, 33), (17, 31, 97), (32, 32, 1), (1, 32, 32), (1, 300, 37), (37, 300, 1),
    (32, 32, 10), (32, 32, 32), (33, 64, 65), (3, 257, 19), (19, 209, 150), (23, 208, 151), (100, 417, 53), (61, 131, 211), (120, 100, 149),
]
GUARD = 123.0


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return x(x, y, z), codegen


@njit
def chain(a, b, out):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = out.dtype.type(0)
            for k in range(a.shape[1]):
                total = fma(a[i, k], b[k, j], total)
            out[i, j] = total


def layout_a(dtype: Any) -> types.Array:
    return types.Array(types.float32 if dtype == np.float32 else types.float64, 2, "A")


BYTES = types.Array(types.uint8, 1, "C")


def compiled() -> tuple[Any, Any]:
    """The kernels behind one signature for each dtype, whatever the strides."""
    products = [types.void(*[layout_a(dtype)] * 3, BYTES) for dtype in DTYPES]
    layers = [types.void(*[layout_a(dtype)] * 2, layout_a(dtype).copy(ndim=1, layout="C"), layout_a(dtype), BYTES) for dtype in DTYPES]
    return (njit(products)(lambda a, b, out, scratch: matmul.matmul(a, b, out, scratch)),
            njit(layers)(lambda a, b, bias, out, scratch: matmul.linear(a, b, bias, out, scratch)))


product, layer = compiled()


def scratch(fill: int = 0xFF) -> Any:
    """Aligned scratch whose bytes are all ones, a NaN in either dtype."""
    room = np.full(matmul.SCRATCH_BYTES + 64, fill, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + matmul.SCRATCH_BYTES]


def operand(rng: np.random.Generator, rows: int, columns: int, dtype: Any, transposed: bool, pad: int = 0) -> Any:
    """A matrix inside a larger one of NaN, `pad` wider on each side."""
    shape = (columns, rows) if transposed else (rows, columns)
    whole = np.full((shape[0] + 2 * pad, shape[1] + 2 * pad), np.nan, dtype)
    inner = whole[pad : pad + shape[0], pad : pad + shape[1]]
    inner[...] = rng.standard_normal(shape)
    return inner.T if transposed else inner


def same_bits(x: Any, y: Any) -> bool:
    return np.ascontiguousarray(x).tobytes() == np.ascontiguousarray(y).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("pad", [0, 3])
def test_bits_equal_the_chain(dtype: Any, orientation: str, pad: int) -> None:
    rng = np.random.default_rng(7)
    for m, k, n in SHAPES:
        a = operand(rng, m, k, dtype, orientation[0] == "t", pad)
        b = operand(rng, k, n, dtype, orientation[1] == "t", pad)
        bias = rng.standard_normal(n).astype(dtype)
        expected = np.empty((m, n), dtype)
        chain(a, b, expected)
        for kernel, inputs, wanted in ((product, (a, b), expected), (layer, (a, b, bias), expected + bias)):
            room = np.full((m + 2, n + 2 * pad), GUARD, dtype)
            out = room[1 : m + 1, pad : pad + n]
            out[...] = np.nan
            kernel(*inputs, out, scratch())
            assert same_bits(out, wanted), (m, k, n)
            room[1 : m + 1, pad : pad + n] = GUARD
            assert (room == GUARD).all(), (m, k, n)
        np.testing.assert_allclose(expected, a @ b, rtol=0, atol=(k + 1) * 8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_large_products(dtype: Any, orientation: str) -> None:
    """Copies of A (also of one that is row-major) in several row blocks, several blocks of k and panels of B."""
    rng = np.random.default_rng(8)
    for m, k, n in ((1300, 100, 160), (301, 700, 203), (17, 1024, 200), (603, 451, 203)):
        a, b = operand(rng, m, k, dtype, orientation[0] == "t"), operand(rng, k, n, dtype, orientation[1] == "t")
        expected, out = np.empty((m, n), dtype), np.empty((m, n), dtype)
        chain(a, b, expected)
        product(a, b, out, scratch())
        assert same_bits(out, expected), (m, k, n)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_any_slicing_gives_the_same_bits(orientation: str) -> None:
    rng = np.random.default_rng(9)
    a, b = operand(rng, 100, 230, np.float32, orientation[0] == "t"), operand(rng, 230, 170, np.float32, orientation[1] == "t")
    bias = rng.standard_normal(170).astype(np.float32)
    whole, parts = np.empty((100, 170), np.float32), np.full((100, 170), np.nan, np.float32)
    layer(a, b, bias, whole, scratch())
    rows, columns = (0, 1, 4, 37, 100), (0, 1, 18, 67, 170)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            layer(a[top:bottom], b[:, left:right], bias[left:right], parts[top:bottom, left:right], scratch())
    assert same_bits(parts, whole)


def test_nothing_is_skipped_and_zeros_keep_their_signs() -> None:
    a, b = np.zeros((9, 5), np.float32), np.full((5, 50), np.inf, np.float32)
    out = np.empty((9, 50), np.float32)
    product(a, b, out, scratch())
    assert np.isnan(out).all()
    tiny = np.full((3, 1), np.finfo(np.float32).tiny, np.float32)
    below = np.empty((3, 3), np.float32)
    product(-tiny, tiny.T, below, scratch())
    assert np.signbit(below).all() and (below == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [bmm_nn, bmm_nt, bmm_tn])
@pytest.mark.parametrize(("of_a", "of_b"), [((3,), (3,)), ((), (3,)), ((2, 1), (3,)), ((70,), (70,)), ((70, 1), (2,)), ((2,), (70, 1))])
def test_stacks_in_parts_have_the_bits_of_single_products(kind: Any, of_a: tuple[int, ...], of_b: tuple[int, ...], dtype: Any) -> None:
    """Few matrices are shared by columns, many by slices; one that repeats is read where it lies."""
    rng = np.random.default_rng(10)
    for m, k, n in ((2, 3, 50), (17, 40, 33), (3, 0, 4), (1, 5, 1)):
        a = rng.standard_normal((*of_a, *((k, m) if kind is bmm_tn else (m, k)))).astype(dtype)
        b = rng.standard_normal((*of_b, *((n, k) if kind is bmm_nt else (k, n)))).astype(dtype)
        plan = kind.plan((Spec.of(a.shape, a.dtype), Spec.of(b.shape, b.dtype)), {})
        (step,), batch = plan.steps, np.broadcast_shapes(of_a, of_b)
        left, right = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
        expected = np.empty((*batch, m, n), dtype)
        for at in np.ndindex(batch):
            chain(left[at].T if kind is bmm_tn else left[at], right[at].T if kind is bmm_nt else right[at], expected[at])
        for parts in (1, 2, 3):
            room = np.full((expected.size + 2,), GUARD, dtype)
            out, space = room[1:-1].reshape(expected.shape), np.full(parts * abi.SCRATCH_BYTES + 64, 0xFF, np.uint8)
            words = np.array([*step.words, *(x.ctypes.data for x in (a, b, out)), -space.ctypes.data % 64 + space.ctypes.data], np.int64)
            for part in reversed(range(parts)):
                program = np.array([step.entry.load().index, machine.PARALLEL, machine.HEADER_WORDS + words.size, *words])
                state = machine.new_state()
                assert machine.calls().run(program.ctypes.data, program.size, 0, 1, part, parts, state.ctypes.data, machine.table_address()) == 1
            assert same_bits(out, expected) and (room[[0, -1]] == GUARD).all(), (m, k, n, parts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_peak_counts_its_work(dtype: Any) -> None:
    assert matmul.fma_peak(1000, dtype(0.5)) == 1000 * matmul.fma_peak(1, dtype(0.5)) > 0
