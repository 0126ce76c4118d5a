"""What a study can run: methods that compute samples of a cell, and the blocks of results that they return."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wideangle.statistics import Histogram, Moments, QuantileSketch, Total

Accumulator = Moments | Histogram | QuantileSketch | Total

RESERVED = ("first_sample", "n_samples", "seed")


@dataclass(frozen=True)
class Wanted:
    """What is to be found of each variable.

    Attributes
    ----------
    moments
        Whether to find means, variances, skewness and kurtosis with standard errors.
    histograms
        ``(low, high, n_bins)`` by variable.
    quantiles
        Probabilities at which quantiles are to be reported; none if empty.
    relative_error
        Of the quantile sketch.
    variables
        Names of the variables to keep; None for all.
    samples
        Whether every sample is kept.
    """

    moments: bool = True
    histograms: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    quantiles: tuple[float, ...] = ()
    relative_error: float = 1e-3
    variables: tuple[str, ...] | None = None
    samples: bool = False

    def keeps(self, name: str) -> bool:
        """Whether a variable is wanted at all."""
        return self.variables is None or name in self.variables

    @property
    def needs_samples(self) -> bool:
        """Whether a method has to return samples where it could return moments and histograms alone."""
        return self.samples or bool(self.quantiles)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that are not the default ones, as a file holds them."""
        result: dict[str, Any] = {}
        if not self.moments:
            result["moments"] = False
        if self.histograms:
            result["histograms"] = {name: list(value) for name, value in self.histograms.items()}
        if self.quantiles:
            result |= {"quantiles": list(self.quantiles), "relative_error": self.relative_error}
        if self.variables is not None:
            result["variables"] = list(self.variables)
        if self.samples:
            result["samples"] = True
        return result


@dataclass(frozen=True)
class Stop:
    """When a cell has enough samples: once standard errors are below a target everywhere.

    It is looked at after 1, 2, 4, 8, ... blocks, so that it depends on no order of the work.

    Attributes
    ----------
    variable
        Whose standard error counts.
    standard_error
        The target.
    statistic
        ``"mean"`` (default) or ``"variance"``.
    relative
        Whether the target is relative to the statistic; default False.
    min_samples
        Samples before which the rule is not looked at; default 1000. Of few samples a standard error is itself
        uncertain, and that of an event which has not been seen yet is 0.
    """

    variable: str
    standard_error: float
    statistic: str = "mean"
    relative: bool = False
    min_samples: int = 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "variable": self.variable,
            "standard_error": self.standard_error,
            "statistic": self.statistic,
            "relative": self.relative,
            "min_samples": self.min_samples,
        }

    def reached(self, moments: Moments) -> bool:
        """Whether no standard error is above the target; unknown ones are, where there are any samples at all."""
        errors = moments.standard_error_mean if self.statistic == "mean" else moments.standard_error_variance
        scale = np.abs(moments.mean if self.statistic == "mean" else moments.variance) if self.relative else 1.0
        target = self.standard_error * scale
        return bool(np.any(moments.count) and np.all((errors <= target) | (moments.count == 0)))


@dataclass(frozen=True, eq=False)
class Variable:
    """A quantity of a block: samples (sample, \\*dims), or what they have been reduced to, or both.

    Attributes
    ----------
    dims
        Names of the dimensions besides that of samples.
    samples
        Values (sample, \\*dims), real or integer; those that are not finite do not count. None if only ``reduced`` is
        given.
    reduced
        Accumulators by kind ("moments", "histogram", "quantiles", "total") of the shape of ``dims``, for what a method
        has already found; whatever else is wanted is found from ``samples``.
    """

    dims: tuple[str, ...]
    samples: NDArray[Any] | None = None
    reduced: Mapping[str, Accumulator] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """What a method returns for some samples of a cell: variables by name, and coordinates (dim,) of dimensions.

    Coordinates hold real numbers or text.
    """

    variables: Mapping[str, Variable]
    coordinates: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Method(Protocol):
    """A way to compute samples of a cell.

    Sample k is a function of the parameters, the seed and k alone, whatever block it is computed in.

    A method may also have ``variables(prepared)``, which returns how many numbers a sample has of each variable that
    has samples or moments, by name, and ``totals``, names of counts. Names in statistics and stop are then checked
    when the study is described, and histograms and quantiles count in the memory of a block.
    """

    @property
    def name(self) -> str:
        """What the method is called in a study."""

    @property
    def version(self) -> str:
        """Changes when the results may change."""

    def prepare(self, parameters: Mapping[str, Any]) -> Any:
        """Check the parameters of a cell without any work, and return them as :meth:`run` takes them.

        Raises ``ValueError`` or ``TypeError`` that name parameter, value and remedy; :func:`unknown_parameter` helps.
        """

    def cost(self, prepared: Any) -> float | None:
        """Return the expected seconds of a sample on one core, None if unknown."""

    def bytes_per_sample(self, prepared: Any, wanted: Wanted) -> int | None:
        """Return the bytes a sample takes while its block is computed, None if unknown; 0 if they do not grow."""

    def run(self, prepared: Any, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute samples ``first_sample`` ... ``first_sample + n_samples - 1`` on one thread."""


def unknown_parameter(name: str, known: tuple[str, ...], *, of: str) -> ValueError:
    """Return the error for a name that is not among those known, with the nearest of them as a suggestion."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(map(repr, known))}"
    return ValueError(f"{of} has no {name!r}; {remedy}")


@lru_cache(maxsize=1024)
def _source_digest(function: Callable[..., Any]) -> str:
    """Return it as it was at first, since a file that is edited later is not what this process runs."""
    path = inspect.getsourcefile(inspect.unwrap(function))  # check_function has refused what has none
    text = Path(path).read_bytes() if path is not None and Path(path).is_file() else b""
    return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True)
