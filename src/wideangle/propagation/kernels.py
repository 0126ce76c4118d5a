"""The kernels of infinitely wide networks: covariance at initialisation (NNGP) and tangent kernel (NTK)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle import _core
from wideangle._checks import check_choice, check_threads
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._inputs import Array, check_inputs

if TYPE_CHECKING:
    import xarray as xr

SOURCES = {
    "relu": "Cho and Saul 2009, arc-cosine kernel of order 1",
    "leaky_relu": "Cho and Saul 2009, arc-cosine kernel of order 1, for a linear part and an absolute value",
    "abs": "Cho and Saul 2009, arc-cosine kernel of order 1, for the absolute value",
    "linear": "covariance of the inputs",
    "erf": "Williams 1997",
    "sin": "characteristic function of the normal distribution",
    "gelu": "Tsuchida et al., arXiv 2002.08517",
}
SERIES_SOURCE = "Mehler's formula, Hermite coefficients by quadrature"


def nngp_kernel(
    net: MLP, x1: ArrayLike, x2: ArrayLike | None = None, *, keep: str = "final", n_threads: int | None = None
) -> xr.Dataset:
    r"""Covariance of an output at initialisation in the limit of infinite width (neural network Gaussian process).

    As the widths go to infinity one after the other, an output unit is a Gaussian process over networks, with mean 0
    and the covariance :math:`K^L` of

    .. math::

        K^0(x, x') = \sigma_b^2 + \sigma_w^2\,\frac{x\cdot x'}{d}, \qquad
        K^l(x, x') = \sigma_b^2 + \sigma_w^2\,E[\phi(u)\phi(v)],

    where (u, v) is a centred Gaussian pair of variances :math:`K^{l-1}(x, x)`, :math:`K^{l-1}(x', x')` and covariance
    :math:`K^{l-1}(x, x')`. There are L = ``net.depth`` hidden layers, d features, and a linear readout that has the
    same weight and bias variance as the hidden layers. The widths of ``net`` do not matter.

    Parameters
    ----------
    net
        Any network; of its ``widths`` only the number counts.
    x1
        Inputs, of shape (input, feature): integers or floats of any precision, finite.
    x2
        Other inputs with the same features. By default those of ``x1``; the kernel is then exactly symmetric.
    keep
        ``"final"`` (default): the kernel of the output. ``"layers"``: also those of the layers below, so that
        ``kernel`` at layer l is :math:`K^l`, the kernel of a network of l hidden layers.
    n_threads
        Threads; default every processor available. Results do not depend on it.

    Returns
    -------
    xarray.Dataset
        ``kernel(input, input_)``, rows by ``x1`` and columns by ``x2``; with ``keep="layers"``,
        ``kernel(layer, input, input_)`` for layers 0...L. The attribute ``truncation_error`` bounds what the series of
        tanh, silu, elu and sigmoid leave out (to first order in it), in units of :math:`\sqrt{K(x,x)K(x',x')}`; it is 0
        for the others, which have closed forms. Entries are found from the angle to the nearer of x' and -x', so that
        equal, nearly parallel and opposite inputs lose no digits: for piecewise linear activations errors are some
        1e-15 of :math:`\sqrt{K(x,x)K(x',x')}` at any depth.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not an MLP, the inputs are not finite real arrays of shape (input, feature) with equal numbers of
        features, or for a smooth activation the kernel leaves the range of float64.

    References
    ----------
    J. Lee et al., arXiv 1711.00165 (the limit). Y. Cho and L. K. Saul 2009 (ReLU); C. K. I. Williams 1997 (erf);
    R. Tsuchida et al., arXiv 2002.08517 (GELU). The forms in which they are evaluated are derived in the documentation.

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> net = wa.MLP((1,) * 3)
    >>> kernel = wa.propagation.nngp_kernel(net, np.eye(2)).kernel
    >>> kernel.round(4).values
    array([[1.    , 0.6048],
           [0.6048, 1.    ]])
    """
    return _kernels("nngp_kernel", net, x1, x2, keep, n_threads, tangent=False)


def tangent_kernel(
    net: MLP, x1: ArrayLike, x2: ArrayLike | None = None, *, keep: str = "final", n_threads: int | None = None
) -> xr.Dataset:
    r"""Tangent kernel in the limit of infinite width (NTK), with the covariance kernel from the same sweep.

    The tangent kernel of a network f with parameters :math:`\theta` is
    :math:`\Theta(x, x') = \sum_i \partial_{\theta_i} f(x)\,\partial_{\theta_i} f(x')`, for one output unit, over all
    weights and biases, each a standard normal variable that is scaled as in :class:`wideangle.MLP`. At infinite width
    it does not fluctuate, and

    .. math::

        \Theta^0 = K^0, \qquad
        \Theta^l = K^l + \Theta^{l-1}\,\dot K^l, \quad \dot K^l = \sigma_w^2\,E[\phi'(u)\phi'(v)],

    with the covariances K, Gaussian pairs (u, v) and readout of :func:`nngp_kernel`.

    Parameters
    ----------
    net, x1, x2, keep, n_threads
        As for :func:`nngp_kernel`.

    Returns
    -------
    xarray.Dataset
        ``kernel(input, input_)``, :math:`\Theta^L`, and ``nngp(input, input_)``, :math:`K^L`; with ``keep="layers"``
        both over ``layer`` 0...L too. The attributes ``truncation_error`` and ``nngp_truncation_error`` bound, in units
        of :math:`\sqrt{K(x,x)K(x',x')}`, what the series of tanh, silu, elu and sigmoid leave out.

    Raises
    ------
    TypeError, ValueError
        As for :func:`nngp_kernel`.

    References
    ----------
    A. Jacot, F. Gabriel and C. Hongler, arXiv 1806.07572. Kernels of the layers as in :func:`nngp_kernel`.

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> net = wa.MLP((1,) * 3)
    >>> wa.propagation.tangent_kernel(net, np.eye(2)).kernel.round(4).values
    array([[4.    , 1.0604],
           [1.0604, 4.    ]])
    """
    return _kernels("tangent_kernel", net, x1, x2, keep, n_threads, tangent=True)


def _kernels(function: str, net: Any, x1: Any, x2: Any, keep: Any, n_threads: Any, *, tangent: bool) -> xr.Dataset:
    import xarray as xr

    if not isinstance(net, MLP):
        raise TypeError(f"net must be a wideangle.MLP, got {net!r} ({type(net).__name__}); give wa.MLP(widths)")
    first = check_inputs("x1", x1)
    second = None if x2 is None else _check_second(x2, first)
    every_layer = check_choice("keep", keep, ("final", "layers")) == "layers"
    threads = check_threads(n_threads) or available_threads()

    compute = _piecewise_linear if net.phi.homogeneous else _smooth
    matrices, errors = compute(net, first, second, tangent, every_layer, threads)
    dims = ("layer", "input", "input_") if every_layer else ("input", "input_")
    coordinates = {"layer": np.arange(net.depth + 1)} if every_layer else {}
    dataset = xr.Dataset({name: (dims, matrix) for name, matrix in matrices.items()}, coordinates)
    source = SOURCES.get(net.phi.name, SERIES_SOURCE)
    dataset.attrs = provenance(f"wideangle.propagation.{function}", source=source, net=net, keep=keep) | errors
    return dataset


def _check_second(x2: Any, first: Array) -> Array:
    second = check_inputs("x2", x2)
    if second.shape[1] != first.shape[1]:
        raise ValueError(
            f"x2 must have as many features as x1, {first.shape[1]}, got shape {second.shape}; give inputs of one kind"
        )
    return second


def _piecewise_linear(
    net: MLP, x1: Array, x2: Array | None, tangent: bool, every_layer: bool, n_threads: int
) -> tuple[dict[str, Array], dict[str, float]]:
    gain = net.weight_variance * (0.5 + 0.5 * net.phi.slope**2)
    if not 1e-100 < gain < 1e100:
        raise ValueError(
            f"net.weight_variance times (1 + slope^2)/2 must lie between 1e-100 and 1e100 for kernels, got {gain!r}; "
            "give a network with a weight_variance near 2"
        )
    raw = _core.kernel_matrix(
        x1,
        x2,
        slope=net.phi.slope,
        weight_variance=net.weight_variance,
        bias_variance=net.bias_variance,
        depth=net.depth,
        every_layer=every_layer,
        tangent=tangent,
        n_threads=n_threads,
        cpu_path=active_cpu_path(),
    )
    return _named(raw["nngp"], raw.get("tangent"), 0.0, 0.0)


def _smooth(
    net: MLP, x1: Array, x2: Array | None, tangent: bool, every_layer: bool, n_threads: int
) -> tuple[dict[str, Array], dict[str, float]]:
    from wideangle.propagation._smooth_kernels import sweep

    result = sweep(net, x1, x2, tangent=tangent, every_layer=every_layer, n_threads=n_threads)
    return _named(result.nngp, result.tangent, result.errors.cosine, result.errors.tangent)


def _named(
    nngp: Array, tangent: Array | None, error: float, tangent_error: float
) -> tuple[dict[str, Array], dict[str, float]]:
    if tangent is None:
        return {"kernel": nngp}, {"truncation_error": error}
    return {"kernel": tangent, "nngp": nngp}, {
        "truncation_error": tangent_error,
        "nngp_truncation_error": error,
    }
