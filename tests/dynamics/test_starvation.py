"""Starvation against SciPy's integration of both modes, in logarithms of margins and time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import expit

import wideangle as wa

predict = wa.dynamics.predict_starvation

Array = NDArray[np.float64]

FORCES: dict[str, Any] = {
    "cross-entropy": lambda m: expit(-m),
    "exponential": lambda m: np.exp(-m),
    "squared": lambda m: 1.0 - m,
}


def integrate(
    fraction: float, margins0: Any, times: Any, loss: str, depth: int = 2, strengths: tuple[float, float] = (1.0, 1.0)
) -> Array:
    """Return margins (mode, time) of the two types of samples, [f1, 0] and [f1, f2]."""
    f1, f2 = strengths
    force = FORCES[loss]

    def slope(s: float, y: Array) -> Array:
        m = np.exp(y)
        alone, both = force(f1 * m[0]), force(f1 * m[0] + f2 * m[1])
        drive = np.array([f1 * ((1.0 - fraction) * alone + fraction * both), f2 * fraction * both])
        return np.asarray(np.exp(s) * depth * m ** (1.0 - 2.0 / depth) * drive)

    s = np.log1p(np.asarray(times))
    run = solve_ivp(slope, (0.0, s[-1]), np.log(margins0), method="LSODA", rtol=1e-12, atol=1e-13, t_eval=s)
    assert run.success
    return np.asarray(np.exp(run.y))


def integrate_hinge(
    fraction: float, margins0: Any, times: Array, depth: int, strengths: tuple[float, float]
) -> tuple[Array, list[float]]:
    """Return margins (mode, time), and when either type of samples reaches a margin of 1; piece by piece."""
    f1, f2 = strengths
    y, t, events = np.array(margins0), 0.0, []
    out = np.full((2, times.size), np.nan)
    for active in ((True, True), (True, False)):

        def slope(t: float, m: Array, active: tuple[bool, bool] = active) -> Array:
            first, second = (1.0 - fraction) * active[0], fraction * active[1]
            return np.asarray(depth * m ** (2.0 - 2.0 / depth) * np.array([f1 * (first + second), f2 * second]))

        def reached(t: float, m: Array, both: bool = active[1]) -> float:
            return float(f1 * m[0] + f2 * m[1] * both - 1.0)

        reached.terminal = True  # type: ignore[attr-defined]
        run = solve_ivp(slope, (t, 1e9), y, method="DOP853", rtol=1e-13, atol=1e-16, events=reached, dense_output=True)
        inside = (times >= t) & (times <= run.t[-1])
        if np.any(inside):
            out[:, inside] = run.sol(times[inside])
        t, y = run.t[-1], run.y[:, -1]
        events.append(t)
    out[:, times > t] = y[:, None]
    return out, events


@pytest.mark.parametrize("loss", sorted(FORCES))
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("strengths", [(1.0, 1.0), (2.0, 0.7)])
def test_the_bounds_hold_and_close_in(loss: str, depth: int, strengths: tuple[float, float]) -> None:
    times = [0.1, 1.0, 3.0] if loss == "squared" else [0.1, 1.0, 10.0, 1e3, 1e6, 1e12]
    for scale in (1.0, 1e-2):
        margins0 = [1e-2, 1e-3 * scale]
        law = predict(0.3, margins0, times, loss=loss, depth=depth, strengths=strengths)
        truth = integrate(0.3, margins0, times, loss, depth, strengths)
        assert np.all(truth <= law.margins.values * (1.0 + 1e-9))
        assert np.all(truth >= law.lower_bound.values * (1.0 - 1e-9))
        if loss != "squared":
            width = np.log(law.margins / law.lower_bound).values
            assert np.all(width < 0.05 * scale)
            assert width[1, -1] > 1e-9  # not by being equal to each other


def test_late_exponent_is_the_fraction() -> None:
    for fraction in (0.2, 0.5):
        margins0 = [1e-2, 2e-5]
        times = [1e12, 1.01e12]
        truth = integrate(fraction, margins0, times, "cross-entropy")
        local = np.diff(np.log(truth[1]))[0] / np.diff(np.log(truth[0]))[0]
        law = predict(fraction, margins0, times)
        assert law.exponent == fraction
        predicted = np.diff(np.log(law.margins.sel(mode=1)))[0] / np.diff(np.log(law.margins.sel(mode=0)))[0]
        assert predicted == pytest.approx(fraction, abs=1e-6)
        assert local == pytest.approx(fraction, abs=1e-3)
        # The first correction is -fraction (1 - fraction) m2, from the force at small m2.
        assert local == pytest.approx(fraction - fraction * (1.0 - fraction) * truth[1, 0], abs=3e-5)


def test_deep_modes_starve_for_good() -> None:
    law = predict(0.5, [1e-6, 1e-6], [1e20, 1e40], depth=3)
    np.testing.assert_allclose(law.margins.sel(mode=1) / 1e-6, 0.5**-3.0, rtol=0.02)
    truth = integrate(0.5, [1e-3, 1e-3], [1e4, 1e8], "cross-entropy", depth=3)
    assert truth[1, -1] < 8.0 * 1e-3
    assert truth[1, -1] > 6.0 * 1e-3


def test_squared_loss_unlearns_the_rarer_feature() -> None:
    """Where the law makes no statement it must say so: the bound below is 0 there."""
    truth = integrate(0.3, [1e-2, 1e-3], [6.0, 1e4], "squared")
    assert truth[1, 1] < 0.1 * truth[1, 0]
    np.testing.assert_array_equal(predict(0.3, [1e-2, 1e-3], [1e4], loss="squared").lower_bound, 0.0)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(("fraction", "strengths"), [(0.1, (1.0, 1.0)), (0.5, (1.0, 1.0)), (0.7, (0.8, 1.5))])
def test_hinge_is_exact(fraction: float, strengths: tuple[float, float], depth: int) -> None:
    margins0 = [0.02, 0.01]
    times = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 60)])
    law = predict(fraction, margins0, times, loss="hinge", depth=depth, strengths=strengths)
    truth, (saturation, final) = integrate_hinge(fraction, margins0, times, depth, strengths)
    np.testing.assert_allclose(law.margins, truth, rtol=1e-9)
    np.testing.assert_array_equal(law.margins, law.lower_bound)
    assert float(law.saturation_time) == pytest.approx(saturation, rel=1e-11)
    assert float(law.final_time) == pytest.approx(final, rel=1e-10)
    assert law.margins.values[0, -1] == 1.0 / strengths[0]
    np.testing.assert_array_equal(law.margins.sel(mode=1, time=times[times > saturation]), law.frozen_margin)


def test_frozen_margin_is_below_the_naive_one() -> None:
    # kappa = 1/2: x + b sqrt(x) = 1 is a quadratic equation in sqrt(x).
    x0, m20 = 1e-2, 1e-1
    b = m20 / np.sqrt(x0)
    root = 0.5 * (np.sqrt(b * b + 4.0) - b)
    frozen = float(predict(0.5, [x0, m20], [1.0], loss="hinge").frozen_margin)
    assert frozen == pytest.approx(b * root, rel=1e-14)
    assert frozen < 0.7 * b


def test_hinge_that_begins_saturated() -> None:
    law = predict(0.5, [[0.7, 0.4], [1.5, 0.1]], [0.0, 100.0], loss="hinge")
    np.testing.assert_array_equal(law.saturation_time, 0.0)
    np.testing.assert_array_equal(law.frozen_margin, [0.4, 0.1])
    np.testing.assert_array_equal(law.margins.sel(mode=0), [[0.7, 1.0], [1.5, 1.5]])
    np.testing.assert_allclose(law.final_time, [np.log(1.0 / 0.7), 0.0], rtol=1e-14)


def test_a_feature_of_all_samples_shares_the_margin_under_the_hinge() -> None:
    law = predict(1.0, [0.01, 0.03], [1.0, 1e3], loss="hinge")
    np.testing.assert_allclose(law.margins.values[:, 1], [0.25, 0.75], rtol=1e-14)
    assert law.final_time == np.inf


@pytest.mark.parametrize("loss", ["cross-entropy", "exponential", "hinge", "squared"])
def test_threshold_time_is_when_the_law_gets_there(loss: str) -> None:
    margins0 = [1e-3, 1e-2]
    time = float(predict(0.5, margins0, [1.0], loss=loss, threshold=0.05).threshold_time)
    assert 0.0 < time < np.inf
    assert predict(0.5, margins0, [time], loss=loss).margins.values[1, 0] == pytest.approx(0.05, rel=1e-12)
    assert predict(0.5, margins0, [1.0], loss=loss, threshold=0.01).threshold_time == 0.0
    if loss in ("hinge", "squared"):
        assert predict(0.5, margins0, [1.0], loss=loss, threshold=0.5).threshold_time == np.inf


def test_dimensions_and_batches() -> None:
    times = [0.0, 1.0, 10.0]
    one = predict(0.5, [1e-3, 2e-3], times)
    assert one.margins.dims == ("mode", "time")
    np.testing.assert_array_equal(one.margins.sel(time=0.0), [1e-3, 2e-3])
    many = predict([0.1, 0.5], [[1e-2, 1e-2], [1e-3, 2e-3]], times)
    assert many.margins.dims == ("trajectory", "mode", "time")
    np.testing.assert_array_equal(many.fraction, [0.1, 0.5])
    for name, values in one.data_vars.items():
        np.testing.assert_array_equal(many[name].isel(trajectory=1), values)
    shared = predict([0.1, 0.5], [1e-3, 2e-3], times)
    np.testing.assert_array_equal(shared.margins.isel(trajectory=1), one.margins)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0.0}, r"fraction must be one number.*in \(0, 1\], got 0.0"),
        ({"fraction": [0.5, 1.1]}, "fraction must be"),
        ({"fraction": [[0.5]]}, "fraction must be"),
        ({"margins0": [0.1, 0.0]}, "margins0 must hold positive margins"),
        ({"margins0": [0.1, 0.1, 0.1]}, "margins0 must hold positive margins, of shape"),
        ({"fraction": [0.1, 0.2], "margins0": np.ones((3, 2))}, "one length, got 2 and 3"),
        ({"times": 1.0}, "times must be one-dimensional"),
        ({"times": [1.0, -1.0]}, "times must be one-dimensional and not negative"),
        ({"times": [np.nan]}, "times must be finite"),
        ({"strengths": (1.0,)}, "strengths must be two positive numbers"),
        ({"strengths": (1.0, -1.0)}, "strengths must be two positive numbers"),
        ({"threshold": 0.0}, "threshold must be positive"),
        ({"loss": "mse"}, "loss must be one of"),
        ({"loss": "squared", "margins0": [1.0, 0.1]}, "margins0 must begin with margins below"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(**{"fraction": 0.5, "margins0": [0.1, 0.1], "times": [1.0], **arguments})
