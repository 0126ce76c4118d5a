"""One mode under gradient flow: the time it needs to a given margin, and the margin at a given time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_choice, check_numbers
from wideangle.dynamics import _inversion
from wideangle.dynamics._arguments import (
    broadcast,
    check_depth,
    check_imbalance,
    check_margins,
    check_positive,
)
from wideangle.dynamics._growth import Array, Growth, Mask
from wideangle.losses import LOSSES, Loss

_RATE = "give frequency times input norm, p r, in 1/time"


def predict_learning_time(
    margin: ArrayLike,
    margin0: ArrayLike,
    *,
    rate: ArrayLike = 1.0,
    loss: str | Loss = "cross-entropy",
    depth: int = 2,
    imbalance: ArrayLike = 0.0,
) -> Any:
    r"""Predict the time that gradient flow takes to bring one mode from ``margin0`` to ``margin``.

    A mode is a feature that the samples of one class share and the chain of factors that reads it. With its frequency p
    in the data and its norm r, the margin :math:`m = y f` of these samples follows

    .. math::

        \dot m = p\,r\,g(m)\,D\,m^{2-2/D} \quad\text{(balanced chain of D factors)}, \qquad
        \dot m = p\,r\,g(m)\sqrt{C^2 + 4m^2} \quad\text{(D = 2, imbalance C)},

    where :math:`g = -\ell'` is the force of the loss. For one hidden ReLU layer, :math:`m = r z u` with readout z and
    projection u of the weights on the feature, and :math:`C = r(z^2 - u^2)` does not change.

    Parameters
    ----------
    margin
        Margin to be reached.
    margin0
        Margin at time 0, positive; of any sign if ``imbalance`` is not 0 or ``depth`` is 1, since the mode then passes
        through zero (with ``depth`` 2, while its projection is positive: from a negative margin only neurons with
        \|z\| < u do, the others die there).
    rate
        p r, frequency times input norm, positive.
    loss
        ``"cross-entropy"``, ``"hinge"``, ``"squared"`` or ``"exponential"``, see :mod:`wideangle.losses`.
    depth
        Number D of factors: 2 for one hidden layer, 1 for a linear model, where :math:`\dot m = p\,r\,g(m)`.
    imbalance
        C above, in units of the margin: r times the conserved :math:`z^2 - u^2`. Its sign does not matter. Only for
        ``depth`` 2.

    Returns
    -------
    numpy.ndarray or float
        Gradient-flow time (learning rate times steps), of the shape to which the arguments broadcast. ``inf`` where the
        margin is never reached (hinge beyond 1, squared at 1 or across it) or the time exceeds the range of floats.
        Negative where the flow passed through ``margin`` before ``margin0``, so that times add up along a trajectory; 0
        where the two are equal. Relative error below 5e-14 for ``margin0`` of at least 1e-300, also for margins that
        differ in the last digits alone.

    Raises
    ------
    TypeError, ValueError
        If an argument is not real and finite, a margin exceeds 1e100, ``rate`` is not positive, a margin of a balanced
        mode of two or more factors is not positive, an imbalance is given for another depth, or the shapes do not
        broadcast.

    Notes
    -----
    Balanced, depth 2 (Tachet des Combes et al., arXiv 1809.06848):

    .. math::

        2prt = \ln\frac{m}{m_0} + \begin{cases} \mathrm{Ei}(m) - \mathrm{Ei}(m_0) & \text{cross-entropy} \\
        0 & \text{hinge, } m \le 1 \end{cases}

    and, by the same separation of variables, :math:`\mathrm{Ei}(m) - \mathrm{Ei}(m_0)` alone for the exponential loss
    and :math:`\ln\frac{m(1-m_0)}{m_0(1-m)}` for the squared one. Derived here: a force of 1 takes
    :math:`prt = [m_0^{-k} - m^{-k}]/(D-2)`, :math:`k = 1 - 2/D`, for other depths, and
    :math:`2prt = \mathrm{asinh}\frac{2m}{C} - \mathrm{asinh}\frac{2m_0}{C}` with imbalance; there the squared loss
    takes :math:`\sqrt{C^2+4}\,prt = \mathrm{asinh}\frac{C^2+4m}{2C(1-m)} - \mathrm{asinh}\frac{C^2+4m_0}{2C(1-m_0)}`.
    All of these are evaluated without differences of nearly equal numbers. Ei and, at other depths, the incomplete
    gamma function :math:`\int m^{2/D-2}e^m dm` are summed as power series below 1, and are integrated by 64
    Gauss-Legendre nodes over the last 45 units of the margin above 1, where the rest is below 1e-19. With imbalance no
    closed form is known for the exponential and cross-entropy losses: below 1 the same quadrature runs in
    :math:`\mathrm{asinh}(2m/C)`, or in m for C > 1/2.

    Examples
    --------
    >>> import wideangle as wa
    >>> wa.dynamics.predict_learning_time([0.1, 1.0, 2.0], 0.01, loss="hinge").round(4)
    array([1.1513, 2.3026,    inf])
    >>> wa.dynamics.predict_learning_time([1.0, 10.0], 0.01).round(4)
    array([   5.2591, 1251.5773])
    """
    arguments = _check(loss, depth, imbalance, rate, margin0=margin0, margin=margin)
    return _shaped(*_learning_times(*arguments))


def predict_margin(
    time: ArrayLike,
    margin0: ArrayLike,
    *,
    rate: ArrayLike = 1.0,
    loss: str | Loss = "cross-entropy",
    depth: int = 2,
    imbalance: ArrayLike = 0.0,
) -> Any:
    r"""Predict the margin of one mode at a time of gradient flow: the inverse of :func:`predict_learning_time`.

    Parameters
    ----------
    time
        Gradient-flow time (learning rate times steps), not negative.
    margin0, rate, loss, depth, imbalance
        As for :func:`predict_learning_time`.

    Returns
    -------
    numpy.ndarray or float
        Margin, of the shape to which the arguments broadcast. Under the hinge it is exactly 1 from the time on at which
        it gets there, and stays where it is if it began above; under the squared loss it approaches 1. Its error is
        below 1e-14 of the margin plus what a relative error of 5e-14 in the time changes, dm/dt times 5e-14 t: small
        but for tiny initial margins of deep modes, which spend nearly all the time near where they start.

    Raises
    ------
    TypeError, ValueError
        As :func:`predict_learning_time` does, and if a time is negative.

    Notes
    -----
    Closed forms, derived by inverting those of :func:`predict_learning_time`, for the hinge at every depth and
    imbalance and for the squared loss up to depth 2; safeguarded Newton iterations otherwise. Late under cross-entropy,
    :math:`m \approx \ln(prt\,h(m))` with the h of :math:`\dot m = p\,r\,g\,h`.

    Examples
    --------
    >>> import wideangle as wa
    >>> wa.dynamics.predict_margin([0.0, 1.0, 10.0, 1e3, 1e300], 0.01).round(2)
    array([1.0000e-02, 3.0000e-02, 3.0500e+00, 9.7400e+00, 6.9802e+02])
    >>> wa.dynamics.predict_margin([1.0, 3.0], 0.01, loss="hinge").round(4)
    array([0.0739, 1.    ])
    """
    times = check_numbers("time", time, remedy="give times of gradient flow, 0 or later")
    if np.any(times < 0.0):
        raise ValueError(f"time must not be negative, got {times.min()}; give times of gradient flow, 0 or later")
    name, depth, shape, (times, start, rates, c) = _check(loss, depth, imbalance, rate, margin0=margin0, time=times)
    result = start.copy()
    later = times > 0.0
    result[later] = margins_at(name, Growth(depth, c[later]), start[later], times[later], rates[later])
    return _shaped(shape, result)


def margins_at(loss: str, growth: Growth, margin0: Array, time: Array, rate: Array) -> Array:
    """Return margins at positive times, arrays of one dimension."""
    with np.errstate(over="ignore"):
        free = rate * time
        if loss == "hinge":
            return _inversion.hinge_margin(growth, margin0, free)
        if loss == "squared":
            return _inversion.squared_margin(growth, margin0, free)
        log_time = np.log(rate) + np.log(time)
        return _inversion.exponential_tail_margin(growth, margin0, free, log_time, logistic=loss == "cross-entropy")


def reachable(loss: str, margin: Array, margin0: Array) -> Mask:
    """Return where the flow through ``margin0`` passes through ``margin`` at all, sooner or later."""
    if loss == "hinge":
        return (margin0 < 1.0) & (margin <= 1.0)
    if loss == "squared":
        return (margin0 - 1.0) * np.sign(margin - 1.0) > 0.0
    return np.ones(margin.shape, dtype=np.bool_)


def elapsed(loss: str, growth: Growth, lo: Array, hi: Array, rate: Array) -> Array:
    """Return the time between two margins, without sign."""
    with np.errstate(over="ignore"):
        if loss == "squared":
            return growth.linear_time(lo, hi) / rate
        result = np.zeros(lo.shape)
        if loss != "exponential":
            result += growth.free_time(lo, hi) / rate
        if loss != "hinge":
            result += growth.exponential_time(lo, hi, np.log(rate))
        return result


def _learning_times(
    loss: str, depth: int, shape: tuple[int, ...], arrays: list[Array]
) -> tuple[tuple[int, ...], Array]:
    target, start, rates, c = arrays
    result = np.where(target == start, 0.0, np.inf)
    chosen = reachable(loss, target, start) & (target != start)
    m, m0 = target[chosen], start[chosen]
    times = elapsed(loss, Growth(depth, c[chosen]), np.minimum(m, m0), np.maximum(m, m0), rates[chosen])
    falling = (m0 > 1.0) if loss == "squared" else np.zeros(m.shape, dtype=np.bool_)
    result[chosen] = np.where((m > m0) ^ falling, times, -times)
    return shape, result


def _check(
    loss: Any, depth: Any, imbalance: Any, rate: Any, *, margin0: Any, **subject: Any
) -> tuple[str, int, tuple[int, ...], list[Array]]:
    """Return the name of the loss, the depth, the common shape, and subject, margin0, rate and |imbalance|."""
    name = loss.name if isinstance(loss, Loss) else check_choice("loss", loss, LOSSES)
    depth = check_depth(depth)
    c = check_imbalance(imbalance, depth)
    rates = check_positive("rate", rate, remedy=_RATE)
    margins = {"margin0": check_margins("margin0", margin0)}
    if "margin" in subject:
        margins["margin"] = subject["margin"] = check_margins("margin", subject["margin"])
    for what, values in margins.items():
        _check_signs(what, values, depth, c)
    shape, arrays = broadcast(**subject, margin0=margins["margin0"], rate=rates, imbalance=c)
    return name, depth, shape, arrays


def _check_signs(name: str, margins: Array, depth: int, c: Array) -> None:
    if depth == 1 or (np.all(margins > 0.0)) or np.all(c > 0.0):
        return
    try:
        wrong = (margins <= 0.0) & (c == 0.0)
    except ValueError:  # shapes that do not broadcast are reported with all the others
        return
    if np.any(wrong):
        raise ValueError(
            f"{name} must be positive where imbalance is 0, got {margins.min()}: a balanced mode never leaves or "
            f"crosses zero; give a positive {name}, or the imbalance r (z^2 - u^2) with depth=2"
        )


def _shaped(shape: tuple[int, ...], values: Array) -> Any:
    return values.reshape(shape)[()]
