"""Phase diagrams by integration against closed forms, and against SciPy neuron by neuron."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import wideangle as wa
from wideangle.losses import LOSSES, parse_loss

LEARNS, RESCUED, DIES, STAYS, UNDECIDED = range(5)
# No multiple of it lies on a boundary.
GRID = np.linspace(-2.0, 2.0, 21) + 0.013


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("margin", [0.4, 1.0, 2.5])
def test_integration_agrees_with_closed_forms(loss: str, margin: float) -> None:
    options: dict[str, Any] = {"frequency": 0.4, "input_norm": 1.7, "loss": loss, "margin": margin}
    found = wa.dynamics.phase_diagram(GRID, GRID, **options)
    expected = wa.dynamics.phase_diagram(GRID, GRID, method="closed-form", **options)
    np.testing.assert_array_equal(found.phase, expected.phase)
    np.testing.assert_allclose(found.convergence_time, expected.convergence_time, rtol=1e-6)
    np.testing.assert_allclose(found.turning_time, expected.turning_time, rtol=1e-6)
    assert set(np.unique(found.phase)) == {LEARNS, RESCUED, DIES, STAYS}
    beyond_reach = (loss == "hinge" and margin > 1.0) or (loss == "squared" and margin >= 1.0)
    moved = found.convergence_time.where(found.convergence_time > 0.0)
    assert bool(moved.isnull().all()) == beyond_reach


@pytest.mark.parametrize("loss", LOSSES)
def test_neurons_one_by_one(loss: str) -> None:
    force = parse_loss(loss).force
    z, u = np.array([-1.1, -0.6, 0.0, 0.5]), np.array([-0.3, 0.4, 0.9])
    found = wa.dynamics.phase_diagram(z, u, loss=loss, margin=0.7)
    for i, j in np.ndindex(z.size, u.size):

        def field(t: float, y: Any) -> Any:
            return force(y[0] * max(y[1], 0.0)) * np.array([max(y[1], 0.0), y[0] * (y[1] > 0.0)])

        run = solve_ivp(field, (0.0, 60.0), [z[i], u[j]], method="RK45", rtol=1e-8, atol=1e-10, max_step=0.01)
        margins = run.y[0] * np.maximum(run.y[1], 0.0)
        learned = margins[-1] >= 0.7
        phase = STAYS if u[j] <= 0.0 else (LEARNS if z[i] >= 0.0 else RESCUED) if learned else DIES
        assert int(found.phase[i, j]) == phase
        if learned:
            first = run.t[np.argmax(margins >= 0.7)]
            assert float(found.convergence_time[i, j]) == pytest.approx(first, abs=0.02)


def test_boundaries() -> None:
    found = wa.dynamics.phase_diagram(GRID, GRID, input_norm=2.0, margin=0.8)
    fate, rescue = found.boundary.sel(boundary_name="fate"), found.boundary.sel(boundary_name="rescue")
    z, on = found.readout, found.projection > 0.0
    np.testing.assert_array_equal((found.phase == DIES).values, (on & (z < fate)).transpose("readout", ...).values)
    rescued = on & (z > fate) & (z < rescue)
    np.testing.assert_array_equal((found.phase == RESCUED).values, rescued.transpose("readout", ...).values)
    at_once = (z >= found.converged_boundary).transpose("readout", ...)
    np.testing.assert_array_equal((found.convergence_time == 0.0).values, at_once.values)


@pytest.mark.parametrize("method", ["integrate", "closed-form"])
def test_on_the_boundary_nothing_is_decided(method: str) -> None:
    found = wa.dynamics.phase_diagram([-0.5], [0.5], method=method, time=5.0)
    assert int(found.phase[0, 0]) == UNDECIDED
    assert np.isnan(found.convergence_time).all()
    assert np.isnan(found.turning_time).all()


def test_a_short_time_leaves_neurons_undecided() -> None:
    found = wa.dynamics.phase_diagram([-0.5], [0.45, 0.9], loss="hinge", time=0.7)
    assert found.phase.values.tolist() == [[UNDECIDED, RESCUED]]
    assert np.isnan(found.convergence_time).all()


def test_more_frequent_and_larger_inputs_learn_faster() -> None:
    """For balanced neurons the time scales with 1 / (p r) at given margins."""
    times = [
        wa.dynamics.phase_diagram([0.1 / r**0.5], [0.1 / r**0.5], frequency=p, input_norm=r).convergence_time.item()
        for p, r in ((1.0, 1.0), (0.25, 1.0), (1.0, 4.0))
    ]
    np.testing.assert_allclose(times[1:], [4.0 * times[0], times[0] / 4.0], rtol=1e-7)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"readout": [[0.0]]}, ValueError, "readout"),
    ({"readout": []}, ValueError, "readout"),
    ({"projection": [np.nan]}, ValueError, "projection"),
    ({"projection": "x"}, TypeError, "projection"),
    ({"frequency": 0.0}, ValueError, "frequency"),
    ({"frequency": 1.5}, ValueError, "frequency"),
    ({"input_norm": -1.0}, ValueError, "input_norm"),
    ({"margin": 0.0}, ValueError, "margin"),
    ({"time": np.inf}, ValueError, "time"),
    ({"loss": "log"}, ValueError, "loss"),
    ({"method": "guess"}, ValueError, "method"),
    ({"rtol": 1.0}, ValueError, "rtol"),
    ({"n_threads": 0}, ValueError, "n_threads"),
    ({"progress": "yes"}, TypeError, "progress"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"readout": [0.1], "projection": [0.1]} | change
    readout, projection = arguments.pop("readout"), arguments.pop("projection")
    with pytest.raises(error, match=message):
        wa.dynamics.phase_diagram(readout, projection, **arguments)


def test_interrupt_leaves_the_process_usable(interrupt: Callable[[str, str, str], str]) -> None:
    setup = """
    import numpy as np
    from wideangle.dynamics import phase_diagram
    phase_diagram([0.1], [0.1])
    grid = np.linspace(-2.0, 2.0, 1000)
    """
    after = "print(int(phase_diagram([0.1], [0.1]).phase[0, 0]))"
    assert (
        interrupt(setup, "phase_diagram(grid, grid, margin=300.0, time=1e150, rtol=1e-13, n_threads=2)", after) == "0\n"
    )
