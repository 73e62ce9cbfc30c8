from __future__ import annotations

import sys
from typing import Any

import pytest

from minigrad.train.progress import Bar, Lines, Quiet, progress


def test_a_bar_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress(0, 1)) is type(progress(False, 1)) is Quiet
    assert type(progress("auto", 1)) is type(progress(1, 1)) is Lines
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    pytest.importorskip("tqdm")
    assert type(progress("auto", 1)) is type(progress(True, 1)) is Bar and type(progress(2, 1)) is Lines


def test_a_bar_ends_with_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    bar = Bar(epochs=2)
    bar.begin(1, 5)
    bar.advance(5)
    bar.end({"loss": 0.125})
    shown = capsys.readouterr().err
    assert "Epoch 2/2" in shown and "5/5" in shown and "loss 0.1250" in shown


def test_a_bar_is_left_where_training_ended(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    bar = Bar(epochs=1)
    bar.begin(0, None)
    bar.advance(3)
    bar.close()
    bar.close()
    assert "3step" in capsys.readouterr().err


@pytest.mark.parametrize(("verbose", "lines"), [("auto", 84), (1, 250)])
def test_auto_shows_at_most_a_hundred_lines(verbose: Any, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress(verbose, 250)
    for epoch in range(250):
        shown.begin(epoch, 1)
        shown.end({"loss": 1.0})
    found = capsys.readouterr().out.splitlines()
    assert len(found) == lines and found[-1].startswith("Epoch 250/250")
