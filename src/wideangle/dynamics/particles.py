"""Wide two-layer networks as particles: the mean-field and the kernel scaling of one flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_choice, check_flag, check_threads
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.dynamics._arguments import check_times
from wideangle.dynamics._growth import Array
from wideangle.dynamics._network_arguments import (
    check_control,
    check_data,
    check_flow_memory,
    check_initial,
)
from wideangle.dynamics.two_layer import ROUNDINGS, accuracy_of, statistics_of
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = (
    "two-layer ReLU networks in the mean-field scaling (arXiv 1804.06561, 1805.09545) and the kernel one (1806.07572)"
)
SCALINGS = ("mean-field", "kernel")
BOUNDARIES = ("auto", "events", "stepped")
# Particles times samples times the passages that are to be expected, up to which boundaries are events by default.
_MANY = 10**8
_RTOL = {"events": 1e-8, "stepped": 1e-3}


def simulate_particles(
    x: ArrayLike,
    y: ArrayLike,
    particles0: ArrayLike,
    times: ArrayLike,
    *,
    loss: str | Loss = "squared",
    scaling: str = "mean-field",
    boundaries: str = "auto",
    rtol: float | None = None,
    atol: float = 1e-12,
    max_steps: int = 1_000_000,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Follow m particles, the neurons of a two-layer ReLU network, under gradient flow in one of two scalings.

    With readout :math:`a_j`, weights :math:`w_j` and the mean L over the samples of the loss :math:`\ell(y_n f(x_n))`,

    .. math::

        \text{mean-field:}\quad f(x) = \frac1m \sum_j a_j\,\mathrm{relu}(w_j\cdot x), \qquad
        (\dot w_j, \dot a_j) = -m \nabla_j L,

        \text{kernel:}\quad f(x) = \frac1{\sqrt m} \sum_j a_j\,\mathrm{relu}(w_j\cdot x), \qquad
        (\dot w_j, \dot a_j) = -\nabla_j L .

    Both change f at a rate of order 1 from particles of order 1. In the mean-field scaling each particle moves by
    order 1 whatever m, and features are learned. In the kernel scaling it moves by order :math:`m^{-1/2}`, the tangent
    kernel changes by that at most, and training becomes linear in the parameters.

    Parameters
    ----------
    x
        Inputs (sample, feature).
    y
        Labels (sample), -1 or 1.
    particles0
        Particles at time 0: (particle, feature + 1), w and then, in the last column, a; or (trajectory, particle,
        feature + 1).
    times
        Times of these flows, strictly increasing, not negative. In units of learning rate times steps of the network
        without factors of m, time in the mean-field scaling is m times as long.
    loss
        ``"squared"`` (default), ``"cross-entropy"``, ``"hinge"`` or ``"exponential"``.
    scaling
        ``"mean-field"`` (default) or ``"kernel"``.
    boundaries
        ``"events"``: steps end where a :math:`w_j\cdot x_n` passes through zero, as in :func:`simulate_two_layer`, and
        errors follow ``rtol``. The number of steps grows with that of particles and samples. ``"stepped"``: the
        pattern of activations is read off the weights at every evaluation; each passage then leaves an error in that
        particle alone, of which f sees a share 1/m (mean-field), and tolerances much below the default make steps so
        short that stepping over is of no use. ``"auto"`` (default): ``"events"`` in the mean-field scaling up to 10,000
        pairs of a particle and a sample, in the kernel one, where fewer passages are to be expected, up to
        :math:`10^4 m^{1/4}`, else ``"stepped"``; ``attrs["boundaries"]`` says which.
    rtol, atol
        Relative and absolute error allowed in a step, root mean square over all particles. Default of ``rtol``: 1e-8
        for ``"events"``, 1e-3 for ``"stepped"``.
    max_steps
        Steps, rejected ones included, after which a trajectory is given up; its status says so.
    n_threads
        Threads, over trajectories; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Without ``trajectory`` if ``particles0`` has none:

        - ``particles(trajectory, time, particle, component)``; NaN from where an integration failed;
        - ``outputs(trajectory, time, sample)``: f; ``margins``, y f, likewise; ``loss(trajectory, time)`` and
          ``accuracy(trajectory, time)``, means over the samples, a margin of 0 counting as one half right;
        - ``movement(trajectory, time)``: :math:`|\theta(t) - \theta(0)| / |\theta(0)|`, over all w and a;
        - ``kernel_change(trajectory, time)``: :math:`\|\Theta(t) - \Theta(0)\|_F / \|\Theta(0)\|_F`, with the empirical
          tangent kernel on the samples, :math:`\Theta_{nn'} \propto \sum_j [a_j^2\,1_{jn}1_{jn'}\,x_n\cdot x_{n'} +
          \mathrm{relu}(w_j\cdot x_n)\,\mathrm{relu}(w_j\cdot x_{n'})]`;
        - ``status``, ``n_events``, ``n_steps``, ``n_rejected``, ``n_evaluations`` and ``final_time``, as in
          :func:`simulate_two_layer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C.

    Notes
    -----
    Kernel scaling, derived: from particles with readouts of either sign alike, what changes smoothly in the tangent
    kernel averages out at first order in :math:`m^{-1/2}`. What remains is that activations switch on or off, for each
    sample :math:`m^{1/2}` of the m. Their balance fluctuates by :math:`m^{1/4}`, and the kernel by :math:`m^{-3/4}`.
    But more of them switch one way than the other, since a sample drives a particle on the active side of its own
    boundary only: the mean change of the kernel is of order :math:`m^{-1/2}`, with a factor that falls like the weight
    of one sample in the loss. Exponents fitted at a few hundred or thousand particles lie between -3/4 and -1/2.

    References
    ----------
    S. Mei, A. Montanari and P.-M. Nguyen, arXiv 1804.06561, and L. Chizat and F. Bach, arXiv 1805.09545 (mean field);
    A. Jacot, F. Gabriel and C. Hongler, arXiv 1806.07572 (tangent kernel); L. Chizat, E. Oyallon and F. Bach, arXiv
    1812.07956 (the passage from one to the other).

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> x, y = np.array([[1.0, 0.3], [-0.2, 1.0], [-1.0, -0.5]]), [1, -1, 1]
    >>> particles = np.random.default_rng(1).normal(size=(400, 3))
    >>> moved = {
    ...     scaling: wa.dynamics.simulate_particles(x, y, particles, [0.0, 5.0], scaling=scaling)
    ...     for scaling in ("mean-field", "kernel")
    ... }
    >>> [round(float(run.kernel_change[-1]), 2) for run in moved.values()]
    [1.02, 0.05]
    """
    inputs, labels = check_data(x, y)
    start = check_initial("particles0", particles0, "(particle, feature + 1)", 2)
    number, size, components = start.shape
    if components != inputs.shape[1] + 1:
        raise ValueError(
            f"particles0 must have a component for each of {inputs.shape[1]} features and one more, the readout, got "
            f"shape {np.shape(particles0)}; give (particle, feature + 1)"
        )
    output_times = check_times(times)
    parsed = parse_loss(loss)
    scaling = check_choice("scaling", scaling, SCALINGS)
    boundaries = check_choice("boundaries", boundaries, BOUNDARIES)
    if boundaries == "auto":
        share = 1.0 if scaling == "mean-field" else size**-0.5
        boundaries = "events" if share * (size * labels.size) ** 2 <= _MANY else "stepped"
    control = check_control(_RTOL[boundaries] if rtol is None else rtol, atol, max_steps)
    threads = check_threads(n_threads) or available_threads()
    progress = check_flag("progress", progress)
    check_flow_memory(number, output_times.size, size * components, labels.size)
    scale, speed = (1.0 / size, float(size)) if scaling == "mean-field" else (size**-0.5, 1.0)
    from wideangle.dynamics._flow_running import run_networks

    flows = run_networks(
        inputs,
        labels,
        np.full(labels.size, 1.0 / labels.size),
        np.concatenate([start[..., :-1].reshape(number, -1), start[..., -1]], axis=1),
        output_times,
        loss=parsed.name,
        control=control,
        descent=None,
        n_threads=threads,
        progress=progress,
        scale=scale,
        speed=speed,
        stepped=boundaries == "stepped",
    )
    split = size * (components - 1)
    particles = np.concatenate(
        [flows.states[..., :split].reshape(number, -1, size, components - 1), flows.states[..., split:, None]], axis=-1
    )
    dataset = _dataset(particles, start, inputs, labels, output_times, parsed, scale, flows)
    if np.ndim(particles0) == 2:
        dataset = dataset.isel(trajectory=0, drop=True)
    dataset.attrs = provenance(
        "wideangle.dynamics.simulate_particles",
        source=SOURCE,
        loss=parsed.name,
        scaling=scaling,
        boundaries=boundaries,
        rtol=control.rtol,
        atol=control.atol,
        max_steps=control.max_steps,
    )
    return dataset


