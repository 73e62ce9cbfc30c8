"""The tables of docs/ops.md from what is declared: `python docs/list_ops.py`. tests/test_ops_page.py compares them."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import minigrad as mg
from minigrad.nn import functional
from minigrad.ops.op import Op, registry

PAGE: Final = Path(__file__).with_name("ops.md")
#: Headings of the first table's parts, by the module that declares a function.
PARTS: Final = {
    "Arithmetic and elementary functions": ("ops.elementwise", "ops.maths", "ops.powers", "tape.elementary"),
    "Comparisons, logic, bits": ("ops.compare",),
    "Reductions": ("tape.reducing", "ops.statistics", "ops.extrema", "ops.cumulative", "ops.reduce"),
    "Products": ("ops.matmul", "tape.products", "tape.contraction"),
    "Shapes, joining, indexing": ("tape.arranging", "ops.shape", "ops.joining", "ops.indexing", "tape.indexing"),
    "Making Tensors": ("tape.creation", "tape.tensor", "tape.conversion"),
    "Random numbers": ("tape.random",),
    "Activations and losses": ("nn.functional", "nn.objectives", "ops.activations", "ops.losses", "ops.softmax", "ops.normalize",
                               "ops.normalize_rows", "ops.random", "nn.dropout", "nn.normalization"),
    "The rest": (),  # of the ops and the tape
}
#: What `nn.functional` imports for itself.
INTERNAL: Final = {("F", "cast"), ("F", "overwrite")}


def begin(part: str) -> str:
    """The marker before a table."""
    return f"<!-- {part} -->\n"


END: Final = "<!-- / -->"


def signature(function: Any) -> str:
    """Names and defaults, without types."""
    if isinstance(function, Op):
        fixed = [name if value is inspect.Parameter.empty else f"{name}={shown(value)}" for name, value in function.defaults.items()]
        return ", ".join([*function.inputs, *(["*", *fixed] if fixed else [])])
    given = inspect.signature(function)
    if any(p.kind is p.VAR_KEYWORD for p in given.parameters.values()):  # it hands on what it gets to the method
        given = inspect.signature(getattr(mg.Tensor, function.__name__))
    plain = [p.replace(name="x" if p.name == "self" else p.name, annotation=p.empty, default=p.default if p.default is p.empty else Shown(p.default))
             for p in given.parameters.values()]
    return str(inspect.Signature(plain))[1:-1]


class Shown:
    """A default as it is written."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return shown(self.value)


def shown(value: object) -> str:
    """A default value."""
    return getattr(value, "name", None) or repr(value)


def effect(function: Any) -> str:
    """The first line of what it says of itself."""
    return (inspect.getdoc(function) or "").partition("\n")[0].replace("|", "\\|")


def public() -> Iterator[tuple[str, str, Any]]:
    """Each function of Tensors that is offered: its part, its name, itself. Of aliases all names together."""
    names: dict[int, list[str]] = {}
    found: dict[int, Any] = {}
    for prefix, module in (("mg", mg), ("F", functional)):
        for name, value in vars(module).items():
            if not name.startswith("_") and (isinstance(value, Op) or inspect.isfunction(value)) and (prefix, name) not in INTERNAL:
                names.setdefault(id(value), []).append(f"{prefix}.{name}")
                found[id(value)] = value
    for key, value in found.items():
        module = value.__module__.removeprefix("minigrad.")
        part = next((part for part, modules in PARTS.items() if module in modules), "The rest" if module.startswith(("ops.", "tape.")) else None)
        if part is not None:
            yield part, ", ".join(f"`{name}`" for name in names[key]), value


def tables() -> dict[str, str]:
    """Each table by its marker."""
    made = {part: ["| function | arguments | effect |", "|---|---|---|"] for part in PARTS}
    for part, names, function in sorted(public(), key=lambda entry: entry[1].lower()):
        made[part].append(f"| {names} | `{signature(function)}` | {effect(function)} |")
    rows = ["| op | arguments | gradient for | effect |", "|---|---|---|---|"]
    for name, one in sorted(registry.items()):
        wrt = ", ".join(f"`{x}`" for i, x in enumerate(one.inputs) if one.differentiable >> i & 1)
        rows.append(f"| `{name}` | `{signature(one)}` | {wrt} | {effect(one)} |")
    return {part: "\n".join(lines) + "\n" for part, lines in (made | {"Every op": rows}).items()}


def rewritten(text: str) -> str:
    """The page with these tables between its markers. Raises ValueError for a page without one of them."""
    for part, table in tables().items():
        before, marker, rest = text.partition(begin(part))
        _, end, after = rest.partition(END)
        if not marker or not end:
            raise ValueError(f"{PAGE.name} has no {begin(part).strip()} ... {END}")
        text = before + marker + table + end + after
    return text


def main() -> None:
    """Write the page."""
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
