"""Which neurons learn a class, which are rescued, and which die: phase diagrams of initial values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_choice, check_flag, check_numbers, check_positive_real, check_rtol, check_threads
from wideangle._provenance import provenance
from wideangle.dynamics._growth import Array
from wideangle.dynamics._phase import DIES, INACTIVE, LEARNS, PHASES, RESCUED, Neurons
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "phases of a ReLU neuron, Tachet des Combes et al., arXiv 1809.06848; times derived"
METHODS = ("integrate", "closed-form")
_UNDECIDED = len(PHASES)
_FORCES = {
    "cross-entropy": (1.0, 1.0, 0.0, 0.0),
    "exponential": (1.0, 0.0, 0.0, 0.0),
    "squared": (0.0, 1.0, 1.0, 0.0),
    "hinge": (0.0, 1.0, 0.0, 1.0),
}


def phase_diagram(
    readout: ArrayLike,
    projection: ArrayLike,
    *,
    frequency: float = 1.0,
    input_norm: float = 1.0,
    loss: str | Loss = "cross-entropy",
    margin: float = 1.0,
    time: float = 1000.0,
    method: str = "integrate",
    rtol: float = 1e-8,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Find the fate of neurons by their initial values: which learn, are rescued, die or stay.

    A ReLU neuron with readout z (times the label) and weights w sees a class of frequency p, whose inputs point along
    :math:`\hat x` with norm r, through the projection :math:`u = w\cdot\hat x`. While u > 0,

    .. math:: \dot z = p\,r\,g(m)\,u, \qquad \dot u = p\,r\,g(m)\,z, \qquad m = r z u,

    and :math:`z^2 - u^2` stays the same. It *learns* if z >= 0 and u > 0; is *rescued* if z < 0 and \|z\| < u: z
    changes its sign first, and the neuron learns after all; *dies* if z < 0 and \|z\| > u: u gets to 0 and the neuron
    is off for good; *stays* inactive if u <= 0. The part of w across :math:`\hat x` neither moves nor matters.

    Parameters
    ----------
    readout
        Initial z times the label (readout).
    projection
        Initial u (projection).
    frequency
        p, share of the class in the data, 0 < p <= 1. Default 1.
    input_norm
        r, positive. Default 1.
    loss
        ``"cross-entropy"`` (default), ``"hinge"``, ``"squared"`` or ``"exponential"``.
    margin
        Positive margin at which a neuron counts as converged; default 1, where the hinge stops.
    time
        Gradient-flow time (learning rate times steps) up to which neurons are followed; default 1000.
    method
        ``"integrate"`` (default): the flow by :func:`wideangle.integrators.integrate`, phases read off its events.
        ``"closed-form"``: phases and times in closed form or by quadrature, see :func:`predict_learning_time`.
    rtol
        Relative error allowed in a step of the integration.
    n_threads
        Threads; default every processor available.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Over (readout, projection), with the initial values as coordinates:

        - ``phase``: 0 learns, 1 rescued, 2 dies, 3 stays, 4 undecided, which has neither turned nor converged by
          ``time`` (attributes ``flag_values``, ``flag_meanings``). With ``"closed-form"`` no neuron is undecided but
          those on the boundary z = -u, which takes for ever;
        - ``convergence_time``: time to ``margin``; NaN where it is not reached by ``time``, 0 where it is exceeded from
          the start;
        - ``turning_time``: when z of a rescued or u of a dying neuron gets to 0; NaN for others, or after ``time``.

        And for the closed-form boundaries, over ``projection``:

        - ``boundary(boundary_name, projection)``: readouts of the lines z = -u ("fate"), below which neurons die, and
          z = 0 ("rescue"), below which they have to be rescued; NaN for u <= 0;
        - ``converged_boundary(projection)``: the readout from which on neurons are beyond ``margin`` from the start.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> grid = np.array([-1.0, -0.2, 0.4])
    >>> diagram = wa.dynamics.phase_diagram(grid, grid, loss="hinge")
    >>> diagram.phase.values
    array([[3, 3, 2],
           [3, 3, 1],
           [3, 3, 0]], dtype=int8)
    >>> diagram.convergence_time.round(3).values[:, 2]
    array([  nan, 2.303, 0.916])
    """
    z, u = _axis("readout", readout), _axis("projection", projection)
    p = check_positive_real(
        "frequency", frequency, remedy="give the share of the class in the data, 0 < frequency <= 1"
    )
    if p > 1.0:
        raise ValueError(f"frequency must be at most 1, got {frequency!r}; give the share of the class in the data")
    r = check_positive_real("input_norm", input_norm, remedy="give the norm of the inputs, such as 1")
    goal = check_positive_real("margin", margin, remedy="give the margin at which a neuron has converged, such as 1")
    horizon = check_positive_real("time", time, remedy="give a time, such as 1000")
    kind = parse_loss(loss)
    method = check_choice("method", method, METHODS)
    rtol = check_rtol(rtol)
    check_threads(n_threads)
    progress = check_flag("progress", progress)

    grid_z, grid_u = (np.ascontiguousarray(a) for a in np.broadcast_arrays(z[:, None], u[None, :]))
    neurons = Neurons(grid_z.ravel(), grid_u.ravel(), p, r, kind.name)
    if method == "closed-form":
        phase, converged, turned = _in_closed_form(neurons, goal, horizon)
    else:
        phase, converged, turned = _by_integration(
            neurons, goal, horizon, rtol=rtol, n_threads=n_threads, progress=progress
        )
    dataset = _dataset(z, u, phase, converged, turned, goal / r)
    dataset.attrs = provenance(
        "wideangle.dynamics.phase_diagram",
        source=SOURCE,
        frequency=p,
        input_norm=r,
        loss=kind.name,
        margin=goal,
        time=horizon,
        method=method,
        rtol=rtol,
    )
    return dataset


