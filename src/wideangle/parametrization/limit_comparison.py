"""Training at infinite width beside networks of finite width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.losses import Loss
from wideangle.parametrization._finite import Training, check_networks, compare_outputs, train_networks
from wideangle.parametrization.limit import SOURCE, check_task, simulate_limit

if TYPE_CHECKING:
    import xarray as xr


def compare_training(
    n_hidden: int,
    x0: ArrayLike,
    y0: ArrayLike,
    x: ArrayLike | None = None,
    *,
    n_steps: int,
    learning_rate: float,
    first_learning_rate: float | None = None,
    loss: str | Loss = "squared",
    n_outputs: int | None = None,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    widths: Iterable[int] = (250, 500, 1000, 2000),
    n_networks: int = 64,
    n_particles: int = 2**12,
    n_replicas: int = 16,
    seed: int = 0,
    method: Literal["conditional", "pytorch"] = "conditional",
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare the training of ``"ip-llr"`` at infinite width with networks of finite width, and these with ``"hp"``.

    Parameters
    ----------
    n_hidden, x0, y0, x, n_steps, learning_rate, first_learning_rate, loss, n_outputs, activation, weight_variance
        As in :func:`simulate_limit`.
    n_particles, n_replicas
        Of :func:`simulate_limit`, so that errors of the limit are small against the gaps; default 4,096 and 16.
    widths, n_networks, seed, method, n_threads, progress
        As in :func:`compare`; default widths 250, 500, 1000 and 2000, default ``n_networks`` 64.

    Returns
    -------
    xarray.Dataset
        What :func:`compare` returns, along ``step`` from 1 to ``n_steps``: ``output(step, scaling, width, network,
        input, unit)``, ``extrapolated``, ``extrapolated_error``, ``z``, ``gap``, ``hybrid_gap``, ``rate``,
        ``hybrid_rate`` and their errors; ``limit(step, input, unit)`` and ``limit_error`` from :func:`simulate_limit`
        instead of a prediction. Without ``input`` and ``unit`` where that has none.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work; if the training diverges.
    ImportError
        If PyTorch is needed and missing.

    Notes
    -----
    ``"hp"`` has the same limit for positively homogeneous activations, as there. Trajectories that are sensitive to
    what they begin with, as with large learning rates, have gaps that are not yet small at widths of thousands.

    Examples
    --------
    >>> import wideangle as wa
    >>> x0, y0 = [[1.0, 1.0], [1.0, -1.0]], [1.0, -1.0]
    >>> run = wa.parametrization.compare_training(
    ...     2, x0, y0, n_steps=3, learning_rate=0.5, widths=(50, 100, 200), n_networks=20
    ... )
    >>> dict(run.output.sizes)
    {'step': 3, 'scaling': 2, 'width': 3, 'network': 20, 'input': 2}
    """
    import xarray as xr

    training: dict[str, Any] = {
        "n_steps": n_steps,
        "learning_rate": learning_rate,
        "first_learning_rate": first_learning_rate,
        "loss": loss,
        "n_outputs": n_outputs,
        "activation": activation,
        "weight_variance": weight_variance,
    }
    task = check_task(n_hidden, x0, y0, x, **training)
    networks = check_networks(widths, n_networks, seed, n_threads, method)
    limit = simulate_limit(
        n_hidden, x0, y0, x, **training, n_particles=n_particles, n_replicas=n_replicas, seed=seed, progress=progress
    )
    finite = Training(
        n_hidden=task.n_hidden,
        phi=task.phi,
        variance=task.variance,
        samples=task.samples,
        points=task.samples if x is None else task.points,
        n_outputs=task.objective.n_outputs,
        descent=task.descent,
        n_steps=task.n_steps,
    )
    outputs = train_networks(finite, networks, progress=progress)
    shape = (task.n_steps + 1, -1, task.objective.n_outputs)
    values, errors = (np.reshape(limit[name].values, shape)[1:] for name in ("output", "output_error"))
    steps = [
        compare_outputs(outputs[..., step, :, :], values[step], errors[step], networks.widths)
        for step in range(task.n_steps)
    ]
    dataset: xr.Dataset = xr.concat(steps, xr.DataArray(np.arange(1, task.n_steps + 1), dims="step", name="step"))
    dataset = dataset.rename({"predicted": "limit", "predicted_error": "limit_error"})
    dataset.attrs = provenance(
        "wideangle.parametrization.compare_training",
        source=SOURCE,
        **task.arguments,
        **networks.arguments,
        n_particles=limit.attrs["n_particles"],
        n_replicas=limit.attrs["n_replicas"],
    )
    if task.objective.scalar:
        dataset = dataset.isel(unit=0)
    one_point = np.ndim(x0 if x is None else x) == 1
    return dataset.isel(input=0) if one_point else dataset
