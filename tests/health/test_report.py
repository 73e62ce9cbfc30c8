from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import display, nn
from minigrad.health.telemetry import Key, Telemetry
from minigrad.train import History
from tests.health.recorded import recorded

VOID = {"img", "meta", "br"}


class Page(HTMLParser):
    """What a page refers to, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Diagnosis:
    def _repr_html_(self) -> str:
        return "<p>vanished</p>"

    def plot(self) -> Any:
        figure = display.figure("test", 2, 1)
        figure.subplots().plot([1, 2])
        return figure


def history() -> History:
    made = History()
    for epoch in range(3):
        made.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1), "<b>": 1.0})
    return made


def test_a_report_is_one_file_that_refers_to_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "a report.html"
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    mg.report(path, telemetry=recorded(["<script>alert(1)</script>", "b&b"]), history=history(), diagnosis=Diagnosis(), model=model,
              title="Net <1> & 2")
    assert [found.name for found in tmp_path.iterdir()] == ["a report.html"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and "<script" not in text and "@import" not in text and "url(" not in text and "http" not in re.sub("base64,[^']*", "", text)
    assert page.references and all(reference.startswith("data:image/png;base64,iVBOR") for reference in page.references)
    assert len(page.images) == 1 + 1 + 1 + 3 + 1 + 3 and all(image["alt"] for image in page.images)
    assert "Net <1> & 2" in page.texts and "vanished" in page.texts and "b&b" in page.texts and "<b>" in page.texts
    assert "width=device-width" in text and "overflow-x: auto" in text and "<title>Net &lt;1&gt; &amp; 2</title>" in text
    assert any("Linear(in_features=2" in one for one in page.texts)


def test_a_report_takes_the_telemetry_of_a_history(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = history()
    made.telemetry = recorded(kinds=("weight",))
    mg.report(tmp_path / "a.html", history=made)
    mg.report(tmp_path / "b.html", history=np.array([2.0, 1.0]))
    assert len(Page((tmp_path / "a.html").read_text()).images) == 2 and len(Page((tmp_path / "b.html").read_text()).images) == 1


def test_a_report_of_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="nothing to report: give telemetry"):
        mg.report(path, telemetry=Telemetry(np.array([], np.int64), {}))
    mg.report(path, model=nn.Linear(1, 1))
    assert "Linear(in_features=1" in path.read_text()


def test_a_change_of_weights_alone_has_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mg.report(tmp_path / "a.HTM", telemetry=Telemetry(np.arange(3), {Key("a.weight", "update", "mean_abs"): np.ones(3)}))
    assert len(Page((tmp_path / "a.HTM").read_text()).images) == 1


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(TypeError, match=r'got no path: say first where to write.*mg\.report\("training\.html", history=history\)'):
        mg.report(history={"loss": [1]})
    with pytest.raises(TypeError, match="got a History as path: say first"):
        mg.report(history())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a\.pdf' does not end with \.html or \.htm"):
        mg.report(tmp_path / "a.pdf", model=model)
    graph = mg.viz.graph(model(mg.ones(1, 1)).sum())
    for write, name in ((lambda path: mg.report(path, model=model), "x.html"), (graph.save, "x.svg"), (history().save, "x.npz")):
        with pytest.raises(FileNotFoundError, match=r"there is no folder '.*nodir'; make it first"):
            write(tmp_path / "nodir" / name)
        (tmp_path / name).mkdir()
        with pytest.raises(IsADirectoryError, match=rf"{name}': it is a folder; add the name of a file"):
            write(tmp_path / name)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x.html", "x.npz", "x.svg"]
