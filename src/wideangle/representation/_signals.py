"""Signals that a layer's neurons share, told from the noise that each has for itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle.representation._factor_model import count_signals, in_units_of, noise_edges, rest_of_spectrum

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
# Steps of a round after which the model is held against what could still become of it.
_JUDGED_AFTER = (2, 4, 7, 11)
# Judging costs about as much as a step with this part of the neurons for signals.
_COSTLY = 4
# No layer with a number of signals was found in which what is left of the iteration makes up for more than 0.024 + 0.8
# times the next change of the noise.
_MAKES_UP = (0.05, 2.0)
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

    Where the model does not hold, ``reason`` says why, and the rest is what was tried last.
    """

    n_signals: int
    loadings: Array  # (neuron, signal), in units of features
    noise_variance: Array  # (neuron,)
    # In units of the noise, the eigenvalue of the weakest signal over the upper edge of the noise, both less one.
    weakest: float
    reason: str


def find_signals(covariance: Array, n_samples: int) -> Signals:
    """Return a number of signals that, with independent noise, make up a covariance, the first of a few likely ones."""
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
    return Signals(len(kept), loadings, np.zeros(len(correlation)), math.inf, "")


def _find(correlation: Array, n_samples: int) -> Signals:
    """Return the signals of standardised neurons that are independent in the sample."""
    size = len(correlation)
    most = _most_signals(size)
    if n_samples < size + _SPARE_SAMPLES or most < 1:
        nothing = Signals(0, np.zeros((size, 0)), np.zeros(size), math.nan, "")
        few = f"{n_samples} samples of {size} independent neurons"
        narrow = f"{size} independent neuron{'' if size == 1 else 's'}"
        return nothing._replace(
            reason=f"{few if most >= 1 else narrow} are too few to tell shared signals from noise of each neuron"
        )
    # The inverse of a sample covariance is larger than that of the true one, by this factor on average.
    inverse = np.diag(np.linalg.inv(correlation)) * ((n_samples - size - 2.0) / (n_samples - 1.0))
    start, vectors = np.linalg.eigh(in_units_of(1.0 / inverse, correlation))
    start, vectors = start[::-1], vectors[:, ::-1]
    counted = _count(start, n_samples)
    trials = _Trials(correlation, inverse, vectors, n_samples)
    if not counted and start[-1] >= noise_edges(size, n_samples - 1, _MARGIN)[0] * start.mean():
        return trials.fit(0)
    limit = _largest_number(size)
    gaps = start[:-1] / np.maximum(start[1:], np.finfo(np.float64).tiny)
    shortage = f"{counted} signals stand out of noise, more than {size} neurons can tell from any other covariance"
    found = Signals(counted, np.zeros((size, counted)), 1.0 / inverse, math.nan, f"{shortage}: the layer is too narrow")
    tried = found
    for count in dict.fromkeys(
        [*(1 + np.argsort(-gaps[:limit])[:_MAX_GAPS]), *([counted] if counted <= limit else [])]
    ):
        tried = trials.fit(int(count))
        if not tried.reason:
            return tried
    return found if limit < counted <= most else tried


def _most_signals(size: int) -> int:
    """Return how many signals a covariance can tell from independent noise (Ledermann's bound)."""
    return math.floor(size + 0.5 - math.sqrt(2.0 * size + 0.25))


def _largest_number(size: int) -> int:
    """Return how many signals may be found."""
    return math.floor(_SHARE_OF_MOST * _most_signals(size))


class _Point(NamedTuple):
    """Where a round of steps has come to, for a number of signals.

    ``change`` is what the next step would make of the logarithm of the noise; ``vectors`` are those of the signals and
    a few more, ``eigenvalue`` are all, decreasing, in units of the noise.
    """

    number: int
    log_noise: Array
    vectors: Array
    eigenvalue: Array
    change: float


class _Trials:
    """Numbers of signals tried on one covariance, from the noise that the diagonal of its inverse says."""

    def __init__(self, correlation: Array, inverse: Array, vectors: Array, n_samples: int) -> None:
        self._correlation = correlation
        self._inverse = inverse
        self._start = vectors
        self._n_samples = n_samples
        self._limit = _largest_number(len(correlation))
        self._hopeless: dict[int, Signals] = {}

    def fit(self, count: int) -> Signals:
        """Return the model that a first number of signals leads to."""
        log_noise, seen = -np.log(self._inverse), set[int]()
        for _ in range(_MAX_ROUNDS):
            if count not in seen:
                if count in self._hopeless:
                    return self._hopeless[count]
                vectors = self._start[:, : count + _SPARE]
                seen.add(count)
            point = self._settle(log_noise, vectors, count)
            log_noise, vectors = point.log_noise, point.vectors
            counted = _count(point.eigenvalue, self._n_samples)
            if self._is_hopeless(point):
                known = self._hopeless.get(counted)
                self._hopeless[count] = known or _judge(point, self._n_samples, hopeless=True)
                return self._hopeless[count]
            if counted > self._limit or (point.change < _TOLERANCE if counted == count else counted in seen):
                break
            count = counted
        return _judge(point, self._n_samples, hopeless=False)

    def _is_hopeless(self, point: _Point) -> bool:
        """Return whether a point can lead to no number of signals that holds.

        Its own number must be the one that it counts, unless that is hopeless itself, or too many.
        """
        counted = _count(point.eigenvalue, self._n_samples)
        if counted != point.number and counted <= self._limit and counted not in self._hopeless:
            return False
        return _shortfall(point.eigenvalue, self._n_samples) > _MAKES_UP[0] + _MAKES_UP[1] * point.change

    def _settle(self, log_noise: Array, vectors: Array, count: int) -> _Point:
        """Iterate the noise of neurons towards a fixed point, for a number of signals, while there is hope.

        With noise psi, and eigenvectors v and eigenvalues l of the covariance in its units, the model has the inverse
        (S^-1)_jj = (1 - sum_k v_jk^2 (1 - 1/l_k)) / psi_j. Eigenvectors follow by subspace iteration, and steps are
        mixed as Anderson does (J. ACM 12, 547, 1965).
        """
        points: list[Array] = []
        steps: list[Array] = []
        for taken in range(1 + _STEPS_OF_ROUND):
            scaled = in_units_of(np.exp(log_noise), self._correlation)
            vectors = np.linalg.qr(scaled @ vectors)[0]
            eigenvalue, turn = np.linalg.eigh(vectors.T @ (scaled @ vectors))
            vectors, top = vectors @ turn[:, ::-1], eigenvalue[::-1][:count]
            level = (np.trace(scaled) - top.sum()) / (len(scaled) - count)
            shared = vectors[:, :count] ** 2 @ (1.0 - np.minimum(level / top, 1.0))
            step = np.log(np.maximum(1.0 - shared, 1e-12) / self._inverse) - log_noise
            change = float(np.max(np.abs(step)))
            if change < _TOLERANCE or taken == _STEPS_OF_ROUND:
                break
            if taken in _JUDGED_AFTER and _COSTLY * count > len(scaled):
                point = _Point(count, log_noise, vectors, _eigenvalues(scaled), change)
                if self._is_hopeless(point):
                    return point
            points, steps = [*points, log_noise][-_HISTORY:], [*steps, step][-_HISTORY:]
            log_noise = _mix(points, steps)
        return _Point(count, log_noise, vectors, _eigenvalues(scaled), change)


