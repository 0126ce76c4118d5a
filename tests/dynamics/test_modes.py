"""Coupled modes against SciPy, single modes in closed form, and the law of starvation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import wideangle as wa
from wideangle.losses import LOSSES

SMOOTH = tuple(loss for loss in LOSSES if loss != "hinge")
FEATURES = np.array([[1.0, 0.0, 0.3], [0.7, 1.2, 0.0], [0.5, 0.4, 2.0]])
SHARES = np.array([0.5, 0.3, 0.2])
START = np.array([1e-3, 0.02, 0.3])

FORCES: dict[str, Any] = {
    "cross-entropy": lambda m: 0.5 * (1.0 - np.tanh(0.5 * m)),
    "exponential": lambda m: np.exp(-m),
    "squared": lambda m: 1.0 - m,
}


def speeds(m: Any, depth: Any, gap: Any) -> Any:
    return np.sqrt(gap**2 + 4.0 * m**2) if depth == 2 else depth * np.maximum(m, 0.0) ** (2.0 - 2.0 / depth)


def with_scipy(field: Any, start: Any, times: Any, **options: Any) -> Any:
    """Margins (mode, time), from the equations in the margins themselves."""
    solution = solve_ivp(
        field, (0.0, times[-1]), start, t_eval=times, method="DOP853", rtol=2.5e-14, atol=1e-22, **options
    )
    assert solution.success
    return solution.y


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize(("depth", "gap"), [(1, 0.0), (2, 0.0), (2, 0.5), (3, 0.0), (6, 0.0)])
def test_agrees_with_scipy(loss: Any, depth: Any, gap: Any) -> None:
    times = np.array([0.0, 0.3, 2.0, 7.0, 30.0])
    found = wa.dynamics.simulate_modes(
        FEATURES, SHARES, START, times, loss=loss, depth=depth, imbalance=gap, rtol=1e-11, atol=1e-14
    )
    expected = with_scipy(
        lambda t, m: speeds(m, depth, gap) * (FEATURES.T @ (SHARES * FORCES[loss](FEATURES @ m))), START, times
    )
    assert int(found.status) == 0
    np.testing.assert_allclose(found.margins, expected, rtol=2e-9)


def reached(tau: int) -> Any:
    """Terminal event: the margin of a type is 1."""

    def event(t: float, m: Any) -> Any:
        return FEATURES[tau] @ m - 1.0

    vars(event)["terminal"] = True
    return event


@pytest.mark.parametrize(("depth", "gap"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (2, [0.5, 0.0, 2.0]), (3, [0, 0, 0])])
def test_hinge_agrees_with_scipy_between_events(depth: Any, gap: Any) -> None:
    """SciPy starts again where a type reaches 1, which it finds by itself."""
    gap = np.asarray(gap, float)
    times = np.linspace(0.0, 12.0, 60)
    found = wa.dynamics.simulate_modes(FEATURES, SHARES, START, times, loss="hinge", depth=depth, imbalance=gap)
    pushing, now, clock, pieces = np.ones(3, bool), START.copy(), 0.0, []
    while pushing.any():
        force = FEATURES.T @ (SHARES * pushing)
        events = [reached(int(tau)) for tau in np.flatnonzero(pushing)]
        piece = solve_ivp(
            lambda t, m, force=force: speeds(m, depth, gap) * force,
            (clock, 1e4),
            now,
            method="DOP853",
            rtol=1e-12,
            atol=1e-16,
            events=events,
            dense_output=True,
        )
        pieces.append((clock, piece.t[-1], piece.sol))
        clock, now = piece.t[-1], piece.y[:, -1]
        pushing &= now @ FEATURES.T < 1.0 - 1e-10
    expected = np.stack([next((sol(t) for begin, end, sol in pieces if begin <= t <= end), now) for t in times], axis=1)
    np.testing.assert_allclose(found.margins, expected, rtol=1e-8)
    assert np.all(FEATURES @ found.margins.values[:, -1] >= 1.0 - 1e-12)
    assert float(found.loss[-1]) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_one_mode_is_the_closed_form(loss: Any, depth: Any) -> None:
    """F m is the margin of a mode at rate F for two factors; other depths have F = 1."""
    strength = 1.7 if depth == 2 else 1.0
    times = np.array([0.5, 3.0, 20.0, 1e4])
    start = np.array([[1e-200], [1e-6], [0.3]] if depth == 2 else [[0.02], [0.3], [0.9]])
    found = wa.dynamics.simulate_modes(
        [[strength]], [1.0], start, times, loss=loss, depth=depth, rtol=1e-11, atol=1e-14
    )
    expected = wa.dynamics.predict_margin(times, strength * start, rate=strength, loss=loss, depth=depth)
    np.testing.assert_allclose(strength * found.margins[:, 0], expected, rtol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_imbalanced_mode_passes_through_zero(loss: Any) -> None:
    times = [0.05, 1.0, 50.0]
    found = wa.dynamics.simulate_modes([[1.0]], [1.0], [-0.3], times, loss=loss, imbalance=0.8)
    expected = wa.dynamics.predict_margin(times, -0.3, loss=loss, imbalance=0.8)
    np.testing.assert_allclose(found.margins[0], expected, rtol=1e-7)
    assert found.margins[0, 0] < 0.0 < found.margins[0, -1]


def test_starved_at_very_late_times() -> None:
    """The law of starvation at t = 1e12, while the rarer feature is small."""
    fractions = np.array([0.1, 0.5, 0.9])
    margins = wa.dynamics.simulate_modes(
        [[1.0, 0.0], [1.0, 1.0]], np.stack([1 - fractions, fractions], axis=1), [1e-3, 1e-12], [1e12], rtol=1e-12
    ).margins[..., 0]
    exponent = np.log(margins[:, 1] / 1e-12) / np.log(margins[:, 0] / 1e-3)
    np.testing.assert_allclose(exponent, fractions, atol=1e-9)


def test_stiff_relaxation_to_the_squared_minimum() -> None:
    found = wa.dynamics.simulate_modes(FEATURES, SHARES, START, [1e12], loss="squared")
    assert int(found.status) == 0
    np.testing.assert_allclose(FEATURES @ found.margins.values[:, 0], 1.0, atol=1e-9)
    assert int(found.n_steps) < 5000


def test_batches_of_everything() -> None:
    """A trajectory of a batch is the same as alone, whatever else is in the batch."""
    rng = np.random.default_rng(1)
    start, gap = rng.uniform(0.01, 0.1, (5, 3)), rng.uniform(0.0, 0.3, (5, 3))
    gap[2] = 0.0
    shares = rng.dirichlet(np.ones(3), 5)
    times = [1.0, 5.0]
    for loss in ("cross-entropy", "hinge"):
        batch = wa.dynamics.simulate_modes(FEATURES, shares, start, times, loss=loss, imbalance=gap)
        assert dict(batch.sizes) == {"trajectory": 5, "mode": 3, "time": 2}
        for k in range(5):
            alone = wa.dynamics.simulate_modes(FEATURES, shares[k], start[k], times, loss=loss, imbalance=gap[k])
            assert alone.margins.dims == ("mode", "time")
            np.testing.assert_allclose(alone.margins, batch.margins[k], rtol=1e-7)
    shared = wa.dynamics.simulate_modes(FEATURES, shares, start[0], times)
    assert shared.margins.dims == ("trajectory", "mode", "time")


def test_zero_and_negative_balanced_margins() -> None:
    found = wa.dynamics.simulate_modes([[1.0, 1.0]], [1.0], [[0.0, 0.1], [-0.5, 0.1]], [3.0], rtol=1e-11)
    assert float(found.margins[0, 0, 0]) == 0.0
    expected = with_scipy(
        lambda t, m: 2.0 * np.abs(m) * FORCES["cross-entropy"](m.sum()), [-0.5, 0.1], np.array([0.0, 3.0])
    )
    np.testing.assert_allclose(found.margins[1, :, 0], expected[:, -1], rtol=1e-9)


def test_curves() -> None:
    found = wa.dynamics.simulate_modes(
        [[1.0, 0.0], [0.0, 1.0]], [0.75, 0.25], [-0.2, 0.1], [0.0, 100.0], imbalance=[0.5, 0.0]
    )
    np.testing.assert_allclose(found.accuracy, [0.25, 1.0])
    expected = 0.75 / (1 + np.exp(0.2)) + 0.25 / (1 + np.exp(-0.1))
    np.testing.assert_allclose(found.expected_accuracy[0], expected, rtol=1e-14)
    loss = 0.75 * np.log(1 + np.exp(0.2)) + 0.25 * np.log(1 + np.exp(-0.1))
    np.testing.assert_allclose(found.loss[0], loss, rtol=1e-14)
    still = wa.dynamics.simulate_modes([[1.0]], [1.0], [0.0], [0.0])
    assert float(still.accuracy[0]) == 0.5
    assert int(still.status) == 0


def test_failed_trajectory_leaves_the_others() -> None:
    start = np.array([[1e-3], [5.0]])
    found = wa.dynamics.simulate_modes([[1.0]], [1.0], start, [10.0], rtol=1e-13, max_steps=12)
    assert found.status.values.tolist() == [3, 0]
    assert np.isnan(found.margins[0]).all()
    assert np.isnan(found.accuracy[0]).all()
    assert np.isnan(found.loss[0]).all()
    assert np.isfinite(found.margins[1]).all()


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"features": [1.0, 0.0]}, ValueError, "features"),
    ({"features": [[np.nan, 0.0], [1.0, 1.0]]}, ValueError, "features"),
    ({"features": np.zeros((0, 2))}, ValueError, "features"),
    ({"features": [["a"]]}, TypeError, "features"),
    ({"probabilities": [0.5, 0.4]}, ValueError, "sum to 1, got 0.9"),
    ({"probabilities": [1.5, -0.5]}, ValueError, "probabilities"),
    ({"probabilities": [1.0]}, ValueError, "2 type"),
    ({"margins0": [0.1]}, ValueError, "2 mode"),
    ({"margins0": [0.1, np.inf]}, ValueError, "margins0"),
    ({"margins0": np.full((3, 2), 0.1), "imbalance": np.zeros((2, 2))}, ValueError, "trajectories"),
    ({"margins0": [-0.1, 0.1], "depth": 3}, ValueError, "margins0"),
    ({"imbalance": 0.1, "depth": 3}, ValueError, "imbalance"),
    ({"imbalance": [0.1, 0.2, 0.3]}, ValueError, "imbalance"),
    ({"times": [1.0, 1.0]}, ValueError, "times"),
    ({"times": [-1.0, 1.0]}, ValueError, "times"),
    ({"times": []}, ValueError, "times"),
    ({"times": [0.0, np.nan]}, ValueError, "times"),
    ({"loss": "logistic"}, ValueError, "loss"),
    ({"loss": "hinge", "features": [[1.0, -1.0], [1.0, 1.0]]}, ValueError, "features"),
    ({"depth": 0}, ValueError, "depth"),
    ({"depth": 2.5}, TypeError, "depth"),
    ({"rtol": 0.0}, ValueError, "rtol"),
    ({"atol": -1.0}, ValueError, "atol"),
    ({"max_steps": 0}, ValueError, "max_steps"),
    ({"n_threads": 0}, ValueError, "n_threads"),
    ({"progress": 1}, TypeError, "progress"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: Any, error: Any, message: Any) -> None:
    arguments: dict[str, Any] = {
        "features": [[1.0, 0.0], [1.0, 1.0]],
        "probabilities": [0.5, 0.5],
        "margins0": [0.1, 0.1],
        "times": [0.0, 1.0],
    } | change
    subject = [arguments.pop(name) for name in ("features", "probabilities", "margins0", "times")]
    with pytest.raises(error, match=message):
        wa.dynamics.simulate_modes(*subject, **arguments)


@pytest.mark.parametrize("convert", [lambda a: a.astype(">f8"), lambda a: a.astype(np.float32), np.asfortranarray])
def test_any_kind_of_array(convert: Any) -> None:
    features, shares, start = np.array([[1.0, 0.5], [0.25, 2.0]]), np.array([0.25, 0.75]), np.array([0.125, 0.5])
    found = wa.dynamics.simulate_modes(convert(features), convert(shares), convert(start), [0, 1])
    np.testing.assert_array_equal(
        found.margins, wa.dynamics.simulate_modes(features, shares, start, [0.0, 1.0]).margins
    )
