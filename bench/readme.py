"""The README's table and picture, and docs/watch.md's, from what the bench and the demo wrote: `python bench/readme.py`.

It reads steps.json, products.json, health.json and demo.json in bench/results/, rewrites both pages between their two markers, and writes
docs/first-screen.png.
"""
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from minigrad.bench.plot import MARKERS, PALETTE, by_contestant
from minigrad.bench.report import Row
from minigrad.bench.workloads import select
from minigrad.lab.figures import COLOUR_MAP, grid, layer_ticks

ROOT: Final = Path(__file__).parents[1]
STEPS, PRODUCTS, HEALTH, DEMO = (ROOT / "bench/results" / name for name in ("steps.json", "products.json", "health.json", "demo.json"))
README, WATCH, PICTURE = ROOT / "README.md", ROOT / "docs/watch.md", ROOT / "docs/first-screen.png"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"

TITLES: Final = {
    "minigrad repeat": "minigrad, repeat", "minigrad": "minigrad, a call a step", "minigrad eager": "minigrad, eager",
    "numpy": "NumPy by hand", "numpy SkylakeX": "NumPy by hand, AVX-512 BLAS", "jax scan": "JAX, lax.scan", "jax flat": "JAX, jit, packed state",
    "jax": "JAX, jit", "torch": "PyTorch", "autograd": "autograd",
}
#: What a way to run minigrad is compared with, like with like: many steps in a call, a compiled or hand-written step, Python op by op.
COMPARED: Final = {
    "minigrad repeat": ("jax scan",),
    "minigrad": ("numpy*", "jax", "jax flat", "torch", "autograd"),
    "minigrad eager": ("torch", "autograd"),
}
#: What the table's first rows may be: workload, our way, and peers of which the quickest counts. The last row is the worst of all.
ROWS: Final = (
    ("xor-deep", "minigrad repeat", ("jax scan",)),
    ("deep-100-w32", "minigrad", ("jax", "jax flat")),
    ("deep-1000-w32", "minigrad", ("torch",)),
    ("mnist-mlp", "minigrad", ("torch",)),
    ("circles", "minigrad", ("jax", "jax flat")),
)
ROWS_SHOWN: Final = 5
PRODUCTS_OF: Final = {"y": "forward", "dw": "into the weight", "dx": "into the input"}
#: The two nets of the picture's right half.
NETS: Final = ("sigmoid", "residual relu")

Pair = tuple[Row, Row]


def load(path: Path) -> dict[str, Any]:
    """A JSON file of the bench or of the demo."""
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def results() -> dict[str, Any]:
    """The bench's training steps with machine, command and commit, and beside them its products."""
    return load(STEPS) | {"products": load(PRODUCTS)["products"]}


def step_rows(steps: Mapping[str, Any]) -> list[Row]:
    """The bench's training steps."""
    return [Row(**row) for row in steps["steps"]]


def product_rows(steps: Mapping[str, Any]) -> list[Row]:
    """The bench's matrix products."""
    return [Row(**row) for row in steps["products"]]


# ---- the table
def quickest(found: Sequence[Row], work: str, patterns: Sequence[str]) -> Row | None:
    """The fastest contestant with such a name on that work; None if none ran."""
    able = [row for row in found if row.work == work and any(fnmatchcase(row.contestant, pattern) for pattern in patterns)]
    return min(able, key=lambda row: row.median_us, default=None)


def pairs(found: Sequence[Row], products: Sequence[Row]) -> list[Pair]:
    """Ours and a peer's, for each row of the table; the last is where we do worst, like with like, on any workload or product."""
    chosen = []
    for work, ours, theirs in ROWS:
        own = quickest(found, work, [ours])
        peer = quickest(found, work, theirs) or quickest(found, work, COMPARED[ours])
        if own is None or peer is None:
            raise ValueError(f"{STEPS} holds no {ours} on {work}, or no peer: run python -m minigrad bench with all workloads")
        chosen.append((own, peer))
    every = [(row, peer) for rows in (found, products) for row in rows if row.contestant in COMPARED
             if (peer := quickest(rows, row.work, COMPARED[row.contestant])) is not None]
    worst = min(every, key=ratio)
    return [*[pair for pair in chosen if pair != worst][:ROWS_SHOWN - 1], worst]


def ratio(pair: Pair) -> float:
    """The peer's time over ours."""
    return pair[1].median_us / pair[0].median_us


