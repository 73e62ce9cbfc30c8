"""What the lab leaves on the disk: a page to look at and the same as JSON, both whole or not at all, and a PNG file for each figure."""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from minigrad import display
from minigrad.files import replacing
from minigrad.lab import figures
from minigrad.lab.experiment import Check, Experiment, Lab, Picture, Table

PAGE: Final = "index.html"
RESULTS: Final = "lab.json"
#: What became of an experiment, in words.
PASSED, FAILED, RAISED, INTERRUPTED, REHEARSED = "passed", "failed", "stopped by an error", "interrupted", "rehearsed"
REHEARSAL: Final = "A rehearsal: a small scale, no check counts."
CHECKS: Final = ("", "what", "value", "wanted", "the range is from")
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; margin: .4rem 0 1.2rem; font-size: .9rem; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .machine { color: #555; font-size: .9rem; }
pre { overflow-x: auto; font-size: .85rem; background: #f6f6f6; padding: .6rem; }
.PASS { color: #00664b; font-weight: bold; }
.FAIL { color: #a63f00; font-weight: bold; }
"""


def entry(experiment: Experiment, lab: Lab, status: str, seconds: float, *, error: str, out: Path) -> dict[str, Any]:
    """One experiment for the JSON file; its figures are written into `out`."""
    return {"number": experiment.number, "name": experiment.name, "title": experiment.title, "status": status, "seconds": seconds,
            "error": error, "items": [_item(item, experiment, out) for item in lab.items]}


def _item(item: Any, experiment: Experiment, out: Path) -> dict[str, Any]:
    kind = type(item).__name__.lower()
    if isinstance(item, Picture):
        name = f"{experiment.name}-{item.name.removeprefix(f'{experiment.number}-')}.png"
        figures.save(item.figure, out / name)
        return {"kind": kind, "file": name, "caption": item.caption}
    if isinstance(item, Table):
        return {"kind": kind, "caption": item.caption, "head": list(item.head), "rows": [list(row) for row in item.rows]}
    fields: dict[str, Any] = item._asdict()
    return {"kind": kind, **fields}


def write(out: Path, report: Mapping[str, Any]) -> list[Path]:
    """Write page and JSON file; each takes the place of the one before when it is whole."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {RESULTS: json.dumps(report, indent=1, allow_nan=False) + "\n", PAGE: html(report)}
    for name, text in texts.items():
        with replacing(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [out / PAGE, out / RESULTS]


def counts(one: Mapping[str, Any]) -> str:
    """How many checks of an experiment passed, in words."""
    checks = [item for item in one["items"] if item["kind"] == Check.__name__.lower()]
    if one["status"] == REHEARSED:
        return f"{len(checks)} check{'s' * (len(checks) != 1)} made"
    return f"{sum(check['passed'] for check in checks)} of {len(checks)} checks passed"


def html(report: Mapping[str, Any]) -> str:
    """The page; it needs nothing but the PNG files beside it."""
    machine = ", ".join([report["platform"], f"{report['threads']} threads", *(f"{name} {version}" for name, version in report["versions"].items())])
    seconds = report["seconds"]
    lines = [[f"{one['number']} {one['name']}", one["title"], one["status"], counts(one), f"{one['seconds']:.1f}"] for one in report["experiments"]]
    rehearsal = f"<p>{REHEARSAL}</p>" if report["quick"] else ""
    return "".join([
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>minigrad lab</title><style>{STYLE}</style></head><body><h1>minigrad lab</h1>",
        f"<p><code>{escape(report['command'])}</code></p>{rehearsal}",
        _contents(("experiment", "", "", "", "time (s)"), lines, [one["name"] for one in report["experiments"]]),
        f"<p class='machine'>{escape(machine)}. {seconds['total']:.1f} s in all, {seconds['compiling']:.1f} s of them compiling.</p>\n",
        *(part for one in report["experiments"] for part in _section(one)), "</body></html>\n"])


def _contents(head: Sequence[str], lines: Sequence[Sequence[str]], anchors: Sequence[str]) -> str:
    table = display.table(head, lines)
    for line, anchor in zip(lines, anchors, strict=True):
        table = table.replace(f"<td>{escape(line[0])}</td>", f"<td><a href='#{escape(anchor)}'>{escape(line[0])}</a></td>", 1)
    return table


def _section(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2 id='{escape(one['name'])}'>{escape(one['number'])} {escape(one['title'])}</h2>\n"
    yield (f"<p>{escape(one['status'])}; {counts(one)}; {one['seconds']:.1f} s. "
           f"<code>python -m minigrad lab {escape(one['name'])}</code></p>\n")
    for kind, items in groupby(one["items"], key=lambda item: item["kind"]):
        if kind == "check":
            yield _checks(list(items), one["status"] == REHEARSED) + "\n"
            continue
        for item in items:
            yield _shown(kind, item) + "\n"
    if one["error"]:
        yield f"<pre>{escape(one['error'])}</pre>\n"


def _shown(kind: str, item: Mapping[str, Any]) -> str:
    if kind == "picture":
        caption = escape(item["caption"])
        return f"<figure><img src='{escape(item['file'])}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"
    if kind == "table":
        return (f"<p>{escape(item['caption'])}</p>" if item["caption"] else "") + display.table(item["head"], item["rows"])
    return f"<pre>{escape(item['words'])}</pre>" if "\n" in item["words"] else f"<p>{escape(item['words'])}</p>"


def _checks(checks: Sequence[Mapping[str, Any]], rehearsed: bool) -> str:
    table = display.table(CHECKS, [["" if rehearsed else "PASS" if check["passed"] else "FAIL", check["what"], check["value"], check["wanted"],
                                    check["source"]] for check in checks])
    return table.replace("<td>PASS</td>", "<td class='PASS'>PASS</td>").replace("<td>FAIL</td>", "<td class='FAIL'>FAIL</td>")
