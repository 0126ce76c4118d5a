"""Gram matrices through ensembles of networks as a method of studies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_real
from wideangle.studies._method_parameters import (
    NETWORK,
    Network,
    by_value,
    check_names,
    check_network,
    count,
    layer_sum,
    method_version,
)
from wideangle.studies.protocol import Block, Variable, Wanted

SECONDS_A_LAYER = 2e-8
SECONDS_A_LAYER_AND_INPUT3 = 1.8e-10
SECONDS_A_PREACTIVATION = 3.5e-10
SECONDS_A_PRODUCT = 2e-11
SECONDS_A_SMOOTH_ACTIVATION = 2e-9
# Measured with AVX-512 on a server processor of 2023; narrower vectors take up to twice as long.

Array = NDArray[np.float64]

INPUTS = ("gram0", "angle", "correlation")
DIMS = {
    "gram": ("layer", "input", "input_"),
    "log_norm2": ("layer", "input"),
    "log_determinant": ("layer",),
    "effective_rank": ("layer",),
}


class Gram(NamedTuple):
    """A checked cell."""

    net: Network
    gram0: Array


class SimulateGram:
    """Runs :func:`wideangle.propagation.simulate_gram`.

    Moments come from the kernel, in memory that does not grow with the samples; histograms, quantiles and samples are
    found from samples.
    """

    name = "simulate_gram"
    version = method_version(1)
    totals = ("full_rank", "rank_lost", "dead")
    dims: Mapping[str, tuple[str, ...]] = {
        **DIMS,
        "full_rank": ("layer",),
        "rank_lost": ("layer",),
        "dead": ("layer", "input"),
    }

    def prepare(self, parameters: Mapping[str, Any]) -> Gram:
        """Check the network and the inputs."""
        check_names(parameters, needed=(), known=(*INPUTS, *NETWORK), of=self.name)
        net = check_network(parameters, of=self.name)
        given = [name for name in INPUTS if name in parameters]
        if len(given) != 1:
            raise ValueError(
                f"method {self.name!r} needs one of gram0, angle and correlation, got {' and '.join(given) or 'none'}; "
                "give the Gram matrix of the inputs, or what is between two inputs of square norm 1"
            )
        gram0 = _INPUTS[given[0]](parameters[given[0]])
        from wideangle.propagation.gram_simulation import _check_memory

        _check_memory(len(gram0), len(net.widths), 1, 1, "moments")
        return Gram(net, gram0)

    def variables(self, prepared: Gram) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        sizes = {"layer": len(prepared.net.widths) + 1, "input": len(prepared.gram0), "input_": len(prepared.gram0)}
        return {name: math.prod(sizes[dim] for dim in dims) for name, dims in DIMS.items()}

    def cost(self, prepared: Gram) -> float:
        """Return the expected seconds of a sample."""
        m = len(prepared.gram0)
        smooth = prepared.net.activation not in ("relu", "abs", "linear") and "leaky" not in prepared.net.activation
        neuron = SECONDS_A_PREACTIVATION + SECONDS_A_PRODUCT * m + SECONDS_A_SMOOTH_ACTIVATION * smooth
        return layer_sum(prepared.net.widths, SECONDS_A_LAYER + SECONDS_A_LAYER_AND_INPUT3 * m**3, neuron * m)

    def bytes_per_sample(self, prepared: Gram, wanted: Wanted) -> int:
        """Return the bytes of a sample, 0 if the kernel reduces it."""
        m = len(prepared.gram0)
        # Matrices, and scaled ones of which ranks are found; logarithms of norms and determinants; ranks.
        return (len(prepared.net.widths) + 1) * (16 * m**2 + 16 * m + 32) if _needs_samples(wanted) else 0

    def run(self, prepared: Gram, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        from wideangle.propagation.gram_simulation import run_kernel

        net, by_samples = prepared.net.mlp, _needs_samples(wanted)
        raw = run_kernel(
            net,
            prepared.gram0,
            n_samples=n_samples,
            seed=seed,
            first_sample=first_sample,
            n_threads=1,
            keep_samples=by_samples,
        )
        layers, inputs = np.arange(net.depth + 1), np.arange(len(prepared.gram0))
        found = _from_samples(raw) if by_samples else _from_moments(raw, len(layers))
        kept = {name: each for name, each in found.items() if wanted.keeps(name)}
        return Block(kept, {"layer": layers, "input": inputs, "input_": inputs})


def _angle(value: Any) -> Array:
    remedy = "give the angle between the two inputs in radians, 0 <= angle <= pi"
    angle = check_real("angle", value, remedy=remedy)
    if not 0.0 <= angle <= math.pi:
        raise ValueError(f"angle must lie in [0, pi], got {value!r}; {remedy}")
    return _pair(math.cos(angle))


def _correlation(value: Any) -> Array:
    remedy = "give the cosine of the angle between the two inputs, from -1 to 1"
    correlation = check_real("correlation", value, remedy=remedy)
    if not -1.0 <= correlation <= 1.0:
        raise ValueError(f"correlation must lie in [-1, 1], got {value!r}; {remedy}")
    return _pair(correlation)


def _pair(correlation: float) -> Array:
    return np.array([[1.0, correlation], [correlation, 1.0]])


@by_value(256)
def _gram0(value: Any) -> Array:
    from wideangle.propagation._gram_matrix import check_gram

    gram0 = check_gram("gram0", value)
    gram0.flags.writeable = False
    return gram0


_INPUTS = {"gram0": _gram0, "angle": _angle, "correlation": _correlation}


def _needs_samples(wanted: Wanted) -> bool:
    kept = [name for name in DIMS if wanted.keeps(name)]
    return bool(kept) and (wanted.needs_samples or any(name in wanted.histograms for name in kept))


def _from_samples(raw: Mapping[str, NDArray[Any]]) -> dict[str, Variable]:
    gram, rank = raw["sample_gram"], raw["sample_rank"]
    n_inputs = gram.shape[-1]
    norms = np.diagonal(gram, axis1=-2, axis2=-1)
    largest = norms.max(axis=-1)
    if not np.isfinite(largest).all() or np.any((largest == 0.0) & (rank > 0)):
        raise ValueError(
            "entries of Gram matrices leave the range of float64; ask for moments alone, in which the "
            "logarithms do not, or give variances that keep the norms"
        )
    dead = norms == 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_norm2 = np.where(dead, np.nan, np.log(norms))
        scaled = gram / largest[..., None, None]
        trace = np.trace(scaled, axis1=-2, axis2=-1)
        effective_rank = trace**2 / np.square(scaled, out=scaled).sum(axis=(-2, -1))
    samples = {
        "gram": gram,
        "log_norm2": log_norm2,
        "log_determinant": raw["sample_log_determinant"],
        "effective_rank": effective_rank,
    }
    lost = np.maximum.accumulate(rank < n_inputs, axis=1)
    return {
        **{name: Variable(dims, samples=samples[name]) for name, dims in DIMS.items()},
        "full_rank": count(np.count_nonzero(rank == n_inputs, axis=0), "layer"),
        "rank_lost": count(np.count_nonzero(lost, axis=0), "layer"),
        "dead": count(np.count_nonzero(dead, axis=0), "layer", "input"),
    }


def _from_moments(raw: Mapping[str, NDArray[Any]], n_layers: int) -> dict[str, Variable]:
    from wideangle.propagation._ensembles import moments_of
    from wideangle.propagation.gram_simulation import moment_rows

    rows = moment_rows(raw, n_layers)
    moments = {name: moments_of(each) for name, each in rows.items()}
    return {
        **{name: Variable(dims, reduced={"moments": moments[name]}) for name, dims in DIMS.items()},
        "full_rank": count(raw["log_determinant"][0], "layer"),
        "rank_lost": count(raw["rank_lost"], "layer"),
        "dead": count(raw["gram"][0, 0] - rows["log_norm2"][0], "layer", "input"),
    }
