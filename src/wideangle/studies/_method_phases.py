"""The fate of random neurons as a method of studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_choice, check_positive_real, check_real, check_rtol
from wideangle.studies._method_parameters import check_names, count, method_version
from wideangle.studies._sample_numbers import normals
from wideangle.studies.protocol import Block, Variable, Wanted

SECONDS_A_NEURON = {
    "integrate": {"cross-entropy": 1.1e-6, "exponential": 1.1e-6, "hinge": 1.1e-6, "squared": 4.5e-6},
    "closed-form": {"cross-entropy": 1.7e-6, "exponential": 1.7e-6, "hinge": 2.5e-7, "squared": 2.5e-7},
}
# Measured with AVX-512 on a server processor of 2023.
BYTES_A_NEURON = 400

STREAM = 0x706861736573  # "phases"
LARGEST_NORMAL = 8.21  # of 52 bits
LARGEST = 1e50

PHASES = ("learns", "rescued", "dies", "stays", "undecided")
TIMES = ("convergence_time", "turning_time")
NEEDED = ("readout", "projection")
SPREADS = ("readout_standard_deviation", "projection_standard_deviation")
KNOWN = (*NEEDED, *SPREADS, "frequency", "input_norm", "loss", "margin", "time", "method", "rtol")


class Phases(NamedTuple):
    """A checked cell."""

    readout: float
    projection: float
    readout_spread: float
    projection_spread: float
    frequency: float
    input_norm: float
    loss: str
    margin: float
    time: float
    method: str
    rtol: float

    @property
    def random(self) -> bool:
        """Whether neurons differ."""
        return self.readout_spread > 0.0 or self.projection_spread > 0.0


class PhaseDiagram:
    """Runs :func:`wideangle.dynamics.phase_diagram`; a sample is a neuron.

    Readout and projection of neuron k are normal with the means ``readout`` and ``projection`` and the standard
    deviations ``readout_standard_deviation`` and ``projection_standard_deviation``.
    """

    name = "phase_diagram"
    version = method_version(1)
    totals = PHASES
    dims: Mapping[str, tuple[str, ...]] = dict.fromkeys((*PHASES, *TIMES), ())

    def prepare(self, parameters: Mapping[str, Any]) -> Phases:
        """Check the parameters."""
        check_names(parameters, needed=NEEDED, known=KNOWN, of=self.name)
        from wideangle.dynamics.phases import METHODS
        from wideangle.losses import parse_loss

        given = {"frequency": 1.0, "input_norm": 1.0, "margin": 1.0, "time": 1000.0, **parameters}
        remedies = {
            "frequency": "give the share of the class in the data, 0 < frequency <= 1",
            "input_norm": "give the norm of the inputs, such as 1",
            "margin": "give the margin at which a neuron has converged, such as 1",
            "time": "give a time, such as 1000",
        }
        numbers = {name: check_positive_real(name, given[name], remedy=each) for name, each in remedies.items()}
        if numbers["frequency"] > 1.0:
            raise ValueError(
                f"frequency must be at most 1, got {given['frequency']!r}; give the share of the class in the data"
            )
        readout, readout_spread = _initial("readout", parameters)
        projection, projection_spread = _initial("projection", parameters)
        return Phases(
            readout,
            projection,
            readout_spread,
            projection_spread,
            loss=parse_loss(parameters.get("loss", "cross-entropy")).name,
            method=check_choice("method", parameters.get("method", "integrate"), METHODS),
            rtol=check_rtol(parameters.get("rtol", 1e-8)),
            **numbers,
        )

    def variables(self, prepared: Phases) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        return dict.fromkeys(TIMES, 1)

    def cost(self, prepared: Phases) -> float:
        """Return the expected seconds of a neuron, far less if all are the same."""
        return SECONDS_A_NEURON[prepared.method][prepared.loss] if prepared.random else 2e-8

    def bytes_per_sample(self, prepared: Phases, wanted: Wanted) -> int:
        """Return the bytes of a neuron."""
        return BYTES_A_NEURON

    def run(self, prepared: Phases, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        number = n_samples if prepared.random else 1
        drawn = normals(number, 2, seed=seed, stream=STREAM, first_sample=first_sample)
        phase, converged, turned = _fates(
            prepared,
            prepared.readout + prepared.readout_spread * drawn[:, 0],
            prepared.projection + prepared.projection_spread * drawn[:, 1],
        )
        counts = np.bincount(phase, minlength=len(PHASES)) * (n_samples // number)
        times = dict(zip(TIMES, (converged, turned), strict=True))
        variables = {name: count(each) for name, each in zip(PHASES, counts, strict=True)}
        variables |= {name: Variable((), samples=np.repeat(each, n_samples // number)) for name, each in times.items()}
        return Block({name: each for name, each in variables.items() if wanted.keeps(name)})


def _initial(name: str, parameters: Mapping[str, Any]) -> tuple[float, float]:
    """Return mean and standard deviation of an initial value."""
    mean = check_real(name, parameters[name], remedy="give a number, the mean over neurons, such as -0.5")
    remedy = "give a standard deviation, 0 for none"
    spread = check_real(f"{name}_standard_deviation", parameters.get(f"{name}_standard_deviation", 0.0), remedy=remedy)
    if spread < 0.0:
        raise ValueError(f"{name}_standard_deviation must not be negative, got {spread!r}; {remedy}")
    if abs(mean) + LARGEST_NORMAL * spread > LARGEST:
        raise ValueError(
            f"{name} must stay below {LARGEST:g} in size, got the mean {mean!r} and the standard deviation {spread!r}; "
            "give smaller ones"
        )
    return mean, spread


def _fates(cell: Phases, readout: NDArray[Any], projection: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return phases and times of neurons."""
    from wideangle.dynamics._phase import Neurons
    from wideangle.dynamics.phases import _by_integration, _in_closed_form

    neurons = Neurons(readout, projection, cell.frequency, cell.input_norm, cell.loss)
    if cell.method == "closed-form":
        return _in_closed_form(neurons, cell.margin, cell.time)
    return _by_integration(neurons, cell.margin, cell.time, rtol=cell.rtol, n_threads=1, progress=False)
