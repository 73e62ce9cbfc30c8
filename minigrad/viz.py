"""The graph behind a Tensor as a picture: ops, what went into them, shapes, and the modules that ran them."""
from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

from minigrad import display
from minigrad.errors import GraphError
from minigrad.files import replacing
from minigrad.nn.module import Module
from minigrad.ops.op import Op
from minigrad.tape.backward import reachable
from minigrad.tape.handle import Handle, address_of
from minigrad.tape.record import Record
from minigrad.tape.tensor import Tensor

#: Ops from which on repetitions are folded unless said otherwise.
LARGE: Final = 100
#: The longest repetition that is looked for, in ops, and how often it has to occur.
PERIOD: Final = 24
REPEATS: Final = 4
#: Of the drawing, in pixels: a character, a line, the space around text, between neighbours, between ranks, between lanes.
CHARACTER, LINE, PAD, GAP, BETWEEN, LANE = 7.0, 16.0, 9.0, 22.0, 34.0, 12.0
#: Fill and edge by kind of node; what the legend says of it.
LOOKS: Final = {"op": ("#EAF2FA", display.BLUE, "op"), "parameter": ("#FDF0E6", display.ORANGE, "needs a gradient"),
                "input": ("#F2F2F2", "#777777", "needs none"), "folded": ("#FFFFFF", "#000000", "repetitions")}


class Node(NamedTuple):
    """An op, a leaf that needs a gradient ("parameter"), one that needs none ("input"), or repetitions of ops ("folded")."""

    kind: str
    title: str  # the op's name, the leaf's
    path: str  # of the module that ran the op
    spec: str  # dtype and shape of what it gives
    mark: str = ""  # "view", or "in place" for a write into a part of a memory

    @property
    def lines(self) -> list[str]:
        """What is written on it; XML has no place for control characters."""
        title = f"{self.title} ({self.mark})" if self.mark else self.title
        written = [title, *([f"in {self.path}"] if self.path else []), self.spec]
        return ["".join([c if c.isprintable() else " " for c in line]) for line in written]


