"""Micro-kernels of the matrix product, written as LLVM vector IR: a tile of the output in registers, packing, prefetch.

Numba's own vectoriser neither keeps a tile in registers nor transposes in them. Pointers are Numba's `CPointer(dtype)`,
counted in elements, so one source serves float32 and float64 on every width of vector.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._host import VECTOR_BYTES

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
CHUNK_BYTES: Final = 16  # what a narrow tile works with, and what a transposition loads at a time
VECTOR_REGISTERS: Final = 32 if VECTOR_BYTES != 32 else 16
#: Rows and vectors of the largest tile: 24 (8 with 16 registers) independent chains, and the fewest loads for each of them.
TILE_ROWS: Final = 8 if VECTOR_REGISTERS == 32 else 4
TILE_VECTORS: Final = 3 if VECTOR_REGISTERS == 32 else 2


class _Vectors:
    """Vector IR for one element type, as many lanes as a register holds (or `lanes`)."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: types.Type, lanes: int = 0) -> None:
        self.builder = builder
        self.element = context.get_data_type(dtype)
        self.bytes = dtype.bitwidth // 8
        self.lanes = lanes or VECTOR_BYTES // self.bytes
        self.type = ir.VectorType(self.element, self.lanes)
        self.suffix = f"v{self.lanes}f{dtype.bitwidth}"

    def intrinsic(self, name: str, result: ir.Type, operands: Sequence[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}"), operands)

    def at(self, pointer: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        for offset in offsets:
            if offset != 0:
                pointer = self.builder.gep(pointer, [offset if isinstance(offset, ir.Value) else I64(offset)])
        return pointer

    def load(self, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=self.bytes)
        return self.intrinsic(f"masked.load.{self.suffix}.p0", self.type, [pointer, I32(self.bytes), mask, self.splat_constant(0.0)])

    def store(self, value: ir.Value, pointer: ir.Value, mask: ir.Value | None = None) -> None:
        pointer = self.builder.bitcast(pointer, value.type.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=self.bytes)
        else:
            self.intrinsic(f"masked.store.{self.suffix}.p0", ir.VoidType(), [value, pointer, I32(self.bytes), mask])

    def splat_constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.type, [value] * self.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined), scalar, I32(0))
        return self.shuffle(one, one, [0] * self.lanes)

    def shuffle(self, low: ir.Value, high: ir.Value, picks: Sequence[int]) -> ir.Value:
        return self.builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, len(picks)), list(picks)))

    def gather(self, chunk: _Vectors, pointers: Sequence[ir.Value]) -> ir.Value:
        """One vector from consecutive chunks of memory."""
        vector = ir.Constant(self.type, ir.Undefined)
        for i, pointer in enumerate(pointers):
            wide = chunk.shuffle(part := chunk.load(pointer), part, [j % chunk.lanes for j in range(self.lanes)])
            first = i * chunk.lanes
            vector = self.shuffle(vector, wide, [self.lanes + j if first <= j < first + chunk.lanes else j for j in range(self.lanes)])
        return vector

    def mask(self, count: ir.Value) -> ir.Value:
        """True in the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_unsigned("<", numbers, self.splat(self.builder.trunc(count, I32)))

    def hidden_sum(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x + y of integers, which LLVM's scalar evolution does not see through (why: `tile`)."""
        return self.intrinsic("sadd.sat.i64", x.type, [x, y])

    def prefetch(self, pointer: ir.Value) -> None:
        """Fetch a cache line that is read later into the second-level cache."""
        self.intrinsic("prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(2), I32(1)])

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        return self.intrinsic(f"fma.{self.suffix}", self.type, [x, y, z])


class Matrix(NamedTuple):
    """Where a matrix lies: its address, and how many elements apart its rows and its columns are."""

    data: Any
    row: int
    column: int


@intrinsic
def matrix(typingctx: Any, array: Any) -> Any:
    """The `Matrix` of a 2-D array, or of a 1-D array as a row; arrays passed on to a function would be counted with atomic adds."""
    n = types.intp
    result = types.NamedTuple((types.CPointer(array.dtype), n, n), Matrix)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        steps = [builder.sdiv(stride, I64(array.dtype.bitwidth // 8)) for stride in cgutils.unpack_tuple(builder, view.strides)]
        row, column = [I64(0), *steps][-2:]
        return context.make_tuple(builder, signature.return_type, (view.data, row, column))

    return result(array), codegen


@intrinsic
def elements(typingctx: Any, scratch: Any, like: Any) -> Any:
    """The address of `scratch` (uint8 array) as elements of the type of `like` (pointer)."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.bitcast(context.make_array(scratch)(context, builder, args[0]).data, context.get_value_type(like))

    return like(scratch, like), codegen


@intrinsic
def element_bytes(typingctx: Any, like: Any) -> Any:
    """The size of the elements at a pointer, a constant to LLVM: divisions by it become shifts."""
    return types.intp(like), lambda context, builder, signature, args: I64(signature.args[0].dtype.bitwidth // 8)


@intrinsic
def offset(typingctx: Any, start: Any, count: Any) -> Any:
    """`start` moved by `count` elements."""
    return start(start, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


def tile(rows: int, vectors: int, masked: bool, narrow: bool = False) -> Callable[..., Any]:
    """An intrinsic for `rows` x `vectors` of the output, its last vector cut to `lanes` lanes if `masked`.

    (depth, a, row stride, column stride, b, row stride, out, row stride, lanes, resume, bias, biased, ahead, step): out = a @ b, or
    goes on from out where `resume`; then += bias where `biased`. The full tile prefetches `ahead`, `step` elements further at each k.
    The rows of A are addressed as one moving pointer plus fixed distances that LLVM cannot relate to each other: told the truth, it walks
    from row to row with an addition each, 1 % slower (additions share ports with the multiply-adds).
    """

    @intrinsic
    def body(typingctx: Any, depth: Any, a: Any, a_row: Any, a_col: Any, b: Any, b_row: Any, out: Any, out_row: Any,
             lanes: Any, resume: Any, bias: Any, biased: Any, ahead: Any, ahead_step: Any) -> Any:
        n = types.intp
        signature = types.void(n, a, n, n, b, n, out, n, n, types.boolean, bias, types.boolean, ahead, n)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            depth, a, a_row, a_col, b, b_row, out, out_row, lanes, resume, bias, biased, ahead, ahead_step = args
            dtype = signature.args[1].dtype
            v = _Vectors(context, builder, dtype, CHUNK_BYTES * 8 // dtype.bitwidth if narrow else 0)
            masks = [v.mask(lanes) if masked and j == vectors - 1 else None for j in range(vectors)]
            spots = [(v.at(out, builder.mul(out_row, I64(i)), j * v.lanes), masks[j]) for i in range(rows) for j in range(vectors)]
            a_rows = [v.at(a, v.hidden_sum(builder.mul(a_row, I64(i - 1)), a_row)) if i else a for i in range(rows)]
            start, old, head, body, done, add, end = (builder.block, *(builder.append_basic_block(name) for name in
                                                      ("old", "head", "body", "done", "add", "end")))
            builder.cbranch(resume, old, head)

            builder.position_at_end(old)
            olds = [v.load(spot, mask) for spot, mask in spots]
            builder.branch(head)

            builder.position_at_end(head)
            k, a_k, b_k, ahead_k = (builder.phi(value.type) for value in (depth, a_col, b, ahead))
            sums = [builder.phi(v.type) for _ in spots]
            for source, firsts in ((start, [v.splat_constant(0.0)] * len(spots)), (old, olds)):
                for phi, first in zip((k, a_k, b_k, ahead_k, *sums), (I64(0), I64(0), b, ahead, *firsts), strict=True):
                    phi.add_incoming(first, source)
            builder.cbranch(builder.icmp_signed("<", k, depth), body, done)

            builder.position_at_end(body)
            columns = [v.load(v.at(b_k, j * v.lanes), masks[j]) for j in range(vectors)]
            if rows * vectors == TILE_ROWS * TILE_VECTORS:
                v.prefetch(ahead_k)
            news = []
            for i in range(rows):
                broadcast = v.splat(builder.load(v.at(a_rows[i], a_k)))
                news += [v.fma(broadcast, columns[j], sums[i * vectors + j]) for j in range(vectors)]
            steps = (builder.add(k, I64(1)), builder.add(a_k, a_col), v.at(b_k, b_row), v.at(ahead_k, ahead_step), *news)
            for phi, step in zip((k, a_k, b_k, ahead_k, *sums), steps, strict=True):
                phi.add_incoming(step, body)
            builder.branch(head)

            builder.position_at_end(done)
            builder.cbranch(biased, add, end)
            builder.position_at_end(add)
            shifts = [v.load(v.at(bias, j * v.lanes), masks[j]) for j in range(vectors)]
            shifted = [builder.fadd(x, shifts[i % vectors]) for i, x in enumerate(sums)]
            builder.branch(end)

            builder.position_at_end(end)
            results = [builder.phi(v.type) for _ in spots]
            for result, plain, moved in zip(results, sums, shifted, strict=True):
                result.add_incoming(plain, done)
                result.add_incoming(moved, add)
            for result, (spot, mask) in zip(results, spots, strict=True):
                v.store(result, spot, mask)
            return context.get_dummy_value()

        return signature, codegen

    return body


def _transpose(whole: bool, narrow: bool = False) -> Callable[..., Any]:
    """An intrinsic that transposes rows of 16 bytes (or, if `whole`, of a vector) into columns of a vector (16 bytes if `narrow`).

    (source, row stride, rows, target, row stride): as many rows of the source as a vector has lanes become those lanes; of them only
    `rows` exist, and the last one is read again for each that is missing. Loading 16 bytes of each row into place costs no shuffle, which
    leaves half of the rounds that transposing whole vectors takes (Intel shuffles on one port).
    """

    @intrinsic
    def body(typingctx: Any, source: Any, source_row: Any, rows: Any, target: Any, target_row: Any) -> Any:
        n = types.intp

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            source, source_row, rows, target, target_row = args
            dtype = signature.args[0].dtype
            chunk = _Vectors(context, builder, dtype, CHUNK_BYTES * 8 // dtype.bitwidth)
            v = chunk if narrow else _Vectors(context, builder, dtype)
            last = builder.sub(rows, I64(1))
            starts = []
            for i in range(v.lanes):
                row = builder.select(builder.icmp_signed("<", I64(i), last), I64(i), last)
                starts.append(v.at(source, builder.mul(source_row, row)))
            for column in range(0, v.lanes if whole else chunk.lanes, chunk.lanes):
                block = [v.gather(chunk, [v.at(start, column) for start in starts[i :: chunk.lanes]]) for i in range(chunk.lanes)]
                distance = 1
                while distance < chunk.lanes:
                    for i in range(chunk.lanes):
                        if not i & distance:
                            low = [v.lanes + (j ^ distance) if j & distance else j for j in range(v.lanes)]
                            high = [v.lanes + j if j & distance else j | distance for j in range(v.lanes)]
                            pair = block[i], block[i | distance]
                            block[i], block[i | distance] = v.shuffle(*pair, low), v.shuffle(*pair, high)
                    distance *= 2
                for i, vector in enumerate(block):
                    v.store(vector, v.at(target, builder.mul(target_row, I64(column + i))))
            return context.get_dummy_value()

        return types.void(source, n, n, target, n), codegen

    return body


transpose_vector, transpose_chunk, transpose_corner = _transpose(True), _transpose(False), _transpose(False, True)


def _copier(masked: bool) -> Callable[..., Any]:
    @intrinsic
    def body(typingctx: Any, source: Any, target: Any, lanes: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            source, target, lanes = args
            v = _Vectors(context, builder, signature.args[0].dtype)
            v.store(v.load(source, v.mask(lanes) if masked else None), target)
            return context.get_dummy_value()

        return types.void(source, target, types.intp), codegen

    return body


#: (source, target, lanes): copy a vector, or its first `lanes` elements and zeros after them.
copy_vector, copy_lanes = _copier(False), _copier(True)


@intrinsic
def fma_chains(typingctx: Any, rounds: Any, seed: Any) -> Any:
    """(sum, operations) of 16 chains of vector multiply-adds, `rounds` long: as many as it takes to hide their latency."""
    chains = 16 if VECTOR_REGISTERS == 32 else 12

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        v = _Vectors(context, builder, signature.args[1])
        factor = v.splat(args[1])
        start, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
        builder.branch(loop)
        builder.position_at_end(loop)
        done, sums = builder.phi(I64), [builder.phi(v.type) for _ in range(chains)]
        news = [v.fma(x, factor, factor) for x in sums]
        next_done = builder.add(done, I64(1))
        for i, (phi, step) in enumerate(zip((done, *sums), (next_done, *news), strict=True)):
            phi.add_incoming(I64(0) if i == 0 else v.splat_constant(i / chains), start)
            phi.add_incoming(step, loop)
        builder.cbranch(builder.icmp_signed("<", next_done, args[0]), loop, end)
        builder.position_at_end(end)
        total = functools.reduce(builder.fadd, news)
        operations = builder.mul(args[0], I64(2 * chains * v.lanes))
        return context.make_tuple(builder, signature.return_type, (builder.extract_element(total, I32(0)), operations))

    return types.Tuple((seed, types.intp))(types.intp, seed), codegen
