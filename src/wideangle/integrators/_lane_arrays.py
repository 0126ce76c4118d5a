"""Arrays of lanes: what a right-hand side that runs in lanes gets for its arrays of floats.

A right-hand side written for floats and one-dimensional arrays compiles for lanes as it stands, as long as it does not
branch on values and keeps to indices and lengths.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, make_attribute_wrapper, models, overload_attribute, register_model

from wideangle.integrators._digest import package_digest
from wideangle.integrators._lanes import LANES, is_value, load, overload_lanes, store


class LaneArray(types.Type):
    """Memory [component][lane] as an array of components, which can be written if it is for results."""

    def __init__(self, writable: bool) -> None:
        self.writable = writable
        super().__init__(name=f"LaneArray[{writable}, {package_digest()}]")


@register_model(LaneArray)
class _LaneArrayModel(models.StructModel):
    def __init__(self, manager: Any, numba_type: types.Type) -> None:
        members = [("data", types.CPointer(types.float64)), ("length", types.intp)]
        super().__init__(manager, numba_type, members)


make_attribute_wrapper(LaneArray, "data", "_data")
make_attribute_wrapper(LaneArray, "length", "_length")


def _viewer(kind: types.Type) -> Any:
    @intrinsic
    def view(typing_context: Any, data: types.Type, length: types.Type) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            result = cgutils.create_struct_proxy(signature.return_type)(context, builder)
            result.data, result.length = values
            return result._getvalue()

        return kind(types.CPointer(types.float64), types.intp), codegen

    return view


read_lanes = _viewer(LaneArray(writable=False))
write_lanes = _viewer(LaneArray(writable=True))


@overload_lanes(operator.getitem)
def _getitem(array: types.Type, index: types.Type) -> Any:
    if not (isinstance(array, LaneArray) and isinstance(index, types.Integer)):
        return None

    def getitem(array: Any, index: Any) -> Any:
        return load(array._data, (index if index >= 0 else index + array._length) * LANES)

    return getitem


@overload_lanes(operator.setitem)
def _setitem(array: types.Type, index: types.Type, value: types.Type) -> Any:
    if not (isinstance(array, LaneArray) and array.writable and isinstance(index, types.Integer) and is_value(value)):
        return None

    def setitem(array: Any, index: Any, value: Any) -> None:
        store(array._data, (index if index >= 0 else index + array._length) * LANES, value)

    return setitem


@overload_lanes(len)
def _len(array: types.Type) -> Any:
    return (lambda array: array._length) if isinstance(array, LaneArray) else None


@overload_attribute(LaneArray, "size", strict=False)
def _size(array: types.Type) -> Any:
    return lambda array: array._length


@overload_attribute(LaneArray, "shape", strict=False)
def _shape(array: types.Type) -> Any:
    return lambda array: (array._length,)