class Graph:
    """Nodes, each behind what goes into it, and edges as pairs of their numbers; `to_dot()`, `to_svg()`, `save(path)`; notebooks draw it."""

    def __init__(self, nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> None:
        self.nodes, self.edges = list(nodes), list(edges)

    def __repr__(self) -> str:
        kinds = [node.kind for node in self.nodes]
        found = ((kinds.count(kind), one, more) for kind, one, more in (
            ("op", "op", "ops"), ("parameter", "leaf that needs a gradient", "leaves that need gradients"),
            ("input", "leaf that needs none", "leaves that need none"), ("folded", "folded repetition", "folded repetitions")))
        return f"Graph({', '.join(f'{count} {one if count == 1 else more}' for count, one, more in found if count)})"

    def to_dot(self, groups: bool = False) -> str:
        """In Graphviz's language; with groups, the ops of one module in a frame."""
        lines = ["digraph {", '  node [fontname="sans-serif", fontsize=11, style=filled]']
        places: dict[str, list[str]] = {}
        for i, node in enumerate(self.nodes):
            fill, edge, _ = LOOKS[node.kind]
            shape = "box" if node.kind in ("op", "folded") else "ellipse"
            style = ', style="filled,dashed"' if node.mark == "view" or node.kind == "folded" else ', penwidth=2' if node.mark else ""
            label = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in node.lines)
            text = f'{i} [shape={shape}, fillcolor="{fill}", color="{edge}", label="{label}"{style}]'
            places.setdefault(node.path if groups else "", []).append(text)
        for i, (path, texts) in enumerate(places.items()):
            if path:
                quoted = path.replace("\\", "\\\\").replace('"', '\\"')
                lines += [f"  subgraph cluster_{i} {{", f'    label="{quoted}"', *[f"    {text}" for text in texts], "  }"]
            else:
                lines += [f"  {text}" for text in texts]
        return "\n".join([*lines, *[f"  {a} -> {b}" for a, b in self.edges], "}", ""])

    def to_svg(self) -> str:
        """A drawing from the inputs at the top to the result at the bottom; ops in boxes, leaves in ellipses, views dashed."""
        return _drawn(self.nodes, self.edges)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the format of the suffix, .svg or .dot. Raises ValueError for another."""
        suffix = Path(path).suffix
        if suffix not in (".svg", ".dot"):
            raise ValueError(f"Graph.save: {os.fspath(path)!r} ends with {suffix or 'no suffix'!r}, expected .svg or .dot")
        text = self.to_svg() if suffix == ".svg" else self.to_dot()
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def graph(tensor: Tensor, names: Module | Mapping[str, Tensor] | None = None, *, fold: bool | None = None) -> Graph:
    """The graph that backward would walk from `tensor`, whether its saved values are still right or not. Nothing is run or kept alive.

    Args:
        tensor: what was computed, such as a loss, before its backward freed the graph.
        names: what leaves are called: a Module, whose parameters and buffers are named by path, or Tensors by name.
        fold: draw a sequence of ops that repeats at least 4 times, such as equal layers, as its first and last turn and a count between
            them. Default: only in graphs of more than 100 ops.

    A write into a part of a memory is marked "in place"; one over all of a Tensor is an ordinary op in the graph. Raises GraphError for a
    Tensor without a graph, or one that was freed.
    """
    if not isinstance(tensor, Handle):
        raise TypeError(f"viz.graph: got a {type(tensor).__name__}, expected a Tensor, such as the loss")
    if tensor.record is None:
        why = ("it is a leaf, which no op has made" if tensor.needs_grad else
               "it needs no gradient, or it was made under no_grad(), or by a captured step")
        raise GraphError(f"viz.graph: the Tensor {tensor.spec!r} has no graph: {why}")
    records = reachable([tensor.record])[::-1]
    freed = next((record for record in records if record.kept is None), None)
    if freed is not None:
        raise GraphError(f"viz.graph: the graph was freed by a backward pass, at {freed.name}: draw it before, or pass retain_graph=True")
    known = dict(names or {}) if not isinstance(names, Module) else dict([*names.named_buffers(), *names.named_parameters()])
    strange = next((name for name, x in known.items() if not isinstance(x, Handle)), None)
    if strange is not None:
        raise TypeError(f"viz.graph: names[{strange!r}] is a {type(known[strange]).__name__}, expected a Tensor")
    nodes, inputs, ops = _nodes(records, tensor, {(x.address, x.spec): name for name, x in known.items()})
    whole = {i: i for i in range(len(nodes))}
    if len(ops) > LARGE if fold is None else fold:
        _fold(nodes, inputs, ops, whole)
    return _graph(nodes, inputs, whole)


# ---- reading the tape
def _nodes(records: Sequence[Record], tensor: Handle, known: Mapping[Any, str]) -> tuple[list[Node], list[list[int]], list[int]]:
    """Nodes, leaves before the first op that takes them; the inputs of each; and which are ops."""
    given = {tensor.record: tensor.spec}
    for record in records:
        given |= {parent: record.specs[i] for i, parent in enumerate(record.parents) if isinstance(parent, Record)}
    nodes: list[Node] = []
    inputs: list[list[int]] = []
    at: dict[Any, int] = {}

    def add(key: Any, node: Node, into: Sequence[int] = ()) -> int:
        if key not in at:
            at[key] = len(nodes)
            nodes.append(node)
            inputs.append(list(into))
        return at[key]

    for record in records:
        into = []
        for i, parent in enumerate(record.parents):
            spec = record.specs[i]
            if isinstance(parent, Record):
                into.append(at[parent])
            elif isinstance(parent, Handle):
                name = known.get((parent.address, parent.spec), "leaf")
                into.append(add(id(parent), Node("parameter", name, "", repr(spec))))
            elif spec is not None:  # of a Function's argument that is no Tensor it is None
                key = (record, i) if parent is None else (address_of(parent), spec)
                number = f"{parent.item():.4g}" if parent is not None and not spec.shape else "input"
                into.append(add(key, Node("input", known.get(key, number), "", repr(spec))))
        add(record, Node("op", record.op.name, record.path, repr(given[record]), _mark(record)), into)
    return nodes, inputs, [i for i, node in enumerate(nodes) if node.kind == "op"]


def _mark(record: Record) -> str:
    """Whether the op gives a view of its input, or stands for a write into a part of a memory."""
    if record.op.name in ("put_range", "put_strided"):
        return "in place"
    is_view = isinstance(record.op, Op) and record.op.plan(record.specs[:len(record.op.inputs)], record.attributes).alias is not None
    return "view" if is_view else ""


def _fold(nodes: list[Node], inputs: list[list[int]], ops: Sequence[int], whole: dict[int, int]) -> None:
    """Put one node in the place of the middle turns of each repetition; `whole` says which node stands for which."""
    order = {node: place for place, node in enumerate(ops)}
    kinds: dict[Any, int] = {}
    alike = []  # by op: a number that is the same for ops of one name, shape and origin of inputs, relative to itself
    for place, i in enumerate(ops):
        origins = tuple([place - order[j] if j in order else nodes[j].kind + nodes[j].spec for j in inputs[i]])
        alike.append(kinds.setdefault((nodes[i].title, nodes[i].spec, nodes[i].mark, origins), len(kinds)))
    runs = []  # each as minus the number of ops in it, its period, where it begins, so that the longest comes first
    for period in range(1, min(PERIOD, len(ops) // REPEATS) + 1):
        start = 0
        for place in range(len(ops) - period + 1):
            if place + period == len(ops) or alike[place] != alike[place + period]:
                turns = (place - start) // period + 1
                if turns >= REPEATS:
                    runs.append((-turns * period, period, start))
                start = place + 1
    covered = [False] * len(ops)
    for length, period, start in sorted(runs):
        if any(covered[start:start - length]):
            continue
        covered[start:start - length] = [True] * -length
        middle = ops[start + period:start - length - period]
        times = f"{len(middle) // period:,} times more"
        inside = f"{nodes[middle[0]].path} ... {nodes[middle[-1]].path}" if nodes[middle[0]].path else ""
        whole |= dict.fromkeys(middle, len(nodes)) | {len(nodes): len(nodes)}
        nodes.append(Node("folded", f"{times}: {period} ops" if period > 1 else times, inside, nodes[middle[-1]].spec))
        inputs.append([])


def _graph(nodes: list[Node], inputs: list[list[int]], whole: Mapping[int, int]) -> Graph:
    """The graph of what stands for all: in an order in which each comes behind its inputs, without leaves that only folded ops take."""
    folded = {i for i, node in enumerate(nodes) if node.kind == "folded"}
    edges = {(whole[j], whole[i]): None for i, into in enumerate(inputs) for j in into if whole[j] != whole[i]}
    used = {a for a, b in edges if b not in folded}
    edges = {(a, b): None for a, b in edges if b not in folded or nodes[a].kind in ("op", "folded") or a in used}
    shown = {node for edge in edges for node in edge} or {whole[len(nodes) - 1]}
    # A folded node comes where the first op that it stands for came.
    first: dict[int, int] = {}
    for i in range(len(nodes)):
        first.setdefault(whole[i], i)
    order = {node: place for place, node in enumerate(sorted(shown, key=first.__getitem__))}
    return Graph([nodes[node] for node in order], sorted((order[a], order[b]) for a, b in edges))


# ---- drawing
class _Box(NamedTuple):
    """Where a node is: its centre, width and height."""

    x: float
    y: float
    width: float
    height: float


def _size(node: Node) -> tuple[float, float]:
    wide = 1.0 if node.kind in ("op", "folded") else 1.3  # an ellipse narrows above and below
    return max(1.1 * len(node.lines[0]), *map(len, node.lines[1:])) * CHARACTER * wide + 2 * PAD, len(node.lines) * LINE * (wide + 1) / 2 + 2 * PAD


def _ranks(nodes: Sequence[Node], into: Sequence[Sequence[int]], out: Sequence[Sequence[int]]) -> list[int]:
    """Ops as far down as their longest way from a leaf, leaves right above the first op that takes them."""
    ranks = [0] * len(nodes)
    for i, node in enumerate(nodes):
        if node.kind in ("op", "folded"):
            ranks[i] = max((ranks[j] for j in into[i] if into[j] or nodes[j].kind == "op"), default=0) + 1
    for i, node in enumerate(nodes):
        if node.kind not in ("op", "folded") and out[i]:
            ranks[i] = min(ranks[j] for j in out[i]) - 1
    return ranks


def _placed(nodes: Sequence[Node], into: Sequence[Sequence[int]], out: Sequence[Sequence[int]], ranks: Sequence[int]) -> list[_Box]:
    """Rank by rank: an op below the ops that it takes, leaves to the left of the way to the op that takes them."""
    rows: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for i, rank in enumerate(ranks):
        rows[rank].append(i)
    sizes = [_size(node) for node in nodes]
    x = [0.0] * len(nodes)
    is_op = [node.kind in ("op", "folded") for node in nodes]
    boxes: list[_Box] = [_Box(0, 0, 0, 0)] * len(nodes)
    top = 2 * LINE + BETWEEN
    for row in rows:
        wanted: dict[int, float] = {}
        left: dict[int, float] = {}  # by op below: how far leaves already reach to the left of its way
        for i in row:
            if is_op[i]:
                above = [x[j] for j in into[i] if is_op[j]]
                wanted[i] = sum(above) / len(above) if above else sum(x[j] for j in into[i][:1])
        for i in row:
            if is_op[i]:
                continue
            below = out[i][0] if out[i] else i
            above = [wanted.get(j, x[j]) for j in into[below] if is_op[j]]
            centre = sum(above) / len(above) if above else 0.0
            if below not in left:
                beside = max((sizes[j][0] for j in into[below] if is_op[j] and j in wanted), default=0.0)
                left[below] = centre - beside / 2 if above else centre + sizes[i][0] / 2 + GAP
            wanted[i] = left[below] - GAP - sizes[i][0] / 2
            left[below] = wanted[i] - sizes[i][0] / 2
        order = sorted(row, key=wanted.__getitem__)
        end = float("-inf")
        for i in order:
            x[i] = max(wanted[i], end + GAP + sizes[i][0] / 2)
            end = x[i] + sizes[i][0] / 2
        shift = sum(wanted[i] - x[i] for i in order) / len(order) if order else 0.0
        height = max((sizes[i][1] for i in row), default=0.0)
        for i in order:
            x[i] += shift
            boxes[i] = _Box(x[i], top + height / 2, *sizes[i])
        top += height + BETWEEN
    return boxes


def _lanes(spans: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """For each (first, last, who): the number of a lane that no other uses on the way."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    lanes: dict[int, int] = {}
    for first, last, who in sorted(spans):
        while busy and busy[0][0] < first:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lanes[who] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (last, lanes[who]))
    return lanes


