"""How large the gradients of a random network are, from input to output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import MAX_WIDTH, check_integer, check_samples, check_seed
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._homogeneous import slope_kurtosis, slope_moment
from wideangle.propagation._log_gains import log_chi2_moments, log_gain_moments
from wideangle.propagation._network import check_homogeneous_network
from wideangle.propagation.rules import Array
from wideangle.statistics.moments import Moments

if TYPE_CHECKING:
    import xarray as xr

QUANTITIES = ("gradient", "directional")
"""The squared norms of :func:`gradient_norms`, in the order of its dimension ``quantity``."""

SOURCE = "Hanin and Nica, arXiv 1812.05994: product of independent chi-squares"

_BLOCK = 512


def gradient_norms(
    net: MLP,
    *,
    input_dim: int,
    outputs: int = 1,
    n_samples: int | None = None,
    seed: int | None = None,
) -> xr.Dataset:
    r"""Return the law of the squared norms of input-output Jacobians at initialisation, layer by layer.

    Two quantities, at any input x that is not 0, for a network with one more layer as its readout:

    ``"gradient"``
        :math:`|\partial f/\partial z^l|^2` of one output f, going backward: l = L+1 is the output itself (1), l = 0
        stands for the input, :math:`|\nabla_x f|^2`.
    ``"directional"``
        :math:`|\partial \phi(z^l)/\partial x \cdot u|^2` for a fixed unit vector u, going forward: l = 0 is u itself
        (1), l = L+1 the ``outputs`` numbers that the network returns.

    Both are products of independent factors, so that the law is exact at every width and depth. A ReLU layer of width
    n contributes a :math:`\chi^2` whose number of degrees of freedom is that of its active neurons,
    K ~ Binomial(n, 1/2):

    .. math::
        |\partial f/\partial z^l|^2 &= \prod_{k=l}^{L} \tfrac{\sigma_w^2}{n_k} \chi^2_{K_k}, \qquad
        |\nabla_x f|^2 = \tfrac{\sigma_w^2}{n_0}\chi^2_{n_0} \prod_{k=1}^{L} \tfrac{\sigma_w^2}{n_k} \chi^2_{K_k}, \\
        |\partial \phi(z^l)/\partial x \cdot u|^2 &= \prod_{k=1}^{l} \tfrac{\sigma_w^2}{n_{k-1}} \chi^2_{K_k},
        \qquad \text{times } \tfrac{\sigma_w^2}{n_L} \chi^2_{\text{outputs}} \text{ at the output.}

    With slope a on the left of 0 the factor is :math:`\chi^2_K + a^2 \tilde\chi^2_{n-K}`. Biases change nothing in
    these laws.

    Parameters
    ----------
    net
        Network with activation ``"relu"``, ``"leaky_relu"``, ``"abs"`` or ``"linear"``.
    input_dim
        Input dimension :math:`n_0`, from 1 to 2**31.
    outputs
        Number of outputs for ``"directional"``, default 1.
    n_samples, seed
        Number of independent networks and a non-negative integer below 2**64, both or neither (default): adds an
        ensemble of the products above. Sample k depends on the seed, k, ``net``, ``input_dim`` and ``outputs`` alone,
        not on ``n_samples``: samples come in blocks of 512, each with a Philox generator of its own, keyed by the seed
        and the number of the block. Equality across minor versions of this package or of NumPy is not promised.

    Returns
    -------
    xarray.Dataset
        Over ``quantity`` and ``layer`` 0...L+1. Of the logarithm of the squared norm, given that it is not 0:
        ``mean``, ``variance``, and their ``lognormal_mean`` and ``lognormal_variance`` in the limit of wide layers. Of
        the squared norm itself, zeros included, so that nothing overflows at any depth: ``log_first_moment`` and
        ``log_second_moment``, the logarithms of its mean and mean square. ``survival_probability``, that it is not 0:
        ReLU layers without an active neuron end every gradient. With ``n_samples`` also ``ensemble_mean``,
        ``ensemble_variance``, ``ensemble_mean_standard_error``, ``ensemble_variance_standard_error`` and the number of
        ``survivors`` that they are over; variances are unbiased, and NaN where too few survive.

    Raises
    ------
    TypeError, ValueError
        If the activation is not one of those above, an argument is of the wrong type or out of range, or only one of
        ``n_samples`` and ``seed`` is given.

    Notes
    -----
    Source: B. Hanin and M. Nica, *Products of many large random matrices and gradients in deep neural networks*, arXiv
    1812.05994. Derived here for both directions. Forward: turning round the weights and bias of neuron i turns the sign
    of :math:`z_i` but not the square of :math:`w_i \cdot (\partial \phi(z^{l-1})/\partial x\, u)`, so that
    :math:`\phi'(z_i)^2` is independent of that square. Backward: the signs of :math:`\partial f/\partial z^l` are
    independent coin flips whatever the activations of all layers are, so that :math:`W^{l\,T} \partial f/\partial z^l`
    is a Gaussian vector independent of them.

    Log-normal limit: a layer's factor, divided by its mean, has variance :math:`(3\kappa - 1)/n` with
    :math:`\kappa = E[\phi'^4]/E[\phi'^2]^2` (ReLU: 5/n, their :math:`\beta = 5 \sum_l 1/n_l`), so that the sum of many
    logarithms tends to :math:`N(-\beta/2, \beta)`. The ends, :math:`\chi^2_{n_0}` and :math:`\chi^2_{\text{outputs}}`,
    are single factors that no limit makes normal: they enter with their exact mean and variance.

    Examples
    --------
    >>> import wideangle as wa
    >>> net = wa.MLP(widths=(100,) * 50)
    >>> norms = wa.propagation.gradient_norms(net, input_dim=100, n_samples=1000, seed=1).sel(quantity="gradient")
    >>> norms[["mean", "lognormal_mean", "ensemble_mean"]].sel(layer=0).to_array().values.round(2)
    array([-0.59, -0.57, -0.64])
    >>> norms[["variance", "lognormal_variance"]].sel(layer=0).to_array().values.round(2)
    array([2.62, 2.52])
    """
    check_homogeneous_network(net, biases_allowed=True)
    remedy = "give the dimension of the inputs, such as 784"
    input_dim = check_integer("input_dim", input_dim, low=1, high=MAX_WIDTH, remedy=remedy)
    outputs = check_integer("outputs", outputs, low=1, high=MAX_WIDTH, remedy="give the number of outputs, such as 1")
    if (n_samples is None) != (seed is None):
        raise ValueError(
            f"n_samples and seed must be given together, got {n_samples!r} and {seed!r}; give both for an ensemble"
        )
    if n_samples is not None:
        n_samples, seed = check_samples("n_samples", n_samples), check_seed(seed)

    dataset = _law(net, input_dim, outputs)
    if n_samples is not None and seed is not None:
        add_ensemble(dataset, _chi_square_ensemble(net, input_dim, outputs, n_samples, seed))
    dataset.attrs = provenance(
        "wideangle.propagation.gradient_norms",
        source=SOURCE,
        net=net,
        input_dim=input_dim,
        outputs=outputs,
        n_samples=n_samples,
        seed=seed,
    )
    return dataset


def add_ensemble(dataset: xr.Dataset, log_norm2: Moments) -> None:
    """Add moments of ln of the squared norms, of shape (quantity, layer) and over survivors, to ``dataset``."""
    columns: dict[str, Any] = {
        "ensemble_mean": log_norm2.mean,
        "ensemble_variance": log_norm2.variance,
        "ensemble_mean_standard_error": log_norm2.standard_error_mean,
        "ensemble_variance_standard_error": log_norm2.standard_error_variance,
        "survivors": log_norm2.count,
    }
    for name, values in columns.items():
        dataset[name] = (("quantity", "layer"), values)


def _law(net: MLP, input_dim: int, outputs: int) -> xr.Dataset:
    import xarray as xr

    widths = np.array(net.widths, dtype=np.float64)
    rate = (3.0 * slope_kurtosis(net.phi) - 1.0) / widths
    gains = np.array([log_gain_moments(net.phi, width) for width in net.widths])
    survival = np.log1p(-np.exp2(-widths)) if net.phi.slope == 0.0 else np.zeros(net.depth)
    ends = [log_chi2_moments(input_dim), log_chi2_moments(outputs)]
    scales = _log_scales(net, input_dim, outputs)
    mean_ends, variance_ends = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
    second_ends = (float(np.log1p(2.0 / input_dim)), float(np.log1p(2.0 / outputs)))
    alive = _through_depth(survival, (0.0, 0.0))
    log_first = np.zeros_like(alive)
    if net.bias_variance == 0.0:
        # Without biases an input that died on its way leaves nothing to differentiate behind it either.
        upstream = np.cumsum(survival) - survival
        log_first[0, 1:-1] = upstream
        alive[0, :-1] = survival.sum()
    variables = {
        "mean": scales + _through_depth(gains[:, 0], mean_ends),
        "variance": _through_depth(gains[:, 1], variance_ends),
        "lognormal_mean": scales + _through_depth(-0.5 * rate, mean_ends),
        "lognormal_variance": _through_depth(rate, variance_ends),
        "log_first_moment": scales + log_first,
        "log_second_moment": 2.0 * scales + log_first + _through_depth(np.log1p(rate), second_ends),
        "survival_probability": np.exp(alive),
    }
    return xr.Dataset(
        {name: (("quantity", "layer"), values) for name, values in variables.items()},
        {"quantity": list(QUANTITIES), "layer": np.arange(net.depth + 2)},
    )


def _through_depth(layers: Array, ends: tuple[ArrayLike, ArrayLike]) -> Array:
    """Sum what layers, shape (..., L), and ends, shape (...), contribute along each way: (..., quantity, L + 2)."""
    result = np.zeros((*layers.shape[:-1], 2, layers.shape[-1] + 2))
    backward, forward = result[..., 0, :], result[..., 1, :]
    backward[..., 1:-1] = np.cumsum(layers[..., ::-1], axis=-1)[..., ::-1]
    backward[..., 0] = backward[..., 1] + ends[0]
    forward[..., 1:-1] = np.cumsum(layers, axis=-1)
    forward[..., -1] = forward[..., -2] + ends[1]
    return result


def _log_scales(net: MLP, input_dim: int, outputs: int) -> Array:
    """Return the logarithms of the mean squared norms, shape (quantity, L + 2), deaths upstream apart."""
    variance = float(np.log(net.weight_variance))
    gain = variance + float(np.log(slope_moment(net.phi)))
    scales = _through_depth(np.full(net.depth, gain), (variance, variance))
    scales[1] += np.log(np.array([input_dim, *net.widths, outputs]) / input_dim)
    return scales


def _chi_square_ensemble(net: MLP, input_dim: int, outputs: int, n_samples: int, seed: int) -> Moments:
    scales = _log_scales(net, input_dim, outputs)
    total: Moments | None = None
    for block in range(-(-n_samples // _BLOCK)):
        log_norm2 = scales + _sample_block(net, input_dim, outputs, seed, block)
        log_norm2 = log_norm2[: n_samples - block * _BLOCK]
        moments = Moments.from_samples(log_norm2, where=np.isfinite(log_norm2))
        total = moments if total is None else total.merge(moments)
    assert total is not None
    return total


def _sample_block(net: MLP, input_dim: int, outputs: int, seed: int, block: int) -> Array:
    """Return ln of the squared norms divided by their means for one block, shape (sample, quantity, L + 2).

    The two quantities of a sample share the active neurons; nothing else of their joint law is meant to be right.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, block], dtype=np.uint64)))
    square, gain = net.phi.slope**2, slope_moment(net.phi)
    logs = np.empty((2, _BLOCK, net.depth))
    with np.errstate(divide="ignore"):
        for layer, width in enumerate(net.widths):
            active = rng.binomial(width, 0.5, _BLOCK)
            for quantity in range(2):
                chi2 = _chi_square(rng, active)
                if square:
                    chi2 = chi2 + square * _chi_square(rng, width - active)
                logs[quantity, :, layer] = np.log(chi2 / (width * gain))
        ends = [np.log(_chi_square(rng, np.full(_BLOCK, degrees)) / degrees) for degrees in (input_dim, outputs)]
    result = np.stack([_through_depth(logs[k], (ends[0], ends[1]))[:, k] for k in range(2)], axis=1)
    if net.bias_variance == 0.0:
        result[np.isneginf(logs[0]).any(axis=1), 0, :-1] = -np.inf
    return result


def _chi_square(rng: np.random.Generator, degrees: NDArray[np.int64]) -> Array:
    """Return chi-squares, 0 where there are no degrees of freedom."""
    chi2: Array = 2.0 * rng.standard_gamma(0.5 * degrees)
    return chi2
