"""Vectors of 16 lanes for Numba kernels: float32, int32 and masks, mapped straight to LLVM's vector types.

Numba's automatic vectorisation depends on loop shape and aliasing checks; with these types a kernel says which values
are vectors. LLVM lowers 16 lanes to one AVX-512 register, two of AVX2, four of SSE or NEON. ``+ - *`` and comparisons
are IEEE operations without contraction, as spec §7 wants; only :func:`muladd` may be fused (used in weighted sums).
"""

from __future__ import annotations

import operator
from typing import Any

import numba.core.cgutils
import numba.core.imputils
import numba.core.typing.templates
import numba.extending
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models as _models
from numba.core.datamodel.registry import register_default

# Without types of their own: Numba's stubs are partial, and describe an intrinsic as Python sees it, not a kernel.
cgutils: Any = numba.core.cgutils
models: Any = _models
templates: Any = numba.core.typing.templates
lower_builtin: Any = numba.core.imputils.lower_builtin
intrinsic: Any = numba.extending.intrinsic

LANES = 16

# 2^f = Σ coefficient[k]·f^k for |f| ≤ ½, relative error 1.1e-7 before rounding: least squares at 4000 Chebyshev nodes
# with the constant term held at 1, so that the nearest Gaussian weighs exactly 1.
EXP2_COEFFICIENTS = (
    1.0,
    0.6931468844413757,
    0.24022237956523895,
    0.05550893023610115,
    0.009671698324382305,
    0.0013218672247603536,
)


class _Vector(types.Type):
    element: ir.Type


class _FloatVector(_Vector):
    element = ir.FloatType()


class _IntVector(_Vector):
    element = ir.IntType(32)


class _Mask(_Vector):
    element = ir.IntType(1)


floats = _FloatVector("float32x16")
ints = _IntVector("int32x16")
mask = _Mask("mask16")


@register_default(_FloatVector)
@register_default(_IntVector)
@register_default(_Mask)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(fe_type.element, LANES))


def _binary(function: Any, operands: _Vector, result: _Vector, emit: Any) -> None:
    @templates.infer_global(function)
    class _Template(templates.ConcreteTemplate):
        cases = [templates.signature(result, operands, operands)]  # noqa: RUF012 (Numba's own convention)

    @lower_builtin(function, operands, operands)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_binary(operator.add, floats, floats, lambda b, x, y: b.fadd(x, y))
_binary(operator.sub, floats, floats, lambda b, x, y: b.fsub(x, y))
_binary(operator.mul, floats, floats, lambda b, x, y: b.fmul(x, y))
_binary(operator.truediv, floats, floats, lambda b, x, y: b.fdiv(x, y))
_binary(operator.le, floats, mask, lambda b, x, y: b.fcmp_ordered("<=", x, y))
_binary(operator.lt, floats, mask, lambda b, x, y: b.fcmp_ordered("<", x, y))
_binary(operator.eq, floats, mask, lambda b, x, y: b.fcmp_ordered("==", x, y))
_binary(operator.add, ints, ints, lambda b, x, y: b.add(x, y))
_binary(operator.sub, ints, ints, lambda b, x, y: b.sub(x, y))
_binary(operator.lt, ints, mask, lambda b, x, y: b.icmp_signed("<", x, y))
_binary(operator.and_, mask, mask, lambda b, x, y: b.and_(x, y))
_binary(operator.or_, mask, mask, lambda b, x, y: b.or_(x, y))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    offset = context.cast(builder, index, index_type, types.intp)
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())


def _vector_of(array: Any) -> _Vector:
    return floats if array.dtype == types.float32 else ints


@intrinsic
def load(typingctx, array, index):  # type: ignore[no-untyped-def]
    """16 successive float32 or int32 of a C-contiguous array of any shape, from element ``index`` on."""
    result = _vector_of(array)

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(result.element, LANES)
        pointer = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1], vector)
        return builder.load(pointer, align=4, typ=vector)

    return result(array, index), codegen


