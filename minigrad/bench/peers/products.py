"""One matrix product of a dense layer by our kernel, by NumPy's BLAS and by PyTorch's; operands lie as a training step leaves them."""
from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from minigrad.bench.peers import Job
from minigrad.bench.workloads import Array, Product

CACHE_LINE = 64


def operands(product: Product, seed: int = 0) -> tuple[Array, Array, Array]:
    """Left, right and output arrays. A weight is stored (out, in), so "y" has a transposed right operand and "dw" a transposed left one."""
    rng = np.random.default_rng(seed)

    def made(*shape: int) -> Array:
        return rng.normal(0, 1, shape).astype(np.float32)

    left = made(product.k, product.m).T if product.kind == "dw" else made(product.m, product.k)
    right = made(product.n, product.k).T if product.kind == "y" else made(product.k, product.n)
    return left, right, np.empty((product.m, product.n), np.float32)


def aligned_bytes(count: int) -> NDArray[np.uint8]:
    """Memory on a cache line's boundary, where the kernel takes its packed panels to be."""
    memory = np.empty(count + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + count]


def numpy_call(left: Array, right: Array, out: Array, threads: int) -> Callable[[], object]:
    """The threads of NumPy's BLAS are set in the environment."""
    return lambda: np.dot(left, right, out=out)


def torch_call(left: Array, right: Array, out: Array, threads: int) -> Callable[[], object]:
    """PyTorch's product, into the same memory."""
    torch = import_module("torch")
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(a) for a in (left, right, out)]
    return lambda: torch.mm(tensors[0], tensors[1], out=tensors[2])


def kernel_call(left: Array, right: Array, out: Array, threads: int) -> Callable[[], object]:
    """Our kernel, called from Python on one core; the 0.5 us of that call count against it."""
    matmul = import_module("minigrad_kernels.matmul")
    scratch = aligned_bytes(import_module("minigrad_kernels.abi").SCRATCH_BYTES)
    return lambda: matmul.matmul(left, right, out, scratch)


CALLS = {"numpy": numpy_call, "torch": torch_call, "kernel": kernel_call}


def build(product: Product, mode: str, threads: int) -> Job:
    """The product, run once and compared with a float64 one. Its "loss" is only a number to return."""
    left, right, out = operands(product)
    call = CALLS[mode](left, right, out, threads)
    call()
    np.testing.assert_allclose(out, left.astype(float) @ right.astype(float), rtol=1e-4, atol=1e-3)

    def run() -> float:
        call()
        return 0.0

    return Job(run)
