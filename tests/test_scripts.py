"""A PyTorch script runs with nothing but its import lines changed, and gives the same losses."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = (Path(__file__).parent / "scripts" / "mlp_torch.py").read_text()
#: The whole translation: a line that imports something.
IMPORTS = ((r"^import torch$", "import minigrad as torch"), (r"^from torch(\S*) import ", r"from minigrad\1 import "))


def printed(text: str) -> list[str]:
    """What people read, but for the look of Tensors and shapes, the digits of fractions, and what layers say of more options."""
    lines = [line for line in text.splitlines() if "ensor" not in line and "Size" not in line and "Shape" not in line]
    return [re.sub(r"\d+\.\d+", "#", re.sub(", bias=True|, inplace=False", "", line)) for line in lines]


def translated(text: str) -> str:
    """The script with minigrad's import lines."""
    for torchs, ours in IMPORTS:
        text = re.sub(torchs, ours, text, flags=re.MULTILINE)
    return text


def run(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the script leaves in its names; it writes its files into the directory."""
    monkeypatch.chdir(directory)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "mlp_torch.py", "exec"), names)
    return names


def test_only_import_lines_are_changed() -> None:
    changed = [(a, b) for a, b in zip(SCRIPT.splitlines(), translated(SCRIPT).splitlines(), strict=True) if a != b]
    assert len(changed) == 5 and all(re.match(r"(import|from) ", line) for pair in changed for line in pair)


def test_the_script_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    left = run(translated(SCRIPT), tmp_path, monkeypatch)
    assert left["accuracies"][-1] > 0.8 and left["accuracies"][-1] == left["accuracies"][-2]
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("Using cpu device", "(linear_relu_stack): Sequential(", "<All keys matched successfully>"))
    assert (tmp_path / "model.pth").read_bytes()[:2] not in (b"PK", b"\x80\x02")  # no pickle, whatever its name is


def test_the_script_gives_pytorchs_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    ours = run(translated(SCRIPT), tmp_path, monkeypatch)
    ours_shown = printed(capsys.readouterr().out)
    theirs = run(SCRIPT, tmp_path, monkeypatch)
    assert len(ours["losses"]) == len(theirs["losses"]) > 50
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-4, atol=1e-4)
    assert ours["accuracies"] == theirs["accuracies"]
    assert ours_shown == printed(capsys.readouterr().out)
