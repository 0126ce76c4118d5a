"""How responses age when the tangent kernel stays as it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import as_plain, check_numbers, check_real
from wideangle._provenance import provenance
from wideangle.losses import Loss, parse_loss
from wideangle.response import _constant_kernel as flow

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "derived: gradient flow with a constant tangent kernel; late exponents: arXiv 1710.10345"

_LAWS = {"squared": "exponential", "exponential": "power law", "cross-entropy": "power law", "hinge": "finite time"}
_STILL = 1e-12  # of the largest rate: modes that count as never learned
_LEFT = 1e-6  # of the residuals, in such modes: more than rounding
_ALWAYS = (
    "the kernel changes: features are learned, and the response has the factors of the kernel beside that of the loss",
    "steps are large: a step moves a margin by more than the force allows (see stable_learning_rate)",
)
_FAILS = {
    "squared": (
        "several modes: a sum of exponentials looks like a power law between the fastest and the slowest time",
        "label noise or single samples: residuals end at a floor instead of 0",
        "steps in place of the flow: rates are -ln(1 - eta K)/eta instead of K (see learning_rate)",
    ),
    "exponential": ("labels contradict each other: forces end at constants",),
    "cross-entropy": (
        "early times: until exp(margin) is large the force is nearly constant, and no power of t",
        "logarithms: the local exponent is off 1 by (ln Kt - c - 2)/Kt",
        "labels contradict each other or are noisy: forces end at constants",
        "several samples: those beyond the margin have exponents larger than 1",
    ),
    "hinge": (
        "finite steps: margins overshoot 1 by up to a step and single samples come back",
        "labels contradict each other: forces never end",
    ),
}


def predict_aging(
    loss: str | Loss,
    time: ArrayLike,
    *,
    kernel: ArrayLike,
    labels: ArrayLike | None = None,
    margin: ArrayLike = 0.0,
    learning_rate: float | None = None,
) -> xr.Dataset:
    r"""Predict how the loss factor of the response ages under gradient flow with a constant tangent kernel.

    The response to a sample is :math:`-\ell'(f)\,K`; with K constant it ages as the force
    :math:`g(m) = -\ell'(m)` of the margin :math:`m = yf`.

    Parameters
    ----------
    loss
        ``"squared"``, ``"cross-entropy"``, ``"exponential"`` or ``"hinge"``, see :mod:`wideangle.losses`.
    time
        Gradient-flow times (time,), learning rate times steps, 0 <= t <= 1e300, in any order.
    kernel
        Tangent kernel :math:`K(x, x)` of the one training sample, a positive number; or :math:`K(x_i, x_j)` of N
        samples (sample, sample), symmetric and positive semi-definite. The loss is the mean over samples.
    labels
        -1 or 1 (sample,) for several samples; default 1 for all.
    margin
        Margins :math:`y f` at time 0, one number or (sample,); default 0. A squared loss with other labels has the
        residuals :math:`1 - m`: give labels 1 and a margin of 1 - residual.
    learning_rate
        Of full-batch descent with steps of this size in place of the flow, for the squared loss, where it is exact.
        It must lie below 1 over the largest rate, beyond which residuals change sign from step to step. Default None,
        the flow.

    Returns
    -------
    xarray.Dataset
        ``margin(time)``, ``force(time)``, ``response(time)``, K(x, x) times the force, and ``local_exponent(time)``,
        -d ln force/d ln t, NaN where the force is 0. With a matrix all have a leading ``sample``, and there are
        ``mean_force(time)`` and its ``mean_exponent(time)``. Besides: ``law``, "exponential", "power law" or "finite
        time", the right description of late times, or "constant" where forces end at constants, as labels contradict
        each other; ``gamma``, the exponent of a power law (by sample, NaN where labels contradict each other or the law
        is another one); ``rate`` of exponentials, by ``mode`` with a matrix, slowest last; ``tau``, the time at which
        the law sets in: 1/rate, :math:`e^{m_0}/K` of an exponential loss, the time at which :math:`Kt` is what it takes
        to reach margin 0 and :math:`1 + e^{m_0}` of a cross-entropy, neither of them with a matrix, the time of the end
        of the hinge (by sample with a matrix; infinite if there is none); ``correction(time)`` for one margin and
        cross-entropy, the leading one to the exponent 1; ``stable_learning_rate``, above which full-batch descent in
        place of the flow can diverge or, for the hinge, is infinite as its steps have one size. The attribute
        ``fails`` says what makes the prediction fail.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range, or the kernel is not positive semi-definite.

    Notes
    -----
    Derived. With a constant kernel :math:`\dot m_i = \frac1N\sum_j A_{ij}\,g(m_j)`, :math:`A_{ij} = y_iK_{ij}y_j`.

    *Squared*: :math:`g = 1 - m`, so :math:`\dot g = -Ag/N` and
    :math:`g(t) = \sum_k v_k\,e^{-\lambda_k t/N}\,v_k\cdot g(0)` with the eigenvectors of A. Exponential once the
    slowest mode that is present remains. A step of descent of size :math:`\eta` multiplies a mode by
    :math:`1 - \eta\lambda_k/N`. That is decay with the rate :math:`-\ln(1 - \eta\lambda_k/N)/\eta`, or
    :math:`K(1 + \eta K/2 + \dots)` for one sample, and not with :math:`K`: at :math:`\eta K = 0.1` 5 % faster than
    the flow. So rates fitted to networks that are trained in steps are to be compared with a prediction for their
    ``learning_rate``. With the other losses steps change the course by a relative :math:`\eta K|g'(m)|/2`, which goes
    to 0 with the force of the exponential loss and of cross-entropy.

    *Exponential*, one margin: :math:`\dot m = Ke^{-m}` gives :math:`e^m = e^{m_0} + Kt` and
    :math:`g = e^{-m_0}(1 + t/\tau)^{-1}` with :math:`\tau = e^{m_0}/K`, exactly, and the local exponent
    :math:`t/(t + \tau)`.

    *Cross-entropy*, one margin: :math:`\dot m = K/(1 + e^m)` gives :math:`m + e^m = c + Kt` with
    :math:`c = m_0 + e^{m_0}`, so :math:`e^m = W(e^{c + Kt})`, taken as Wright's omega function of c + Kt, which does
    not overflow. The local exponent is :math:`Kt\,e^m/(1 + e^m)^2 = 1 + (\ln Kt - c - 2)/Kt + \dots`: a power law with
    exponent 1 up to logarithms, once :math:`e^m \gg 1`.

    *Hinge*, one margin: g = 1 until :math:`t = (1 - m_0)/K`, and 0 from there on. Several: constant velocities
    between the moments at which margins reach 1; one that others push back stays there under a force between 0 and 1.

    *Exponential and cross-entropy, several samples*: integrated with SciPy's Radau in ln t, relative tolerance 1e-10.
    At late times :math:`m_i = \gamma_i\ln t` with :math:`\gamma_i` the margin of sample i in units of the smallest one
    in the kernel machine of maximal margin (arXiv 1710.10345, for linear predictors): forces on the samples at the
    margin fall as 1/t, on the others faster.

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> aging = wa.response.predict_aging("cross-entropy", [0.0, 1.0, 1e3, 1e300], kernel=2.0)
    >>> aging["force"].values
    array([5.00000000e-001, 3.11726525e-001, 5.01403327e-004, 5.00000000e-301])
    >>> aging["local_exponent"].values.round(3)
    array([0.   , 0.429, 1.002, 1.   ])
    >>> wa.response.predict_aging("hinge", [0.0, 1.0], kernel=2.0)["tau"].item()
    0.5
    """
    chosen = parse_loss(loss)
    step = _check_learning_rate(chosen, learning_rate)
    times = _check_times(time)
    matrix, start = _check_samples(kernel, labels, margin)
    if chosen.name == "exponential" and start.min() < -700.0:
        raise ValueError(
            f"margin must be at least -700 for the exponential loss, got {start.min()}, whose force exceeds the range "
            "of floats; give larger margins"
        )
    single = np.ndim(as_plain(kernel)) == 0
    margins, forces, exponents, extra = _solve(chosen, times, matrix, start, single, step)
    import xarray as xr

    over = ("sample", "time")
    response = np.diagonal(matrix)[:, None] * len(matrix) * forces
    dataset = xr.Dataset(
        {
            "margin": (over, margins),
            "force": (over, forces),
            "response": (over, response),
            "local_exponent": (over, exponents),
            **extra,
            "law": "constant" if _never_ends(chosen, matrix, start, extra) else _LAWS[chosen.name],
            "stable_learning_rate": _stable_rate(chosen, matrix, start),
        },
        {"time": times},
    )
    if single:
        dataset = dataset.isel({dim: 0 for dim in ("sample", "mode") if dim in dataset.dims})
    else:
        mean = forces.mean(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            slopes = np.where(mean > 0.0, np.nansum(forces * exponents, axis=0) / len(forces) / mean, np.nan)
        dataset["mean_force"], dataset["mean_exponent"] = ("time", mean), ("time", slopes)
    dataset.attrs = provenance(
        "wideangle.response.predict_aging",
        source=SOURCE,
        loss=chosen.name,
        n_samples=len(matrix),
        learning_rate=step,
        fails="; ".join(_FAILS[chosen.name] + _ALWAYS),
    )
    return dataset


def _solve(
    loss: Loss, time: Array, matrix: Array, start: Array, single: bool, learning_rate: float
) -> tuple[Array, Array, Array, Any]:
    """Return margins, forces and local exponents (sample, time), and what else there is to a loss."""
    n_samples = len(start)
    if loss.name == "hinge":
        margins, forces, ends = flow.hinge_margins(time, matrix, start)
        exponents = np.where(forces > 0.0, 0.0, np.nan)
        return margins, forces, exponents, {"tau": ("sample", ends), "gamma": ("sample", np.full(n_samples, np.nan))}
    if loss.name == "squared":
        rates, vectors = np.linalg.eigh(matrix)
        rates, vectors = flow.rates_of_steps(np.maximum(rates[::-1], 0.0), learning_rate), vectors[:, ::-1]
        forces, falls = flow.squared_forces(time, rates, vectors, 1.0 - start)
        with np.errstate(divide="ignore", invalid="ignore"):
            exponents = np.where(forces == 0.0, np.nan, time * falls / forces)
            extra = {"rate": ("mode", rates), "tau": ("mode", 1.0 / rates)}
        return 1.0 - forces, forces, exponents, extra | {"gamma": ("sample", np.full(n_samples, np.nan))}
    if single:
        margins = flow.one_margin(loss, time, float(matrix[0, 0]), float(start[0]))[None, :]
    else:
        margins = flow.many_margins(loss, time, matrix, start)
    forces = loss.force(margins)
    gamma = np.ones(1) if single else flow.late_exponents(matrix)
    extra = {"gamma": ("sample", gamma)}
    slopes = flow.slope_of_log_force(loss, margins)
    if single:
        drive = flow.log_drive(time, float(matrix[0, 0]))
        # In the log domain, as late forces are 0 in floats.
        log_force = -margins if loss.name == "exponential" else -np.logaddexp(0.0, margins)
        exponents = np.exp(drive + log_force) * slopes
        extra |= _of_one_margin(loss, time, float(matrix[0, 0]), float(start[0]))
    else:
        exponents = time * (matrix @ forces) * slopes
    return margins, forces, exponents, extra


def _never_ends(loss: Loss, matrix: Array, start: Array, extra: Any) -> bool:
    """Whether forces on samples end at constants, as labels contradict each other."""
    if loss.name == "hinge":
        return bool(np.any(np.isinf(extra["tau"][1])))
    if loss.name != "squared":
        return bool(np.any(np.isnan(extra["gamma"][1])))
    rates, vectors = np.linalg.eigh(matrix)
    rest = vectors[:, rates <= _STILL * rates[-1]].T @ (1.0 - start)
    return bool(np.linalg.norm(rest) > _LEFT * np.linalg.norm(1.0 - start))


def _of_one_margin(loss: Loss, time: Array, kernel: float, margin: float) -> Any:
    """Return tau, and the leading correction to the exponent."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        growth = float(np.exp(margin))
        if loss.name == "exponential":
            return {"tau": growth / kernel}
        # m + e^m is 1 at margin 0; from there on it takes as much again as has gone before.
        tau = (max(1.0 - margin - growth, 0.0) + 1.0 + growth) / kernel
        drive = kernel * time
        log_drive = math.log(kernel) + np.log(time)
        correction = np.where(time > 0.0, (log_drive - margin - growth - 2.0) / drive, np.nan)
    return {"tau": tau, "correction": ("time", correction)}


