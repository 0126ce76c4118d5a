"""A vector of sixteen float64 for Numba, one trajectory a lane.

``Lanes`` is an LLVM vector: every operation on it is the IEEE operation on each lane by itself, so that what a lane
holds never depends on its neighbours."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.extending import (
    intrinsic,
    lower_cast,
    models,
    overload,
    register_model,
)

from wideangle.integrators._digest import package_digest

# Two registers of AVX-512 or four of AVX2: the latency of a right-hand side hides behind the second half. With 8 the
# two-mode problem of the benchmarks takes 1.7 times as long; 32 gain another quarter, and lose it on few trajectories.
LANES = 16
# Numba would compare the annotations of typing function and implementation too.
overload_lanes = partial(overload, strict=False)
_DOUBLE = ir.DoubleType()
_INT64 = ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_INTEGERS = ir.VectorType(_INT64, LANES)
_BITS = ir.IntType(LANES)
_BOOLEANS = ir.VectorType(ir.IntType(1), LANES)


class Lanes(types.Type):
    """Sixteen float64.

    Its name changes with the package, and with it the keys of cached functions that were compiled for lanes.
    """

    def __init__(self) -> None:
        super().__init__(name=f"Lanes[{package_digest()}]")

    def unify(self, _typing_context: Any, other: types.Type) -> types.Type | None:
        return self if isinstance(other, (types.Float, types.Integer)) else None

    def can_convert_from(self, _typing_context: Any, other: types.Type) -> Conversion | None:
        return Conversion.promote if isinstance(other, (types.Float, types.Integer)) else None


class Mask(types.Type):
    """Sixteen truth values; it has none itself, so that a branch on values does not compile for lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"Mask[{package_digest()}]")


lanes_type, mask_type = Lanes(), Mask()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: types.Type) -> None:
        super().__init__(manager, numba_type, _VECTOR)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: types.Type) -> None:
        super().__init__(manager, numba_type, _BITS)


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _as_vector(context: Any, builder: Any, value: Any, kind: types.Type) -> Any:
    if kind == lanes_type:
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float64))


@lower_cast(types.Float, Lanes)
@lower_cast(types.Integer, Lanes)
def _cast_number(context: Any, builder: Any, source: types.Type, _target: types.Type, value: Any) -> Any:
    return _as_vector(context, builder, value, source)


def is_value(kind: types.Type) -> bool:
    return isinstance(kind, (Lanes, types.Float, types.Integer))


def _any_lanes(*kinds: types.Type) -> bool:
    return all(is_value(kind) for kind in kinds) and any(isinstance(kind, Lanes) for kind in kinds)


