"""Moments that merge: the first four central power sums of samples that are never held together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle.statistics._samples import check_same_shape, read_fields

FloatArray = NDArray[np.float64]

FIELDS = ("count", "mean", "m2", "m3", "m4")


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Count, mean and central power sums of samples, for each element of an array on its own.

    :math:`M_p = \sum_i (x_i - \bar x)^p`. Two disjoint sets of samples have moments that :meth:`merge` into those of
    their union, so that a run can be split over blocks, threads and machines.

    Parameters
    ----------
    count
        Number of samples, non-negative integers of any shape.
    mean
        Sample mean, same shape; NaN where ``count`` is 0, whatever is given there.
    m2, m3, m4
        Sums of the second, third and fourth powers of the deviations from the mean, same shape; 0 where ``count`` is 0.

    Raises
    ------
    ValueError
        If the shapes differ or a count is negative.
    TypeError
        If ``count`` does not hold integers.

    Notes
    -----
    Source: P. Pebay, *Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
    statistical moments*, Sandia report SAND2008-6212 (2008), equations 2.1 and 2.2 with p = 2, 3, 4.

    Examples
    --------
    >>> import numpy as np
    >>> from wideangle.statistics import Moments
    >>> first, second = Moments.from_samples([1.0, 2.0]), Moments.from_samples([3.0, 6.0])
    >>> both = first.merge(second)
    >>> int(both.count), float(both.mean), float(both.m2)
    (4, 3.0, 14.0)
    """

    count: NDArray[np.int64]
    mean: FloatArray
    m2: FloatArray
    m3: FloatArray
    m4: FloatArray

    def __post_init__(self) -> None:
        count = np.asarray(self.count)
        if not np.issubdtype(count.dtype, np.integer):
            raise TypeError(f"count must hold integers, got dtype {count.dtype}; give numbers of samples")
        # An unsigned count beyond 63 bits turns negative here, so that one test finds both mistakes.
        count = count.astype(np.int64)
        if np.any(count < 0):
            raise ValueError(f"count must be non-negative, got {count.min()}; give numbers of samples")
        object.__setattr__(self, "count", count)
        for name in ("mean", "m2", "m3", "m4"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.shape != count.shape:
                raise ValueError(f"{name} must have the shape of count, {count.shape}, got {values.shape}")
            object.__setattr__(self, name, np.where(count > 0, values, np.nan if name == "mean" else 0.0))

    @classmethod
    def from_samples(cls, samples: ArrayLike, *, where: ArrayLike | None = None) -> Moments:
        """Return the moments over the first axis.

        Parameters
        ----------
        samples
            Array of shape (sample, ...).
        where
            Booleans that broadcast to the shape of ``samples``: which of them count. All by default.

        Returns
        -------
        Moments
            Fields of the shape of ``samples`` without its first axis.

        Raises
        ------
        ValueError
            If ``samples`` has no axis, or a sample that counts is not finite.

        Examples
        --------
        >>> log_sin2 = np.array([[-4.0, -5.0], [-4.2, -np.inf], [-4.1, -5.2]])
        >>> Moments.from_samples(log_sin2, where=np.isfinite(log_sin2)).count
        array([3, 2])
        """
        x = np.asarray(samples, dtype=np.float64)
        if x.ndim == 0:
            raise ValueError("samples must have at least one axis, got a scalar; give an array of shape (sample, ...)")
        chosen = np.broadcast_to(True if where is None else np.asarray(where, dtype=bool), x.shape)
        if not np.all(np.isfinite(x), where=chosen):
            raise ValueError(
                "samples must be finite, got NaN or infinite ones; leave them out with where=np.isfinite(samples)"
            )
        x = np.where(chosen, x, 0.0)
        count = np.count_nonzero(chosen, axis=0)
        divisor = np.maximum(count, 1)
        mean = x.sum(axis=0) / divisor
        # The rounding of the first mean, of the order of its own last digit, shows up in the mean of the deviations
        # and is taken out: without it badly conditioned samples (mean much larger than spread) lose half the digits.
        deviation = np.where(chosen, x - mean, 0.0)
        correction = deviation.sum(axis=0) / divisor
        deviation = np.where(chosen, deviation - correction, 0.0)
        squares = deviation * deviation
        return cls(
            count=count,
            mean=mean + correction,
            m2=squares.sum(axis=0),
            m3=(squares * deviation).sum(axis=0),
            m4=(squares * squares).sum(axis=0),
        )

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples together.

        The operation is associative and commutative up to rounding; moments of no samples are its neutral element.

        Parameters
        ----------
        other
            Moments of other samples, of the same shape.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        check_same_shape("moments", self.shape, other.shape)
        count = self.count + other.count
        both = (self.count > 0) & (other.count > 0)
        total = np.maximum(count, 1)
        a, b = self.count / total, other.count / total
        d = np.where(both, other.mean - self.mean, 0.0)
        # Pebay's terms in the fractions a = n_A/n and b = n_B/n: powers of n itself would exceed 64 bits.
        ab = a * b * total
        return Moments(
            count=count,
            mean=np.where(self.count > 0, self.mean + d * b, other.mean),
            m2=self.m2 + other.m2 + d**2 * ab,
            m3=self.m3 + other.m3 + d**3 * ab * (a - b) + 3.0 * d * (a * other.m2 - b * self.m2),
            m4=self.m4
            + other.m4
            + d**4 * ab * (a * a - a * b + b * b)
            + 6.0 * d**2 * (a * a * other.m2 + b * b * self.m2)
            + 4.0 * d * (a * other.m3 - b * self.m3),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the quantities."""
        return self.count.shape

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name, as :meth:`from_arrays` takes them."""
        return {name: np.asarray(getattr(self, name)) for name in FIELDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Moments:
        """Return the moments that :meth:`to_arrays` has written."""
        return cls(**read_fields("moments", arrays, FIELDS))

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance, NaN where there are fewer than two samples."""
        return _divide(self.m2, self.count - 1)

    @property
    def skewness(self) -> FloatArray:
        r"""Skewness :math:`g_1 = (M_3/n) / (M_2/n)^{3/2}`, the moment estimator, biased by :math:`O(1/n)`.

        NaN where it is undefined: without samples; where they do not differ by more than rounding, the standard
        deviation being up to four times the precision of the mean; and where it is below 1e-70, so that fourth powers
        underflow.
        """
        return _divide(self.m3, self._spread) * np.sqrt(_divide(self.count, self._spread))

    @property
    def excess_kurtosis(self) -> FloatArray:
        r"""Excess kurtosis :math:`g_2 = (M_4/n) / (M_2/n)^2 - 3`, the moment estimator, biased by :math:`O(1/n)`.

        NaN where :attr:`skewness` is.
        """
        return _divide(self.m4, self._spread) * _divide(self.count, self._spread) - 3.0

    @property
    def _spread(self) -> FloatArray:
        """Return ``m2``, 0 where the samples differ by no more than rounding, or too little for fourth powers."""
        rounding = 4.0 * np.finfo(np.float64).eps * np.abs(np.where(self.count > 0, self.mean, 0.0))
        deviation = np.sqrt(_divide(self.m2, self.count))
        return np.where(deviation > np.maximum(rounding, 1e-70), self.m2, 0.0)

    @property
    def standard_error_mean(self) -> FloatArray:
        """Standard error of the mean, NaN where there are fewer than two samples."""
        return np.sqrt(_divide(self.variance, self.count))

    @property
    def standard_error_variance(self) -> FloatArray:
        r"""Standard error of :attr:`variance`, NaN where there are fewer than two samples.

        From :math:`\operatorname{Var} s^2 = (\mu_4 - \sigma^4 (n-3)/(n-1))/n`, which holds for any distribution with
        a fourth moment, with :math:`M_4/n` and :math:`M_2/n` for :math:`\mu_4` and :math:`\sigma^2`; the estimate is
        never negative. It is low by a relative :math:`O(1/n)`: use it from some tens of samples on.
        """
        n = self.count
        sigma2, mu4 = _divide(self.m2, n), _divide(self.m4, n)
        return np.sqrt(_divide(np.maximum(mu4 - sigma2**2 * _divide(n - 3, n - 1), 0.0), n))


def _divide(numerator: Any, denominator: NDArray[Any]) -> FloatArray:
    """Return the quotient, NaN where the denominator is not positive."""
    positive = denominator > 0
    quotient: FloatArray = np.where(positive, numerator / np.where(positive, denominator, 1), np.nan)
    return quotient