def _drawn(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> str:
    into: list[list[int]] = [[] for _ in nodes]
    out: list[list[int]] = [[] for _ in nodes]
    for a, b in edges:
        into[b].append(a)
        out[a].append(b)
    ranks = _ranks(nodes, into, out)
    boxes = _placed(nodes, into, out, ranks)
    low, high = min(box.x - box.width / 2 for box in boxes), max(box.x + box.width / 2 for box in boxes)
    # What passes a rank goes round it: from ops on the right, from leaves on the left.
    far = {a: max(ranks[b] for b in out[a]) for a in range(len(nodes)) if any(ranks[b] > ranks[a] + 1 for b in out[a])}
    right = _lanes((ranks[a], last, a) for a, last in far.items() if nodes[a].kind in ("op", "folded"))
    left = _lanes((ranks[a], last, a) for a, last in far.items() if a not in right)
    lane_at = {a: high + (lane + 1.5) * LANE for a, lane in right.items()} | {a: low - (lane + 1.5) * LANE for a, lane in left.items()}
    low, high = min([low, *lane_at.values()]) - 2 * PAD, max([high, *lane_at.values()]) + 2 * PAD
    legend = _legend({node.kind: node for node in nodes}, any(node.mark == "view" for node in nodes))
    high = max(high, low + legend[1])
    bottom = max(box.y + box.height / 2 for box in boxes) + 2 * PAD
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='{low:.0f} 0 {high - low:.0f} {bottom:.0f}' width='{high - low:.0f}'",
             f"height='{bottom:.0f}' font-family='sans-serif' font-size='12' text-anchor='middle'>",
             "<defs><marker id='to' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>",
             "<path d='M0 0L8 4L0 8z' fill='#555555'/></marker></defs>",
             f"<rect x='{low:.0f}' y='0' width='100%' height='100%' fill='#FFFFFF'/>",
             f"<g transform='translate({low + PAD:.0f} {PAD:.0f})' text-anchor='start'>{legend[0]}</g>"]
    tops, bottoms = [float("inf")] * (max(ranks) + 1), [0.0] * (max(ranks) + 1)
    for rank, box in zip(ranks, boxes, strict=True):
        tops[rank], bottoms[rank] = min(tops[rank], box.y - box.height / 2), max(bottoms[rank], box.y + box.height / 2)
    for a, b in edges:
        way = (_down(boxes[a], boxes[b]) if ranks[b] == ranks[a] + 1 else
               _round(boxes[a], boxes[b], lane_at[a], bottoms[ranks[a]] + BETWEEN / 4, tops[ranks[b]] - BETWEEN / 2.5))
        parts.append(f"<path d='{way}' "
                     "fill='none' stroke='#555555' stroke-width='1.1' marker-end='url(#to)'/>")
    parts += [_shape(node, box) for node, box in zip(nodes, boxes, strict=True)]
    return "\n".join([*parts, "</svg>", ""])


