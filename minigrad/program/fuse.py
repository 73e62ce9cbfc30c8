"""Rewrites of what ran into fewer passes over memory, each with the bits of what it replaces."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from minigrad.ops import norms, update
from minigrad.program.plan import overlap
from minigrad.program.record import Ran


def clip_and_update(ran: Sequence[Ran]) -> list[Ran]:
    """Clip a run of gradients where it is used for the update, if nothing looks at it in between.

    A refused step leaves these gradients as they were before clipping.
    """
    rewritten: list[Ran | None] = list(ran)
    for at, clip in enumerate(ran):
        if clip.op is not norms.clip_:
            continue
        gradient, factor = clip.inputs
        for later in range(at + 1, len(ran)):
            item = ran[later]
            if not any(overlap(x, gradient) for x in (*item.inputs, *([item.out] if item.out is not None else []))):
                continue
            fused = update.CLIPPED.get(item.op)
            if fused is not None and item.inputs[1].address == gradient.address and item.inputs[1].spec is gradient.spec:
                inputs = (*item.inputs, factor)
                specs = tuple(x.spec for x in inputs)
                plan = fused.plans.get(specs)
                if plan is None:
                    plan = fused.remember(specs, fused.plan(specs, {}))
                rewritten[at] = None
                rewritten[later] = item._replace(op=fused, plan=plan, inputs=inputs)
            break
    return [item for item in rewritten if item is not None]


#: In the order in which they are applied.
REWRITES: Final[tuple[Callable[[Sequence[Ran]], list[Ran]], ...]] = (clip_and_update,)


def fuse(ran: Sequence[Ran]) -> list[Ran]:
    """What ran, after all rewrites."""
    for rewrite in REWRITES:
        ran = rewrite(ran)
    return list(ran)
