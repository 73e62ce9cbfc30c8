"""IDX, the format of MNIST: a magic number, the sizes big-endian, then the values in C order; plain or gzip."""
from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

GZIP_MAGIC: Final = b"\x1f\x8b"
# The magic number's third byte
DTYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray[Any, np.dtype[Any]]:
    """The array in an IDX file, in this machine's byte order. Raises ValueError, naming the file, if it is anything but whole."""
    content = _content(Path(path))
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"{path} is not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}, expected 00 00, a type and a rank")
    code, rank = content[2], content[3]
    if code not in DTYPES:
        raise ValueError(f"{path}: IDX type 0x{code:02x} is unknown; known are {', '.join(f'0x{known:02x}' for known in DTYPES)}")
    begin = 4 + 4 * rank
    if len(content) < begin:
        raise ValueError(f"{path} is cut off inside its header: {rank} sizes were announced")
    shape = struct.unpack(f">{rank}I", content[4:begin])
    dtype = np.dtype(DTYPES[code])
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - begin
    if found != expected:
        problem = "is cut off" if found < expected else "goes on behind its end"
        raise ValueError(f"{path} {problem}: shape {shape} of {dtype.itemsize}-byte values takes {expected} bytes, it holds {found}")
    return np.frombuffer(content, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from error
