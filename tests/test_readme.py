"""The README and the pages under docs keep their word: code runs and prints what they show, figures are the bench's, links lead somewhere."""
from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "README.md"]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Maps of one hue or of even lightness, which colour-blind readers and grey prints tell apart.
SAFE_MAPS = {"cividis", "viridis", "magma", "inferno", "plasma", "gray", "gray_r"}


def examples(text: str) -> list[tuple[int, str, str]]:
    """Each block of Python: its line in the page, the code, and what the block of text right behind it shows."""
    found = []
    blocks = list(BLOCK.finditer(text))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] == "python":
            shown = following and following[1] == "text" and not text[block.end():following.start()].strip()
            found.append((text[:block.start(2)].count("\n") + 1, block[2], following[2] if following and shown else ""))
    return found


def headings(text: str) -> set[str]:
    """The anchors that a page offers."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in BLOCK.sub("", text).splitlines() if line.startswith("#")}


@pytest.fixture(scope="module")
def figures() -> Any:
    """The script bench/readme.py as a module."""
    pytest.importorskip("matplotlib")
    return importlib.import_module("bench.readme")


@pytest.fixture(scope="module")
def drawn(figures: Any) -> Any:
    """The README's picture, laid out."""
    figure = figures.first_screen(figures.load(figures.STEPS), figures.load(figures.DEMO))
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_prints_what_the_page_shows(page: Path) -> None:
    """All blocks of a page in order, in one namespace; a block without output prints nothing."""
    pytest.importorskip("sklearn")
    scope: dict[str, Any] = {"__name__": "example"}
    for line, code, shown in examples(page.read_text()):
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "example.py", "exec"), scope)
        except Exception as error:
            error.add_note(f"in the block at {page.name}:{line}")
            raise
        assert printed.getvalue() == shown, f"the block at {page.name}:{line}"


def test_the_captured_step_is_twelve_lines() -> None:
    _, code, _ = examples(README.read_text())[0]
    assert "@mg.capture" in code and len([line for line in code.splitlines() if line]) == 12


def test_the_table_is_what_the_bench_wrote(figures: Any) -> None:
    text = README.read_text()
    assert text == figures.rewritten(text, figures.table(figures.results())), "run python bench/readme.py"
    page = figures.WATCH.read_text()
    assert page == figures.rewritten(page, figures.costs(figures.load(figures.HEALTH))), "run python bench/readme.py"


def test_the_table_has_a_row_for_the_worst(figures: Any) -> None:
    pairs = figures.pairs(figures.step_rows(figures.results()), figures.product_rows(figures.results()))
    assert len(pairs) == 5
    ratios = [figures.ratio(pair) for pair in pairs]
    assert min(ratios) == ratios[-1]


def test_no_row_stands_twice_when_one_of_the_first_is_the_worst(figures: Any) -> None:
    found = figures.step_rows(figures.load(figures.STEPS))
    own, peer = figures.pairs(found, [])[0]
    slow = dataclasses.replace(own, median_us=own.median_us * 1e6)
    pairs = figures.pairs([slow if row == own else row for row in found], [])
    assert len(pairs) == 5 and pairs[-1] == (slow, peer) and slow not in [one for one, _ in pairs[:-1]]


def test_a_wrong_figure_is_noticed(figures: Any) -> None:
    steps = figures.results()
    before = figures.table(steps)
    own, _ = figures.pairs(figures.step_rows(steps), figures.product_rows(steps))[0]
    changed = [row | {"median_us": row["median_us"] * 1.1} if (row["work"], row["contestant"]) == (own.work, own.contestant) else row
               for row in steps["steps"]]
    assert figures.table(steps | {"steps": changed}) != before


def test_a_readme_without_markers_is_refused(figures: Any) -> None:
    with pytest.raises(ValueError, match="figures"):
        figures.rewritten("# minigrad\n", "")


def test_the_picture_was_drawn_from_these_figures(figures: Any) -> None:
    assert figures.digest().encode() in figures.PICTURE.read_bytes(), "run python bench/readme.py"


def test_axes_of_the_picture_have_labels_with_units(drawn: Any) -> None:
    throughput, *flow = [axis for axis in drawn.axes if axis.get_label() != "<colorbar>"]
    (scale,) = [axis for axis in drawn.axes if axis.get_label() == "<colorbar>"]
    assert throughput.get_xscale() == throughput.get_yscale() == "log" and "samples/s" in throughput.get_ylabel()
    # The two maps share their vertical axis
    labels = [throughput.get_xlabel(), throughput.get_ylabel(), flow[0].get_ylabel(), scale.get_xlabel(), *(axis.get_xlabel() for axis in flow)]
    assert len(flow) == 2 and all(re.fullmatch(r"\w.* \(.+\)", label) for label in labels), labels
    assert all(axis.get_title() for axis in (throughput, *flow))


def test_the_legend_of_the_picture_covers_no_data(drawn: Any) -> None:
    (legend,) = [legend for part in drawn.subfigs for legend in part.legends]
    box = legend.get_window_extent()
    assert not any(box.overlaps(axis.get_tightbbox()) for axis in drawn.axes)
    shown = [text.get_text() for text in legend.get_texts()]
    assert {text.partition(":")[0] for text in shown} >= {"minigrad, repeat", "minigrad, a call a step"}
    assert all(re.search(r": \d+\.\d+ s$", text) for text in shown), "every contestant's first call is told"
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1


def test_the_maps_of_the_picture_share_a_safe_scale(drawn: Any) -> None:
    meshes = [axis.collections[0] for axis in drawn.axes if axis.get_label() != "<colorbar>" and axis.collections]
    assert len(meshes) == 2 and {mesh.get_cmap().name for mesh in meshes} <= SAFE_MAPS
    assert len({(type(mesh.norm).__name__, mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes}) == 1
    assert type(meshes[0].norm).__name__ == "LogNorm"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "/".join(page.parts[-2:]))
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links {target}"
        assert not anchor or anchor in headings(linked.read_text()), f"{page.name} links {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    text = README.read_text()
    assert [page.name for page in PAGES[1:] if f"]({page.relative_to(ROOT)})" not in text] == []


def test_the_two_commands_are_those_of_ci() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source distribution holds no .ci")
    (commands,) = [block[2].splitlines() for block in BLOCK.finditer(README.read_text()) if block[1] == "sh" and "pytest" in block[2]]
    assert commands == ['pip install ".[all]" && python -m minigrad demo', 'pip install ".[all,dev]" && python -m pytest -n 2']
    steps = script.read_text().splitlines()
    assert any(line.startswith("step python -m pip install") and line.endswith('".[all,dev]"') for line in steps)
    assert "step python -m pytest -n 2" in steps
