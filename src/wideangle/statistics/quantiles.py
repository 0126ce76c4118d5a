"""Quantiles that merge: counts of samples in buckets whose width is a fixed share of the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_real
from wideangle.statistics._samples import blocks_of_samples, check_same_shape, read_counts, read_fields, read_samples

IntArray = NDArray[np.int64]

# With 2**19 buckets an octave the key of a bucket has 32 bits, which leaves 31 for the element in a common integer.
MAX_PRECISION = 19
MAX_ELEMENTS = 2**31
KEY_SPAN = 2**32
MANTISSA_BITS = 52
MAGNITUDE = np.int64(2**63 - 1)
# Up to about this number of cells for each value, a table of all buckets between the least and the largest is filled
# faster than keys are sorted. (Without vectorised sorting, in NumPy 1 or without AVX2, it would be about 10.)
CELLS_PER_VALUE = 2
FIELDS = ("shape", "precision", "element", "key", "counts")


@dataclass(frozen=True, eq=False)
class QuantileSketch:
    r"""Counts in buckets of bounded relative width, from which any quantile follows, for each element of an array.

    Each octave :math:`[2^e, 2^{e+1})` of either sign is divided evenly into :math:`2^k` buckets, k = ``precision``.
    Zero and the two infinities have buckets of their own. The bucket comes from the bits of the value, no logarithm is
    taken, and counts are integers: the sketch of a set of samples is the same to the last bit on every processor and
    however the set was split and merged.

    Parameters
    ----------
    shape
        Shape of the quantities.
    precision
        Binary logarithm k of the number of buckets in each octave, 0 to 19.
    element, key, counts
        The buckets that hold samples, one-dimensional, sorted by element (the place in the array, row by row) and then
        by key, with the number of samples in each. The key is 0 for zero, otherwise the sign of the value times
        1 + the upper 11 + k bits of its magnitude: it increases with the value.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not have this form.

    Notes
    -----
    An estimate is the middle of the bucket that holds the order statistic :math:`x_{(\max(1, \lceil pn \rceil))}`,
    which is what ``numpy.quantile(..., method="inverted_cdf")`` returns. It lies within ``error_bound``
    :math:`= 2^{-(k+1)}` of it, relative to :math:`\max(|x|, 2^{-1022})`: subnormal values are thus known to within
    :math:`2^{-(1023+k)}`. Zero and infinite values are found exactly.

    The memory is that of the buckets in use, 24 bytes each, whatever the number of samples: at most :math:`2^k` for
    each octave that the magnitudes span, and each sign. The default error of 0.1 % (k = 9) takes up to 512 buckets, or
    12 KB, for each factor of 2. Buckets are never collapsed.

    Source: the buckets are those of HdrHistogram (G. Tene) with binary instead of decimal digits; sketches with a
    relative error by buckets: C. Masson, J. E. Rim and H. K. Lee, *DDSketch: a fast and fully-mergeable quantile sketch
    with relative-error guarantees*, Proc. VLDB Endowment 12 (2019), 2195.

    Examples
    --------
    >>> import numpy as np
    >>> from wideangle.statistics import QuantileSketch
    >>> one = QuantileSketch.from_samples(np.arange(1.0, 501.0))
    >>> other = QuantileSketch.from_samples(np.arange(501.0, 1001.0))
    >>> one.merge(other).quantile([0.05, 0.5]).round(1).tolist()
    [50.0, 500.2]
    >>> one.error_bound
    0.0009765625
    """

    shape: tuple[int, ...]
    precision: int
    element: IntArray
    key: IntArray
    counts: IntArray

    def __post_init__(self) -> None:
        remedy = "give buckets as from_samples or to_arrays return them"
        shape = tuple(check_integer("shape", n, low=0, high=MAX_ELEMENTS, remedy=remedy) for n in self.shape)
        n_elements = _size(shape)
        if n_elements > MAX_ELEMENTS:
            raise ValueError(f"shape must hold at most 2**31 elements, got {shape}; use several sketches")
        precision = check_integer("precision", self.precision, low=0, high=MAX_PRECISION, remedy=remedy)
        counts = read_counts("counts", self.counts)
        element, key = (_integers(name, getattr(self, name)) for name in ("element", "key"))
        if not element.shape == key.shape == counts.shape == (len(np.atleast_1d(counts)),):
            shapes = f"{element.shape}, {key.shape} and {counts.shape}"
            raise ValueError(f"element, key and counts must be vectors of one length, got shapes {shapes}; {remedy}")
        largest = (0x7FF << precision) + 1
        if len(key):
            if element.min() < 0 or element.max() >= n_elements or max(-int(key.min()), int(key.max())) > largest:
                raise ValueError(f"element or key out of range for shape {shape} and precision {precision}; {remedy}")
            if np.any(np.diff(element * KEY_SPAN + key) <= 0):
                raise ValueError(f"buckets must be sorted by element and key, without repetition; {remedy}")
            if counts.min() == 0:
                raise ValueError(f"counts must be positive, got 0; {remedy}")
            # Ranks are looked up in one running sum over all elements.
            if np.sum(counts, dtype=np.float64) >= 2.0**62:
                raise OverflowError("counts of all elements together would exceed 2**62; merge fewer samples")
        for name, value in zip(FIELDS, (shape, precision, element, key, counts), strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def from_samples(
        cls, samples: ArrayLike, *, relative_error: float = 1e-3, where: ArrayLike | None = None
    ) -> QuantileSketch:
        """Return the sketch over the first axis.

        Parameters
        ----------
        samples
            Array of shape (sample, ...). Infinite values count, so that quantiles may be infinite.
        relative_error
            Largest relative error of a quantile, 1e-6 to 0.5, default 0.001; ``precision`` is the smallest that keeps
            it. For subnormal values it is relative to 2**-1022.
        where
            Booleans that broadcast to the shape of ``samples``: which of them count. All by default.

        Returns
        -------
        QuantileSketch
            Of the shape of ``samples`` without its first axis.

        Raises
        ------
        TypeError, ValueError
            If ``samples`` has no axis, a sample that counts is NaN, or ``relative_error`` is out of range.

        Examples
        --------
        >>> QuantileSketch.from_samples([[1.0, -np.inf], [2.0, 0.0]]).quantile(0.5).round(2)
        array([  1., -inf])
        """
        precision = _precision(relative_error)
        x, chosen = read_samples(samples, where)
        shape = x.shape[1:]
        if _size(shape) > MAX_ELEMENTS:
            raise ValueError(f"samples must hold at most 2**31 quantities, got shape {x.shape}; use several sketches")
        parts: list[Buckets] = []
        for block, left_out in blocks_of_samples(x, chosen):
            parts.append(_drop(_count(_keys(block, precision)), left_out))
            # Soon, so that buckets which they share take their memory once, but not a few with very many.
            while len(parts) > 1 and 2 * len(parts[-1][0]) >= len(parts[-2][0]):
                parts[-2:] = [_combine(parts[-2:])]
        return cls(shape, precision, *_combine(parts))

    @property
    def count(self) -> IntArray:
        """Number of samples."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        count: IntArray = np.diff(ends[self._first_buckets()]).reshape(self.shape)
        return count

    @property
    def error_bound(self) -> float:
        """Largest error of a quantile, relative to its magnitude or, if that is larger, to 2**-1022."""
        return 2.0 ** -(self.precision + 1)

    def quantile(self, p: ArrayLike) -> NDArray[np.float64]:
        """Return estimates of quantiles.

        Parameters
        ----------
        p
            Probabilities in [0, 1], of any shape.

        Returns
        -------
        numpy.ndarray
            Estimates of the order statistics of rank max(1, ceil(p * count)), with the dimensions of p before those of
            the sketch; NaN where there is no sample.

        Raises
        ------
        ValueError
            If a probability lies outside [0, 1].
        """
        wanted = np.asarray(p, dtype=np.float64)
        if not np.all((wanted >= 0.0) & (wanted <= 1.0)):
            raise ValueError(f"p must lie between 0 and 1, got {p!r}; give probabilities")
        ends = np.cumsum(self.counts)
        before = np.concatenate([[0], ends])[self._first_buckets()]
        n = np.diff(before)
        rank = np.clip(np.ceil(wanted[..., None] * n).astype(np.int64), 1, np.maximum(n, 1))
        result = np.full(rank.shape, np.nan)
        held = n > 0
        bucket = np.searchsorted(ends, (before[:-1] + rank)[..., held])
        result[..., held] = _middle(self.key, self.precision)[bucket]
        return result.reshape(wanted.shape + self.shape)

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """Return the sketch of both sets of samples together.

        Exact, whatever the order, at a cost proportional to the buckets in use; a sketch of no samples is the neutral
        element.

        Raises
        ------
        ValueError
            If the shapes or the precisions differ.
        OverflowError
            If the counts do not fit into 64 bits.
        """
        if self.precision != other.precision:
            raise ValueError(
                f"sketches must have equal precision to merge, got {self.precision} and {other.precision};"
                " make both with the same relative_error"
            )
        check_same_shape("sketches", self.shape, other.shape)
        parts = [(s.element, s.key, s.counts) for s in (self, other)]
        return QuantileSketch(self.shape, self.precision, *_combine(parts))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name, the precision as an array without axes, as :meth:`from_arrays` takes them."""
        fields = {name: np.asarray(getattr(self, name)) for name in FIELDS}
        return {**fields, "shape": np.array(self.shape, dtype=np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> QuantileSketch:
        """Return the sketch that :meth:`to_arrays` has written."""
        fields = read_fields("a quantile sketch", arrays, FIELDS)
        return cls(**{**fields, "shape": tuple(fields["shape"].tolist()), "precision": fields["precision"].item()})

    def _first_buckets(self) -> NDArray[np.intp]:
        """Return where the buckets of each element begin, and where the last ones end."""
        return np.searchsorted(self.element, np.arange(_size(self.shape) + 1))


Buckets = tuple[IntArray, IntArray, IntArray]


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=object))


def _integers(name: str, values: Any) -> IntArray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    return array.astype(np.int64)


def _precision(relative_error: Any) -> int:
    remedy = "give the largest relative error of a quantile, such as 0.001"
    error = check_real("relative_error", relative_error, remedy=remedy)
    if not 1e-6 <= error <= 0.5:
        raise ValueError(f"relative_error must lie between 1e-6 and 0.5, got {relative_error!r}; {remedy}")
    return next(k for k in range(MAX_PRECISION + 1) if 2.0 ** -(k + 1) <= error)


def _keys(x: NDArray[np.float64], precision: int) -> IntArray:
    """Return the keys of values, which must not be NaN."""
    bits = x.view(np.int64)
    key: IntArray = bits & MAGNITUDE
    zero = key == 0
    key >>= MANTISSA_BITS - precision
    key += 1
    key[zero] = 0
    # All bits of the sign in the place of it: adding and flipping them changes the sign of what is negative.
    sign = bits >> 63
    key += sign
    key ^= sign
    return key


def _middle(key: IntArray, precision: int) -> NDArray[np.float64]:
    """Return the middle of buckets: the value itself for zero and infinity."""
    shift = MANTISSA_BITS - precision
    magnitude = np.maximum(np.abs(key) - 1, 0)
    infinite = magnitude == 0x7FF << precision
    bits = (magnitude << shift) + np.where(infinite | (key == 0), 0, 1 << (shift - 1))
    middle: NDArray[np.float64] = np.copysign(bits.view(np.float64), key)
    return middle


def _count(key: IntArray) -> Buckets:
    """Return the buckets of keys (row, element)."""
    n_elements = key.shape[1]
    magnitude = np.abs(key)
    largest = magnitude.max(axis=0)
    least = np.where(magnitude > 0, magnitude, KEY_SPAN).min(axis=0)
    # What lies between zero and the least magnitude needs no cells.
    empty = np.where(largest > 0, least - 1, 0)
    reach = largest - empty
    zero = np.cumsum(2 * reach + 1) - reach - 1
    n_cells = int(np.sum(2 * reach + 1))
    if n_cells > CELLS_PER_VALUE * key.size:
        composed, counts = np.unique(np.arange(n_elements) * KEY_SPAN + key, return_counts=True)
        element = _element(composed)
        return element, composed - element * KEY_SPAN, counts
    cells = key - np.sign(key) * empty
    cells += zero
    table = np.bincount(cells.ravel(), minlength=n_cells)
    used = np.flatnonzero(table)
    element = np.searchsorted(zero + reach, used)
    inner = used - zero[element]
    return element, inner + np.sign(inner) * empty[element], table[used]


def _drop(buckets: Buckets, left_out: IntArray) -> Buckets:
    """Return the buckets without the zeros that stand for samples left out."""
    if not left_out.any():
        return buckets
    element, key, counts = buckets
    counts = counts - np.where(key == 0, left_out[element], 0)
    used = counts > 0
    return element[used], key[used], counts[used]


def _combine(parts: Sequence[Buckets]) -> Buckets:
    """Return buckets of several sets, each sorted, as one."""
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    if len(parts) == 1:
        return parts[0]
    composed = np.concatenate([element * KEY_SPAN + key for element, key, _ in parts])
    counts = np.concatenate([counts for _, _, counts in parts])
    # The stable sort merges runs that are sorted already.
    order = np.argsort(composed, kind="stable")
    composed, counts = composed[order], counts[order]
    del order
    first = np.flatnonzero(np.diff(composed, prepend=composed[:1] - 1))
    composed, counts = composed[first], np.add.reduceat(counts, first) if len(first) else counts
    element = _element(composed)
    return element, composed - element * KEY_SPAN, counts


def _element(composed: IntArray) -> IntArray:
    element: IntArray = (composed + KEY_SPAN // 2) // KEY_SPAN
    return element
