"""docs/ops.md has a row for everything that is declared."""
from __future__ import annotations

import importlib
from typing import Any

import pytest

import minigrad as mg
from minigrad.ops.op import registry


@pytest.fixture(scope="module")
def script() -> Any:
    """The script docs/list_ops.py as a module."""
    return importlib.import_module("docs.list_ops")


def test_the_tables_are_what_is_declared(script: Any) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    made = script.rewritten(text)
    # Line by line: a report of where two such long texts differ takes minutes to make
    assert sorted({*text.splitlines()} ^ {*made.splitlines()}) == [], "run python docs/list_ops.py"
    same = text == made
    assert same, "run python docs/list_ops.py"


def test_every_op_and_every_function_of_tensors_is_listed_and_described(script: Any) -> None:
    tables = script.tables()
    assert [name for name in registry if f"| `{name}` |" not in tables["Every op"]] == []
    listed = {id(function) for _, _, function in script.public()}
    functions = {name: value for name, value in vars(mg).items() if getattr(value, "__module__", "").startswith(("minigrad.ops.", "minigrad.tape."))
                 and callable(value) and not isinstance(value, type)}
    assert [name for name, value in functions.items() if id(value) not in listed] == []
    rows = [row for table in tables.values() for row in table.splitlines()[2:]]
    assert [row for row in rows if row.endswith("|  |")] == []
    assert [row for row in rows if " object at 0x" in row or "<class" in row] == []


def test_a_page_without_a_marker_is_refused(script: Any) -> None:
    with pytest.raises(ValueError, match="Arithmetic"):
        script.rewritten("# Ops\n")
