"""The uniform entry: words become arguments as the layout says, and parts cover the shared dimension once."""
from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from minigrad_kernels import _jit, abi, machine

FLOAT64, INT64 = np.dtype(np.float64), np.dtype(np.int64)
LENGTHS = [0, 1, 15, 16, 17, 31, 32, 33, 79, 80, 81, 255, 1000]


@_jit.jit
def count(x):  # type: ignore[no-untyped-def]
    """x += 1."""
    for i in range(x.size):
        x[i] += 1


@_jit.jit
def copy(x, out):  # type: ignore[no-untyped-def]
    """out = x, for arrays of two dimensions or more and any strides."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]


@_jit.jit
def immediate(f, i, out):  # type: ignore[no-untyped-def]
    """out = f, i."""
    out[0], out[1] = f, i


@_jit.jit
def verdict(x):  # type: ignore[no-untyped-def]
    """The status that x holds."""
    return x[0]


@_jit.jit
def fill(room, out):  # type: ignore[no-untyped-def]
    """Write to scratch; out = its size and the first byte that was there."""
    out[0], out[1] = room.size, room[0]
    room[0] = 7


def invoke(kernel: Any, layout: abi.Layout, words: tuple[int, ...], *arrays: np.ndarray[Any, Any], part: int = 0, parts: int = 1,
           scratch: int = 0) -> int:
    """Run one part; the status, which a program shows as a completed step or not."""
    entry = abi.Entry(kernel, layout, tuple(a.dtype for a in arrays), stored=False)
    known = abi._entries.setdefault((kernel, layout, entry.dtypes), entry).load()
    operands = [*words, *(a.ctypes.data for a in arrays), scratch]
    program = np.array([known.index, machine.PARALLEL, machine.HEADER_WORDS + len(operands), *operands])
    state = machine.new_state()
    return int(machine.calls().run(program.ctypes.data, program.size, 0, 1, part, parts, state.ctypes.data, machine.table_address()))


FLAT = abi.Layout("x[n]", "n")
ROWS = abi.Layout("x(m,n) out(m,n)", "m")
COLUMNS = abi.Layout("x(m,n) out(m,n)", "n")
TURNED = abi.Layout("x(m,n)^ out(m,n)", "n")
TURNED_ROWS = abi.Layout("x(m,n)^ out(m,n)", "m")
IMMEDIATE = abi.Layout("f:f i:i out[2]")
STATUS = abi.Layout("x[1]", status=True)
SCRATCH = abi.Layout("room out[2]")


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
def test_the_parts_cover_every_index_once(parts: int) -> None:
    for n in LENGTHS:
        x = np.zeros(n + 2)
        for part in range(parts):
            assert invoke(count, FLAT, (n,), x[1:], part=part, parts=parts) == 1
        assert np.all(x[1:-1] == 1) and x[0] == x[-1] == 0, n


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_part_starts_on_a_whole_vector(parts: int) -> None:
    for part in range(parts):
        x = np.zeros(1000)
        invoke(count, FLAT, (1000,), x, part=part, parts=parts)
        mine = np.flatnonzero(x)
        assert mine[0] % abi.GRAIN == 0 and (mine[-1] + 1) % abi.GRAIN == (0 if part < parts - 1 else 1000 % abi.GRAIN)
        assert np.array_equal(mine, np.arange(mine[0], mine[-1] + 1))


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("layout", [ROWS, COLUMNS, TURNED, TURNED_ROWS], ids=repr)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 50), (50, 3), (33, 47)])
def test_strided_and_transposed_arguments_are_the_memory_that_the_layout_names(layout: abi.Layout, m: int, n: int, parts: int) -> None:
    turned = layout.arrays[0].transposed
    x, out = np.arange(float(m * n)).reshape((n, m) if turned else (m, n)), np.full((m, n), -1.0)
    for part in range(parts):
        assert invoke(copy, layout, layout.words({"m": m, "n": n}), x, out, part=part, parts=parts) == 1
    assert np.array_equal(out, x.T if turned else x)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 6), (3, 0, 5, 6)])
def test_arrays_of_up_to_four_dimensions_are_the_memory_that_was_given(shape: tuple[int, ...]) -> None:
    dims = "klmn"[:len(shape)]
    layout = abi.Layout(f"x[{','.join(dims)}] out[{','.join(dims)}]", dims[0])
    x, out = np.arange(np.prod(shape), dtype=float).reshape(shape), np.full(shape, -1.0)
    for part in range(2):
        assert invoke(copy, layout, layout.words(dict(zip(dims, shape, strict=True))), x, out, part=part, parts=2) == 1
    assert np.array_equal(out, x)


@pytest.mark.parametrize("f", [0.1, -0.0, np.inf, 5e-324, -1.5e300])
@pytest.mark.parametrize("i", [0, -1, 2 ** 53 - 1])
def test_immediates_arrive_bit_for_bit(f: float, i: int) -> None:
    out = np.zeros(2)
    assert invoke(immediate, IMMEDIATE, IMMEDIATE.words({}, {"f": f, "i": i}), out) == 1
    assert out.tobytes() == np.array([f, i], float).tobytes()


def test_words_are_dimensions_in_order_of_mention_then_immediates() -> None:
    layout = abi.Layout("a(m,k) by:f b(k,n)^ count:i out(m,n) scratch", "n")
    assert layout.dims == ("m", "k", "n")
    bits = struct.unpack("<q", struct.pack("<d", 0.25))[0]
    assert layout.words({"m": 2, "k": 3, "n": 5}, {"by": 0.25, "count": 7}) == (2, 3, 5, bits, 7)


def test_the_notation_says_what_each_argument_is() -> None:
    by_name = {a.name: a for a in abi.Layout("a[m,n] b(m,n) c(m,n)^ d[1] e:f f:i room").arguments}
    assert [by_name[n].kind for n in by_name] == ["array", "array", "array", "array", "f", "i", "scratch"]
    assert [(by_name[n].strided, by_name[n].transposed) for n in "abc"] == [(False, False), (True, False), (True, True)]
    assert by_name["d"].dims == ("1",) and abi.Layout("d[1]").dims == ()


@pytest.mark.parametrize("text", ["x[n", "x:g", "x[n]^", "x[n] out:", "x-y[n]"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        abi.Layout(text)


def test_a_contiguous_argument_cannot_be_shared_along_an_inner_dimension() -> None:
    with pytest.raises(ValueError, match=r"write out\(\.\.\.\)"):
        abi.Layout("x(m,n) out[m,n]", "n")


@pytest.mark.parametrize(("status", "completed"), [(1, 1), (0, 0), (2, 0)])
def test_any_status_but_one_is_a_failure(status: int, completed: int) -> None:
    assert invoke(verdict, STATUS, (), np.array([status])) == completed


@pytest.mark.parametrize("part", [0, 2])
def test_each_part_has_scratch_of_its_own(part: int) -> None:
    room, out = np.full(3 * abi.SCRATCH_BYTES, 5, np.uint8), np.zeros(2)
    assert invoke(fill, SCRATCH, (), out, part=part, parts=3, scratch=room.ctypes.data) == 1
    assert out.tolist() == [abi.SCRATCH_BYTES, 5]
    assert np.flatnonzero(room == 7).tolist() == [part * abi.SCRATCH_BYTES]


def test_one_entry_a_combination() -> None:
    first = abi.entry(count, FLAT, (FLOAT64,), stored=False)
    assert abi.entry(count, FLAT, (FLOAT64,), stored=False) is first
    assert abi.entry(count, FLAT, (INT64,), stored=False) is not first
    index = first.load().index
    assert first.load().index == index and abi.table[index] == first.address != 0
    assert first in abi.loaded()
