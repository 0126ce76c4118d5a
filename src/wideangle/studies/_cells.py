"""The cells of a study: every combination of a grid, or a list, with the seed and the blocks of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from wideangle.network import MLP

MAX_CELLS = 1_000_000
_MOST_NESTED = 100
_MOST_BITS = 14_284  # of integers that Python writes as text: 4300 digits
_SETS = (set, frozenset)  # their order is not the same in each process
NO_LISTS = (*_SETS, bytes, bytearray, memoryview)


def _refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise TypeError("a study cannot be changed; make another one, such as from its to_dict()")


class _Known:
    """What is found of a value that cannot be changed, once for all cells that share it."""

    @cached_property
    def text(self) -> str:
        """See :func:`canonical`."""
        return json.dumps(self, sort_keys=True, separators=(",", ":"), allow_nan=True)

    @cached_property
    def quoted(self) -> str:
        """The text as it is within a string of JSON."""
        return _quoted(self.text)

    @cached_property
    def same(self) -> str:
        """See :func:`_same`."""
        text = canonical(_with_integers(self))
        return text if len(text) < 64 else f"#{hashlib.sha256(text.encode()).hexdigest()}"


class ReadOnly(_Known, dict[str, Any]):
    """A table that cannot be changed, though JSON and pickle take it as a table."""

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (dict(self),)


class ReadOnlyList(_Known, list[Any]):
    """A list that cannot be changed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnlyList, (list(self),)


@dataclass(frozen=True)
class Cell:
    """A method and its parameters: one point of a study."""

    method: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", read_only(self.parameters))

    @property
    def text(self) -> str:
        """The cell as JSON in one definite form."""
        return self._text(canonical)

    @property
    def quoted(self) -> str:
        """The text as it is within a string of JSON."""
        return self._text(lambda value: value.quoted if isinstance(value, _Known) else _quoted(canonical(value)), '\\"')

    def _text(self, text_of: Callable[[Any], str], quote: str = '"') -> str:
        # As json.dumps would, but that values which cells share have their texts already.
        items = ",".join(f"{text_of(name)}:{text_of(self.parameters[name])}" for name in sorted(self.parameters))
        return f"{{{quote}method{quote}:{text_of(self.method)},{quote}parameters{quote}:{{{items}}}}}"

    @property
    def same(self) -> str:
        """What two cells have in common of which one would be enough: 1 and 1.0 are the same number."""
        items = (f"{name}\0{_same(self.parameters[name])}" for name in sorted(self.parameters))
        return "\0".join([self.method, *items])

    def seed(self, seed: int) -> int:
        """Return the seed of the cell's own random numbers, which depends on no other cell of the study."""
        return int.from_bytes(hashlib.sha256(f"{seed} {self.text}".encode()).digest()[:8], "little")

    def __str__(self) -> str:
        return ", ".join([self.method, *(f"{name} = {value!r}" for name, value in self.parameters.items())])


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, in which floats are exact."""
    if isinstance(value, _Known):
        return value.text
    if type(value) is int:
        return int.__repr__(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)


def _quoted(text: str) -> str:
    return json.dumps(text)[1:-1]


def _same(value: Any) -> str:
    """Return a text that values have in common if their numbers are equal."""
    return value.same if isinstance(value, _Known) else canonical(_with_integers(value))


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return list(map(_with_integers, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_only(value: Any) -> Any:
    """Return a value with all tables and lists in it so that nobody can change them; cells share what they share."""
    if isinstance(value, (ReadOnly, ReadOnlyList)):
        return value
    if isinstance(value, dict):
        return ReadOnly({name: read_only(item) for name, item in value.items()})
    if isinstance(value, list):
        return ReadOnlyList(map(read_only, value))
    return value


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """Return a value of a parameter as JSON and TOML can hold it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, MLP):
        return {
            "widths": list(value.widths),
            "activation": value.activation,
            "weight_variance": value.weight_variance,
            "bias_variance": value.bias_variance,
        }
    if is_array(value):
        return plain(name, _numbers_of(name, value), depth)
    if isinstance(value, (int, float)):
        return _number(name, value)
    if depth == _MOST_NESTED:
        raise ValueError(
            f"{name} must hold lists and tables at most {_MOST_NESTED} deep in each other, got more; make them flatter"
        )
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(
                    f"{name} must have strings for keys, got {key!r} ({type(key).__name__}); write such as {str(key)!r}"
                )
        return {key: plain(f"{name}.{key}", item, depth + 1) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, NO_LISTS):
        return [plain(name, item, depth + 1) for item in value]
    remedy = "give a list, which has an order, " if isinstance(value, _SETS) else ""
    raise TypeError(
        f"{name} must be a number, a string, True or False, an MLP, or a list or table of these, got {value!r} "
        f"({type(value).__name__}); {remedy}as a study is a description that a file can hold"
    )


