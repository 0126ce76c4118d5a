"""Gram matrices of the layers of random networks: mean and variance to first order in 1/width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_choice
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._gram_matrix import check_gram
from wideangle.propagation._network import check_network
from wideangle.propagation._neuron_pairs import PairLaw, SingleLaw, pair_law, single_law
from wideangle.propagation.rules import Array

if TYPE_CHECKING:
    import xarray as xr

# Squares of Gaussians of a smaller variance are not far from the smallest float.
_SMALLEST = 1e-290

METHODS = ("finite-width", "infinite-width")
"""The laws that :func:`predict_gram` knows."""

SOURCES = {
    "infinite-width": "Cho and Saul 2009; Lee et al., arXiv 1711.00165",
    "finite-width": "Yaida, arXiv 1910.00019; Roberts, Yaida and Hanin, arXiv 2106.10165, chapter 4",
}


def predict_gram(net: MLP, gram0: ArrayLike, *, method: str = "finite-width") -> xr.Dataset:
    r"""Predict the Gram matrix of a data set behind each layer of random networks, and how much it fluctuates.

    :math:`Q^l_{ij} = \frac{1}{n_l} \phi(z^l(x_i)) \cdot \phi(z^l(x_j))` of hidden layer l is random at finite width.
    The next pre-activations are Gaussian given it, with covariance :math:`G = \sigma_b^2 + \sigma_w^2 Q`.

    Parameters
    ----------
    net
        Network with any activation and biases.
    gram0
        :math:`Q^0 = x x^T / n_0` of the inputs, shape (input, input): real, symmetric, positive semi-definite. Inputs
        may be parallel or equal.
    method
        ``"finite-width"`` (default)
            Mean and variance with all terms of order 1/n. What is left out is of order 1/n^2 and grows with depth: the
            expansion holds while the sum of 1/n over the layers is small.
        ``"infinite-width"``
            :math:`Q^l = F(G)`, :math:`F(G) = E[\phi(u)\phi(v)]` over :math:`(u, v) \sim N(0, G)`, without fluctuations.

    Returns
    -------
    xarray.Dataset
        ``gram(layer, input, input_)``, the mean of :math:`Q^l`, and ``variance(layer, input, input_)``, its variance
        entry by entry, over layers 0...L, 0 being ``gram0``; for the outputs of one more layer,
        ``output_covariance(input, input_)`` :math:`= \sigma_b^2 + \sigma_w^2 E[Q^L]` and
        ``output_excess_kurtosis(input)`` :math:`= 3\sigma_w^4 \mathrm{Var}(Q^L_{ii}) / G_{ii}^2`, since an output
        is a Gaussian of random variance; ``quadrature_error(layer)``, the largest change of a correlation or of a
        neuron's covariance when the quadrature takes half the nodes, 0 for closed forms (the piecewise linear
        activations and sin). The error itself is far smaller.

    Raises
    ------
    TypeError, ValueError
        If ``gram0`` is not such a matrix, the method is unknown, or the entries leave the range of floats.

    Notes
    -----
    Source: S. Yaida, arXiv 1910.00019, and D. A. Roberts, S. Yaida and B. Hanin, *The principles of deep learning
    theory*, arXiv 2106.10165, chapter 4, whose metric, subleading metric and four-point vertex these are; derived here
    for the Gram matrix. Given G, the next Q is a mean over n independent neurons, so that a small deviation of mean
    m/n and covariance V/n passes through a layer as

    .. math::
        m' = DF\,m + \tfrac12 D^2F : V, \qquad V' = \mathrm{Cov}[\text{one neuron}] + DF\,V\,DF^T .

    The entries ii, ij, jj of each pair close among themselves. They are carried as relative errors of the two norms and
    the error of 1 - correlation, whose variance vanishes with the fourth power of the angle: this is what keeps
    :math:`D^2F` of the activations with a kink, which diverges for parallel inputs, from meeting a variance that
    consists of rounding. The time and memory grow with the square of the number of inputs; a pair takes one or
    two milliseconds a layer where the quadrature is needed, and microseconds else.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> gram = wa.propagation.predict_gram(wa.MLP(widths=(100,) * 5), np.array([[1.0, 0.5], [0.5, 1.0]]))
    >>> gram.gram.sel(layer=5, input=0).round(4).values
    array([1.    , 0.8035])
    >>> gram.variance.sel(layer=5, input=0).round(4).values
    array([0.25  , 0.1596])
    >>> gram.output_excess_kurtosis.round(2).values
    array([0.75, 0.75])
    """
    import xarray as xr

    check_network(net)
    start = check_gram("gram0", gram0)
    method = check_choice("method", method, METHODS)
    state = _start(start)
    grams, variances, errors = [start], [np.zeros_like(start)], [0.0]
    with np.errstate(over="ignore", invalid="ignore"):
        for layer, width in enumerate(net.widths, start=1):
            state, error = _next_layer(net, state, np.inf if method == "infinite-width" else float(width))
            gram, variance = _matrices(state)
            if not (np.isfinite(gram).all() and np.isfinite(variance).all()):
                raise ValueError(
                    "net must keep the Gram matrix and its variance within the range of floats, got infinite entries "
                    f"in layer {layer}; lower weight_variance or the number of layers"
                )
            grams.append(gram)
            variances.append(variance)
            errors.append(error)
    diagonal = net.bias_variance + net.weight_variance * state.norm
    kurtosis = 3.0 * (net.weight_variance * state.norm / np.where(diagonal > 0.0, diagonal, 1.0)) ** 2 * state.spread
    dims = ("layer", "input", "input_")
    dataset = xr.Dataset(
        {
            "gram": (dims, np.stack(grams)),
            "variance": (dims, np.stack(variances)),
            "output_covariance": (("input", "input_"), net.bias_variance + net.weight_variance * grams[-1]),
            "output_excess_kurtosis": ("input", kurtosis),
            "quadrature_error": ("layer", np.array(errors)),
        },
        {"layer": np.arange(net.depth + 1), "input": np.arange(len(start)), "input_": np.arange(len(start))},
    )
    dataset.attrs = provenance("wideangle.propagation.predict_gram", source=SOURCES[method], net=net, method=method)
    return dataset


@dataclass(frozen=True)
class _State:
    """Q of one layer: the infinitely wide one, the shift of its mean and the covariance of its errors.

    Attributes
    ----------
    first, second
        The inputs of each pair.
    norm, norm_shift, spread
        Diagonal of Q, its shift, and the variance of its relative error; shape (input,).
    distance
        1 - correlation of each pair, shape (pair,).
    product_shift
        Shift of the off-diagonal entry, shape (pair,).
    covariance
        Of the relative errors of both norms and the error of ``distance``, shape (pair, 3, 3).
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    norm: Array
    norm_shift: Array
    spread: Array
    distance: Array
    product_shift: Array
    covariance: Array


