r"""Margins under a constant kernel: :math:`\dot m = A\,g(m)/N` with :math:`A_{ij} = y_i K_{ij} y_j`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wideangle.losses import Loss

Array = NDArray[np.float64]

_RTOL = 1e-10
_ATOL = 1e-12
_STATIONARY = 1e-12
_LARGE_MARGIN = 40.0  # e^-40 is below the last digit of 1
_LARGE_LOG = 600.0


def slope_of_log_force(loss: Loss, margin: Array) -> Array:
    """Return -d ln g/dm, for losses whose force falls with the margin and does not vanish."""
    if loss.name == "exponential":
        return np.ones(margin.shape)
    return np.asarray(Loss("cross-entropy").force(-margin))  # 1/(1 + e^-m)


def log_drive(time: Array, kernel: float) -> Array:
    """Return ln(K t), -inf at time 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(math.log(kernel) + np.log(time))


def one_margin(loss: Loss, time: Array, kernel: float, margin: float) -> Array:
    """Return the margin (time) of one sample, for losses without an end."""
    drive = log_drive(time, kernel)
    if loss.name == "exponential" or margin > _LARGE_MARGIN:
        return np.logaddexp(margin, drive)
    from scipy.special import wrightomega

    # u + ln u = s with u = e^m. Beyond the range of floats u = s, but for a relative ln(s)/s.
    large = drive > _LARGE_LOG
    s = margin + math.exp(margin) + np.exp(np.where(large, -np.inf, drive))
    u = wrightomega(s)
    with np.errstate(divide="ignore"):
        result = np.where(s < 1.0, s - u, np.log(np.maximum(u, 0.1)))
    return np.where(large, drive, result)


def rates_of_steps(rates: Array, learning_rate: float) -> Array:
    """Return the rates at which modes decay under steps of descent, the given ones of the flow if their size is 0."""
    if learning_rate == 0.0:
        return rates
    largest = float(rates.max())
    if learning_rate * largest >= 1.0:
        raise ValueError(
            f"learning_rate must lie below 1 over the largest rate, {1.0 / largest:.4g}, got {learning_rate}, with "
            "which residuals are 0 after a step or change sign from step to step and have no rate; give a smaller one"
        )
    return np.asarray(-np.log1p(-learning_rate * rates) / learning_rate)


def squared_forces(time: Array, rates: Array, vectors: Array, force: Array) -> tuple[Array, Array]:
    """Return forces 1 - m (sample, time) from the modes, and how fast they fall."""
    modes = np.exp(-rates[:, None] * time) * (vectors.T @ force)[:, None]
    return np.asarray(vectors @ modes), np.asarray(vectors @ (rates[:, None] * modes))


def many_margins(loss: Loss, time: Array, matrix: Array, margin: Array) -> Array:
    """Integrate margins (sample, time) of cross-entropy and exponential loss; ``matrix`` is A/N.

    In theta with t = t_0 (e^theta - 1) margins, which grow like ln t, take steps of one size at all times. Fast modes
    of the kernel make the flow stiff, and one system of many samples with a dense Jacobian is what SciPy's Radau is
    for.
    """
    from scipy.integrate import solve_ivp

    speed = matrix @ loss.force(margin)
    unit = 1.0 / float(np.abs(speed).max()) if np.any(speed) else 1.0
    size = np.abs(matrix)

    def rhs(theta: float, m: Array) -> Array:
        return np.asarray(unit * math.exp(theta) * (matrix @ loss.force(m)))

    def jacobian(theta: float, m: Array) -> Array:
        return np.asarray(-unit * math.exp(theta) * matrix * (loss.force(m) * slope_of_log_force(loss, m)))

    def moving(theta: float, m: Array) -> float:
        force = loss.force(m)
        return float(np.max(np.abs(matrix @ force) - _STATIONARY * (size @ force)))

    moving.terminal = True  # type: ignore[attr-defined]
    thetas = np.log1p(time / unit)
    result = np.repeat(margin[:, None], len(time), axis=1)
    end = float(thetas.max())
    if end == 0.0 or moving(0.0, margin) <= 0.0:
        return result
    distinct, place = np.unique(thetas, return_inverse=True)
    found = solve_ivp(
        rhs,
        (0.0, end),
        margin,
        method="Radau",
        t_eval=distinct,
        jac=jacobian,
        events=moving,
        rtol=_RTOL,
        atol=_ATOL,
    )
    if found.status < 0:
        raise RuntimeError(f"the integration of the margins failed: {found.message}")
    n_left = len(distinct) - found.y.shape[1]
    margins = found.y
    if n_left:
        margins = np.hstack([margins, np.repeat(found.y_events[0][0][:, None], n_left, axis=1)])
    return np.asarray(margins[:, place])


