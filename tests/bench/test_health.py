"""What a recording costs is measured beside the same step without one, on the same net."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

import minigrad as mg
from minigrad.bench import cli, health
from minigrad.bench.workloads import select
from minigrad.tape import observe


@pytest.mark.parametrize("run", health.RUNS)
def test_every_variant_is_timed_and_nothing_goes_on_afterwards(run: str) -> None:
    (workload,) = select(["xor-deep"])
    found = health.costs(workload, run, rounds=2)
    assert [one.variant for one in found] == list(health.VARIANTS)
    assert found[0].added == 0 and all(one.median_us > 0 and one.rounds == 2 and one.run == run for one in found)
    assert observe.active == []


def test_a_run_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigrad.bench.timing.pin", lambda cores: True)
    threads = mg.get_num_threads()
    try:
        assert cli.main(["--health", "--rounds", "1", "--workloads", "xor-deep", "--json", str(tmp_path / "health.json")]) == 0
    finally:
        mg.set_num_threads(threads)
    written = json.loads((tmp_path / "health.json").read_text())
    assert {(one["run"], one["variant"]) for one in written["costs"]} == {(run, variant) for run in health.RUNS for variant in health.VARIANTS}
    assert "each 4th recorded" in capsys.readouterr().out
