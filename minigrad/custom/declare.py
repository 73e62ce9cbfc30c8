"""The decorator."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigrad.custom.arrays import array_op
from minigrad.custom.elementwise import Domain, elementwise_op
from minigrad.errors import OpError

Rules = Mapping[str, Callable[..., Any] | None]


def op(function: Callable[..., Any] | None = None, *, vjp: Callable[..., Any] | Rules | None = None,
       domain: Domain | Mapping[str, Domain] | None = None, out: Callable[..., Any] | None = None, samples: Callable[..., Any] | None = None,
       definition: Callable[..., Any] | None = None, fails: Exception | None = None) -> Any:
    """Make an op of one's own from a function of numbers, or, with `out`, from a kernel on arrays; a decorator.

    Of numbers: `def f(x, w, *, beta=1.0)` takes one to four inputs, which broadcast, and attributes, which are numbers with defaults.
    vjp: (g, y, x, w, *, beta) -> the gradient of the input, or a tuple with that of each; y is the op's output, and attributes may be left
    out. In both functions `math.*` and `np.*` mean minigrad's own scalar maths. domain: where both are checked, by default from -3 to 3, one
    pair for all inputs or a dict of pairs.

    Of arrays: `def kernel(x, w, out, *, beta=1.0)` writes every element of out, in plain loops; arrays are C-contiguous, of rank up to 4,
    and a scalar is an array of one element. It may return 1 if all is well, and anything else to raise `fails`. out: (x, w) -> (shape,
    dtype) of the output, from what has a shape and a dtype; it takes the attributes that it names, by keyword, and raises ShapeError for what
    does not fit. samples: a random generator -> the arrays of one call, or a list of such tuples; a dict at the end gives attributes.
    definition: the same in NumPy, optional. vjp: {"x": rule, "w": rule}, a rule of `g` and of what it names (inputs, `out`, attributes,
    `x_spec`), written with Tensors; None for an input without a gradient. Or declare rules afterwards, with `@kernel.vjp("x")`.

    All of this is tried out now. Raises OpError with the place and both values where it does not hold.
    """
    if function is None:
        return lambda given: op(given, vjp=vjp, domain=domain, out=out, samples=samples, definition=definition, fails=fails)
    name = getattr(function, "__name__", repr(function))
    if out is None:
        if samples is not None or definition is not None or fails is not None or isinstance(vjp, Mapping):
            raise OpError(f"{name}: samples, definition, fails and a dict of rules are for ops of arrays, which say their output's shape: "
                          "out=lambda x: (x.shape, x.dtype)")
        with np.errstate(all="ignore"):
            return elementwise_op(function, vjp, domain)
    if domain is not None or callable(vjp):
        raise OpError(f"{name}: an op of arrays has a rule for each input, vjp={{\"x\": rule}}, and is tried out on samples, not in a domain")
    if samples is None:
        raise OpError(f"{name}: an op of arrays is tried out when it is declared, so it needs "
                      "samples=lambda rng: (rng.normal(size=(3, 4)), ...), the arrays of one call")
    with np.errstate(all="ignore"):
        return array_op(function, out, samples, vjp or {}, definition, fails)
