"""The one-sample Kolmogorov-Smirnov test of samples against a tabulated density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Densities from a quadrature miss unit mass by far less; one that misses it by more is cut off or not a density.
MASS_TOLERANCE = 1e-3
NEGLIGIBLE = 1e-100


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Outcome of a one-sample test.

    Parameters
    ----------
    statistic
        Largest distance D between the empirical and the given distribution function, in [0, 1].
    p_value
        Probability of a distance of at least D if the samples come from the given distribution.
    n_samples
        Number of samples.
    """

    statistic: float
    p_value: float
    n_samples: int


def ks_against_density(samples: ArrayLike, grid: ArrayLike, density: ArrayLike) -> KolmogorovSmirnov:
    r"""Test whether samples come from a density that is given on a grid.

    Parameters
    ----------
    samples
        Independent samples, shape (sample,), finite, in any order. Those beyond the grid lie where the distribution
        function is 0 or 1.
    grid
        Strictly increasing points, shape (point,), at least 4; the spacing may vary.
    density
        Density at these points, shape (point,), not negative. Its integral must be 1 within 0.001, and the rest is
        divided out.

    Returns
    -------
    KolmogorovSmirnov
        Statistic :math:`D = \max_i \max(i/n - F(x_{(i)}),\, F(x_{(i)}) - (i-1)/n)` and its p-value from the exact
        distribution of D for n samples.

    Raises
    ------
    ValueError
        If an argument has the wrong shape or a value outside the ranges above.

    Notes
    -----
    Between the points the density is interpolated by monotone cubics (Fritsch and Butland 1984), integrated exactly:
    the distribution function never decreases, and its error is of third order in the spacing. The p-value supposes
    that no parameter of the density was fitted to the same samples; it is from R. Simard and P. L'Ecuyer,
    *J. Stat. Softw.* 39(11), 2011, as SciPy implements it.

    Examples
    --------
    >>> import numpy as np
    >>> from wideangle.statistics import ks_against_density
    >>> grid = np.linspace(-8.0, 8.0, 801)
    >>> density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    >>> samples = np.random.default_rng(0).standard_normal(1000)
    >>> ks_against_density(samples, grid, density).p_value > 0.01
    True
    >>> ks_against_density(samples + 0.3, grid, density).p_value < 1e-9
    True
    """
    from scipy.interpolate import PchipInterpolator
    from scipy.stats import kstwo

    x = np.sort(_finite_vector("samples", samples, at_least=1))
    points = _finite_vector("grid", grid, at_least=4)
    values = _finite_vector("density", density, at_least=4)
    if values.shape != points.shape:
        raise ValueError(f"density must have the shape of grid, {points.shape}, got {values.shape}")
    if not np.all(np.diff(points) > 0.0):
        raise ValueError("grid must increase strictly; sort it and leave out repeated points")
    if np.any(values < 0.0):
        raise ValueError(f"density must not be negative, got {values.min():.6g}; give a probability density")
    # Slopes of a tail that has all but underflowed would overflow in the interpolator's harmonic means.
    values = np.where(values > NEGLIGIBLE * values.max(), values, 0.0)
    integral = PchipInterpolator(points, values).antiderivative()
    mass = float(integral(points[-1]))
    if abs(mass - 1.0) > MASS_TOLERANCE:
        raise ValueError(f"density must integrate to 1, got {mass:.6g}; widen the grid or divide by the integral")
    cdf = np.clip(integral(np.clip(x, points[0], points[-1])) / mass, 0.0, 1.0)
    n = x.size
    rank = np.arange(n + 1) / n
    statistic = float(max(np.max(rank[1:] - cdf), np.max(cdf - rank[:-1])))
    return KolmogorovSmirnov(statistic=statistic, p_value=float(kstwo.sf(statistic, n)), n_samples=n)


def _finite_vector(name: str, values: ArrayLike, *, at_least: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < at_least:
        raise ValueError(f"{name} must be a vector of at least {at_least} values, got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got NaN or infinite values; leave them out")
    return array