def _outputs_and_kernel(particles: Array, x: Array, scale: float) -> tuple[Array, Array]:
    """Return f and the tangent kernel on the samples, up to a factor."""
    weights, readout = particles[:, :-1], particles[:, -1]
    hidden = np.maximum(weights @ x.T, 0.0)
    size = np.linalg.norm(weights, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    gates = np.where(hidden > ROUNDINGS * size, readout[:, None], 0.0)
    return scale * readout @ hidden, (gates.T @ gates) * (x @ x.T) + hidden.T @ hidden


def _dataset(
    particles: Array, start: Array, x: Array, y: Array, times: Array, loss: Loss, scale: float, flows: Any
) -> xr.Dataset:
    import xarray as xr

    shape = particles.shape[:2]
    outputs, movement, kernel_change = np.empty((*shape, y.size)), np.empty(shape), np.empty(shape)
    for trajectory, first in enumerate(start):
        kernel0 = _outputs_and_kernel(first, x, scale)[1]
        # Kernels and particles that are all zero do not change.
        size, kernel_size = (np.linalg.norm(a) or 1.0 for a in (first, kernel0))
        for k, now in enumerate(particles[trajectory]):
            outputs[trajectory, k], kernel = _outputs_and_kernel(now, x, scale)
            movement[trajectory, k] = np.linalg.norm(now - first) / size
            kernel_change[trajectory, k] = np.linalg.norm(kernel - kernel0) / kernel_size
    outputs[np.isnan(movement)] = np.nan
    margins = y * outputs
    return xr.Dataset(
        {
            "particles": (("trajectory", "time", "particle", "component"), particles),
            "outputs": (("trajectory", "time", "sample"), outputs),
            "margins": (("trajectory", "time", "sample"), margins),
            "loss": (("trajectory", "time"), np.mean(loss.value(margins), axis=-1)),
            "accuracy": (("trajectory", "time"), accuracy_of(margins, np.full(y.size, 1.0 / y.size))),
            "movement": (("trajectory", "time"), movement),
            "kernel_change": (("trajectory", "time"), kernel_change),
            **statistics_of(flows),
        },
        {
            "trajectory": np.arange(shape[0]),
            "time": times,
            "particle": np.arange(particles.shape[2]),
            "component": np.arange(particles.shape[3]),
            "sample": np.arange(y.size),
        },
    )
