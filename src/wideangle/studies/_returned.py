"""What functions of users return, read as blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.studies.protocol import Block, Variable

_REMEDY = "return a mapping of names to arrays (sample, ...), or an xarray.Dataset with a dimension 'sample'"


def as_block(result: Any, n_samples: int, name: str) -> Block:
    """Read what a user's function returned.

    Arrays of xarray keep the names of their dimensions and their coordinates. Masked floats are NaN.
    """
    if isinstance(result, Block):
        given = result.variables.items()
        unmasked = {key: _unmasked_variable(each, name, key) for key, each in given}
        return _not_empty(replace(result, variables=unmasked), name)
    if hasattr(result, "data_vars"):
        if "sample" not in result.dims:
            listed = ", ".join(map(str, result.dims)) or "none"
            raise ValueError(f"method {name!r} must return a dimension 'sample', got dimensions {listed}; {_REMEDY}")
        items = result.data_vars
    elif isinstance(result, Mapping):
        items = result
    else:
        raise TypeError(f"method {name!r} must return arrays by name, got {type(result).__name__}; {_REMEDY}")
    variables: dict[str, Variable] = {}
    coordinates = _coordinates(result)
    for key, item in ((str(key), item) for key, item in items.items()):
        dims, values = _dims_and_values(item, name, key)
        if items is result:  # A Dataset has its coordinates once, a mapping those of its arrays.
            _add_coordinates(coordinates, _coordinates(item), name)
        if dims[:1] != ("sample",) or values.ndim == 0 or len(values) != n_samples:
            raise ValueError(
                f"method {name!r} must return {n_samples} samples of {key!r}, got shape {values.shape}; {_REMEDY}"
            )
        if values.dtype.kind not in "biuf":
            raise TypeError(f"method {name!r} must return real numbers for {key!r}, got {values.dtype}; {_REMEDY}")
        variables[key] = Variable(dims[1:], samples=values)
    return _not_empty(Block(variables, coordinates), name)


def _not_empty(block: Block, name: str) -> Block:
    if not block.variables:
        raise ValueError(f"method {name!r} must return at least one variable, got none; {_REMEDY}")
    return block


def _dims_and_values(item: Any, name: str, key: str) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return the dimensions of an array, that of samples first, and its values."""
    if _is_labelled(item) and "sample" in item.dims:
        item = item.transpose("sample", ...)
        return tuple(map(str, item.dims)), item.values
    values = _unmasked(item, name, key)
    return ("sample", *(f"{key}_{k}" for k in range(1, values.ndim))), values


def _is_labelled(item: Any) -> bool:
    return hasattr(item, "dims") and hasattr(item, "coords")


def _coordinates(item: Any) -> dict[str, NDArray[Any]]:
    """Return the coordinates of dimensions of an array or a Dataset of xarray; other arrays have none."""
    if not _is_labelled(item) or "sample" not in item.dims:
        return {}
    return {str(key): each.values for key, each in item.coords.items() if each.dims == (key,) and key != "sample"}


def _add_coordinates(known: dict[str, NDArray[Any]], more: Mapping[str, NDArray[Any]], name: str) -> None:
    for dim, labels in more.items():
        first = known.setdefault(dim, labels)
        if first is not labels and (first.dtype != labels.dtype or first.tolist() != labels.tolist()):
            raise ValueError(f"method {name!r} must return one coordinate {dim!r} for all variables; {_REMEDY}")


def _unmasked(given: Any, name: str, key: str) -> NDArray[Any]:
    """Return an array whose masked entries are NaN, so that they do not count."""
    if not np.ma.isMaskedArray(given) or not np.ma.is_masked(given):
        return np.asarray(given)
    if given.dtype.kind != "f":
        raise TypeError(
            f"method {name!r} must return {given.dtype} without masked entries for {key!r}, got "
            f"{np.count_nonzero(np.ma.getmaskarray(given))} of {given.size} masked; convert it to floats, of which "
            "masked ones do not count"
        )
    return np.asarray(given.filled(np.nan))


def _unmasked_variable(variable: Variable, name: str, key: str) -> Variable:
    if variable.samples is None:
        return variable
    return replace(variable, samples=_unmasked(variable.samples, name, key))
