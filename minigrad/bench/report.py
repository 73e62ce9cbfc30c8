"""Rows from samples, the table that people read, and the JSON file that tests and plots read."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minigrad.bench.timing import Samples
from minigrad.bench.workloads import Work, Workload

SCHEMA = 1
COLUMNS = ("", "us/step", "IQR", "ratio", "first call s", "samples/s", "GFLOP/s", "of peak", "")


@dataclass(frozen=True)
class Row:
    """One contestant on one piece of work. `ratio` is its time over the baseline's, None if the baseline did not run."""

    work: str
    depth: int
    contestant: str
    note: str
    median_us: float
    iqr_us: float
    ratio: float | None
    first_call_s: float
    samples_per_s: float
    gflops: float
    peak_share: float | None
    rounds: int
    calls: int
    steps_per_call: int
    losses: list[float]


def rows(work: Work, samples: dict[str, Samples], baseline: str, peak: float | None) -> list[Row]:
    """What the samples say about this piece of work; `peak` is that of all cores in use, in GFLOP/s."""
    base = samples.get(baseline)
    found = []
    for name, sample in samples.items():
        gflops = work.flops() / sample.median * 1e-9
        found.append(
            Row(
                work=work.name,
                depth=work.depth if isinstance(work, Workload) else 0,
                contestant=name,
                note=sample.start.note,
                median_us=sample.median * 1e6,
                iqr_us=sample.iqr * 1e6,
                ratio=sample.ratio(base) if base else None,
                first_call_s=sample.start.first_call_s,
                samples_per_s=work.samples / sample.median,
                gflops=gflops,
                peak_share=gflops / peak if peak else None,
                rounds=len(sample.seconds),
                calls=sample.calls,
                steps_per_call=sample.start.steps,
                losses=sample.start.losses,
            )
        )
    return found


def table(found: Sequence[Row]) -> str:
    """The rows of one piece of work, in columns."""
    lines = [COLUMNS] + [
        (
            row.contestant,
            f"{row.median_us:,.1f}",
            f"{row.iqr_us:,.1f}",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.first_call_s:.3f}",
            f"{row.samples_per_s:,.0f}",
            f"{row.gflops:.3g}",
            "-" if row.peak_share is None else f"{row.peak_share:.1%}",
            row.note,
        )
        for row in found
    ]
    # Names and notes to the left, figures to the right
    formats = [f"{'<' if i in (0, len(COLUMNS) - 1) else '>'}{max(map(len, column))}" for i, column in enumerate(zip(*lines, strict=True))]
    return "\n".join("  ".join(map(format, line, formats)).rstrip() for line in lines)


def document(
    steps: Sequence[Row], products: Sequence[Row], *, machine: dict[str, Any], command: str, settings: dict[str, Any], skipped: dict[str, str]
) -> dict[str, Any]:
    """The JSON file's content. The baseline's name, rounds, cores and the like are in `settings`."""
    return {
        "schema": SCHEMA,
        "command": command,
        "machine": machine,
        "settings": settings,
        "skipped": skipped,
        "steps": [asdict(row) for row in steps],
        "products": [asdict(row) for row in products],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)
