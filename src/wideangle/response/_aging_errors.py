"""Distributions of deviations from laws of aging, by what is known about the errors."""

from __future__ import annotations

import math

from wideangle.response._aging_curves import RESOLUTION, Curve


class Errors:
    """What deviations mean: distributions of their differences, from how well the errors are known."""

    def __init__(self, curve: Curve, misfit: float, confidence: float, most: int) -> None:
        from scipy import stats

        self.n_bins, self.n, self.misfit = len(curve.mean), curve.n_networks, misfit
        self.confidence, self.most = confidence, most
        self.from_residuals = misfit > RESOLUTION or not curve.errors_known
        self._stats = stats

    def freedom(self, n_parameters: int) -> float:
        """Return the degrees of freedom of the errors."""
        if self.from_residuals:
            return float(self.n_bins - self.most)
        return float(self.n - 1 - self.n_bins + n_parameters) if self.n else math.inf

    def excess(self, factor: float, least: float, n_parameters: int) -> float:
        """Return the deviation with a variance ratio ``factor`` to the least one."""
        if self.from_residuals or not self.n:
            return least + factor
        return least + (self.n - 1 + least) * factor / self.freedom(n_parameters)

    def ratio(self, deviation: float, least: float, n_parameters: int) -> float:
        """Return the variance ratio of a deviation to the least one, the inverse of :meth:`excess`."""
        if self.from_residuals or not self.n:
            return deviation - least
        return (deviation - least) * self.freedom(n_parameters) / (self.n - 1 + least)

    def limit(self, least: float, n_parameters: int) -> float:
        """Return the deviation up to which a parameter is in its interval."""
        freedom = self.freedom(n_parameters)
        student = self._stats.norm if freedom == math.inf else self._stats.t(freedom)
        return self.excess(float(student.ppf(0.5 + 0.5 * self.confidence)) ** 2, least, n_parameters)

    def p_value(self, deviation: float, n_parameters: int) -> float:
        """Return how likely a deviation as large is if the law holds, by Hotelling's distribution."""
        rest = self.n_bins - n_parameters
        if not self.n:
            return float(self._stats.chi2.sf(deviation, rest))
        freedom = self.n - rest
        return float(self._stats.f.sf(deviation * freedom / (rest * (self.n - 1)), rest, freedom))

    def p_value_beside(self, deviation: float, least: float, n_parameters: int) -> float:
        """Return how likely a deviation as large is if the law holds, where the most flexible law deviates least."""
        if not self.from_residuals:
            return self.p_value(deviation, n_parameters)
        more = self.most - n_parameters
        return float(self._stats.f.sf((deviation - least) / more, more, self.freedom(self.most)))

    def aic(self, deviation: float, n_parameters: int) -> float:
        """Return AICc but for a constant common to all laws."""
        q = self.n_bins
        if self.from_residuals:
            k = n_parameters + 1  # The size of the errors is fitted, too.
            small = 2.0 * k * (k + 1) / (q - k - 1) if q > k + 1 else math.inf
            return deviation + 2.0 * k + small
        if not self.n:
            return deviation + 2.0 * n_parameters
        penalty = 0.0
        for p in range(1, n_parameters):
            # A parameter more is one more regressor in a regression over networks that already has q - p.
            more = q - p + 1
            penalty += 2.0 * self.n * (self.n - 1) / ((self.n - more - 1) * (self.n - more))
        return self.n * math.log1p(deviation / (self.n - 1)) + 2.0 + penalty