def _stable_rate(loss: Loss, matrix: Array, start: Array) -> float:
    """Return 2 over the largest curvature of the loss along the flow."""
    largest = float(np.linalg.eigvalsh(matrix)[-1])
    with np.errstate(over="ignore"):
        curvature = {
            "squared": 1.0,
            "cross-entropy": 0.25,
            "exponential": float(np.exp(-start.min())),
            "hinge": 0.0,
        }[loss.name] * largest
    return 2.0 / curvature if curvature > 0.0 else math.inf


def _check_learning_rate(loss: Loss, learning_rate: Any) -> float:
    """Return the size of steps, 0 for the flow."""
    if learning_rate is None:
        return 0.0
    remedy = "give the learning rate of full-batch descent, or None for gradient flow"
    value = check_real("learning_rate", learning_rate, remedy=remedy)
    if not 0.0 < value < math.inf:
        raise ValueError(f"learning_rate must be positive, got {value}; {remedy}")
    if loss.name != "squared":
        raise ValueError(
            f"learning_rate is for the squared loss, got {value} with {loss.name}, for which steps have no closed "
            "form; leave it out, and train with small steps"
        )
    return value


def _check_times(time: Any) -> Array:
    remedy = "give gradient-flow times (time,) from 0 to 1e300"
    times = check_numbers("time", as_plain(time), ndim=(1,), remedy=remedy, largest=1e300)
    if np.any(times < 0.0):
        raise ValueError(f"time must not be negative, got {times.min()}; {remedy}")
    return times


