"""The cells of a study: every combination of a grid, or a list, with the seed and the blocks of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.network import MLP

MAX_CELLS = 1_000_000

_SEQUENCES = {
    "linspace": "[first, last, number]",
    "geomspace": "[first, last, number]",
    "range": "[first, beyond the last, step]",
}


def _refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise TypeError("a study cannot be changed; make another one, such as from its to_dict()")


class ReadOnly(dict[str, Any]):
    """A table that cannot be changed, though JSON and pickle take it as a table."""

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (dict(self),)


class ReadOnlyList(list[Any]):
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
        return canonical({"method": self.method, "parameters": self.parameters})

    def seed(self, seed: int) -> int:
        """Return the seed of the cell's own random numbers, which depends on no other cell of the study."""
        return int.from_bytes(hashlib.sha256(f"{seed} {self.text}".encode()).digest()[:8], "little")

    def __str__(self) -> str:
        return ", ".join([self.method, *(f"{name} = {value!r}" for name, value in self.parameters.items())])


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, in which floats are exact."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)


def read_only(value: Any) -> Any:
    """Return a value with all tables and lists in it so that nobody can change them; cells share what they share."""
    if isinstance(value, (ReadOnly, ReadOnlyList)):
        return value
    if isinstance(value, dict):
        return ReadOnly({name: read_only(item) for name, item in value.items()})
    if isinstance(value, list):
        return ReadOnlyList(map(read_only, value))
    return value


def plain(name: str, value: Any) -> Any:
    """Return a value of a parameter as JSON and TOML can hold it."""
    if isinstance(value, MLP):
        return {
            "widths": list(value.widths),
            "activation": value.activation,
            "weight_variance": value.weight_variance,
            "bias_variance": value.bias_variance,
        }
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(name, value.tolist())
    if isinstance(value, (int, float)):
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} must not be NaN; leave the parameter out, or give a number")
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(name, item) for item in value]
    raise TypeError(
        f"{name} must be a number, a string, True or False, an MLP, or a list or table of these, got {value!r} "
        f"({type(value).__name__}); a study is a description that a file can hold"
    )


def axis(name: str, values: Any) -> list[Any]:
    """Return the values of an axis of a grid: a list, or a table that names a sequence."""
    remedy = f"give a list such as {name} = [1, 2], or {name} = {{ linspace = [0.1, 1.0, 10] }}"
    if isinstance(values, Mapping):
        if len(values) != 1 or next(iter(values)) not in _SEQUENCES:
            forms = ", ".join(f"{{ {kind} = {form} }}" for kind, form in _SEQUENCES.items())
            near = [each for kind in values for each in get_close_matches(str(kind), _SEQUENCES, n=1)]
            if len(values) == 1 and near:
                remedy = f"did you mean {near[0]!r}?"
            raise ValueError(f"grid.{name} must be a list or one of {forms}, got {dict(values)!r}; {remedy}")
        ((kind, numbers),) = values.items()
        return _sequence(f"grid.{name}.{kind}", kind, numbers)
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"grid.{name} must be a list, got {values!r}; {remedy}, or put one value under parameters")
    # Iterables may be longer than memory, or have no end.
    result = [plain(f"grid.{name}", value) for value in itertools.islice(values, MAX_CELLS + 1)]
    if len(result) > MAX_CELLS:
        raise _too_many(f"grid.{name}", "more")
    if not result:
        raise ValueError(f"grid.{name} must not be empty, as the grid then has no cell; {remedy}")
    return result


def _sequence(name: str, kind: str, numbers: Any) -> list[Any]:
    remedy = f"give three numbers {_SEQUENCES[kind]}"
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 3:
        raise ValueError(f"{name} must hold three numbers, got {numbers!r}; {remedy}")
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise ValueError(f"{name} must hold finite numbers, got {numbers!r}; {remedy}")
    first, last, step = numbers
    if kind == "range":
        if not all(isinstance(number, int) for number in numbers) or step == 0:
            raise ValueError(f"{name} must hold integers and a step other than 0, got {numbers!r}; {remedy}")
        _check_length(name, max(0, -((first - last) // step)))
        result: list[Any] = list(range(first, last, step))
    else:
        if not isinstance(step, int) or step < 1:
            raise ValueError(f"{name} must end in a number of values, at least 1, got {step!r}; {remedy}")
        if kind == "geomspace" and first * last <= 0.0:
            raise ValueError(f"{name} must begin and end at numbers of the same sign, got {first} and {last}; {remedy}")
        _check_length(name, step)
        values = getattr(np, kind)(float(first), float(last), step)
        whole = isinstance(first, int) and isinstance(last, int) and _whole(values)
        result = (np.rint(values).astype(np.int64) if whole else values).tolist()
    if not result:
        raise ValueError(f"{name} must not be empty, got {numbers!r}; {remedy}")
    return result


def _whole(values: NDArray[np.float64]) -> bool:
    """Whether all values are integers but for rounding, which is larger in geometric sequences."""
    size = np.abs(values)
    return bool(np.all((np.abs(values - np.rint(values)) <= 1e-13 * size) & (size < 2.0**40)))


def _check_length(name: str, number: int) -> None:
    if number > MAX_CELLS:
        raise _too_many(name, str(number))


def _too_many(name: str, number: str) -> ValueError:
    return ValueError(f"{name} has at most {MAX_CELLS} values, as a study has cells, got {number}; give fewer")


def expand(
    methods: tuple[str, ...],
    parameters: Mapping[str, Any],
    grid: Mapping[str, list[Any]],
    cells: tuple[Mapping[str, Any], ...],
) -> tuple[Cell, ...]:
    """Return all cells: for each method those of the grid, the last axis running fastest, then those of the list."""
    n_cells = len(methods) * (math.prod(map(len, grid.values())) if grid or not cells else 0) + len(methods) * len(
        cells
    )
    if n_cells > MAX_CELLS:
        raise ValueError(f"a study has at most {MAX_CELLS} cells, got {n_cells}; make the grid smaller or divide it")
    for name in grid:
        if name in parameters:
            raise ValueError(f"{name!r} is both in parameters and in grid; leave it in one of them")
    result = []
    seen: dict[str, Cell] = {}
    for method in methods:
        for varied in [*_products(grid, cells), *cells]:
            cell = Cell(method, merged(parameters, varied))
            if cell.text in seen:
                raise ValueError(f"the cell ({cell}) occurs twice, got it in grid or cells; leave it in once")
            seen[cell.text] = cell
            result.append(cell)
    return tuple(result)


def _products(grid: Mapping[str, list[Any]], cells: tuple[Mapping[str, Any], ...]) -> Iterator[dict[str, Any]]:
    if grid or not cells:
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


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