def is_array(value: Any) -> bool:
    """Whether a value is an array or one of its numbers, of NumPy or of what NumPy reads."""
    return isinstance(value, (np.ndarray, np.generic)) or (hasattr(value, "ndim") and hasattr(value, "__array__"))


def _numbers_of(name: str, value: Any) -> Any:
    array = value if isinstance(value, (np.ndarray, np.generic)) else np.asarray(value)
    result = array.tolist()
    if is_array(result) or isinstance(result, bytes):
        raise TypeError(
            f"{name} must be a number, a string, True or False, or a list of these, got {value!r} ({array.dtype}); "
            "give such as float64"
        )
    return result


def _number(name: str, value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must not be NaN; leave the parameter out, or give a number")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError(
            f"{name} must have at most 4300 digits, as Python writes no longer integers, got one of "
            f"{value.bit_length()} bits; give a float, or a string"
        )
    return value


def expand(
    methods: tuple[str, ...],
    parameters: Mapping[str, Any],
    grid: Mapping[str, Any],
    cells: tuple[Mapping[str, Any], ...],
) -> tuple[Cell, ...]:
    """Return all cells: for each method those of the grid, the last axis running fastest, then those of the list."""
    parts = [_of_method(method, methods, parameters, grid, cells) for method in methods]
    n_cells = sum(part.n_cells for part in parts)
    if n_cells > MAX_CELLS:
        raise ValueError(f"a study has at most {MAX_CELLS} cells, got {n_cells}; make the grid smaller or divide it")
    for part in parts:
        for name in part.grid:
            if name in part.parameters:
                raise ValueError(f"{name!r} is both in parameters and in grid; leave it in one of them")
    result: list[Cell] = []
    seen: dict[str, Cell] = {}
    for part in parts:
        for varied in part.varied():
            cell = Cell(part.method, merged(part.parameters, varied))
            before = seen.setdefault(cell.same, cell)
            if before is not cell:
                number = (
                    ""
                    if before.text == cell.text
                    else f", as whole numbers are the same with and without a point ({before})"
                )
                raise ValueError(f"the cell ({cell}) occurs twice{number}, got it in grid or cells; leave it in once")
            result.append(cell)
    return tuple(result)


class _Part(NamedTuple):
    """What a method of a study gets, common tables and its own together."""

    method: str
    parameters: Mapping[str, Any]
    grid: Mapping[str, list[Any]]
    cells: list[dict[str, Any]]

    @property
    def has_grid(self) -> bool:
        return bool(self.grid) or not self.cells

    @property
    def n_cells(self) -> int:
        return self.has_grid * math.prod(map(len, self.grid.values())) + len(self.cells)

    def varied(self) -> Iterator[dict[str, Any]]:
        if self.has_grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))
        yield from self.cells


def _of_method(
    method: str,
    methods: tuple[str, ...],
    parameters: Mapping[str, Any],
    grid: Mapping[str, Any],
    cells: tuple[Mapping[str, Any], ...],
) -> _Part:
    """Return a study of several methods as it would be of one of them alone."""
    common = _joined("parameters", parameters, method, methods)
    axes = _joined("grid", grid, method, methods)
    listed = [
        _joined(f"cells[{k}]", cell, method, methods)
        for k, cell in enumerate(cells)
        if method in cell or not cell or not set(cell) <= set(methods)  # others have tables of other methods alone
    ]
    return _Part(method, common, axes, listed)


def _joined(table: str, given: Mapping[str, Any], method: str, methods: tuple[str, ...]) -> dict[str, Any]:
    result = {name: value for name, value in given.items() if name not in methods}
    for name, value in given.get(method, {}).items():
        if name in result:
            raise ValueError(
                f"{name!r} is both in {table}, for all methods, and in {table}.{method}; leave it in one of them"
            )
        result[name] = value
    return result


def merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a cell; the table of a ``network`` stands for its entries."""
    result: dict[str, Any] = {}
    for name, value in [*common.items(), *own.items()]:
        if name != "network":
            result[name] = value
        elif not isinstance(value, Mapping):
            raise ValueError(
                f"network must be a table or an MLP, got {value!r}; give such as {{ width = 64, depth = 8 }}"
            )
        else:
            result |= value
    return result
