"""What fits of aging take for errors: of one curve, of laws that are rejected, and of responses of any size."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import wrightomega
from scipy.stats import binom

import wideangle as wa
from wideangle.response import fit_aging, predict_aging

Array = NDArray[np.float64]
FIVE_SIGMA = 2.9e-7
LOG = np.append(0.0, np.geomspace(0.1, 1e4, 30))


def cross_entropy(drive: Array, margin: Array | float) -> Array:
    """The force 1/(1 + e^m) with m + e^m = m_0 + e^m_0 + K t."""
    return np.asarray(1.0 / (1.0 + wrightomega(margin + np.exp(margin) + drive)))


@pytest.mark.parametrize("first", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("margin", [-6.0, -3.0, -2.5, -1.0, 0.0])
def test_one_curve_of_cross_entropy(first: float, margin: float) -> None:
    """A long wait before the force falls is no power law, and no exponential that misses all late times either."""
    time = np.append(0.0, np.geomspace(first, 1e4, 30))
    fit = fit_aging(cross_entropy(time, margin), time)
    best = fit.sel(law="power law")
    assert np.isfinite(best["gamma"])
    assert best["gamma_low"] < 1.0 < best["gamma_high"]
    if margin > -2.0:
        assert fit["chosen"] == "power law"
    if margin < -4.0:
        assert fit["chosen"] == "none"
    late = (best["fitted"] / fit["mean"]).sel(time=slice(100.0, None))
    assert np.all((late > 0.5) & (late < 2.0)), "the law must not vanish where the response does not"


@pytest.mark.parametrize("last", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("first", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n_times", [15, 20, 25, 40, 60])
def test_one_curve_of_cross_entropy_by_grid(n_times: int, first: float, last: float) -> None:
    """The exponent is among the local ones, once these are near 1 for a decade; what is missed is no noise."""
    time = np.append(0.0, np.geomspace(first, last, n_times))
    known = predict_aging("cross-entropy", time, kernel=1.0)
    several = known["force"].values * np.random.default_rng(1).gamma(4.0, 0.25, (9, 1))
    for response in (known["force"].values, several):
        fit = fit_aging(response, time)
        best = fit.sel(law="power law")
        assert fit["chosen"] == "power law"
        assert best["gamma_low"] < (1.1 if last < 1e3 else known["local_exponent"].max())
        assert best["gamma_high"] > 1.0
        far = np.abs(best["fitted"] / fit["mean"] - 1.0)
        # A root mean square over 12 bins.
        assert fit["misfit"] < far.max() < np.sqrt(12.0) * fit["misfit"]
        assert far.max() < 0.2


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_one_curve_of_cross_entropy_with_noise(noise: float) -> None:
    """No noise makes a law that runs far from late forces the best one."""
    time = np.append(0.0, np.geomspace(0.1, 1e3, 20))
    force, rng = cross_entropy(time, 0.0), np.random.default_rng(2)
    for _ in range(30):
        best = fit_aging(force * (1.0 + noise * rng.standard_normal(21)), time).sel(law="power law")
        assert best["gamma_low"] < 1.1
        # Two of the 21 values lead the end of the law, and it misses up to 10 % without noise.
        assert np.all(np.abs(best["fitted"] / force - 1.0) < 0.15 + 5.0 * noise / np.sqrt(2.0))


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_of_exponentials_that_fall_far(noise: float) -> None:
    """A rate that is off by a little moves the last values by much: no reason to deny the exponential."""
    time, rng, chosen = np.append(0.0, np.geomspace(1.0, 1e4, 30)), np.random.default_rng(7), []
    for _ in range(40):
        response = np.exp(-time / 300.0) * (1.0 + noise * rng.standard_normal(31))
        chosen.append(fit_aging(response, time)["chosen"].item())
    assert set(chosen) <= {"exponential", "none", "undecided"}
    assert chosen.count("exponential") >= binom.ppf(FIVE_SIGMA, 40, 0.95)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_chosen_laws_of_single_networks_are_near(activation: str) -> None:
    """Curves without noise: a law that is chosen misses no more than 20 %, at late and small responses too."""
    x = np.linspace(-1.0, 1.0, 8)[:, None]
    y = np.where(np.sin(2.0 * np.pi * x[:, 0] + 0.3) > 0.0, 1.0, -1.0)
    network = wa.MLP((20,), activation=activation, bias_variance=1.0)
    state = wa.response.simulate_training(
        network, (x, y), n_networks=12, n_steps=20_000, learning_rate=0.05, loss="squared", seed=1
    )
    response = wa.response.training_response(state, x, x)[["response"]]
    n_chosen = 0
    for k in range(12):
        fit = fit_aging(response.isel(network=k)).isel(factor=0)
        if (law := fit["chosen"].item()) in ("none", "undecided"):
            continue
        n_chosen += 1
        far = fit["fitted"].sel(law=law) / fit["mean"] - 1.0
        assert np.sqrt(np.mean(far**2)) <= 0.2
    assert n_chosen or activation == "tanh"


@pytest.mark.parametrize("margin", [-1000.0, -30.0, -3.0, -1.0, 2.0])
def test_cross_entropy_after_its_onset(margin: float) -> None:
    """From twice the time on that predict_aging gives a power law describes the force within 10 %."""
    onset = 2.0 * predict_aging("cross-entropy", [0.0], kernel=1.0, margin=margin)["tau"].item()
    time = onset * np.geomspace(1.0, 5e3, 40)
    fit = fit_aging(cross_entropy(time, margin), time)
    assert fit["chosen"] == "power law"
    assert fit["misfit"] < 0.1


@pytest.mark.parametrize("scatter", [0.3, 1.0, 2.0])
def test_cross_entropy_from_the_start(scatter: float) -> None:
    """With margins that scatter about 0 the onset is no reason to deny the power law."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        margin = scatter * rng.standard_normal((60, 1))
        forces = cross_entropy(rng.gamma(11.0, 1.0 / 11.0, (60, 1)) * LOG, margin)
        fit = fit_aging(forces * (1.0 + 0.1 * rng.standard_normal((60, 31))), LOG)
        assert fit["chosen"] == "power law"
        assert fit["misfit"] < 0.15