def _start(gram: Array) -> _State:
    first, second = np.triu_indices(len(gram), 1)
    norm = gram.diagonal().copy()
    scale = np.sqrt(norm[first]) * np.sqrt(norm[second])
    alive = scale > 0.0
    distance = np.where(alive, 1.0 - gram[first, second] / np.where(alive, scale, 1.0), 1.0)
    zeros, none = np.zeros_like(norm), np.zeros_like(distance)
    return _State(first, second, norm, zeros, zeros, np.clip(distance, 0.0, 2.0), none, np.zeros((distance.size, 3, 3)))


def _matrices(state: _State) -> tuple[Array, Array]:
    """Return mean and variance of Q, entry by entry."""
    gram = np.diag(state.norm + state.norm_shift)
    variance = np.diag(state.norm**2 * state.spread)
    i, j = state.first, state.second
    scale = np.sqrt(state.norm[i]) * np.sqrt(state.norm[j])
    gram[i, j] = gram[j, i] = scale * (1.0 - state.distance) + state.product_shift
    half = 0.5 * (1.0 - state.distance)
    direction = np.stack([half, half, -np.ones_like(half)], axis=-1)
    variance[i, j] = variance[j, i] = scale**2 * np.einsum("pi,pij,pj->p", direction, state.covariance, direction)
    return gram, variance


def _next_layer(net: MLP, state: _State, width: float) -> tuple[_State, float]:
    """Return the state behind one more layer of that width, and the quadrature's error."""
    i, j = state.first, state.second
    affine = _affine(net, state)
    # An input that is 0, or has come that close, stays 0; it takes part with variance 1, and its results are dropped.
    alive = affine.variance > _SMALLEST
    variance = np.where(alive, affine.variance, 1.0)
    single = single_law(net.phi, variance)
    pair = pair_law(net.phi, variance[i], variance[j], affine.distance, (single.mean[i], single.mean[j]))
    norm_shift = single.slope * affine.norm_shift + 0.5 * (single.curvature - single.slope) * affine.spread
    gain = single.slope / single.mean
    transport = _transport(single, pair, i, j)
    covariance = pair.noise / width + transport @ affine.covariance @ transport.transpose(0, 2, 1)
    both = alive[i] & alive[j]
    next_state = _State(
        i,
        j,
        np.where(alive, single.mean, 0.0),
        np.where(alive, norm_shift, 0.0),
        gain**2 * affine.spread + single.relative_variance / width,
        np.where(both, pair.distance, 1.0),
        np.where(both, _product_shift(affine, pair, variance, i, j), 0.0),
        covariance,
    )
    return next_state, pair.error


