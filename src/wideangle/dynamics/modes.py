"""Features that compete for the same samples: coupled modes under gradient flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import (
    check_flag,
    check_memory,
    check_numbers,
    check_threads,
)
from wideangle._provenance import provenance
from wideangle.dynamics._arguments import LARGEST, check_depth, check_times
from wideangle.dynamics._growth import Array
from wideangle.dynamics._network_arguments import check_control
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "gradient flow of modes, Tachet des Combes et al., arXiv 1809.06848"
_SUM_TOLERANCE = 1e-9
_FORCES = {"cross-entropy": (1.0, 1.0, 0.0), "exponential": (1.0, 0.0, 0.0), "squared": (0.0, 1.0, 1.0)}


def simulate_modes(
    features: ArrayLike,
    probabilities: ArrayLike,
    margins0: ArrayLike,
    times: ArrayLike,
    *,
    loss: str | Loss = "cross-entropy",
    imbalance: ArrayLike = 0.0,
    depth: int = 2,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    max_steps: int = 100_000,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Integrate coupled modes: features that share samples, and slow each other down.

    A sample of type :math:`\tau`, of frequency :math:`p_\tau`, shows feature k with strength :math:`F_{\tau k}`. Mode k
    is the chain of D factors that reads feature k, and :math:`m_k` their product. The sample's margin is
    :math:`M_\tau = \sum_k F_{\tau k} m_k`, and gradient flow of the mean loss gives

    .. math::

        \dot m_k = s_k \sum_\tau p_\tau F_{\tau k}\, g(M_\tau), \qquad
        s_k = \sqrt{C_k^2 + 4 m_k^2} \;(D = 2), \quad D\, m_k^{2-2/D} \;(\text{balanced}),

    with the force :math:`g = -\ell'` of the loss. With one type and one feature, :math:`F m` is the margin of
    :func:`predict_margin` at rate F.

    Parameters
    ----------
    features
        F (type, mode).
    probabilities
        p (type), or (trajectory, type); not negative, with sum 1.
    margins0
        m at time 0: (mode), or (trajectory, mode) for a batch. Not negative for depths above 2. A balanced mode of two
        or more factors that starts at 0 stays there.
    times
        Gradient-flow times (learning rate times steps), strictly increasing, not negative.
    loss
        ``"cross-entropy"`` (default), ``"hinge"``, ``"squared"`` or ``"exponential"``. The hinge takes features that
        are not negative.
    imbalance
        C, what distinguishes the squares of the two factors: a number, (mode) or (trajectory, mode). Its sign does not
        matter. Only for ``depth`` 2. Default 0.
    depth
        Number D of factors, default 2.
    rtol
        Relative error of a margin allowed in a step, from 1e-14 to 0.1. Balanced modes are integrated as
        :math:`\ln m_k`, others as :math:`\mathrm{asinh}(2m_k/C_k)`, so that margins of 1e-300 keep it.
    atol
        Absolute error allowed in a step where the margin itself is integrated, which is for depth 1.
    max_steps
        Steps after which a trajectory is given up; its status says so.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Without ``trajectory`` if nothing was a batch:

        - ``margins(trajectory, mode, time)``: :math:`m_k`; NaN from where an integration failed;
        - ``accuracy(trajectory, time)``: probability that the margin of a sample is positive, a margin of 0 counting
          one half;
        - ``expected_accuracy(trajectory, time)``: probability that a label drawn from the network's own probabilities
          :math:`1/(1+e^{-M})` is right, which rises as a sigmoid;
        - ``loss(trajectory, time)``: mean loss;
        - ``status(trajectory)``, 0 for finished, and ``n_steps(trajectory)``, as in
          :func:`wideangle.integrators.integrate`.

        The hinge is solved exactly, piece by piece, with ``n_steps`` 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C.

    Notes
    -----
    Gradient starvation (arXiv 1809.06848): with feature 1 in all samples and feature 2 in a fraction of them, the rarer
    one is starved, see :func:`predict_starvation`. The exact solution of the hinge between the moments at which a type
    reaches margin 1, where forces are constant, is derived: :math:`\ln m_k`, :math:`\mathrm{asinh}(2m_k/C_k)` or
    :math:`m_k^{2/D-1}` are linear in time.

    Examples
    --------
    >>> import wideangle as wa
    >>> both = wa.dynamics.simulate_modes([[1, 0], [1, 1]], [0.5, 0.5], [0.01, 0.01], [0, 10, 1000])
    >>> both.margins.round(3).values
    array([[0.01 , 2.953, 9.606],
           [0.01 , 0.162, 0.275]])
    >>> batch = wa.dynamics.simulate_modes([[1.0]], [1.0], [[0.01], [0.1]], [1.0, 2.0], loss="hinge")
    >>> dict(batch.margins.sizes)
    {'trajectory': 2, 'mode': 1, 'time': 2}
    """
    problem = check_modes(features, probabilities, margins0, imbalance, depth)
    problem = problem._replace(imbalance=np.abs(problem.imbalance))
    loss = parse_loss(loss)
    output_times = check_times(times)
    rtol, atol, max_steps = check_control(rtol, atol, max_steps)
    check_threads(n_threads)
    progress = check_flag("progress", progress)
    if loss.name == "hinge" and np.any(problem.features < 0.0):
        raise ValueError(
            f"features must not be negative with loss='hinge', got {problem.features.min()}; flip the sign of the "
            "feature, or take another loss"
        )
    number, modes = problem.margins0.shape
    check_memory(
        24 * number * modes * output_times.size,
        f"{number} trajectories of {modes} modes at {output_times.size} times need",
        remedy="ask for fewer times, or simulate parts of the batch one after another",
    )
    if loss.name == "hinge":
        margins = _solve_hinge(problem, output_times)
        status, steps = np.zeros(number, np.int8), np.zeros(number, np.int64)
        meanings: dict[str, Any] = {}
    else:
        margins, status, steps, meanings = _integrate(
            problem,
            loss,
            output_times,
            rtol=rtol,
            atol=atol,
            max_steps=max_steps,
            n_threads=n_threads,
            progress=progress,
        )
    dataset = _dataset(problem, loss, output_times, margins, status, steps, meanings)
    dataset.attrs = provenance(
        "wideangle.dynamics.simulate_modes",
        source=SOURCE,
        features=problem.features.ravel().tolist(),
        loss=loss.name,
        depth=problem.depth,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
    )
    return dataset


