"""Networks with kernels of their own: what their responses share in units of time of each."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import wrightomega
from scipy.stats import binom

import wideangle as wa
from wideangle.response import fit_aging

Array = NDArray[np.float64]
FIVE_SIGMA = 2.9e-7
LOG = np.append(0.0, np.geomspace(0.03, 10.0, 30))
LONG = np.append(0.0, np.geomspace(0.1, 1e4, 30))


def kernels(rng: np.random.Generator, n_networks: int, variation: float = 0.3) -> Array:
    return rng.gamma(variation**-2, variation**2, (n_networks, 1))


def noise(rng: np.random.Generator, n_networks: int, n_times: int, size: float) -> Array:
    """Relative, of each network and of each time."""
    common = 1.0 + size * rng.standard_normal((n_networks, 1))
    return np.asarray(common * (1.0 + size * rng.standard_normal((n_networks, n_times))))


def test_squared_loss_in_units_of_the_kernel() -> None:
    """The mean of exponentials whose rates scatter is a power law; in units of the kernel all are exp(-t)."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        kernel = kernels(rng, 100)
        response = kernel * np.exp(-kernel * LOG)
        plain, fit = fit_aging(response, LOG), fit_aging(response, LOG, time_unit=1.0 / kernel[:, 0])
        assert plain["gamma_high"].sel(law="power law") < 30.0
        assert fit["chosen"] == "exponential"
        best = fit.sel(law="exponential")
        assert best["rate"].item() == pytest.approx(1.0, abs=1e-9)
        assert best["rate_low"] < 1.0 < best["rate_high"] < 1.01
        assert fit["time"][-1].item() == pytest.approx(10.0 * kernel.min(), rel=1e-14)


COVERED: dict[str, tuple[Array, Any, str, float, float, str]] = {
    "exponential": (LOG, lambda s: np.exp(-s), "rate", 1.0, 0.1, "exponential"),
    "linear times": (np.linspace(0.0, 8.0, 60), lambda s: np.exp(-s), "rate", 1.0, 0.2, "exponential"),
    "power law": (LONG, lambda s: (1.0 + s / 5.0) ** -1.2, "gamma", 1.2, 0.2, "power law"),
    "coarse": (np.append(0.0, 2.0 ** np.arange(-4.0, 12.0)), lambda s: 1.0 / (1.0 + s), "gamma", 1.0, 0.1, "power law"),
}


def check_coverage(name: str, n_ensembles: int, seed: int) -> None:
    time, law, parameter, truth, size, choice = COVERED[name]
    rng, covered, chosen = np.random.default_rng(seed), 0, 0
    for _ in range(n_ensembles):
        kernel = kernels(rng, 60)
        response = law(kernel * time) * noise(rng, 60, len(time), size)
        fit = fit_aging(response, time, time_unit=1.0 / kernel[:, 0])
        best = fit.sel(law=choice)
        covered += int(best[f"{parameter}_low"] <= truth <= best[f"{parameter}_high"])
        chosen += int(fit["chosen"] == choice)
    # The error of interpolation and the own part of each bin may make intervals wider, not narrower.
    assert covered >= binom.ppf(FIVE_SIGMA, n_ensembles, 0.95)
    assert chosen >= 0.9 * n_ensembles


@pytest.mark.parametrize("name", list(COVERED))
def test_intervals_cover(name: str) -> None:
    check_coverage(name, 12, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(COVERED))
def test_intervals_of_many_ensembles_cover(name: str) -> None:
    check_coverage(name, 200, seed=4)


def test_cross_entropy_in_units_of_the_kernel() -> None:
    rng = np.random.default_rng(5)
    kernel, margin = kernels(rng, 100), 0.3 * rng.standard_normal((100, 1))
    response = kernel / (1.0 + wrightomega(margin + np.exp(margin) + kernel * LONG))
    fit = fit_aging(response, LONG, time_unit=1.0 / kernel[:, 0])
    best = fit.sel(law="power law")
    assert fit["chosen"] == "power law"
    assert best["gamma_low"] < 1.0 < best["gamma_high"] < 1.1


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_networks_of_width_20_with_constant_kernels(loss: str) -> None:
    """Linear networks whose readout is frozen: kernels scatter by 30 % and do not change."""
    steps = np.unique(np.append(0, np.geomspace(1, 100 if loss == "squared" else 10_000, 30)).astype(int))
    state = wa.response.simulate_training(
        wa.MLP((20,), activation="linear"),
        (np.array([[0.6, -0.8]]), np.array([1.0])),
        n_networks=60,
        n_steps=int(steps[-1]),
        learning_rate=0.05 if loss == "squared" else 0.5,
        loss=loss,
        method="flow",
        rtol=1e-12,
        readout="frozen",
        parametrization="ntk",
        seed=1,
        record=tuple(steps.tolist()),
    )
    response = wa.response.training_response(state, np.array([[0.6, -0.8]]), np.array([[0.6, -0.8]]))
    kernel = response["kernel"].isel(time=0, train=0, probe=0)
    assert float(abs(response["kernel"] / kernel - 1.0).max()) < 1e-12
    assert 0.2 < float(kernel.std() / kernel.mean()) < 0.4
    for name in ("response", "loss_derivative"):
        fit = fit_aging(response[name], time_unit=1.0 / kernel)
        if loss == "squared":
            best = fit.sel(law="exponential")
            assert fit["chosen"] == "exponential"
            assert 0.99 < best["rate_low"] < 1.0 < best["rate_high"] < 1.01
        else:
            best = fit.sel(law="power law")
            assert fit["chosen"] == "power law"
            assert 0.95 < best["gamma_low"] < 1.0 < best["gamma_high"] < 1.1


