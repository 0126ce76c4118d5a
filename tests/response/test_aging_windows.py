"""The exponent of forces that a power law misses at their onset, where noise hides that: windows of later times."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import wrightomega
from scipy.stats import binom

import wideangle.response._aging_windows as windows
from wideangle.response import fit_aging, predict_aging

Array = NDArray[np.float64]
FIVE_SIGMA = 2.9e-7
TIMES = {
    "20 to 1e3": np.append(0.0, np.geomspace(0.1, 1e3, 20)),
    "40 to 1e4": np.append(0.0, np.geomspace(0.1, 1e4, 40)),
    "60 to 1e3": np.append(0.0, np.geomspace(0.05, 1e3, 60)),
}


def cross_entropy(drive: Array, margin: Array | float = 0.0) -> Array:
    """The force 1/(1 + e^m) with m + e^m = m_0 + e^m_0 + K t."""
    return np.asarray(1.0 / (1.0 + wrightomega(margin + np.exp(margin) + drive)))


def intervals(draw: Callable[[], Array], time: Array, n_draws: int, error: Array | None = None) -> Array:
    """The ends of the interval of gamma (draw, 2)."""
    fits = [fit_aging(draw(), time, standard_error=error).sel(law="power law") for _ in range(n_draws)]
    return np.array([[fit["gamma_low"].item(), fit["gamma_high"].item()] for fit in fits])


def covered(ends: Array, low: float, high: float) -> int:
    """How many intervals hold a number between two others."""
    return int(np.sum((ends[:, 0] <= high) & (ends[:, 1] >= low)))


def check_cross_entropy(draw: Callable[[], Array], time: Array, n_draws: int, limit: bool = True) -> None:
    """The interval holds an exponent between the limit and the largest local one in 95 %, the limit in 3/4."""
    ends = intervals(draw, time, n_draws)
    largest = float(predict_aging("cross-entropy", time, kernel=1.0)["local_exponent"].max())
    assert 1.015 < largest < 1.02
    assert covered(ends, 1.0, largest) >= binom.ppf(FIVE_SIGMA, n_draws, 0.95)
    if limit:
        assert covered(ends, 1.0, 1.0) >= binom.ppf(FIVE_SIGMA, n_draws, 0.75)


def check_one_curve(name: str, noise: float, n_draws: int) -> None:
    time, rng = TIMES[name], np.random.default_rng(8)
    force = cross_entropy(time)
    check_cross_entropy(lambda: force * (1.0 + noise * rng.standard_normal(len(time))), time, n_draws)


def check_networks(name: str, n_networks: int, scatter: float, noise: float, n_draws: int) -> None:
    time, rng = TIMES[name], np.random.default_rng(9)

    def draw() -> Array:
        drive = rng.gamma(11.0, 1.0 / 11.0, (n_networks, 1)) * time
        force = cross_entropy(drive, scatter * rng.standard_normal((n_networks, 1)))
        return force * (1.0 + noise * rng.standard_normal(force.shape))

    # With little noise intervals end above 1, among the local exponents late in the window, which are not there yet.
    check_cross_entropy(draw, time, n_draws, limit=noise >= 0.1)


@pytest.mark.parametrize(("name", "noise"), [("20 to 1e3", 0.03), ("60 to 1e3", 0.1)])
def test_one_curve_with_noise(name: str, noise: float) -> None:
    check_one_curve(name, noise, 24)


def test_networks_with_noise() -> None:
    check_networks("20 to 1e3", 20, 0.3, 0.3, 16)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("name", list(TIMES))
def test_one_curve_with_noise_of_many(name: str, noise: float) -> None:
    check_one_curve(name, noise, 60)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("scatter", [0.3, 1.0])
@pytest.mark.parametrize("n_networks", [20, 100])
def test_networks_with_noise_of_many(n_networks: int, scatter: float, noise: float) -> None:
    check_networks("20 to 1e3", n_networks, scatter, noise, 24)


def check_power_laws(kind: str, n_draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """True powers are covered as before, by intervals that are little wider."""
    time = np.append(0.0, np.geomspace(0.1, 1e4, 40)) if kind != "growth" else np.linspace(0.0, 5000.0, 101)
    gamma = -0.7 if kind == "growth" else 1.0
    law = (1.0 + time / 30.0) ** -gamma
    error = 0.03 * law if kind == "errors" else None
    shape = (30,) if kind == "networks" else ()

    def ends() -> Array:
        rng = np.random.default_rng(5)
        return intervals(lambda: law * (1.0 + 0.03 * rng.standard_normal((*shape, len(time)))), time, n_draws, error)

    wide = ends()
    monkeypatch.setattr(windows, "_WINDOWS", 0)
    plain = ends()
    assert np.all(wide[:, 0] <= plain[:, 0])
    assert np.all(wide[:, 1] >= plain[:, 1])
    ratio = np.diff(wide, axis=1) / np.diff(plain, axis=1)
    # Intervals that overlap with the one of all times, and are at most twice as wide, reach as far on either side.
    assert ratio.max() < 5.0
    assert np.median(ratio) < 2.5
    assert covered(wide, gamma, gamma) >= binom.ppf(FIVE_SIGMA, n_draws, 0.95)


@pytest.mark.parametrize("kind", ["alone", "errors", "networks", "growth"])
def test_power_laws(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_power_laws(kind, 10, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alone", "errors", "networks", "growth"])
def test_power_laws_of_many(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_power_laws(kind, 40, monkeypatch)


def odd_responses() -> dict[str, tuple[Array, Array, dict[str, Any]]]:
    time = np.append(0.0, np.geomspace(0.1, 1e4, 30))
    rng = np.random.default_rng(6)
    law = (1.0 + time / 20.0) ** -1.2
    noisy = law * (1.0 + 0.1 * rng.standard_normal((40, 31)))
    many = TIMES["60 to 1e3"]
    # Of so few digits that means over networks are exact.
    force, noise = np.round(cross_entropy(many, -1.0) * 2.0**20) / 2.0**20, 1.0 + 0.01 * rng.standard_normal((40, 61))
    late = np.where(time < 100.0, noisy, 0.0)
    spike = late.copy()
    spike[:, -1] = noisy[:, -1]
    some = noisy.copy()
    some[1:, 12:] = 0.0
    return {
        "vanishes late": (late[0], time, {}),
        "networks vanish late": (late, time, {}),
        "errors, vanishes late": (late[0], time, {"standard_error": np.full(31, 0.01)}),
        "one late value": (spike[0], time, {}),
        "networks, one late value": (spike, time, {}),
        "one network lives on": (some, time, {}),
        "few networks": (noisy[:2], time, {}),
        "nine networks": (noisy[:9], time, {}),
        "ten networks": (noisy[:10], time, {}),
        "networks that are all the same": (np.tile(force, (40, 1)), many, {}),
        "networks that become the same": (np.where(many < 1.0, force * noise, force), many, {}),
        "changing sign": (rng.standard_normal((40, 31)), time, {}),
        "means of zero": (np.concatenate([noisy, -noisy]), time, {}),
        "constant": (np.ones(31), time, {}),
        "negative": (-noisy[0], time, {}),
        "exponential": (np.exp(-time / 100.0), time, {}),
        "networks with units": (noisy, time, {"time_unit": rng.gamma(11.0, 1.0 / 11.0, 40)}),
        "few networks with units": (noisy[:4], time, {"time_unit": rng.gamma(11.0, 1.0 / 11.0, 4)}),
        "six times": (noisy[0, :6], time[:6], {}),
        "eight times": (noisy[0, :8], time[:8], {}),
        "nine times": (noisy[0, :9], time[:9], {}),
        "later times": (noisy[0, 1:], time[1:], {}),
    }


@pytest.mark.parametrize("name", list(odd_responses()))
def test_only_the_interval_of_gamma_is_of_windows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the responses are: nothing else changes, and no end is lost or moves inwards."""
    response, time, given = odd_responses()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide = fit_aging(response, time, **given)
        alone = fit_aging(response, time, laws=("power law",), **given)
    monkeypatch.setattr(windows, "_WINDOWS", 0)
    plain = fit_aging(response, time, **given)
    ends = ["gamma_low", "gamma_high"]
    xr.testing.assert_identical(wide.drop_vars(ends), plain.drop_vars(ends))
    low, high = wide["gamma_low"].sel(law="power law").item(), wide["gamma_high"].sel(law="power law").item()
    first, last = plain["gamma_low"].sel(law="power law").item(), plain["gamma_high"].sel(law="power law").item()
    assert low <= first <= last <= high
    assert np.isfinite([low, high]).tolist() == np.isfinite([first, last]).tolist()
    for end in ends:
        np.testing.assert_array_equal(alone[end].item(), wide[end].sel(law="power law").item())


def test_laws_without_an_exponent_need_no_windows() -> None:
    fit = fit_aging(np.exp(-np.linspace(0.0, 3.0, 30)), np.linspace(0.0, 3.0, 30), laws=("constant", "exponential"))
    assert fit["chosen"] == "exponential"
    assert np.all(np.isnan(fit["gamma_low"]))


@pytest.mark.parametrize("n_times", [6, 8, 9, 12, 30, 200])
def test_windows_have_times_left(n_times: int) -> None:
    time = np.append(0.0, np.geomspace(1.0, 1e3, n_times - 1))
    given = windows.Measured(np.ones(n_times), time, np.zeros(n_times), None)
    starts = windows._later_starts(given.time)
    assert len(starts) <= 8
    assert np.all(np.diff(starts) > 0)
    assert (len(starts) > 0) == (n_times > 8)
    assert all(start > 0 and len(given.since(int(start)).time) >= 8 for start in starts)
