"""How responses age: constant, exponential and power-law fits, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_real
from wideangle._provenance import provenance
from wideangle.response._aging_curves import Array
from wideangle.response._aging_fit import LAWS, UNKNOWN, CurveFit
from wideangle.response._aging_input import Responses, read_responses, too_few
from wideangle.response._aging_windows import Measured, fit_laws

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2405.04074 (aging of the response); generalised least squares of growth curves: C. R. Rao, 1965"

_UNITS = {"amplitude": 0, "tau": 1, "gamma": 0, "rate": -1}  # the power of time; the amplitude is a response


def fit_aging(
    response: ArrayLike | xr.DataArray | xr.Dataset,
    time: ArrayLike | None = None,
    *,
    time_unit: ArrayLike | None = None,
    standard_error: ArrayLike | None = None,
    laws: Iterable[str] = LAWS,
    confidence: float = 0.95,
) -> xr.Dataset:
    r"""Fit laws of aging to responses, and choose among them where the data can tell.

    The laws are :math:`a`, :math:`a\,e^{-t/\tau}` and :math:`a\,(1 + t/\tau)^{-\gamma}`. Each contains the one before:
    the last is an exponential for :math:`\gamma, \tau \to \infty`. Growth has :math:`\tau < 0` in the exponential and
    :math:`\gamma < 0` in the power law.

    Parameters
    ----------
    response
        Responses (time,), or (network, time) of independent networks, of any sign; networks with values that are not
        finite are dropped and counted. A DataArray may have further dimensions, such as inputs: means of absolute
        values over them are fitted. Of a Dataset of ``wideangle.response.training_response`` each factor is fitted:
        response, loss_derivative, kernel, readout_part, hidden_part and amplitude, where they are there.
    time
        Times (time,), at least 6, not negative and increasing, in any unit; by default the coordinate ``time`` of the
        response.
    time_unit
        Unit of time of each network (network,), positive, such as 1 over its kernel; a network that is dropped needs
        none. Where it and the response have a coordinate ``network`` units go by it, and there may be more of them.
        Default None: all have one. Responses are then averaged at equal times in units of each network, those of
        the slowest one, as far as all networks have them, and ``time``, ``tau`` and ``rate`` are in these units.
    standard_error
        Of a single curve (time,), if known, with errors that are independent between times; default None. Networks
        bring their own.
    laws
        Which laws to fit and to choose from; default all.
    confidence
        Of the intervals and of the choice; default 0.95.

    Returns
    -------
    xarray.Dataset
        By ``law``: ``amplitude`` at time 0, ``tau``, ``gamma`` and ``rate``, the slope of -ln response at time 0, NaN
        where a law has no such parameter, and the ends of their intervals with ``_low`` and ``_high``, infinite where
        the data set none, for ``gamma`` by later times alone too, see below; ``aic``, AICc but for a constant common to
        all laws, and ``weight``, the Akaike weights; ``p_value`` of the deviation from the law, NaN where errors are
        unknown; ``fitted(law, time)``. For all laws together ``chosen``; ``change``, the decrease of ln response from
        the first to the last time, with its interval; ``misfit``, the root mean square deviation of the response from
        the best law, relative to the response (in bins of time, see below), 0 where there is none of significance
        beyond its errors. Parameters of laws that are rejected say only how they run along the response, see below.
        ``mean(time)`` and ``standard_error(time)`` of the response; ``n_networks`` and ``n_dropped``. All with a
        leading dimension ``factor`` for a Dataset. The attribute ``time_unit`` is "given" or "None".

    Raises
    ------
    TypeError, ValueError
        If values are of the wrong type, shape or range, or no network is finite.

    Notes
    -----
    *Errors.* Responses of one network at different times go together. Times are averaged in up to 12 bins, and the
    covariance of the bins over networks enters the fit, which is that of a growth curve with unknown covariance
    (Rao 1965): deviations have Hotelling's distribution. 0.2 % of each variance is taken to be the bin's own, as
    the small variances of a smooth response are not known from few networks; intervals are a little too wide for
    that. Intervals are profiles of the likelihood: all values of a parameter for which some values of the others
    deviate no more than Student's quantile allows. So they are right also where :math:`\gamma` and :math:`\tau`
    degenerate.

    *Later times* (derived; not in the literature). Where a law misses the response by less than the noise, as at the
    onset of a force, an interval from all times is too narrow and misses the exponent that later times have. So that of
    :math:`\gamma` is the hull of the one from all times and of those from up to 8 windows that begin later, each at the
    beginning of a bin and with 8 times or more, as far as these are no more than twice as wide. Of one curve without
    errors the deviations in a window are taken for what they are at all times, noise or a misfit, but have a size of
    their own. For true powers of time the interval becomes 1.2 to 2 times as wide (medians), and covers more often than
    ``confidence`` says. ``gamma`` itself, all other intervals and the choice are those of all times.

    *Misfit.* Where the best law deviates significantly (p < 0.01) a further relative error is added, of the size that
    makes the deviation the expected one, either independent between bins or smooth over a third of them: whichever is
    likelier, but for networks not a smooth one with which the law runs half as far again from the response. Intervals
    then tell how firmly the shape of the curve holds the parameters. They are indicative, since what a law misses is
    not noise: a force that falls as 1/t up to logarithms has an exponent that is a little off 1.
    With fewer than 10 networks, or one curve without errors, all errors are taken from the residuals: as white noise,
    relative or of one size, whichever is likelier, if neighbouring residuals have equal signs no more often than chance
    allows (p > 0.01), they are no larger than twice the noise that the fourth differences of the curve show, and the
    law stays within 20 % and 4 standard errors by such noise everywhere; else as noise of bins or a smooth function of
    time, relative or, where the roughness of the curve says so and the law stays as near, of one size. So smooth curves
    have no errors of one size, with which a law could run far from small values. Errors that go together over longer
    than a bin cannot be told from aging then. Intervals of 95 %
    cover in 90 to 95 % of such curves with white noise, before later times are asked. Values below 1e-15 of the largest
    count as rounding.

    *Rejected laws.* A constant or an exponential that deviates significantly (p < 0.01), from the power law where
    errors come from residuals, is fitted with a misfit of its own, of one size at all times, nearly ordinary least
    squares. Under the errors of the curve it would use the deviations that networks share, which cost little, and run
    far from all responses (Peelle's puzzle). ``aic``, ``weight`` and ``p_value`` compare all laws under the same
    errors.

    *Networks with rates of their own.* The mean over networks is fitted, and it may age otherwise than each of them:
    exponentials whose rates scatter with a coefficient of variation v average to a power law with :math:`\gamma =
    1/v^2`, exactly for gamma-distributed rates. At width 20 kernels scatter: by :math:`v = \sqrt{2/20}` = 32 % in
    linear networks whose readout is frozen, and by 12 to 50 % with other activations and parametrizations. So
    :math:`\gamma` is about 10, or from 4 to 70, and the choice between the laws is luck. With ``time_unit`` each
    network runs on its own clock: for the squared loss with kernels :math:`K_i`, constant, and units :math:`1/K_i` all
    responses are :math:`e^{-t}`. Their logarithms are interpolated by cubics, in t or in ln t, which is exact for
    exponentials; elsewhere the difference from parabolas counts as an error of the mean. Noise that is independent
    between times is allowed for, as the mean of a logarithm is less than the logarithm of the mean.

    *Cross-entropy.* The power law sets in once :math:`e^m \gg 1`. From time 0 on and with margins about 0 it misses the
    force by 5 to 15 %; networks that begin far on the wrong side, :math:`m < -2`, wait first, which no law describes.
    Begin at twice the ``tau`` of :func:`predict_aging`: from there on less than 10 % are missed at any margin. The
    truth is 1 only in the limit: local exponents pass 1 by up to 2 % and come back, and are less before. So intervals
    of curves with little noise lie between 1 and the exponent that the whole window has, which is up to 1.1 where it
    ends at :math:`Kt = 100`, and up to 1.02 at their lower end from :math:`Kt = 1000` on. With noise, of 1 to 10 % on
    one curve and up to 30 % on 20 or 100 networks, and times from 0 to 1e3 or 1e4, intervals held an exponent from 1 to
    1.017, the largest local one, in 95 to 100 % of draws, and 1 itself in 70 to 100 % (of networks with noise of 3 %
    or less in as few as 8 %, as they tell 1 from the exponents that are there).

    *Choice* (derived; not in the literature). ``"none"``: the best law misses more than 20 % (``misfit``; of one curve
    also in the mean over its times), and not by white noise of one curve, or all networks have exact zeros at a time,
    which no law has. ``"constant"``: no other law fits better than chance allows, counting that tau is chosen freely,
    and the interval of ``change`` lies within 0.1. ``"exponential"``: a constant is excluded, and so are all power laws
    up to :math:`|\gamma| = 10`, which is as far as networks get whose rates differ by a third. ``"power law"``: a
    constant is excluded, and so is an exponential, as the interval of gamma from all times is finite. Else
    ``"undecided"``. So each wrong law is chosen with a probability of 1 - confidence at most, but for gamma beyond 10
    and changes below 0.1, and but for one curve or fewer than 10 networks with noise that goes together over longer
    than a bin: there a wrong law was chosen in up to a quarter of all cases (5 %, correlations of 0.9 from time to
    time).

    References
    ----------
    arXiv 2405.04074; C. R. Rao, Biometrika 52 (1965) 447; C. M. Hurvich and C.-L. Tsai, Biometrika 76 (1989) 297.

    Examples
    --------
    >>> import numpy as np, wideangle as wa
    >>> rng = np.random.default_rng(1)
    >>> time = np.append(0.0, np.logspace(0, 4, 30))
    >>> scatter = 1.0 + 0.2 * rng.standard_normal((100, 1)) + 0.1 * rng.standard_normal((100, 31))
    >>> fit = wa.response.fit_aging(scatter * (1.0 + time / 20.0) ** -1.2, time)
    >>> fit["chosen"].item()
    'power law'
    >>> fit[["gamma_low", "gamma_high"]].sel(law="power law").to_array().round(3).values.tolist()
    [1.196, 1.206]

    Networks with kernels of their own under a squared loss:

    >>> kernel = rng.gamma(10.0, 0.1, (100, 1))
    >>> time = np.linspace(0.0, 10.0, 50)
    >>> fit = wa.response.fit_aging(kernel * np.exp(-kernel * time), time, time_unit=1.0 / kernel[:, 0])
    >>> fit["chosen"].item(), round(fit["rate"].sel(law="exponential").item(), 6)
    ('exponential', 1.0)
    """
    chosen_laws = _check_laws(laws)
    confidence = check_real("confidence", confidence, remedy="give a probability such as 0.95")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; give a probability such as 0.95")
    given = read_responses(response, time, standard_error, time_unit)
    parts = [_fit_one(given, name, chosen_laws, confidence) for name in given.of_factor]
    import xarray as xr

    dataset = xr.concat(parts, dim="factor") if given.named else parts[0]
    if given.named:
        dataset = dataset.assign_coords(factor=[str(name) for name in given.of_factor])
    dataset.attrs = provenance("wideangle.response.fit_aging", source=SOURCE, laws=chosen_laws, confidence=confidence)
    dataset.attrs["time_unit"] = "None" if time_unit is None else "given"
    return dataset


def _check_laws(laws: Any) -> tuple[str, ...]:
    if isinstance(laws, str) or not isinstance(laws, Iterable):
        raise TypeError(f"laws must be a sequence of names, got {laws!r}; give some of {', '.join(map(repr, LAWS))}")
    names = list(laws)
    if not names or len(set(names)) != len(names) or not set(names) <= set(LAWS):
        raise ValueError(f"laws must be some of {', '.join(map(repr, LAWS))}, each once, got {names}")
    return tuple(law for law in LAWS if law in names)


def _fit_one(given: Responses, name: str | None, laws: tuple[str, ...], confidence: float) -> xr.Dataset:
    import xarray as xr

    responses, time = given.of_factor[name], given.time
    # First of all, as squares of large or small responses are beyond floats.
    unit = float(np.abs(responses).max()) or 1.0
    responses = responses / unit
    networks = np.atleast_2d(responses)
    n_networks = len(networks)
    if given.standard_error is not None:
        error = given.standard_error / unit
    elif n_networks > 1:
        error = networks.std(axis=0, ddof=1) / math.sqrt(n_networks)
    else:
        error = np.full(len(time), np.nan)
    shared = given.alignment.get(name, np.zeros(len(time))) / unit
    error = np.hypot(error, shared)
    mean = networks.mean(axis=0)
    fit = None
    if np.any(mean if too_few(responses) else responses):
        known = None if given.standard_error is None else error
        fit = fit_laws(Measured(responses, time, shared, known), laws, confidence)
        if np.any(np.all(networks == 0.0, axis=0)):
            fit.chosen = "none"
    variables: dict[str, Any] = {
        **_of_laws(fit, laws, time, unit),
        "mean": ("time", mean * unit),
        "standard_error": ("time", error * unit),
        "n_networks": n_networks,
        "n_dropped": given.n_dropped[name],
    }
    return xr.Dataset(variables, {"law": list(laws), "time": time})


def _of_laws(fit: CurveFit | None, laws: tuple[str, ...], time: Array, size: float) -> dict[str, Any]:
    """Return the variables that come from the fits, in the units of responses and times."""
    if fit is None:
        return _of_nothing(laws, len(time))
    result: dict[str, Any] = {}
    for name, power in _UNITS.items():
        unit = size if name == "amplitude" else float(time[-1]) ** power
        values = [fit.laws[law].values.get(name, math.nan) * unit for law in laws]
        ends = [fit.laws[law].intervals.get(name, UNKNOWN) for law in laws]
        result |= {name: ("law", values)}
        result |= {f"{name}_{end}": ("law", [pair[k] * unit for pair in ends]) for k, end in enumerate(("low", "high"))}
    aic = np.array([fit.laws[law].aic for law in laws])
    weight = np.exp(-0.5 * (aic - aic.min()))
    with np.errstate(over="ignore"):
        curves = np.array([fit.laws[law].curve for law in laws]) * size
    return result | {
        "aic": ("law", aic),
        "weight": ("law", weight / weight.sum()),
        "p_value": ("law", [fit.laws[law].p_value for law in laws]),
        "fitted": (("law", "time"), curves),
        "chosen": fit.chosen,
        "change": fit.delta,
        "change_low": fit.change[0],
        "change_high": fit.change[1],
        "misfit": fit.misfit,
    }


def _of_nothing(laws: tuple[str, ...], n_times: int) -> dict[str, Any]:
    """Return the variables of a response that is 0 at all times: a constant, if that is a choice."""
    zero = ("law", np.zeros(len(laws)))
    unknown = ("law", np.full(len(laws), np.nan))
    result: dict[str, Any] = {}
    for name in _UNITS:
        result |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), zero if name == "amplitude" else unknown)
    return result | {
        "aic": unknown,
        "weight": unknown,
        "p_value": unknown,
        "fitted": (("law", "time"), np.zeros((len(laws), n_times))),
        "chosen": "constant" if "constant" in laws else "undecided",
        **dict.fromkeys(("change", "change_low", "change_high", "misfit"), 0.0),
    }