def _mix(points: list[Array], steps: list[Array]) -> Array:
    """Return the next point of an iteration from the last points and the steps to take from them."""
    plain = points[-1] + steps[-1]
    if len(steps) > 1:
        differences = np.array([steps[-1] - each for each in steps[:-1]]).T
        weights = np.linalg.lstsq(differences, steps[-1], rcond=1e-8)[0]
        ends = [x + f for x, f in zip(points, steps, strict=True)]
        mixed = plain - np.array([ends[-1] - end for end in ends[:-1]]).T @ weights
        # A mixed step that leaps is not taken.
        if np.all(np.isfinite(mixed)) and np.max(np.abs(mixed - points[-1])) < 2.0:
            return np.asarray(mixed, dtype=np.float64)
    return plain


def _judge(point: _Point, n_samples: int, *, hopeless: bool) -> Signals:
    """Return the model of a number of signals, with the reason if it does not hold."""
    count, eigenvalue, size = point.number, point.eigenvalue, len(point.eigenvalue)
    counted = _count(eigenvalue, n_samples)
    level = float(eigenvalue[count:].mean()) * (n_samples - 1) / (n_samples - 1 - count)
    noise, eigenvalue = np.exp(point.log_noise) * level, eigenvalue / level
    loadings = point.vectors[:, :count] * np.sqrt(np.maximum(eigenvalue[:count] - 1.0, 0.0)) * np.sqrt(noise)[:, None]
    low, high = np.array(noise_edges(size - count, n_samples - 1 - count, _MARGIN)) * eigenvalue[count:].mean()
    weakest = (eigenvalue[count - 1] - 1.0) / (high - 1.0) if count else math.nan
    weak = weakest < _least_weakest(count, size)
    shortage = f"{count} signal{'' if count == 1 else 's'} beside noise"
    if not count:
        reason = "neurons share no signal"
    elif eigenvalue[-1] < low or (counted != count and not (hopeless and weak)):
        reason = f"{shortage} do not make up the covariance, nor does any other number that was tried"
    elif point.change > _SETTLED and not hopeless:
        reason = f"{shortage} leave the noise of neurons undetermined"
    elif weak:
        reason = f"the weakest of {shortage} is so near the noise that weaker ones may be hidden in it"
    else:
        reason = ""
    return Signals(count, loadings, noise, float(weakest), reason)


def _shortfall(eigenvalue: Array, n_samples: int) -> float:
    """Return by what factor, as its logarithm, eigenvalues would have to change for some number of signals to hold.

    Noise that is another by at most a factor, for each neuron, changes them by at most that (Ostrowski, Proc. Natl.
    Acad. Sci. 45, 740, 1959). A number holds if the last of its eigenvalues stands clear of the edge of the noise, and
    the next does not.
    """
    size = len(eigenvalue)
    count = np.arange(1, max(_largest_number(size), 1) + 1)
    level, edge = (each[count] for each in rest_of_spectrum(eigenvalue, _degrees(size, n_samples), _MARGIN))
    wanted = level + _least_weakest(count, size) * (edge - level)
    missing = np.maximum(np.log(wanted / eigenvalue[count - 1]), np.log(eigenvalue[count] / edge))
    return float(missing.min())


def _least_weakest(count: ArrayLike, size: int) -> Array:
    """Return how clear of the noise the weakest of a number of signals has to stand."""
    return np.where(np.asarray(count) <= _most_signals(size) / 2, _WEAKEST, _WEAKEST_OF_MANY)


def _count(eigenvalue: Array, n_samples: int) -> int:
    """Return the number of eigenvalues above the edge of what noise alone would have in place of all below."""
    return count_signals(eigenvalue, _degrees(len(eigenvalue), n_samples), _MARGIN)


def _degrees(size: int, n_samples: int) -> Array:
    """Return the degrees of freedom that each number of signals leaves."""
    return np.arange(n_samples - 1.0, n_samples - 1.0 - size, -1.0)


def _eigenvalues(matrix: Array) -> Array:
    return np.asarray(np.linalg.eigvalsh(matrix)[::-1], dtype=np.float64)
