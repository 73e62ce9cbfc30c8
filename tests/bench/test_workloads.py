from __future__ import annotations

import numpy as np
import pytest

from minigrad.bench.workloads import DEPTHS, WORKLOADS, Product, Workload, select


def named(name: str) -> Workload:
    return select([name])[0]


def test_the_issue_s_table() -> None:
    names = [workload.name for workload in WORKLOADS]
    assert names == ["xor-deep", "circles", *(f"deep-{depth}-w32" for depth in DEPTHS), "deep-100-w256", "mnist-mlp"]
    assert named("xor-deep").widths == (2, *[4] * 11, 1)
    assert named("circles").widths == (2, 5, 5, 5, 5, 1)
    assert named("deep-20-w32").widths == (*[32] * 21, 1)
    assert named("mnist-mlp").widths == (784, 1000, 750, 500, 10)
    assert [named(name).batch for name in ("xor-deep", "circles", "deep-5-w32", "deep-100-w256", "mnist-mlp")] == [4, 32, 32, 64, 100]


def test_flops_by_hand() -> None:
    # y: 3x2x5 and 3x5x1, dw: the same, dx: only of the second layer
    assert Workload("two", 3, (2, 5, 1), "relu").flops() == 2 * (30 + 15) * 2 + 2 * 15
    forward = 100 * (784 * 1000 + 1000 * 750 + 750 * 500 + 500 * 10)
    assert named("mnist-mlp").flops() == 2 * (3 * forward - 100 * 784 * 1000)


def test_mnist_has_eleven_products() -> None:
    products = named("mnist-mlp").products
    assert len(products) == 11
    assert products[0] == Product("y", 100, 784, 1000)
    assert Product("dw", 1000, 100, 784) in products and Product("dx", 100, 1000, 784) not in products


def test_activation_and_shortcut_per_layer() -> None:
    layers = named("xor-deep").layers
    assert [layer.residual for layer in layers] == [False, *[True] * 10, False]
    assert [layer.activation for layer in layers] == [*["tanh"] * 11, None]


@pytest.mark.parametrize("workload", select(["xor-deep", "circles", "deep-5-w32", "mnist-mlp"]), ids=lambda workload: workload.name)
def test_parameters_and_data(workload: Workload) -> None:
    parameters, (x, y) = workload.parameters(), workload.data()
    assert [(w.shape, b.shape) for w, b in parameters] == [((o, i), (o,)) for i, o in zip(workload.widths, workload.widths[1:], strict=False)]
    assert x.shape == (workload.batch, workload.widths[0]) and y.shape == (workload.batch, workload.widths[-1])
    assert {a.dtype for pair in parameters for a in pair} | {x.dtype, y.dtype} == {np.dtype(np.float32)}
    again = workload.parameters()
    assert all(np.array_equal(w, v) and not np.shares_memory(w, v) for (w, _), (v, _) in zip(parameters, again, strict=True))


def test_weight_rules() -> None:
    deep = named("deep-100-w32").parameters()
    assert np.isclose(np.var([w for w, _ in deep[:-1]]), 1 / (32 * 100), rtol=0.02)
    assert np.isclose(np.var(named("mnist-mlp").parameters()[0][0]), 2 / (784 + 1000), rtol=0.02)


def test_xor_is_xor() -> None:
    x, y = named("xor-deep").data()
    assert np.array_equal(x, [[0, 0], [0, 1], [1, 0], [1, 1]]) and np.array_equal(y, [[0], [1], [1], [0]])


def test_select_keeps_the_table_s_order_and_names_what_is_missing() -> None:
    assert [workload.name for workload in select(["mnist-mlp", "xor*"])] == ["xor-deep", "mnist-mlp"]
    with pytest.raises(ValueError, match=r"no workload matches 'resnet'.*xor-deep"):
        select(["resnet"])
