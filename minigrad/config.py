"""Settings of the process: default dtype, seed, threads."""
from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from minigrad.errors import DeviceError, DtypeError
from minigrad_kernels.machine import MAX_WORKERS, available_cores

float32: Final = np.dtype(np.float32)
float64: Final = np.dtype(np.float64)
int32: Final = np.dtype(np.int32)
int64: Final = np.dtype(np.int64)
uint8: Final = np.dtype(np.uint8)
boolean: Final = np.dtype(np.bool_)


class _Settings:
    def __init__(self) -> None:
        self.dtype = float32
        self.rng = np.random.default_rng()
        self.threads = min(MAX_WORKERS, int(os.environ.get("MINIGRAD_NUM_THREADS", available_cores())))


_settings = _Settings()
#: Seed and offset of what is drawn inside steps; `minigrad.tape.random` makes a Tensor of this memory.
random_state: Final = np.array([np.random.default_rng().integers(2**63), 0], np.int64)


class device:  # noqa: N801  PyTorch's name
    """The device "cpu", the only one there is, for scripts that name it. Raises DeviceError for any other."""

    __slots__ = ()

    type: Final = "cpu"
    index: Final = None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        kind, _, number = str(type).partition(":")
        if kind != "cpu" or number not in ("", "0") or index not in (None, 0):
            raise DeviceError(f"device {str(type)!r}: minigrad computes on the CPU, use \"cpu\"")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) or other == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")

    def __str__(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


def destination(given: tuple[Any, ...], where: Any = None, dtype: Any = None) -> Any:
    """The dtype that the arguments of PyTorch's `to` ask for: dtypes, devices, or a Tensor whose dtype is taken; None if they ask for none.

    Raises DeviceError for another device than the CPU.
    """
    for one in given:
        if isinstance(one, device) or (isinstance(one, str) and not hasattr(np, one)):
            where = one
        elif one is not None and not isinstance(one, bool):  # non_blocking and copy, by position
            dtype = one.dtype if hasattr(one, "spec") else one
    if where is not None:
        device(where)
    return dtype


def set_default_dtype(dtype: Any) -> None:
    """The dtype of parameters and of Tensors made from Python numbers: float32 (the default) or float64."""
    wanted = np.dtype(dtype)
    if wanted not in (float32, float64):
        raise DtypeError(f"the default dtype is float32 or float64, not {wanted.name}")
    _settings.dtype = wanted


def get_default_dtype() -> np.dtype[Any]:
    """The dtype of parameters and of Tensors made from Python numbers."""
    return _settings.dtype


def manual_seed(seed: int) -> None:
    """Start minigrad's random numbers anew: initial weights, random Tensors and shuffling follow from the seed."""
    _settings.rng = np.random.default_rng(seed)
    random_state[:] = (int(seed) + 2**63) % 2**64 - 2**63, 0


class Generator(np.random.Generator):
    """NumPy's generator under PyTorch's name, for what takes `generator=`: `mg.Generator().manual_seed(0)` is `np.random.default_rng(0)`."""

    def __init__(self, device: str | device = "cpu") -> None:
        destination((), device)
        super().__init__(np.random.PCG64())

    def manual_seed(self, seed: int) -> Generator:
        """Start the numbers anew from the seed; returns itself."""
        self.bit_generator.state = np.random.PCG64(seed).state
        return self


def generator() -> np.random.Generator:
    """The generator behind `manual_seed`."""
    return _settings.rng


def set_num_threads(threads: int) -> None:
    """How many cores a captured step may use; the result has the same bits with any number."""
    if not 1 <= threads <= MAX_WORKERS:
        raise ValueError(f"set_num_threads: {threads} is not between 1 and {MAX_WORKERS}")
    _settings.threads = threads


def get_num_threads() -> int:
    """How many cores a captured step may use; at first MINIGRAD_NUM_THREADS, else the cores of this process."""
    return _settings.threads
