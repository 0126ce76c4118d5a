"""Arrays as bytes: a head in JSON and then the values, which is read and written many times faster than an archive."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH = 8  # bytes that say how long the head is
_MOST = 10**9 - 10**6  # of bytes: SQLite, which they are for, takes 10**9 in a row of a table


def pack(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a table that JSON can hold and arrays by name as bytes, the same for the same content."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} must hold numbers or text, got dtype {array.dtype}; convert it")
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    head = json.dumps({"about": dict(about), "arrays": listed}).encode()
    size = sum(array.nbytes for array in arrays.values())
    if size + len(head) > _MOST:
        raise ValueError(
            f"the results of a cell take {size / 1e9:.3g} GB, and a journal holds {_MOST / 1e9:.3g} GB of each; leave "
            "variables out, or give histograms fewer bins"
        )
    values = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return b"".join((len(head).to_bytes(_LENGTH, "little"), head, *values))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what :func:`pack` has made into bytes; it is for bytes whose digest was compared."""
    begin = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    head = json.loads(data[_LENGTH:begin])
    arrays = {}
    for name, kind, shape in head["arrays"]:
        dtype = np.dtype(kind)
        number = math.prod(shape)
        values = np.frombuffer(data, dtype, number, begin) if number and dtype.itemsize else np.empty(number, dtype)
        arrays[name] = values.reshape(shape).copy()  # aligned, whatever comes before it
        begin += number * dtype.itemsize
    if begin != len(data):
        raise ValueError(f"expected {begin} bytes of results, got {len(data)}")
    return head["about"], arrays
