"""Two-layer ReLU networks on a finite data set: their gradient flow, and gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_flag, check_threads
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.dynamics._arguments import check_times
from wideangle.dynamics._growth import Array
from wideangle.dynamics._network_arguments import (
    check_control,
    check_data,
    check_flow_memory,
    check_initial,
    check_learning_rate,
    check_sample_weights,
)
from wideangle.dynamics._separability import class_alignment, max_margin_direction, warn_unless_separable
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "gradient flow of a two-layer ReLU network, arXiv 1809.06848; boundaries in the sense of Clarke's subgradient"
# Pre-activations within so many roundings of zero count as zero: neurons held on a boundary.
ROUNDINGS = 64.0 * 2.0**-52
_BLOCK = 2**22


def simulate_two_layer(
    x: ArrayLike,
    y: ArrayLike,
    weights0: ArrayLike,
    readout0: ArrayLike,
    times: ArrayLike,
    *,
    loss: str | Loss = "cross-entropy",
    learning_rate: float | None = None,
    probabilities: ArrayLike | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    max_steps: int = 1_000_000,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Follow a two-layer ReLU network under gradient flow on a finite data set, from one or many initial values.

    The network is :math:`f(x) = \sum_i z_i\,\mathrm{relu}(w_i\cdot x)`, and its loss the mean over samples of
    :math:`\ell(y_n f(x_n))`. With the force :math:`g = -\ell'`,

    .. math::

        \dot w_i = z_i \langle g_n y_n 1[w_i\cdot x_n > 0]\, x_n\rangle_n, \qquad
        \dot z_i = \langle g_n y_n\,\mathrm{relu}(w_i\cdot x_n)\rangle_n .

    The right-hand side jumps where some :math:`w_i\cdot x_n` passes through zero, and under the hinge where a margin
    passes through 1. These boundaries are not stepped over: every step ends at the first of them that it meets,
    located to rounding errors, and goes on with the field beyond. Where that field points back, the flow slides along
    the boundary.

    Parameters
    ----------
    x
        Inputs (sample, feature).
    y
        Labels (sample), -1 or 1.
    weights0
        w at time 0: (neuron, feature), or (trajectory, neuron, feature).
    readout0
        z at time 0: (neuron), or (trajectory, neuron). One of the two may lack the axis of trajectories.
    times
        Gradient-flow times (learning rate times steps), strictly increasing, not negative.
    loss
        ``"cross-entropy"`` (default), ``"hinge"``, ``"squared"`` or ``"exponential"``.
    learning_rate
        ``None`` (default) for gradient flow. A positive number: gradient descent with that step, where times must be
        multiples of it, up to a relative 1e-9, and ``rtol``, ``atol`` and ``max_steps`` have no meaning.
    probabilities
        Positive weights of the samples (sample), with sum 1, which all means over samples below are taken with: a
        sample of probability 2/N stands for two of N. Default equal.
    rtol, atol
        Relative and absolute error allowed in a step, root mean square over weights and readouts.
    max_steps
        Steps, rejected ones included, after which a trajectory is given up; its status says so.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Without ``trajectory`` if neither initial value has it:

        - ``weights(trajectory, time, neuron, feature)``, ``readout(trajectory, time, neuron)``; NaN from where an
          integration failed;
        - ``outputs(trajectory, time, sample)``: f; ``margins``, y f, likewise; ``loss(trajectory, time)`` and
          ``accuracy(trajectory, time)``, means over the samples, a margin of 0 counting as one half right;
        - ``conserved(trajectory, time, neuron)``: :math:`z_i^2 - |w_i|^2`, which the flow keeps, also at boundaries
          (gradient descent does not), so that its drift shows the error of the integration;
        - ``active(trajectory, time, neuron)``: fraction of the samples with :math:`w_i\cdot x_n > 0`;
        - ``max_margin(class, feature)``: the v of least norm with :math:`v\cdot x_n \ge 1` on all samples of the class;
          NaN if there is none. ``alignment(trajectory, time, class)``: its cosine with the network's own direction for
          the class, :math:`\sum |z_i| w_i` over the neurons with readouts of the sign of the class and active on some
          sample of it; NaN without any;
        - ``status(trajectory)``: 0 finished, 2 step_too_small, 3 too_many_steps, 4 non_finite, 5 chattering (boundaries
          changed without end at one moment); ``n_events(trajectory)``, changes of the pattern of activations, of
          margins above and below 1 under the hinge, and of what slides; ``n_steps``, ``n_rejected``,
          ``n_evaluations`` and ``final_time``.

    Warns
    -----
    SeparabilityWarning
        If the data are not orthogonally separable: positive products of inputs of one class, none between classes. See
        Notes.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s.

    Notes
    -----
    On orthogonally separable data a neuron that is active on one class only stays so, the classes learn independently
    of each other (Tachet des Combes et al., arXiv 1809.06848), and under the cross-entropy and exponential losses the
    alignments tend to 1 (M. Phuong and C. H. Lampert, ICLR 2021, *The inductive bias of ReLU networks on orthogonally
    separable data*), slowly, like 1/ln t. On other data neither need hold; the flow and its conserved quantities do.

    At 0 the derivative of relu is 0, so that neurons with w = 0, or active on no sample, stay exactly as they are.
    Sliding (derived): the coefficients of :math:`1[w_i\cdot x_n > 0]` and :math:`g_n` that lie on their boundaries take
    the values in [0, 1] that leave the distances constant, which is Clarke's subgradient of least norm where the loss
    is convex across the boundary. For activations this projects the force on the neuron on the boundary; for margins
    it solves a system with the tangent kernel of the samples that are held. A boundary is left when its coefficient
    reaches 0 or 1, and, where it would begin to repel because the readout changes sign, on the inactive side. A neuron
    whose weights reach zero goes on in the direction in which it came, and rests there if the field brings it back.
    Steps are those of Dormand and Prince's pair of order 8, or for ``rtol`` of 1e-5 and more of Tsitouras' 5(4), as in
    :func:`wideangle.integrators.integrate`.

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> x, y = [[1.0, 0.2], [0.6, 0.9], [-1.0, -0.6]], [1, 1, -1]
    >>> weights, readout = [[0.3, -0.1], [0.1, 0.2], [-0.2, 0.1]], [0.4, -0.1, -0.3]
    >>> flow = wa.dynamics.simulate_two_layer(x, y, weights, readout, [0.0, 1.0, 10.0, 1e8])
    >>> flow.loss.values.round(3)
    array([0.668, 0.636, 0.137, 0.   ])
    >>> bool(abs(flow.conserved - flow.conserved.isel(time=0)).max() < 1e-6)
    True
    >>> flow.alignment.sel(time=1e8).values.round(3)
    array([0.999, 1.   ])
    >>> descent = wa.dynamics.simulate_two_layer(x, y, weights, readout, [0.0, 1.0], learning_rate=0.01)
    >>> bool(abs(descent.weights - flow.weights.sel(time=[0.0, 1.0])).max() < 0.01)
    True
    """
    inputs, labels = check_data(x, y)
    shares = check_sample_weights(probabilities, labels.size)
    weights, readout = check_network(weights0, readout0, inputs.shape[1])
    single = np.ndim(weights0) == 2 and np.ndim(readout0) == 1
    output_times = check_times(times)
    parsed = parse_loss(loss)
    descent = check_learning_rate(learning_rate, output_times)
    control = check_control(rtol, atol, max_steps)
    threads = check_threads(n_threads) or available_threads()
    progress = check_flag("progress", progress)
    number, neurons, features = weights.shape
    check_flow_memory(number, output_times.size, neurons * (features + 1), labels.size)
    warn_unless_separable(inputs, labels, stacklevel=2)
    from wideangle.dynamics._flow_running import run_networks

    flows = run_networks(
        inputs,
        labels,
        shares,
        np.concatenate([weights.reshape(number, -1), readout], axis=1),
        output_times,
        loss=parsed.name,
        control=control,
        descent=descent,
        n_threads=threads,
        progress=progress,
    )
    weights = flows.states[..., : neurons * features].reshape(number, -1, neurons, features)
    readout = flows.states[..., neurons * features :]
    dataset = _dataset(weights, readout, inputs, labels, shares, output_times, parsed, flows)
    if single:
        dataset = dataset.isel(trajectory=0, drop=True)
    dataset.attrs = provenance(
        "wideangle.dynamics.simulate_two_layer",
        source=SOURCE,
        loss=parsed.name,
        learning_rate=learning_rate,
        probabilities=None if probabilities is None else shares.tolist(),
        rtol=control.rtol,
        atol=control.atol,
        max_steps=control.max_steps,
    )
    return dataset


