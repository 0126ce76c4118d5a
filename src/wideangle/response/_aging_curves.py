"""Responses over time made ready for fits: scaled, averaged over bins of time and over networks, with errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LEAST_TIMES = 6
LEAST_NETWORKS = 10
MOST_BINS = 12
# Smaller relative deviations are not looked at: responses come from integrators and sums that round.
RESOLUTION = 1e-7

_NEIGHBOURS = 2


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean response in bins of time, each time in units of its ``scale``.

    Attributes
    ----------
    time
        In units of the last one.
    log_scale
        Logarithm of the scale of each time, in units of ``unit``.
    starts, counts
        First time of each bin, and the number of times in it.
    mean, covariance
        Of the bins; the covariance is that of the mean, without what a law may miss.
    misfit
        Covariance of what a law may miss, but for a factor.
    smooth
        Whether that is a smooth function of time, and no noise.
    n_networks
        Of which the covariance is an estimate; 0 where it is known, or unknown altogether.
    unit
        Of the response.
    """

    time: Array
    log_scale: Array
    starts: Index
    counts: Array
    mean: Array
    covariance: Array
    misfit: Array
    smooth: bool
    n_networks: int
    unit: float

    @property
    def errors_known(self) -> bool:
        """Whether there are errors other than those the residuals show."""
        return bool(np.any(self.covariance))

    def bins(self, values: Array) -> Array:
        """Return the means over the bins of values (..., time)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1) / self.counts)


def curve_of_networks(responses: Array, time: Array) -> Curve:
    """Return the curve of an ensemble (network, time) of ``LEAST_NETWORKS`` or more."""
    n_networks = len(responses)
    scaled, log_scale, unit = _scale(responses, np.sqrt(np.mean((responses / _largest(responses)) ** 2, axis=0)))
    curve = _curve(time, log_scale, int(np.clip(n_networks // 4, LEAST_TIMES, MOST_BINS)), unit)
    binned = curve.bins(scaled)
    covariance = np.cov(binned, rowvar=False) / n_networks
    return replace(curve, mean=binned.mean(axis=0), covariance=covariance, n_networks=n_networks)


def curve_with_errors(response: Array, time: Array, standard_error: Array) -> Curve:
    """Return the curve of one response whose errors are known and independent."""
    largest = _largest(response)
    scaled, log_scale, unit = _scale(response, np.hypot(response / largest, standard_error / largest))
    curve = _curve(time, log_scale, MOST_BINS, unit)
    relative = standard_error / largest * np.exp(-log_scale)
    covariance = np.diag(curve.bins(relative**2) / curve.counts)
    return replace(curve, mean=curve.bins(scaled), covariance=covariance)


def curves_alone(response: Array, time: Array) -> list[Curve]:
    """Return what one response without errors may be.

    Its deviations are relative or absolute, and noise of each bin, smooth, or noise of each time.
    """
    squares = (response / _largest(response)) ** 2
    width = 2 * _NEIGHBOURS + 1
    # Over neighbours, as a value that happens to be near 0 is not therefore exact.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(squares, _NEIGHBOURS, mode="edge"), width).mean(axis=1)
    curves = []
    for sizes in (np.sqrt(around), np.ones(len(response))):
        scaled, log_scale, unit = _scale(response, sizes)
        curve = _curve(time, log_scale, MOST_BINS, unit)
        curve = replace(curve, mean=curve.bins(scaled))
        curves += [curve, with_smooth_misfit(curve), replace(curve, misfit=np.diag(1.0 / curve.counts))]
    return curves


def with_smooth_misfit(curve: Curve) -> Curve:
    """Return the curve for a law that is missed in the course of time and not at random.

    The misfit is a Gaussian process of Matern type 3/2, whose length is a third of all bins: no law is missed so that
    three parameters could not follow it on a shorter one.
    """
    place = np.linspace(0.0, 1.0, len(curve.mean))
    distance = np.sqrt(3.0) * 3.0 * np.abs(place[:, None] - place)
    return replace(curve, misfit=(1.0 + distance) * np.exp(-distance), smooth=True)


def _largest(responses: Array) -> float:
    return float(np.abs(responses).max())


def _scale(responses: Array, sizes: Array) -> tuple[Array, Array, float]:
    """Return scaled responses, logarithms of the scales and the unit; where all is 0 the scale is the largest."""
    unit = _largest(responses)
    sizes = np.where(sizes > 0.0, sizes, sizes.max())
    return responses / unit / sizes, np.log(sizes), unit


def _curve(time: Array, log_scale: Array, n_bins: int, unit: float) -> Curve:
    starts = _starts(time, n_bins)
    counts = np.diff(starts, append=len(time)).astype(np.float64)
    bins = np.eye(len(starts))
    return Curve(time / time[-1], log_scale, starts, counts, np.zeros(len(starts)), 0.0 * bins, bins, False, 0, unit)


def _starts(time: Array, n_bins: int) -> Index:
    """Return where bins of time begin: between bins of equally many times and bins of equal length in ln t."""
    n_times = len(time)
    if n_times <= n_bins:
        return np.arange(n_times)
    zero = int(time[0] == 0.0)
    later = time[zero:]
    rank = np.linspace(0.0, 1.0, len(later))
    ratio = np.log(later / later[0])
    for place in (0.5 * (rank + ratio / ratio[-1]), rank):
        n_later = n_bins - zero
        index = np.minimum((place * n_later).astype(int), n_later - 1)
        starts = np.flatnonzero(np.diff(index, prepend=-1)) + zero
        result = np.concatenate([np.zeros(zero, dtype=np.intp), starts])
        if len(result) >= LEAST_TIMES:
            break
    return result
