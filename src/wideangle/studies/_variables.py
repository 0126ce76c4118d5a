"""Variables of a study: those that statistics ask for exist, and what their results take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.statistics._samples import VALUES_AT_ONCE
from wideangle.statistics.quantiles import _precision
from wideangle.studies.protocol import Method, Stop, Wanted, unknown_parameter

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOMENTS_AT_ONCE = 2**17  # values of which moments are found together
_OCTAVES = 8  # that magnitudes of samples span, roughly
# Bytes:
_TABLE = 24  # of a bin: its count, the same as bytes, and these joined with others
_BUCKET = 24  # of a sketch, three times as many when it is made into bytes
_BUCKET_IN_WORK = 56  # while buckets of the parts of a block are sorted and added
_WHILE_REDUCED = 9  # of a number: itself, and whether it is finite
_WORK = 64  # of a number whose bucket or deviation is found
_IN_FILE = 10  # of a number in the file that keeps it, which grows in the memory by an eighth at a time
_AT_ONCE_IN_FILE = 2**24  # that NumPy writes


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


class ResultBytes(NamedTuple):
    """What the statistics of a block are made of: bytes, and numbers of each sample."""

    tables: float
    numbers: float
    largest: float  # of one variable
    sketched: bool
    buckets: float  # at most, of each of the numbers
    kept: bool
    at_once: float  # numbers that are reduced together

    @classmethod
    def of(cls, sizes: Mapping[str, int] | None, wanted: Wanted) -> ResultBytes:
        """Return what statistics need, of variables of those sizes."""
        if sizes is None:
            # At least one element each.
            sizes = dict.fromkeys(wanted.histograms, 1)
        bins = {name: n_bins for name, (_, _, n_bins) in wanted.histograms.items()}
        numbers = [number for name, number in sizes.items() if wanted.keeps(name)]
        return cls(
            tables=_TABLE * sum((n_bins + 2) * sizes.get(name, 0) for name, n_bins in bins.items()),
            numbers=sum(numbers),
            largest=max(numbers, default=0),
            sketched=bool(wanted.quantiles),
            buckets=_OCTAVES * 2 ** _precision(wanted.relative_error),
            kept=wanted.samples,
            at_once=VALUES_AT_ONCE if wanted.quantiles or wanted.histograms else MOMENTS_AT_ONCE,
        )


def block_bytes(size: Floats, results: Floats, n_samples: Floats | Integers) -> Floats:
    """Return what blocks take at most: while they are computed, then reduced and kept, then made into bytes.

    Everything is by cell: the bytes of a sample that the method says, 0 if its kernel reduces them; the fields of
    :class:`ResultBytes` (cell, field); and the samples of a block.
    """
    tables, numbers, largest, sketched, buckets, kept, at_once = results.T
    each = np.minimum(n_samples, buckets) * sketched
    work = np.minimum(largest * n_samples, at_once) * _WORK
    file = kept * (_IN_FILE * numbers * n_samples + np.minimum(8 * largest * n_samples, _AT_ONCE_IN_FILE))
    reduced = _WHILE_REDUCED * numbers * n_samples + _BUCKET * numbers * each
    reduced += np.maximum(_BUCKET_IN_WORK * largest * each + work, file)
    reduced[size <= 0] = 0.0
    computed = np.maximum(size, 0.0) * n_samples
    return np.asarray(tables + np.maximum(np.maximum(computed, reduced), 3 * _BUCKET * numbers * each))


def sample_bytes(size: Floats, results: Floats) -> Floats:
    """Return what each sample adds to a block, however many there are; as ``size`` where that is not positive."""
    numbers, kept = results.T[1], results.T[5]
    return np.where(size > 0, np.maximum(size, (_WHILE_REDUCED + _IN_FILE * kept) * numbers), size)
