"""Variables of a study: those that statistics ask for exist, and what their results take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from wideangle.statistics.quantiles import _precision
from wideangle.studies.protocol import Method, Stop, Wanted, unknown_parameter

_OCTAVES = 8  # that magnitudes of samples span, roughly


class Variables(NamedTuple):
    """What a method returns of some cells: names with numbers of each sample, and names of counts."""

    method: str
    names: frozenset[str]
    totals: tuple[str, ...]


def variables_of(method: Method, prepared: Any) -> Mapping[str, int] | None:
    """Return how many numbers a sample has of each variable, None for a method that does not say so."""
    find = getattr(method, "variables", None)
    return None if find is None else find(prepared)


def names_of(method: Method, prepared: Any) -> frozenset[str] | None:
    """Return the names of all variables, counts too, None for a method that does not say so."""
    names = variables_of(method, prepared)
    return None if names is None else frozenset({*names, *getattr(method, "totals", ())})


def check_variables(cells: Iterable[tuple[Method, Any]], wanted: Wanted, stop: Stop | None) -> None:
    """Refuse names in statistics and stop that no method of the study knows.

    What a user's function returns is unknown, unless it says so: blocks, and ``never_returned`` after the run, look.
    """
    for name in wanted.histograms:
        if not wanted.keeps(name):
            raise ValueError(
                f"statistics.histograms.{name} is of a variable that statistics.variables leaves out; add it there, or "
                "leave the histogram out"
            )
    if not (wanted.histograms or wanted.variables or stop):
        return
    found: set[Variables] = set()
    all_known = True
    for method, prepared in cells:
        names = variables_of(method, prepared)
        if names is None:
            all_known = False
        else:
            found.add(Variables(method.name, frozenset(names), tuple(getattr(method, "totals", ()))))
    if all_known:
        for name in wanted.variables or ():
            _check("statistics.variables", name, found, counts=True)
        for name in wanted.histograms:
            _check("statistics.histograms", name, found)
        if stop is not None:
            _check("stop.variable", stop.variable, found)
    if stop is not None:
        for one in found:
            if stop.variable not in one.names:
                raise ValueError(
                    f"stop.variable must be a variable of all cells, got {stop.variable!r}, which those of method "
                    f"{one.method!r} do not have; they have {', '.join(map(repr, sorted(one.names)))}"
                )


def check_dimensions(cells: Iterable[tuple[Method, Any]], wanted: Wanted) -> None:
    """Refuse variables of one name that methods of the package have with different dimensions."""
    found: dict[str, tuple[Method, tuple[str, ...]]] = {}
    for method, prepared in cells:
        of_names: Mapping[str, tuple[str, ...]] | None = getattr(method, "dims", None)
        if of_names is None:
            continue
        for name in names_of(method, prepared) or ():
            other, dims = found.setdefault(name, (method, of_names[name]))
            if dims != of_names[name] and wanted.keeps(name):
                raise ValueError(
                    f"{name!r} has the dimensions {', '.join(dims)} in cells of {other.name!r}, and "
                    f"{', '.join(of_names[name])} in those of {method.name!r}; give statistics.variables without it, "
                    "or put the methods into studies of their own"
                )


def _check(argument: str, name: str, found: set[Variables], *, counts: bool = False) -> None:
    names = sorted(set().union(*(one.names for one in found)))
    totals = sorted(set().union(*(one.totals for one in found)))
    if name in names or (counts and name in totals):
        return
    if name in totals:
        raise ValueError(
            f"{argument} must name a variable that has samples, got {name!r}, a count that is kept as a total; choose "
            f"from {', '.join(map(repr, names))}"
        )
    raise unknown_parameter(name, tuple(names + totals * counts), of=argument)


def result_bytes(sizes: Mapping[str, int] | None, wanted: Wanted) -> tuple[int, int, int]:
    """Return the bytes of the tables of a block, those that quantiles take for each sample, and these at most."""
    if sizes is None:
        # At least one element each.
        sizes = dict.fromkeys(wanted.histograms, 1)
    tables = sum(8 * (bins + 2) * sizes.get(name, 0) for name, (_, _, bins) in wanted.histograms.items())
    if not wanted.quantiles:
        return tables, 0, 0
    of_sample = 24 * sum(number for name, number in sizes.items() if wanted.keeps(name))
    return tables, of_sample, of_sample * _OCTAVES * 2 ** _precision(wanted.relative_error)
