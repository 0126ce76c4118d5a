"""The predicted first step beside networks of finite width, trained in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_seed
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.parametrization._arguments import check_threads, check_widths, with_progress
from wideangle.parametrization.first_step import SOURCE, check_inputs, check_steps, predict_first_step
from wideangle.scalings import named_scaling

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

_SCALINGS = ("ip-llr", "hp")


def compare(
    n_hidden: int,
    x0: ArrayLike,
    x: ArrayLike,
    *,
    step: ArrayLike,
    widths: Iterable[int] = (250, 500, 1000, 2000),
    n_networks: int = 16,
    seed: int = 0,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare the first step of ``"ip-llr"`` at infinite width with networks of finite width, and these with ``"hp"``.

    Parameters
    ----------
    n_hidden, x0, x, step, activation, weight_variance
        As in :func:`predict_first_step`.
    widths
        At least three, increasing; default 250, 500, 1000 and 2000.
    n_networks
        Networks of each width, from 2; default 16. Those of ``"ip-llr"`` and ``"hp"`` begin with the same weights, up
        to their scaling.
    seed
        From 0, default 0.
    n_threads
        Threads of PyTorch during the call, default 1.
    progress
        Show progress; default False.

    Returns
    -------
    xarray.Dataset
        - ``output(scaling, width, network, input)``: :math:`f_1` of every network, ``"ip-llr"`` and ``"hp"``;
        - ``predicted(input)``, ``predicted_error(input)``;
        - ``extrapolated(scaling, input)``, ``extrapolated_error``: intercept, and its standard error, of the mean over
          networks as a straight line in :math:`m^{-1/2}`, by weighted least squares; ``z``: its difference from the
          prediction in units of both errors;
        - ``gap(width)``: root mean square over networks and inputs of the difference from the prediction, of
          ``"ip-llr"``; ``hybrid_gap(width)``: of that between ``"ip-llr"`` and ``"hp"`` with the same start;
        - ``rate``, ``hybrid_rate``: slopes of their logarithms against ln m, and ``rate_error``, ``hybrid_rate_error``,
          standard errors from a jackknife over networks. Expected: -1/2. With one hidden layer the two scalings are
          the same, and their gap is one of roundings; NaN where there is none at all.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    ImportError
        If PyTorch is missing.

    Notes
    -----
    Hajjar, Chizat and Giraud, arXiv 2110.15596: the limit, and the equivalence of ``"ip-llr"`` and ``"hp"`` in it, for
    positively homogeneous activations. For others ``"hp"`` differs also in the limit. The rate is that of a central
    limit theorem.

    Examples
    --------
    >>> import wideangle as wa
    >>> run = wa.parametrization.compare(2, [1.0, 1.0], [1.0, 0.5], step=1.0, widths=(100, 200, 400), n_networks=4)
    >>> bool(abs(run.z).max() < 5)
    True
    """
    from wideangle.reference import build_scaled_mlp
    from wideangle.reference._torch import require_torch, torch_threads
    from wideangle.reference.scaled import train_first_step

    checked = check_inputs(n_hidden, x0, x, activation=activation, weight_variance=weight_variance)
    checked_steps = check_steps(step, x0)
    sizes = check_widths(widths, least=3)
    n_networks = check_integer("n_networks", n_networks, low=2, high=10**6, remedy="give a number such as 16")
    seed = check_seed(seed)
    n_threads = check_threads(n_threads)
    require_torch()
    predicted = predict_first_step(
        n_hidden, x0, x, step=step, activation=activation, weight_variance=weight_variance, seed=seed
    )
    outputs = np.empty((2, len(sizes), n_networks, len(checked.points)))
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes) * n_networks, np.uint64).reshape(len(sizes), -1)
    places = list(np.ndindex(len(sizes), n_networks))
    with torch_threads(n_threads):
        for place, network in with_progress(places, progress):
            for number, name in enumerate(_SCALINGS):
                model = build_scaled_mlp(
                    named_scaling(name, n_hidden),
                    sizes[place],
                    n_inputs=checked.samples.shape[1],
                    n_outputs=1,
                    seed=int(seeds[place, network]),
                    activation=checked.phi,
                    weight_variance=checked.variance,
                )
                steps = train_first_step(model, checked.samples, checked_steps, checked.points)
                outputs[number, place, network] = steps[1]
    arguments = {"n_hidden": n_hidden, "widths": sizes, "n_networks": n_networks, "seed": seed}
    return _dataset(outputs, sizes, predicted, arguments)


