"""Fits of aging: intervals that cover, choices that are right or withheld, and what responses may look like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import wrightomega
from scipy.stats import binom, f

from wideangle.response import fit_aging

Array = NDArray[np.float64]
LAWS = ("constant", "exponential", "power law")
LOG = np.append(0.0, 2.0 ** np.arange(0.0, 14.0, 0.5))
LINEAR = np.linspace(0.0, 5000.0, 101)
FIVE_SIGMA = 2.9e-7


def power_law(time: Array, tau: float, gamma: float) -> Array:
    return np.asarray((1.0 + time / tau) ** -gamma)


def ensemble(
    rng: np.random.Generator, law: Array, n_networks: int, *, noise: float = 0.2, correlation: float = 0.9
) -> Array:
    """Responses with amplitudes of their own and noise that goes together at neighbouring times."""
    fresh = rng.standard_normal((n_networks, len(law)))
    together = fresh.copy()
    for k in range(1, len(law)):
        together[:, k] = correlation * together[:, k - 1] + math.sqrt(1 - correlation**2) * fresh[:, k]
    return np.asarray(law * (1.0 + noise * together + 1.5 * noise * rng.standard_normal((n_networks, 1))))


CASES: dict[str, tuple[Array, Array, int, float, dict[str, float], str]] = {
    # time, law, networks, noise, true values, law
    "power law": (LOG, power_law(LOG, 20.0, 1.2), 100, 0.2, {"tau": 20, "gamma": 1.2}, "power law"),
    "few networks": (LOG, power_law(LOG, 20.0, 1.2), 16, 0.2, {"tau": 20, "gamma": 1.2}, "power law"),
    "linear times": (LINEAR, power_law(LINEAR, 200.0, 0.7), 60, 0.2, {"tau": 200, "gamma": 0.7}, "power law"),
    "growth": (LOG[1:], power_law(LOG[1:], 50.0, -0.5), 60, 0.2, {"tau": 50, "gamma": -0.5}, "power law"),
    "exponential": (LOG, np.exp(-LOG / 1000.0), 100, 0.2, {"tau": 1000, "rate": 1e-3}, "exponential"),
    "constant": (LOG, np.ones(29), 100, 0.05, {"amplitude": 1.0}, "constant"),
    "barely begun": (LOG, power_law(LOG, 1e5, 1.2), 100, 0.2, {"gamma": 1.2, "tau": 1e5}, "undecided"),
    "barely begun, exponential": (LOG, np.exp(-LOG / 1e5), 100, 0.2, {"rate": 1e-5}, "undecided"),
    "noisy constant": (LOG, np.ones(29), 40, 1.0, {"amplitude": 1.0}, "undecided"),
}


def check_case(name: str, n_ensembles: int, seed: int) -> None:
    time, law, n_networks, noise, truth, choice = CASES[name]
    true_law = "power law" if "gamma" in truth else "exponential" if "rate" in truth else "constant"
    rng = np.random.default_rng(seed)
    covered = dict.fromkeys([*truth, "change"], 0)
    chosen = []
    for _ in range(n_ensembles):
        fit = fit_aging(ensemble(rng, law, n_networks, noise=noise), time)
        chosen.append(fit["chosen"].item())
        fit = fit.sel(law=true_law)
        values = truth | {"change": math.log(law[0] / law[-1])}
        for key, value in values.items():
            covered[key] += int(fit[f"{key}_low"] <= value <= fit[f"{key}_high"])
    least, most = binom.ppf([FIVE_SIGMA, 1.0 - FIVE_SIGMA], n_ensembles, 0.95)
    for key, number in covered.items():
        assert number >= least, (key, number)
        # Where tau is free the interval of the change allows for that, and may cover more often.
        assert number <= most or key == "change", (key, number)
    wrong = sum(name not in (true_law, "undecided") for name in chosen)
    assert wrong <= binom.ppf(1.0 - FIVE_SIGMA, n_ensembles, 0.05)
    assert sum(name == choice for name in chosen) > 0.75 * n_ensembles, chosen


def test_networks_with_somewhat_different_rates_age_exponentially() -> None:
    # Their mean is (1 + t/tau)^-gamma with gamma = 1/v^2 for gamma-distributed rates, in which v is the variation.
    rng = np.random.default_rng(11)
    time = np.append(0.0, np.geomspace(1.0, 3000.0, 40))
    for gamma, law in ((100.0, "exponential"), (3.0, "power law")):
        rates = rng.gamma(gamma, 1e-3 / gamma, size=400)
        fit = fit_aging(np.exp(-rates[:, None] * time), time)
        power = fit.sel(law="power law")
        assert fit["chosen"] == law
        assert power["gamma_low"] < gamma < power["gamma_high"] < np.inf
        assert fit["rate"].sel(law="exponential" if gamma > 10.0 else "power law") == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("name", ["power law", "exponential", "constant", "barely begun"])
def test_intervals_and_choice(name: str) -> None:
    check_case(name, 24, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_intervals_and_choice_of_many(name: str) -> None:
    check_case(name, 300, seed=1)


def own_fit(responses: Array, time: Array) -> tuple[float, Array, Any]:
    """Least squares with the covariance over networks, written anew and minimised by SciPy."""
    covariance = np.cov(responses, rowvar=False) / len(responses)
    mean, inverse = responses.mean(axis=0), np.linalg.inv(covariance + 2e-3 * np.diag(np.diag(covariance)))

    def deviation(p: Array) -> float:
        rest = mean - p[0] * (1.0 + time * np.exp(-p[1])) ** -p[2]
        return float(rest @ inverse @ rest)

    options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 20_000, "maxfev": 20_000}
    found = minimize(deviation, [1.0, math.log(20.0), 1.0], method="Nelder-Mead", options=options)
    return float(found.fun), found.x, deviation


def test_fit_is_the_one_of_growth_curves() -> None:
    """Parameters, Hotelling's p, AICc differences and the ends of intervals against a fit of one's own."""
    time = np.append(0.0, 2.0 ** np.arange(0.0, 10.0))
    responses = ensemble(np.random.default_rng(3), power_law(time, 20.0, 1.2), 60)
    least, best, deviation = own_fit(responses, time)
    fit = fit_aging(responses, time).sel(law="power law")
    assert fit["amplitude"].item() == pytest.approx(best[0], rel=1e-5)
    assert fit["tau"].item() == pytest.approx(math.exp(best[1]), rel=1e-5)
    assert fit["gamma"].item() == pytest.approx(best[2], rel=1e-5)
    q, n = len(time), len(responses) - 1
    assert fit["p_value"].item() == pytest.approx(f.sf(least * (n - q + 4) / ((q - 3) * n), q - 3, n - q + 4), rel=1e-4)
    freedom = n - q + 3
    limit = least + (n + least) * f.ppf(0.95, 1, freedom) / freedom
    for index, name, change in ((0, "amplitude", float), (1, "tau", math.log)):
        for end in ("low", "high"):
            value = change(fit[f"{name}_{end}"].item())
            profile = minimize(
                lambda p, index=index, value=value: deviation(np.insert(p, index, value)),
                np.delete(best, index),
                method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 20_000, "maxfev": 20_000},
            ).fun
            assert profile - least == pytest.approx(limit - least, rel=0.02), (name, end)


def own_interval_of_gamma(responses: Array, time: Array) -> tuple[float, float]:
    """The profile interval of 95 % by the fit of one's own."""
    least, best, deviation = own_fit(responses, time)
    n, freedom = len(responses) - 1, len(responses) - len(time) + 2
    limit = least + (n + least) * f.ppf(0.95, 1, freedom) / freedom

    def beyond(gamma: float) -> float:
        options = {"xatol": 1e-7, "fatol": 1e-7, "maxiter": 20_000, "maxfev": 20_000}
        found = minimize(lambda p: deviation(np.append(p, gamma)), best[:2], method="Nelder-Mead", options=options)
        return float(found.fun - limit)

    ends = [brentq(beyond, best[2], best[2] * far, xtol=1e-5) for far in (0.5, 2.0)]
    return ends[0], ends[1]