def rounded(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def described(name: str) -> str:
    """A workload, or a product of mnist-mlp, in words."""
    product = re.fullmatch(r"(y|dw|dx) (\d+)x(\d+)x(\d+)", name)
    if product is not None:
        kind, m, k, n = product.groups()
        return f"`{name}`: one product of `mnist-mlp`, {PRODUCTS_OF[kind]}, ({m}, {k}) by ({k}, {n})"
    (work,) = select([name])
    kind = f"residual {work.activation}" if work.residual else work.activation
    layers = f"{work.depth} {kind} layer" + "s" * (work.depth > 1)
    return f"`{name}`: {layers} of width {max(work.widths[1:-1])}, batch {work.batch}"


def measured_on(steps: Mapping[str, Any]) -> str:
    """Machine, command and commit, in one line."""
    machine = steps["machine"]
    versions = machine["versions"]
    others = ", ".join(f"{title} {versions[name]}" for name, title in (("numpy", "NumPy"), ("numba", "Numba"), ("torch", "PyTorch"), ("jax", "JAX"))
                       if name in versions)
    cores = len(machine["pinned_cores"])
    commit = machine["commit"] or "of the installed wheel"
    changed = " with local changes" if commit.endswith("+") else ""
    return (f"{machine['cpu']}, {cores} core{'s' * (cores > 1)}, float32; Python {versions['python']}, {others}; "
            f"`{steps['command']}`; commit {commit.rstrip('+')[:12]}{changed}.")


def table(steps: Mapping[str, Any]) -> str:
    """What stands between the README's markers."""
    lines = ["| one training step | minigrad, µs | peer, µs | peer / minigrad | first call, s: minigrad, peer |", "|---|---|---|--:|---|"]
    for own, peer in pairs(step_rows(steps), product_rows(steps)):
        how = "the kernel" if " " in own.work else TITLES[own.contestant].partition(", ")[2]
        lines.append(f"| {described(own.work)} | {how}: {rounded(own.median_us)} "
                     f"| {TITLES.get(peer.contestant, peer.contestant)}: {rounded(peer.median_us)} "
                     f"| {rounded(ratio((own, peer)))} | {own.first_call_s:.3f}, {peer.first_call_s:.3f} |")
    return "\n".join([*lines, "", measured_on(steps), ""])


def costs(health: Mapping[str, Any]) -> str:
    """What stands between the markers of docs/watch.md."""
    found = {(row["work"], row["run"], row["variant"]): row for row in health["costs"]}
    lines = ["| one training step | run | µs | each step recorded | each 4th | without the guard |", "|---|---|--:|--:|--:|--:|"]
    for work, run in dict.fromkeys((work, run) for work, run, _ in found):
        plain, *others = [found[work, run, variant] for variant in ("plain", "recorded", "each 4th recorded", "unguarded")]
        added = " | ".join(f"{one['added']:+.1%}" for one in others)
        lines.append(f"| {described(work)} | {run} | {rounded(plain['median_us'])} | {added} |")
    return "\n".join([*lines, "", measured_on(health), ""])


def rewritten(text: str, figures: str) -> str:
    """A page with these figures between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN.strip()} ... {END}")
    return before + begin + figures + end + after


# ---- the picture
def first_screen(steps: Mapping[str, Any], demo: Mapping[str, Any]) -> Figure:
    """Left, throughput against depth; right, rms(dL/dh) by layer and training step for two nets that share a colour scale."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.1), wspace=0.03)
    draw_throughput(halves[0], step_rows(steps))
    draw_flow(halves[1], {name: demo["nets"][name] for name in NETS})
    return figure


def draw_throughput(figure: Any, found: Sequence[Row]) -> None:
    """A log-log line for each contestant but our eager mode; first calls are in the legend."""
    series = {name: line for name, line in by_contestant(found).items() if name != "minigrad eager"}
    common = min(line[-1].depth for line in series.values())
    axis = figure.subplots()
    # Ours in the palette's two strongest colours, whoever else took part
    for i, (name, line) in enumerate(series.items()):
        first = next(row.first_call_s for row in line if row.depth >= common)
        own = name.startswith("minigrad")
        axis.plot([row.depth for row in line], [row.samples_per_s for row in line], color=PALETTE[i], marker=MARKERS[i], markersize=5,
                  linewidth=2.5 if own else 1.3, zorder=3 if own else 2, label=f"{TITLES.get(name, name)}: {first:.3f} s")
    axis.set(xscale="log", yscale="log", title="Training throughput against depth",
             xlabel="depth (hidden layers of width 32, batch 32)", ylabel="throughput (samples/s)")
    depths = sorted({row.depth for line in series.values() for row in line})
    axis.set_xticks(depths, map(str, depths))
    axis.minorticks_off()
    grid(axis)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9,
                  title=f"first call at {common} layers, compilation included", title_fontsize=9)


def draw_flow(figure: Any, nets: Mapping[str, Any]) -> None:
    """A map for each net, from one colour bar."""
    axes = figure.subplots(1, len(nets), sharey=True)
    maps = {name: np.ma.masked_less_equal(np.array(net["flow"]["rms_dh"]).T, 0.0) for name, net in nets.items()}
    norm = LogNorm(min(values.min() for values in maps.values()), max(values.max() for values in maps.values()))
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        mesh = axis.pcolormesh(nets[name]["flow"]["step"], range(1, len(values) + 1), values, norm=norm, cmap=COLOUR_MAP, shading="nearest")
        axis.set(title=f"{name}\n{nets[name]['accuracy']:.1%} of held-out digits right", xlabel="training (steps)")
        layer_ticks(axis.yaxis, len(values))
        axis.locator_params(axis="x", nbins=4)
    axes[0].set_ylabel("place (layer; 1 is next to the input)")
    figure.colorbar(mesh, ax=axes, label="gradient that arrives, rms(dL/dh) (nats per unit of h)", location="bottom", aspect=40, shrink=0.9)


def digest() -> str:
    """Which figures a picture was drawn from; it stands in the PNG."""
    return hashlib.sha256(STEPS.read_bytes() + DEMO.read_bytes()).hexdigest()


def main() -> None:
    """Rewrite all."""
    steps = results()
    README.write_text(rewritten(README.read_text(), table(steps)))
    WATCH.write_text(rewritten(WATCH.read_text(), costs(load(HEALTH))))
    first_screen(steps, load(DEMO)).savefig(PICTURE, dpi=150, metadata={"Description": digest()})
    print(f"wrote {README.name}, {WATCH.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
