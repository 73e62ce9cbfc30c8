"""The graph of a Tensor: what it has, its names, and drawings that parse."""
from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, viz
from minigrad.errors import GraphError

SVG = "{http://www.w3.org/2000/svg}"


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), nn.Linear(4, 2))


def loss_of(model: nn.Module, features: int = 3) -> mg.Tensor:
    x = np.ones((5, features), np.float32)
    return F.cross_entropy(model(x), np.array([0, 1, 0, 1, 0]))


def titles(graph: viz.Graph, kind: str) -> list[str]:
    return [node.title for node in graph.nodes if node.kind == kind]


def boxes(text: str) -> list[tuple[float, float, float, float]]:
    """The corners of every node drawn."""
    found = []
    for group in ET.fromstring(text).findall(f"{SVG}g")[1:]:
        rect, ellipse = group.find(f"{SVG}rect"), group.find(f"{SVG}ellipse")
        if rect is not None:
            x, y, w, h = (float(rect.get(name, 0)) for name in ("x", "y", "width", "height"))
        else:
            assert ellipse is not None
            cx, cy, rx, ry = (float(ellipse.get(name, 0)) for name in ("cx", "cy", "rx", "ry"))
            x, y, w, h = cx - rx, cy - ry, 2 * rx, 2 * ry
        found.append((x, y, x + w, y + h))
    return found


def test_a_graph_has_ops_leaves_shapes_and_paths() -> None:
    model = net()
    graph = viz.graph(loss_of(model), model)
    assert titles(graph, "op") == ["linear", "tanh", "linear", "relu", "residual", "linear", "softmax_cross_entropy"]
    assert [node.path for node in graph.nodes if node.kind == "op"][:5] == ["0", "1", "2.module.0", "2.module.1", "2"]
    assert set(titles(graph, "parameter")) == {name for name, _ in model.named_parameters()}
    assert [node.spec for node in graph.nodes if node.kind == "input"] == ["float32[5, 3]", "int64[5]"]
    assert graph.nodes[-1].spec == "float32[]" and {node.title: node.spec for node in graph.nodes}["3.weight"] == "float32[2, 4]"
    assert repr(graph) == "Graph(7 ops, 6 leaves that need gradients, 2 leaves that need none)"
    assert all(a < b for a, b in graph.edges) and len(graph.edges) == 6 + 2 + 6 + 1


def test_leaves_have_the_names_given() -> None:
    x, w = mg.ones(3), mg.ones(3, requires_grad=True)
    y = ((w * x) * 2.5).sum() + (w * x.detach()).sum()
    graph = viz.graph(y, {"x": x, "w": w})
    assert titles(graph, "parameter") == ["w"] and sorted(titles(graph, "input")) == ["2.5", "x"]
    assert "leaf" in titles(viz.graph(y), "parameter") and "input" in titles(viz.graph(y), "input")


def test_a_leaf_used_often_is_one_node() -> None:
    w = mg.ones(2, 2, requires_grad=True)
    h = mg.ones(1, 2)
    for _ in range(5):
        h = h @ w
    graph = viz.graph(h.sum())
    assert len(titles(graph, "parameter")) == 1 and sum(graph.nodes[a].kind == "parameter" for a, _ in graph.edges) == 5
    ET.fromstring(graph.to_svg())


def test_views_and_writes_into_parts_are_marked() -> None:
    a = mg.ones(4, 4, requires_grad=True)
    b = mg.zeros(4, 4) + 0
    b[0] = (a * 2).reshape(16)[:4]
    graph = viz.graph(b.sum())
    marks = {node.title: node.mark for node in graph.nodes if node.kind == "op"}
    assert marks["reshape"] == marks["take_range"] == "view" and marks["put_range"] == "in place" and marks["mul"] == marks["sum"] == ""
    assert "put_range (in place)" in graph.to_svg() and "stroke-dasharray" in graph.to_svg() and "dashed" in graph.to_dot()
    b[:, 0:2] = a[:, 0:2]
    assert "put_strided (in place)" in viz.graph(b.sum()).to_svg()


def test_a_function_of_ones_own_is_an_op() -> None:
    class Twice(mg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, by: float) -> Any:
            return x.detach() * by, x.detach()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0], None

    one, other = Twice.apply(mg.ones(2, requires_grad=True), 2.0)
    graph = viz.graph((one + other).sum())
    assert titles(graph, "op").count("Twice") == 3 and titles(graph, "input") == []


def test_drawings_parse_and_escape() -> None:
    x = mg.ones(2, requires_grad=True)
    graph = viz.graph((x * x).sum(), {'<&"\\n': x})
    text = "".join(ET.fromstring(graph.to_svg()).itertext())
    assert '<&"\\n' in text and "float32[2]" in text and graph._repr_svg_() == graph.to_svg()
    assert 'label="<&\\"\\\\n\\nfloat32[2]"' in graph.to_dot()


