from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import load_npz, read_csv
from minigrad.errors import DataError


def write(directory: Path, text: str) -> Path:
    path = directory / "table.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "options"), [
    ("1,2\n3,4.5\n", {}),
    ("a,b\n1,2\n3,4.5\n", {}),
    ("\ufeffa,b\r\n1,2\r\n\r\n3,4.5\r\n", {}),
    ('"a, b",c\n1,"2"\n3,4.5', {}),
    ("1;2\n3;4.5\n", {"delimiter": ";"}),
    ("1\t2\n3\t4.5\n", {"delimiter": "\t", "header": False}),
    ("7,8\n1,2\n3,4.5\n", {"header": True}),
])
def test_numbers_come_back(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, text), **options)
    assert table.tolist() == [[1, 2], [3, 4.5]] and table.dtype == np.float32


def test_gzip_is_unpacked_and_the_dtype_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"x\n0.1\n"))
    table = read_csv(path, dtype=np.float64)
    assert table.tolist() == [[0.1]] and table.dtype == np.float64


@pytest.mark.parametrize("label", [0, -3, "label"])
def test_a_label_column_is_set_apart(label: int | str, tmp_path: Path) -> None:
    x, y = read_csv(write(tmp_path, "label,p0,p1\n7,1,2\n3,4,5\n"), label_column=label)
    assert x.tolist() == [[1, 2], [4, 5]] and y.tolist() == [7, 3] and (x.dtype.name, y.dtype.name) == ("float32", "int64")


def test_labels_that_are_no_whole_numbers_are_targets(tmp_path: Path) -> None:
    _, y = read_csv(write(tmp_path, "1,0.5\n2,1\n"), label_column=1)
    assert y.tolist() == [0.5, 1] and y.dtype == np.float32


@pytest.mark.parametrize("head", ["", "length,kind\n"])
def test_classes_by_name(head: str, tmp_path: Path) -> None:
    x, y = read_csv(write(tmp_path, f"{head}1.5,setosa\n2.5, virginica\n3.5,setosa\n"), label_column=1, classes=["setosa", "virginica"])
    assert x.tolist() == [[1.5], [2.5], [3.5]] and y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("text", "options", "complaint"), [
    ("", {}, "is empty"),
    ("a,b\n", {}, "a header and nothing else"),
    ("a,b\n1,2\n3,x\n", {}, "line 3, column 2: 'x' is not a number"),
    ("1,2\n3,\n", {}, "line 2, column 2 is empty: expected a number; write nan"),
    ("1,2\n3\n", {}, "line 2: 1 columns, expected 2"),
    ("a,b,c\n1,2\n3,4\n", {}, "line 2: 2 columns, expected 3"),
    ("1,2\n", {"label_column": 2}, "label_column is 2, there are 2 columns"),
    ("a,b\n1,2\n", {"label_column": "c"}, "no column 'c': its columns are a, b"),
    ("a,b\n1,u\n2,v\n", {"label_column": "b"}, "line 2, column 2: 'u' is not a number; give the names of the labels as classes="),
    ("a,b\n1,u\n2,v\n", {"label_column": "b", "classes": ["u"]}, "line 3, column 2: 'v' is not one of the classes u"),
    ("1,2\n", {"classes": ["u"]}, "say which it is, as label_column="),
])
def test_faults_are_named_with_line_and_column(text: str, options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        read_csv(write(tmp_path, text), **options)


def test_npz_arrays_by_name(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.eye(2), y=np.arange(2))
    assert set(load_npz(path)) == {"x", "y"} and load_npz(path, "y")["y"].tolist() == [0, 1]
    with pytest.raises(DataError, match="holds no array 'z': it holds x, y"):
        load_npz(path, "z")


def test_a_damaged_npz_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="is not a whole"):
        load_npz(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="is not a whole"):
        load_npz(path)
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(DataError, match="is a single array"):
        load_npz(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "none.npz")