@intrinsic
def store(typingctx, array, index, value):  # type: ignore[no-untyped-def]
    """Write 16 lanes into a C-contiguous float32 or int32 array from element ``index`` on."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(sig.args[2].element, LANES)
        pointer = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1], vector)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, index, value), codegen


def _repeated(order: list[int]) -> Any:
    """An intrinsic that loads four float32 and deals them to the lanes in the order given."""

    @intrinsic
    def load_four(typingctx, array, index):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            four = ir.VectorType(ir.FloatType(), 4)
            pointer = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1], four)
            values = builder.load(pointer, align=4, typ=four)
            return builder.shuffle_vector(values, values, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order))

        return floats(array, index), codegen

    return load_four


# A block of 4 × 4 samples has lane 4·row + column: four values of its columns, or of its rows, as lanes.
load_columns = _repeated([0, 1, 2, 3] * 4)
load_rows = _repeated([lane // 4 for lane in range(LANES)])


def _dealt(order: list[int]) -> Any:
    """An intrinsic that deals the lanes of a float32 vector in the order given."""

    @intrinsic
    def deal(typingctx, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
            return builder.shuffle_vector(args[0], args[0], lanes)

        return floats(value), codegen

    return deal


# A tile of 16 × 16 has the block in block row r, block column c at lane 4·r + c. From the values of the tile's columns
# to those of each block's first and last column; from its rows to each block's first and last row.
first_columns = _dealt([0, 4, 8, 12] * 4)
last_columns = _dealt([3, 7, 11, 15] * 4)
first_rows = _dealt([4 * (lane // 4) for lane in range(LANES)])
last_rows = _dealt([4 * (lane // 4) + 3 for lane in range(LANES)])


@intrinsic
def store_block(typingctx, array, index, stride, value):  # type: ignore[no-untyped-def]
    """Write a block of 4 × 4 into a float32 array: four lanes from ``index`` on, four from ``index + stride`` on, …"""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        four = ir.VectorType(ir.FloatType(), 4)
        step = context.cast(builder, args[2], sig.args[2], types.intp)
        place = context.cast(builder, args[1], sig.args[1], types.intp)
        for row in range(4):
            order = ir.Constant(ir.VectorType(ir.IntType(32), 4), [4 * row + i for i in range(4)])
            pointer = _pointer(context, builder, sig.args[0], args[0], types.intp, place, four)
            builder.store(builder.shuffle_vector(args[3], args[3], order), pointer, align=4)
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.none(array, index, stride, value), codegen


@intrinsic
def store3(typingctx, array, index, first, second, third):  # type: ignore[no-untyped-def]
    """Write 3·16 lanes interleaved (r g b r g b …) into a C-contiguous float32 array from element ``index`` on."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        i32 = ir.IntType(32)
        order = [lane + 16 * channel for lane in range(LANES) for channel in range(3)]
        both = builder.shuffle_vector(args[2], args[3], ir.Constant(ir.VectorType(i32, 32), list(range(32))))
        padded = builder.shuffle_vector(
            args[4], args[4], ir.Constant(ir.VectorType(i32, 32), list(range(16)) + list(range(16)))
        )
        vector = builder.shuffle_vector(both, padded, ir.Constant(ir.VectorType(i32, 48), order))
        pointer = _pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1], vector.type)
        builder.store(vector, pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, index, first, second, third), codegen


