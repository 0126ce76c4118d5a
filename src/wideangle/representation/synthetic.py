"""Layers made of clones: representations whose redundancy is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import MAX_WIDTH, check_integer, check_memory, check_real, check_seed
from wideangle._provenance import provenance

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "rotated copies of decorrelated signals with independent noise: a model of the clones of arXiv 2106.03485"
MAX_SAMPLES = 10**9
MAX_NOISE = 1e6
# A function of which less remains, once the earlier ones are taken out, has lost half of its digits.
INDEPENDENT = float(np.sqrt(np.finfo(np.float64).eps))

# What random numbers are for: the first entry of their spawn key.
_LATENTS, _PROJECTIONS, _MIXING, _NOISE, _ORDER, _CLASSES = range(6)


def synthetic_clones(
    n_samples: int, latent_dim: int, n_clones: int, width: int, noise: float, seed: int, *, n_classes: int = 10
) -> xr.Dataset:
    r"""Draw the features of a layer that consists of clones, with a readout that averages them.

    Latents z are standard normal. The signals s are ``width`` functions of them that are exactly uncorrelated in the
    sample, with means 0 and mean squares 1: the latents first, as many as fit, then ReLUs of random projections of the
    latents with random offsets, each less its projection on the constant and on the signals before it. Clone a is
    a layer of ``width`` neurons,

    .. math:: h_a = Q_a s + \mathrm{noise}\cdot\xi_a,

    with independent orthogonal matrices :math:`Q_a` of the Haar measure and independent standard normal
    :math:`\xi_a`: every clone carries the same signals, each in its own directions and with its own noise. The layer is
    all clones in a random order of its neurons. Labels are the largest of the linear functions U s of those signals
    that are latents, U random normal.

    Parameters
    ----------
    n_samples
        Number of samples, at least ``width + 2``.
    latent_dim
        Number of latents, at least 1. Only the first ``width`` of them matter.
    n_clones
        Number of clones, at least 1.
    width
        Neurons of one clone, at least 1; the layer has ``n_clones * width``.
    noise
        Standard deviation of the noise of a neuron, from 0 to 1e6; that of its signal is 1.
    seed
        Non-negative integer below 2**64. Clone a and the labels do not depend on ``n_clones``; signals depend on
        neither it nor ``noise``. Equality across minor versions of the package or of NumPy is not promised, nor bit by
        bit across builds of the linear algebra library.
    n_classes
        Number of classes of the labels, at least 2, default 10.

    Returns
    -------
    xarray.Dataset
        ``features(sample, neuron)``; ``signals(sample, signal)``; ``targets(sample)``, integers from 0;
        ``readout(class, neuron)`` and ``bias(class)``, zeros, which read U s plus noise from the whole layer;
        ``clone(neuron)``, the clone a neuron belongs to, from 0; ``mixing(neuron, signal)``, its row of
        :math:`Q_a`. Every argument is in the attributes.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the machine has too little memory; or, after the signals
        are drawn, if they are not independent in the sample (as when many ReLUs of one latent share few samples).

    Notes
    -----
    The model is derived, not in the literature: the simplest one with the properties that arXiv 2106.03485 names.
    For neurons of the same clone the features have covariance :math:`(1 + \mathrm{noise}^2)\,\delta_{ij}`, up to the
    noise's own scatter; for neurons i and j of clones a and b it is :math:`(Q_a Q_b^T)_{ij}`. The readout of clone a is
    :math:`U Q_a^T / n` with n = ``n_clones``. Since :math:`Q_a^T Q_a = 1`, the layer reads

    .. math:: \frac{1}{n}\sum_a U Q_a^T h_a = U s + \frac{\mathrm{noise}}{n}\sum_a U Q_a^T \xi_a,

    so noise of relative size noise/sqrt(n): the labels are read without error for many clones.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(1000, 5, 4, 16, 0.5, seed=1)
    >>> dict(layer.features.sizes)
    {'sample': 1000, 'neuron': 64}
    >>> read = layer.features.values @ layer.readout.values.T
    >>> bool((read.argmax(axis=1) == layer.targets.values).mean() > 0.8)
    True
    """
    n_samples = check_integer("n_samples", n_samples, low=1, high=MAX_SAMPLES, remedy="give a number such as 10_000")
    latent_dim = check_integer("latent_dim", latent_dim, low=1, high=MAX_WIDTH, remedy="give a number such as 5")
    n_clones = check_integer("n_clones", n_clones, low=1, high=MAX_WIDTH, remedy="give a number such as 4")
    width = check_integer("width", width, low=1, high=MAX_WIDTH, remedy="give the neurons of one clone, such as 32")
    n_classes = check_integer("n_classes", n_classes, low=2, high=MAX_WIDTH, remedy="give 2 or more")
    noise = _check_noise(noise)
    seed = check_seed(seed)
    if n_samples <= width + 1:
        raise ValueError(
            f"n_samples must be at least width + 2 = {width + 2} for signals to be independent in the sample, got "
            f"{n_samples}; give more samples or a smaller width"
        )
    n_neurons = n_clones * width
    rows = latent_dim + 5 * (width + 1) + n_neurons + n_classes
    needed = 8 * (n_samples * rows + n_neurons * (width + n_classes) + 4 * width * width + latent_dim * width)
    check_memory(needed, "clones of this size take about", remedy="give fewer samples or neurons")

    import xarray as xr

    signals = _draw_signals(n_samples, latent_dim, width, seed)
    place = _generator(seed, _ORDER).permutation(n_neurons).reshape(n_clones, width)
    features = np.empty((n_samples, n_neurons))
    mixing = np.empty((n_neurons, width))
    clone = np.empty(n_neurons, dtype=np.int64)
    for a, neurons in enumerate(place):
        rotation = _haar_orthogonal(width, _generator(seed, _MIXING, a))
        xi = _generator(seed, _NOISE, a).standard_normal((n_samples, width))
        features[:, neurons] = signals @ rotation.T + noise * xi
        mixing[neurons] = rotation
        clone[neurons] = a
    n_used = min(latent_dim, width)
    weights = _generator(seed, _CLASSES).standard_normal((n_classes, n_used))
    return xr.Dataset(
        {
            "features": (("sample", "neuron"), features),
            "signals": (("sample", "signal"), signals),
            "targets": ("sample", np.argmax(signals[:, :n_used] @ weights.T, axis=1)),
            "readout": (("class", "neuron"), weights @ mixing[:, :n_used].T / n_clones),
            "bias": ("class", np.zeros(n_classes)),
            "clone": ("neuron", clone),
            "mixing": (("neuron", "signal"), mixing),
        },
        attrs=provenance(
            "wideangle.representation.synthetic_clones",
            source=SOURCE,
            n_samples=n_samples,
            latent_dim=latent_dim,
            n_clones=n_clones,
            width=width,
            noise=noise,
            seed=seed,
            n_classes=n_classes,
        ),
    )


def _check_noise(value: float) -> float:
    remedy = "give a standard deviation, that of the signals being 1, such as 0.5"
    noise = check_real("noise", value, remedy=remedy)
    if not 0.0 <= noise <= MAX_NOISE:
        raise ValueError(f"noise must lie in [0, {MAX_NOISE:g}], got {value!r}; {remedy}")
    return noise


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=purpose)))


def _haar_orthogonal(size: int, rng: np.random.Generator) -> Array:
    """Return a uniformly distributed orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    # QR alone leaves signs to the algorithm; a positive diagonal of R makes it unique, and Q uniform.
    rotation: Array = q * np.where(np.diag(r) < 0.0, -1.0, 1.0)
    return rotation


