from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigrad.bench import report
from minigrad.bench.machine import Peak, describe
from minigrad.bench.report import Row
from minigrad.bench.timing import Samples
from minigrad.bench.worker import Start
from minigrad.bench.workloads import select

WORK = select(["deep-10-w32"])[0]


def rows(baseline: str = "minigrad") -> list[Row]:
    samples = {
        "minigrad": Samples(Start([1.0], 1, 0.01, ""), 10, [1e-3, 1e-3, 1e-3]),
        "torch": Samples(Start([1.0], 1, 0.5, "fused"), 2, [4e-3, 5e-3, 9e-3]),
    }
    return report.rows(WORK, samples, baseline, 200.0)


def test_rows() -> None:
    ours, torch = rows()
    assert torch.median_us == pytest.approx(5000)
    assert torch.iqr_us == pytest.approx(2500)
    assert torch.ratio == pytest.approx(5)
    assert ours.samples_per_s == pytest.approx(32_000)
    assert ours.gflops == pytest.approx(WORK.flops() / 1e-3 * 1e-9)
    assert ours.peak_share == pytest.approx(ours.gflops / 200)
    assert (torch.first_call_s, torch.note, torch.depth) == (0.5, "fused", 10)


def test_table() -> None:
    lines = report.table(rows()).splitlines()
    assert lines[0].split() == ["us/step", "IQR", "ratio", "first", "call", "s", "samples/s", "GFLOP/s", "of", "peak"]
    assert lines[1].split()[:5] == ["minigrad", "1,000.0", "0.0", "1.00", "0.010"]
    assert lines[2].split()[:4] == ["torch", "5,000.0", "2,500.0", "5.00"] and lines[2].endswith("fused")
    end = lines[0].index("us/step") + len("us/step")
    assert all(line[end - 1].isalnum() and line[end] == " " for line in lines)


def test_table_without_baseline_or_peak() -> None:
    found = report.rows(WORK, {"numpy": Samples(Start([], 1, 0.1, ""), 1, [1e-3])}, "minigrad", None)
    assert found[0].ratio is None and found[0].peak_share is None
    assert report.table(found).splitlines()[1].split()[3] == "-"


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "steps.json"
    about = describe([0], Peak(200.0, 201.0))
    content = report.document(rows(), [], machine=about, command="bench", settings={"rounds": 3}, skipped={"jax": "jax is not installed"})
    report.write_json(path, content)
    read = json.loads(path.read_text())
    assert list(path.parent.iterdir()) == [path]
    assert set(read) == {"schema", "command", "machine", "settings", "skipped", "steps", "products"}
    assert {"cpu", "features", "versions", "commit", "fma_peak_gflops", "openblas_core", "pinned_cores"} <= set(read["machine"])
    assert [Row(**row) for row in read["steps"]] == rows()


def test_json_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    report.write_json(path, {"schema": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_json(path, {"figure": float("nan")})
    assert json.loads(path.read_text()) == {"schema": 1}
