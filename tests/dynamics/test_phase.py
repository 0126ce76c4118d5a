"""Fates of single neurons against SciPy's integration of readout and projection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from wideangle.dynamics._phase import DIES, INACTIVE, LEARNS, PHASES, RESCUED, Neurons, classify, turning_line
from wideangle.losses import LOSSES

FREQUENCY, NORM = 0.3, 1.7

STARTS = [(0.2, 0.5), (0.0, 0.4), (-0.3, 0.5), (-0.9, 1.0), (-1e-3, 0.8), (-0.6, 0.4), (-3.0, 0.1), (-1.0, 0.999)]

FORCES: dict[str, Any] = {
    "cross-entropy": lambda m: 1.0 / (1.0 + np.exp(m)),
    "hinge": lambda m: float(m < 1.0),
    "squared": lambda m: 1.0 - m,
    "exponential": lambda m: np.exp(-m),
}


def integrate(start: tuple[float, float], time: float, loss: str, margin: float = np.inf) -> Any:
    """Integrate z, u until the time, a margin is reached, or u is 0; also recording where z is 0."""

    def slope(t: float, y: Any) -> list[float]:
        z, u = y
        drive = FREQUENCY * NORM * FORCES[loss](NORM * z * u)
        return [drive * u, drive * z]

    def off(t: float, y: Any) -> float:
        return float(y[1])

    def crossing(t: float, y: Any) -> float:
        return float(y[0])

    def learnt(t: float, y: Any) -> float:
        return float(NORM * y[0] * y[1] - margin) if margin < np.inf else -1.0

    off.terminal = learnt.terminal = True  # type: ignore[attr-defined]
    events = (off, crossing, learnt)
    return solve_ivp(slope, (0.0, time), start, method="DOP853", rtol=1e-12, atol=1e-14, events=events)


def neurons(starts: Any, loss: str) -> Neurons:
    readout, projection = np.array(starts).T
    return Neurons(readout, projection, FREQUENCY, NORM, loss)


def test_phases() -> None:
    starts = [(1.0, 0.5), (0.0, 0.5), (-0.4, 0.5), (-0.5, 0.5), (-0.6, 0.5), (1.0, 0.0), (1.0, -0.5), (-1.0, -2.0)]
    expected = [LEARNS, LEARNS, RESCUED, DIES, DIES, INACTIVE, INACTIVE, INACTIVE]
    np.testing.assert_array_equal(neurons(starts, "hinge").phase, expected)
    grid = np.linspace(-1.0, 1.0, 5)
    assert classify(grid[:, None], grid[None, :]).shape == (5, 5)
    assert len(PHASES) == 4


@pytest.mark.parametrize("loss", LOSSES)
def test_turning_times(loss: str) -> None:
    found = neurons(STARTS, loss)
    for start, phase, time in zip(STARTS, found.phase, found.turning_time(), strict=True):
        run = integrate(start, 50.0, loss, margin=0.9)
        if phase == DIES:
            assert run.t_events[0][0] == pytest.approx(time, rel=1e-9)
            assert run.y[0, -1] < 0.0
        elif phase == RESCUED:
            assert run.t_events[1][0] == pytest.approx(time, rel=1e-9)
            assert run.t_events[0].size == 0
        else:
            assert time == np.inf


def test_turning_times_of_the_hinge_are_hyperbolic() -> None:
    z, u = np.array(STARTS).T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(-z < u, -z / u, -u / z)
    found = neurons(STARTS, "hinge")
    turning = (found.phase == RESCUED) | (found.phase == DIES)
    expected = np.arctanh(ratio[turning]) / (FREQUENCY * NORM)
    np.testing.assert_allclose(found.turning_time()[turning], expected, rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_learning_times(loss: str) -> None:
    found = neurons(STARTS, loss)
    for start, phase, time in zip(STARTS, found.phase, found.learning_time(0.9), strict=True):
        run = integrate(start, 200.0, loss, margin=0.9)
        if phase in (LEARNS, RESCUED):
            assert run.t_events[2][0] == pytest.approx(time, rel=1e-9)
        else:
            assert time == np.inf
            assert run.t_events[2].size == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("time", [0.0, 0.5, 3.0, 30.0])
def test_states(loss: str, time: float) -> None:
    starts = [*STARTS, (-0.5, 0.5), (1.0, -0.5)]
    z, u = neurons(starts, loss).state(time)
    for i, start in enumerate(starts[:-1]):
        margin = 1.0 if loss == "hinge" else np.inf
        expected = integrate(start, time, loss, margin).y[:, -1] if time > 0.0 else start
        np.testing.assert_allclose([z[i], u[i]], expected, rtol=1e-9, atol=1e-9)
    assert (z[-1], u[-1]) == (1.0, -0.5)


def test_neurons_on_the_boundary_never_turn() -> None:
    for loss in LOSSES:
        edge = neurons([(-0.5, 0.5)], loss)
        assert edge.turning_time() == edge.learning_time(0.5) == np.inf


def test_a_weight_across_the_direction_changes_nothing() -> None:
    """|z| < |w| is not enough: a neuron of norm 1 with |z| = 0.5 dies, since its projection is 0.3."""
    inputs, label_times_z, w = np.array([NORM, 0.0]), -0.5, np.array([0.3, np.sqrt(0.91)])

    def slope(t: float, y: Any) -> Any:
        h = y[1:] @ inputs
        drive = FREQUENCY * FORCES["hinge"](y[0] * max(h, 0.0)) * (h > 0.0)
        return np.concatenate([[drive * h], drive * y[0] * inputs])

    run = solve_ivp(slope, (0.0, 100.0), [label_times_z, *w], method="DOP853", rtol=1e-10, atol=1e-12, max_step=0.05)
    assert run.y[1, -1] < 1e-3
    assert run.y[0, -1] < -0.3
    assert run.y[2, -1] == w[1]
    assert neurons([(label_times_z, w[0])], "hinge").phase == DIES


def test_lines_of_those_that_have_turned() -> None:
    u, time = np.linspace(0.1, 2.0, 7), 2.5
    below, above = turning_line(u, time, frequency=FREQUENCY, input_norm=NORM)
    for readout, phase in ((below, DIES), (above, RESCUED)):
        on = Neurons(readout, u, FREQUENCY, NORM, "hinge")
        assert np.all(on.phase == phase)
        np.testing.assert_allclose(on.turning_time(), time, rtol=1e-12)
    softer = Neurons(below, u, FREQUENCY, NORM, "cross-entropy").turning_time()
    assert np.all((softer > time) & (softer < 2.0 * time))