def _axis(name: str, value: Any) -> Array:
    remedy = "give a one-dimensional array of initial values, such as np.linspace(-2, 2, 101)"
    return check_numbers(name, value, ndim=(1,), remedy=remedy, largest=1e50)


def _in_closed_form(neurons: Neurons, goal: float, horizon: float) -> tuple[NDArray[np.int8], Array, Array]:
    turned, converged = neurons.turning_time(), neurons.learning_time(goal)
    converged = np.where(neurons.margin >= goal, 0.0, converged)
    phase = neurons.phase
    on_the_line = (neurons.readout == -neurons.projection) & (neurons.projection > 0.0)
    phase = np.where(on_the_line, np.int8(_UNDECIDED), phase)
    # A squared loss brings margins above 1 down: their times to larger ones are past.
    ahead = (converged >= 0.0) & (converged <= horizon)
    return phase, np.where(ahead, converged, np.nan), np.where(turned <= horizon, turned, np.nan)


def _by_integration(
    neurons: Neurons, goal: float, horizon: float, *, rtol: float, **options: Any
) -> tuple[NDArray[np.int8], Array, Array]:
    from wideangle.dynamics import _neuron_flow as flow
    from wideangle.integrators import Event, integrate

    z, u = neurons.readout, neurons.projection
    phase = np.full(z.shape, _UNDECIDED, np.int8)
    converged, turned = np.full(z.shape, np.nan), np.full(z.shape, np.nan)
    phase[u <= 0.0] = INACTIVE
    there = (u > 0.0) & (z > 0.0) & (neurons.margin >= goal)
    phase[there], converged[there] = LEARNS, 0.0
    # At a margin of 1 the hinge stops, and the squared loss takes for ever.
    reachable = goal
    if goal > 1.0 and neurons.loss == "hinge":
        reachable = 1.0
    elif goal >= 1.0 and neurons.loss == "squared":
        reachable = 1e300
    moving = (u > 0.0) & ~there
    if neurons.loss == "hinge":
        moving &= neurons.margin < 1.0
    phase[(u > 0.0) & (z >= 0.0)] = LEARNS
    if not np.any(moving):
        return phase, converged, turned
    constants = [neurons.frequency * neurons.input_norm, neurons.input_norm, *_FORCES[neurons.loss], reachable]
    solution = integrate(
        flow.flow,
        np.stack([z[moving], u[moving]], axis=1),
        [0.0, horizon],
        params=constants,
        rtol=rtol,
        atol=1e-12,
        events=[
            Event(flow.projection, terminal=True, direction=-1),
            Event(flow.readout, direction=1, max_count=1),
            Event(flow.learned, terminal=True, direction=1),
        ],
        **options,
    )
    died, crossed, learned = solution["event_time"].values[:, :, 0].T
    fate = phase[moving]
    fate[~np.isnan(died)] = DIES
    fate[~np.isnan(crossed) & (z[moving] < 0.0)] = RESCUED
    phase[moving] = fate
    turned[moving] = np.where(z[moving] < 0.0, np.where(np.isnan(died), crossed, died), np.nan)
    if reachable == goal:
        converged[moving] = learned
    return phase, converged, turned


def _dataset(
    z: Array, u: Array, phase: NDArray[np.int8], converged: Array, turned: Array, product: float
) -> xr.Dataset:
    import xarray as xr

    shape = (z.size, u.size)
    dims = ("readout", "projection")
    flags = {"flag_values": [*range(len(PHASES)), _UNDECIDED], "flag_meanings": "learns rescued dies stays undecided"}
    on = u > 0.0
    with np.errstate(divide="ignore"):
        beyond = np.where(on, product / np.where(on, u, 1.0), np.nan)
    lines = np.stack([np.where(on, -u, np.nan), np.where(on, 0.0, np.nan)])
    return xr.Dataset(
        {
            "phase": (dims, phase.reshape(shape), flags),
            "convergence_time": (dims, converged.reshape(shape)),
            "turning_time": (dims, turned.reshape(shape)),
            "boundary": (("boundary_name", "projection"), lines),
            "converged_boundary": ("projection", beyond),
        },
        {"readout": z, "projection": u, "boundary_name": ["fate", "rescue"]},
    )
