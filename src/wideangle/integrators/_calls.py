"""Calls through addresses, which keep the drivers independent of the functions that they integrate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# The compiled code of the drivers: a division by zero gives an infinity, and never an exception in a thread.
kernel = njit(error_model="numpy")


def njit_on_disk(**options: Any) -> Callable[[Any], Any]:
    """Return njit with its code kept on disk, or only in memory where Numba finds no directory that it can write to."""

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return decorate


_INT64 = ir.IntType(64)
_POINTER = ir.DoubleType().as_pointer()


@intrinsic
def addresses(typing_context: Any, record: Any) -> Any:
    """Return a named tuple with pointers for its contiguous arrays, which the caller keeps alive.

    Arrays passed on would be counted at every call, which costs more than a step.
    """
    members = [types.CPointer(kind.dtype) if isinstance(kind, types.Array) else kind for kind in record.types]

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = []
        for kind, value in zip(record.types, cgutils.unpack_tuple(builder, values[0]), strict=True):
            is_array = isinstance(kind, types.Array)
            parts.append(context.make_array(kind)(context, builder, value).data if is_array else value)
        return context.make_tuple(builder, signature.return_type, parts)

    return types.NamedTuple(members, record.instance_class)(record), codegen


@intrinsic
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
    integer = types.int64
    signature = types.none(integer, time, state, integer, params, slope, integer, integer, integer, integer, scratch)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arguments = [
            values[1],
            builder.gep(values[2], [values[3]]),
            values[4],
            builder.gep(values[5], [values[6]]),
            *values[7:],
        ]
        kind = ir.FunctionType(ir.VoidType(), [_POINTER] * 4 + [_INT64] * 3 + [_POINTER])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), arguments)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def call_scalar(
    typing_context: Any, address: Any, time: Any, state: Any, params: Any, out: Any, to: Any, size: Any, n_params: Any
) -> Any:
    """Call an event function or a Jacobian at an address: time, state and params give ``out[to:]``."""
    integer = types.int64
    signature = types.none(integer, types.float64, state, params, out, integer, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.DoubleType(), *[_POINTER] * 3, _INT64, _INT64])
        out_to = builder.gep(values[4], [values[5]])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [*values[1:4], out_to, *values[6:]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def fetch_add(typing_context: Any, counter: Any, amount: Any) -> Any:
    """Add to the first int64 of memory at once for all threads, and return what it held before."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", values[0], values[1], "monotonic")

    return types.int64(counter, types.int64), codegen
