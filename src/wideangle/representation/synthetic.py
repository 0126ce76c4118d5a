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

SOURCE = "mixtures of decorrelated signals with independent noise: a model of the clones of arXiv 2106.03485"
MAX_SAMPLES = 10**9
MAX_NOISE = 1e6
# A function of which less remains, once the earlier ones are taken out, has lost half of its digits.
INDEPENDENT = float(np.sqrt(np.finfo(np.float64).eps))

# What random numbers are for: the first entry of their spawn key.
_LATENTS, _PROJECTIONS, _MIXING, _NOISE, _ORDER, _DIRECTIONS = range(6)


def synthetic_clones(n_samples: int, latent_dim: int, n_clones: int, width: int, noise: float, seed: int) -> xr.Dataset:
    r"""Draw the features of a layer that consists of clones, and a readout of two classes whose errors are known.

    Latents are standard normal. The signals are ``width`` functions of them that are exactly uncorrelated in the
    sample, with means 0 and mean squares 1: the latents first, as many as fit, then ReLUs of random projections of the
    latents with random offsets, each less its projection on the constant and on the signals before it. The first of
    them, t, is the task: the label is 1 where t > 0. Clone a has as many neurons as there are signals,

    .. math:: h_{ai} = \epsilon_{ai} t + \sum_{k=2}^{\mathrm{width}} q_{aik} s_k + \mathrm{noise}\cdot\xi_{ai},

    with random signs :math:`\epsilon`, rows :math:`q_{ai}` of the first width - 1 columns of a random orthogonal
    matrix, and independent standard normal :math:`\xi`: every clone carries all the signals, each in its own
    directions and with its own noise. The layer is all clones in a random order of its neurons. The readout adds the
    neurons with their signs :math:`\epsilon`.

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
        Standard deviation of the noise of a neuron, from 0 to 1e6; those of the task and of all other signals together
        are 1 (the latter up to 1/width).
    seed
        Non-negative integer below 2**64. Clone a does not depend on ``n_clones``; signals depend on neither it nor
        ``noise``. Equality across minor versions of the package or of NumPy is not promised, nor bit by bit across
        builds of the linear algebra library.

    Returns
    -------
    xarray.Dataset
        ``features(sample, neuron)``; ``signals(sample, signal)``; ``targets(sample)``, 0 or 1;
        ``readout(class, neuron)`` and ``bias(class)``, zeros, which read -t/2 and t/2, with noise, from the whole
        layer; ``clone(neuron)``, the clone a neuron belongs to, from 0; ``mixing(neuron, signal)``, its
        :math:`\epsilon` and q. Every argument is in the attributes, and ``asymptotic_error``, 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the machine has too little memory; or, after the signals
        are drawn, if they are not independent in the sample (as when many ReLUs of one latent share few samples).

    Notes
    -----
    The model is derived, not in the literature: a simple one with the properties that arXiv 2106.03485 names, and whose
    truth is known. There are ``width`` signals, so the critical width is ``width``.

    A chunk c of w neurons reads :math:`w t + \sum_{i\in c} \epsilon_i (q_i \cdot s + \mathrm{noise}\,\xi_i)`, up
    to a factor: the task and, relative to it, a disturbance of variance :math:`v/w`, v = 1 - 1/width + noise². For a
    Gaussian one the share of labels that are wrong is

    .. math:: \mathrm{error}(w) = \frac{1}{\pi} \arctan\sqrt{v / w} \propto w^{-1/2}

    up to a part of 2v/(3w) of the exponent, and zero in the limit. For this to hold up to the whole layer, the matrices
    are drawn such that the other signals do not cancel in it, nor add up: the vectors
    :math:`\sum_i \epsilon_{ai} q_{ai}` of clones have squares width - 1 and are orthogonal to each other for up to
    width - 1 clones. The squared sum over a random chunk then has the mean :math:`w (1 - 1/\mathrm{width})`, exactly,
    as if neurons were independent.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(1000, 5, 4, 16, 0.5, seed=1)
    >>> dict(layer.features.sizes)
    {'sample': 1000, 'neuron': 64}
    >>> read = layer.features.values @ layer.readout.values.T
    >>> wrong = (read.argmax(axis=1) != layer.targets.values).mean()
    >>> bool(0.02 < wrong < 0.08)  # arctan(sqrt((15 / 16 + 0.25) / 64)) / pi = 0.043
    True
    """
    n_samples = check_integer("n_samples", n_samples, low=1, high=MAX_SAMPLES, remedy="give a number such as 10_000")
    latent_dim = check_integer("latent_dim", latent_dim, low=1, high=MAX_WIDTH, remedy="give a number such as 5")
    n_clones = check_integer("n_clones", n_clones, low=1, high=MAX_WIDTH, remedy="give a number such as 4")
    width = check_integer("width", width, low=1, high=MAX_WIDTH, remedy="give the neurons of one clone, such as 32")
    noise = _check_noise(noise)
    seed = check_seed(seed)
    if n_samples <= width + 1:
        raise ValueError(
            f"n_samples must be at least width + 2 = {width + 2} for signals to be independent in the sample, got "
            f"{n_samples}; give more samples or a smaller width"
        )
    n_neurons = n_clones * width
    rows = latent_dim + 5 * (width + 1) + n_neurons
    needed = 8 * (n_samples * rows + n_neurons * (width + 2) + 6 * width * width + latent_dim * width)
    check_memory(needed, "clones of this size take about", remedy="give fewer samples or neurons")

    import xarray as xr

    signals = _draw_signals(n_samples, latent_dim, width, seed)
    place = _generator(seed, _ORDER).permutation(n_neurons).reshape(n_clones, width)
    features = np.empty((n_samples, n_neurons))
    mixing = np.empty((n_neurons, width))
    clone = np.empty(n_neurons, dtype=np.int64)
    for a, neurons in enumerate(place):
        xi = _generator(seed, _NOISE, a).standard_normal((n_samples, width))
        mixing[neurons] = _draw_mixing(width, a, seed)
        features[:, neurons] = signals @ mixing[neurons].T + noise * xi
        clone[neurons] = a
    return xr.Dataset(
        {
            "features": (("sample", "neuron"), features),
            "signals": (("sample", "signal"), signals),
            "targets": ("sample", (signals[:, 0] > 0.0).astype(np.int64)),
            "readout": (("class", "neuron"), np.outer([-0.5, 0.5], mixing[:, 0]) / n_neurons),
            "bias": ("class", np.zeros(2)),
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
            asymptotic_error=0.0,
        ),
    )


def _draw_mixing(width: int, a: int, seed: int) -> Array:
    """Return signs of the task and weights of the other signals in clone a, shape (neuron, signal)."""
    rng = _generator(seed, _MIXING, a)
    signs = rng.choice([-1.0, 1.0], size=width)
    rotation = _haar_orthogonal(width, rng)
    # What the signs read of the other signals: a unit vector, orthogonal to those of up to width - 2 other clones.
    wanted = np.array([1.0])
    if width > 1:
        directions = _haar_orthogonal(width - 1, _generator(seed, _DIRECTIONS, a // (width - 1)))
        wanted = np.append(np.sqrt(width - 1.0) * directions[:, a % (width - 1)], 1.0) / np.sqrt(width)
    # The reflection that takes what they read of the rotation to what is wanted leaves it uniform otherwise.
    normal = rotation.T @ (signs / np.sqrt(width)) - wanted
    length = float(normal @ normal)
    if length > 0.0:
        rotation -= np.outer(rotation @ normal, 2.0 / length * normal)
    return np.column_stack([signs, rotation[:, :-1]])


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