@pytest.mark.parametrize("seed", [3, 4])
def test_interval_of_the_exponent_is_that_of_all_windows(seed: int) -> None:
    """With 8 times or more, and no more than twice as wide as the one of all times."""
    time = np.linspace(0.0, 110.0, 12)
    responses = ensemble(np.random.default_rng(seed), power_law(time, 20.0, 1.2), 60)
    own = np.array([own_interval_of_gamma(responses[:, start:], time[start:]) for start in range(5)])
    width = np.diff(own, axis=1)[:, 0]
    assert np.sum(width > 2.0 * width[0]) == 2
    used = own[width <= 2.0 * width[0]]
    fit = fit_aging(responses, time).sel(law="power law")
    near = {"abs": 0.01 * width[0]}
    assert fit["gamma_low"].item() == pytest.approx(used[:, 0].min(), **near)
    assert fit["gamma_high"].item() == pytest.approx(used[:, 1].max(), **near)


def cross_entropy_forces(rng: np.random.Generator, time: Array, n_networks: int) -> Array:
    """1/(1 + e^m) with m + e^m = c + K t, for kernels and initial margins that scatter."""
    kernel, margin = 1.0 + 0.2 * rng.random((n_networks, 1)), 0.5 + 0.3 * rng.standard_normal((n_networks, 1))
    return np.asarray(1.0 / (1.0 + wrightomega(margin + np.exp(margin) + kernel * time)))


