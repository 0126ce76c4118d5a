"""What the cells of a study have in common: variables, dimensions, coordinates and types."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle.studies._blocks import Reduced
from wideangle.studies._coordinates import fit_floats
from wideangle.studies._failures import Failure
from wideangle.studies._journal import Journal
from wideangle.studies._names import check_names
from wideangle.studies._sample_arrays import SampleForm
from wideangle.studies._tree import Node
from wideangle.studies._variables import names_of
from wideangle.studies.protocol import resolve

if TYPE_CHECKING:
    from wideangle.studies.study import Study

Array = NDArray[Any]


@dataclass
class Layout:
    """The variables that cells have, and how long their dimensions are at most."""

    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, set[str]] = field(default_factory=dict)
    coordinates: dict[str, list[Array]] = field(default_factory=dict)
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    beyond_floats: set[str] = field(default_factory=set)
    refused: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, journal: Journal) -> Layout:
        """Return what all cells have; those that do not fit the ones before them are listed as refused.

        The order does not depend on that of the work: cells that failed come last.
        """
        result = cls()
        done = journal.done()
        failed = {failure.cell for failure in journal.failures()}
        for cell in sorted(done, key=lambda cell: (cell in failed, cell)):
            try:
                result.add(merged(journal, cell, done[cell]), cell)
            except (ValueError, TypeError) as error:
                result.refused.append(Failure.of(cell, error))
        return result

    def fitting(self, done: Mapping[int, list[Node]]) -> dict[int, list[Node]]:
        """Return the cells that fit."""
        refused = {failure.cell for failure in self.refused}
        return {cell: nodes for cell, nodes in done.items() if cell not in refused}

    def add(self, reduced: Reduced, cell: int) -> None:
        """Take in what a cell has."""
        self._check(reduced, cell)
        self.beyond_floats |= reduced.beyond_floats
        for name, dims in reduced.dims.items():
            self.dims[name] = dims
            self.kinds.setdefault(name, set()).update(reduced.kinds[name])
            for dim, size in zip(dims, reduced.forms[name][0], strict=True):
                self.sizes[dim] = max(self.sizes.get(dim, 0), size)
            if kind := reduced.forms[name][1]:
                self.dtypes[name] = self._dtype(name, kind)
        for name, values in reduced.coordinates.items():
            known = self.coordinates.setdefault(name, [])
            if not any(_begins_with(one, values) for one in known):
                known[:] = [one for one in known if not _begins_with(values, one)] + [values]

    def _check(self, reduced: Reduced, cell: int) -> None:
        for name, dims in reduced.dims.items():
            if self.dims.get(name, dims) != dims:
                raise ValueError(
                    f"variable {name!r} has the dimensions {dims} in cell {cell} and {self.dims[name]} in others; "
                    "methods of one study must agree in this: put them into studies of their own"
                )
        for name in reduced.beyond_floats | (self.beyond_floats & reduced.dims.keys()):
            kind = reduced.forms[name][1]
            if kind and self._dtype(name, kind).kind == "f":
                raise ValueError(
                    f"the samples of {name!r} are {np.dtype(kind)} in cell {cell} and {self.dtypes[name]} in others, "
                    "and some of them are integers beyond 2**53, of which floats would lose digits; return one type"
                )
        for name, values in reduced.coordinates.items():
            if any((one.dtype.kind == "U") != (values.dtype.kind == "U") for one in self.coordinates.get(name, ())):
                raise ValueError(
                    f"the coordinate {name!r} has dtype {values.dtype} in cell {cell} and "
                    f"{self.coordinates[name][0].dtype} in others; return numbers in all cells, or text in all"
                )
        if any(not self.kinds.get(name, set()).issuperset(kinds) for name, kinds in reduced.kinds.items()):
            kinds = {name: {*found, *self.kinds.get(name, ())} for name, found in reduced.kinds.items()}
            check_names(
                {**self.dims, **reduced.dims}, {**self.kinds, **kinds}, {*self.coordinates, *reduced.coordinates}
            )

    def _dtype(self, name: str, kind: str) -> np.dtype[Any]:
        """Return the type that kept samples have with those of a further cell."""
        return np.result_type(self.dtypes.get(name, kind), kind)

    def moving(self) -> list[str]:
        """Return the coordinates that differ between cells, or that cells with the longest dimension do not have."""
        return [name for name, known in self.coordinates.items() if len(known) > 1 or len(known[0]) < self.sizes[name]]

    def of_cells(self, name: str, n_cells: int) -> Array:
        """Return an array (cell, value) for a coordinate that differs between cells, of a type that holds all values.

        Those that cells do not have are NaN, or empty text: text is also what numbers become that no float holds.
        """
        shape, known = (n_cells, self.sizes[name]), self.coordinates[name]
        if known[0].dtype.kind == "U":
            return np.full(shape, "", dtype=np.result_type(*known))
        if all(fit_floats(values.tolist()) for values in known):
            return np.full(shape, np.nan)
        return np.full(shape, "", dtype=f"U{max(len(str(value)) for values in known for value in values)}")

    @property
    def names(self) -> set[str]:
        """Names of variables and dimensions, and of coordinates that differ between cells or may come to."""
        return {*self.dims, *self.sizes, *(f"{name}_of_cell" for name in self.sizes)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a variable of one cell."""
        return tuple(self.sizes[dim] for dim in self.dims[name])

    def sample_forms(self) -> dict[str, SampleForm]:
        """Return what kept samples are like, by variable: of a type that holds those of all cells."""
        return {name: SampleForm(self.dims[name], self.shape(name), dtype) for name, dtype in self.dtypes.items()}


def never_returned(study: Study, layout: Layout, done: Container[int]) -> list[Failure]:
    """Return the failures of cells whose functions were to return what, in the end, no cell of the study has.

    In a study of several methods a block cannot tell: a method that comes later may have the name.
    """
    wanted = study.statistics
    # Of variables without histograms there may be nothing to keep.
    of_all = (wanted.variables or ()) if wanted.moments or wanted.quantiles or wanted.samples else ()
    missing = [name for name in (*of_all, *wanted.histograms) if name not in layout.dims]
    if not missing:
        return []
    methods = {name: resolve(name) for name in study.methods}
    cells_and_prepared = zip(study.cells, study.prepared, strict=True)
    known = [names_of(methods[cell.method], prepared) for cell, prepared in cells_and_prepared]
    missing = [name for name in missing if not any(names and name in names for names in known)]
    unknown = [cell for cell, names in enumerate(known) if names is None]
    if not missing or not all(cell in done for cell in unknown):
        return []
    text = (
        f"ValueError: statistics ask for {missing[0]!r}, which no method of the study returns; leave it out, or name "
        "a variable that one of them returns"
    )
    return [Failure(cell, text, text) for cell in unknown]


def _begins_with(longer: Array, shorter: Array) -> bool:
    return len(longer) >= len(shorter) and np.array_equal(longer[: len(shorter)], shorter)


def merged(journal: Journal, cell: int, nodes: list[Node]) -> Reduced:
    """Return all that is done of a cell; nodes that have no common parent yet are merged in order.

    In a cell that has failed they may not fit together: then it is those before the first that does not.
    """
    first, *others = sorted(nodes, key=lambda node: node.first)
    result = journal.read(cell, first)
    for node in others:
        other = journal.read(cell, node)
        try:
            result = result.merge(other)
        except ValueError:
            break
    return result