def check_network(weights0: Any, readout0: Any, features: int) -> tuple[Array, Array]:
    """Return initial weights and readouts, of as many trajectories and neurons."""
    weights = check_initial("weights0", weights0, "(neuron, feature)", 2)
    readout = check_initial("readout0", readout0, "(neuron)", 1)
    if weights.shape[2] != features:
        raise ValueError(
            f"weights0 must have as many features as x, {features}, got shape {np.shape(weights0)}; give (neuron, "
            "feature)"
        )
    if weights.shape[1] != readout.shape[1]:
        raise ValueError(
            f"weights0 and readout0 must agree in the number of neurons, got {weights.shape[1]} and "
            f"{readout.shape[1]}; give (neuron, feature) and (neuron)"
        )
    number = max(len(weights), len(readout))
    if len(weights) not in (1, number) or len(readout) not in (1, number):
        raise ValueError(
            f"weights0 and readout0 must agree in the number of trajectories, got {len(weights)} and {len(readout)}; "
            "give one of them without that axis to use it for all"
        )
    return (
        np.broadcast_to(weights, (number, *weights.shape[1:])),
        np.broadcast_to(readout, (number, readout.shape[1])),
    )


def statistics_of(flows: Any) -> dict[str, Any]:
    """Return the variables that say how the integrations went."""
    meanings = "finished event step_too_small too_many_steps non_finite chattering"
    status = {"flag_values": list(range(6)), "flag_meanings": meanings}
    return {
        "status": ("trajectory", flows.status, status),
        "n_events": ("trajectory", flows.events),
        "n_steps": ("trajectory", flows.steps),
        "n_rejected": ("trajectory", flows.rejected),
        "n_evaluations": ("trajectory", flows.evaluations),
        "final_time": ("trajectory", flows.final_time),
    }


