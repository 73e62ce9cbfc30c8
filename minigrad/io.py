"""Saving and loading: nested dicts of arrays and numbers, as safetensors or npz, never as pickle, never half-written."""
from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, DamagedFileError, DtypeError
from minigrad.files import replacing
from minigrad.tape.handle import Array, Handle
from minigrad.tape.mode import caller, local
from minigrad.tape.tensor import tensor

#: Under which safetensors' metadata, and npz's entry, say how the arrays belong together, and their checksum.
STRUCTURE, CHECKSUM = "minigrad", "minigrad.crc32"
RESERVED = (STRUCTURE, CHECKSUM, "__metadata__")  # the last one is safetensors' own
Arrays = dict[str, Array]


def save(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a dict of Tensors, arrays, numbers, strings, None and dicts, lists and tuples of these to a file.

    The format is safetensors, whatever the name ends with, unless it ends with .npz; other programs find the arrays of nested dicts under
    their paths, joined by dots. A file of that name is replaced when the new one is complete, so a crash leaves one or the other. Raises
    TypeError for values of other types, before anything is written, and ModuleNotFoundError where safetensors is not installed.
    """
    if isinstance(state, str | os.PathLike):
        raise TypeError("save takes the state first and the path second: mg.save(model.state_dict(), path)")
    if not isinstance(state, Mapping):
        raise TypeError(f"save takes a dict, not a {type(state).__name__}: for a model or an optimiser, save its state_dict()")
    if local.mode.listener is not None:
        raise CaptureError(f"save at {caller()} inside a captured step, which a replay would not do again: save between the calls")
    arrays: Arrays = {}
    text = json.dumps(_packed(state, "", arrays), allow_nan=False, separators=(",", ":"))
    metadata = {STRUCTURE: text, CHECKSUM: _checksum(text, arrays)}
    write = _write_npz if str(path).endswith(".npz") else _write_safetensors()
    with replacing(path) as temporary:
        write(temporary, arrays, metadata)


def load(path: str | os.PathLike[str], map_location: Any = None, weights_only: bool = True) -> Any:
    """Read what `save` wrote: the same dicts, lists, tuples and numbers, Tensors where Tensors were and arrays where arrays were.

    A safetensors or npz file of another program gives a flat dict of Tensors. map_location: "cpu" or None; weights_only makes no
    difference, since nothing that a file holds is ever executed. Raises DamagedFileError for a file that is damaged or of another kind,
    a PyTorch pickle among them.
    """
    if map_location is not None:
        config.device(map_location)
    with Path(path).open("rb") as file:
        start = file.read(9)
    # The length of safetensors' header comes first, in eight bytes: the lowest may be those that another format begins with.
    is_safetensors = start[4:] == b"\0\0\0\0{"
    arrays, metadata = (_read_npz if start[:2] == b"PK" and not is_safetensors else _read_safetensors)(path, start)
    text = metadata.get(STRUCTURE)
    if text is None and CHECKSUM not in metadata:
        return {name: tensor(values) for name, values in arrays.items()}
    if text is None or metadata.get(CHECKSUM) != _checksum(text, arrays):
        raise DamagedFileError(f"{path} is damaged: its checksum is not that of what it holds")
    return _unpacked(json.loads(text), arrays)


# ---- structure
def _packed(value: Any, path: str, arrays: Arrays) -> Any:
    """The value as JSON; its arrays are put into `arrays` under their paths."""
    if isinstance(value, Handle | np.ndarray | np.generic):
        given = value.array if isinstance(value, Handle) else np.asarray(value)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"save: {path} is {given.dtype.name}, which cannot be saved: numbers only")
        name = path
        while not name or name in arrays or name in RESERVED:
            name = f"{name}#{len(arrays)}"
        arrays[name] = np.ascontiguousarray(given, given.dtype.newbyteorder("<")).reshape(given.shape)
        return {"tensor" if isinstance(value, Handle) else "array" if isinstance(value, np.ndarray) else "scalar": name}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return {"int": str(int(value))} if abs(value) > 2**53 else int(value)
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if isinstance(value, Mapping):
        entries = []
        for name, inner in value.items():
            if type(name) not in (str, int):
                raise TypeError(f"save: {path or 'the dict'} has the key {name!r}, expected strings and integers")
            entries.append([name, _packed(inner, f"{path}.{name}" if path else str(name), arrays)])
        return {"dict": entries}
    if isinstance(value, list | tuple):
        packed = [_packed(inner, f"{path}.{i}" if path else str(i), arrays) for i, inner in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": packed}
    raise TypeError(f"save: {path} is a {type(value).__name__}: a file holds Tensors, arrays, numbers, strings, None, and dicts, lists and "
                    "tuples of these; for a model or an optimiser, save its state_dict()")


def _unpacked(packed: Any, arrays: Arrays) -> Any:
    if not isinstance(packed, dict):
        return packed
    (kind, inner), = packed.items()
    match kind:
        case "tensor":
            return tensor(arrays[inner])
        case "array":
            return arrays[inner]
        case "scalar":
            return arrays[inner][()]
        case "int":
            return int(inner)
        case "float":
            return float.fromhex(inner)
        case "dict":
            return {name: _unpacked(value, arrays) for name, value in inner}
        case "list":
            return [_unpacked(value, arrays) for value in inner]
        case _:
            return tuple([_unpacked(value, arrays) for value in inner])


def _checksum(text: str, arrays: Arrays) -> str:
    """Of the structure and of each array's name, dtype, shape and values."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        values = arrays[name]
        crc = zlib.crc32(f"{name}\0{values.dtype.name}\0{values.shape}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


# ---- files
def _write_npz(path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
    # The checksum first: a damaged directory may lose entries at its end.
    entries = {**{name: np.frombuffer(text.encode(), np.uint8) for name, text in metadata.items()}, **arrays}
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _read_npz(path: str | os.PathLike[str], start: bytes) -> tuple[Arrays, dict[str, str]]:
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if not entry.endswith(".npy"):
                    raise DamagedFileError(f"{path} is a pickle in a zip file, as torch.save writes it, which minigrad does not execute: save it "
                                           "with safetensors.torch.save_file, or as NumPy arrays with np.savez")
                with archive.open(entry) as file:
                    arrays[entry[:-4]] = np.lib.format.read_array(file, allow_pickle=False)
        metadata = {name: arrays.pop(name).tobytes().decode() for name in (STRUCTURE, CHECKSUM) if name in arrays}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError) as error:  # the last one for a bit that says encrypted
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(f"{path} is damaged, or no npz file: {error}") from error
    return arrays, metadata


def _write_safetensors() -> Callable[[Path, Arrays, dict[str, str]], None]:
    """The library's function. Raises ModuleNotFoundError with the command that installs it."""
    try:
        from safetensors.numpy import save_file
    except ModuleNotFoundError as error:
        raise _not_installed() from error

    def write(path: Path, arrays: Arrays, metadata: dict[str, str]) -> None:
        try:
            save_file(arrays, str(path), metadata=metadata)
        except KeyError as error:  # its table of dtypes
            raise DtypeError(f"safetensors has no dtype {error}: convert the array, or save to a name that ends with .npz") from error

    return write


def _read_safetensors(path: str | os.PathLike[str], start: bytes) -> tuple[Arrays, dict[str, str]]:
    if start[:1] == b"\x80" and start[8:] != b"{":
        raise DamagedFileError(f"{path} is a pickle, which minigrad does not execute: save it with mg.save")
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise _not_installed() from error
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  no mapping
    except TypeError as error:  # bfloat16 and the like
        raise DtypeError(f"{path} holds values of a dtype that NumPy does not have: {error}") from error
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged, or no safetensors file: {error}") from error


def _not_installed() -> ModuleNotFoundError:
    return ModuleNotFoundError("files in the safetensors format need the package safetensors: pip install \"minigrad-numba[io]\"; "
                               "a name that ends with .npz needs no package")
