"""Instructions that are not ops: inputs copied in and outputs copied out, at an address that moves with the step, and chains of instructions."""
from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit
from .abi import word
from .machine import HEADER_WORDS, STEP, call_entry

BYTE: Final = ir.IntType(8).as_pointer()


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes between addresses that do not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, source, n = arguments
        cgutils.raw_memcpy(builder, builder.inttoptr(to, BYTE), builder.inttoptr(source, BYTE), n, context.get_constant(types.intp, 1))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@jit
def feed(base, stride, indices, rows, state, out):
    """out = the bytes at base + step * stride; or, with the address of an int64 table (steps, rows), the rows that its row `step` names."""
    step = word(state, STEP)
    if indices == 0:
        copy_bytes(out.ctypes.data, base + step * stride, out.size)
    elif rows > 0:
        width = out.size // rows
        for i in range(rows):
            copy_bytes(out.ctypes.data + i * width, base + width * word(indices, step * rows + i), width)


@jit
def emit(base, stride, state, x):
    """Write the bytes of x at base + step * stride."""
    copy_bytes(base + word(state, STEP) * stride, x.ctypes.data, x.size)


@jit
def chain(at, length, blocks, entries, part, parts):
    """Run the instructions in the `length` words at `at` block by block: all of them on the first block, then on the next."""
    for block in range(blocks * part // parts, blocks * (part + 1) // parts):
        pc = 0
        while pc < length:
            here = at + 8 * pc
            call_entry(word(entries, word(here, 0)), here + 8 * HEADER_WORDS, block, blocks)
            pc += word(here, 2)
