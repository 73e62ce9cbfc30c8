"""Rewrites of what ran into fewer passes over memory, each with the bits of what it replaces."""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from minigrad.ops import matmul, norms, update
from minigrad.ops.op import Op
from minigrad.ops.shape import permute, transpose
from minigrad.program.plan import overlap
from minigrad.program.record import Operand, Ran


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


# ---- transposes ------------------------------------------------------------------------------------------------------------------------
#: What a product becomes when its operand a (0) or b (1), a transposed copy, is replaced by what was copied.
_WITHOUT_COPY: Final[dict[tuple[Op, int], Op]] = {
    (matmul.matmul_nn, 0): matmul.matmul_tn, (matmul.matmul_nn, 1): matmul.matmul_nt,
    (matmul.matmul_tn, 0): matmul.matmul_nn, (matmul.matmul_nt, 1): matmul.matmul_nn,
    (matmul.bmm_nn, 0): matmul.bmm_tn, (matmul.bmm_nn, 1): matmul.bmm_nt, (matmul.bmm_tn, 0): matmul.bmm_nn, (matmul.bmm_nt, 1): matmul.bmm_nn,
}
#: Products whose transpose is the same kind of product, of the operands in the other order.
_TURNED: Final = (matmul.matmul_nt, matmul.matmul_tn, matmul.bmm_nt, matmul.bmm_tn)


def _transposes(item: Ran) -> bool:
    """Whether it copies with the last two axes swapped."""
    if item.op is transpose:
        return True
    if item.op is not permute:
        return False
    rank = len(item.inputs[0].spec.shape)
    axes = [a % rank for a in dict(item.plan.key[1:])["axes"]] if rank else []
    return rank > 1 and axes == [*range(rank - 2), rank - 1, rank - 2]


class _Uses:
    """Where the memory that a step makes is read and written, and what is written in place."""

    def __init__(self, ran: Sequence[Ran]) -> None:
        named = [(x.address, i) for i, item in enumerate(ran) for x in (*item.inputs, *([item.out] if item.out is not None else []))]
        self._addresses = sorted(named)
        self._writes: list[tuple[int, Operand]] = []
        for i, item in enumerate(ran):
            self._writes += [(i, item.inputs[n]) for n in item.op.mutates]
            if item.out is not None and item.out.owner is not None and item.plan.alias is None:
                self._writes.append((i, item.out))
        self._order = [i for i, _ in self._writes]

    def of(self, x: Operand) -> list[int]:
        """The ops that name any of this memory, which the step itself made."""
        first = bisect_left(self._addresses, (x.address, -1))
        last = bisect_left(self._addresses, (x.address + max(1, x.spec.nbytes), -1))
        return sorted({i for _, i in self._addresses[first:last]})

    def written(self, x: Operand, after: int, before: int) -> bool:
        """Whether an op between two others writes this memory."""
        return any(overlap(x, y) for _, y in self._writes[bisect_right(self._order, after):bisect_left(self._order, before)])


def _replanned(item: Ran, op: Op, inputs: tuple[Operand, ...]) -> Ran:
    """The item with another op, without attributes, and other inputs."""
    specs = tuple(x.spec for x in inputs)
    return item._replace(op=op, plan=op.plans.get(specs) or op.remember(specs, op.plan(specs, {})), inputs=inputs)


def read_transposed(ran: Sequence[Ran], results: Sequence[Operand]) -> list[Ran]:
    """Let products read what was copied transposed, if products are all that uses the copy; and let them write their own transpose."""
    if not any(_transposes(item) for item in ran):
        return list(ran)
    rewritten: list[Ran | None] = list(ran)
    uses, returned = _Uses(ran), {x.address for x in results}
    for at, copy in enumerate(ran):
        if not _transposes(copy) or copy.out is None or copy.out.owner is not None:
            continue
        (source,), users = copy.inputs, uses.of(copy.out)[1:]
        if not users or uses.written(source, at, users[-1]) or copy.out.address in returned:
            continue
        changed: dict[int, Ran] = {}
        for user in users:
            item = rewritten[user]
            places = [n for n, x in enumerate(item.inputs) if x.address == copy.out.address] if item is not None else []
            op = _WITHOUT_COPY.get((item.op, places[0])) if item is not None and len(places) == 1 else None
            if item is None or op is None:
                break
            changed[user] = _replanned(item, op, tuple(source if n == places[0] else x for n, x in enumerate(item.inputs)))
        else:
            rewritten[at] = None
            for user, item in changed.items():
                rewritten[user] = item
    return _turned([item for item in rewritten if item is not None], returned)


def _turned(ran: list[Ran], returned: set[int]) -> list[Ran]:
    """Products that are only transposed, made transposed."""
    rewritten: list[Ran | None] = list(ran)
    uses = _Uses(ran)
    for at, item in enumerate(ran):
        if item.op not in _TURNED or item.out is None or item.out.owner is not None or item.out.address in returned:
            continue
        users = uses.of(item.out)
        if len(users) != 2 or not _transposes(ran[users[1]]):
            continue
        later = users[1]
        if not any(uses.written(x, at, later) for x in item.inputs):
            rewritten[at] = None
            rewritten[later] = _replanned(item, item.op, item.inputs[::-1])._replace(out=ran[later].out)
    return [item for item in rewritten if item is not None]


def fuse(ran: Sequence[Ran], results: Sequence[Operand]) -> list[Ran]:
    """What ran, after all rewrites; `results` are what the step returns."""
    return read_transposed(clip_and_update(ran), results)
