"""Random numbers by sample: those of sample k are a function of the seed and k alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORDS = 4  # of 64 bits that a step of the generator gives


def normals(n_samples: int, per_sample: int, *, seed: int, stream: int, first_sample: int) -> NDArray[np.float64]:
    """Return standard normal numbers (sample, number), from a stream of Philox 4x64 of their own.

    ``stream``, below 2**64, tells apart what numbers are for.
    """
    from scipy.special import ndtri

    steps = -(-per_sample // _WORDS)
    # Python's integers: counters of more than 64 bits are fine.
    generator = np.random.Philox(key=(stream << 64) + seed, counter=first_sample * steps)
    words = generator.random_raw(n_samples * steps * _WORDS).reshape(n_samples, steps * _WORDS)[:, :per_sample]
    # 52 bits in the middle of equal intervals: neither 0 nor 1, and symmetric about 1/2.
    uniform = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return np.asarray(ndtri(uniform))