def _vector_operation(n_arguments: int, result: types.Type, build: Callable[..., Any]) -> Any:
    """Make an intrinsic over Lanes and numbers, which are spread over the lanes."""

    def generate(arguments: tuple[types.Type, ...]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pairs = zip(values, signature.args, strict=True)
            return build(builder, *(_as_vector(context, builder, value, kind) for value, kind in pairs))

        return result(*arguments), codegen

    if n_arguments == 1:

        @intrinsic
        def unary(typing_context: Any, a: types.Type) -> Any:
            return generate((a,)) if is_value(a) else None

        return unary
    if n_arguments == 2:

        @intrinsic
        def binary(typing_context: Any, a: types.Type, b: types.Type) -> Any:
            return generate((a, b)) if _any_lanes(a, b) else None

        return binary

    @intrinsic
    def ternary(typing_context: Any, a: types.Type, b: types.Type, c: types.Type) -> Any:
        return generate((a, b, c)) if _any_lanes(a, b, c) else None

    return ternary


def _named(name: str) -> Callable[..., Any]:
    """Give a builder that calls an LLVM intrinsic on vectors."""

    def build(builder: Any, *values: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return builder.call(function, values)

    return build


def _comparison(symbol: str) -> Callable[..., Any]:
    def build(builder: Any, a: Any, b: Any) -> Any:
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return builder.bitcast(compare(symbol, a, b), _BITS)

    return build


_add = _vector_operation(2, lanes_type, lambda builder, a, b: builder.fadd(a, b))
_subtract = _vector_operation(2, lanes_type, lambda builder, a, b: builder.fsub(a, b))
_multiply = _vector_operation(2, lanes_type, lambda builder, a, b: builder.fmul(a, b))
_divide = _vector_operation(2, lanes_type, lambda builder, a, b: builder.fdiv(a, b))
spread = _vector_operation(1, lanes_type, lambda builder, a: a)
_negative = _vector_operation(1, lanes_type, lambda builder, a: builder.fneg(a))
lanes_sqrt = _vector_operation(1, lanes_type, _named("sqrt"))
lanes_abs = _vector_operation(1, lanes_type, _named("fabs"))
lanes_fma = _vector_operation(3, lanes_type, _named("fma"))


def _overload_operator(symbol: Any, operation: Any) -> None:
    @overload_lanes(symbol)
    def typed(a: types.Type, b: types.Type) -> Any:
        return (lambda a, b: operation(a, b)) if _any_lanes(a, b) else None


for _symbol, _inplace, _operation in (
    (operator.add, operator.iadd, _add),
    (operator.sub, operator.isub, _subtract),
    (operator.mul, operator.imul, _multiply),
    (operator.truediv, operator.itruediv, _divide),
):
    _overload_operator(_symbol, _operation)
    _overload_operator(_inplace, _operation)


for _symbol, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _overload_operator(_symbol, _vector_operation(2, mask_type, _comparison(_sign)))


@overload_lanes(operator.neg)
def _neg(a: types.Type) -> Any:
    return (lambda a: _negative(a)) if isinstance(a, Lanes) else None


@overload_lanes(operator.pos)
def _pos(a: types.Type) -> Any:
    return (lambda a: a) if isinstance(a, Lanes) else None


@overload_lanes(abs)
def _abs(a: types.Type) -> Any:
    return (lambda a: lanes_abs(a)) if isinstance(a, Lanes) else None


@intrinsic
def where_lanes(typing_context: Any, mask: types.Type, a: types.Type, b: types.Type) -> Any:
    """Take lanes of ``a`` where the mask is set, of ``b`` elsewhere."""
    if not (isinstance(mask, Mask) and is_value(a) and is_value(b)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        chosen = builder.bitcast(values[0], _BOOLEANS)
        pairs = zip(values[1:], signature.args[1:], strict=True)
        return builder.select(chosen, *(_as_vector(context, builder, value, kind) for value, kind in pairs))

    return lanes_type(mask, a, b), codegen


def _mask_operation(symbol: Any, build: Callable[..., Any]) -> None:
    @intrinsic
    def operation(typing_context: Any, a: types.Type, b: types.Type) -> Any:
        if not (isinstance(a, Mask) and isinstance(b, Mask)):
            return None
        return mask_type(a, b), lambda context, builder, signature, values: build(builder, *values)

    @overload_lanes(symbol)
    def typed(a: types.Type, b: types.Type) -> Any:
        return (lambda a, b: operation(a, b)) if isinstance(a, Mask) and isinstance(b, Mask) else None


_mask_operation(operator.and_, lambda builder, a, b: builder.and_(a, b))
_mask_operation(operator.or_, lambda builder, a, b: builder.or_(a, b))


@intrinsic
def _get_lane(typing_context: Any, value: types.Type, lane: types.Type) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.extract_element(*values)

    return types.float64(value, types.intp), codegen


@intrinsic
def _set_lane(typing_context: Any, value: types.Type, lane: types.Type, number: types.Type) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.insert_element(values[0], values[2], values[1])

    return lanes_type(value, types.intp, types.float64), codegen


def map_lanes(function: Any) -> Any:
    """Return a function that calls a function of one number lane by lane."""

    @njit(error_model="numpy")
    def mapped(x: Any) -> Any:
        result = x
        for lane in range(LANES):
            result = _set_lane(result, lane, function(_get_lane(x, lane)))
        return result

    return mapped


@njit(error_model="numpy")
def _powers(a: Any, b: Any) -> Any:
    result = a
    for lane in range(LANES):
        result = _set_lane(result, lane, _get_lane(a, lane) ** _get_lane(b, lane))
    return result


@overload_lanes(max)
def _max(a: types.Type, b: types.Type) -> Any:
    return (lambda a, b: where_lanes(b > a, b, a)) if _any_lanes(a, b) else None


@overload_lanes(min)
def _min(a: types.Type, b: types.Type) -> Any:
    return (lambda a, b: where_lanes(b < a, b, a)) if _any_lanes(a, b) else None


@overload_lanes(operator.pow)
def _pow(a: types.Type, b: types.Type) -> Any:
    if _any_lanes(a, b) and not isinstance(b, types.Integer):
        return lambda a, b: _powers(spread(a), spread(b))
    if not isinstance(a, Lanes) or not isinstance(b, types.Integer):
        return None

    def power(a: Any, b: Any) -> Any:
        result, square, left = spread(1.0), a, abs(b)
        while left > 0:
            if left & 1:
                result = result * square
            square = square * square
            left >>= 1
        return result if b >= 0 else 1.0 / result

    return power


@intrinsic
def mask_bits(typing_context: Any, mask: types.Type) -> Any:
    """Return the mask as an integer, lane 0 in the lowest bit."""
    if not isinstance(mask, Mask):
        return None
    return types.int64(mask), lambda context, builder, signature, values: builder.zext(values[0], _INT64)


@intrinsic
def bits_mask(typing_context: Any, bits: types.Type) -> Any:
    """Return the mask whose lanes are the low bits of an integer."""
    if not isinstance(bits, types.Integer):
        return None
    return mask_type(types.int64), lambda context, builder, signature, values: builder.trunc(values[0], _BITS)


@intrinsic
def add_to_exponent(typing_context: Any, shifted: types.Type) -> Any:
    """Return 2**k for the integers k that 1.5 * 2**52 + 1023 + k holds in its low bits, -1022 <= k <= 1023."""
    if not isinstance(shifted, Lanes):
        return None

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        places = ir.Constant(_INTEGERS, [52] * LANES)
        return builder.bitcast(builder.shl(builder.bitcast(values[0], _INTEGERS), places), _VECTOR)

    return lanes_type(shifted), codegen


@intrinsic
def split_exponent(typing_context: Any, value: types.Type) -> Any:
    """Return m and k of a positive normal number m * 2**k with sqrt(1/2) <= m < sqrt(2), k as float64."""
    if not isinstance(value, Lanes):
        return None

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def constant(number: int) -> Any:
            return ir.Constant(_INTEGERS, [number] * LANES)

        bits = builder.bitcast(values[0], _INTEGERS)
        # 0x3FE6A09E667F3BCD is sqrt(1/2): the exponent steps there and not at 1.
        shifted = builder.sub(bits, constant(0x3FE6A09E667F3BCD))
        power = builder.ashr(shifted, constant(52))
        mantissa = builder.sub(bits, builder.shl(power, constant(52)))
        return context.make_tuple(
            builder,
            signature.return_type,
            (builder.bitcast(mantissa, _VECTOR), builder.sitofp(power, _VECTOR)),
        )

    return types.UniTuple(lanes_type, 2)(value), codegen


def _vector_pointer(builder: Any, data: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(typing_context: Any, data: types.Type, index: types.Type) -> Any:
    """Load the lanes that begin at an index of float64 memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_vector_pointer(builder, *values), align=8)

    return lanes_type(data, types.intp), codegen


@intrinsic
def store(typing_context: Any, data: types.Type, index: types.Type, value: types.Type) -> Any:
    """Store lanes at an index of float64 memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = _as_vector(context, builder, values[2], signature.args[2])
        builder.store(vector, _vector_pointer(builder, *values[:2]), align=8)
        return context.get_dummy_value()

    return types.none(data, types.intp, value), codegen
