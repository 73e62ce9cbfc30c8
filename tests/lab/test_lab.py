from __future__ import annotations

import json
import math
import os
import re
import signal
from html import escape
from pathlib import Path
from typing import Any

import pytest

import minigrad as mg
from minigrad import cli
from minigrad.lab import command, experiment, page
from minigrad.lab.experiment import Experiment, Lab
from minigrad.lab.registry import EXPERIMENTS


def well(lab: Lab) -> None:
    lab.say("a < b & so on")
    lab.say("two\nlines")
    lab.table(["n", "x"], [[1, 0.123456], [2, "text"]], "Some rows")
    lab.check("one", 1.0, 0.5, 1.5, source="a paper")
    lab.check_close("half", 0.5, 0.5)
    lab.picture("line", draw, "A line from 0 to 1.")


def draw() -> Any:
    figure = experiment.figure("a test", 3, 2)
    figure.subplots().plot([0, 1])
    return figure


def badly(lab: Lab) -> None:
    lab.check_true("never", False)


def raises(lab: Lab) -> None:
    lab.say("before it")
    mg.set_default_dtype(mg.float64)
    mg.set_num_threads(1)
    raise ZeroDivisionError("of all things")


def is_interrupted(lab: Lab) -> None:
    lab.say("until here")
    raise KeyboardInterrupt


