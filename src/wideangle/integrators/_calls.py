"""Calls through addresses, which keep the drivers independent of the functions that they integrate."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)
_POINTER = ir.DoubleType().as_pointer()


def _data(context: Any, builder: Any, kind: types.Type, array: Any, offset: Any = None) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return data if offset is None else builder.gep(data, [offset])


@intrinsic  # type: ignore[untyped-decorator]
def call_rhs(
    typing_context: Any,
    address: Any,
    time: Any,
    state: Any,
    at: Any,
    params: Any,
    slope: Any,
    to: Any,
    size: Any,
    n_params: Any,
    lanes: Any,
    scratch: Any,
) -> Any:
    """Call the right-hand side at an address for the lanes in a bit set: state[at:] gives slope[to:]."""
    arrays = (time, state, params, slope, scratch)
    if not all(isinstance(array, types.Array) for array in arrays):
        return None
    integer = types.int64
    signature = types.none(
        integer, time, state, integer, params, slope, integer, integer, integer, integer, scratch
    )

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arguments = [
            _data(context, builder, time, values[1]),
            _data(context, builder, state, values[2], values[3]),
            _data(context, builder, params, values[4]),
            _data(context, builder, slope, values[5], values[6]),
            *values[7:10],
            _data(context, builder, scratch, values[10]),
        ]
        kind = ir.FunctionType(ir.VoidType(), [_POINTER] * 4 + [_INT64] * 3 + [_POINTER])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_scalar(
    typing_context: Any, address: Any, time: Any, state: Any, params: Any, out: Any, size: Any, n_params: Any
) -> Any:
    """Call an event function or a Jacobian at an address: time, state and params give ``out``."""
    integer = types.int64
    signature = types.none(integer, types.float64, state, params, out, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointers = [
            _data(context, builder, kind, value) for kind, value in zip(signature.args[2:5], values[2:5], strict=True)
        ]
        kind = ir.FunctionType(ir.VoidType(), [ir.DoubleType(), *[_POINTER] * 3, _INT64, _INT64])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1], *pointers, *values[5:]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def fetch_add(typing_context: Any, counter: Any, amount: Any) -> Any:
    """Add to the first element of an int64 array at once for all threads, and return what it held before."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _data(context, builder, counter, values[0]), values[1], "monotonic")

    return types.int64(counter, types.int64), codegen