def _dataset(outputs: Array, widths: tuple[int, ...], predicted: xr.Dataset, arguments: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    limit, limit_error = (np.atleast_1d(predicted[name].values) for name in ("output", "output_error"))
    m = np.array(widths, np.float64)
    intercept, error = _extrapolate(outputs, m)
    squares = np.mean((outputs[0] - limit) ** 2, axis=-1), np.mean((outputs[0] - outputs[1]) ** 2, axis=-1)
    (rate, rate_error), (hybrid_rate, hybrid_error) = (_rate(some, m) for some in squares)
    dims = ("scaling", "input")
    dataset = xr.Dataset(
        {
            "output": (("scaling", "width", "network", "input"), outputs),
            "predicted": ("input", limit),
            "predicted_error": ("input", limit_error),
            "extrapolated": (dims, intercept),
            "extrapolated_error": (dims, error),
            "z": (dims, (intercept - limit) / np.hypot(error, limit_error)),
            "gap": ("width", np.sqrt(squares[0].mean(axis=1))),
            "hybrid_gap": ("width", np.sqrt(squares[1].mean(axis=1))),
            "rate": rate,
            "rate_error": rate_error,
            "hybrid_rate": hybrid_rate,
            "hybrid_rate_error": hybrid_error,
        },
        {"scaling": list(_SCALINGS), "width": list(widths)},
        provenance(
            "wideangle.parametrization.compare",
            source=SOURCE,
            **arguments,
            **{name: predicted.attrs[name] for name in ("step", "activation", "weight_variance")},
        ),
    )
    return dataset.isel(input=0) if predicted["output"].ndim == 0 else dataset


def _extrapolate(outputs: Array, widths: Array) -> tuple[Array, Array]:
    """Return intercept and standard error, (scaling, input), of a line in one over the root of the width."""
    mean = outputs.mean(axis=2)
    variance = outputs.var(axis=2, ddof=1) / outputs.shape[2]
    # Variances of few networks are too uncertain to be weights: they are smoothed by their law, inverse to the width.
    level = np.mean(variance * widths[:, None], axis=1)
    weights = np.broadcast_to(widths, (len(widths),))
    design = np.stack([np.ones_like(widths), widths**-0.5], axis=1)
    inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
    intercept = np.einsum("w,swi->si", (inverse @ (weights[:, None] * design).T)[0], mean)
    return intercept, np.sqrt(inverse[0, 0] * level)


def _rate(squares: Array, widths: Array) -> tuple[float, float]:
    """Return the slope of the logarithm of the root of the mean over networks, (width, network), and its error."""
    x = np.log(widths) - np.mean(np.log(widths))
    weights = x / np.sum(x * x)

    def slope(values: Array) -> float:
        return float(weights @ np.log(values) / 2.0)

    count = squares.shape[1]
    total = squares.sum(axis=1)
    if not np.all(total[:, None] - squares > 0.0):
        return math.nan, math.nan
    # Networks of different widths are independent: each is left out by itself.
    variance = 0.0
    for place in range(len(widths)):
        left = np.log((total[place] - squares[place]) / (count - 1)) * weights[place] / 2.0
        variance += (count - 1) / count * float(np.sum((left - left.mean()) ** 2))
    return slope(total / count), math.sqrt(variance)
