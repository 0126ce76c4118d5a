"""Training of infinitely wide integrable networks that left their start with one large step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_memory, check_seed
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.losses import Loss
from wideangle.parametrization._arguments import with_progress
from wideangle.parametrization._limit_particles import Course, Task, simulate_replicas
from wideangle.parametrization._objectives import check_objective
from wideangle.parametrization.first_step import check_inputs
from wideangle.reference.scaled import check_rate

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

RUNAWAY = 1e30  # From here on training is taken to diverge.
SOURCE = "ip-llr at infinite width, Hajjar, Chizat and Giraud, arXiv 2110.15596; system of particles derived"


def simulate_limit(
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
    n_particles: int = 2**11,
    n_replicas: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    r"""Simulate the training of an ``"ip-llr"`` network at infinite width, by full-batch gradient descent.

    Parameters
    ----------
    n_hidden
        Number L of hidden layers, from 1.
    x0
        Training samples (sample, feature), or one (feature).
    y0
        Their targets, (sample), or one number. For the squared loss numbers, or (sample, unit) for several outputs; for
        the other losses labels -1 and 1; with ``n_outputs`` integer classes from 0, as for PyTorch's cross-entropy.
    x
        Where to return outputs, (feature) or (input, feature); default the training samples.
    n_steps
        Number of steps, from 1.
    learning_rate
        :math:`\eta`, which every layer has times a power of the width.
    first_learning_rate
        That of the first step, default the same. What it leaves of small activations becomes smaller from layer to
        layer, so that deep networks need a larger one.
    loss
        ``"squared"`` (default), :math:`|f - y|^2/2`; ``"cross-entropy"``, ``"hinge"`` and ``"exponential"``, functions
        of the margin y f of one output as in :mod:`wideangle.losses`; ``"cross-entropy"`` with ``n_outputs``, minus
        the logarithm of the softmax at the class. All are means over the samples.
    n_outputs
        Number of classes for the cross-entropy of several outputs; default None, a single output.
    activation, weight_variance
        As in :func:`predict_first_step`.
    n_particles
        Particles in each layer of a replica, a power of two from 16; default 2,048.
    n_replicas
        Systems of particles that do not meet, from 2; default 16.
    seed
        From 0; default 0.
    progress
        Show progress; default False.

    Returns
    -------
    xarray.Dataset
        Without ``input`` if the points to return outputs for are one, without ``unit`` for a single output. Step 0 is
        the start, where outputs are 0.

        - ``output(step, input, unit)``;
        - ``loss(step)``: of the training samples;
        - ``size(step, layer)``: root mean square, over neurons and training samples, of the pre-activations of layers
          1 to L;
        - ``output_error``, ``loss_error``, ``size_error``: standard errors, from the distances of single replicas
          from all of them together. Estimates are without the bias of the order of one over the number of particles.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work; if the training diverges.

    Notes
    -----
    Derived. In an integrable network sums over neurons are averages. With gradients times the width,
    :math:`\hat\delta^l = m\, \partial \ell/\partial h^l`, the learning rates make the updates of inner weights
    :math:`\Delta W^l = -\eta \sum_i \hat\delta^l_i \otimes x^{l-1}_i`, and their initial values add nothing to the
    averages of a network that has left its start. After t steps, with averages over the particles of a layer,

    .. math::
        h^l_t(\xi) = -\sum_{s < t} \eta_s \sum_i \hat\delta^l_{s,i}
            \langle x^{l-1}_{s,i}\, x^{l-1}_t(\xi) \rangle, \qquad
        \hat\delta^{l-1}_t = -\phi'(h^{l-1}_t) \sum_{s < t} \eta_s \sum_i x^{l-1}_{s,i}
            \langle \hat\delta^l_{s,i}\, \hat\delta^l_t \rangle .

    The terms s = 0 of the first step have the Gaussian pre-activations and gradients of :func:`predict_first_step`,
    independent in different layers. First layer and readout keep their initial weights. Layers only meet in averages,
    so that the particles of each may be drawn as evenly as a Sobol sequence is spread, and errors fall faster than
    the inverse root of their number as long as there are few samples.

    For positively homogeneous activations this is the limit of ``"hp"`` as well. With an activation that is smooth at
    zero the first step leaves the output at 0 from three hidden layers on: it moves activations of layers 1 and 2
    alone. But it moves the readout too, by activations of the last layer at the start, with which gradients reach
    layers L and L - 1, the latter in proportion to its own activations at the start. The second step joins these
    layers if there is none between them, for three and four hidden layers; deeper networks never leave (derived; not
    in the paper).

    Examples
    --------
    >>> import wideangle as wa
    >>> run = wa.parametrization.simulate_limit(2, [[1.0, 1.0], [1.0, -1.0]], [1.0, -1.0], n_steps=3, learning_rate=0.5)
    >>> run.output.dims, run.loss.values.round(2)
    (('step', 'input'), array([0.5 , 0.46, 0.37, 0.28]))
    """
    task = check_task(
        n_hidden,
        x0,
        y0,
        x,
        n_steps=n_steps,
        learning_rate=learning_rate,
        first_learning_rate=first_learning_rate,
        loss=loss,
        n_outputs=n_outputs,
        activation=activation,
        weight_variance=weight_variance,
    )
    remedy = "give a power of two, such as 2048, over which points spread evenly"
    n_particles = check_integer("n_particles", n_particles, low=16, high=2**30, remedy=remedy)
    if n_particles & (n_particles - 1):
        raise ValueError(f"n_particles must be a power of two, got {n_particles}; {remedy}")
    n_replicas = check_integer("n_replicas", n_replicas, low=2, high=10**4, remedy="give a number such as 16")
    seed = check_seed(seed)
    n_samples = len(task.samples)
    stored = 2 * (task.n_hidden - 1) * task.n_steps * n_samples + 8 * task.n_hidden * (2 * n_samples + len(task.points))
    remedy = "give fewer n_particles, n_replicas or n_steps"
    check_memory(8 * n_particles * n_replicas * stored, "particles with their past need", remedy=remedy)
    with np.errstate(over="ignore", invalid="ignore"):
        course, error = simulate_replicas(
            task,
            n_particles=n_particles,
            n_replicas=n_replicas,
            seed=seed,
            progress=lambda items: with_progress(items, progress, unit="systems"),
        )
    if not all(np.all(np.abs(values) < RUNAWAY) for values in (*course, *error)):
        raise ValueError(
            f"learning_rate and first_learning_rate must leave outputs below {RUNAWAY:g}, got {task.learning_rate!r} "
            f"and {task.first_learning_rate!r}, with which the training diverges; give smaller ones"
        )
    attributes = provenance(
        "wideangle.parametrization.simulate_limit",
        source=SOURCE,
        **task.arguments,
        n_particles=n_particles,
        n_replicas=n_replicas,
        seed=seed,
    )
    shown = slice(None) if x is None else slice(n_samples, None)
    return _dataset(course, error, shown, np.ndim(x0 if x is None else x) == 1, task.objective.scalar, attributes)


def check_task(
    n_hidden: Any,
    x0: Any,
    y0: Any,
    x: Any,
    *,
    n_steps: Any,
    learning_rate: Any,
    first_learning_rate: Any,
    loss: Any,
    n_outputs: Any,
    activation: Any,
    weight_variance: Any,
) -> Task:
    """Return what is trained and how, with no points if they are the training samples, or raise."""
    network = check_inputs(n_hidden, x0, x0 if x is None else x, activation=activation, weight_variance=weight_variance)
    objective = check_objective(loss, y0, n_outputs, len(network.samples))
    n_steps = check_integer("n_steps", n_steps, low=1, high=10**6, remedy="give the number of steps, such as 10")
    rate = check_rate("learning_rate", learning_rate)
    first = rate if first_learning_rate is None else check_rate("first_learning_rate", first_learning_rate)
    points = network.points[:0] if x is None else network.points
    return Task(
        network.phi, network.variance, network.n_hidden, network.samples, points, objective, n_steps, rate, first
    )


def _dataset(
    course: Course, error: Course, shown: slice, one_point: bool, scalar: bool, attributes: dict[str, Any]
) -> xr.Dataset:
    import xarray as xr

    dims = ("step", "input", "unit")
    dataset = xr.Dataset(
        {
            "output": (dims, course.output[:, shown]),
            "loss": ("step", course.loss),
            "size": (("step", "layer"), course.size),
            "output_error": (dims, error.output[:, shown]),
            "loss_error": ("step", error.loss),
            "size_error": (("step", "layer"), error.size),
        },
        {"step": np.arange(len(course.loss)), "layer": np.arange(1, course.size.shape[1] + 1)},
        attributes,
    )
    if scalar:
        dataset = dataset.isel(unit=0)
    return dataset.isel(input=0) if one_point else dataset
