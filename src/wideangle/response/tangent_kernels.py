"""Tangent kernels of given networks, with the rates at which their layers learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_flag, check_threads
from wideangle._provenance import provenance
from wideangle.network import NetworkWeights
from wideangle.response._evaluation import check_evaluation_memory, check_points, evaluate
from wideangle.response._state import read_state

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "sum over layers of products of derivatives and activations, exact"


def tangent_kernel(
    state: xr.Dataset | NetworkWeights,
    x: ArrayLike,
    other: ArrayLike | None = None,
    *,
    parts: bool = False,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compute the tangent kernels of networks with given weights, each at each time.

    .. math::
        K(x, x') = \sum_p c_p\, \partial_p f(x)\, \partial_p f(x') = \sum_{l=1}^{L+1} D^l(x) \cdot D^l(x')\,
        \bigl(c_b^l + c_w^l\, h^{l-1}(x) \cdot h^{l-1}(x')\bigr),

    with the activations :math:`h^l`, :math:`h^0 = x`, the derivatives :math:`D^l = \partial f/\partial z^l` of the
    output by the pre-activations, and the rate :math:`c_p` at which a parameter learns, by which descent multiplies
    the learning rate: 1, 0 where it is frozen, and :math:`\sigma_w^2/n_{l-1}` or :math:`\sigma_b^2` in the tangent
    parametrization.

    Parameters
    ----------
    state
        What :func:`wideangle.response.simulate_training` returns, or a selection from it; or weights with one linear
        output, whose rates are 1.
    x, other
        Inputs, (input, feature). The kernel is between those of ``x`` and of ``other``, by default ``x`` itself; it is
        then exactly symmetric.
    parts
        Whether to return the two parts of the kernel besides, default False.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``kernel(network, time, input, input_)``, rows by ``x`` and columns by ``other``, without ``network`` or
        ``time`` where the state has none. With ``parts`` also ``readout_part``, the term l = L+1 of the sum, and
        ``hidden_part``, the others; the kernel is exactly their sum. NaN where a network has diverged.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or shape, or the result does not fit into memory, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    References
    ----------
    The kernel: A. Jacot et al., arXiv 1806.07572. Its two parts in a network of one hidden layer, and what they do in
    training: arXiv 2405.04074.

    Examples
    --------
    A network :math:`f = \mathrm{relu}(2x) - \mathrm{relu}(-x)` of one input, with biases of 0: at x = 1 only the
    first unit is active.

    >>> import wideangle as wa
    >>> network = wa.NetworkWeights([[[2.0], [-1.0]], [[1.0, -1.0]]])
    >>> kernel = wa.response.tangent_kernel(network, [[1.0], [-1.0]], parts=True)
    >>> kernel.kernel.values
    array([[7., 1.],
           [1., 4.]])
    >>> kernel.readout_part.values
    array([[5., 1.],
           [1., 2.]])
    """
    import xarray as xr

    states = read_state(state)
    points = check_points("x", x, states)
    others = None if other is None else check_points("other", other, states)
    keep = ("kernel", "readout_part", "hidden_part") if check_flag("parts", parts) else ("kernel",)
    threads = check_threads(n_threads)
    progress = check_flag("progress", progress)
    columns = len(points) if others is None else len(others)
    check_evaluation_memory(states, len(points), columns, n_pairs=len(keep))

    raw = evaluate(states, points, others, keep=keep, n_threads=threads, progress=progress)
    coords: dict[str, Any] = {**states.coords, "input": np.arange(len(points)), "input_": np.arange(columns)}
    attrs = provenance("wideangle.response.tangent_kernel", source=SOURCE, activation=str(states.activation))
    return xr.Dataset(
        {name: states.variable(raw[name], "input", "input_") for name in keep}, coords, {**states.attrs, **attrs}
    )
