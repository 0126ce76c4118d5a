"""Two features that compete for the same samples: how the more frequent one starves the rarer one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_numbers, check_positive_real
from wideangle._provenance import provenance
from wideangle.dynamics import _inversion
from wideangle.dynamics._arguments import check_depth, check_margins
from wideangle.dynamics._growth import Array, Growth, Index
from wideangle.dynamics.learning_time import elapsed, margins_at
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "wideangle: power law of starvation and its bounds; the phenomenon: arXiv 1809.06848"


def predict_starvation(
    fraction: ArrayLike,
    margins0: ArrayLike,
    times: ArrayLike,
    *,
    loss: str | Loss = "cross-entropy",
    depth: int = 2,
    strengths: ArrayLike = (1.0, 1.0),
    threshold: float = 0.1,
) -> xr.Dataset:
    r"""Predict how a feature that only a fraction of the samples has is starved by one that all of them have.

    A fraction :math:`\lambda` of the samples has both features, the others feature 1 alone. In the notation of the
    modes of a network, features :math:`F = [[f_1, 0], [f_1, f_2]]` with probabilities :math:`(1-\lambda, \lambda)`:

    .. math::

        \dot m_1 = D m_1^{2-2/D} f_1 [(1-\lambda)\, g(f_1 m_1) + \lambda\, g(f_1 m_1 + f_2 m_2)], \qquad
        \dot m_2 = D m_2^{2-2/D} f_2 \lambda\, g(f_1 m_1 + f_2 m_2).

    While :math:`f_2 m_2 \ll 1`, feature 1 learns as if alone, and feature 2 follows it by a power law: for D = 2

    .. math:: \frac{m_2}{m_2(0)} = \Bigl(\frac{m_1}{m_1(0)}\Bigr)^\kappa, \qquad \kappa = \lambda f_2/f_1.

    Since :math:`m_1 \sim \ln t` under cross-entropy, :math:`m_2` grows like :math:`(\ln t)^\kappa` only.

    Parameters
    ----------
    fraction
        :math:`\lambda`, 0 < fraction <= 1, or an array of them (trajectory).
    margins0
        Positive initial margins :math:`m_1, m_2`, of shape (2,) or (trajectory, 2).
    times
        Gradient-flow times, one-dimensional, not negative.
    loss
        ``"cross-entropy"``, ``"hinge"``, ``"squared"`` or ``"exponential"``, see :mod:`wideangle.losses`.
    depth
        Number D of factors of each mode, 2 for one hidden layer.
    strengths
        :math:`f_1, f_2`, the norms of the features, positive.
    threshold
        Margin of feature 2 for ``threshold_time``.

    Returns
    -------
    xarray.Dataset
        ``margins(mode, time)``: the law. Mode 0 is the feature of all samples, mode 1 that of a fraction. Both are
        upper bounds at all times; ``lower_bound(mode, time)`` is the other side, and where the two are close the law
        applies (0: no statement). ``exponent``, :math:`\kappa`. ``threshold_time``, the time at which the law takes
        feature 2 to ``threshold`` (0 if it starts above, ``inf`` if never), so that it is smaller before that for
        certain. With the hinge ``margins`` is exact instead of a bound, and there are ``saturation_time``, when the
        samples with both features leave the loss and feature 2 freezes; ``frozen_margin``, its value from then on; and
        ``final_time``, when the other samples leave it too (``inf`` for fraction 1). All get a dimension
        ``trajectory``, with ``fraction`` as a coordinate, if ``fraction`` or ``margins0`` has one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not real and finite or of the wrong shape, a fraction lies outside (0, 1], a margin, strength
        or the threshold is not positive, or a time is negative.

    Notes
    -----
    Derived here. With :math:`u_k = \int dm_k/(D m_k^{2-2/D})` and :math:`\rho = g(f_1 m_1 + f_2 m_2)/g(f_1 m_1)`,

    .. math:: \frac{du_2}{du_1} = \kappa\,\frac{\rho}{1 - \lambda + \lambda\rho},

    and :math:`\rho \to 1` for small :math:`m_2`, so :math:`u_2 = \kappa u_1`; for D = 2, :math:`u = \frac12\ln m`. For
    D > 2, :math:`u_1` is bounded, and so is :math:`m_2` however long one trains: from equal margins and strengths it
    grows by :math:`(1-\lambda)^{-D/(D-2)}` and no more. Forces fall with the margin, hence :math:`\rho \le 1` and the
    law is an upper bound, with :math:`m_1` that of feature 1 alone. At these upper bounds :math:`\rho` takes its
    smallest value up to then; the lower bound has the rate and the exponent of that value. It needs :math:`\rho > 0`,
    which fails under the squared loss when :math:`f_2 m_2 > 1 - f_1 m_1`: feature 2 is unlearnt in the end.

    Under the hinge both modes move under a force of 1 until :math:`f_1 m_1 + f_2 m_2 = 1`. The samples with both
    features leave first, therefore feature 2 freezes before feature 1 reaches the margin, which it does at the rate
    :math:`1-\lambda`. For D = 2 the frozen value follows from :math:`x + f_2 m_2(0) (x/x_0)^\kappa = 1` with :math:`x_0
    = f_1 m_1(0)`; it is :math:`m_2(0)\,(x/x_0)^\kappa`, below the :math:`m_2(0)\,x_0^{-\kappa}` that freezing at
    :math:`f_1 m_1 = 1` would give.

    Examples
    --------
    >>> import wideangle as wa
    >>> law = wa.dynamics.predict_starvation([0.1, 0.5], [1e-3, 1e-3], [10.0, 1e3, 1e6])
    >>> law.margins.sel(mode=1).round(5).values
    array([[0.00216, 0.00251, 0.00265],
           [0.04746, 0.0987 , 0.13151]])
    >>> hinge = wa.dynamics.predict_starvation(0.5, [1e-3, 1e-3], [10.0], loss="hinge")
    >>> float(hinge.frozen_margin.round(5))
    0.03113
    """
    import xarray as xr

    loss = parse_loss(loss)
    problem = _Problem(fraction, margins0, times, check_depth(depth), strengths)
    if loss.name == "squared" and np.any(problem.f1 * problem.margin1 >= 1.0):
        raise ValueError(
            f"margins0 must begin with margins below 1/f1 = {1.0 / problem.f1:g} for the squared loss, got "
            f"{problem.margin1.max()}; feature 1 must have something to learn"
        )
    threshold = check_positive_real("threshold", threshold, remedy="give a small positive margin, such as 0.1")
    quantities = _hinge(problem, threshold) if loss.name == "hinge" else _law(problem, loss, threshold)
    batch = ("trajectory",) if problem.batched else ()
    variables: dict[str, Any] = {}
    for name, values in {**quantities, "exponent": problem.exponent}.items():
        inner = ("mode", "time") if values.ndim == 3 else ()
        variables[name] = ((*batch, *inner), values if problem.batched else values[0])
    attributes = provenance(
        "predict_starvation",
        source=SOURCE,
        loss=loss.name,
        depth=problem.depth,
        strengths=[problem.f1, problem.f2],
        threshold=threshold,
    )
    coordinates = {
        "mode": np.arange(2),
        "time": problem.times,
        "fraction": (batch, problem.fraction if problem.batched else problem.fraction[0]),
    }
    if problem.batched:
        coordinates["trajectory"] = np.arange(problem.fraction.size)
    return xr.Dataset(variables, coordinates, attributes)


class _Problem:
    """The arguments, checked, with a dimension for trajectories throughout."""

    def __init__(self, fraction: Any, margins0: Any, times: Any, depth: int, strengths: Any) -> None:
        fractions = check_numbers("fraction", fraction, remedy="give the fraction of samples with feature 2, 0 to 1")
        margins = check_margins("margins0", margins0)
        self.times = check_numbers("times", times, remedy="give gradient-flow times, a one-dimensional array")
        pair = check_numbers("strengths", strengths, remedy="give two positive norms of features")
        if fractions.ndim > 1 or np.any((fractions <= 0.0) | (fractions > 1.0)):
            raise ValueError(f"fraction must be one number, or an array of numbers, in (0, 1], got {fraction!r}")
        if margins.ndim not in (1, 2) or margins.shape[-1] != 2 or np.any(margins <= 0.0):
            raise ValueError(f"margins0 must hold positive margins, of shape (2,) or (trajectory, 2), got {margins0!r}")
        if self.times.ndim != 1 or np.any(self.times < 0.0):
            raise ValueError(f"times must be one-dimensional and not negative, got {times!r}")
        if pair.shape != (2,) or np.any(pair <= 0.0):
            raise ValueError(f"strengths must be two positive numbers, got {strengths!r}")
        self.batched = fractions.ndim == 1 or margins.ndim == 2
        margins = np.atleast_2d(margins)
        n = max(fractions.size, len(margins))
        if not {fractions.size, len(margins)} <= {1, n}:
            raise ValueError(
                f"fraction and margins0 must have one length, got {fractions.size} and {len(margins)}; "
                f"give one of them once, or both for each trajectory"
            )
        self.depth, self.f1, self.f2 = depth, float(pair[0]), float(pair[1])
        self.fraction = np.broadcast_to(fractions.ravel(), n)
        self.margin1, self.margin2 = (np.broadcast_to(column, n) for column in margins.T)

    @property
    def exponent(self) -> Array:
        return self.fraction * (self.f2 / self.f1)

    @property
    def growth(self) -> Growth:
        return Growth(self.depth, np.zeros(self.fraction.shape))

    @property
    def rate(self) -> float:
        """Rate of f1 m1, the margin of the samples with feature 1 alone."""
        return float(self.f1 ** (2.0 / self.depth))

    def over_times(self, values: Array) -> Array:
        """Return a value of each trajectory for each time, in one dimension."""
        return np.repeat(values, self.times.size)

    def all_times(self) -> Array:
        return np.tile(self.times, self.fraction.size)


def _law(problem: _Problem, loss: Loss, threshold: float) -> dict[str, Array]:
    margins, shape = _margins_at_slowdown(problem, loss, np.ones(problem.fraction.size * problem.times.size))
    slowdown = np.maximum(_force_ratio(loss, problem.f1 * margins[0], problem.f2 * margins[1]), 0.0)
    lower, _ = _margins_at_slowdown(problem, loss, slowdown)
    if loss.name == "squared":
        lower = np.where(slowdown > 0.0, lower, 0.0)
    return {
        "margins": np.moveaxis(margins.reshape(shape), 0, 1),
        "lower_bound": np.moveaxis(lower.reshape(shape), 0, 1),
        "threshold_time": _threshold_time(problem, loss, threshold),
    }


def _margins_at_slowdown(problem: _Problem, loss: Loss, ratio: Array) -> tuple[Array, tuple[int, int, int]]:
    """Return both margins if the force on the samples with both features is ``ratio`` times that on the others."""
    part = problem.over_times(problem.fraction)
    left = 1.0 - part + part * ratio
    m1, m2 = problem.over_times(problem.margin1), problem.over_times(problem.margin2)
    growth, times = Growth(problem.depth, np.zeros(part.shape)), problem.all_times()
    first = m1.copy()
    moving = (times > 0.0) & (left > 0.0)
    rate, start = problem.rate * left[moving], problem.f1 * m1[moving]
    first[moving] = margins_at(loss.name, growth[moving], start, times[moving], rate) / problem.f1
    free = growth.free_time(m1, first)
    share = problem.over_times(problem.exponent) * np.divide(ratio, left, out=np.ones(left.shape), where=left > 0.0)
    second = growth.advance(m2, share * free)
    return np.stack([first, second]), (2, problem.fraction.size, problem.times.size)


def _force_ratio(loss: Loss, margin: Array, more: Array) -> Array:
    """Return g(margin + more)/g(margin) also where the forces underflow."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if loss.name == "squared":
            return 1.0 - more / (1.0 - margin)
        rest = np.exp(-margin) if loss.name == "cross-entropy" else np.zeros(margin.shape)
        return np.asarray((1.0 + rest) / (np.exp(more) + rest))


