from __future__ import annotations

import sys
from pathlib import Path

import pytest

from minigrad import cli

FILE = """
import numpy as np
import minigrad.nn.functional as F
from minigrad import nn, optim
from beside import WIDTH

def batch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 6)).astype(np.float32)
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)

def good():
    model = nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
    return model, *batch(), F.cross_entropy, optim.Adam(model.parameters())

def bad():
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Sigmoid()) for _ in range(12)]
    return nn.Sequential(nn.Linear(6, WIDTH), *layers, nn.Linear(WIDTH, 3)), *batch(), F.cross_entropy

def three():
    return good()[:3]

def number():
    return 7

def no_loss():
    return *good()[:3], "mse"

def fails():
    raise SystemExit("no data")

class Late(nn.Module):
    def __init__(self, error=None):
        super().__init__()
        self.layer, self.error = nn.Linear(6, 3), error

    def forward(self, x):
        if self.error is not None:
            raise self.error
        from later import same
        return same(self.layer(x))

def late():
    return Late(), *batch(), F.cross_entropy

def raises():
    return Late(KeyError("mask")), *batch(), F.cross_entropy

def misfits():
    model, x, y, loss, _ = good()
    return model, x[:, :4], y, loss
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 8\n")
    (tmp_path / "later.py").write_text("def same(x):\n    return x\n")
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_healthy_net_ends_with_0_and_a_faulty_one_with_1(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.path), "mine" in sys.modules
    assert cli.main(["diagnose", f"{file}:good"]) == 0
    assert "HEALTHY" in capsys.readouterr().out
    assert cli.main(["diagnose", f"{file}:bad", "--no-cures"]) == 1
    shown = capsys.readouterr().out
    assert "VANISHED" in shown and "No cure was tried" in shown
    assert (list(sys.path), "mine" in sys.modules) == before
    sys.modules.pop("beside", None)


def test_what_the_model_imports_when_it_runs_is_found_beside_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", f"{file}:late"]) == 0
    assert "HEALTHY" in capsys.readouterr().out
    sys.modules.pop("beside", None)
    sys.modules.pop("later", None)


def test_out_writes_a_page(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "report.html"
    assert cli.main(["diagnose", f"{file}:bad", "--out", str(page)]) == 1
    assert f"wrote {page}" in capsys.readouterr().out
    text = page.read_text()
    assert "VANISHED" in text and "Recommended" in text and "data:image/png" in text
    assert cli.main(["diagnose", f"{file}:bad", "--no-cures", "--out", str(tmp_path / "none" / "report.html")]) == 2
    sys.modules.pop("beside", None)


@pytest.mark.parametrize(("function", "message"), [
    (":three", "returned 3 values, expected (model, x, y, loss) or (model, x, y, loss, optimizer)"),
    (":number", "returned a int, expected"), (":no_loss", "returned a str as loss"), (":fails", "raised SystemExit: no data (at mine.py:30)"),
    (":nothing", "has no function 'nothing'; it has Late, bad, batch, fails"),
    (":raises", "cannot be run on this batch: KeyError: 'mask' (at mine.py:39)"), (":misfits", "the model cannot be run on this batch: in 0: linear"),
    ("", "is not FILE:FUNCTION"),
])
def test_what_cannot_be_used_is_told_with_status_2(function: str, message: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", f"{file}{function}"]) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and not said.out
    sys.modules.pop("beside", None)


def test_a_missing_file_and_a_broken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", f"{tmp_path / 'gone.py'}:f"]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert cli.main(["diagnose", f"{tmp_path / 'broken.py'}:f"]) == 2
    assert "raised SyntaxError" in capsys.readouterr().err
