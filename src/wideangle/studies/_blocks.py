"""Work: blocks computed, reduced to accumulators, and merged in a tree whose shape no order of the work changes."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import end_if_stopped
from wideangle.statistics import Histogram, Moments, QuantileSketch, Total
from wideangle.studies._cells import canonical
from wideangle.studies._failures import Failure
from wideangle.studies._names import check_names
from wideangle.studies._packing import pack, unpack
from wideangle.studies._samples import SamplesNotWrittenError, write_samples
from wideangle.studies._tree import Node
from wideangle.studies._variables import MOMENTS_AT_ONCE, names_of
from wideangle.studies.protocol import Accumulator, Block, Method, Variable, Wanted, resolve

_KINDS: dict[str, type[Accumulator]] = {
    "moments": Moments,
    "histogram": Histogram,
    "quantiles": QuantileSketch,
    "total": Total,
}


@dataclass(frozen=True)
class Unit:
    """Blocks of one cell that are computed and merged together: a node of its tree."""

    cell: int
    node: Node


@dataclass(frozen=True)
class CellWork:
    """What a worker needs to know of a cell."""

    method: str
    parameters: str
    seed: int
    n_samples: int
    block_size: int
    fingerprint: str = ""

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the whole cell."""
        return -(-self.n_samples // self.block_size)


@dataclass(frozen=True)
class Task:
    """What one call on a worker computes; plain data that can be sent anywhere."""

    units: tuple[Unit, ...]
    cells: Mapping[int, CellWork]
    wanted: Wanted
    versions: Mapping[str, str]
    raw_folder: str | None = None


@dataclass(frozen=True, eq=False)
class Reduced:
    """Accumulators of some samples of a cell, by variable and kind, with the dimensions of variables.

    ``forms`` are the lengths of the dimensions, and the type of the samples where these are kept; ``beyond_floats`` the
    variables whose kept samples are integers that floats may not hold.
    """

    n_samples: int
    dims: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, tuple[tuple[int, ...], str]]
    accumulators: Mapping[str, Mapping[str, Accumulator]]
    coordinates: Mapping[str, NDArray[Any]]
    beyond_floats: frozenset[str] = frozenset()

    @property
    def kinds(self) -> dict[str, list[str]]:
        """Kinds of accumulators by variable, and "samples" where these are kept."""
        kept = {name: ["samples"] if dtype else [] for name, (_, dtype) in self.forms.items()}
        return {name: sorted(found) + kept[name] for name, found in self.accumulators.items()}

    def merge(self, other: Reduced) -> Reduced:
        """Return what both sets of samples give together."""
        for what, ours, theirs in (
            ("variables and dimensions", self.dims, other.dims),
            ("shapes and types", self.forms, other.forms),
            ("statistics", self.kinds, other.kinds),
            ("coordinates", _values(self), _values(other)),
        ):
            if ours != theirs:
                raise ValueError(
                    f"blocks of a cell must have the same {what}, got {_difference(ours, theirs)}; the method returned "
                    "different ones"
                )
        merged = {
            name: {kind: one.merge(other.accumulators[name][kind]) for kind, one in kinds.items()}  # type: ignore[arg-type]
            for name, kinds in self.accumulators.items()
        }
        beyond = self.beyond_floats | other.beyond_floats
        return Reduced(self.n_samples + other.n_samples, self.dims, self.forms, merged, self.coordinates, beyond)

    def to_bytes(self) -> bytes:
        """Return everything as bytes, the same for the same content."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, kinds in self.accumulators.items():
            for kind, accumulator in kinds.items():
                for field, array in accumulator.to_arrays().items():
                    arrays[f"{kind}/{field}/{name}"] = array
        for name, values in self.coordinates.items():
            arrays[f"coordinate//{name}"] = values
        about = {"n_samples": self.n_samples, "dims": dict(self.dims), "forms": dict(self.forms)}
        return pack({**about, "beyond_floats": sorted(self.beyond_floats)}, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Reduced:
        """Return what :meth:`to_bytes` made into bytes."""
        head, packed = unpack(data)
        fields: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
        coordinates = {}
        for key, array in packed.items():
            kind, field, name = key.split("/", 2)
            if kind == "coordinate":
                coordinates[name] = array
            else:
                fields.setdefault((name, kind), {})[field] = array
        accumulators: dict[str, dict[str, Accumulator]] = {name: {} for name in head["dims"]}
        for (name, kind), arrays in fields.items():
            accumulators[name][kind] = _KINDS[kind].from_arrays(arrays)
        dims = {name: tuple(items) for name, items in head["dims"].items()}
        forms = {name: (tuple(shape), kind) for name, (shape, kind) in head["forms"].items()}
        return cls(head["n_samples"], dims, forms, accumulators, coordinates, frozenset(head["beyond_floats"]))


def _values(reduced: Reduced) -> dict[str, Any]:
    return {name: (values.shape, values.dtype.str, values.tobytes()) for name, values in reduced.coordinates.items()}


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    texts = (f"{name!r}: {ours.get(name, 'none')} and {theirs.get(name, 'none')}" for name in names[:3])
    return ", ".join(text if len(text) < 200 else f"{text[:200]}..." for text in texts)


@dataclass(frozen=True)
class UnitResult:
    """What a unit came to: accumulators as bytes, and digests of the files of samples that it wrote, by block."""

    unit: Unit
    data: bytes
    files: Mapping[int, str]


def run_task(task: Task) -> list[UnitResult | Failure]:
    """Compute the units of a task; a cell that fails does not stop the others."""
    results: list[UnitResult | Failure] = []
    failed: set[int] = set()
    for unit in task.units:
        if unit.cell in failed:
            continue
        try:
            results.append(_run_unit(task, unit))
        except SamplesNotWrittenError:
            raise
        except (Exception, SystemExit) as error:  # Code that was written as a program ends the process with sys.exit.
            failed.add(unit.cell)
            results.append(Failure.of(unit.cell, error))
    return results


def _run_unit(task: Task, unit: Unit) -> UnitResult:
    work = task.cells[unit.cell]
    method = resolve(work.method)
    if method.version != task.versions[work.method]:
        raise RuntimeError(
            f"method {work.method!r} has another version on this worker than where the study runs; install the same "
            "code there"
        )
    prepared = _prepare(method, work.parameters, work.fingerprint)  # type: ignore[arg-type]  # methods are hashable
    if work.fingerprint and method.fingerprint(prepared) != work.fingerprint:  # type: ignore[attr-defined]
        raise RuntimeError(
            f"a file that {work.method!r} reads is another one on this worker than where the study was begun, with "
            f"{work.parameters}; put the same file there"
        )
    required = names_of(method, prepared)
    if required is None and len(task.versions) > 1:
        required = frozenset()  # Other methods of the study may have the names; that none has is seen after the run.
    files: dict[int, str] = {}

    def compute(node: Node) -> Reduced:
        if node.level == 0:
            return compute_block(node.place)
        half = Node(node.level - 1, 2 * node.place)
        left = compute(half)
        return left.merge(compute(half.sibling)) if half.sibling.first < work.n_blocks else left

    def compute_block(number: int) -> Reduced:
        end_if_stopped()
        first = number * work.block_size
        n_samples = min(work.block_size, work.n_samples - first)
        block = method.run(prepared, first, n_samples, work.seed, task.wanted)
        reduced = reduce_block(block, n_samples, task.wanted, required)
        if task.raw_folder is not None:
            files[number] = write_samples(Path(task.raw_folder), unit.cell, number, block, task.wanted)
        return reduced

    return UnitResult(unit, compute(unit.node).to_bytes(), files)


@lru_cache(maxsize=256)
def _prepare(method: Method, parameters: str, fingerprint: str) -> Any:
    """Prepare a cell; the fingerprint is there so that a file that has changed is read again."""
    del fingerprint
    return method.prepare(json.loads(parameters))


def reduce_block(block: Block, n_samples: int, wanted: Wanted, required: Container[str] | None = None) -> Reduced:
    """Return the wanted accumulators of a block, without variables of which nothing is wanted.

    Names that are wanted have to be there if they are among those ``required``, by default all: other cells of the
    study may have variables that these do not.
    """
    dims, forms, accumulators = {}, {}, {}
    for name, variable in block.variables.items():
        if not wanted.keeps(name):
            continue
        found = _reduce(name, variable, wanted)
        if found or (wanted.samples and variable.samples is not None):
            dims[name], accumulators[name] = variable.dims, found
            forms[name] = _form(name, variable, found, n_samples, wanted)
    asked = [*(wanted.variables or ()), *wanted.histograms]
    missing = [name for name in asked if name not in block.variables and (required is None or name in required)]
    if missing:
        known = ", ".join(map(repr, block.variables))
        raise ValueError(f"statistics ask for {missing[0]!r}, which the method does not return; it returns {known}")
    sizes: dict[str, int] = {}
    for name, each in dims.items():
        for dim, size in zip(each, forms[name][0], strict=True):
            sizes[dim] = max(sizes.get(dim, 0), size)
    given = block.coordinates.items()
    coordinates = {name: _coordinate(name, values, sizes[name]) for name, values in given if name in sizes}
    beyond = frozenset(name for name, (_, kind) in forms.items() if kind and _is_beyond_floats(block.variables[name]))
    result = Reduced(n_samples, dims, forms, accumulators, coordinates, beyond)
    check_names(dims, result.kinds, coordinates)
    return result


def _coordinate(name: str, given: Any, size: int) -> NDArray[Any]:
    """Return a coordinate as the results can hold it, in one cell or in many that differ."""
    values = np.asarray(given)
    if values.dtype.kind in "OT" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.shape != (size,):
        raise ValueError(f"the coordinate {name!r} must have shape ({size},) like its dimension, got {values.shape}")
    if values.dtype.kind != "U" and not _is_storable(values.dtype):
        raise TypeError(f"the coordinate {name!r} must hold real numbers or text, got {values.dtype}; convert it")
    return values


def _is_storable(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _is_beyond_floats(variable: Variable) -> bool:
    values = np.asarray(variable.samples)
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or not values.size:
        return False
    return int(values.max()) > 2**53 or int(values.min()) < -(2**53)


def _form(
    name: str, variable: Variable, found: Mapping[str, Accumulator], n_samples: int, wanted: Wanted
) -> tuple[tuple[int, ...], str]:
    """Return the shape of a variable, and the type of its samples if they are kept, and refuse what does not agree."""
    shapes = {kind: accumulator.shape for kind, accumulator in found.items()}
    kind = ""
    if variable.samples is not None:
        values = np.asarray(variable.samples)
        if values.ndim == 0 or len(values) != n_samples:
            raise ValueError(f"the method must return {n_samples} samples of {name!r}, got shape {values.shape}")
        if wanted.samples and not _is_storable(values.dtype):
            raise TypeError(
                f"samples of {name!r} must be real numbers of at most 64 bits to be kept, got {values.dtype}; "
                "convert them"
            )
        shapes["samples"] = values.shape[1:]
        kind = values.dtype.str if wanted.samples else ""
    if any(len(shape) != len(variable.dims) for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"{name!r} must have the dimensions {variable.dims} in all statistics, got shapes {shapes}")
    return next(iter(shapes.values())), kind


def _reduce(name: str, variable: Variable, wanted: Wanted) -> dict[str, Accumulator]:
    result = dict(variable.reduced)
    if "total" in result:
        return {"total": result["total"]}
    kinds = {"moments": wanted.moments, "histogram": name in wanted.histograms, "quantiles": bool(wanted.quantiles)}
    missing = [kind for kind, is_wanted in kinds.items() if is_wanted and kind not in result]
    if missing and variable.samples is None:
        raise ValueError(f"the method gives no samples of {name!r}, from which to find {missing[0]}; leave that out")
    if missing:
        assert variable.samples is not None
        values = np.asarray(variable.samples, dtype=np.float64)
        counts = np.isfinite(values)
        if "moments" in missing:
            result["moments"] = _moments(values, counts)
        if "histogram" in missing:
            low, high, n_bins = wanted.histograms[name]
            result["histogram"] = Histogram.from_samples(values, low, high, n_bins, where=counts)
        if "quantiles" in missing:
            result["quantiles"] = QuantileSketch.from_samples(
                values, relative_error=wanted.relative_error, where=counts
            )
    return {kind: result[kind] for kind, is_wanted in kinds.items() if is_wanted}


def _moments(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> Moments:
    """Return the moments of samples, some at a time, as they take several times the memory of these."""
    rows = max(1, MOMENTS_AT_ONCE // max(1, values[0].size))
    parts = (slice(first, first + rows) for first in range(0, len(values), rows))
    return reduce(Moments.merge, (Moments.from_samples(values[part], where=counts[part]) for part in parts))


def cell_parameters(parameters: Mapping[str, Any]) -> str:
    """Return parameters as a worker takes them."""
    return canonical(parameters)