FAKES = tuple(Experiment(number, run.__name__.replace("_", "-"), f"title of {number}", run) for number, run in
              (("000", well), ("001", badly), ("002", raises), ("003", is_interrupted)))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four experiments that take no time in the place of the real ones."""
    monkeypatch.setattr(command, "EXPERIMENTS", FAKES)


def report(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / page.RESULTS).read_text())
    return read


def test_the_seven_experiments_have_names_of_their_own() -> None:
    assert [one.number for one in EXPERIMENTS] == ["000", "001", "002", "003", "004", "005", "cures"]
    assert len({one.name for one in EXPERIMENTS}) == 7 and all(one.title for one in EXPERIMENTS)


def test_everything_is_rehearsed_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(experiment, "find_spec", lambda name: None)  # pictures have tests of their own
    assert command.main(["all", "--quick", "--out", str(tmp_path)]) == 0
    found, text = report(tmp_path)["experiments"], (tmp_path / page.PAGE).read_text()
    assert [(one["name"], one["status"]) for one in found] == [(one.name, "rehearsed") for one in EXPERIMENTS]
    assert all(f"<h2 id='{one.name}'>" in text and f"href='#{one.name}'" in text for one in EXPERIMENTS)


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    shown = capsys.readouterr().out
    assert all(one.number in shown and one.name in shown and one.title in shown for one in EXPERIMENTS)


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["xor-deep"], "no experiment 'xor-deep', there are: all, 000 (gradient-check)"),
    (["xor", "--layers", "11"], "--layers"),
    (["xor", "--predict", "1"], "--predict"),
    (["xor", "sigmoid", "--predict", "1"], "no experiment among these takes --predict"),
    (["--quikc"], "--quikc"),
    (["sigmoid", "--quick", "xor"], "xor: names of experiments come before the options"),
    (["sigmoid", "xor", "--quick", "nonsense"], "nonsense: names of experiments come before the options"),
    (["sigmoid", "--seed", "-1"], "--seed"),
    (["deep-sigmoid", "--csv", "no such file"], "there is no file 'no such file'"),
])
def test_bad_words_end_with_status_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and complaint in capsys.readouterr().err


@pytest.mark.parametrize("words", [["well"], ["000"], ["--seed", "3", "well"], ["well", "000"], ["0"], ["00"], ["--seed", "3", "0"], ["0", "well"]])
def test_by_number_or_by_name_before_or_behind_options(words: list[str], fakes: None, tmp_path: Path) -> None:
    assert command.main([*words, "--out", str(tmp_path)]) == 0
    assert [one["name"] for one in report(tmp_path)["experiments"]] == ["well"]


def test_help_shows_an_experiments_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words, shown in ((["xor"], "--layers"), (["000"], "--predict"), ([], "004    xor"), (["000", "xor"], "004    xor")):
        with pytest.raises(SystemExit) as stopped:
            command.main([*words, "--help"])
        assert stopped.value.code == 0 and shown in capsys.readouterr().out


def test_everything_that_was_said_stands_on_the_page(fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert command.main(["well", "--out", str(tmp_path)]) == 0
    told, text, found = capsys.readouterr().out, (tmp_path / page.PAGE).read_text(), report(tmp_path)
    for words in ("a < b & so on", "Some rows", "0.1235", "half"):
        assert words in told and escape(words) in text
    assert "PASS  one: 1 (wanted: 0.5 to 1.5)" in told and "<pre>two\nlines</pre>" in text and "a paper" in text
    assert (tmp_path / "well-line.png").read_bytes().startswith(b"\x89PNG")
    assert re.findall(r"<img src='([^']+)'", text) == ["well-line.png"] and "<figcaption>A line from 0 to 1.</figcaption>" in text
    assert "http" not in text and "<script" not in text, "it is read offline"
    assert found["experiments"][0]["status"] == "passed" and found["versions"]["minigrad"] == mg.__version__ and found["seconds"]["total"] > 0
    assert found["command"] == f"python -m minigrad lab well --out {tmp_path}"
    assert [item["kind"] for item in found["experiments"][0]["items"]] == ["text", "text", "table", "check", "check", "picture"]


def test_one_that_fails_or_raises_does_not_stop_the_others(fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mg.get_default_dtype(), mg.get_num_threads()
    assert command.main(["raises", "badly", "well", "--out", str(tmp_path)]) == 1
    found = {one["name"]: one for one in report(tmp_path)["experiments"]}
    assert {name: one["status"] for name, one in found.items()} == {"well": "passed", "badly": "failed", "raises": "stopped by an error"}
    assert "ZeroDivisionError: of all things" in found["raises"]["error"] and found["raises"]["items"][0]["words"] == "before it"
    assert "failed: badly, raises" in capsys.readouterr().out and "of all things" in (tmp_path / page.PAGE).read_text()
    assert (mg.get_default_dtype(), mg.get_num_threads()) == before


def test_in_a_rehearsal_no_check_counts(fakes: None, tmp_path: Path) -> None:
    assert command.main(["badly", "--quick", "--out", str(tmp_path)]) == 0
    text = (tmp_path / page.PAGE).read_text()
    assert "FAIL</td>" not in text and "no check counts" in text and "1 check made" in text


def test_ctrl_c_leaves_the_page_of_what_was_done(fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "all", "--out", str(tmp_path)]) == cli.INTERRUPTED
    found = report(tmp_path)["experiments"]
    assert [one["status"] for one in found] == ["passed", "failed", "stopped by an error", "interrupted"]
    assert found[-1]["items"][0]["words"] == "until here" and "until here" in (tmp_path / page.PAGE).read_text()
    assert "interrupted" in capsys.readouterr().err


def test_ctrl_c_while_the_page_is_written_waits_for_it(fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = page.write

    def interrupted(out: Path, report: Any) -> list[Path]:
        os.kill(os.getpid(), signal.SIGINT)
        return write(out, report)

    monkeypatch.setattr(page, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.main(["well", "badly", "--out", str(tmp_path)])
    assert [one["name"] for one in report(tmp_path)["experiments"]] == ["well"] and (tmp_path / page.PAGE).exists()


def test_without_matplotlib_only_pictures_are_missing(fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(experiment, "find_spec", lambda name: None)
    assert command.main(["well", "--out", str(tmp_path)]) == 0
    assert "no pictures: they need matplotlib, pip install 'minigrad-numba[plot]'" in capsys.readouterr().out
    assert list(tmp_path.glob("*.png")) == [] and "Some rows" in (tmp_path / page.PAGE).read_text()


def test_a_report_that_cannot_be_written_leaves_the_old_page(fakes: None, tmp_path: Path) -> None:
    command.main(["well", "--out", str(tmp_path)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="JSON"):
        page.write(tmp_path, report(tmp_path) | {"threads": math.nan})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_without_digits_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["sigmoid", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected t10k-images-idx3-ubyte" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_random_numbers_of_an_experiment_follow_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(command, "EXPERIMENTS", tuple(Experiment(name, name, "", lambda lab: drawn.append(mg.rand(1).item())) for name in "ab"))
    for words in (["all"], ["b"], ["b", "--seed", "1"]):
        command.main([*words, "--out", str(tmp_path)])
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]


@pytest.mark.parametrize(("value", "low", "high", "passed"), [
    (1.0, 1.0, 1.0, True), (2.0, -math.inf, 1.0, False), (2.0, 1.0, math.inf, True), (math.nan, -math.inf, math.inf, False)])
def test_a_check_is_a_range_that_includes_its_ends(value: float, low: float, high: float, passed: bool, make: Any) -> None:
    assert make().check("x", value, low, high) is passed


def test_close_is_absolute_plus_relative(make: Any) -> None:
    lab = make()
    assert lab.check_close("x", 11.5, 10.0, atol=0.5, rtol=0.1) and not lab.check_close("x", 11.6, 10.0, atol=0.5, rtol=0.1)
    assert not lab.check_close("x", math.nan, 1.0, atol=1.0)
    assert lab.checks[0].wanted == "10 within 0.5 + 10 %"


def test_a_rehearsal_draws_no_conclusions_and_says_once_that_it_is_one(fakes: None, tmp_path: Path, make: Any,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert make().found("It learns.") == "It learns." and make(quick=True).found("It learns.") == ""
    lab = make(quick=True)
    lab.say("")
    lab.check("when", math.inf, high=3.0)
    assert len(lab.items) == 1 and lab.checks[0].value == "none"
    command.main(["well", "badly", "--quick", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    assert told.count(page.REHEARSAL) == 1 and "check one: 1 (wanted: 0.5 to 1.5)" in told and "FAIL" not in told


def test_nobody_is_asked_but_at_a_terminal(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([" 3 "])

    def answer(question: str) -> str:
        for line in typed:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", answer)
    assert make().ask("?") == ""
    lab = make(asks=True)
    assert lab.ask("?") == "3" and lab.ask("?") == ""