@pytest.mark.parametrize("first", [0, 10])
def test_cross_entropy_with_constant_kernel(first: int) -> None:
    """Forces fall as 1/t up to logarithms: without noise the exponent is between 1 and the local ones."""
    time = 0.1 * np.append([0.0] * (first == 0), 2.0 ** np.arange(first, 27, 0.5))
    fit = fit_aging(cross_entropy_forces(np.random.default_rng(5), time, 200), time)
    assert fit["chosen"] == "power law"
    assert 0.0 < fit["misfit"] < 0.1
    best = fit.sel(law="power law")
    local = -np.gradient(np.log(fit["mean"].values), np.log(np.maximum(time, 1e-9)))
    assert best["gamma_low"] < local.max()
    assert best["gamma_low"] - 0.002 < 1.0 < best["gamma_high"]
    assert best["gamma_high"] - best["gamma_low"] < 0.05


def test_cross_entropy_with_noise() -> None:
    """With the scatter of single samples, and logarithms within it, the interval covers 1 as often as it says."""
    rng, time = np.random.default_rng(18), 10.0 * 2.0 ** np.arange(0.0, 20.0)
    covered = 0
    for _ in range(40):
        forces = cross_entropy_forces(rng, time, 50) * (1.0 + 0.5 * rng.standard_normal((50, 20)))
        fit = fit_aging(forces, time)
        best = fit.sel(law="power law")
        covered += int(best["gamma_low"] <= 1.0 <= best["gamma_high"])
        assert fit["chosen"] == "power law"
    assert covered >= binom.ppf(FIVE_SIGMA, 40, 0.95)


def test_squared_loss_with_constant_kernel() -> None:
    """Residuals of networks with one kernel and amplitudes of their own: the kernel is the rate, to the last digits."""
    rng = np.random.default_rng(6)
    time = np.linspace(0.0, 40.0, 30)
    fit = fit_aging((0.5 + rng.standard_normal((50, 1))) * np.exp(-0.37 * time), time)
    assert fit["chosen"] == "exponential"
    best = fit.sel(law="exponential")
    assert best["rate_low"] <= 0.37 * (1 + 1e-12)
    assert best["rate_high"] >= 0.37 * (1 - 1e-12)
    assert best["rate"].item() == pytest.approx(0.37, rel=1e-7)