def test_equal_units_are_a_unit() -> None:
    rng = np.random.default_rng(6)
    response = (1.0 + LONG / 5.0) ** -1.2 * noise(rng, 40, len(LONG), 0.2)
    plain, fit = fit_aging(response, LONG / 4.0), fit_aging(response, LONG, time_unit=np.full(40, 4.0))
    xr.testing.assert_allclose(fit, plain, rtol=1e-6)


@pytest.mark.parametrize("law", [lambda s: np.exp(-s), lambda s: 1.0 / (1.0 + s), lambda s: (1.0 + s * s) ** -0.5])
def test_mean_is_that_at_common_times(law: Any) -> None:
    """Interpolated means against those of responses that are computed at the common times, and the error given."""
    rng = np.random.default_rng(7)
    kernel, time = kernels(rng, 50), np.linspace(0.0, 12.0, 80)
    fit = fit_aging(law(kernel * time), time, time_unit=1.0 / kernel[:, 0])
    wanted = law(fit["time"].values)
    assert np.sqrt(np.mean((fit["mean"] - wanted) ** 2)) < np.sqrt(np.mean(fit["standard_error"] ** 2)) + 1e-12
    assert fit["standard_error"].max() < 2e-3


def test_responses_that_change_their_sign() -> None:
    """About a zero logarithms are no help: still straight lines between the times are no better, h^2/8 |f''|."""
    rng = np.random.default_rng(7)
    kernel, time = kernels(rng, 50), np.linspace(0.0, 12.0, 80)
    fit = fit_aging(np.cos(kernel * time), time, time_unit=1.0 / kernel[:, 0])
    spacing = 12.0 / 79.0 * kernel.max()
    np.testing.assert_allclose(fit["mean"], np.cos(fit["time"]), rtol=0, atol=spacing**2 / 8.0)


@pytest.mark.parametrize("size", [0.1, 0.3, 0.5])
def test_noise_of_many_networks(size: float) -> None:
    """Values near 0 by chance and gaps between times must not grow into outliers; the mean of the noise stays 0."""
    rng = np.random.default_rng(1)
    kernel = kernels(rng, 1000)
    fit = fit_aging(
        np.exp(-kernel * LOG) * (1.0 + size * rng.standard_normal((1000, 31))), LOG, time_unit=1.0 / kernel[:, 0]
    )
    ratio = fit["mean"] * np.exp(fit["time"]) - 1.0
    # Five standard errors, and for the mean of logarithms half of the variance of the noise is corrected to a tenth.
    assert np.all(np.abs(ratio) < 5.0 * size / math.sqrt(1000) + 0.05 * size**2)
    assert fit["chosen"] == "exponential"
    assert fit["rate"].sel(law="exponential").item() == pytest.approx(1.0, abs=0.05)


def test_times_that_all_networks_have() -> None:
    time, units = np.geomspace(1.0, 1e3, 31), np.linspace(1.0, 2.0, 12)
    fit = fit_aging(np.ones((12, 31)) * np.linspace(1.0, 2.0, 12)[:, None], time, time_unit=units)
    assert fit["time"][0].item() >= 1.0
    assert fit["time"][0].item() < 10**0.1
    assert fit["time"][-1].item() == pytest.approx(500.0, rel=1e-14)
    assert fit["chosen"] == "undecided" or fit["chosen"] == "constant"


