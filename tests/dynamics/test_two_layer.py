"""The flow of two-layer networks, against integrations restarted at events, smoothed ones and exact solutions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad, solve_ivp

from wideangle.dynamics import predict_margin, simulate_two_layer

Array = NDArray[np.float64]
FORCES = {
    "cross-entropy": lambda m: 1.0 / (1.0 + np.exp(m)),
    "hinge": lambda m: (m < 1.0) * 1.0,
    "squared": lambda m: 1.0 - m,
    "exponential": lambda m: np.exp(-m),
}


def field(state: Array, active: Array, force: Array, x: Array, y: Array) -> Array:
    neurons = len(active)
    w, z = state[: -len(active)].reshape(neurons, -1), state[-neurons:]
    weight = force * y / y.size
    dw = z[:, None] * ((active * weight) @ x)
    return np.asarray(np.concatenate([dw.ravel(), (active * (w @ x.T)) @ weight]))


def restarted(
    x: Array, y: Array, w: Array, z: Array, end: float, loss: str, max_step: float = np.inf
) -> tuple[Array, int]:
    """Integrate with SciPy from one boundary to the next; it must not slide."""
    neurons, state, t, passed = len(z), np.concatenate([w.ravel(), z]), 0.0, 0

    def pre(s: Array) -> Array:
        return np.asarray(s[:-neurons].reshape(neurons, -1) @ x.T)

    active: Array = (pre(state) > 0.0).astype(np.float64)
    below: Array = (y * (z @ np.maximum(pre(state), 0.0)) < 1.0).astype(np.float64)

    def margins(s: Array, active: Array) -> Array:
        return np.asarray(y * (s[-neurons:] @ (active * pre(s))))

    while t < end:

        def rhs(_: float, s: Array, active: Array = active, below: Array = below) -> Array:
            force = below if loss == "hinge" else FORCES[loss](margins(s, active))
            return field(s, active, force, x, y)

        events: list[Any] = []
        for i, n in itertools.product(range(neurons), range(y.size)):
            sign = 2.0 * active[i, n] - 1.0
            events.append(lambda _, s, i=i, n=n, sign=sign: sign * pre(s)[i, n] + 1e-13)
        if loss == "hinge":
            for n in range(y.size):
                sign = 2.0 * below[n] - 1.0
                events.append(lambda _, s, n=n, sign=sign, a=active: sign * (1.0 - margins(s, a)[n]) + 1e-13)
        for event in events:
            event.terminal, event.direction = True, -1.0
        run = solve_ivp(rhs, (t, end), state, method="DOP853", rtol=1e-12, atol=1e-14, events=events, max_step=max_step)
        t, state = run.t[-1], run.y[:, -1]
        active, below = active.copy(), below.copy()
        for k, times in enumerate(run.t_events):
            if len(times):
                passed += 1
                if k < active.size:
                    i, n = divmod(k, y.size)
                    active[i, n] = 1.0 - active[i, n]
                else:
                    below[k - active.size] = 1.0 - below[k - active.size]
        assert passed < 100, "it slides"
    return state, passed


@pytest.mark.parametrize("loss", FORCES)
def test_agrees_with_restarts_at_boundaries(nets: Any, loss: str) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    expected, passed = restarted(x, y, w, z, 8.0, loss)
    run = simulate_two_layer(x, y, w, z, [0.0, 8.0], loss=loss, rtol=1e-12, atol=1e-14)
    assert passed >= 3
    assert run.n_events == passed
    np.testing.assert_allclose(nets.state_of(run), expected, rtol=0.0, atol=2e-10)


@pytest.mark.parametrize("member", [539, 1465])
def test_a_boundary_crossed_and_recrossed_within_a_step_is_found(nets: Any, member: int) -> None:
    """Both ends of a step lie on one side of it: members of an ensemble that otherwise come out wrong."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 2)), np.where(np.arange(6) % 2 == 0, 1.0, -1.0)
    w, z = 0.5 * rng.normal(size=(2000, 2, 2))[member], 0.5 * rng.normal(size=(2000, 2))[member]
    expected, passed = restarted(x, y, w, z, 6.0, "squared", max_step=0.01)
    run = nets.simulate(x, y, w, z, [0.0, 6.0], loss="squared")
    assert run.n_events == passed > 0
    # Nearly tangent to the boundary, where errors of steps are magnified; without that crossing it is 4e-4 and more.
    np.testing.assert_allclose(nets.state_of(run), expected, rtol=0.0, atol=2e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_sliding_is_the_limit_of_smooth_activations(nets: Any, loss: str) -> None:
    x, y = nets.mixed_data(1, 6, 2)
    w, z = nets.start(5, 3, 2)

    def smoothed(width: float) -> Array:
        def rhs(_: float, s: Array) -> Array:
            pre = s[:-3].reshape(3, -1) @ x.T
            active = 1.0 / (1.0 + np.exp(np.clip(-pre / width, -700.0, 700.0)))
            margin = y * (s[-3:] @ (active * pre))
            return field(s, active, FORCES[loss](margin), x, y)

        run = solve_ivp(rhs, (0.0, 6.0), np.concatenate([w.ravel(), z]), method="Radau", rtol=1e-9, atol=1e-11)
        return np.asarray(run.y[:, -1])

    exact = nets.state_of(nets.simulate(x, y, w, z, [0.0, 6.0], loss=loss))
    coarse, fine = (np.abs(smoothed(width) - exact).max() for width in (1e-3, 1e-4))
    assert fine < 2e-3
    assert fine < 0.2 * coarse
    # Stepping over the boundaries makes ever smaller steps along one that the flow slides on.
    calls = nets.simulate(x, y, w, z, [0.0, 6.0], loss=loss).n_evaluations
    assert calls < 2000


@pytest.mark.parametrize("loss", FORCES)
@pytest.mark.parametrize("readout", [0.3, 0.1])
def test_one_neuron_follows_the_closed_form(loss: str, readout: float) -> None:
    norm, u, t = 1.7, 0.2, np.array([0.0, 0.5, 1.0, 2.0, 4.0, 30.0])
    run = simulate_two_layer([[norm, 0.0]], [1], [[u, 0.0]], [readout], t, loss=loss, rtol=1e-12)
    margin = predict_margin(t, norm * readout * u, rate=norm, loss=loss, imbalance=norm * (readout**2 - u**2))
    np.testing.assert_allclose(run.margins.values[:, 0], margin, rtol=1e-10)


def test_hinge_holds_a_margin_that_another_sample_pulls_down(nets: Any) -> None:
    # z = w along (1), forces 1 and -1/2: both grow like exp(t/4) until the first margin is 1, and then rest.
    m0, t = 0.2, np.array([0.0, 1.0, 3.0, 3.2, 3.3, 100.0])
    w0 = np.sqrt(m0)
    run = nets.simulate([[1.0], [0.5]], [1, -1], [[w0]], [w0], t, loss="hinge", rtol=1e-11)
    exact = np.minimum(m0 * np.exp(t / 2.0), 1.0)
    np.testing.assert_allclose(run.margins.values, np.outer(exact, [1.0, -0.5]), rtol=1e-9)
    assert run.n_events == 2
    assert np.all(run.status == 0)


def test_hinge_slides_along_a_margin_until_a_neuron_leaves_the_other_sample(nets: Any) -> None:
    # f(1, 0) = z w1 = 1 is held while (1, 1), of the other class, drives w2 down: with z^2 - w1^2 - w2^2 = C, z and w1
    # are functions of w2, and w2' = -z/2. It ends where w1 + w2 = 0 and the second sample is no longer felt.
    x, y = [[1.0, 0.0], [1.0, 1.0]], [1, -1]
    z0, w2 = 1.5, -0.1
    c = z0**2 - 1.0 / z0**2 - w2**2

    def readout(w2: float) -> float:
        k = c + w2**2
        return float(np.sqrt((k + np.sqrt(k * k + 4.0)) / 2.0))

    end = np.sqrt((-c + np.sqrt(c * c + 8.0)) / 4.0)
    middle = -0.5 * (end + 0.1)
    times = [2.0 * quad(lambda v: 1.0 / readout(v), to, w2, epsabs=1e-13)[0] for to in (middle, -end)]
    run = nets.simulate(x, y, [[1.0 / z0, w2]], [z0], [0.0, times[0], times[1] + 1.0], loss="hinge", rtol=1e-11)
    np.testing.assert_allclose(run.margins.values[:, 0], 1.0, rtol=1e-10)
    expected = [[1.0 / readout(middle), middle], [end, -end]]
    np.testing.assert_allclose(run.weights.values[1:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(run.readout.values[1:, 0], [readout(middle), 1.0 / end], rtol=1e-9)
    assert run.final_time == times[1] + 1.0


def test_neuron_slides_along_a_sample_of_the_other_class(nets: Any) -> None:
    # Under the hinge with margins below 1 both samples pull with force 1/2; that of the other class, with the product c
    # with the first, holds w on its boundary: z'' = (1 - c^2) z / 4, until the first margin is 1.
    c, z0, h0 = 0.6, 0.3, 0.2
    x = np.array([[1.0, 0.0], [c, np.sqrt(1.0 - c * c)]])
    w = h0 * np.array([1.0, -c / np.sqrt(1.0 - c * c)])  # w . x_2 = 0
    k = np.sqrt(1.0 - c * c) / 2.0
    t = np.linspace(0.0, 2.0, 9)
    run = nets.simulate(x, [1, -1], [w], [z0], t, loss="hinge", rtol=1e-11)
    readout = z0 * np.cosh(k * t) + h0 / (2.0 * k) * np.sinh(k * t)
    pre = h0 * np.cosh(k * t) + 2.0 * k * z0 * np.sinh(k * t)
    assert np.all(readout * pre < 1.0)
    np.testing.assert_allclose(run.readout.values[:, 0], readout, rtol=1e-9)
    np.testing.assert_allclose(run.weights.values[:, 0, 0], pre, rtol=1e-9)
    np.testing.assert_allclose(run.weights.values[:, 0] @ x[1], 0.0, atol=1e-15)
    assert np.all(run.active == 0.5)


def test_neuron_goes_through_zero_weights_where_both_sides_push_it_on(nets: Any) -> None:
    # One feature: the first sample drives w > 0 down, the second w < 0, with the same force, so that the branches join.
    w0, z0, t = 0.3, 0.8, np.array([0.0, 0.4, 0.78, 0.79, 1.4])
    run = nets.simulate([[1.0], [-1.0]], [-1, 1], [[w0]], [z0], t, loss="hinge", rtol=1e-11)
    np.testing.assert_allclose(run.weights[:, 0, 0], w0 * np.cosh(t / 2) - z0 * np.sinh(t / 2), atol=1e-9)
    np.testing.assert_allclose(run.readout[:, 0], z0 * np.cosh(t / 2) - w0 * np.sinh(t / 2), atol=1e-9)
    assert run.weights[2, 0, 0] > 0.0 > run.weights[3, 0, 0]


def test_every_member_of_an_ensemble_with_much_sliding_arrives(nets: Any) -> None:
    # Among them neurons that slide along a boundary into the point of zero weights.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 2)), np.where(np.arange(10) % 2, 1.0, -1.0)
    w, z = 0.3 * rng.normal(size=(2000, 10, 2)), 0.3 * rng.normal(size=(2000, 10))
    for loss in FORCES:
        run = nets.simulate(x, y, w[:300], z[:300], [0.0, 10.0], loss=loss)
        assert np.all(run.status == 0)
        assert float(abs(run.conserved[:, 1] - run.conserved[:, 0]).max()) < 1e-6
        assert np.all(run.loss[:, 1] < run.loss[:, 0])


@pytest.mark.parametrize("loss", FORCES)
def test_error_follows_the_tolerance_across_boundaries(nets: Any, loss: str) -> None:
    x, y = nets.mixed_data(5, 8, 3)
    w, z = nets.start(7, 6, 3)

    def end(rtol: float) -> Array:
        return np.asarray(nets.state_of(nets.simulate(x, y, w, z, [0.0, 10.0], loss=loss, rtol=rtol, atol=1e-17)))

    tolerances = np.array([1e-8, 1e-10, 1e-12])
    errors = np.array([np.abs(end(rtol) - end(2e-14)).max() for rtol in tolerances])
    # With boundaries stepped over, the error would follow the square root of the tolerance at best.
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] > 0.85
    assert np.all(errors < 10.0 * tolerances)
    assert nets.simulate(x, y, w, z, [0.0, 10.0], loss=loss).n_events > 20


def test_naive_integration_is_less_accurate_for_more_evaluations(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)

    def rhs(_: float, s: Array) -> Array:
        active = (s[:-6].reshape(6, -1) @ x.T > 0.0) * 1.0
        margin = y * (s[-6:] @ (active * (s[:-6].reshape(6, -1) @ x.T)))
        return field(s, active, FORCES["squared"](margin), x, y)

    begin = np.concatenate([w.ravel(), z])
    naive = solve_ivp(rhs, (0.0, 8.0), begin, method="DOP853", rtol=1e-10, atol=1e-12)
    run = simulate_two_layer(x, y, w, z, [0.0, 8.0], loss="squared", rtol=1e-10)
    reference = nets.state_of(simulate_two_layer(x, y, w, z, [0.0, 8.0], loss="squared", rtol=1e-13, atol=1e-15))
    ours = np.abs(nets.state_of(run) - reference).max()
    assert ours < 1e-9
    assert np.abs(naive.y[:, -1] - reference).max() > 3.0 * ours
    assert naive.nfev > 2 * int(run.n_evaluations)


@pytest.mark.parametrize("loss", FORCES)
def test_invariants_are_kept_to_the_tolerance(nets: Any, loss: str) -> None:
    x, y = nets.mixed_data(2, 10, 3)
    w, z = nets.start(11, 8, 3)
    run = nets.simulate(x, y, w, z, [0.0, 1.0, 20.0], loss=loss, rtol=1e-11)
    assert run.n_events > 10
    assert float(abs(run.conserved - run.conserved.isel(time=0)).max()) < 2e-9
    descent = nets.simulate(x, y, w, z, [0.0, 1.0, 20.0], loss=loss, learning_rate=0.02)
    assert float(abs(descent.conserved - descent.conserved.isel(time=0)).max()) > 1e-5


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_descent_tends_to_the_flow_linearly_in_the_step(nets: Any, loss: str) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    times = [0.0, 1.0, 4.0]
    flow = simulate_two_layer(x, y, w, z, times, loss=loss)
    rates = np.array([2.0**-6, 2.0**-8, 2.0**-10, 2.0**-12])
    errors = [
        float(abs(simulate_two_layer(x, y, w, z, times, loss=loss, learning_rate=rate).outputs - flow.outputs).max())
        for rate in rates
    ]
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 2e-3


def test_descent_takes_the_steps_of_gradient_descent(nets: Any) -> None:
    x, y = nets.mixed_data(1, 5, 3)
    w, z = nets.start(2, 4, 3)
    state = np.concatenate([w.ravel(), z])
    for _ in range(30):
        pre = state[:-4].reshape(4, -1) @ x.T
        active = (pre > 0.0) * 1.0
        state = state + 0.1 * field(state, active, FORCES["cross-entropy"](y * (state[-4:] @ (active * pre))), x, y)
    run = nets.simulate(x, y, w, z, [0.0, 1.0, 3.0], learning_rate=0.1)
    np.testing.assert_allclose(nets.state_of(run), state, rtol=1e-12)
    assert run.n_steps == 30


def test_alignment_tends_to_one_like_the_inverse_logarithm(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3, size=0.3)
    times = [0.0, 1e2, 1e4, 1e8, 1e16]
    run = simulate_two_layer(x, y, w, z, times, loss="exponential")
    gap = 1.0 - run.alignment.values
    assert np.all(gap[-1] < 5e-3)
    # From 1e8 to 1e16 the logarithm doubles: a deviation of first order in 1/ln t halves.
    ratio = gap[-1] / gap[-2]
    assert ratio[0] == pytest.approx(0.5, abs=0.03)
    assert ratio[1] < 0.5
    assert np.all(run.accuracy[-1] == 1.0)
