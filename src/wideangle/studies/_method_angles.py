"""Angles through ensembles of ReLU networks as a method of studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_theta0
from wideangle.statistics import Histogram
from wideangle.studies._method_parameters import (
    NETWORK,
    Network,
    check_names,
    check_network,
    count,
    layer_sum,
    method_version,
)
from wideangle.studies.protocol import Accumulator, Block, Variable, Wanted

SECONDS_A_LAYER = 5e-8
SECONDS_A_NEURON = 3.5e-10
# Measured with AVX-512 on a server processor of 2023; narrower vectors take up to twice as long.

VARIABLES = ("log_sin2", "log_norm2")


class Angles(NamedTuple):
    """A checked cell."""

    net: Network
    theta0: float


class SimulateAngles:
    """Runs :func:`wideangle.propagation.simulate_angles`.

    Moments, and histograms of ``log_sin2``, come from the kernel, in memory that does not grow with the samples. Other
    histograms, quantiles and samples are found from samples.
    """

    name = "simulate_angles"
    version = method_version(1)
    totals = ("survivors", "collapsed", "dead")
    dims = dict.fromkeys((*VARIABLES, *totals), ("layer",))

    def prepare(self, parameters: Mapping[str, Any]) -> Angles:
        """Check the network and ``theta0``."""
        check_names(parameters, needed=("theta0",), known=("theta0", *NETWORK), of=self.name)
        net = check_network(parameters, of=self.name)
        from wideangle.propagation._network import check_angle_network

        if net.activation != "relu" or net.bias_variance != 0.0:
            check_angle_network(net.mlp)  # says what is wrong
        return Angles(net, check_theta0(parameters["theta0"]))

    def variables(self, prepared: Angles) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        return dict.fromkeys(VARIABLES, len(prepared.net.widths) + 1)

    def cost(self, prepared: Angles) -> float:
        """Return the expected seconds of a sample."""
        return layer_sum(prepared.net.widths, SECONDS_A_LAYER, SECONDS_A_NEURON)

    def bytes_per_sample(self, prepared: Angles, wanted: Wanted) -> int:
        """Return the bytes of a sample, 0 if the kernel reduces it."""
        return 24 * (len(prepared.net.widths) + 1) if _needs_samples(wanted) else 0

    def run(self, prepared: Angles, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        from wideangle.propagation.simulation import run_kernel

        by_samples = _needs_samples(wanted)
        bins = wanted.histograms.get("log_sin2") if wanted.keeps("log_sin2") and not by_samples else None
        raw = run_kernel(
            prepared.net.mlp,
            prepared.theta0,
            n_samples=n_samples,
            seed=seed,
            first_sample=first_sample,
            n_threads=1,
            keep_samples=by_samples,
            histogram=bins,
        )
        found = _from_samples(raw) if by_samples else _from_moments(raw, bins)
        layers = np.arange(len(prepared.net.widths) + 1)
        return Block({name: each for name, each in found.items() if wanted.keeps(name)}, {"layer": layers})


def _needs_samples(wanted: Wanted) -> bool:
    kept = [name for name in VARIABLES if wanted.keeps(name)]
    return bool(kept) and (wanted.needs_samples or ("log_norm2" in kept and "log_norm2" in wanted.histograms))


def _from_samples(raw: Mapping[str, NDArray[Any]]) -> dict[str, Variable]:
    log_sin2 = raw["sample_log_sin2"]
    counts = {
        "survivors": np.isfinite(log_sin2),
        "collapsed": np.isneginf(log_sin2),
        "dead": np.isnan(log_sin2),
    }
    samples = {name: Variable(("layer",), samples=raw[f"sample_{name}"]) for name in VARIABLES}
    return {**samples, **{name: count(np.count_nonzero(each, axis=0), "layer") for name, each in counts.items()}}


def _from_moments(raw: Mapping[str, NDArray[Any]], bins: tuple[float, float, int] | None) -> dict[str, Variable]:
    from wideangle.propagation._ensembles import moments_of

    log_sin2 = moments_of(raw["log_sin2"])
    reduced: dict[str, Accumulator] = {"moments": log_sin2}
    if bins is not None:
        low, high, n_bins = bins
        counts = (raw["histogram"].reshape(-1, n_bins), raw["underflow"], raw["overflow"])
        reduced["histogram"] = Histogram(low, high, *(each.astype(np.int64) for each in counts))
    return {
        "log_sin2": Variable(("layer",), reduced=reduced),
        "log_norm2": Variable(("layer",), reduced={"moments": moments_of(raw["log_norm2"])}),
        "survivors": count(log_sin2.count, "layer"),
        "collapsed": count(raw["collapsed"], "layer"),
        "dead": count(raw["dead"], "layer"),
    }