class Problem(NamedTuple):
    features: Array  # (type, mode)
    probabilities: Array  # (trajectory, type)
    margins0: Array  # (trajectory, mode)
    imbalance: Array  # (trajectory, mode)
    depth: int
    single: bool


def check_modes(features: Any, probabilities: Any, margins0: Any, imbalance: Any, depth: Any) -> Problem:
    """Return what describes coupled modes, in the shapes of a batch; the imbalance keeps its sign."""
    strengths = _floats("features", features, (2,), "give strengths (type, mode), such as [[1, 0], [1, 1]]")
    types, modes = strengths.shape
    shares = _floats("probabilities", probabilities, (1, 2), f"give (type) or (trajectory, type) for {types} type(s)")
    start = _floats("margins0", margins0, (1, 2), f"give (mode) or (trajectory, mode) for {modes} mode(s)")
    depth = check_depth(depth)
    gap = _floats("imbalance", imbalance, (0, 1, 2), f"give a number, (mode) or (trajectory, mode) for {modes} mode(s)")
    for name, array, size, of in (
        ("probabilities", shares, types, "features has {} type(s)"),
        ("margins0", start, modes, "features has {} mode(s)"),
        ("imbalance", gap, modes, "features has {} mode(s)"),
    ):
        if array.ndim > 0 and array.shape[-1] != size:
            raise ValueError(
                f"{name} must have {size} as its last dimension, since {of.format(size)}, got shape {array.shape}"
            )
    if np.any(shares < 0.0):
        raise ValueError(f"probabilities must not be negative, got {shares.min()}; give the frequencies of the types")
    sums = np.atleast_1d(shares.sum(axis=-1))
    worst = sums[np.argmax(np.abs(sums - 1.0))]
    if abs(worst - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"probabilities must sum to 1, got {worst:.12g}; divide them by their sum")
    if depth > 2 and np.any(start < 0.0):
        raise ValueError(
            f"margins0 must not be negative for depth {depth}, got {start.min()}; give products of factors"
        )
    if depth != 2 and np.any(gap != 0.0):
        raise ValueError(f"imbalance must be 0 for depth {depth}, got {gap[gap != 0.0][0]}; set depth=2 or imbalance=0")
    batches = {
        name: len(array)
        for name, array in (("probabilities", shares), ("margins0", start), ("imbalance", gap))
        if array.ndim == 2
    }
    number = max(batches.values(), default=1)
    if any(length not in (1, number) for length in batches.values()):
        lengths = ", ".join(f"{name} {length}" for name, length in batches.items())
        raise ValueError(f"the numbers of trajectories do not fit together: {lengths}; give the same number or one")
    return Problem(
        strengths,
        np.broadcast_to(shares, (number, types)),
        np.broadcast_to(start, (number, modes)),
        np.broadcast_to(gap, (number, modes)),
        depth,
        not batches,
    )


