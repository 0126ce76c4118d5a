"""Responses over time made ready for fits: scaled, averaged over bins of time and over networks, with errors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LEAST_TIMES = 6
LEAST_NETWORKS = 10
MOST_BINS = 12
# Smaller relative deviations are not looked at: responses come from integrators and sums that round.
RESOLUTION = 1e-7
# Of the variance of each bin, taken to be its own. Smooth responses leave combinations of bins that hardly vary, whose
# small and skew variance networks do not tell: without this part they lead the fit, and intervals miss.
OWN_PART = 2e-3
ROUNDING = 1e-15  # of the largest value: residuals of trained networks end at it instead of 0

_LEAST_SCALE = 1e-13

_NEIGHBOURS = 2
_ODD_ONE_OUT = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / 6.0  # a value less what a cubic through its neighbours gives
_NOISE = 4.0  # standard errors
_SEVERAL = 2.0
_MEDIAN = 0.6745  # of the size of normal numbers
_FAR = 30.0  # in logarithms: squares stay within floats


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean response in bins of time, each time in units of its ``scale``.

    Attributes
    ----------
    time
        In units of the last one.
    log_scale
        Logarithm of the scale of each time. The largest response is about 1.
    starts, counts
        First time of each bin, and the number of times in it.
    mean, covariance
        Of the bins; the covariance is that of the mean, without what a law may miss.
    rounding
        Standard error (bin) by rounding and interpolation.
    misfit
        Covariance of what a law may miss, but for a factor.
    n_networks
        Of which the covariance is an estimate; 0 where it is known, or unknown altogether.
    single
        Scaled responses of one curve (time) without errors; else empty.
    relative
        Whether what a law may miss is relative, or of one size at all times.
    kind
        What that is: noise of each of the "times", of "bins", or "smooth".
    """

    time: Array
    log_scale: Array
    starts: Index
    counts: Array
    mean: Array
    covariance: Array
    rounding: Array
    misfit: Array
    n_networks: int
    single: Array = field(default_factory=lambda: np.zeros(0))
    relative: bool = True
    kind: str = "bins"

    @property
    def errors_known(self) -> bool:
        """Whether there are errors other than those the residuals show; networks that are all the same have none."""
        return len(self.single) == 0

    def bins(self, values: Array) -> Array:
        """Return the means over the bins of values (..., time)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1) / self.counts)


def curve_of_networks(responses: Array, time: Array, error: Array | None = None, relative: bool = True) -> Curve:
    """Return the curve of an ensemble (network, time) of ``LEAST_NETWORKS`` or more.

    ``error`` is one of the mean that networks share. What laws miss is relative, or of one size at all times.
    """
    n_networks = len(responses)
    sizes = np.sqrt(np.mean(responses**2, axis=0)) if relative else np.ones(len(time))
    scaled, log_scale = _scale(responses, sizes)
    curve = _curve(time, log_scale, int(np.clip(n_networks // 4, LEAST_TIMES, MOST_BINS)))
    binned = curve.bins(scaled)
    covariance = np.cov(binned, rowvar=False) / n_networks
    covariance += OWN_PART * np.diag(np.diag(covariance))
    if error is not None:
        curve = replace(curve, rounding=np.hypot(curve.rounding, curve.bins(error * np.exp(-log_scale))))
    return replace(curve, mean=binned.mean(axis=0), covariance=covariance, n_networks=n_networks, relative=relative)


def curve_with_errors(response: Array, time: Array, standard_error: Array, relative: bool = True) -> Curve:
    """Return the curve of one response whose errors are known and independent; see :func:`curve_of_networks`."""
    sizes = np.ones(len(time))
    if relative:
        # Weights within a bin come from the errors alone: weights from the response have its noise, and bias the mean.
        starts = bin_starts(time, MOST_BINS)
        counts = np.diff(starts, append=len(time))
        squares = np.add.reduceat((response / standard_error) ** 2, starts) / counts
        sizes = standard_error * np.repeat(np.sqrt(1.0 + squares), counts)
    scaled, log_scale = _scale(response, sizes)
    curve = _curve(time, log_scale, MOST_BINS)
    covariance = np.diag(curve.bins((standard_error * np.exp(-log_scale)) ** 2) / curve.counts)
    return replace(curve, mean=curve.bins(scaled), covariance=covariance, relative=relative)


def curves_alone(response: Array, time: Array, relative: bool) -> list[Curve]:
    """Return what one response without errors may be: one with noise of each time, of each bin, or smooth.

    Its deviations are relative or of one size at all times.
    """
    sizes = np.ones(len(response))
    if relative:
        width = 2 * _NEIGHBOURS + 1
        padded = np.pad(response**2, _NEIGHBOURS, mode="edge")
        # Over neighbours, as a value that happens to be near 0 is not therefore exact.
        sizes = np.sqrt(np.lib.stride_tricks.sliding_window_view(padded, width).mean(axis=1))
    scaled, log_scale = _scale(response, sizes)
    curve = _curve(time, log_scale, MOST_BINS)
    curve = replace(curve, mean=curve.bins(scaled), single=scaled, relative=relative)
    return [replace(curve, misfit=np.diag(1.0 / curve.counts), kind="times"), curve, with_smooth_misfit(curve)]


def unlikely_noise(curve: Curve, rest: Array) -> float:
    """Return -2 ln of the likelihood of ``rest`` (time) of one curve as noise of its scales, but for a constant."""
    return float(2.0 * np.sum(curve.log_scale) + len(rest) * np.log(np.mean(rest**2) + ROUNDING**2))


def unlikely_roughness(curve: Curve) -> float:
    """Return the same for the second differences of the curve, which no law enters."""
    rough = np.diff(curve.single * np.exp(curve.log_scale), n=2) * np.exp(-curve.log_scale[1:-1])
    return unlikely_noise(curve, np.concatenate([rough[:1], rough, rough[-1:]]))


def is_noise(curve: Curve, rest: Array) -> bool:
    """Whether ``rest`` (time) of one curve is about as large as its noise, rather than several times as large."""
    noise = _noise_of_times(curve.single * np.exp(curve.log_scale))[0] * np.exp(-curve.log_scale)
    return bool(np.mean(rest**2) <= _SEVERAL**2 * np.mean(noise**2) + ROUNDING**2)


def beyond_noise(curve: Curve, law: Array, relative: bool) -> Array:
    """Return how much farther than noise may lead a law (time) is from one curve of scale 1, relative to it (bin)."""
    mean, noise = curve.bins(curve.single), _noise_of_bins(curve)
    if relative:
        # Noise that is relative at all times, and moves rates: by as much for each factor of e that the curve falls.
        size = np.maximum(np.sqrt(curve.bins(curve.single**2)), ROUNDING)
        usual = float(np.median(np.abs(_noise_of_times(curve.single)[1]))) / _MEDIAN
        noise = np.maximum(usual * size * (1.0 + np.log(size.max() / size)), ROUNDING)
    noise = _NOISE * noise
    return np.asarray(np.maximum(np.abs(mean - curve.bins(law)) - noise, 0.0) / np.maximum(np.abs(mean), noise))


def astray(curve: Curve, law: Array) -> tuple[float, float]:
    """Return the root mean square distance of a law (time) from one curve of scale 1, relative to it: bins, times.

    Where the curve is not seen beyond its noise only what is more than the noise counts, in units of it.
    """
    noise = _NOISE * _noise_of_bins(curve)
    of_times = np.repeat(noise, curve.counts.astype(np.intp))
    distance = curve.single - law

    def missed(size: Array, distance: Array, noise: Array) -> float:
        part = np.where(size > noise, distance / np.maximum(size, noise), np.maximum(distance / noise - 1.0, 0.0))
        return float(part.max() and part.max() * np.sqrt(np.mean((part / part.max()) ** 2)))

    of_bins = missed(np.sqrt(curve.bins(curve.single**2)), np.abs(curve.bins(distance)), noise)
    return of_bins, missed(np.abs(curve.single), np.abs(distance), of_times)


def _noise_of_times(response: Array) -> tuple[Array, Array]:
    """Return a draw of the noise of one curve at each time, and the same relative to the response.

    That is what fourth differences do not explain, of logarithms where these are there: they vanish for exponentials,
    and nearly so for every smooth course. So what a law misses is not taken for noise.
    """
    near = np.lib.stride_tricks.sliding_window_view(response, len(_ODD_ONE_OUT))
    odd, size = near @ _ODD_ONE_OUT, np.abs(near[:, 2])
    alike = np.all(near > 0.0, axis=1) | np.all(near < 0.0, axis=1)
    steps = np.maximum(np.log(np.abs(near[alike])) @ _ODD_ONE_OUT, -_FAR)
    odd[alike] = near[alike, 2] * -np.expm1(-steps)
    odd = odd / np.sqrt(np.sum(_ODD_ONE_OUT**2))  # Of white noise, whose variance the weights multiply.
    return np.pad(odd, 2, mode="edge"), np.pad(odd / np.maximum(size, ROUNDING), 2, mode="edge")


def _noise_of_bins(curve: Curve) -> Array:
    """Return the size of the noise of one curve of scale 1 about each bin: of one size or relative, the smaller one.

    The former alone would give the noise of the large to small values next to them.
    """

    def about(values: Array) -> Array:
        sums = np.convolve(curve.bins(values**2) * curve.counts, np.ones(3), "same")
        return np.asarray(np.sqrt(sums / np.convolve(curve.counts, np.ones(3), "same")))

    draw, relative = _noise_of_times(curve.single)
    noise = np.minimum(about(draw), about(relative) * np.sqrt(curve.bins(curve.single**2)))
    return np.maximum(noise, ROUNDING)


def with_smooth_misfit(curve: Curve) -> Curve:
    """Return the curve for a law that is missed in the course of time and not at random.

    The misfit is a Gaussian process of Matern type 3/2, whose length is a third of all bins: no law is missed so that
    three parameters could not follow it on a shorter one. Its mean over the bins varies no more than the rest of it, as
    the amplitude is free: else a law that vanishes where the response does not would miss it in a smooth way.
    """
    place = np.linspace(0.0, 1.0, len(curve.mean))
    distance = np.sqrt(3.0) * 3.0 * np.abs(place[:, None] - place)
    misfit = (1.0 + distance) * np.exp(-distance)
    misfit = misfit - misfit.mean(axis=0) - misfit.mean(axis=1, keepdims=True) + misfit.mean()
    return replace(curve, misfit=misfit + np.trace(misfit) / (len(place) - 1) / len(place), kind="smooth")


def _scale(responses: Array, sizes: Array) -> tuple[Array, Array]:
    """Return scaled responses and logarithms of the scales; where all is 0 the scale is the largest."""
    sizes = np.where(sizes > 0.0, np.maximum(sizes, _LEAST_SCALE * sizes.max()), sizes.max())
    return responses / sizes, np.log(sizes)


def _curve(time: Array, log_scale: Array, n_bins: int) -> Curve:
    starts = bin_starts(time, n_bins)
    counts = np.diff(starts, append=len(time)).astype(np.float64)
    bins = np.eye(len(starts))
    rounding = np.add.reduceat(ROUNDING * np.exp(-log_scale), starts) / counts
    zeros = np.zeros(len(starts))
    return Curve(time / time[-1], log_scale, starts, counts, zeros, 0.0 * bins, rounding, bins, 0)


def bin_starts(time: Array, n_bins: int) -> Index:
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