def _threshold_time(problem: _Problem, loss: Loss, threshold: float) -> Array:
    goal = np.full(problem.fraction.shape, threshold)
    growth, f1 = problem.growth, problem.f1
    free = growth.free_time(problem.margin2, np.maximum(goal, problem.margin2)) / problem.exponent
    m1 = growth.advance(problem.margin1, free)
    result = np.where(goal > problem.margin2, np.inf, 0.0)
    index = np.flatnonzero((goal > problem.margin2) & (f1 * m1 < (1.0 if loss.name == "squared" else 1e100)))
    rates = np.full(index.shape, problem.rate)
    result[index] = elapsed(loss.name, growth[index], f1 * problem.margin1[index], f1 * m1[index], rates)
    return result


def _hinge(problem: _Problem, threshold: float) -> dict[str, Array]:
    f1, f2, share, growth = problem.f1, problem.f2, problem.fraction, problem.growth
    m1, m2 = problem.margin1, problem.margin2
    saturation = _saturation_time(problem)
    at1, at2 = growth.advance(m1, f1 * saturation), growth.advance(m2, share * f2 * saturation)
    goal = np.maximum(at1, 1.0 / f1)
    alone = growth.free_time(at1, goal)
    with np.errstate(divide="ignore", invalid="ignore"):
        final = np.where(alone > 0.0, saturation + alone / ((1.0 - share) * f1), saturation)
    t, n = problem.times, share.size
    early = np.minimum(t, saturation[:, None]).ravel()
    late = np.minimum((1.0 - share)[:, None] * f1 * np.maximum(t - saturation[:, None], 0.0), alone[:, None])
    first, part = problem.over_times(m1), problem.over_times(share)
    wide = Growth(problem.depth, np.zeros(first.shape))
    second = wide.advance(problem.over_times(m2), part * f2 * early)
    first = wide.advance(first, f1 * early).reshape(n, -1)
    after = wide.advance(problem.over_times(at1), late.ravel()).reshape(n, -1)
    first = np.where(t > saturation[:, None], np.minimum(after, goal[:, None]), first)
    first = np.where((t >= final[:, None]) & (share < 1.0)[:, None], goal[:, None], first)
    margins = np.stack([first, second.reshape(n, -1)], axis=1)
    needed = growth.free_time(m2, np.maximum(threshold, m2)) / (share * f2)
    return {
        "margins": margins,
        "lower_bound": margins.copy(),
        "threshold_time": np.where(needed <= saturation, needed, np.inf),
        "saturation_time": saturation,
        "frozen_margin": at2,
        "final_time": final,
    }


def _saturation_time(problem: _Problem) -> Array:
    """Return when f1 m1 + f2 m2 = 1, with both modes under a force of 1; 0 if it is more from the start."""
    f1, f2, share = problem.f1, problem.f2, problem.fraction
    result = np.zeros(share.shape)
    index = np.flatnonzero(f1 * problem.margin1 + f2 * problem.margin2 < 1.0)
    m1, m2, part, growth = problem.margin1[index], problem.margin2[index], share[index], problem.growth[index]

    def line(t: Array, i: Index) -> _inversion.Line:
        a, b = growth[i].advance(m1[i], f1 * t), growth[i].advance(m2[i], part[i] * f2 * t)
        total = f1 * a + f2 * b
        slope = (f1**2 * growth[i].speed(a) + f2**2 * part[i] * growth[i].speed(b)) / total
        return np.log(total), slope, 1.0 / slope

    ones = np.ones(index.shape)
    # Neither mode alone may exceed 1, where the logarithm of their sum is still nearly straight.
    top = np.minimum(growth.free_time(m1, ones / f1) / f1, growth.free_time(m2, ones / f2) / (part * f2))
    result[index] = _inversion.newton(line, np.zeros(index.shape), np.zeros(index.shape), top, top)
    return result
