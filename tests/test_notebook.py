"""The tutorial keeps its word: its cells run in order and show what is stored."""
from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
#: A number that was rounded, or may be: another CPU's last bits may change its last digit.
ROUNDED = re.compile(r"-?\d+\.\d*(?:e[+-]\d+)?|-?\d+e[+-]\d+|\d+(?=%)")


@pytest.fixture(scope="module")
def runner() -> Any:
    """The script docs/run_notebook.py as a module."""
    for extra in ("matplotlib", "safetensors", "sklearn"):
        pytest.importorskip(extra)
    return importlib.import_module("docs.run_notebook")


@pytest.fixture(scope="module")
def cells(runner: Any) -> list[dict[str, Any]]:
    """The stored cells of code."""
    return [cell for cell in runner.load(PATH)["cells"] if cell["cell_type"] == "code"]


def texts(output: dict[str, Any]) -> dict[str, str]:
    """What an output shows, by form; of a picture only that there is one."""
    shown = {"stdout": output["text"]} if "text" in output else output["data"]
    return {form: "" if form == "image/png" else "".join(text) for form, text in shown.items()}


def differences(stored: list[dict[str, Any]], shown: list[dict[str, Any]]) -> list[str]:
    """Where two lists of outputs differ; rounded numbers may do so by a twentieth."""
    before, now = [texts(output) for output in stored], [texts(output) for output in shown]
    if [list(one) for one in before] != [list(one) for one in now]:
        return [f"stored {[list(one) for one in before]}, shown {[list(one) for one in now]}"]
    found = []
    for old, new in zip(before, now, strict=True):
        for form, text in old.items():
            numbers, others = ([float(x) for x in ROUNDED.findall(t)] for t in (text, new[form]))
            same = len(numbers) == len(others) and all(a == pytest.approx(b, rel=0.05, abs=0) for a, b in zip(numbers, others, strict=True))
            if not same or ROUNDED.sub("", text) != ROUNDED.sub("", new[form]):
                found.append(f"{form}: stored {text!r}, shown {new[form]!r}")
    return found


def test_cells_show_what_is_stored(runner: Any, cells: list[dict[str, Any]]) -> None:
    found = [differences(cell["outputs"], shown) for cell, shown in zip(cells, runner.run(runner.load(PATH)), strict=True)]
    assert {i: wrong for i, wrong in enumerate(found, start=1) if wrong} == {}, "run python docs/run_notebook.py"


def test_every_cell_was_run_in_order_and_tells_no_path(runner: Any, cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    stored = "".join(text for cell in cells for output in cell["outputs"] for text in texts(output).values())
    assert not re.search(r"(?<![\w.<])/\w+/\w+| at 0x", stored), "an output tells a path or an address of a machine"
    assert len({cell["id"] for cell in runner.load(PATH)["cells"]}) == len(runner.load(PATH)["cells"])


def test_the_pages_it_names_are_there(runner: Any) -> None:
    prose = "".join(runner.source(cell) for cell in runner.load(PATH)["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert links and [link for link in links if not (PATH.parent / link).exists()] == []


@pytest.mark.parametrize(("text", "other", "same"), [
    ("loss 2.31", "loss 2.32", True), ("97% right", "96% right", True), ("8e-15", "8e-15", True), ("35 of 215", "36 of 215", False),
    ("loss 2.31", "loss 2.61", False), ("97% right", "97% wrong", False), ("True", "False", False), ("1e-14", "1e-13", False),
])
def test_a_wrong_output_is_noticed(text: str, other: str, same: bool) -> None:
    def one(shown: str) -> list[dict[str, Any]]:
        return [{"output_type": "stream", "name": "stdout", "text": [shown]}]

    assert (differences(one(text), one(other)) == []) is same


def test_a_cell_prints_and_shows_its_last_value(runner: Any) -> None:
    scope: dict[str, Any] = {}
    printed, value = runner.outputs("x = 3\nprint('<x>')\nx + 1", 7, scope)
    assert printed["text"] == ["<x>\n"] and value["data"] == {"text/plain": ["4"]} and value["execution_count"] == 7 and scope["x"] == 3
    assert runner.outputs("x = 4", 8, scope) == runner.outputs("", 9, scope) == runner.outputs("None", 10, scope) == []


def test_an_error_names_its_cell(runner: Any) -> None:
    broken = {"cells": [{"cell_type": "markdown", "source": ["text"]}, {"cell_type": "code", "source": ["1\n", "1 / 0"]}]}
    with pytest.raises(ZeroDivisionError) as caught:
        runner.run(broken)
    assert caught.value.__notes__ == ["in cell 1 of the notebook"]
