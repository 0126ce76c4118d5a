"""Signals that a layer's neurons share, told from the noise that each has for itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A neuron of which others explain all but this part of the variance has no noise of its own.
_DETERMINED = 1e-10
_GAP = 1e3  # Between eigenvalues of neurons that are determined by others and of those that are not.
# Edges of the noise's spectrum are taken this many Tracy-Widom units outside their place.
_MARGIN = 4.0
SMALLEST = 1e-290  # Variances below have lost digits.
_TOLERANCE = 1e-4
_STEPS_OF_ROUND = 15
_MAX_ROUNDS = 5
_SPARE = 8  # Vectors of the subspace beyond the signals.
_MAX_GAPS = 4
_SPARE_SAMPLES = 10  # Beyond the neurons, which a covariance needs to be told from any other.
_HISTORY = 5
# Where the noise of two neurons may trade places, as with two copies of a signal, it need not settle further.
_SETTLED = 5e-3
# A weakest signal nearer to the noise than this leaves it open whether there are weaker ones; more is asked for where
# signals are more than half of what neurons can tell, as they then fit many a covariance.
_WEAKEST = 2.2
_WEAKEST_OF_MANY = 5.0
# Up to the bound of what neurons can tell, signals fit nearly any covariance.
_SHARE_OF_MOST = 0.75

Array = NDArray[np.float64]


class Signals(NamedTuple):
    """A covariance as that of shared signals and independent noise.

    ``eigenvalue`` is that of the covariance in units of the noise of each neuron, decreasing; where the model does not
    hold, ``reason`` says why, and the rest is the best that was found.
    """

    n_signals: int
    loadings: Array  # (neuron, signal), in units of features
    noise_variance: Array  # (neuron,)
    eigenvalue: Array
    weakest: float  # The eigenvalue of the weakest signal over the upper edge of the noise, both less one.
    reason: str


def find_signals(covariance: Array, n_samples: int) -> Signals:
    """Return the least number of signals that, with independent noise, make up a covariance."""
    variances = np.diag(covariance)
    varying = np.flatnonzero(variances > SMALLEST)
    scales = np.sqrt(variances[varying])
    correlation = covariance[np.ix_(varying, varying)] / (scales * scales[:, None])
    kept = _independent(correlation)
    found = _find(correlation[np.ix_(kept, kept)], n_samples)
    # So few samples determine all other neurons of any layer.
    enough = n_samples >= len(kept) + _SPARE_SAMPLES
    if enough and len(kept) < len(varying):
        eigenvalue = np.linalg.eigvalsh(correlation)[::-1]
        if eigenvalue[len(kept) - 1] < _GAP * eigenvalue[len(kept)]:
            found = found._replace(reason="what neurons do not know of each other goes to zero without a gap")
        elif found.reason and 3 * len(kept) <= 2 * len(varying):
            found = _without_noise(correlation, kept)
            return _embed(found, np.arange(len(varying)), varying, scales, len(variances))
    return _embed(found, kept, varying, scales, len(variances))


def _embed(found: Signals, kept: NDArray[np.intp], varying: NDArray[np.intp], scales: Array, size: int) -> Signals:
    """Return signals of standardised neurons as those of all neurons; those left out have no noise of their own."""
    loadings, noise = np.zeros((size, found.n_signals)), np.zeros(size)
    loadings[varying[kept]] = found.loadings * scales[kept, None]
    noise[varying[kept]] = found.noise_variance * scales[kept] ** 2
    return found._replace(loadings=loadings, noise_variance=noise)


def _independent(correlation: Array) -> NDArray[np.intp]:
    """Return neurons that determine all others, none of which is determined by the rest of them."""
    if not correlation.size:
        return np.empty(0, dtype=np.intp)
    from scipy.linalg import lapack

    _, pivots, rank, _ = lapack.dpstrf(correlation, tol=_DETERMINED)
    kept: NDArray[np.intp] = np.sort(pivots[:rank].astype(np.intp) - 1)
    return kept


def _without_noise(correlation: Array, kept: NDArray[np.intp]) -> Signals:
    factor = np.linalg.cholesky(correlation[np.ix_(kept, kept)])
    loadings = np.linalg.solve(factor, correlation[kept]).T
    eigenvalue = np.where(np.arange(len(correlation)) < len(kept), np.inf, 1.0)
    return Signals(len(kept), loadings, np.zeros(len(correlation)), eigenvalue, math.inf, "")


def _find(correlation: Array, n_samples: int) -> Signals:
    """Return the signals of standardised neurons that are independent in the sample."""
    size = len(correlation)
    most = _most_signals(size)
    if n_samples < size + _SPARE_SAMPLES or most < 1:
        nothing = Signals(0, np.zeros((size, 0)), np.zeros(size), np.full(size, np.nan), math.nan, "")
        few = f"{n_samples} samples of {size} independent neurons"
        narrow = f"{size} independent neuron{'' if size == 1 else 's'}"
        return nothing._replace(
            reason=f"{few if most >= 1 else narrow} are too few to tell shared signals from noise of each neuron"
        )
    # The inverse of a sample covariance is larger than that of the true one, by this factor on average.
    inverse = np.diag(np.linalg.inv(correlation)) * ((n_samples - size - 2.0) / (n_samples - 1.0))
    start, vectors = np.linalg.eigh(_in_units(correlation, 1.0 / inverse))
    start, vectors = start[::-1], vectors[:, ::-1]
    counted = _count(start, n_samples)
    gaps = start[:-1] / np.maximum(start[1:], np.finfo(np.float64).tiny)
    candidates = dict.fromkeys([*(1 + np.argsort(-gaps[:most])[:_MAX_GAPS]), counted])
    found = Signals(counted, np.zeros((size, counted)), 1.0 / inverse, start, math.nan, "")
    found = found._replace(reason=f"{counted} signals stand out of noise, more than {size} neurons can tell apart")
    for count in candidates:
        if count <= most:
            found = _fit(correlation, inverse, vectors, int(count), n_samples)
            if not found.reason:
                break
    return found


def _most_signals(size: int) -> int:
    """Return how many signals a covariance can tell from independent noise (Ledermann's bound)."""
    return math.floor(size + 0.5 - math.sqrt(2.0 * size + 0.25))


def _fit(correlation: Array, inverse: Array, start: Array, count: int, n_samples: int) -> Signals:
    """Return the model that a first number of signals leads to, from eigenvectors to start with."""
    size = len(correlation)
    log_noise, seen = -np.log(inverse), {count}
    vectors = start[:, : count + _SPARE]
    for rounds_left in reversed(range(_MAX_ROUNDS)):
        log_noise, vectors, change = _settle(correlation, inverse, log_noise, vectors, count)
        eigenvalue = np.asarray(np.linalg.eigvalsh(_in_units(correlation, np.exp(log_noise)))[::-1], dtype=np.float64)
        counted = _count(eigenvalue, n_samples)
        if counted > _SHARE_OF_MOST * _most_signals(size):
            break
        if counted == count and change < _TOLERANCE:
            break
        if counted != count:
            if counted in seen or not rounds_left:
                break
            seen.add(counted)
            count = counted
            vectors = start[:, : count + _SPARE]
    level = float(eigenvalue[count:].mean()) * (n_samples - 1) / (n_samples - 1 - count)
    noise, eigenvalue = np.exp(log_noise) * level, eigenvalue / level
    loadings = vectors[:, :count] * np.sqrt(np.maximum(eigenvalue[:count] - 1.0, 0.0)) * np.sqrt(noise)[:, None]
    low, high = np.array(noise_edges(size - count, n_samples - 1 - count)) * eigenvalue[count:].mean()
    weakest = (eigenvalue[count - 1] - 1.0) / (high - 1.0) if count else math.nan
    most = _most_signals(size)
    shortage = f"{count} signal{'' if count == 1 else 's'} beside noise"
    if not count:
        reason = "neurons share no signal"
    elif counted != count or eigenvalue[-1] < low:
        reason = f"{shortage} do not make up the covariance, nor does any other number that was tried"
    elif change > _SETTLED:
        reason = f"{shortage} leave the noise of neurons undetermined"
    elif count > _SHARE_OF_MOST * most:
        reason = f"{shortage} are more than {size} neurons can tell from any other covariance: the layer is too narrow"
    elif weakest < (_WEAKEST if count <= most / 2 else _WEAKEST_OF_MANY):
        reason = f"the weakest of {shortage} is so near the noise that weaker ones may be hidden in it"
    else:
        reason = ""
    return Signals(count, loadings, noise, eigenvalue, float(weakest), reason)


def _settle(
    correlation: Array, inverse: Array, log_noise: Array, vectors: Array, count: int
) -> tuple[Array, Array, float]:
    """Iterate the noise of neurons towards a fixed point, for a number of signals.

    With noise psi, and eigenvectors v and eigenvalues l of the covariance in its units, the model has the inverse
    (S^-1)_jj = (1 - sum_k v_jk^2 (1 - 1/l_k)) / psi_j. Eigenvectors follow by subspace iteration, and steps are mixed
    as Anderson does (J. ACM 12, 547, 1965). Returns the logarithm of the noise, its eigenvectors, and the change that
    the next step would make.
    """
    points: list[Array] = []
    steps: list[Array] = []
    for taken in range(1 + _STEPS_OF_ROUND):
        scaled = _in_units(correlation, np.exp(log_noise))
        vectors = np.linalg.qr(scaled @ vectors)[0]
        eigenvalue, turn = np.linalg.eigh(vectors.T @ (scaled @ vectors))
        vectors, top = vectors @ turn[:, ::-1], eigenvalue[::-1][:count]
        level = (np.trace(scaled) - top.sum()) / (len(scaled) - count)
        shared = vectors[:, :count] ** 2 @ (1.0 - np.minimum(level / top, 1.0))
        step = np.log(np.maximum(1.0 - shared, 1e-12) / inverse) - log_noise
        change = float(np.max(np.abs(step)))
        if change < _TOLERANCE or taken == _STEPS_OF_ROUND:
            break
        points, steps = [*points, log_noise][-_HISTORY:], [*steps, step][-_HISTORY:]
        log_noise = log_noise + step
        if len(steps) > 1:
            differences = np.array([steps[-1] - each for each in steps[:-1]]).T
            weights = np.linalg.lstsq(differences, steps[-1], rcond=1e-8)[0]
            ends = [x + f for x, f in zip(points, steps, strict=True)]
            mixed = log_noise - np.array([ends[-1] - end for end in ends[:-1]]).T @ weights
            # A mixed step that leaps is not taken.
            if np.all(np.isfinite(mixed)) and np.max(np.abs(mixed - points[-1])) < 2.0:
                log_noise = mixed
    return log_noise, vectors, change


def _in_units(correlation: Array, noise: Array) -> Array:
    """Return a matrix in units of the noise of neurons."""
    scales = 1.0 / np.sqrt(noise)
    return np.asarray(correlation * (scales * scales[:, None]))


def _count(eigenvalue: Array, n_samples: int) -> int:
    """Return the number of eigenvalues above the edge of what noise alone would have in place of all below."""
    size = len(eigenvalue)
    sums = np.cumsum(eigenvalue[::-1])[::-1]
    for count in range(size - 1):
        mean = sums[count] / (size - count)
        if eigenvalue[count] <= mean * noise_edges(size - count, n_samples - 1 - count)[1]:
            return count
    return size


def noise_edges(size: int, degrees: int) -> tuple[float, float]:
    """Return where eigenvalues of the sample covariance of unit noise end, with a margin of four fluctuations.

    Place and scale of the largest eigenvalue as in Johnstone, Ann. Stat. 29, 295 (2001), with the halves of Ma,
    Bernoulli 18, 322 (2012); the lower ones as their reflection (Feldheim and Sodin, Geom. Funct. Anal. 20, 88, 2010).
    """
    n, p = math.sqrt(degrees - 0.5), math.sqrt(size - 0.5)
    upper = ((n + p) ** 2 + _MARGIN * (n + p) * (1.0 / n + 1.0 / p) ** (1.0 / 3.0)) / degrees
    gap = max(n - p, 0.0)
    lower = (gap**2 - _MARGIN * gap * abs(1.0 / p - 1.0 / n) ** (1.0 / 3.0)) / degrees
    return max(lower, 0.0), upper
