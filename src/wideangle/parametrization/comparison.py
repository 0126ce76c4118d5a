"""The predicted first step beside networks of finite width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.parametrization._finite import Training, check_networks, compare_outputs, train_networks
from wideangle.parametrization.first_step import SOURCE, check_inputs, check_steps, predict_first_step

if TYPE_CHECKING:
    import xarray as xr


def compare(
    n_hidden: int,
    x0: ArrayLike,
    x: ArrayLike,
    *,
    step: ArrayLike,
    widths: Iterable[int] = (250, 500, 1000, 2000, 4000),
    n_networks: int = 512,
    seed: int = 0,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    method: Literal["conditional", "pytorch"] = "conditional",
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare the first step of ``"ip-llr"`` at infinite width with networks of finite width, and these with ``"hp"``.

    Parameters
    ----------
    n_hidden, x0, x, step, activation, weight_variance
        As in :func:`predict_first_step`.
    widths
        At least three, increasing; default 250, 500, 1000, 2000 and 4000.
    n_networks
        Networks of each width, from 2; default 512, which give rates to 0.08 or so; 32 give them to 0.3. Those of
        ``"ip-llr"`` and ``"hp"`` begin with the same weights, up to their scaling.
    seed
        From 0, default 0.
    method
        ``"conditional"`` (default): of the initial weights of inner layers only those products with activations and
        gradients are drawn that training looks at, given those that it has seen. Outputs have exactly the same law as
        with all weights drawn, and cost O(m) instead of O(m²). ``"pytorch"``: networks from
        :func:`wideangle.reference.build_scaled_mlp`, in float32; at width 8,000 give 16 or so.
    n_threads
        Networks that are trained at a time, default 1. Results do not depend on it.
    progress
        Show progress; default False.

    Returns
    -------
    xarray.Dataset
        - ``output(scaling, width, network, input)``: :math:`f_1` of every network, ``"ip-llr"`` and ``"hp"``;
        - ``predicted(input)``, ``predicted_error(input)``;
        - ``extrapolated(scaling, input)``, ``extrapolated_error``: intercept, and its standard error, of the mean over
          networks as a parabola in :math:`m^{-1/2}`, by weighted least squares; ``z``: its difference from the
          prediction in units of both errors;
        - ``gap(width)``: root mean square over networks and inputs of the difference from the prediction, of
          ``"ip-llr"``; ``hybrid_gap(width)``: of that between ``"ip-llr"`` and ``"hp"`` with the same start;
        - ``rate``, ``hybrid_rate``: r of a gap proportional to :math:`m^r \exp(k m^{-1/2})`, and ``rate_error``,
          ``hybrid_rate_error``, standard errors from a jackknife over networks. Expected: -1/2. With one hidden layer
          the two scalings are the same, and their gap is one of roundings; NaN where there is none at all.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    ImportError
        If PyTorch is needed and missing.

    Notes
    -----
    Hajjar, Chizat and Giraud, arXiv 2110.15596: the limit, and the equivalence of ``"ip-llr"`` and ``"hp"`` in it, for
    positively homogeneous activations. For others ``"hp"`` differs also in the limit. The rate is that of a central
    limit theorem.

    The next order, relative to the first, is :math:`m^{-1/2}` over the size of the activations that the step leaves,
    which become smaller from layer to layer. With three and four layers and steps of order one a power alone, without
    k, gives rates of -0.6 and -0.7 even for widths from 500 to 8,000, and a straight line misses the limit.

    Examples
    --------
    >>> import wideangle as wa
    >>> run = wa.parametrization.compare(2, [1.0, 1.0], [1.0, 0.5], step=1.0, widths=(100, 200, 400), n_networks=20)
    >>> bool(abs(run.z).max() < 5)
    True
    """
    inputs = check_inputs(n_hidden, x0, x, activation=activation, weight_variance=weight_variance)
    steps = check_steps(step, x0)[:, None]
    networks = check_networks(widths, n_networks, seed, n_threads, method)
    predicted = predict_first_step(
        n_hidden, x0, x, step=step, activation=activation, weight_variance=weight_variance, seed=seed
    )
    task = Training(
        n_hidden=inputs.n_hidden,
        phi=inputs.phi,
        variance=inputs.variance,
        samples=inputs.samples,
        points=inputs.points,
        n_outputs=1,
        descent=lambda step, outputs: steps,
        n_steps=1,
    )
    outputs = train_networks(task, networks, progress=progress)[..., 0, :, :]
    limit, error = (np.reshape(predicted[name].values, (-1, 1)) for name in ("output", "output_error"))
    dataset: xr.Dataset = compare_outputs(outputs, limit, error, networks.widths).isel(unit=0)
    dataset.attrs = provenance(
        "wideangle.parametrization.compare",
        source=SOURCE,
        **{name: predicted.attrs[name] for name in ("n_hidden", "step", "activation", "weight_variance")},
        **networks.arguments,
    )
    return dataset.isel(input=0) if np.ndim(x) == 1 else dataset
