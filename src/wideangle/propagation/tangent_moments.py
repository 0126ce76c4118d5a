"""Mean and variance of the tangent kernel of one input, exact at every width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._homogeneous import slope_kurtosis, slope_moment
from wideangle.propagation._network import check_homogeneous_network
from wideangle.propagation.rules import Array

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "wideangle: exact second moment; growth rate of Hanin and Nica, arXiv 1909.05989, Theorem 1"


def predict_tangent_diagonal(net: MLP, norm2: ArrayLike) -> xr.Dataset:
    r"""Predict mean and variance of the tangent kernel :math:`\Theta(x, x)` of random networks of finite width.

    :math:`\Theta(x, x) = |\nabla f(x)|^2`, the gradient of one output with respect to all standard normal weights
    :math:`W^l`, of which a layer makes :math:`z^l = \sqrt{\sigma_w^2/n_{l-1}}\, W^l \phi(z^{l-1})`, the readout
    included. Both moments are exact for every width, for ReLU and the other activations with one slope on either side
    of 0, without biases.

    Parameters
    ----------
    net
        Network with activation ``"relu"``, ``"leaky_relu"``, ``"abs"`` or ``"linear"`` and no biases.
    norm2
        :math:`|x|^2/n_0` of each input: its mean squared entry, non-negative; a number or an array of shape (input,).

    Returns
    -------
    xarray.Dataset
        Over ``layer`` l = 0...L: what holds for the network of the first l hidden layers, read out by one more layer.
        ``mean(layer, input)`` (it does not depend on the widths, so it is the infinite-width kernel too) and
        ``variance(layer, input)``, either ``inf`` or 0 beyond the range of floats; ``log_mean(layer, input)``;
        ``relative_variance(layer)``, the variance divided by the squared mean; ``log_moment_ratio(layer)``,
        :math:`\ln(E[\Theta^2]/E[\Theta]^2)`; and ``exponent(layer)``, :math:`(3\kappa-1)\sum_{j \le l} 1/n_j`, which
        for ReLU is Hanin and Nica's :math:`5\beta`. The moment ratio lies between a third of
        :math:`\prod_j (1 + (3\kappa-1)/n_j)`, which is the exponential of ``exponent`` for wide layers, and all of it.

    Raises
    ------
    TypeError, ValueError
        If ``net`` has biases or another activation, or ``norm2`` is negative, not finite, or of more than one
        dimension.

    Notes
    -----
    Derived (Hanin and Nica, arXiv 1909.05989, Theorem 1, give the second moment up to constants). Write
    :math:`\Theta = \sum_{k=1}^{L+1} P_{k-1} B_k` with :math:`P_k = \sigma_w^2 |\phi(z^k)|^2/n_k` and
    :math:`B_k = |\partial f/\partial z^k|^2`. Turning round the weights of a neuron leaves all squares as they are, so
    :math:`\phi'(z)^2` is independent of them, and :math:`E[P_{k-1} B_k] = c := |x|^2/n_0\, \sigma_w^2
    (\sigma_w^2 m)^L` for every k, with :math:`m = E[\phi'^2]`. For l < k, layers outside l...k-1 contribute to
    :math:`E[P_{l-1} B_l P_{k-1} B_k]/c^2` the factor :math:`1 + (3\kappa-1)/n_j`,
    :math:`\kappa = E[\phi'^4]/m^2`. In between, :math:`\partial f/\partial z^k` sends back an independent Gaussian
    vector, which averages :math:`B_l` to the squared Frobenius norm of the Jacobian
    :math:`J = \partial\phi(z^{k-1})/\partial z^l`; with :math:`X = E[|\phi|^2 \|J\|^2]`,
    :math:`Y = E[|J^T \phi|^2]` one layer of Gaussian weights gives, normalised,

    .. math:: X' = X + \tfrac1n[(\kappa - 1) X + 2\kappa Y], \qquad Y' = Y + \tfrac1n[\kappa X + (2\kappa - 1) Y],

    from (X, Y) = (1, 0). The matrices commute, with eigenvalues :math:`1 + (3\kappa-1)/n` and :math:`1 - 1/n`, and

    .. math::
        \frac{E[\Theta^2]}{E[\Theta]^2} = \prod_{j=1}^L \Bigl(1 + \frac{3\kappa-1}{n_j}\Bigr) \Bigl[\frac13 + \frac23
        \frac{1}{(L+1)^2} \sum_{k,l=1}^{L+1} \prod_{j=\min(k,l)}^{\max(k,l)-1}
        \frac{1 - 1/n_j}{1 + (3\kappa-1)/n_j}\Bigr].

    Examples
    --------
    >>> import wideangle as wa
    >>> kernel = wa.propagation.predict_tangent_diagonal(wa.MLP(widths=(100,) * 10), 1.0)
    >>> round(float(kernel["mean"].sel(layer=10, input=0)), 9)
    22.0
    >>> kernel.relative_variance.sel(layer=[0, 1, 10]).round(4).values
    array([0.    , 0.03  , 0.4298])
    """
    import xarray as xr

    check_homogeneous_network(net, biases_allowed=False)
    norms = _check_norm2(norm2)
    layers = np.arange(net.depth + 1)
    with np.errstate(divide="ignore"):
        log_norms = np.log(norms)
    log_gain = np.log(net.weight_variance) + np.log(slope_moment(net.phi))
    log_scale = np.log(net.weight_variance) + layers * log_gain + np.log1p(layers)
    log_mean = log_scale[:, None] + log_norms
    log_ratio, exponent = _log_moment_ratio(np.array(net.widths, dtype=np.float64), slope_kurtosis(net.phi))
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        relative_variance = np.expm1(log_ratio)
        # In logarithms, since a variance can be beyond the range of floats where the squared mean is below it.
        log_variance = 2.0 * log_mean + (log_ratio + np.log(-np.expm1(-log_ratio)))[:, None]
        mean, variance = np.exp(log_mean), np.exp(log_variance)
    dataset = xr.Dataset(
        {
            "mean": (("layer", "input"), mean),
            "variance": (("layer", "input"), variance),
            "log_mean": (("layer", "input"), log_mean),
            "relative_variance": ("layer", relative_variance),
            "log_moment_ratio": ("layer", log_ratio),
            "exponent": ("layer", exponent),
        },
        {"layer": layers, "input": np.arange(norms.size)},
    )
    dataset.attrs = provenance("wideangle.propagation.predict_tangent_diagonal", source=SOURCE, net=net)
    return dataset


def _log_moment_ratio(widths: Array, kurtosis: float) -> tuple[Array, Array]:
    r"""Return :math:`\ln(E[\Theta^2]/E[\Theta]^2)` and the exponent :math:`(3\kappa - 1)\sum 1/n` after each layer.

    1 less the mean over pairs of layers is what is summed, because at large widths that mean is all but 1.
    """
    rate = 3.0 * kurtosis - 1.0
    growth = np.concatenate([[0.0], np.cumsum(np.log1p(rate / widths))])
    exponent = np.concatenate([[0.0], np.cumsum(rate / widths)])
    missing = np.zeros(widths.size + 1)
    # The sums of 1 - product over pairs (l, k) of layers: with the last k alone, and over all.
    last, total = 0.0, 0.0
    for layer, width in enumerate(widths, start=1):
        loss = (3.0 * kurtosis) / (width + rate)
        last = layer * loss + (1.0 - loss) * last
        total += 2.0 * last
        missing[layer] = total / (layer + 1.0) ** 2
    return growth + np.log1p(-2.0 / 3.0 * missing), exponent


def _check_norm2(norm2: Any) -> Array:
    remedy = "give |x|^2/n_0 of each input, such as (x**2).mean(axis=1)"
    values = np.asarray(norm2)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"norm2 must be real numbers, got dtype {values.dtype}; {remedy}")
    if values.ndim > 1 or values.size == 0:
        raise ValueError(f"norm2 must be a number or of shape (input,), got shape {values.shape}; {remedy}")
    result = np.atleast_1d(values).astype(np.float64)
    wrong = ~(np.isfinite(result) & (result >= 0.0))
    if wrong.any():
        raise ValueError(f"norm2 must be finite and non-negative, got {float(result[wrong][0])!r}; {remedy}")
    return result