def _check_samples(kernel: Any, labels: Any, margin: Any) -> tuple[Array, Array]:
    """Return A/N and the initial margins (sample,)."""
    remedy = "give a positive number, or a symmetric positive semi-definite matrix (sample, sample)"
    kernel = as_plain(kernel)
    if np.ndim(kernel) == 0:
        value = check_real("kernel", kernel, remedy=remedy)
        if not 1e-300 <= value <= 1e300:
            raise ValueError(f"kernel must lie between 1e-300 and 1e300, got {value}; {remedy}")
        if labels is not None:
            raise ValueError(f"labels are for a kernel of several samples, got {labels!r}; leave them out")
        return np.array([[value]]), np.array([_check_margin(margin, 1)[0]])
    values = check_numbers("kernel", kernel, ndim=(2,), remedy=remedy, largest=1e150)
    n_samples = len(values)
    if values.shape != (n_samples, n_samples):
        raise ValueError(f"kernel must be square, got shape {values.shape}; {remedy}")
    size = np.abs(values).max()
    if np.abs(values - values.T).max() > 1e-8 * size:
        raise ValueError(f"kernel must be symmetric, got differences across the diagonal; {remedy}")
    values = 0.5 * (values + values.T)
    least = float(np.linalg.eigvalsh(values)[0])
    if size == 0.0 or least < -1e-8 * n_samples * size:
        raise ValueError(f"kernel must be positive semi-definite and not 0, got an eigenvalue {least:.3g}; {remedy}")
    signs = np.ones(n_samples)
    if labels is not None:
        remedy = "give -1 or 1 for each sample"
        signs = check_numbers("labels", as_plain(labels), ndim=(1,), remedy=remedy)
        if signs.shape != (n_samples,) or np.any(np.abs(signs) != 1.0):
            raise ValueError(f"labels must hold {n_samples} values of -1 or 1, got {signs}; {remedy}")
    return values * np.outer(signs, signs) / n_samples, _check_margin(margin, n_samples)


def _check_margin(margin: Any, n_samples: int) -> Array:
    remedy = "give one number, or one for each sample, of at most 1e6 in size"
    values = check_numbers("margin", as_plain(margin), ndim=(0, 1), remedy=remedy, largest=1e6)
    if values.ndim == 1 and values.shape != (n_samples,):
        raise ValueError(f"margin must hold a number for each of {n_samples} samples, got {values.shape}; {remedy}")
    return np.full(n_samples, values)
