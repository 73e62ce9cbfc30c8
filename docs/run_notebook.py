"""Run the cells of docs/tutorial.ipynb in order and store what they show: `python docs/run_notebook.py`. tests/test_notebook.py compares it."""
from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
from pathlib import Path
from typing import Any, Final

TUTORIAL: Final = Path(__file__).with_name("tutorial.ipynb")


def load(path: Path = TUTORIAL) -> dict[str, Any]:
    """A notebook of format 4."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def source(cell: dict[str, Any]) -> str:
    """A cell's text."""
    return "".join(cell["source"])


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The outputs of each cell of code, all run in one new namespace; an error names the cell."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), start=1):
        try:
            found.append(outputs(source(cell), number, scope))
        except Exception as error:
            error.add_note(f"in cell {number} of the notebook")
            raise
    return found


def outputs(code: str, number: int, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What a notebook shows of a cell: what it printed, and its last expression's value in every form that the value offers."""
    name = f"cell {number}"
    body = ast.parse(code, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), name, "exec"), scope)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), scope)
    shown: list[dict[str, Any]] = []
    if printed.getvalue():
        shown.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if value is not None:
        shown.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": forms(value)})
    return shown


def forms(value: Any) -> dict[str, Any]:
    """A value as text, and as HTML or a picture where it can be."""
    made: dict[str, Any] = {}
    if hasattr(value, "_repr_png_"):
        made["image/png"] = base64.b64encode(value._repr_png_()).decode()
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()) is not None:
        made["text/html"] = lines(html)
    return made | {"text/plain": lines(repr(value))}


def lines(text: str) -> list[str]:
    """As notebooks keep text."""
    return text.splitlines(keepends=True)


def main() -> None:
    """Write the outputs into the file."""
    notebook = load()
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, shown) in enumerate(zip(cells, run(notebook), strict=True), start=1):
        cell["execution_count"], cell["outputs"] = number, shown
    TUTORIAL.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"ran {len(cells)} cells of {TUTORIAL.name}")


if __name__ == "__main__":
    main()