def _splat(builder: Any, element: Any, value: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(ir.VectorType(element, LANES), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, zeros)


@intrinsic
def splat(typingctx, value):  # type: ignore[no-untyped-def]
    """All lanes the same float32."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _splat(builder, ir.FloatType(), context.cast(builder, args[0], sig.args[0], types.float32))

    return floats(value), codegen


@intrinsic
def splat_int(typingctx, value):  # type: ignore[no-untyped-def]
    """All lanes the same int32."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _splat(builder, ir.IntType(32), context.cast(builder, args[0], sig.args[0], types.int32))

    return ints(value), codegen


@intrinsic
def to_floats(typingctx, value):  # type: ignore[no-untyped-def]
    """int32 → float32, rounded to nearest even."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.sitofp(args[0], ir.VectorType(ir.FloatType(), LANES))

    return floats(value), codegen


@intrinsic
def select(typingctx, condition, yes, no):  # type: ignore[no-untyped-def]
    """Per lane: ``yes`` where the mask is set, else ``no``."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.select(*args)

    return yes(condition, yes, no), codegen


@intrinsic
def minimum(typingctx, x, y):  # type: ignore[no-untyped-def]
    """Per lane the smaller; y where they are unordered."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return floats(x, y), codegen


@intrinsic
def maximum(typingctx, x, y):  # type: ignore[no-untyped-def]
    """Per lane the larger; y where they are unordered."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return floats(x, y), codegen


@intrinsic
def muladd(typingctx, x, y, z):  # type: ignore[no-untyped-def]
    """x·y + z per lane, fused where the processor can."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.FloatType(), LANES)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), "llvm.fmuladd.v16f32"
        )
        return builder.call(function, args)

    return floats(x, y, z), codegen


@intrinsic
def bits(typingctx, condition):  # type: ignore[no-untyped-def]
    """A mask as an integer: bit i is lane i."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.zext(builder.bitcast(args[0], ir.IntType(16)), ir.IntType(64))

    return types.int64(condition), codegen


@intrinsic
def have_bit(typingctx, value, number):  # type: ignore[no-untyped-def]
    """Lanes of an int32 vector in which bit ``number`` is set."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        one = builder.shl(ir.Constant(ir.IntType(32), 1), context.cast(builder, args[1], sig.args[1], types.int32))
        vector = ir.VectorType(ir.IntType(32), LANES)
        chosen = builder.and_(args[0], _splat(builder, ir.IntType(32), one))
        return builder.icmp_signed("!=", chosen, ir.Constant(vector, [0] * LANES))

    return mask(value, number), codegen


@intrinsic
def count_bits(typingctx, value):  # type: ignore[no-untyped-def]
    """How many bits of an int64 are set."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@intrinsic
def lowest_bit(typingctx, value):  # type: ignore[no-untyped-def]
    """Number of the lowest set bit of a non-zero int64."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def _horizontal(builder: Any, value: Any, comparison: str) -> Any:
    rest = value
    width = LANES
    while width > 1:
        width //= 2
        index = ir.VectorType(ir.IntType(32), width)
        low = builder.shuffle_vector(rest, rest, ir.Constant(index, list(range(width))))
        high = builder.shuffle_vector(rest, rest, ir.Constant(index, list(range(width, 2 * width))))
        rest = builder.select(builder.fcmp_ordered(comparison, low, high), low, high)
    return builder.extract_element(rest, ir.Constant(ir.IntType(32), 0))


@intrinsic
def horizontal_minimum(typingctx, value):  # type: ignore[no-untyped-def]
    """The smallest lane."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _horizontal(builder, args[0], "<")

    return types.float32(value), codegen


@intrinsic
def horizontal_maximum(typingctx, value):  # type: ignore[no-untyped-def]
    """The largest lane."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _horizontal(builder, args[0], ">")

    return types.float32(value), codegen


@intrinsic
def exp_half_negative(typingctx, value):  # type: ignore[no-untyped-def]
    """exp(−v/2) per lane for v ≥ 0, relative error below 3e-7; about 2^-125 for v above 173.

    2^(n + f) with n the nearest integer and |f| ≤ ½: a polynomial for 2^f (degree 5),
    n added to the exponent.
    """

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.FloatType(), LANES)
        integer = ir.VectorType(ir.IntType(32), LANES)

        def constant(number: float) -> Any:
            return ir.Constant(vector, [number] * LANES)

        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), "llvm.fmuladd.v16f32"
        )
        power = builder.fmul(args[0], constant(-0.72134752044448170))  # −log2(e)/2
        low = constant(-125.0)  # below -126 the result would be subnormal
        power = builder.select(builder.fcmp_ordered(">", power, low), power, low)
        # Adding 1.5·2^23 rounds to an integer, which then stands in the low bits; nothing here is fast-math.
        rounded = builder.fadd(power, constant(12582912.0))
        f = builder.fsub(power, builder.fsub(rounded, constant(12582912.0)))
        result = constant(EXP2_COEFFICIENTS[-1])
        for coefficient in EXP2_COEFFICIENTS[-2::-1]:
            result = builder.call(fused, [result, f, constant(coefficient)])
        exponent = builder.shl(builder.bitcast(rounded, integer), ir.Constant(integer, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(result, integer), exponent), vector)

    return floats(value), codegen
