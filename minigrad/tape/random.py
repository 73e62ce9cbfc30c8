"""Random numbers inside steps: the state (seed, offset), and the key that each op that draws takes from it.

A draw takes the state as its key and moves the offset by one. Eager mode does that at once, after the journal has remembered the state, so that
a refused step draws the same numbers again. A program reads the state and moves it by all draws of a step together, in its commit part.
"""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigrad import config
from minigrad.errors import CaptureError, DtypeError
from minigrad.ops import elementwise, random
from minigrad.ops.spec import Spec
from minigrad.tape import journal
from minigrad.tape.handle import wrap
from minigrad.tape.mode import caller, local
from minigrad.tape.record import lift
from minigrad.tape.shaping import sizes
from minigrad.tape.tensor import Tensor


@cache
def state() -> Tensor:
    """Seed and offset of the next draw, int64 [2]; one Tensor for the whole process."""
    return wrap(config.random_state, Spec.of((2,), config.int64))  # type: ignore[no-any-return]


def manual_seed(seed: int) -> None:
    """Start all of minigrad's random numbers anew: initial weights, random Tensors, shuffling, and what is drawn inside steps.

    Raises CaptureError inside a captured step, and ValueError for a negative seed.
    """
    if local.mode.listener is not None:
        raise CaptureError(f"manual_seed was called at {caller()} inside a captured step, which a replay would not do again: seed before the step")
    config.manual_seed(seed)
    journal.keep(state())


def draw() -> Tensor:
    """The key of one draw, int64 [2], for an op of `minigrad.ops.random`; the next draw gets another one."""
    now, mode = state(), local.mode
    listener, mode.listener = mode.listener, None
    try:
        key: Tensor = random.draw_key(now)
        journal.remember(now)
        random.advance_(now, by=1)
    finally:
        mode.listener = listener
    if listener is not None:
        listener.drew(now, key)
    return key


def random_key() -> Tensor:
    """A key, int64 [2], for an op of one's own that draws with `random_at` or `random_bits`; inside a captured step each run gets another."""
    return draw()


def _made(op: Any, shape: Any, dtype: Any) -> Any:
    kind = np.dtype(dtype) if dtype is not None else config.get_default_dtype()
    if kind not in (config.float32, config.float64):
        raise DtypeError(f"random_{op.name}: cannot draw {kind.name}: random numbers are float32 or float64")
    return op(draw(), shape=sizes(shape), dtype=kind)


def random_normal(*shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = None) -> Tensor:
    """Normal numbers with this mean and standard deviation, of the default dtype unless told. Inside a captured step each run draws anew."""
    made = _made(random.normal, shape, dtype)
    if std != 1.0:
        made = elementwise.scale(made, by=float(std))
    return elementwise.add(made, float(mean)) if mean != 0.0 else made  # type: ignore[no-any-return]


def random_uniform(*shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = None) -> Tensor:
    """Numbers uniform from `low` up to `high`, of the default dtype unless told. Inside a captured step each run draws anew."""
    made = _made(random.uniform, shape, dtype)
    if high - low != 1.0:
        made = elementwise.scale(made, by=float(high - low))
    return elementwise.add(made, float(low)) if low != 0.0 else made  # type: ignore[no-any-return]


def bernoulli(input: Any) -> Tensor:
    """For each probability in `input` 1 or 0, in its dtype; no gradient. Inside a captured step each run draws anew."""
    (chance,) = lift(random.bernoulli, (input,))
    if not chance.spec.is_float:
        raise DtypeError(f"bernoulli: probabilities are {chance.spec.dtype.name}, expected float32 or float64: convert with .astype(mg.float32)")
    return random.bernoulli(chance, draw())  # type: ignore[no-any-return]