def test_size_of_responses_and_zeros() -> None:
    rng = np.random.default_rng(10)
    kernel = kernels(rng, 40)
    response = (1.0 + kernel * LONG) ** -1.2 * noise(rng, 40, len(LONG), 0.1)
    response[5, 12:] = 0.0
    plain = fit_aging(response, LONG, time_unit=1.0 / kernel[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = fit_aging(1e250 * response, 1e30 * LONG, time_unit=1e30 / kernel[:, 0])
        zeros = fit_aging(0.0 * response, LONG, time_unit=1.0 / kernel[:, 0])
    assert np.all(np.isfinite(plain["mean"]))
    np.testing.assert_allclose(large["gamma_high"], plain["gamma_high"], rtol=1e-6)
    np.testing.assert_allclose(large["mean"] / 1e250, plain["mean"], rtol=1e-9)
    assert zeros["chosen"] == "constant"


def test_factors_and_diverged_networks() -> None:
    """A network that has diverged needs no unit, and each factor is fitted with the networks it has."""
    rng = np.random.default_rng(8)
    kernel = kernels(rng, 30)
    response = np.exp(-kernel * LOG)
    response[3] = np.nan
    units = 1.0 / kernel[:, 0]
    units[3] = np.nan
    data = xr.Dataset(
        {"response": (("network", "time"), response), "kernel": (("network", "time"), 0.0 * LOG + kernel)}
    )
    data["kernel"][3] = np.nan
    fit = fit_aging(data.assign_coords(time=LOG), time_unit=xr.DataArray(units, dims="network"))
    assert fit["n_dropped"].values.tolist() == [1, 1]
    assert fit["chosen"].values.tolist() == ["exponential", "undecided"] or fit["chosen"][1] == "constant"
    one = fit_aging(np.delete(response, 3, axis=0), LOG, time_unit=np.delete(units, 3))
    np.testing.assert_allclose(fit["rate"].sel(factor="response"), one["rate"], rtol=1e-12)


def test_units_go_by_the_names_of_networks() -> None:
    rng = np.random.default_rng(11)
    kernel, names = kernels(rng, 30), np.arange(30) + 5
    response = xr.DataArray(np.exp(-kernel * LOG), {"network": names, "time": LOG}, ("network", "time"))
    unit = xr.DataArray(1.0 / kernel[:, 0], {"network": names}, "network")
    plain = fit_aging(response, time_unit=unit)
    assert plain.attrs["time_unit"] == "given"
    assert fit_aging(response).attrs["time_unit"] == "None"
    order = rng.permutation(30)
    more = xr.concat([unit.assign_coords(network=names + 100), unit[order]], "network")
    for given in (unit[order], more, unit.values, unit.drop_vars("network")):
        xr.testing.assert_identical(fit_aging(response, time_unit=given), plain)
    xr.testing.assert_identical(fit_aging(response.isel(network=order), time_unit=unit)["chosen"], plain["chosen"])
    with pytest.raises(ValueError, match="time_unit must hold a number for each network, got none for network 7"):
        fit_aging(response, time_unit=unit.drop_sel(network=7))
    with pytest.raises(ValueError, match="several for network 5"):
        fit_aging(response, time_unit=xr.concat([unit, unit], "network"))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    kernel = kernels(np.random.default_rng(12), 20)
    response, unit = np.exp(-kernel * LOG), 1.0 / kernel[:, 0]
    plain = fit_aging(response, LOG, time_unit=unit)
    for grad in (False, True):
        tensors = [torch.tensor(values, requires_grad=grad) for values in (response, LOG, unit)]
        xr.testing.assert_identical(fit_aging(*tensors[:2], time_unit=tensors[2]), plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response": np.ones(31)}, "time_unit is for networks"),
        ({"time_unit": np.ones(19)}, "time_unit must hold 20 numbers"),
        ({"time_unit": 2.0}, "time_unit must have 1 dim"),
        (
            {"time_unit": np.append(np.ones(19), 0.0)},
            r"time_unit must be positive and finite, got time_unit\[19\] = 0.0",
        ),
        ({"time_unit": np.append(np.nan, np.ones(19))}, r"time_unit must be positive and finite, got time_unit\[0\]"),
        ({"time_unit": ["1"] * 20}, "time_unit must hold real numbers"),
        ({"time_unit": xr.DataArray(np.ones(20), dims="time")}, "time_unit must have the dimension 'network'"),
        ({"time_unit": np.geomspace(1.0, 1e3, 20), "time": LOG + 1.0}, "time_unit must leave 6 times"),
    ],
)
def test_bad_units(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"response": np.ones((20, 31)), "time": LOG, "time_unit": np.ones(20)} | change
    with pytest.raises((TypeError, ValueError), match=message):
        fit_aging(arguments.pop("response"), arguments.pop("time"), **arguments)


def test_gamma_distributed_rates_without_units_are_the_power_law_of_their_mean() -> None:
    """As documented: gamma = 1/v^2 of the mean, whatever the single networks do."""
    rng, covered = np.random.default_rng(9), 0
    for _ in range(12):
        best = fit_aging(np.exp(-kernels(rng, 200) * LOG), LOG).sel(law="power law")
        covered += int(best["gamma_low"] < 0.3**-2 < best["gamma_high"])
    assert covered >= binom.ppf(FIVE_SIGMA, 12, 0.95)
    assert math.isfinite(best["gamma_high"].item())
