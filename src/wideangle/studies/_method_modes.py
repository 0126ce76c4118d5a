"""Coupled modes from random initial margins as a method of studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_numbers
from wideangle.studies._method_parameters import by_value, check_names, count, method_version
from wideangle.studies._sample_numbers import normals
from wideangle.studies.protocol import Block, Variable, Wanted

SECONDS_A_STEP = 3e-8
SECONDS_A_STEP_AND_FEATURE = 1e-8
SECONDS_A_HINGE = 4e-6
SECONDS_A_HINGE_FEATURE = 6e-7
SECONDS_A_VALUE = 2e-8
STEPS = {"cross-entropy": 40, "exponential": 40, "squared": 150}
STIFF_STEPS = 600  # in explicit ones: modes that approach 1 are stiff for more than one factor
# Measured with AVX-512 on a server processor of 2023, for times of up to 1000.

STREAM = 0x6D6F646573  # "modes"
LARGEST_NORMAL = 8.21  # of 52 bits
# Matrix products round a row by how many there are. The hinge goes through them, so that its trajectories are computed
# in groups of one size, which begin at multiples of it.
HINGE_GROUP = 1024

Array = NDArray[np.float64]

NEEDED = ("features", "probabilities", "margins0", "times")
SPREAD_REMEDY = (
    "give the standard deviation of the logarithm of margins, a number or (mode), such as 0.5, or 0 for none"
)
CONTROL = {"rtol": 1e-8, "atol": 1e-12, "max_steps": 100_000}
KNOWN = (*NEEDED, "margins0_standard_deviation", "loss", "depth", "imbalance", *CONTROL)
DIMS = {
    "margins": ("mode", "time"),
    "accuracy": ("time",),
    "expected_accuracy": ("time",),
    "loss": ("time",),
}


class Modes(NamedTuple):
    """A checked cell."""

    features: Array
    probabilities: Array
    margins0: Array
    spread: Array
    times: Array
    options: dict[str, Any]

    @property
    def random(self) -> bool:
        """Whether trajectories differ."""
        return bool(np.any(self.spread > 0.0))


class SimulateModes:
    """Runs :func:`wideangle.dynamics.simulate_modes`; a sample is a trajectory.

    Trajectory k starts at ``margins0`` times the exponential of normal numbers with the standard deviation
    ``margins0_standard_deviation``, so that margins keep their signs, as balanced modes do, at every depth.
    """

    name = "simulate_modes"
    version = method_version(1)
    totals = ("failed",)
    dims: Mapping[str, tuple[str, ...]] = {**DIMS, "failed": ()}

    def prepare(self, parameters: Mapping[str, Any]) -> Modes:
        """Check the parameters."""
        check_names(parameters, needed=NEEDED, known=KNOWN, of=self.name)
        from wideangle.dynamics._network_arguments import check_control
        from wideangle.losses import parse_loss

        problem = (*(parameters[name] for name in NEEDED[:3]), parameters.get("imbalance", 0.0))
        features, probabilities, margins0, imbalance, depth = _problem((*problem, parameters.get("depth", 2)))
        spread = _spread(parameters.get("margins0_standard_deviation", 0.0), margins0)
        control = check_control(*(parameters.get(name, default) for name, default in CONTROL.items()))
        loss = parse_loss(parameters.get("loss", "cross-entropy")).name
        if loss == "hinge" and np.any(features < 0.0):
            raise ValueError(
                f"features must not be negative with loss='hinge', got {features.min()}; flip the sign of the "
                "feature, or take another loss"
            )
        options = {"loss": loss, "depth": depth, "imbalance": imbalance, **control._asdict()}
        return Modes(features, probabilities, margins0, spread, _times(parameters["times"]), options)

    def variables(self, prepared: Modes) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        times = int(prepared.times.size)
        return {name: times * (int(prepared.margins0.size) if "mode" in dims else 1) for name, dims in DIMS.items()}

    def cost(self, prepared: Modes) -> float:
        """Return the expected seconds of a sample; steps of the integration are guessed."""
        types, modes = map(int, prepared.features.shape)
        values = SECONDS_A_VALUE * (types + modes) * prepared.times.size
        if not prepared.random:
            return values / 10.0
        loss = prepared.options["loss"]
        if loss == "hinge":
            return SECONDS_A_HINGE + SECONDS_A_HINGE_FEATURE * types * modes + values
        steps = STIFF_STEPS if loss == "squared" and prepared.options["depth"] > 1 else STEPS[loss]
        return steps * (SECONDS_A_STEP + SECONDS_A_STEP_AND_FEATURE * types * modes) + values

    def bytes_per_sample(self, prepared: Modes, wanted: Wanted) -> int:
        """Return the bytes of a trajectory."""
        types, modes = map(int, prepared.features.shape)
        times = int(prepared.times.size)
        # Margins, what is found of them, and each trajectory's parameters for the integration.
        return 24 * modes * times + 48 * times + 16 * types * (modes + 1) + 64 * modes

    def run(self, prepared: Modes, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        if not prepared.random:
            found = _trajectories(prepared, prepared.margins0[None])
            found = {name: np.repeat(each, n_samples, axis=0) for name, each in found.items()}
        elif prepared.options["loss"] == "hinge":
            found = _in_groups(prepared, first_sample, n_samples, seed)
        else:
            found = _trajectories(prepared, _margins0(prepared, first_sample, n_samples, seed))
        variables = {name: Variable(dims, samples=found[name]) for name, dims in DIMS.items()}
        variables["failed"] = count(np.count_nonzero(found["status"]))
        coordinates = {"mode": np.arange(prepared.margins0.size), "time": prepared.times}
        return Block({name: each for name, each in variables.items() if wanted.keeps(name)}, coordinates)


def _margins0(cell: Modes, first_sample: int, n_samples: int, seed: int) -> Array:
    drawn = normals(n_samples, cell.margins0.size, seed=seed, stream=STREAM, first_sample=first_sample)
    return np.asarray(cell.margins0 * np.exp(cell.spread * drawn))


def _trajectories(cell: Modes, margins0: Array) -> dict[str, NDArray[Any]]:
    from wideangle.dynamics import simulate_modes

    found = simulate_modes(cell.features, cell.probabilities, margins0, cell.times, n_threads=1, **cell.options)
    return {name: found[name].values for name in (*DIMS, "status")}


def _in_groups(cell: Modes, first_sample: int, n_samples: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return trajectories from groups that begin at multiples of their size, whatever the block."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    parts = []
    end = first_sample + n_samples
    with threadpool_limits(1):  # so that matrix products are rounded in one way
        for start in range(first_sample - first_sample % HINGE_GROUP, end, HINGE_GROUP):
            inside = slice(max(first_sample - start, 0), min(end - start, HINGE_GROUP))
            group = _trajectories(cell, _margins0(cell, start, HINGE_GROUP, seed))
            parts.append({name: each[inside] for name, each in group.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@by_value(1024)
def _problem(given: Any) -> tuple[Array, Array, Array, Array, int]:
    """Return features, probabilities, margins, imbalances and depth of one trajectory."""
    from wideangle.dynamics.modes import check_modes

    problem = check_modes(*given)
    if not problem.single:
        shapes = ", ".join(
            f"{name} {np.shape(each)}" for name, each in zip((*NEEDED[:3], "imbalance"), given, strict=False)
        )
        raise ValueError(
            f"probabilities, margins0 and imbalance must be those of one trajectory, got shapes {shapes}; give (type) "
            "and (mode), and margins0_standard_deviation for trajectories that differ"
        )
    probabilities, margins0, imbalance = (
        np.array(each[0]) for each in (problem.probabilities, problem.margins0, problem.imbalance)
    )
    return problem.features, probabilities, margins0, imbalance, problem.depth


@by_value(64)
def _spreads(value: Any) -> Array:
    spread = check_numbers("margins0_standard_deviation", value, ndim=(0, 1), remedy=SPREAD_REMEDY)
    if np.any(spread < 0.0):
        raise ValueError(f"margins0_standard_deviation must not be negative, got {spread.min()}; {SPREAD_REMEDY}")
    return spread


def _spread(value: Any, margins0: Array) -> Array:
    spread, remedy = _spreads(value), SPREAD_REMEDY
    if spread.ndim and spread.shape != margins0.shape:
        raise ValueError(
            f"margins0_standard_deviation must be a number or hold {margins0.size}, one for each mode, got shape "
            f"{spread.shape}; {remedy}"
        )
    from wideangle.dynamics._arguments import LARGEST

    with np.errstate(over="ignore"):
        largest = float(np.max(np.abs(margins0) * np.exp(LARGEST_NORMAL * spread)))
    if not largest <= LARGEST:
        raise ValueError(f"margins0_standard_deviation = {value!r} lets margins exceed {LARGEST:g}; {remedy}")
    return np.asarray(np.broadcast_to(spread, margins0.shape).copy())


@by_value(64)
def _times(value: Any) -> Array:
    from wideangle.dynamics._arguments import check_times

    return check_times(value)
