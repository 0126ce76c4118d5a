"""Fits of the laws of aging to one curve, their intervals, and the choice among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from wideangle.response._aging_curves import (
    RESOLUTION,
    Array,
    Curve,
    astray,
    beyond_noise,
    is_noise,
    unlikely_noise,
    unlikely_roughness,
    with_smooth_misfit,
)
from wideangle.response._aging_errors import Errors
from wideangle.response._aging_laws import (
    COARSE,
    FINE,
    INFINITE,
    Fitter,
    Point,
    Region,
    Search,
    allowed_taus,
    log_factor,
)

LAWS = ("constant", "exponential", "power law")
N_PARAMETERS = {"constant": 1, "exponential": 2, "power law": 3}

# What "chosen" needs, see fit_aging.
CONSTANT_WITHIN = 0.1
LARGEST_EXPONENT = 10.0
LARGEST_MISFIT = 0.2
SIGNIFICANT_MISFIT = 0.01

_DRAWS = 4000
_FARTHER = 1.5

Interval = tuple[float, float]
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass
class LawFit:
    """Values and intervals of one law, and the law at all times; ``point`` is the fit with the errors of the curve."""

    point: Point
    aic: float
    p_value: float
    curve: Array = field(default_factory=lambda: np.zeros(0))
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass
class CurveFit:
    """Fits of all laws to one curve, and the choice; ``curve`` tells what the deviations were taken for."""

    curve: Curve
    laws: dict[str, LawFit]
    misfit: float
    change: Interval
    chosen: str
    delta: float


@dataclass
class _Description:
    """A description of what the best law misses, its size, the fit of that law, and whether it misses noise."""

    misfit: float
    fitter: Fitter
    best: Point
    noise: bool = False

    @property
    def missed(self) -> float:
        """How far the law runs from the response."""
        return self.fitter.missed(self.best)

    def unlikely(self) -> float:
        """Return -2 ln of the likelihood of the description, but for a constant, as the deviations are equal."""
        whitened = np.linalg.slogdet(self.fitter.whitener)[1]
        return 2.0 * float(np.sum(self.fitter.curve.bins(self.fitter.curve.log_scale)) - whitened)


def fit_networks(curve: Curve, plain: Curve, laws: tuple[str, ...], confidence: float) -> CurveFit:
    """Fit the laws to a curve with errors, and what they miss beyond these as noise or as a smooth function of time.

    ``plain`` is the curve with a misfit of one size at all times, for the laws that are rejected.
    """
    return _fit(_describe_networks(curve, laws), laws, confidence, plain)


def _describe_networks(curve: Curve, laws: tuple[str, ...], search: Search = FINE) -> _Description:
    found = [_describe(curve, laws, search)]
    if found[0].misfit > RESOLUTION:
        smooth = _describe(with_smooth_misfit(curve), laws, search)
        # A smooth misfit costs little, however large: it may be the likelier one with a law that runs far off.
        if smooth.missed <= _FARTHER * found[0].missed:
            found.append(smooth)
    return min(found, key=_Description.unlikely)


def fit_alone(relative: list[Curve], absolute: list[Curve], laws: tuple[str, ...], confidence: float) -> CurveFit:
    """Fit the laws to one curve without errors, given what its deviations may be: noise of each time first.

    Where what is left looks like white noise it is taken for that, relative or not as is likelier. Else the roughness
    of the curve tells which, as what a law leaves does not: a relative misfit is large where the response is. Errors
    of one size allow a law to run far from small responses, and are out where these are smooth nevertheless.
    """

    def noise_allows(found: _Description, relative: bool = False) -> bool:
        law = found.fitter.law(found.best)
        return bool(np.all(beyond_noise(absolute[0], law, relative) <= LARGEST_MISFIT))

    def is_white(found: _Description) -> bool:
        rest = found.fitter.rest(found.best)
        near = noise_allows(found, relative=found is pair[0])
        return near and _is_white(rest) and is_noise(found.fitter.curve, rest)

    pair = [_describe(curves[0], laws) for curves in (relative, absolute)]
    white = [replace(found, noise=True) for found in pair if is_white(found)]
    if pair[0].misfit <= RESOLUTION:
        found = pair[0]
    elif white:
        found = min(white, key=lambda one: unlikely_noise(one.fitter.curve, one.fitter.rest(one.best)))
    else:
        found = _likeliest(pair[0], relative[1:], laws)
        if unlikely_roughness(absolute[0]) < unlikely_roughness(relative[0]):
            other = _likeliest(pair[1], absolute[1:], laws)
            found = other if noise_allows(other) else found
    return _fit(found, laws, confidence, absolute[0])


def _likeliest(first: _Description, curves: list[Curve], laws: tuple[str, ...]) -> _Description:
    return min([first, *(_describe(curve, laws) for curve in curves)], key=_Description.unlikely)


def _is_white(rest: Array) -> bool:
    """Whether no more neighbours have the same sign than of white noise, with a probability of 1 % to be wrong there.

    Signs do not ask for one size of the noise at all times.
    """
    from scipy import stats

    alike = int(np.sum(rest[1:] * rest[:-1] > 0.0))
    return bool(stats.binom.sf(alike - 1, len(rest) - 1, 0.5) > SIGNIFICANT_MISFIT)


def _point(fitter: Fitter, law: str) -> Point:
    return {"constant": fitter.constant, "exponential": fitter.exponential, "power law": fitter.power_law}[law]()


def _describe(curve: Curve, laws: tuple[str, ...], search: Search = FINE) -> _Description:
    """Return what the best law misses beyond the errors, at least the resolution, and the fit of that law.

    It is what makes the deviation the expected one, where that is significantly larger.
    """
    flexible = max(laws, key=N_PARAMETERS.__getitem__)
    most = N_PARAMETERS[flexible]
    rest = len(curve.mean) - most

    def fit(log_misfit: float) -> _Description:
        fitter = Fitter.prepare(curve, math.exp(log_misfit), search)
        return _Description(math.exp(log_misfit), fitter, _point(fitter, flexible))

    low, high = math.log(RESOLUTION), 2.0
    if not curve.errors_known:
        # The misfit is all of the covariance, and the law does not depend on its size.
        return fit(max(low, 0.5 * math.log(max(fit(0.0).best.deviation, 1e-300) / rest)))
    found = fit(low)
    if Errors(curve, RESOLUTION, 0.95, most).p_value(found.best.deviation, most) > SIGNIFICANT_MISFIT:
        return found
    while high - low > 0.01:
        middle = 0.5 * (low + high)
        found = fit(middle)
        value = found.best.deviation
        if abs(math.log(value / rest)) < 0.02:
            return found
        if value > rest:
            low = middle
        else:
            high = middle
    return fit(high)


def _fit(found: _Description, laws: tuple[str, ...], confidence: float, plain: Curve) -> CurveFit:
    fitter, misfit, best = found.fitter, found.misfit, found.best
    curve = fitter.curve
    flexible = max(laws, key=N_PARAMETERS.__getitem__)
    errors = Errors(curve, misfit, confidence, N_PARAMETERS[flexible])
    clean = Fitter.prepare(curve, RESOLUTION) if errors.from_residuals and curve.errors_known else fitter
    missed, missed_much = 0.0, False
    if misfit > RESOLUTION and curve.errors_known:
        missed = found.missed
        missed_much = missed > LARGEST_MISFIT
    elif misfit > RESOLUTION:
        missed, missed_at_times = astray(plain, fitter.law(best))
        missed_much = max(missed, missed_at_times) > LARGEST_MISFIT and not found.noise
    fits: dict[str, LawFit] = {}
    change = 0.0, 0.0
    for law in laws:
        n_parameters = N_PARAMETERS[law]
        point = best if law == flexible else _point(fitter, law)
        p_value = math.nan
        if curve.errors_known:
            p_value = errors.p_value((point if clean is fitter else _point(clean, law)).deviation, n_parameters)
        fits[law] = fit = LawFit(point, errors.aic(point.deviation, n_parameters), p_value)
        if law == flexible != "constant":
            rejected = False
        elif law == flexible:
            rejected = missed_much
        else:
            rejected = errors.p_value_beside(point.deviation, best.deviation, n_parameters) < SIGNIFICANT_MISFIT
        if rejected:
            _set_by_least_squares(fit, law, plain, confidence)
            continue
        region = _set_parameters(fit, law, fitter, point, errors.limit(point.deviation, n_parameters))
        if law == flexible and region is not None:
            change = region.of(np.ones(1))
    excluded = True
    if "constant" in fits and flexible != "constant":
        gain = errors.ratio(fits["constant"].point.deviation, best.deviation, 2)
        critical = _critical_gain(fitter, errors, flexible)
        excluded = gain > critical
        if not excluded and flexible == "power law":
            limit = errors.excess(critical, best.deviation, 2)
            change = Region(fitter, allowed_taus(fitter, best, limit), limit, best).of(np.ones(1))
    chosen = "none" if missed_much else _choose(fits, excluded, change)
    return CurveFit(curve, fits, missed, change, chosen, best.delta)


def _set_by_least_squares(fit: LawFit, law: str, plain: Curve, confidence: float) -> None:
    """Fill in parameters of a rejected law: those with which it comes closest to the response.

    With the errors of the curve deviations that all times share cost little, and a rejected law uses that: it runs
    far from the response. With a misfit of its own, one size at all times, it does not.
    """
    found = _describe(plain, (law,))
    errors = Errors(plain, found.misfit, confidence, N_PARAMETERS[law])
    _set_parameters(fit, law, found.fitter, found.best, errors.limit(found.best.deviation, N_PARAMETERS[law]))


def _set_parameters(fit: LawFit, law: str, fitter: Fitter, point: Point, limit: float) -> Region | None:
    """Fill in the law, amplitude, tau, gamma and rate with intervals; return the region of those allowed, if any."""
    fit.curve = fitter.law(point)
    log_tau, delta = np.array([point.log_tau]), np.array([point.delta])
    _, top, amplitude, weight = fitter.deviations(fitter.progress(log_tau), delta)
    factor = np.exp(log_factor(fitter, log_tau, delta, top))
    fit.values["amplitude"] = float((amplitude * factor)[0])
    if law == "constant":
        room = np.sqrt((limit - point.deviation) / weight)
        fit.intervals["amplitude"] = (float(((amplitude - room) * factor)[0]), float(((amplitude + room) * factor)[0]))
        return None
    taus = INFINITE if law == "exponential" else allowed_taus(fitter, point, limit)
    region = Region(fitter, taus, limit, point)
    fit.intervals["amplitude"] = region.amplitudes(at_zero=True)
    length = 1.0 - fitter.curve.time[0]
    if law == "exponential":
        low, high = region.of(np.array([1.0 / length]))
        rate = point.delta / length
        fit.values |= {"rate": rate, "tau": 1.0 / rate if rate else math.inf}
        # The times of rates on both sides of 0 are two pieces that meet at infinity: the longer ones have no end.
        tau = (1.0 / high, 1.0 / low) if low * high > 0.0 else (1.0 / max(high, -low), math.inf)
        fit.intervals |= {"rate": (low, high), "tau": tau}
        return region
    gammas = _gammas(fitter, region)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = 1.0 / fitter.span(log_tau)[0]
        rates = np.where(np.isinf(region.log_tau), 1.0 / length, gammas * np.exp(-region.log_tau))
        fit.values |= {
            "tau": math.exp(point.log_tau),
            "gamma": math.copysign(math.inf, point.delta) if np.isinf(own) else point.delta * own,
            "rate": point.delta * (1.0 / length if np.isinf(own) else own * math.exp(-point.log_tau)),
        }
    lowest = fitter.taus[0]
    tau_low = 0.0 if taus[0] <= lowest + 1e-9 else math.exp(taus[0])
    fit.intervals |= {"tau": (tau_low, math.exp(taus[-1])), "gamma": region.of(gammas), "rate": region.of(rates)}
    return region


def interval_of_gamma(curve: Curve, confidence: float) -> Interval:
    """Return the interval of the exponent of the power law alone, infinite where exponentials are allowed.

    The deviations of a curve without errors are what it says they are.
    """
    describe = _describe_networks if curve.errors_known else _describe
    found = describe(curve, ("power law",), COARSE)
    fitter, n_parameters = found.fitter, N_PARAMETERS["power law"]
    limit = Errors(curve, found.misfit, confidence, n_parameters).limit(found.best.deviation, n_parameters)
    region = Region(fitter, allowed_taus(fitter, found.best, limit), limit, found.best)
    return region.of(_gammas(fitter, region))


def _gammas(fitter: Fitter, region: Region) -> Array:
    """Return gamma for a delta of 1 at each tau of a region."""
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / fitter.span(region.log_tau))


def _choose(fits: dict[str, LawFit], constant_excluded: bool, change: Interval) -> str:
    """Return the law that the response follows, if one of them does, or "undecided"."""
    if len(fits) == 1:
        return next(iter(fits))
    if not constant_excluded:
        return "constant" if max(-change[0], change[1]) <= CONSTANT_WITHIN else "undecided"
    if "power law" not in fits:
        return "exponential"
    low, high = fits["power law"].intervals["gamma"]
    if "exponential" not in fits:
        return "power law"
    if low > LARGEST_EXPONENT or high < -LARGEST_EXPONENT:
        return "exponential"
    return "power law" if np.isfinite(low) and np.isfinite(high) else "undecided"


def _critical_gain(fitter: Fitter, errors: Errors, law: str) -> float:
    """Return the gain over a constant that chance exceeds as seldom as the confidence says.

    Where the response is constant tau is free, and the best power law is the best of many: the distribution of its
    gain is that of the largest projection of noise on the directions in which a constant begins to change.
    """
    from scipy import stats

    curve = fitter.curve
    shape = np.exp(curve.log_scale.min() - curve.log_scale)  # But for a factor, which may be beyond floats.
    courses = fitter.progress(fitter.taus if law == "power law" else INFINITE)
    directions = curve.bins(shape * courses) @ fitter.whitener.T
    level = curve.bins(shape) @ fitter.whitener.T
    directions -= np.outer(directions @ level, level) / (level @ level)
    directions /= np.maximum(np.linalg.norm(directions, axis=1), 1e-150)[:, None]
    rng = np.random.Generator(np.random.Philox(1))
    largest = np.max((rng.standard_normal((_DRAWS, len(level))) @ directions.T) ** 2, axis=1)
    freedom = errors.freedom(2)
    if freedom < math.inf:
        largest /= stats.chi2.ppf(rng.random(_DRAWS), freedom) / freedom
    return float(np.quantile(largest, errors.confidence))
