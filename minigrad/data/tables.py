"""Numbers from CSV and NPZ files."""
from __future__ import annotations

import csv
import gzip
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, overload

import numpy as np
from numpy.typing import NDArray

from minigrad import config
from minigrad.errors import DataError

Array = NDArray[Any]


@overload
def read_csv(path: str | Path, *, delimiter: str = ..., header: bool | None = ..., dtype: Any = ..., label_column: None = ...,
             classes: None = ...) -> Array: ...


@overload
def read_csv(path: str | Path, *, delimiter: str = ..., header: bool | None = ..., dtype: Any = ..., label_column: int | str,
             classes: Sequence[str] | None = ...) -> tuple[Array, Array]: ...


def read_csv(path: str | Path, *, delimiter: str = ",", header: bool | None = None, dtype: Any = None, label_column: int | str | None = None,
             classes: Sequence[str] | None = None) -> Array | tuple[Array, Array]:
    """The numbers of a CSV file, plain or gzip, as an array (rows, columns); with `label_column`, the others and the labels (rows,).

    header: whether the first line holds names (default: it does if one of its cells is not a number). dtype: of the numbers (default:
    the default dtype); labels are int64 if all are whole numbers, else of that dtype. label_column: a position, from the end if negative,
    or a name of the header. classes: the names that stand for labels 0, 1, ... Raises DataError with line and column.
    """
    if classes is not None and label_column is None:
        raise DataError("read_csv: classes are names in a label column: say which it is, as label_column=")
    names, skip = _header(Path(path), delimiter, header, classes)
    label = None if label_column is None else _position(Path(path), names, label_column)
    known = None if classes is None else {name: float(i) for i, name in enumerate(classes)}
    try:
        with _text(Path(path)) as lines:
            for _ in range(skip):
                next(lines)
            table = np.loadtxt(lines, np.float64, comments=None, delimiter=delimiter, quotechar='"', ndmin=2,
                               converters=None if known is None or label is None else {label: lambda cell: known[cell.strip()]})
    except (ValueError, KeyError) as error:
        raise _fault(Path(path), delimiter, skip, len(names), label, known) or DataError(f"{path}: {error}") from None
    if table.shape[1] != len(names):
        raise _fault(Path(path), delimiter, skip, len(names), label, known) or DataError(f"{path}: {table.shape[1]} columns, expected {len(names)}")
    wanted = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
    if label is None:
        return table.astype(wanted)
    labels = table[:, label]
    whole = bool(np.all(np.isfinite(labels)) and np.all(labels == np.round(labels)))
    return np.delete(table, label, axis=1).astype(wanted), labels.astype(np.int64 if whole else wanted)


def load_npz(path: str | Path, *names: str) -> dict[str, Array]:
    """The arrays of an .npz file by name: those named, or all. Raises DataError for what is not whole, not there, or not numbers."""
    try:
        with Path(path).open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path} is a single array, not an .npz file: read it with np.load")
            with file:
                missing = [name for name in names if name not in file.files]
                if missing:
                    raise DataError(f"{path} holds no array {missing[0]!r}: it holds {', '.join(file.files) or 'nothing'}")
                return {name: file[name] for name in names or file.files}
    except DataError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a whole .npz file of numbers: {error}") from None


def _text(path: Path) -> TextIO:
    """The file's lines, unpacked if it is gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="") if packed else path.open(encoding="utf-8-sig", newline="")


def _header(path: Path, delimiter: str, header: bool | None, classes: Sequence[str] | None) -> tuple[list[str], int]:
    """The columns' names, by number where there are none, and how many lines stand before the numbers."""
    with _text(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        first = next((cells for cells in reader if cells), None)
        if first is None:
            raise DataError(f"{path} is empty: expected lines of numbers")
        at = reader.line_num
        more = any(cells for cells in reader)
    cells = [cell.strip() for cell in first]
    named = header if header is not None else not all(_is_number(cell) or cell in (classes or ()) or not cell for cell in cells)
    if named and not more:
        raise DataError(f"{path} holds a header and nothing else")
    return (cells, at) if named else ([str(i) for i in range(len(cells))], 0)


def _position(path: Path, names: list[str], wanted: int | str) -> int:
    """Of the label column."""
    if isinstance(wanted, str):
        if wanted not in names:
            raise DataError(f"{path} has no column {wanted!r}: its columns are {', '.join(names)}")
        return names.index(wanted)
    if not -len(names) <= wanted < len(names):
        raise DataError(f"{path}: label_column is {wanted}, there are {len(names)} columns")
    return wanted % len(names)


def _fault(path: Path, delimiter: str, skip: int, columns: int, label: int | None, known: dict[str, float] | None) -> DataError | None:
    """The first cell or line that is wrong, in words; None if each by itself is right."""
    with _text(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        for cells in reader:
            line = reader.line_num
            if line <= skip or not cells:
                continue
            if len(cells) != columns:
                return DataError(f"{path}, line {line}: {len(cells)} columns, expected {columns}")
            for column, cell in enumerate(cells):
                where = f"{path}, line {line}, column {column + 1}"
                if column == label and known is not None:
                    if cell.strip() not in known:
                        return DataError(f"{where}: {cell!r} is not one of the classes {', '.join(known)}")
                elif not cell.strip():
                    return DataError(f"{where} is empty: expected a number; write nan where one is missing")
                elif not _is_number(cell):
                    hint = "; give the names of the labels as classes=" if column == label else ""
                    return DataError(f"{where}: {cell!r} is not a number{hint}")
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
