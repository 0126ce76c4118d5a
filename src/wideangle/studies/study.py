"""What a study is: a grid of cells, methods, samples, a seed and statistics, in a file or in Python."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wideangle._checks import check_choice, check_integer, check_samples, check_seed
from wideangle.studies._axes import axis
from wideangle.studies._cells import Cell, canonical, expand, plain, read_only
from wideangle.studies._reading import check_parameters, check_statistics, check_stop, check_table, read_toml
from wideangle.studies._variables import check_dimensions, check_variables
from wideangle.studies.protocol import FunctionMethod, Stop, Wanted, check_function, resolve

if TYPE_CHECKING:
    from wideangle.studies.planning import Plan

_KEYS = (
    "name",
    "method",
    "samples",
    "seed",
    "parameters",
    "grid",
    "cells",
    "block_size",
    "random_numbers",
    "statistics",
    "stop",
)


@dataclass(frozen=True, init=False, eq=False)
class Study:
    """A Monte Carlo study: what is computed, for which parameters, from how many samples.

    Parameters
    ----------
    method
        Name of what computes the samples, one of :data:`wideangle.studies.METHODS`, or a function of one's own as
        ``"module:function"`` or itself, see :class:`wideangle.studies.Method`; or a list of several of these.
    samples
        Samples of each cell, at most 10**15; with ``stop`` the largest number.
    seed
        Non-negative integer below 2**64. Sample k of a cell depends on the seed, k, the method and the cell's own
        parameters: not on other cells, on blocks, on workers, or on what was run before.
    parameters
        Parameters that all cells have. In a study of several methods a table under the name of one has what its cells
        alone have; so in ``grid``, and in entries of ``cells``, of which those that hold nothing else are for these
        methods alone. Each method has the cells that it would have in a study of its own.
    grid
        Values by parameter: each combination is a cell. A list, or one of ``{"linspace": [first, last, number]}``,
        ``{"geomspace": [first, last, number]}`` and ``{"range": [first, beyond the last, step]}``; the first two give
        integers if both ends are, and all values are whole. Values of
        ``network`` are :class:`wideangle.MLP` or tables, whose entries become parameters.
    cells
        Parameters of further cells, one by one.
    block_size
        Samples of a block, the unit of work that is repeated if it is lost. Default None: about a second of work on one
        core, by the method's own estimate of its cost, and less in cells of some seconds, down to a tenth, so that
        several workers can share them. Results depend on it in the last digits.
    random_numbers
        ``"independent"`` (default): cells have random numbers of their own. ``"common"``: sample k of all cells has the
        same, so that differences between cells have smaller errors, and errors go together.
    statistics
        What to find of each variable: :class:`wideangle.studies.Statistics`, or a table with its arguments.
    stop
        When a cell has enough samples: :class:`wideangle.studies.Stop`, or a table with its arguments. Default None:
        when it has ``samples``.
    name
        For people; it is no part of the identity.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, a key is unknown (with the nearest one that is known), a cell occurs twice
        (1 and 1.0 are the same number, though not the same random numbers), a method refuses the parameters of a cell,
        or methods have variables of one name with different dimensions.

    Examples
    --------
    >>> import wideangle as wa
    >>> study = wa.studies.Study(
    ...     "simulate_angles",
    ...     samples=4000,
    ...     seed=1,
    ...     parameters={"theta0": 0.1},
    ...     grid={"width": [16, 32], "depth": [4, 8]},
    ... )
    >>> len(study.cells), study.cells[1].parameters
    (4, {'theta0': 0.1, 'width': 16, 'depth': 8})
    >>> study.identity[:8] == wa.studies.Study.from_dict(study.to_dict()).identity[:8]
    True

    Two methods, of which each has a parameter of its own:

    >>> both = wa.studies.Study(
    ...     ["simulate_angles", "simulate_gram"],
    ...     samples=4000,
    ...     seed=1,
    ...     parameters={"width": 64, "depth": 8, "simulate_angles": {"theta0": 0.1}},
    ...     grid={"simulate_gram": {"angle": [0.1, 0.2]}},
    ...     statistics={"variables": ["log_sin2", "gram"]},
    ... )
    >>> for cell in both.cells:
    ...     print(cell)
    simulate_angles, width = 64, depth = 8, theta0 = 0.1
    simulate_gram, width = 64, depth = 8, angle = 0.1
    simulate_gram, width = 64, depth = 8, angle = 0.2
    """

    methods: tuple[str, ...]
    samples: int
    seed: int
    cells: tuple[Cell, ...]
    block_size: int | None
    random_numbers: str
    statistics: Wanted
    stop: Stop | None
    name: str
    _given: Mapping[str, Any] = field(repr=False)

    def __init__(
        self,
        method: str | Callable[..., Any] | Iterable[str | Callable[..., Any]],
        *,
        samples: int,
        seed: int,
        parameters: Mapping[str, Any] | None = None,
        grid: Mapping[str, Any] | None = None,
        cells: Iterable[Mapping[str, Any]] = (),
        block_size: int | None = None,
        random_numbers: str = "independent",
        statistics: Wanted | Mapping[str, Any] | None = None,
        stop: Stop | Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        methods = _method_names(method)
        given = {
            "samples": samples,
            "seed": seed,
            "parameters": parameters,
            "grid": grid,
            "cells": cells,
            "block_size": block_size,
            "random_numbers": random_numbers,
            "statistics": statistics,
            "stop": stop,
            "name": name,
        }
        self._describe(methods, given)
        self._check_cells()

    def _describe(self, methods: tuple[str, ...], given: Mapping[str, Any]) -> None:
        """Take in the arguments, by name, as far as they can be checked without the methods."""
        common = read_only(plain("parameters", check_parameters("parameters", given.get("parameters") or {}, methods)))
        axes = read_only(_axes(check_parameters("grid", given.get("grid") or {}, methods), methods))
        cells, name = given.get("cells", ()), given.get("name", "")
        if isinstance(cells, (str, bytes, Mapping)) or not isinstance(cells, Iterable):
            raise TypeError(f"cells must be a list of tables, got {cells!r}; write each cell under [[cells]]")
        listed = tuple(
            read_only(plain(f"cells[{k}]", check_parameters(f"cells[{k}]", cell, methods)))
            for k, cell in enumerate(cells)
        )
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}; give a title such as 'angles by depth'")
        random_numbers = given.get("random_numbers", "independent")
        set_field = object.__setattr__
        set_field(self, "methods", methods)
        set_field(self, "samples", check_samples("samples", given["samples"]))
        set_field(self, "seed", check_seed(given["seed"]))
        set_field(self, "cells", expand(methods, common, axes, listed))
        set_field(self, "block_size", _check_block_size(given.get("block_size"), self.samples))
        set_field(self, "random_numbers", check_choice("random_numbers", random_numbers, ("independent", "common")))
        set_field(self, "statistics", check_statistics(given.get("statistics")))
        set_field(self, "stop", check_stop(given.get("stop"), self.statistics))
        set_field(self, "name", name)
        written = {"parameters": common, "grid": axes, "cells": listed}
        set_field(self, "_given", read_only({key: value for key, value in written.items() if value}))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Study:
        """Return the study that a table describes, with the keys of the arguments.

        Raises
        ------
        TypeError, ValueError
            As for the class; unknown keys are named with the nearest one that is known.
        """
        check_table("study", table, known=_KEYS)
        for key in ("method", "samples", "seed"):
            if key not in table:
                raise ValueError(f"study needs {key!r}; give it at the top of the file")
        return cls(table["method"], **{key: value for key, value in table.items() if key != "method"})

    @classmethod
    def _as_stored(cls, table: Mapping[str, Any]) -> Study:
        """Return the study of a store to look at: its methods, and files that they read, may be elsewhere."""
        method = table["method"]
        study = object.__new__(cls)
        study._describe((method,) if isinstance(method, str) else tuple(method), table)
        return study

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Study:
        """Return the study of a TOML file.

        Raises
        ------
        OSError
            If there is no such file or it cannot be read.
        TypeError, ValueError
            If it is not TOML, or as for the class; the message begins with the file.
        """
        table = read_toml(Path(path))
        try:
            return cls.from_dict(table)
        except (TypeError, ValueError) as error:
            raise prefixed(os.fspath(path), error) from error

    def to_dict(self) -> dict[str, Any]:
        """Return a table from which :meth:`from_dict` makes the same study, of types that JSON and TOML know."""
        result: dict[str, Any] = {
            "method": self.methods[0] if len(self.methods) == 1 else list(self.methods),
            "samples": self.samples,
            "seed": self.seed,
            "random_numbers": self.random_numbers,
            "statistics": self.statistics.to_dict(),
            **plain("study", self._given, depth=-10),  # checked already, and deeper by the tables around it
        }
        if self.name:
            result["name"] = self.name
        if self.block_size is not None:
            result["block_size"] = self.block_size
        if self.stop is not None:
            result["stop"] = self.stop.to_dict()
        return result

    @cached_property
    def identity(self) -> str:
        """A SHA-256 digest, in hexadecimal digits, of all that results depend on but for the version of the package.

        Of a function of one's own it has the file that the function is in, and not the modules that this file imports.
        It is that of the cells, however they were written: a grid and a list of the same cells have one identity.
        """
        content = {
            "cells": [],
            "samples": self.samples,
            "seed": self.seed,
            "block_size": self.block_size,
            "random_numbers": self.random_numbers,
            "statistics": self.statistics.to_dict(),
            "stop": None if self.stop is None else self.stop.to_dict(),
            "versions": {name: resolve(name).version for name in self.methods},
            "files": [digest for digest in map(self.fingerprint, range(len(self.cells))) if digest],
        }
        # The JSON with the texts of all cells in the list, which is not made as a whole.
        before, after = canonical(content).split('"cells":[', maxsplit=1)
        digest = hashlib.sha256(f'{before}"cells":['.encode())
        for number, cell in enumerate(self.cells):
            digest.update(f'{"," * bool(number)}"{cell.quoted}"'.encode())
        digest.update(after.encode())
        return digest.hexdigest()

    def fingerprint(self, cell: int) -> str:
        """Return a digest of the files that a cell reads, empty if it reads none."""
        find = getattr(resolve(self.cells[cell].method), "fingerprint", None)
        return "" if find is None else str(find(self.prepared[cell]))

    def seed_of(self, cell: Cell) -> int:
        """Return the seed of a cell."""
        return self.seed if self.random_numbers == "common" else cell.seed(self.seed)

    def plan(self) -> Plan:
        """Return the blocks of the study with estimates of time and memory, without running anything.

        Raises
        ------
        ValueError
            If a block would need more memory than the machine has; the message has the number.
        """
        from wideangle.studies.planning import make_plan

        return make_plan(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Study) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @cached_property
    def prepared(self) -> tuple[Any, ...]:
        """What each cell's method made of its parameters."""
        methods = {name: resolve(name) for name in self.methods}
        result = []
        for number, cell in enumerate(self.cells):
            try:
                result.append(methods[cell.method].prepare(cell.parameters))
            except (OSError, ImportError):
                raise
            except Exception as error:  # what the check of a user's function raises
                raise self._refused(number, error) from error
        return tuple(result)

    def _refused(self, number: int, error: Exception) -> Exception:
        """Return the error of a cell whose parameters a method refuses."""
        text, cell = str(error), self.cells[number]
        if len(self.methods) > 1 and any(f"has no {name!r}" in text for name in cell.parameters):
            text += f"; what one method alone gets stands in a table of its name, such as [parameters.{cell.method}]"
        if not isinstance(error, (TypeError, ValueError)):
            text = f"{type(error).__name__}: {text}".removesuffix(": ")
        return prefixed(f"cell {number} ({cell})", error, text)

    def _check_cells(self) -> None:
        methods = {name: resolve(name) for name in self.methods}
        of_cells = zip((methods[cell.method] for cell in self.cells), self.prepared, strict=True)
        check_variables(of_cells, self.statistics, self.stop)
        if len(methods) > 1:
            of_cells = zip((methods[cell.method] for cell in self.cells), self.prepared, strict=True)
            check_dimensions(of_cells, self.statistics)


