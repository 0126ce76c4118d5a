"""Tables of a study's file, checked key by key."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wideangle._checks import check_choice, check_flag, check_integer, check_positive_real, check_real, check_samples
from wideangle.statistics.histograms import MAX_BINS, check_width
from wideangle.studies._cells import ReadOnly
from wideangle.studies._names import LONGEST_NAME, is_name, shortened
from wideangle.studies.protocol import RESERVED, Stop, Wanted, unknown_parameter


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with path.open("rb") as file:
        try:
            table: dict[str, Any] = tomllib.load(file)
        except RecursionError as error:
            raise ValueError(f"{path}: lists or tables are too deep in each other; make them flatter") from error
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: not a TOML file ({error}); see https://toml.io for the format") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a TOML file ({error}); save it as UTF-8") from error
        except ValueError as error:  # of the interpreter, for integers of more digits than it reads
            raise ValueError(f"{path}: an integer has too many digits ({error}); give a float or a string") from error
    return table


def check_table(name: str, value: Any, *, known: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Return a table whose keys are strings, and among those known."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a table of names and values, got {value!r} ({type(value).__name__})")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have names for keys, got {key!r}")
        if known is not None and key not in known:
            raise unknown_parameter(key, known, of=name)
    return value


def check_parameters(table: str, value: Any, methods: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return a table of parameters, whose names have to do as names of arrays in the store and of arguments.

    One under the name of a method has what that method alone gets.
    """
    for name in check_table(table, value):
        if is_own_table(table, name, value[name], methods):
            check_parameters(f"{table}.{name}", value[name])
            continue
        if name in RESERVED:
            raise ValueError(
                f"{table} must not have {name!r}, which methods are given for each block; seed and samples of a study "
                "stand at the top of its description, and other parameters need other names"
            )
        if not is_name(name) or any(map(str.isspace, name)):
            raise ValueError(
                f"{table} must have names for keys of 1 to {LONGEST_NAME} bytes that hold no dot, slash or space, got "
                f"{shortened(name)}; choose another name, such as 'width'"
            )
        if name == "network" and isinstance(value[name], Mapping):
            check_parameters(f"{table}.network", value[name])
    return dict(value)


def is_own_table(table: str, name: str, value: Any, methods: tuple[str, ...]) -> bool:
    """Whether an entry of a table is what one of the methods alone gets; those of other methods are refused."""
    from wideangle.studies.methods import METHODS

    if name in methods:
        if not isinstance(value, Mapping):
            raise TypeError(
                f"{table}.{name} must be a table of what this method alone gets, got {value!r}; write it under "
                f"[{table}.{name}]"
            )
        return True
    if not methods or not isinstance(value, Mapping):
        return False
    near = get_close_matches(name, methods, n=1, cutoff=0.8)
    if near or name in METHODS or ":" in name:
        remedy = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, methods))}"
        raise ValueError(
            f"{table} has a table for the method {name!r}, which the study does not have; {remedy}, or add it to method"
        )
    return False


def check_statistics(given: Any) -> Wanted:
    """Return the statistics that a table asks for."""
    table = given.to_dict() if isinstance(given, Wanted) else {} if given is None else given
    keys = ("moments", "histograms", "quantiles", "relative_error", "variables", "samples")
    check_table("statistics", table, known=keys)
    default = Wanted()
    result = Wanted(
        moments=check_flag("statistics.moments", table.get("moments", True)),
        histograms=_histograms(table.get("histograms", {})),
        quantiles=_probabilities(table.get("quantiles", ())),
        relative_error=_relative_error(table.get("relative_error", default.relative_error)),
        variables=_names(table.get("variables")),
        samples=check_flag("statistics.samples", table.get("samples", False)),
    )
    if not (result.moments or result.histograms or result.quantiles or result.samples):
        raise ValueError("statistics must ask for something, got moments = false alone; leave moments true")
    return result


def _histograms(given: Any) -> dict[str, tuple[float, float, int]]:
    result = {}
    for name, value in check_table("statistics.histograms", given).items():
        label = f"statistics.histograms.{name}"
        remedy = "give [low, high, number of bins], such as [-20.0, 0.0, 400]"
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise ValueError(f"{label} must hold three numbers, got {value!r}; {remedy}")
        low, high = (check_real(f"{label}[{k}]", value[k], remedy=remedy) for k in range(2))
        if not low < high:
            raise ValueError(f"{label} must have low < high, got {low!r} and {high!r}; {remedy}")
        bins = check_integer(f"{label}[2]", value[2], low=1, high=MAX_BINS, remedy=remedy)
        check_width(low, high, bins, prefix=f"{label}: ")
        result[name] = (low, high, bins)
    return ReadOnly(result)


def _probabilities(given: Any) -> tuple[float, ...]:
    remedy = "give increasing probabilities from 0 to 1, such as [0.05, 0.5, 0.95]"
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"statistics.quantiles must be a list, got {given!r}; {remedy}")
    values = [check_real(f"statistics.quantiles[{k}]", value, remedy=remedy) for k, value in enumerate(given)]
    if values != sorted(set(values)) or (values and not 0.0 <= values[0] <= values[-1] <= 1.0):
        raise ValueError(f"statistics.quantiles must increase from 0 to 1, got {values}; {remedy}")
    return tuple(values)


def _relative_error(given: Any) -> float:
    remedy = "give the relative error of quantiles, from 1e-6 to 0.1"
    result = check_positive_real("statistics.relative_error", given, remedy=remedy)
    if not 1e-6 <= result <= 0.1:
        raise ValueError(f"statistics.relative_error must lie between 1e-6 and 0.1, got {given!r}; {remedy}")
    return result


def _names(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, (str, set, frozenset)) or not isinstance(given, Iterable):
        raise TypeError(f"statistics.variables must be a list of names, got {given!r}; leave it out for all")
    result = tuple(given)
    if not result or not all(isinstance(name, str) for name in result) or len(set(result)) != len(result):
        raise ValueError(f"statistics.variables must hold names, each once, got {list(result)}; leave it out for all")
    return result


def check_stop(given: Any, statistics: Wanted) -> Stop | None:
    """Return the rule by which cells end early, if there is one."""
    if given is None:
        return None
    table = given.to_dict() if isinstance(given, Stop) else given
    check_table("stop", table, known=("variable", "standard_error", "statistic", "relative", "min_samples"))
    for key in ("variable", "standard_error"):
        if key not in table:
            raise ValueError(f"stop needs {key!r}; give such as {{ variable = 'log_sin2', standard_error = 0.01 }}")
    variable = table["variable"]
    if not isinstance(variable, str):
        raise TypeError(f"stop.variable must be a name, got {variable!r}; give a variable of the method")
    if not statistics.moments or not statistics.keeps(variable):
        raise ValueError(f"stop needs the moments of {variable!r}; do not leave them out of statistics")
    remedy = "give the standard error at which a cell has enough samples"
    return Stop(
        variable,
        check_positive_real("stop.standard_error", table["standard_error"], remedy=remedy),
        check_choice("stop.statistic", table.get("statistic", "mean"), ("mean", "variance")),
        check_flag("stop.relative", table.get("relative", False)),
        check_samples("stop.min_samples", table.get("min_samples", 1000)),
    )
