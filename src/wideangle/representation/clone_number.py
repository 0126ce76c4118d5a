"""How many clones a layer consists of: from the spectrum of its covariance, from its chunks, from their errors."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_real
from wideangle._provenance import provenance
from wideangle.representation._decay import RESAMPLES, Decay, fit_decay
from wideangle.representation._generic_chunks import generic_residual, generic_size
from wideangle.representation._signals import SMALLEST, Signals, find_signals
from wideangle.representation._signatures import SIGNATURES, CriticalWidth, judge_signatures

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "four signatures of arXiv 2106.03485; shared signals and independent noise, generic chunks: derived"
CONFIDENCE = 0.95
_BEYOND_SIGNALS = 1.25  # Neurons of a chunk that is held against generic ones, in units of the number of signals.
_LEAST_SIGNALS = 4  # For which the law of generic chunks is taken to hold.
_SEED = 2106_03485

Array = NDArray[np.float64]


def fit_clones(
    statistics: xr.Dataset,
    *,
    asymptotic_error: float | None = None,
    critical_width: float | None = None,
    training: xr.Dataset | None = None,
) -> xr.Dataset:
    r"""Estimate the critical width of a layer, the number of its clones, and the power of the error; judge signatures.

    Parameters
    ----------
    statistics
        What :func:`chunk_statistics` says of the layer, for at least two chunks; of test samples, if with a readout.
    asymptotic_error
        The error that chunks of ever wider layers would tend to, as from an ensemble of networks. Default None: fitted
        along with the exponent, which takes four chunk sizes from the critical width on.
    critical_width
        A critical width to use in place of the estimated one. Default None.
    training
        What :func:`chunk_statistics` says of the same layer and readout for the training samples; for the first
        signature. Default None.

    Returns
    -------
    xarray.Dataset
        - ``critical_width``, and ``..._low`` and ``..._high``: the number of signals that neurons share, below which no
          chunk knows them all, and the range from there to the width from which *random* chunks do, with the 95 %
          interval of that (see Notes), or the least of that interval if it is smaller. NaN where the data cannot
          decide; the range also if the signals are fewer than four or the layer is narrower than 5/3 clones.
        - ``n_clones`` = neurons that vary / critical width, with the same range.
        - ``exponent``, ``exponent_low``, ``exponent_high``: of error - asymptotic error against w, from the critical
          width on, with a 95 % interval over choices of chunks and layers (not of samples), and ``asymptotic_error``.
          NaN without errors.
        - ``n_signals``, ``weakest_signal`` (its eigenvalue less 1 over that of the edge of the noise, with
          its margin, less 1) and
          ``r2_limit``, the share of variance that is not noise of single neurons: what found or failed to find the
          critical width.
        - On chunk_size: ``r2_generic``, what the eigenvalues of the covariance alone predict for ``r2``, and
          ``error_fit``.
        - On ``signature`` ("training error", "test error", "r2", "residual correlation"): ``statement``, ``measured``,
          ``measured_low``, ``measured_high``, ``allowed_low``, ``allowed_high`` and ``verdict``: "agrees", "disagrees",
          "not resolved", or "not measured".

        The attributes have ``decided`` (0 or 1), ``reason``, and ``exponent_reason`` if there is no exponent.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Warns
    -----
    UserWarning
        If the data cannot decide on the critical width, or on the exponent, and why.

    Notes
    -----
    arXiv 2106.03485 reads the critical width off curves. Here it is estimated twice, by ways that share the covariance
    and nothing else; all of this is derived, not in the paper.

    *Spectrum.* If clones carry the same information up to independent noise, the covariance is that of D signals plus a
    diagonal, as in factor analysis. The noise of each neuron is found from the diagonal of the inverse; in its units
    noise has eigenvalues within the edges of Marchenko and Pastur, and D is a number that leaves only such. No
    chunk of fewer than D neurons determines D signals, and D generic ones do: the critical width is D. The data cannot
    decide if no D up to 3/4 of Ledermann's bound on what so many neurons can tell does it (as when the layer is
    narrower than a clone and a half, or two clones for a few dozen neurons), if the weakest signal does not stand clear
    of the noise, or if there are hardly more samples than neurons. Samples are taken to be independent: repeated or
    correlated ones have spectra of noise that are not these.

    *Chunks.* Neurons whose mixtures of signals are generic leave, after w of them, the residual variance
    :math:`\sum_k \mu_k/(1 + t\mu_k)`, with t from :math:`\sum_k t\mu_k/(1 + t\mu_k) = w` and the eigenvalues
    :math:`\mu` of the correlations. Random chunks of w neurons, a quarter more than D, that leave as much as
    :math:`\hat w` generic ones do have their critical width at :math:`D w/\hat w`. It exceeds D where neurons repeat
    single signals instead of mixing them, or carry some signals more often than others.

    *Errors.* Outputs of chunks are sums over w neurons, so relative fluctuations go like :math:`w^{-1/2}`, and so does
    the share of samples that they carry over a boundary.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(4000, 8, 4, 16, 0.5, seed=1)
    >>> chunks = wa.representation.chunk_statistics(
    ...     layer.features, seed=1, readout=layer.readout, bias=layer.bias, targets=layer.targets
    ... )
    >>> fit = wa.representation.fit_clones(chunks, asymptotic_error=0.0)
    >>> int(fit.critical_width), float(fit.n_clones)
    (16, 4.0)
    >>> bool(fit.exponent_low < -0.5 < fit.exponent_high)
    True
    """
    _check_statistics("statistics", statistics, needs_error=False)
    if training is not None:
        _check_statistics("training", training, needs_error=True)
        if training.sizes["neuron"] != statistics.sizes["neuron"]:
            raise ValueError(
                f"training must be of the same layer as statistics, got {training.sizes['neuron']} neurons instead of"
                f" {statistics.sizes['neuron']}; give both from one layer"
            )
    n_neurons = statistics.sizes["neuron"]
    asymptotic_error, critical_width = check_fit(asymptotic_error, critical_width, n_neurons, "error" in statistics)

    import xarray as xr

    signals = find_signals(statistics["covariance"].values, int(statistics.attrs["n_samples"]))
    width = _critical_width(statistics, signals, critical_width)
    decay = _decay(statistics, width, asymptotic_error)
    for reason in (width.reason, decay.reason if "error" in statistics and not width.reason else ""):
        if reason:
            warnings.warn(f"cannot decide: {reason}", UserWarning, stacklevel=2)
    return xr.Dataset(
        _variables(statistics, signals, width, decay) | judge_signatures(statistics, training, signals, width, decay),
        {"chunk_size": statistics["chunk_size"].values, "signature": list(SIGNATURES)},
        attrs=provenance(
            "wideangle.representation.fit_clones",
            source=SOURCE,
            n_samples=statistics.attrs["n_samples"],
            n_neurons=n_neurons,
            n_chunks=statistics.sizes["chunk"],
            confidence=CONFIDENCE,
            given_asymptotic_error=asymptotic_error,
            given_critical_width=critical_width,
            decided=int(not signals.reason),
            reason=signals.reason,
            exponent_reason=decay.reason,
        ),
    )


def _variables(statistics: xr.Dataset, signals: Signals, width: CriticalWidth, decay: Decay) -> dict[str, Any]:
    """Return what a fit found, without its verdicts, as variables of a Dataset."""
    varying = statistics.sizes["neuron"] - int(statistics.attrs["n_constant"])
    return {
        "critical_width": width.value,
        "critical_width_low": width.low,
        "critical_width_high": width.high,
        "n_clones": varying / width.value,
        "n_clones_low": varying / width.high,
        "n_clones_high": varying / width.low,
        "exponent": decay.exponent,
        "exponent_low": decay.low,
        "exponent_high": decay.high,
        "asymptotic_error": decay.limit,
        "n_signals": signals.n_signals,
        "weakest_signal": signals.weakest,
        "r2_limit": _r2_limit(statistics, signals),
        "r2_generic": ("chunk_size", _generic_r2(statistics)),
        "error_fit": ("chunk_size", decay.limit + decay.amplitude * statistics["chunk_size"].values ** decay.exponent),
    }


def check_fit(
    asymptotic_error: float | None, critical_width: float | None, n_neurons: int, has_errors: bool
) -> tuple[float | None, float | None]:
    """Return what is given to :func:`fit_clones` beside statistics, of a layer with or without errors of chunks."""
    if asymptotic_error is not None:
        remedy = "give an error such as 0.02, or None to fit it"
        asymptotic_error = check_real("asymptotic_error", asymptotic_error, remedy=remedy)
        if not 0.0 <= asymptotic_error < 1.0:
            raise ValueError(f"asymptotic_error must lie in [0, 1), got {asymptotic_error!r}; {remedy}")
        if not has_errors:
            raise ValueError(
                "asymptotic_error needs errors of chunks, which statistics do not have; give readout and targets to"
                " chunk_statistics, or leave asymptotic_error out"
            )
    if critical_width is not None:
        remedy = "give a number of neurons, or None to estimate it"
        critical_width = check_real("critical_width", critical_width, remedy=remedy)
        if not 1.0 <= critical_width <= n_neurons:
            raise ValueError(
                f"critical_width must lie between 1 and the {n_neurons} neurons, got {critical_width!r}; {remedy}"
            )
    return asymptotic_error, critical_width


def _check_statistics(name: str, value: Any, *, needs_error: bool) -> None:
    import xarray as xr

    remedy = "give what chunk_statistics returns"
    if not isinstance(value, xr.Dataset):
        raise TypeError(f"{name} must be a Dataset, got {type(value).__name__}; {remedy}")
    needed = {"r2", "residual_correlation_outside", "order", "eigenvalue", "covariance"}
    missing = sorted(needed - set(value.variables))
    if missing or "n_samples" not in value.attrs:
        raise ValueError(
            f"{name} must be statistics of chunks, got a Dataset without {missing or 'n_samples'}; {remedy}"
        )
    if value.sizes.get("chunk", 1) < 2:
        raise ValueError(f"{name} must hold at least 2 chunks of each size, got 1; give n_chunks to chunk_statistics")
    if needs_error and "error" not in value:
        raise ValueError(f"{name} must have errors of chunks; give readout and targets to chunk_statistics")


def _critical_width(statistics: xr.Dataset, signals: Signals, given: float | None) -> CriticalWidth:
    nothing = (math.nan, math.nan, math.nan)
    random = nothing if signals.reason else _width_of_random_chunks(statistics, signals.n_signals)
    if given is not None:
        return CriticalWidth(given, given, given, random, "")
    if signals.reason:
        return CriticalWidth(*nothing, nothing, signals.reason)
    count = float(signals.n_signals)
    return CriticalWidth(count, float(np.minimum(count, random[1])), float(np.maximum(count, random[2])), random, "")


def _width_of_random_chunks(statistics: xr.Dataset, count: int) -> tuple[float, float, float]:
    """Return D w / (generic neurons that know as much) for chunks of somewhat more than D neurons, and its interval.

    Of standardised neurons that vary, from the covariance and the orders of the chunks. NaN for so few signals, or so
    few neurons beside them, that the law of generic chunks does not hold.
    """
    covariance = statistics["covariance"].values
    varying = np.diag(covariance) > SMALLEST
    scales = 1.0 / np.sqrt(np.diag(covariance)[varying])
    correlation = covariance[np.ix_(varying, varying)] * (scales * scales[:, None])
    n_neurons = len(correlation)
    size = math.ceil(_BEYOND_SIGNALS * count)
    if count < _LEAST_SIGNALS or size > 0.75 * n_neurons:
        return math.nan, math.nan, math.nan
    places = np.cumsum(varying) - 1
    orders = [places[order[varying[order]]] for order in statistics["order"].transpose("chunk", "neuron").values]
    left = np.array([_left_by(correlation, order[:size]) for order in orders])
    if left.mean() < 1e-9 * n_neurons:
        return float(count), float(count), float(count)
    rng = np.random.Generator(np.random.Philox(_SEED))
    resampled = left[rng.integers(len(left), size=(RESAMPLES, len(left)))].mean(axis=1)
    ends = np.quantile(resampled, [0.5 - CONFIDENCE / 2.0, 0.5 + CONFIDENCE / 2.0])
    eigenvalues = np.maximum(np.linalg.eigvalsh(correlation), 0.0)
    known = generic_size(eigenvalues, np.array([left.mean(), *ends]))
    value, low, high = (min(float(each), float(n_neurons)) for each in count * size / known)
    return value, low, high


def _left_by(correlation: Array, chunk: NDArray[np.int64]) -> float:
    """Return the variance that regressions on a chunk leave, summed over neurons."""
    from scipy.linalg import cholesky, solve_triangular

    # Neurons that are equal up to rounding must not make it singular.
    square = correlation[np.ix_(chunk, chunk)] + 1e-12 * np.eye(len(chunk))
    explained = solve_triangular(cholesky(square, lower=True), correlation[chunk], lower=True)
    return max(float(len(correlation) - np.sum(explained**2)), 0.0)


def _generic_r2(statistics: xr.Dataset) -> Array:
    sizes, eigenvalues = statistics["chunk_size"].values, statistics["eigenvalue"].values
    if eigenvalues[0] < SMALLEST:
        return np.full(len(sizes), np.nan)
    eigenvalues = eigenvalues / eigenvalues[0]
    rank = np.count_nonzero(eigenvalues > 1e-13)
    proper = sizes < rank
    r2 = np.ones(len(sizes))
    r2[proper] = 1.0 - generic_residual(eigenvalues[:rank], sizes[proper]) / eigenvalues.sum()
    return r2


def _r2_limit(statistics: xr.Dataset, signals: Signals) -> float:
    if signals.reason:
        return math.nan
    return 1.0 - float(signals.noise_variance.sum() / np.trace(statistics["covariance"].values))


def _decay(statistics: xr.Dataset, width: CriticalWidth, asymptotic_error: float | None) -> Decay:
    nothing = Decay(math.nan, math.nan, math.nan, math.nan, math.nan, "")
    if "error" not in statistics:
        return nothing._replace(reason="there are no errors of chunks")
    if width.reason:
        return nothing._replace(reason="there is no critical width")
    above = statistics.sel(chunk_size=statistics["chunk_size"] >= width.value)
    return fit_decay(
        np.ascontiguousarray(above["error"].transpose("chunk", "chunk_size").values),
        above["chunk_size"].values,
        statistics.sizes["neuron"],
        asymptotic_error,
        confidence=CONFIDENCE,
        seed=_SEED,
    )
