from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import read_idx


def idx(code: int, shape: tuple[int, ...], body: bytes) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + body


WHOLE = idx(0x08, (2, 3), bytes(range(6)))


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_come_back_in_their_shape(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(WHOLE) if packed else WHOLE)
    assert np.array_equal(read_idx(path), np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(("code", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_numbers_come_in_this_machines_byte_order(code: int, dtype: str, tmp_path: Path) -> None:
    values = np.array([-3, 0, 100], dtype)
    (tmp_path / "values").write_bytes(idx(code, (3,), values.astype(f">{dtype}").tobytes()))
    read = read_idx(tmp_path / "values")
    assert np.array_equal(read, values)
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative and read.flags.writeable


@pytest.mark.parametrize(("content", "complaint"), [
    (b"", "not an IDX file: it begins with nothing"),
    (b"P5 2 3\n", "not an IDX file: it begins with 50 35 20 32"),
    (idx(0x07, (1,), b"x"), "IDX type 0x07 is unknown"),
    (WHOLE[:7], "cut off inside its header: 2 sizes"),
    (WHOLE[:-1], r"is cut off: shape \(2, 3\) of 1-byte values takes 6 bytes, it holds 5"),
    (WHOLE + b"!", "goes on behind its end"),
    (gzip.compress(WHOLE)[:-9], "damaged gzip file"),
    (b"\x1f\x8bnonsense", "damaged gzip file"),
])
def test_a_damaged_file_is_named_with_its_fault(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged.*{complaint}"):
        read_idx(path)