@pytest.mark.parametrize("curve", ["network", "alone"])
def test_units_and_sign_do_not_matter(curve: str) -> None:
    responses = ensemble(np.random.default_rng(7), power_law(LOG, 20.0, 1.2), 40)
    responses = responses if curve == "network" else responses[0]
    plain = fit_aging(responses, LOG)
    other = fit_aging(-1e-200 * responses, 1e50 * LOG)
    assert other["chosen"] == plain["chosen"]
    for name in ("gamma", "gamma_low", "gamma_high", "weight", "p_value", "change_low", "misfit"):
        np.testing.assert_allclose(other[name], plain[name], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(other["tau_high"], 1e50 * plain["tau_high"], rtol=1e-5)
    np.testing.assert_allclose(other["amplitude_low"], -1e-200 * plain["amplitude_high"], rtol=1e-5)
    np.testing.assert_allclose(other["fitted"], -1e-200 * plain["fitted"], rtol=1e-4)


def test_networks_are_exchangeable_and_diverged_ones_dropped() -> None:
    responses = ensemble(np.random.default_rng(8), power_law(LOG, 20.0, 1.2), 40)
    plain = fit_aging(responses, LOG)
    more = np.concatenate([np.full((1, 29), np.nan), responses[::-1]])
    more[0, :3] = 1.0
    other = fit_aging(more, LOG)
    assert (other["n_networks"].item(), other["n_dropped"].item()) == (40, 1)
    np.testing.assert_allclose(other["gamma_high"], plain["gamma_high"], rtol=1e-6)


def test_what_no_law_describes() -> None:
    """A hinge that ends, for each network at its own time, and an oscillation."""
    rng = np.random.default_rng(9)
    ends = 100.0 * np.exp(0.3 * rng.standard_normal((100, 1)))
    assert fit_aging(np.where(ends > LOG, 1.0, 0.0), LOG)["chosen"] == "none"
    wave = fit_aging(ensemble(rng, 1.0 + 0.8 * np.sin(3.0 * np.log1p(LOG)), 100, noise=0.05), LOG)
    assert wave["chosen"] == "none"
    assert wave["misfit"] > 0.2


def test_rounding_at_the_end() -> None:
    """Residuals that end at the last digit of the labels instead of 0."""
    rng, time = np.random.default_rng(19), np.linspace(0.0, 40.0, 30)
    forces = (0.5 + rng.random((50, 1))) * np.exp(-2.0 * time) + 1e-16 * rng.random((50, 30))
    fit = fit_aging(forces, time)
    assert fit["chosen"] == "exponential"
    assert fit["rate"].sel(law="exponential").item() == pytest.approx(2.0, rel=1e-6)


def test_rates_that_scatter_make_a_power_law() -> None:
    """Gamma-distributed rates with shape k: the mean of exp(-rate t) is (1 + t/tau)^-k."""
    rng, covered = np.random.default_rng(20), 0
    for _ in range(30):
        rates = rng.gamma(3.0, 1.0 / 300.0, (100, 1))
        best = fit_aging(np.exp(-rates * LOG[:20]), LOG[:20]).sel(law="power law")
        covered += int(best["gamma_low"] < 3.0 < best["gamma_high"])
        assert 1.5 < best["gamma"].item() < 6.0
    assert covered >= binom.ppf(FIVE_SIGMA, 30, 0.95)


def test_zeros() -> None:
    fit = fit_aging(np.zeros((20, 29)), LOG)
    assert fit["chosen"] == "constant"
    assert np.all(fit["amplitude"] == 0.0)
    assert np.all(fit["fitted"] == 0.0)


def test_short_window_leaves_parameters_open() -> None:
    """With the last time far below tau, gamma and tau have no upper end, and their ratio has."""
    responses = ensemble(np.random.default_rng(10), power_law(LOG, 3e5, 1.2), 200, noise=0.05)
    fit = fit_aging(responses, LOG)
    assert fit["chosen"] == "undecided"
    best = fit.sel(law="power law")
    assert best["gamma_high"] == np.inf
    assert best["tau_high"] == np.inf
    assert best["gamma_low"] < 1.2
    exponential = fit.sel(law="exponential")
    assert exponential["rate_low"] < 1.2 / 3e5 < exponential["rate_high"] < 10 * 1.2 / 3e5


@pytest.mark.parametrize("time", [LOG, LOG[1:], LINEAR, LINEAR[3:]], ids=["log", "log, no 0", "linear", "linear, no 0"])
def test_one_curve_alone(time: Array) -> None:
    rng = np.random.default_rng(11)
    response = power_law(time, 30.0, 0.8) * (1.0 + 0.02 * rng.standard_normal(len(time)))
    for standard_error in (None, 0.02 * power_law(time, 30.0, 0.8)):
        fit = fit_aging(response, time, standard_error=standard_error)
        best = fit.sel(law="power law")
        assert fit["chosen"] == "power law"
        assert best["gamma"].item() == pytest.approx(0.8, abs=0.1)
        assert np.isfinite(best["gamma_high"])
        assert np.isnan(best["p_value"]) == (standard_error is None)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_intervals_of_one_curve(known: bool, absolute: bool) -> None:
    """White noise; with errors from few residuals of whose kind there are several guesses, 90 % is enough."""
    rng, covered, n_curves = np.random.default_rng(12), 0, 200
    law = power_law(LOG, 30.0, 0.8)
    error = np.full(len(LOG), 0.01) if absolute else 0.03 * law
    for _ in range(n_curves):
        response = law + error * rng.standard_normal(len(LOG))
        best = fit_aging(response, LOG, standard_error=error if known else None).sel(law="power law")
        covered += int(best["gamma_low"] <= 0.8 <= best["gamma_high"])
    assert covered >= binom.ppf(FIVE_SIGMA, n_curves, 0.95 if known else 0.9)


def dataset(rng: np.random.Generator) -> xr.Dataset:
    force = ensemble(rng, power_law(LOG, 20.0, 1.0), 40)[:, :, None] * np.array([1.0, -1.0])
    kernel = ensemble(rng, np.ones(29), 40, noise=0.02)[:, :, None, None] * np.ones((2, 3))
    return xr.Dataset(
        {
            "response": (("network", "time", "train", "probe"), -force[..., None] * kernel),
            "loss_derivative": (("network", "time", "train"), force),
            "kernel": (("network", "time", "train", "probe"), kernel),
            "readout_part": (("network", "time", "train", "probe"), 0.0 * kernel),
            "shape": (("network", "time", "train", "probe"), kernel),
        },
        {"time": LOG},
    )


def test_factors_of_a_dataset() -> None:
    given = dataset(np.random.default_rng(13))
    fit = fit_aging(given)
    assert dict(zip(fit["factor"].values.tolist(), fit["chosen"].values.tolist(), strict=True)) == {
        "response": "power law",
        "loss_derivative": "power law",
        "kernel": "constant",
        "readout_part": "constant",
    }
    one = fit_aging(np.abs(given["loss_derivative"].values).mean(axis=2), LOG)
    xr.testing.assert_allclose(fit.sel(factor="loss_derivative", drop=True)[["gamma", "aic"]], one[["gamma", "aic"]])
    array = fit_aging(given["loss_derivative"].transpose("train", "time", "network"))
    xr.testing.assert_allclose(array[["gamma", "aic"]], one[["gamma", "aic"]])
    single = fit_aging(given.isel(network=3)[["loss_derivative"]])
    assert single["n_networks"].values.tolist() == [1]


def test_laws_to_choose_from() -> None:
    responses = ensemble(np.random.default_rng(14), np.exp(-LOG / 1000.0), 40)
    full = fit_aging(responses, LOG)
    part = fit_aging(responses, LOG, laws=("exponential", "constant"))
    assert part["law"].values.tolist() == ["constant", "exponential"]
    assert part["chosen"] == full["chosen"] == "exponential"
    np.testing.assert_allclose(part["rate_high"].sel(law="exponential"), full["rate_high"].sel(law="exponential"))
    alone = fit_aging(responses, LOG, laws=("constant",))
    assert alone["chosen"] == "none"
    assert alone["weight"].values.tolist() == [1.0]


def test_intervals_widen_with_confidence() -> None:
    responses = ensemble(np.random.default_rng(15), power_law(LOG, 20.0, 1.2), 40)
    widths = [
        float((fit["gamma_high"] - fit["gamma_low"]).sel(law="power law"))
        for fit in (fit_aging(responses, LOG, confidence=c) for c in (0.5, 0.95, 0.999))
    ]
    assert widths == sorted(widths)
    assert widths[0] < 0.5 * widths[1]


def test_many_times_are_fitted_as_few() -> None:
    time = np.linspace(0.0, 1000.0, 1001)
    responses = ensemble(np.random.default_rng(16), power_law(time, 50.0, 1.0), 40, correlation=0.999)
    best = fit_aging(responses, time).sel(law="power law")
    assert best["gamma_low"] < 1.0 < best["gamma_high"] < 1.5


@pytest.mark.parametrize("kind", ["f2", ">f8", "i4", "reversed", "read-only"])
def test_kinds_of_arrays(kind: str) -> None:
    values = np.round(1000.0 * ensemble(np.random.default_rng(17), power_law(LOG, 200.0, 0.5), 20))
    given = values[:, ::-1].copy()[:, ::-1] if kind == "reversed" else values.astype(kind if kind[0] in "f>i" else "f8")
    given.setflags(write=kind != "read-only")
    found, wanted = fit_aging(given, LOG), fit_aging(given.astype(np.float64), LOG)
    xr.testing.assert_allclose(found[["gamma", "tau_low"]], wanted[["gamma", "tau_low"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": None}, "time must be given"),
        ({"time": LOG[:-1]}, "response must have a value for each of 28 times"),
        ({"time": LOG[::-1]}, "time must increase"),
        ({"time": LOG - 1.0}, "time must not be negative"),
        ({"response": np.ones((3, 4)), "time": [0, 1, 2, 3]}, "time must have at least 6 values"),
        ({"response": np.full((20, 29), np.nan)}, "response must have a network with finite values"),
        ({"response": np.append(np.ones(28), np.inf)}, "response must be finite"),
        ({"response": np.ones((2, 2, 29))}, "response must have 1 or 2 dim"),
        ({"response": np.ones((0, 29))}, "response must not be empty"),
        ({"response": 1j * np.ones(29)}, "response must"),
        ({"response": xr.DataArray(np.ones(29), dims="step")}, "response must have a dimension 'time'"),
        ({"response": xr.Dataset({"x": ("time", np.ones(29))})}, "response must hold one or more of"),
        ({"standard_error": np.ones(29)}, "standard_error is for one curve"),
        ({"response": np.ones(29), "standard_error": np.zeros(29)}, "standard_error must hold 29 positive"),
        ({"laws": "constant"}, "laws must be a sequence"),
        ({"laws": ("linear",)}, "laws must be some of"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"response": np.ones((20, 29)), "time": LOG} | change
    with pytest.raises((TypeError, ValueError), match=message):
        fit_aging(arguments.pop("response"), arguments.pop("time"), **arguments)