def _floats(name: str, value: Any, ndim: tuple[int, ...], remedy: str) -> Array:
    return check_numbers(name, value, ndim=ndim, remedy=remedy, largest=LARGEST)


def _solve_hinge(problem: Problem, times: Array) -> Array:
    from wideangle.dynamics import _hinge_modes

    if problem.depth == 1:
        grow: _hinge_modes.Grow = _hinge_modes.grow_linear
    elif problem.depth > 2:
        grow = _hinge_modes.grow_deep(problem.depth)
    elif np.any(problem.imbalance > 0.0):
        grow = _hinge_modes.grow_imbalanced(problem.imbalance)
    else:
        grow = _hinge_modes.grow_balanced
    return _hinge_modes.integrate_hinge(problem.features, problem.probabilities, problem.margins0, times, grow)


def _integrate(
    problem: Problem, loss: Loss, times: Array, *, rtol: float, atol: float, **options: Any
) -> tuple[Array, NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Return margins, status and steps, and what the status means."""
    from wideangle.dynamics import _mode_flow
    from wideangle.integrators import integrate

    start, gap, depth = problem.margins0, problem.imbalance, problem.depth
    number = len(start)
    signs = np.ones_like(start) if depth == 1 else np.where(gap > 0.0, 1.0, np.sign(start))
    strengths = problem.features[None] * signs[:, None, :]
    head = np.broadcast_to([*_FORCES[loss.name], float(depth)], (number, _mode_flow.HEAD))
    params = [head, problem.probabilities, strengths.reshape(number, -1)]
    # A mode of size 0 has sign 0: where its logarithm is does not matter.
    logs = np.log(np.where(start == 0.0, 1.0, np.abs(start)))
    if depth == 1:
        rhs, y0 = _mode_flow.linear, start
    elif depth > 2:
        rhs, y0 = _mode_flow.deep, logs
    elif not np.any(gap > 0.0):
        rhs, y0 = _mode_flow.balanced, logs
    else:
        rhs = _mode_flow.imbalanced
        safe = np.where(gap > 0.0, gap, 1.0)
        y0 = np.where(gap > 0.0, np.arcsinh(2.0 * start / safe), logs)
        params += [np.where(gap > 0.0, 0.25 * gap, 1.0), np.where(gap > 0.0, -0.25 * gap, 0.0)]
    # A step's error in a logarithm is a relative error.
    relative, absolute = (rtol, atol) if depth == 1 else (1e-14, rtol)
    grid = times if times[0] == 0.0 else np.concatenate([[0.0], times])
    if len(grid) == 1:
        grid = np.array([0.0, 1e-300])
    solution = integrate(rhs, y0, grid, params=np.concatenate(params, axis=1), rtol=relative, atol=absolute, **options)
    first = 0 if times[0] == 0.0 else 1
    y = solution["y"].values[:, first : first + len(times)].swapaxes(1, 2)
    with np.errstate(over="ignore"):
        if depth == 1:
            margins = y
        else:
            grown = signs[:, :, None] * np.exp(y)
            width = gap[:, :, None]
            margins = np.where(width > 0.0, 0.5 * width * np.sinh(y), grown) if np.any(gap > 0.0) else grown
    return margins, solution["status"].values, solution["n_steps"].values, dict(solution["status"].attrs)


def _dataset(
    problem: Problem,
    loss: Loss,
    times: Array,
    margins: Array,
    status: NDArray[Any],
    steps: NDArray[Any],
    meanings: dict[str, Any],
) -> xr.Dataset:
    import xarray as xr

    shares = problem.probabilities
    accuracy, expected, mean_loss = (np.zeros((len(margins), times.size)) for _ in range(3))
    for tau, row in enumerate(problem.features):
        margin = np.einsum("k,ikt->it", row, margins)
        share = shares[:, tau, None]
        accuracy += share * np.where(np.isnan(margin), np.nan, np.heaviside(margin, 0.5))
        with np.errstate(over="ignore"):
            expected += share / (1.0 + np.exp(-margin))
        mean_loss += share * loss.value(margin)
    dataset = xr.Dataset(
        {
            "margins": (("trajectory", "mode", "time"), margins),
            "accuracy": (("trajectory", "time"), accuracy),
            "expected_accuracy": (("trajectory", "time"), expected),
            "loss": (("trajectory", "time"), mean_loss),
            "status": ("trajectory", status, meanings),
            "n_steps": ("trajectory", steps),
        },
        {"trajectory": np.arange(len(margins)), "mode": np.arange(margins.shape[1]), "time": times},
    )
    return dataset.isel(trajectory=0, drop=True) if problem.single else dataset