class FunctionMethod:
    """A user's function as a method, named ``"module:function"``."""

    name: str
    function: Callable[..., Any]

    @property
    def version(self) -> str:
        """A digest of the source file of the function, but not of what this file imports."""
        return _source_digest(self.function)

    def prepare(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Check the parameters against the signature, and by ``function.check(**parameters)`` if there is one."""
        signature = inspect.signature(self.function)
        kinds = {p.kind for p in signature.parameters.values()}
        known = tuple(name for name in signature.parameters if name not in RESERVED)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            for name in parameters:
                if name not in known:
                    raise unknown_parameter(name, known, of=f"method {self.name!r}")
        for name in known:
            parameter = signature.parameters[name]
            needed = parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            if needed and parameter.default is inspect.Parameter.empty and name not in parameters:
                raise ValueError(
                    f"method {self.name!r} needs the parameter {name!r}; give it in parameters, grid or cells"
                )
        check = getattr(self.function, "check", None)
        if check is not None:
            check(**parameters)
        return dict(parameters)

    def variables(self, prepared: dict[str, Any]) -> dict[str, int] | None:
        """Return the names in ``function.variables``, if the function has that attribute; their sizes are unknown."""
        names = getattr(self.function, "variables", None)
        if names is None:
            return None
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"method {self.name!r} must have names in its attribute variables, got {names!r}")
        return dict.fromkeys(names, 1)

    def cost(self, prepared: dict[str, Any]) -> float | None:
        """Return ``function.cost(**parameters)``, if the function has that attribute."""
        cost = getattr(self.function, "cost", None)
        return None if cost is None else float(cost(**prepared))

    def bytes_per_sample(self, prepared: dict[str, Any], wanted: Wanted) -> int | None:
        """Return ``function.bytes_per_sample(**parameters)``, if the function has that attribute."""
        size = getattr(self.function, "bytes_per_sample", None)
        return None if size is None else int(size(**prepared))

    def run(self, prepared: dict[str, Any], first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Call the function, and read a mapping of arrays (sample, ...) or a Dataset with a dimension ``sample``."""
        from wideangle.studies._returned import as_block

        # A function may change what it is given, and blocks of one process share what is prepared.
        parameters = copy.deepcopy(prepared)
        result = self.function(first_sample=first_sample, n_samples=n_samples, seed=seed, **parameters)
        return as_block(result, n_samples, self.name)


def check_function(name: str, function: Callable[..., Any]) -> None:
    """Refuse a user's function that cannot be called as a method, or is no function with a source.

    Raises
    ------
    TypeError
        With the method and what to do.
    """
    what = f"method {name!r} must be a function that is written in a Python module"
    example = "write a function such as def f(*, first_sample, n_samples, seed, ...)"
    if inspect.isclass(function):
        raise TypeError(f"{what}, got a class; {example}")
    try:
        inspect.getsourcefile(inspect.unwrap(function))
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        kind = type(function).__name__
        raise TypeError(f"{what}, got {function!r} ({kind}); {example} that calls it") from error
    for one in parameters.values():
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            raise TypeError(f"method {name!r} must take all parameters by name, got {one.name!r} by place; {example}")
    by_name = {one.name for one in parameters.values() if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    missing = [each for each in RESERVED if each not in by_name]
    if missing and not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        raise TypeError(
            f"method {name!r} must take {', '.join(RESERVED)} by name, got a function without {', '.join(missing)}; "
            f"{example}"
        )


def resolve(name: str) -> Method:
    """Return the method of a name: one of :data:`METHODS`, or a user's ``"module:function"``."""
    from wideangle.studies.methods import METHODS

    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise unknown_parameter(name, tuple(METHODS), of="wideangle.studies")
    module_name, _, path = name.partition(":")
    remedy = "give 'module:function' of a module that can be imported here and on every worker"
    if module_name in ("", "__main__") or not path:
        raise ValueError(
            f"method {name!r} must name a function and the file that it is in, got the module {module_name!r} and the "
            f"function {path!r}; {remedy}"
        )
    try:
        target: Any = importlib.import_module(module_name)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"method {name!r} cannot be imported ({error}); {remedy}") from error
    except Exception as error:  # whatever a module raises when it is imported
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"method {name!r} cannot be imported ({what}); mend the module, or {remedy}") from error
    except SystemExit as error:
        raise ValueError(
            f"method {name!r} cannot be imported, as its module ends the process ({error!r}); put what it does as a "
            "program under `if __name__ == '__main__':`"
        ) from error
    if not callable(target):
        raise TypeError(f"method {name!r} must be a function, got {type(target).__name__}; {remedy}")
    return FunctionMethod(name, target)
