"""Parameters of cells as coordinates of the results: what they are called, and values from which they can be told."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle.studies._cells import canonical

if TYPE_CHECKING:
    from wideangle.studies.study import Study

Array = NDArray[Any]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what arrays of text cut off at the end, and what has no encoding
_ABSENT = object()


def cell_coordinates(study: Study) -> dict[str, Array]:
    """Return the parameters of cells as coordinates: booleans or numbers where all are, and none loses a digit.

    Others are text: strings as they are and the rest as JSON, or all as JSON where that would make two of them one.
    """
    names = dict.fromkeys(name for cell in study.cells for name in cell.parameters)
    return {name: _coordinate([cell.parameters.get(name, _ABSENT) for cell in study.cells]) for name in names}


def _coordinate(given: list[Any]) -> Array:
    values = [None if value is _ABSENT else value for value in given]
    present = [value for value in values if value is not None]
    kinds, is_everywhere = {type(value) for value in present}, len(present) == len(values)
    if kinds == {bool} and is_everywhere:
        return np.array(present, dtype=bool)
    if kinds <= {int} and is_everywhere and all(-(2**63) <= value < 2**63 for value in present):
        return np.array(present, dtype=np.int64)
    if kinds and kinds <= {int, float} and fit_floats(present):
        return np.array([np.nan if value is None else float(value) for value in values])
    texts = ["" if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
    seen: dict[str, str] = {}
    keys = ["" if v is _ABSENT else canonical(v) for v in given]
    are_distinct = all(seen.setdefault(text, key) == key for text, key in zip(texts, keys, strict=True))
    if not are_distinct or any(map(_NO_TEXT.search, texts)):
        texts = ["" if v is _ABSENT else json.dumps(v) for v in given]
    return np.array(texts, dtype=str)


def fit_floats(values: Iterable[Any]) -> bool:
    """Whether numbers keep all digits as floats."""
    try:
        return all(isinstance(value, float) or float(value) == value for value in values)
    except OverflowError:
        return False


def named(parameters: Mapping[str, Array], taken: Collection[str]) -> dict[str, Array]:
    """Return parameters by the names that they have in the results: with ``_parameter`` behind those that are taken.

    It is there more than once where another parameter is called like that.
    """
    result = {}
    for name, values in parameters.items():
        free = name
        while free in taken or (free != name and free in parameters):
            free += "_parameter"
        result[free] = values
    return result