@dataclass(frozen=True)
class _Affine:
    """The same for G, with relative shifts of the diagonal and shifts of the entries divided by sqrt(G_ii G_jj)."""

    variance: Array
    norm_shift: Array
    spread: Array
    distance: Array
    product_shift: Array
    covariance: Array


def _affine(net: MLP, state: _State) -> _Affine:
    r"""Pass from Q to :math:`G = \sigma_b^2 + \sigma_w^2 Q`.

    With norms p, q of a pair, biases alone leave :math:`1 - \rho_0^2 = \sigma_b^2\sigma_w^2 (p - q)^2/(G_{ii} G_{jj})`
    between parallel inputs; to it the pair's own distance adds :math:`\sigma_w^2 pq\,d/\sqrt{G_{ii} G_{jj}}`.
    """
    i, j = state.first, state.second
    bias, weight = net.bias_variance, net.weight_variance
    variance = bias + weight * state.norm
    divisor = np.where(variance > 0.0, variance, 1.0)
    share = weight * state.norm / divisor
    p, q = np.sqrt(state.norm[i]), np.sqrt(state.norm[j])
    scale = np.sqrt(divisor[i]) * np.sqrt(divisor[j])
    apart = bias * weight * ((p - q) / scale) ** 2
    parallel = apart / (1.0 + np.sqrt(np.clip(1.0 - apart, 0.0, 1.0)))
    factor = weight * p * q / scale
    distance = np.clip(parallel + factor * state.distance, 0.0, 2.0)
    to_g = np.zeros((i.size, 3, 3))
    to_g[:, 0, 0], to_g[:, 1, 1], to_g[:, 2, 2] = share[i], share[j], factor
    if bias > 0.0:
        to_g[:, 2, 0] = 0.5 * (share[i] * (1.0 - distance) - factor * (1.0 - state.distance))
        to_g[:, 2, 1] = 0.5 * (share[j] * (1.0 - distance) - factor * (1.0 - state.distance))
    return _Affine(
        variance,
        weight * state.norm_shift / divisor,
        share**2 * state.spread,
        distance,
        weight * state.product_shift / scale,
        to_g @ state.covariance @ to_g.transpose(0, 2, 1),
    )


def _transport(single: SingleLaw, pair: PairLaw, i: NDArray[np.intp], j: NDArray[np.intp]) -> Array:
    r"""Derivative of the next (ln norm, ln norm, distance) with respect to the present ones.

    :math:`d' = 1 - \Phi/\sqrt{q_i q_j}`, so that a relative error of a norm enters it through :math:`\Phi` and through
    the root.
    """
    gain = single.slope / single.mean
    scale = np.sqrt(single.mean[i]) * np.sqrt(single.mean[j])
    result = np.zeros((i.size, 3, 3))
    result[:, 0, 0], result[:, 1, 1] = gain[i], gain[j]
    half = 0.5 * (1.0 - pair.distance)
    result[:, 2, 0] = half * gain[i] - pair.gradient[:, 0] / scale
    result[:, 2, 1] = half * gain[j] - pair.gradient[:, 1] / scale
    result[:, 2, 2] = pair.gradient[:, 2] / scale
    return result


def _product_shift(affine: _Affine, pair: PairLaw, variance: Array, i: NDArray[np.intp], j: NDArray[np.intp]) -> Array:
    r"""Return the shift of :math:`E[\phi(u)\phi(v)]` from the shift and the covariance of G.

    Derived: in the coordinates :math:`y = (\ln G_{ii}, \ln G_{jj}, \rho)` the entries of G are curved, so that besides
    :math:`\frac12 \partial^2 : V` the gradient meets the mean of y's second-order terms: :math:`-\alpha^2/2`,
    :math:`-\beta^2/2` and :math:`\rho(\alpha-\beta)^2/8 - \delta\rho(\alpha+\beta)/2` with relative errors
    :math:`\alpha, \beta` of the diagonal.
    """
    v, rho = affine.covariance, 1.0 - affine.distance
    shift_i, shift_j = affine.norm_shift[i], affine.norm_shift[j]
    # The covariance is that of the distance, -1 times that of the correlation.
    sign = np.array([1.0, 1.0, -1.0])
    curved = np.stack(
        [
            shift_i - 0.5 * v[:, 0, 0],
            shift_j - 0.5 * v[:, 1, 1],
            affine.product_shift
            - 0.5 * rho * (shift_i + shift_j)
            + 0.125 * rho * (v[:, 0, 0] + v[:, 1, 1] - 2.0 * v[:, 0, 1])
            + 0.5 * (v[:, 0, 2] + v[:, 1, 2]),
        ],
        axis=-1,
    )
    quadratic = 0.5 * np.einsum("pij,pij->p", pair.hessian, v * np.outer(sign, sign))
    shift: Array = np.einsum("pi,pi->p", pair.gradient, curved) + quadratic
    return shift
