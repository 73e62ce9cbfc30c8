"""What a captured step tells about itself."""
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


def deep_step(layers: int = 12) -> Callable[[Any], Any]:
    mg.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.GELU()) for _ in range(layers)])
    opt = optim.SGD(model.parameters(), lr=0.01)

    def step(x: Any) -> Any:
        opt.zero_grad()
        loss = model(x).sum()
        loss.backward()
        opt.step()
        return loss

    return step


X = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)


def test_totals_are_those_of_the_rows() -> None:
    step = mg.capture(deep_step())
    step.repeat(3, X)
    (recording,) = step.explain().recordings
    rows = recording.rows
    assert recording.flops.sum() == sum(row.flops for row in rows) and len(recording.nbytes) == len(rows)
    assert f"{recording.nbytes.sum():,} bytes read and written" in recording.title and f"{step.nbytes:,} in all" in recording.title
    linear = next(row for row in rows if row.op == "linear")
    assert linear.nbytes == 4 * (256 * 64 + 64 * 64 + 64 + 256 * 64) and linear.module == "0.0" and linear.line.startswith("test_explain.py")


def test_calls_of_a_chain_share_a_number() -> None:
    step = mg.capture(deep_step())
    step.repeat(3, X)
    rows = step.explain().recordings[0].rows
    counts = np.bincount([row.instruction for row in rows])
    assert [row.chained for row in rows] == [counts[row.instruction] > 1 for row in rows]
    assert ("tanh", "gelu") in {(a.op, b.op) for a, b in pairwise(rows) if a.instruction == b.instruction}
    assert sum(row.chained for row in rows) > 0 and "chain" in repr(step.explain())


def test_what_memory_budget_computes_again_is_marked() -> None:
    plain, saving = mg.capture(deep_step()), mg.capture(deep_step(), memory_budget="1MB")
    plain.repeat(3, X)
    saving.repeat(3, X)
    (before,), (after,) = plain.explain().recordings, saving.explain().recordings
    assert not any(row.again for row in before.rows) and "again" not in repr(plain.explain())
    assert len(after.rows) - sum(row.again for row in after.rows) == len(before.rows)
    assert "computed again" in repr(saving.explain()) and {row.op for row in after.rows if row.again} <= {"linear", "tanh", "gelu"}


def test_before_there_is_a_program_it_says_so() -> None:
    step = mg.capture(deep_step(1))
    assert repr(step.explain()) == "step: 0 signatures"
    step(X)
    assert "run eagerly once, not replayed yet" in repr(step.explain()) and step.explain().recordings[0].rows == []
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="call the step twice first"):
        step.explain().plot()


def test_a_notebook_gets_tables_of_bounded_length_with_everything_escaped() -> None:
    step = mg.capture(deep_step(80))
    step.__name__ = "<step>"
    step.repeat(3, X)
    html = step.explain()._repr_html_()
    assert html.startswith("<p>&lt;step&gt;: 1 signature</p>") and html.count("<tr>") == 202 and "<step>" not in html


def test_the_picture_has_a_bar_for_each_op() -> None:
    pytest.importorskip("matplotlib")
    step = mg.capture(deep_step(2))
    step.repeat(3, X)
    figure: Any = step.explain().plot()
    figure.draw_without_rendering()
    rows = step.explain().recordings[0].rows
    operations, memory = figure.axes
    assert [text.get_text() for text in operations.get_yticklabels()] == list(dict.fromkeys(row.op for row in rows))[::-1]
    assert sum(bar.get_width() for bar in operations.patches) == sum(row.flops for row in rows)
    assert sum(bar.get_width() for bar in memory.patches) == sum(row.nbytes for row in rows)
    assert operations.get_xlabel().endswith("(FLOP)") and memory.get_xlabel().endswith("(bytes)") and operations.get_ylabel()