@pytest.mark.parametrize("kind", ["networks", "errors", "alone"])
def test_rejected_laws_run_along_the_response(kind: str) -> None:
    """Networks that share a large relative scatter: rejected laws stay within what there is to describe."""
    rng = np.random.default_rng(1)
    law = (1.0 + LOG / 20.0) ** -1.2
    networks = law * (1.0 + 0.5 * rng.standard_normal((60, 1))) * (1.0 + 0.05 * rng.standard_normal((60, 31)))
    error = 0.05 * law if kind == "errors" else None
    fit = fit_aging(networks if kind == "networks" else networks[0], LOG, standard_error=error)
    mean = fit["mean"].values
    assert fit["chosen"] == "power law"
    constant, exponential = fit.sel(law="constant"), fit.sel(law="exponential")
    assert mean.min() < 0.1 * mean.mean() < constant["amplitude_low"]
    assert constant["amplitude_low"] < constant["amplitude"] < constant["amplitude_high"] < mean.max()
    # An ordinary least squares fit follows the response where it is large.
    large = mean > 0.5 * mean.max()
    np.testing.assert_allclose(exponential["fitted"].values[large], mean[large], rtol=0.25)
    assert 0.2 < exponential["rate"].item() / (1.2 / 20.0) < 1.0
    assert exponential["rate_low"] < exponential["rate"] < exponential["rate_high"]
    assert np.all(fit["weight"].sel(law=["constant", "exponential"]) < 1e-3)


def test_one_law_that_is_rejected() -> None:
    rng = np.random.default_rng(2)
    networks = np.exp(-LOG / 50.0) * (1.0 + 0.3 * rng.standard_normal((60, 1))) + 0.01 * rng.standard_normal((60, 31))
    fit = fit_aging(networks, LOG, laws=("constant",))
    assert fit["chosen"] == "none"
    assert 0.3 < fit["amplitude"].item() < 0.9