def prefixed(place: str, error: Exception, text: str | None = None) -> Exception:
    """Return an error that says where it comes from; those of other modules may take other arguments."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{place}: {error if text is None else text}")


def _axes(grid: Mapping[str, Any], methods: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: {each: axis(f"{name}.{each}", own) for each, own in values.items()}
        if name in methods
        else axis(name, values)
        for name, values in grid.items()
    }


def _method_names(method: Any) -> tuple[str, ...]:
    single = isinstance(method, str) or callable(method)
    if not single and (not isinstance(method, Iterable) or isinstance(method, (Mapping, set, frozenset))):
        raise TypeError(
            f"method must be a name or a function, or a list of these, got {method!r}; give such as 'simulate_angles'"
        )
    items = [method] if single else list(method)
    result = tuple(item if isinstance(item, str) else _name_of(item) for item in items)
    if not result or len(set(result)) != len(result):
        raise ValueError(f"method must name one method or several, each once, got {method!r}")
    for name, item in zip(result, items, strict=True):
        method = resolve(name)
        if isinstance(method, FunctionMethod):
            check_function(name, method.function)
            if not isinstance(item, str) and method.function != item:
                raise _no_function(item)
    return result


def _name_of(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not callable(function) or module is None or name is None or "<" in name or module == "__main__":
        raise _no_function(function)
    return f"{module}:{name}"


def _no_function(given: Any) -> TypeError:
    return TypeError(
        f"method must be a name, or a function of a module that can be imported, got {given!r}; "
        "put the function into a file of its own, so that workers and later runs find it"
    )


def _check_block_size(block_size: Any, samples: int) -> int | None:
    if block_size is None:
        return None
    remedy = "give the number of samples of a block, or leave it out"
    return check_integer("block_size", block_size, low=1, high=samples, remedy=remedy)
