from __future__ import annotations

import sys

import pytest

from minigrad.train.progress import Bar, Lines, Quiet, progress


def test_a_bar_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress(False, 1)) is Quiet
    assert type(progress(True, 1)) is Lines
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    pytest.importorskip("tqdm")
    assert type(progress(True, 1)) is Bar


def test_a_bar_ends_with_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    bar = Bar(epochs=2)
    bar.begin(1, 5)
    bar.advance(5)
    bar.end({"loss": 0.125})
    shown = capsys.readouterr().err
    assert "Epoch 2/2" in shown and "5/5" in shown and "loss 0.1250" in shown