@pytest.mark.parametrize("size", [1e-300, 1e-250, 1e250, 1e307])
@pytest.mark.parametrize("kind", ["networks", "few", "errors", "alone"])
def test_size_of_responses(size: float, kind: str) -> None:
    """Neither squares nor sums leave the range of floats."""
    rng = np.random.default_rng(3)
    networks = (1.0 + LOG / 20.0) ** -1.2 * (1.0 + 0.1 * rng.standard_normal((40, 31)))
    given = {"networks": networks, "few": networks[:5]}.get(kind, networks[0])
    error = 0.1 * networks[0] if kind == "errors" else None
    plain = fit_aging(given, LOG, standard_error=error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = fit_aging(size * given, LOG, standard_error=None if error is None else size * error)
    assert other["chosen"] == plain["chosen"] == "power law"
    for name in ("gamma", "gamma_low", "tau_high", "change_low", "misfit", "p_value"):
        np.testing.assert_allclose(other[name], plain[name], rtol=1e-5, atol=1e-12)
    for name in ("mean", "standard_error", "amplitude", "amplitude_high"):
        np.testing.assert_allclose(other[name] / size, plain[name], rtol=1e-5)


ONE_CURVE = {
    # times, tau, gamma
    "linear": (np.linspace(0.0, 5000.0, 101), 200.0, 0.7),
    "linear, short": (np.linspace(0.0, 5000.0, 101), 30.0, 0.8),
    "linear, few": (np.linspace(0.0, 1000.0, 31), 100.0, 1.0),
    "logarithmic": (np.append(0.0, 2.0 ** np.arange(0.0, 14.0, 0.5)), 30.0, 0.8),
}


@pytest.mark.slow
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", list(ONE_CURVE))
def test_intervals_of_one_curve_cover(name: str, known: bool, relative: bool) -> None:
    """White noise: as often as they say, whether errors are given, and whether they are relative or of one size."""
    time, tau, gamma = ONE_CURVE[name]
    law = (1.0 + time / tau) ** -gamma
    error = 0.03 * law if relative else np.full(len(time), 0.009)
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        response = law + error * rng.standard_normal(len(time))
        best = fit_aging(response, time, standard_error=error if known else None).sel(law="power law")
        covered += int(best["gamma_low"] <= gamma <= best["gamma_high"])
    least, most = binom.ppf([FIVE_SIGMA, 1.0 - FIVE_SIGMA], 200, 0.95)
    assert least <= covered <= most


def test_known_errors_do_not_bias() -> None:
    """Noise of one size that is larger than late responses: 40 curves tell an interval that covers half of the time."""
    time, tau, gamma = ONE_CURVE["linear, short"]
    law = (1.0 + time / tau) ** -gamma
    rng, covered = np.random.default_rng(4), 0
    for _ in range(40):
        response = law + 0.009 * rng.standard_normal(len(time))
        best = fit_aging(response, time, standard_error=np.full(101, 0.009)).sel(law="power law")
        covered += int(best["gamma_low"] <= gamma <= best["gamma_high"])
    assert covered >= binom.ppf(FIVE_SIGMA, 40, 0.95)


@pytest.mark.parametrize("relative", [True, False])
def test_kind_of_noise_is_seen_in_one_curve(relative: bool) -> None:
    """Without errors the same law is found as with them, but for a small part of the interval."""
    time, tau, gamma = ONE_CURVE["linear, short"]
    law = (1.0 + time / tau) ** -gamma
    error = 0.03 * law if relative else np.full(101, 0.009)
    rng, differences = np.random.default_rng(6), []
    for _ in range(15):
        response = law + error * rng.standard_normal(101)
        alone, known = (fit_aging(response, time, standard_error=e).sel(law="power law") for e in (None, error))
        differences.append((alone["gamma"] - known["gamma"]) / (known["gamma_high"] - known["gamma_low"]))
    assert np.sqrt(np.mean(np.square(differences))) < 0.1


@pytest.mark.parametrize("power", [1.3, 1.7, 2.2])
def test_what_a_law_misses_is_no_more_than_it_must_miss(power: float) -> None:
    # A smooth misfit costs little, however large: alone it leads to laws that run twice as far from the response.
    rng = np.random.default_rng(5)
    time = np.append(0.0, np.geomspace(0.05, 6500.0, 34))
    shift = 0.1 * rng.standard_normal((100, 1)) + 0.05 * rng.standard_normal((100, 1)) * np.log1p(time / 400.0)
    curve = 1.0 / (1.0 + (time / 400.0) ** power)
    fit = fit_aging(np.exp(shift) * curve, time)

    def deviations(parameters: Array) -> Array:
        level, log_tau, gamma = parameters
        deviation: Array = np.exp(level) * (1.0 + time / np.exp(log_tau)) ** -gamma / curve - 1.0
        return deviation

    least = least_squares(deviations, [0.0, 6.0, 2.0])
    assert 0.0 < fit.misfit.item() < 1.6 * np.sqrt(np.mean(least.fun**2))
