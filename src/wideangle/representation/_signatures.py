"""The four signatures of clones in arXiv 2106.03485, held against what chunks of a layer and its covariance say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.reports.claims import Claim
from wideangle.representation._decay import Decay
from wideangle.representation._signals import Signals
from wideangle.representation.chunks import CORRELATION_OFFSET

if TYPE_CHECKING:
    import xarray as xr

SIGNATURES = ("training error", "test error", "r2", "residual correlation")
NOT_MEASURED = "not measured"
EXPONENT = -0.5

# What the signatures allow: training error of chunks above that of the layer, exponent, critical width of random chunks
# over the number of signals, and residual correlations over those of signals and independent noise.
_ALLOWED = ((-math.inf, 0.01), (EXPONENT - 0.1, EXPONENT + 0.1), (0.8, 1.25), (0.8, 1.25))
_STATEMENTS = (
    "Chunks of the critical width classify the training set as the layer does: the excess of errors is below 0.01.",
    "From the critical width on the test error approaches its limit like w^(-1/2).",
    "Random chunks know of the layer what as many generic neurons would: the ratio of critical widths is near 1.",
    "What chunks leave of other neurons is correlated as the signals and independent noise are.",
)
_COMPARED_CHUNKS = 10

Array = NDArray[np.float64]


class CriticalWidth(NamedTuple):
    """A critical width with the ends of its interval, or why there is none."""

    value: float
    low: float
    high: float
    of_random_chunks: tuple[float, float, float]
    reason: str


def judge_signatures(
    statistics: xr.Dataset, training: xr.Dataset | None, signals: Signals, width: CriticalWidth, decay: Decay
) -> dict[str, Any]:
    """Return statements, measurements and verdicts on the four signatures as variables of a Dataset."""
    claims = [
        _training_claim(training, width),
        _exponent_claim(decay),
        _r2_claim(signals, width),
        _correlation_claim(statistics, signals, width),
    ]
    rows = [
        (math.nan, math.nan, math.nan, NOT_MEASURED)
        if claim is None
        else (claim.measured, *claim.interval, claim.verdict)
        for claim in claims
    ]
    return {
        "statement": ("signature", list(_STATEMENTS)),
        **{
            name: ("signature", [row[place] for row in rows])
            for place, name in enumerate(("measured", "measured_low", "measured_high", "verdict"))
        },
        "allowed_low": ("signature", [low for low, _ in _ALLOWED]),
        "allowed_high": ("signature", [high for _, high in _ALLOWED]),
    }


def _training_claim(training: xr.Dataset | None, width: CriticalWidth) -> Claim | None:
    if training is None or math.isnan(width.value):
        return None
    by_size = training["error"].transpose("chunk_size", "chunk").sortby("chunk_size")
    sizes = by_size["chunk_size"].values
    if sizes[-1] != training.sizes["neuron"]:
        return None
    excess = by_size.values[np.argmax(sizes >= width.value)] - by_size.values[-1]
    half = 1.96 * float(excess.std(ddof=1)) / math.sqrt(len(excess))
    mean = float(excess.mean())
    return Claim(_STATEMENTS[0], mean, (mean - half, mean + half), _ALLOWED[0])


def _exponent_claim(decay: Decay) -> Claim | None:
    if math.isnan(decay.exponent):
        return None
    return Claim(_STATEMENTS[1], decay.exponent, (decay.low, decay.high), _ALLOWED[1])


def _r2_claim(signals: Signals, width: CriticalWidth) -> Claim | None:
    value, low, high = np.array(width.of_random_chunks) / max(signals.n_signals, 1)
    return None if math.isnan(value) else Claim(_STATEMENTS[2], value, (low, high), _ALLOWED[2])


def _correlation_claim(statistics: xr.Dataset, signals: Signals, width: CriticalWidth) -> Claim | None:
    """Return the claim that residual correlations are those of signals and independent noise, for the same chunks."""
    sizes = np.sort(statistics["chunk_size"].values)
    usable = sizes[(sizes >= width.value) & (sizes < statistics.sizes["neuron"] - 1)]
    noisy = (signals.noise_variance > 0.0) | (np.diag(statistics["covariance"].values) == 0.0)
    if signals.reason or not len(usable) or not noisy.all():
        return None
    size = int(usable[0])
    measured = statistics["residual_correlation_outside"].sel(chunk_size=size).values[:_COMPARED_CHUNKS]
    orders = statistics["order"].transpose("chunk", "neuron").values[:_COMPARED_CHUNKS]
    degrees = int(statistics.attrs["n_samples"]) - 1 - size
    ratios = measured / [_expected_correlation(signals, order[:size], order[size:], degrees) for order in orders]
    half = 1.96 * float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    mean = float(ratios.mean())
    return Claim(_STATEMENTS[3], mean, (mean - half, mean + half), _ALLOWED[3])


def _expected_correlation(signals: Signals, chunk: NDArray[np.int64], rest: NDArray[np.int64], degrees: int) -> float:
    """Return the mean magnitude of sample correlations of what a chunk leaves of the rest.

    The signals have the covariance (1 + L' psi^-1 L)^-1 given the chunk. A sample correlation scatters around the true
    one, r, by (1 - r^2) / sqrt(degrees of freedom), as a Gaussian: its magnitude is a folded one. Constant neurons have
    no residuals, and count with correlations of zero, as they do in what is measured.
    """
    from scipy.special import erf

    pairs = len(rest) * (len(rest) - 1) / 2
    chunk, rest = (each[signals.noise_variance[each] > 0.0] for each in (chunk, rest))
    inside, outside = signals.loadings[chunk], signals.loadings[rest]
    precision = np.eye(signals.n_signals) + inside.T @ (inside / signals.noise_variance[chunk, None])
    left = outside @ np.linalg.solve(precision, outside.T)
    left[np.diag_indices(len(rest))] += signals.noise_variance[rest]
    sizes = np.sqrt(np.diag(left))
    above = np.triu_indices(len(rest), 1)
    products = (sizes * sizes[:, None])[above]
    true = left[above] / products
    spread = (1.0 - true**2) / math.sqrt(degrees)
    folded = spread * math.sqrt(2.0 / math.pi) * np.exp(-0.5 * (true / spread) ** 2)
    magnitudes = folded + true * erf(true / (spread * math.sqrt(2.0)))
    return float(np.sum(magnitudes * products / (products + CORRELATION_OFFSET)) / pairs)