def test_dot_has_every_node_and_edge() -> None:
    model = net()
    graph = viz.graph(loss_of(model), model)
    for groups in (False, True):
        text = graph.to_dot(groups)
        assert text.count("{") == text.count("}") and len(re.findall(r"^ +\d+ \[", text, re.MULTILINE)) == len(graph.nodes)
        assert {(int(a), int(b)) for a, b in re.findall(r"(\d+) -> (\d+)", text)} == set(graph.edges)
        assert ('label="2.module.0"' in text) == groups and text.count("shape=ellipse") == 8


@pytest.mark.parametrize("seed", range(5))
def test_no_node_covers_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = [mg.ones(2, requires_grad=True), mg.ones(2)]
    for _ in range(30):
        a, b = (made[i] for i in rng.integers(0, len(made), 2))
        made.append([mg.add, mg.mul, mg.maximum][rng.integers(3)](a, b) if rng.random() < 0.7 else mg.tanh(a))
    graph = viz.graph(mg.stack(made).sum())
    text = graph.to_svg()
    found = np.array(boxes(text))
    assert len(found) == len(graph.nodes) and text.count("marker-end") == len(graph.edges)
    for i, (left, top, right, bottom) in enumerate(found):
        others = np.delete(found, i, 0)
        assert not np.any((others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < bottom) & (others[:, 3] > top))
    low, _, width, height = map(float, str(ET.fromstring(text).get("viewBox")).split())
    assert found[:, 0].min() >= low and found[:, 2].max() <= low + width and found[:, 3].max() <= height
    assert all(found[a][3] <= found[b][1] for a, b in graph.edges), "arrows point down"


def test_a_thousand_equal_layers_are_folded() -> None:
    model = nn.Sequential(nn.Linear(3, 4), *[layer for _ in range(999) for layer in (nn.Linear(4, 4), nn.ReLU())], nn.Linear(4, 2))
    loss = loss_of(model)
    graph = viz.graph(loss, model)
    assert len(graph.nodes) < 25 and [node.lines for node in graph.nodes if node.kind == "folded"] == [
        ["997 times more: 2 ops", "in 3 ... 1996", "float32[5, 4]"]]
    assert all(a < b for a, b in graph.edges)
    whole = viz.graph(loss, model, fold=False)
    assert len(titles(whole, "op")) == 2001 and whole.to_svg().count("<ellipse") == 2004


def test_blocks_with_shortcuts_are_folded_too() -> None:
    model = nn.Sequential(nn.Linear(3, 4), *[nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.ReLU())) for _ in range(8)], nn.Linear(4, 2))
    graph = viz.graph(loss_of(model), model, fold=True)
    assert [node.title for node in graph.nodes if node.kind == "folded"] == ["6 times more: 3 ops"]
    assert len(titles(graph, "op")) == 1 + 3 + 3 + 2 and repr(graph).endswith("1 folded repetition)")
    assert "folded" not in {node.kind for node in viz.graph(loss_of(model), model).nodes}


def test_a_deep_chain_needs_no_recursion() -> None:
    x = mg.ones(1, requires_grad=True)
    y = x
    for i in range(5_000):
        y = y * 1.5 if i % 7 else y.tanh()
    graph = viz.graph(y, fold=False)
    assert len(titles(graph, "op")) == 5_000 and graph.to_svg().endswith("</svg>\n")
    assert len(viz.graph(y).nodes) < 60


def test_it_keeps_nothing_alive_and_changes_nothing() -> None:
    model = net()
    loss = loss_of(model)
    first = viz.graph(loss, model).to_svg()
    loss.backward(retain_graph=True)
    assert viz.graph(loss, model).to_svg() == first and model[0].weight.grad is not None


def test_a_tensor_without_a_graph_is_refused() -> None:
    x = mg.ones(2, requires_grad=True)
    with pytest.raises(GraphError, match=r"the Tensor float32\[2\] has no graph: it is a leaf"):
        viz.graph(x)
    with pytest.raises(GraphError, match="it needs no gradient"):
        viz.graph(mg.ones(2) * 2)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphError, match=r"freed by a backward pass, at \w+: draw it before, or pass retain_graph=True"):
        viz.graph(y)
    with pytest.raises(TypeError, match="got a float, expected a Tensor"):
        viz.graph(1.0)  # type: ignore[arg-type]


def test_a_file_is_written_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    x = mg.ones(2, requires_grad=True)
    graph = viz.graph((x * x).sum())
    graph.save(tmp_path / "a.svg")
    graph.save(str(tmp_path / "a.dot"))
    assert (tmp_path / "a.svg").read_text() == graph.to_svg() and (tmp_path / "a.dot").read_text() == graph.to_dot()
    with pytest.raises(ValueError, match=r"'.*a\.png' ends with '\.png', expected \.svg or \.dot"):
        graph.save(tmp_path / "a.png")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.dot", "a.svg"]


def test_names_are_tensors_and_need_not_be_printable() -> None:
    x = mg.ones(2, requires_grad=True)
    ET.fromstring(viz.graph((x * 2).sum(), {"a\n\x01": x}).to_svg())
    with pytest.raises(TypeError, match=r"names\['x'\] is a ndarray, expected a Tensor"):
        viz.graph((x * 2).sum(), {"x": np.ones(2)})  # type: ignore[dict-item]