def accuracy_of(margins: Array, shares: Array) -> Array:
    """Return the share of positive margins, with one half for those of 0; NaN if there are NaN."""
    right = np.where(np.isnan(margins), np.nan, 0.5 + 0.5 * np.sign(margins))
    return np.asarray(right @ shares)


def _dataset(
    weights: Array, readout: Array, x: Array, y: Array, shares: Array, times: Array, loss: Loss, flows: Any
) -> xr.Dataset:
    import xarray as xr

    directions = np.stack([max_margin_direction(x[y == label]) for label in (-1.0, 1.0)])
    shape = readout.shape[:2]
    outputs, active, alignment = (np.empty((*shape, size)) for size in (y.size, readout.shape[2], 2))
    norm = np.linalg.norm(x, axis=1)
    block = max(1, _BLOCK // (readout.shape[2] * y.size))
    flat = [a.reshape(-1, *a.shape[2:]) for a in (weights, readout, outputs, active, alignment)]
    for first in range(0, shape[0] * shape[1], block):
        part = slice(first, first + block)
        w, z = flat[0][part], flat[1][part]
        pre = np.einsum("tid,nd->tin", w, x)
        flat[2][part] = np.einsum("ti,tin->tn", z, np.maximum(pre, 0.0))
        size = np.linalg.norm(w, axis=2)
        is_active = pre > ROUNDINGS * size[..., None] * norm
        flat[3][part] = np.where(np.isnan(size), np.nan, np.mean(is_active, axis=2))
        flat[4][part] = class_alignment(w, z, is_active, y, directions)
    margins = y * outputs
    return xr.Dataset(
        {
            "weights": (("trajectory", "time", "neuron", "feature"), weights),
            "readout": (("trajectory", "time", "neuron"), readout),
            "outputs": (("trajectory", "time", "sample"), outputs),
            "margins": (("trajectory", "time", "sample"), margins),
            "loss": (("trajectory", "time"), loss.value(margins) @ shares),
            "accuracy": (("trajectory", "time"), accuracy_of(margins, shares)),
            "conserved": (("trajectory", "time", "neuron"), readout**2 - np.sum(weights**2, axis=-1)),
            "active": (("trajectory", "time", "neuron"), active),
            "max_margin": (("class", "feature"), directions),
            "alignment": (("trajectory", "time", "class"), alignment),
            **statistics_of(flows),
        },
        {
            "trajectory": np.arange(shape[0]),
            "time": times,
            "neuron": np.arange(readout.shape[2]),
            "sample": np.arange(y.size),
            "feature": np.arange(x.shape[1]),
            "class": [-1, 1],
        },
    )