def hinge_margins(time: Array, matrix: Array, margin: Array) -> tuple[Array, Array, Array]:
    """Return margins and forces (sample, time), and the time from which on each force is 0 for good, (sample,).

    Between the moments at which a margin reaches 1 all move at constant speed. One that is at 1 stays there where the
    others push it down and its own force up: its force lies between 0 and 1 then, which is the subgradient of least
    norm.
    """
    m, clock = margin.copy(), 0.0
    margins = np.repeat(margin[:, None], len(time), axis=1)
    forces = np.zeros_like(margins)
    last = np.zeros(len(m))
    for _ in range(20 * len(m) + 20):
        force = _hinge_force(matrix, m)
        speed = matrix @ force
        speed[np.abs(speed) < 1e-13 * (np.abs(matrix) @ force)] = 0.0
        toward = ((m < 1.0) & (speed > 0.0)) | ((m > 1.0) & (speed < 0.0))
        waits = np.where(toward, (1.0 - m) / np.where(toward, speed, 1.0), np.inf)
        until = clock + float(waits.min())
        inside = (time >= clock) & (time < until)
        margins[:, inside] = m[:, None] + speed[:, None] * (time[inside] - clock)
        forces[:, inside] = force[:, None]
        last[force > 0.0] = until
        if until == np.inf:
            return margins, forces, last
        reached = waits <= waits.min() * (1.0 + 1e-13)
        m = np.where(reached, 1.0, m + speed * waits.min())
        clock = until
    raise RuntimeError("the margins under the hinge keep meeting 1; give fewer samples or a better conditioned kernel")


def _hinge_force(matrix: Array, margin: Array) -> Array:
    from scipy.optimize import lsq_linear

    force = (margin < 1.0).astype(np.float64)
    at_kink = margin == 1.0
    if np.any(at_kink):
        values, vectors = np.linalg.eigh(matrix)
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        # Of the whole velocity of the parameters, whose square is force . A force.
        push = -(root @ force)
        if np.any(push):
            found = lsq_linear(root[:, at_kink], push, bounds=(0.0, 1.0), method="bvls", tol=1e-14).x
            force[at_kink] = np.where(found < 1e-12, 0.0, found)
    return force


def late_exponents(matrix: Array) -> Array:
    """Return the exponents q (sample) of g ~ t^-q; NaN where the samples can never all be right.

    With m = q ln t forces of samples at the margin are c/t, and q = A c/N with q >= 1, c >= 0 and c (q - 1) = 0: the
    kernel machine of maximal margin, a least-distance problem (Lawson, Hanson, Solving Least Squares Problems, ch. 23).
    """
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-12 * values[-1]
    features = vectors[:, kept] * np.sqrt(values[kept] / values[-1])
    target = np.append(np.zeros(int(kept.sum())), 1.0)
    constraints = np.vstack([features.T, np.ones(len(values))])
    rest = constraints @ nnls(constraints, target)[0] - target
    if np.linalg.norm(rest) < 1e-6:
        return np.full(len(values), np.nan)
    return np.asarray(features @ (-rest[:-1] / rest[-1]))
