from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigrad.bench import cli, machine, timing
from minigrad.bench.peers import CONTESTANTS, Contestant


@pytest.fixture
def same_cores() -> Iterator[None]:
    """The bench pins its process; the tests after it should not stay there."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    yield
    if before:
        timing.pin(before)


@pytest.mark.usefixtures("same_cores")
def test_a_quick_run_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "steps.json"
    arguments = ["--quick", "--rounds", "2", "--workloads", "circles", "deep-1-w32", "--peers", "numpy", "--json", str(path)]
    assert cli.main([*arguments, "--plot", str(tmp_path / "depth.svg")] if _has_matplotlib() else arguments) == 0
    output = capsys.readouterr().out
    assert "us/step" in output and "circles" in output and "FMA peak" in output
    read = json.loads(path.read_text())
    assert {row["work"] for row in read["steps"]} == {"circles", "deep-1-w32"}
    assert "--quick --rounds 2" in read["command"] and read["settings"]["baseline"] == "minigrad"


def _has_matplotlib() -> bool:
    return Contestant("", "", package="matplotlib").installed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workloads", "resnet"], "no workload matches 'resnet'"),
        (["--peers", "tinygrad"], "no contestant"),
        (["--threads", "4096"], "--threads 4096 does not fit"),
        (["--threads", "0"], "--threads 0 does not fit"),
    ],
)
@pytest.mark.usefixtures("same_cores")
def test_nonsense_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().out


def test_missing_packages_are_skipped_with_a_reason() -> None:
    ghost = Contestant("ghost", "ghost_step", package="no_such_package")
    present, skipped = cli.choose(None, [ghost, CONTESTANTS[3]])
    assert skipped == {"ghost": "no_such_package is not installed"} and present[0].name == "numpy"


def test_an_overlooked_avx512_makes_a_second_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "better_openblas_core", lambda: "SkylakeX")
    present, _ = cli.choose(["numpy"], CONTESTANTS)
    assert [(c.name, dict(c.env)) for c in present] == [("numpy", {}), ("numpy SkylakeX", {"OPENBLAS_CORETYPE": "SkylakeX"})]
