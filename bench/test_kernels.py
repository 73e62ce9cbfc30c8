"""The matrix products of mnist-mlp under pytest-benchmark, one group a product."""
from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from minigrad.bench.peers import MULTIPLIERS, Contestant
from minigrad.bench.workloads import Product, select

PRODUCTS = select(["mnist-mlp"])[0].products


@pytest.mark.parametrize("contestant", MULTIPLIERS, ids=lambda contestant: contestant.name)
@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_product(benchmark: BenchmarkFixture, product: Product, contestant: Contestant) -> None:
    if not contestant.installed:
        pytest.skip(f"{contestant.package} is not installed")
    job = contestant.build(product)
    benchmark.group = product.name
    benchmark.extra_info["flops"] = product.flops()
    benchmark(job.call)