def _down(a: _Box, b: _Box) -> str:
    """The path from one node to another in the next rank."""
    start, end = a.y + a.height / 2, b.y - b.height / 2
    aim = b.x + max(-0.35 * b.width, min(0.35 * b.width, (a.x - b.x) * 0.2))
    middle = (start + end) / 2
    return f"M{a.x:.1f} {start:.1f}C{a.x:.1f} {middle:.1f} {aim:.1f} {middle:.1f} {aim:.1f} {end:.1f}"


def _round(a: _Box, b: _Box, lane: float, below: float, above: float) -> str:
    """The path round what is between: out at the height `below`, down the lane, in at the height `above`."""
    side = 0.3 if lane > a.x else -0.3
    return (f"M{a.x + side * a.width:.1f} {a.y + a.height / 2:.1f}V{below:.1f}H{lane:.1f}V{above:.1f}"
            f"H{b.x + side * b.width:.1f}V{b.y - b.height / 2:.1f}")


def _shape(node: Node, box: _Box) -> str:
    fill, edge, _ = LOOKS[node.kind]
    style = f"fill='{fill}' stroke='{edge}'" + (" stroke-dasharray='5 3'" if node.mark == "view" or node.kind == "folded" else "")
    style += " stroke-width='2.5'" if node.mark == "in place" else ""
    if node.kind in ("op", "folded"):
        outline = (f"<rect x='{box.x - box.width / 2:.1f}' y='{box.y - box.height / 2:.1f}' width='{box.width:.1f}' height='{box.height:.1f}' "
                   f"rx='3' {style}/>")
    else:
        outline = f"<ellipse cx='{box.x:.1f}' cy='{box.y:.1f}' rx='{box.width / 2:.1f}' ry='{box.height / 2:.1f}' {style}/>"
    first = box.y - (len(node.lines) - 1) * LINE / 2 + 4
    weights = ["font-weight='bold' ", *["fill='#444444' "] * (len(node.lines) - 1)]
    text = "".join(f"<text x='{box.x:.1f}' y='{first + i * LINE:.1f}' {weight}>{escape(line)}</text>"
                   for i, (line, weight) in enumerate(zip(node.lines, weights, strict=True)))
    return f"<g>{outline}{text}</g>"


def _legend(kinds: Mapping[str, Node], views: bool) -> tuple[str, float]:
    """What the looks mean, and how wide that is."""
    entries = [(LOOKS[kind][2], *LOOKS[kind][:2], kind == "folded", kind in ("op", "folded")) for kind in LOOKS if kind in kinds]
    entries += [("view", *LOOKS["op"][:2], True, True)] if views else []
    text, at = "", 0.0
    for label, fill, edge, dashed, square in entries:
        dash = " stroke-dasharray='5 3'" if dashed else ""
        text += (f"<rect x='{at:.0f}' y='0' width='22' height='14' rx='{3 if square else 7}' fill='{fill}' stroke='{edge}'{dash}/>"
                 f"<text x='{at + 28:.0f}' y='11'>{label}</text>")
        at += 28 + len(label) * CHARACTER + 16
    return text, at + 2 * PAD
