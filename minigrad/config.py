"""Settings of the process: default dtype, seed, threads."""
from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from minigrad.errors import DtypeError
from minigrad_kernels.machine import MAX_WORKERS, available_cores

float32: Final = np.dtype(np.float32)
float64: Final = np.dtype(np.float64)
int64: Final = np.dtype(np.int64)


class _Settings:
    def __init__(self) -> None:
        self.dtype = float32
        self.rng = np.random.default_rng()
        self.threads = min(MAX_WORKERS, int(os.environ.get("MINIGRAD_NUM_THREADS", available_cores())))


_settings = _Settings()


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