def _draw_signals(n_samples: int, latent_dim: int, width: int, seed: int) -> Array:
    """Return functions of random latents, shape (sample, signal), with means 0 and mean products 0 or 1."""
    z = _generator(seed, _LATENTS).standard_normal((n_samples, latent_dim))
    n_latents = min(latent_dim, width)
    functions = np.empty((n_samples, width + 1))
    functions[:, 0] = 1.0
    functions[:, 1 : n_latents + 1] = z[:, :n_latents]
    if n_latents < width:
        rng = _generator(seed, _PROJECTIONS)
        directions = rng.standard_normal((latent_dim, width - n_latents))
        directions /= np.linalg.norm(directions, axis=0)
        # Projections are standard normal: every kink lies where there are samples.
        offsets = rng.uniform(-1.0, 1.0, size=width - n_latents)
        functions[:, n_latents + 1 :] = np.maximum(z @ directions + offsets, 0.0)
    lengths = np.linalg.norm(functions, axis=0)
    basis, r = np.linalg.qr(functions)
    rest = np.diag(r)
    dependent = np.flatnonzero(~(np.abs(rest) > INDEPENDENT * lengths))
    if dependent.size:
        raise ValueError(
            f"width = {width} signals of {latent_dim} latent(s) are not independent in {n_samples} samples (the first "
            f"that depends on those before it is signal {dependent[0] - 1}); give more samples, more latents or a "
            f"smaller width"
        )
    signals: Array = basis[:, 1:] * (np.sqrt(n_samples) * np.where(rest[1:] < 0.0, -1.0, 1.0))
    return signals
