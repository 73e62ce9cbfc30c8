"""For scripts that ask whether there is a GPU: there is none."""
from __future__ import annotations


def is_available() -> bool:
    """False: minigrad computes on the CPU."""
    return False


def device_count() -> int:
    """0: minigrad computes on the CPU."""
    return 0


def manual_seed(seed: int) -> None:
    """Does nothing: there is no GPU whose random numbers could be started anew; `mg.manual_seed` is for the CPU's."""


def manual_seed_all(seed: int) -> None:
    """Does nothing, as `manual_seed`."""


def synchronize() -> None:
    """Does nothing: no work is under way elsewhere."""


def empty_cache() -> None:
    """Does nothing: there is no memory of a GPU to give back."""
