"""How large the gradients of a random network are, from input to output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._checks import (
    MAX_WIDTH,
    check_choice,
    check_flag,
    check_integer,
    check_positive_real,
    check_samples,
    check_seed,
    check_threads,
)
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._gradient_ensembles import chi_square_ensemble, through_depth, weights_ensemble
from wideangle.propagation._homogeneous import slope_kurtosis, slope_moment
from wideangle.propagation._log_gains import log_chi2_moments, log_gain_moments
from wideangle.propagation._network import check_network
from wideangle.propagation._neuron_pairs import neuron_moments
from wideangle.propagation.network_simulation import check_float32_weights
from wideangle.propagation.rules import Array
from wideangle.statistics.moments import Moments

if TYPE_CHECKING:
    import xarray as xr

QUANTITIES = ("gradient", "directional")
"""The squared norms of :func:`gradient_norms`, in the order of its dimension ``quantity``."""

SOURCE = "Hanin and Nica, arXiv 1812.05994: product of independent chi-squares"
INFINITE_SOURCE = "mean field of infinite width: Schoenholz et al., arXiv 1611.01232"


def gradient_norms(
    net: MLP,
    *,
    input_dim: int | None = None,
    outputs: int = 1,
    n_samples: int | None = None,
    seed: int | None = None,
    ensemble: str | None = None,
    norm2: float = 1.0,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Return the law of the squared norms of input-output Jacobians at initialisation, layer by layer.

    Two quantities, at any input x that is not 0, for a network with one more layer as its readout:

    ``"gradient"``
        :math:`|\partial f/\partial z^l|^2` of one output f, going backward: l = L+1 is the output itself (1), l = 0
        stands for the input, :math:`|\nabla_x f|^2`.
    ``"directional"``
        :math:`|\partial \phi(z^l)/\partial x \cdot u|^2` for a fixed unit vector u, going forward: l = 0 is u itself
        (1), l = L+1 the ``outputs`` numbers that the network returns.

    With a piecewise linear activation both are products of independent factors, so that the law is exact at every width
    and depth. A ReLU layer of width n contributes a :math:`\chi^2` whose number of degrees of freedom is that of its
    active neurons, K ~ Binomial(n, 1/2):

    .. math::
        |\partial f/\partial z^l|^2 &= \prod_{k=l}^{L} \tfrac{\sigma_w^2}{n_k} \chi^2_{K_k}, \qquad
        |\nabla_x f|^2 = \tfrac{\sigma_w^2}{n_0}\chi^2_{n_0} \prod_{k=1}^{L} \tfrac{\sigma_w^2}{n_k} \chi^2_{K_k}, \\
        |\partial \phi(z^l)/\partial x \cdot u|^2 &= \prod_{k=1}^{l} \tfrac{\sigma_w^2}{n_{k-1}} \chi^2_{K_k},
        \qquad \text{times } \tfrac{\sigma_w^2}{n_L} \chi^2_{\text{outputs}} \text{ at the output.}

    With slope a on the left of 0 the factor is :math:`\chi^2_K + a^2 \tilde\chi^2_{n-K}`. Biases change nothing in
    these laws. Other activations have no such law: for them there is the limit of infinite width, in which only the
    mean :math:`\prod_k \sigma_w^2 E[\phi'(z^k)^2]` is left, and an ensemble of networks of real weights.

    Parameters
    ----------
    net
        Network with any activation.
    input_dim
        Input dimension :math:`n_0`, from 1 to 2**31; default the width of the first hidden layer.
    outputs
        Number of outputs for ``"directional"``, default 1.
    n_samples, seed
        Number of independent networks and a non-negative integer below 2**64, both or neither (default): adds an
        ensemble. Sample k depends on the seed, k, ``net``, ``input_dim`` and ``outputs`` alone, not on ``n_samples``.
        Equality across minor versions of this package or of NumPy is not promised.
    ensemble
        ``"law"``: products of chi-squares as above, the default where they are known; drawn in blocks of 512, each with
        a Philox generator keyed by the seed and the number of the block. ``"weights"``: networks of real weights, those
        of :func:`simulate_outputs` with the same seed, for any activation; u is orthogonal to x unless ``input_dim``
        is 1.
    norm2
        Mean square of the input's components, :math:`|x|^2/n_0`, default 1; it matters to activations that are not
        piecewise linear.
    n_threads, progress
        Threads (default every processor available) of an ensemble of weights, and whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Over ``quantity`` and ``layer`` 0...L+1. ``infinite_width_log_first_moment``: the logarithm of the mean squared
        norm in the limit of infinite width. For piecewise linear activations also, of the logarithm of the squared
        norm given that it is not 0: ``mean``, ``variance``, and their ``lognormal_mean`` and ``lognormal_variance`` in
        the limit of wide layers; of the squared norm itself, zeros included, ``log_first_moment`` and
        ``log_second_moment``, the logarithms of its mean and mean square, so that nothing overflows at any depth; and
        ``survival_probability``, that it is not 0: ReLU layers without an active neuron end every gradient. With
        ``n_samples`` also ``ensemble_mean``, ``ensemble_variance``, ``ensemble_mean_standard_error``,
        ``ensemble_variance_standard_error`` and the number of ``survivors`` that they are over; variances are unbiased,
        and NaN where too few survive.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, only one of ``n_samples`` and ``seed`` is given, or
        ``ensemble="law"`` is asked for where there is none.

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
    check_network(net)
    remedy = "give the dimension of the inputs, such as 784"
    input_dim = net.widths[0] if input_dim is None else input_dim
    input_dim = check_integer("input_dim", input_dim, low=1, high=MAX_WIDTH, remedy=remedy)
    outputs = check_integer("outputs", outputs, low=1, high=MAX_WIDTH, remedy="give the number of outputs, such as 1")
    remedy = "give the mean square of the input's components, such as 1.0"
    norm2 = check_positive_real("norm2", norm2, remedy=remedy)
    ensemble = _check_ensemble(net, ensemble)
    n_threads, progress = check_threads(n_threads), check_flag("progress", progress)
    if (n_samples is None) != (seed is None):
        raise ValueError(
            f"n_samples and seed must be given together, got {n_samples!r} and {seed!r}; give both for an ensemble"
        )
    if n_samples is not None:
        n_samples, seed = check_samples("n_samples", n_samples), check_seed(seed)

    scales = _log_scales(net, input_dim, outputs, norm2)
    dataset = _law(net, input_dim, outputs, scales)
    if n_samples is not None and seed is not None:
        if ensemble == "law":
            moments = chi_square_ensemble(net, scales, input_dim, outputs, n_samples=n_samples, seed=seed)
        else:
            check_float32_weights(net, input_dim)
            moments = weights_ensemble(
                net,
                input_dim,
                outputs,
                norm2=norm2,
                n_samples=n_samples,
                seed=seed,
                n_threads=n_threads,
                progress=progress,
            )
        _add_ensemble(dataset, moments)
    dataset.attrs = provenance(
        "wideangle.propagation.gradient_norms",
        source=SOURCE if net.phi.homogeneous else INFINITE_SOURCE,
        net=net,
        input_dim=input_dim,
        outputs=outputs,
        n_samples=n_samples,
        seed=seed,
        norm2=norm2,
        ensemble=ensemble,
    )
    return dataset


def _check_ensemble(net: MLP, ensemble: str | None) -> str:
    if ensemble is None:
        return "law" if net.phi.homogeneous else "weights"
    ensemble = check_choice("ensemble", ensemble, ("law", "weights"))
    if ensemble == "law" and not net.phi.homogeneous:
        raise ValueError(
            f"ensemble must be 'weights' for activation {net.activation!r}, got 'law'; the law is known for 'relu', "
            "'leaky_relu', 'abs' and 'linear' only"
        )
    return ensemble


def _add_ensemble(dataset: xr.Dataset, log_norm2: Moments) -> None:
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


def _law(net: MLP, input_dim: int, outputs: int, scales: Array) -> xr.Dataset:
    import xarray as xr

    coordinates = {"quantity": list(QUANTITIES), "layer": np.arange(net.depth + 2)}
    infinite = {"infinite_width_log_first_moment": (("quantity", "layer"), scales)}
    if not net.phi.homogeneous:
        return xr.Dataset(infinite, coordinates)

    widths = np.array(net.widths, dtype=np.float64)
    rate = (3.0 * slope_kurtosis(net.phi) - 1.0) / widths
    gains = np.array([log_gain_moments(net.phi, width) for width in net.widths])
    survival = np.log1p(-np.exp2(-widths)) if net.phi.slope == 0.0 else np.zeros(net.depth)
    ends = [log_chi2_moments(input_dim), log_chi2_moments(outputs)]
    mean_ends, variance_ends = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
    second_ends = (float(np.log1p(2.0 / input_dim)), float(np.log1p(2.0 / outputs)))
    alive = through_depth(survival, (0.0, 0.0))
    log_first = np.zeros_like(alive)
    if net.bias_variance == 0.0:
        # Without biases an input that died on its way leaves nothing to differentiate behind it either.
        upstream = np.cumsum(survival) - survival
        log_first[0, 1:-1] = upstream
        alive[0, :-1] = survival.sum()
    variables = {
        "mean": scales + through_depth(gains[:, 0], mean_ends),
        "variance": through_depth(gains[:, 1], variance_ends),
        "lognormal_mean": scales + through_depth(-0.5 * rate, mean_ends),
        "lognormal_variance": through_depth(rate, variance_ends),
        "log_first_moment": scales + log_first,
        "log_second_moment": 2.0 * scales + log_first + through_depth(np.log1p(rate), second_ends),
        "survival_probability": np.exp(alive),
    }
    return xr.Dataset(
        {name: (("quantity", "layer"), values) for name, values in variables.items()} | infinite, coordinates
    )


def _log_scales(net: MLP, input_dim: int, outputs: int, norm2: float) -> Array:
    """Return the logarithms of the mean squared norms at infinite width, shape (quantity, L + 2).

    Of a homogeneous activation these are the means at every width, deaths upstream apart.
    """
    variance = float(np.log(net.weight_variance))
    scales = through_depth(variance + np.log(_mean_square_slopes(net, norm2)), (variance, variance))
    scales[1] += np.log(np.array([input_dim, *net.widths, outputs]) / input_dim)
    return scales


def _mean_square_slopes(net: MLP, norm2: float) -> Array:
    r"""Return :math:`E[\phi'(z^l)^2]` of each hidden layer at infinite width."""
    if net.phi.homogeneous:
        return np.full(net.depth, slope_moment(net.phi))
    slopes = []
    for _ in net.widths:
        variance = net.bias_variance + net.weight_variance * norm2
        norm2, slope = neuron_moments(net.phi, variance)
        slopes.append(slope)
    return np.array(slopes)
