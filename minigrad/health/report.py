"""A training in one HTML file that needs nothing else: pictures, tables, a diagnosis."""
from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from minigrad import display
from minigrad.files import replacing
from minigrad.health import plots
from minigrad.health.telemetry import SYMBOLS, Telemetry
from minigrad.health.watch import Watch

DPI: Final = 110  # of the pictures
LEAST: Final = 62  # pixels an inch of a picture on a small screen
SHOWN: Final = 40  # lines of a table
STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }
figure { margin: 1rem 0; overflow-x: auto; } img { width: 100%; height: auto; } figcaption { color: #555; font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee; } th { background: #f5f5f5; }
td:first-child, th:first-child { text-align: left; } pre { overflow-x: auto; background: #f5f5f5; padding: .6rem; font-size: .85rem; }
"""


def report(path: str | os.PathLike[str] | None = None, *, telemetry: Telemetry | Watch | None = None, history: Any = None, diagnosis: Any = None,
           model: Any = None, title: str | None = None) -> None:
    """Write one HTML file with everything given: pictures inside, no reference to anything outside, readable on a phone.

    Args:
        path: always needed, with the suffix .html or .htm; a file of that name is replaced when the new one is complete.
        telemetry: what `mg.watch` recorded; its pictures and the figures of the last recorded step.
        history: of `Trainer.fit`, a dict with "loss", or an array of losses by step; what a History has of telemetry is used where none is given.
        diagnosis: what `mg.diagnose` said.
        model: whose structure is to be shown.
        title: "Training report" unless given.

    Needs matplotlib. Raises ValueError for another suffix, or where nothing is given, or nothing was recorded, TypeError without a path, and
    ImportError without matplotlib, before anything is written; FileNotFoundError where the folder is missing.
    """
    if not isinstance(path, str | os.PathLike):
        came = "no path" if path is None else f"a {type(path).__name__} as path"
        raise TypeError(f'report: got {came}: say first where to write, then by name what: mg.report("training.html", history=history)')
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"report: {os.fspath(path)!r} does not end with .html or .htm, which a browser needs to show it")
    if telemetry is None:
        telemetry = getattr(history, "telemetry", None)
    if isinstance(telemetry, Watch):
        telemetry = telemetry.telemetry
    heading = title or "Training report"
    parts: list[str] = []
    if diagnosis is not None:
        parts += ["<h2>Diagnosis</h2>", _shown(diagnosis)]
        if hasattr(diagnosis, "plot"):
            parts.append(_picture(diagnosis.plot(), "What was diagnosed, as a picture"))
    if history is not None:
        parts += ["<h2>Loss</h2>", _picture(plots.loss(history), "Loss")]
        parts += [_shown(history)] if hasattr(history, "_repr_html_") else []
    if telemetry is not None and len(telemetry):
        parts += _of_telemetry(telemetry)
    if model is not None:
        parts += ["<h2>Model</h2>", f"<pre>{escape(repr(model))}</pre>"]
    if not parts:
        raise ValueError("report: nothing to report: give telemetry, history, diagnosis or model, and let one step be recorded first")
    text = (f"<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"\n<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(heading)}</h1>\n"
            + "\n".join(parts) + "\n</body>\n</html>\n")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _of_telemetry(telemetry: Telemetry) -> Sequence[str]:
    """Every picture whose figures were recorded, and the table of the last step."""
    there = {(key.kind, key.figure) for key in telemetry.figures}
    parts = [f"<p>{escape(repr(telemetry))}</p>"]
    if there & {("signal", "rms"), ("flow", "rms"), ("grad", "l2")}:
        parts += ["<h2>From the input to the output</h2>",
                  _picture(plots.gradient_flow(telemetry), "Signal, gradient and weight gradient by layer, at the first and the last recorded step")]
    maps = [(kind, figure) for kind, figure in (("flow", "rms"), ("signal", "rms"), ("grad", "l2")) if (kind, figure) in there]
    parts += ["<h2>By layer and step</h2>"] * bool(maps)
    parts += [_picture(plots.heat_map(telemetry, *pair), f"{telemetry.label(*pair)} by layer and step") for pair in maps]
    kinds = [kind for kind in ("grad", "weight", "signal") if {(kind, "mean"), (kind, "std")} <= there]
    rest = plots.rest(telemetry)
    parts += ["<h2>Over time</h2>"] * bool(kinds or rest or ("update", "ratio") in there)
    if ("update", "ratio") in there:
        parts.append(_picture(plots.update_ratio(telemetry), "Size of updates beside the size of weights"))
    parts += [_picture(plots.over_time(telemetry, kind), f"Mean and standard deviation of {SYMBOLS[kind]} by step")
              for kind in kinds]
    parts += [_picture(plots.over_time(telemetry, *pair), f"{telemetry.label(*pair)} by step") for pair in rest]
    head, lines = telemetry.rows()
    return [*parts, f"<h2>Step {telemetry.steps[-1]}</h2>", f"<div class='wide'>{display.table(head, lines, SHOWN)}</div>"]


def _shown(thing: Any) -> str:
    """As a notebook shows it, scrolling by itself where the screen is narrow."""
    return f"<div class='wide'>{thing._repr_html_()}</div>"


def _picture(figure: Any, caption: str) -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    text = base64.b64encode(written.getvalue()).decode()
    # Narrower than that, letters could not be read: on a small screen a wide picture scrolls.
    least, most = figure.get_figwidth() * LEAST, figure.get_figwidth() * DPI
    return (f"<figure><img style='min-width: {least:.0f}px; max-width: {most:.0f}px' src='data:image/png;base64,{text}' alt='{escape(caption)}'>"
            f"<figcaption>{escape(caption)}</figcaption></figure>")
