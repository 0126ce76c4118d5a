"""What a call for the flow of two-layer networks promises and refuses: symmetries, ensembles, outputs, arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.dynamics import SeparabilityWarning, simulate_two_layer
from wideangle.losses import LOSSES


def test_max_margin_satisfies_the_optimality_conditions(nets: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = np.abs(rng.normal(size=(12, 4))), np.array([1.0, -1.0] * 6)
    run = nets.simulate(x, y, *nets.start(0, 2, 4), [0.0])
    for label in (-1, 1):
        v, own = run.max_margin.sel({"class": label}).values, x[y == label]
        product = own @ v
        assert product.min() == pytest.approx(1.0, abs=1e-9)
        support = own[product < 1.0 + 1e-7]
        # v is a combination of the samples on the margin, with weights that are not negative.
        weights = np.linalg.lstsq(support.T, v, rcond=None)[0]
        np.testing.assert_allclose(support.T @ weights, v, atol=1e-8)
        assert np.all(weights > -1e-8)
    one = nets.simulate([[1.0, 0.0], [-1.0, 0.1]], [1, 1], *nets.start(0, 2, 2), [0.0])
    assert np.all(np.isnan(one.max_margin.sel({"class": -1})))


def test_dead_neurons_and_neurons_at_zero_stay_exactly(nets: Any) -> None:
    w, z = nets.start(3, 4, 3)
    w[1], w[2] = 0.0, [-1e-3, 0.0, 5.0]
    x = np.abs(nets.separable[0]) + 0.5
    w[3] = -1.0
    run = nets.simulate(x, nets.separable[1], w, z, [0.0, 1.0, 50.0])
    for neuron in (1, 3):
        assert np.all(run.weights.values[:, neuron] == w[neuron])
        assert np.all(run.readout.values[:, neuron] == z[neuron])
        assert np.all(run.active.values[:, neuron] == 0.0)
    assert np.all(run.weights.values[-1, 0] != w[0])


def test_permuted_neurons_and_samples_give_permuted_results(nets: Any) -> None:
    x, y = nets.mixed_data(3, 7, 3)
    w, z = nets.start(1, 5, 3)
    first, second = np.random.default_rng(0).permutation(5), np.random.default_rng(1).permutation(7)
    a = nets.simulate(x, y, w, z, [0.0, 5.0], rtol=1e-11)
    b = nets.simulate(x[second], y[second], w[first], z[first], [0.0, 5.0], rtol=1e-11)
    np.testing.assert_allclose(b.weights.values, a.weights.values[:, first], atol=1e-9)
    np.testing.assert_allclose(b.margins.values, a.margins.values[:, second], atol=1e-9)


def test_identical_neurons_cross_together(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    a = simulate_two_layer(x, y, w, z, [0.0, 8.0], rtol=1e-11)
    b = simulate_two_layer(x, y, np.repeat(w, 2, 0) / np.sqrt(2), np.repeat(z, 2) / np.sqrt(2), [0.0, 8.0], rtol=1e-11)
    assert b.status == 0
    assert b.n_events == 2 * a.n_events
    np.testing.assert_allclose(b.outputs, a.outputs, atol=1e-9)


def test_repeated_samples_weigh_more(nets: Any) -> None:
    x, y = nets.mixed_data(3, 5, 2)
    w, z = nets.start(1, 5, 2)
    for loss in LOSSES:
        a = nets.simulate(x, y, w, z, [0.0, 5.0], loss=loss, rtol=1e-11)
        b = nets.simulate(np.repeat(x, 2, 0), np.repeat(y, 2), w, z, [0.0, 5.0], loss=loss, rtol=1e-11)
        assert b.status == 0
        np.testing.assert_allclose(b.readout, a.readout, atol=1e-8)


def test_ensemble_is_its_members_whatever_the_threads(nets: Any) -> None:
    x, y = nets.mixed_data(3, 7, 3)
    members = [nets.start(seed, 5, 3) for seed in range(5)]
    w, z = np.stack([m[0] for m in members]), np.stack([m[1] for m in members])
    one, three = (nets.simulate(x, y, w, z, [0.0, 5.0], loss="hinge", n_threads=k) for k in (1, 3))
    for name in ("weights", "readout", "n_steps", "n_events", "alignment"):
        np.testing.assert_array_equal(one[name], three[name])
    single = nets.simulate(x, y, w[2], z[2], [0.0, 5.0], loss="hinge")
    np.testing.assert_array_equal(single.weights, one.weights[2])
    assert "trajectory" not in single.dims
    shared = nets.simulate(x, y, w, z[0], [0.0, 5.0], loss="hinge")
    assert shared.readout.shape == (5, 2, 5)


def test_outputs_belong_to_the_weights_and_times_between_steps_are_accurate(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    times = np.linspace(0.0, 8.0, 41)
    run = simulate_two_layer(x, y, w, z, times, rtol=1e-11)
    f = np.einsum("ti,tin->tn", run.readout, np.maximum(run.weights.values @ x.T, 0.0))
    np.testing.assert_allclose(run.outputs, f, atol=1e-14)
    np.testing.assert_allclose(run.loss, np.mean(np.log1p(np.exp(-y * f)), axis=1), rtol=1e-13)
    np.testing.assert_allclose(run.accuracy, np.mean(y * f > 0.0, axis=1), rtol=1e-14)
    for k in (3, 17, 40):
        alone = simulate_two_layer(x, y, w, z, [times[k]], rtol=1e-11)
        np.testing.assert_allclose(nets.state_of(alone), nets.state_of(run, k), atol=1e-9)


def test_failures_are_marked(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    short = simulate_two_layer(x, y, w, z, [0.0, 8.0], max_steps=3)
    assert short.status == 3
    assert np.isnan(short.weights[-1]).all()
    assert not np.isnan(short.weights[0]).any()
    weights = np.stack([w, 1e40 * w])
    run = simulate_two_layer(x, y, weights, np.stack([z, 1e40 * z]), [0.0, 8.0], loss="exponential")
    assert run.status[0] == 0
    assert run.status[1] == 4
    assert np.isnan(run.loss[1, 1])


def test_data_that_are_not_orthogonally_separable_warn() -> None:
    with pytest.warns(SeparabilityWarning, match=r"of different classes.*independently.*conserved"):
        simulate_two_layer([[1.0, 0.0], [1.0, 1.0]], [1, -1], [[0.1, 0.1]], [0.1], [0.0, 1.0])
    with pytest.warns(SeparabilityWarning, match="of one class"):
        simulate_two_layer([[1.0, 0.0], [-1.0, 1.0]], [1, 1], [[0.1, 0.1]], [0.1], [0.0, 1.0])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"times": [0.0, 1.0, 1.0]}, ValueError, r"times must increase, got times\[1\] = 1.0"),
        ({"times": [-1.0, 1.0]}, ValueError, "times must not be negative"),
        ({"times": []}, ValueError, "times must not be empty"),
        ({"times": [0.0, np.nan]}, ValueError, r"times must be finite, got times\[1\] = nan"),
        ({"weights0": [[np.nan, 0.0]]}, ValueError, "weights0 must be finite"),
        ({"weights0": [[1.0, 0.0, 2.0]]}, ValueError, "weights0 must have as many features as x, 2"),
        ({"weights0": [1.0, 0.0]}, ValueError, r"weights0 must have 2 or 3 dimension"),
        ({"weights0": np.zeros((0, 2))}, ValueError, "weights0 must not be empty"),
        ({"readout0": [np.inf]}, ValueError, "readout0 must be finite"),
        ({"readout0": [1.0, 2.0]}, ValueError, "agree in the number of neurons"),
        ({"weights0": np.ones((2, 1, 2)), "readout0": np.ones((3, 1))}, ValueError, "number of trajectories"),
        ({"readout0": [1j]}, TypeError, "readout0 must hold real numbers"),
        ({"x": [1.0, 2.0]}, ValueError, "x must have 2 dimension"),
        ({"x": [[np.inf, 1.0]]}, ValueError, "x must be finite"),
        ({"y": [1, -1]}, ValueError, "y must have as many labels as x has samples, 1, got 2"),
        ({"y": [0]}, ValueError, r"labels -1 and 1 alone, got 0.0"),
        ({"y": [np.nan]}, ValueError, "labels -1 and 1 alone, got nan"),
        ({"loss": "logistic"}, ValueError, "loss must be one of"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": 0.3}, ValueError, "times must be multiples of learning_rate = 0.3, got 1.0"),
        ({"rtol": 0.0}, ValueError, "rtol must lie in"),
        ({"atol": 0.0}, ValueError, "atol must be positive"),
        ({"max_steps": 0}, ValueError, "max_steps must lie between"),
        ({"n_threads": 0}, ValueError, "n_threads must lie between"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments: dict[str, Any] = {
        "x": [[1.0, 2.0]],
        "y": [1],
        "weights0": [[0.1, 0.2]],
        "readout0": [0.1],
        "times": [0.0, 1.0],
    }
    with pytest.raises(error, match=match):
        simulate_two_layer(**arguments | change)


def test_arrays_of_any_type_and_layout(nets: Any) -> None:
    x, y = nets.separable
    w, z = nets.start(3, 6, 3)
    a = simulate_two_layer(x, y, w, z, [0, 2])
    b = simulate_two_layer(np.asfortranarray(x), y.astype(np.int8), w.astype(">f8")[:, ::1], z[::-1][::-1], (0, 2))
    np.testing.assert_array_equal(a.weights, b.weights)


def test_progress_and_provenance(nets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), (w, z) = nets.separable, nets.start(3, 6, 3)
    run = simulate_two_layer(x, y, w, z, [0.0, 2.0], progress=True)
    assert "100%" in capsys.readouterr().err
    assert run.attrs["loss"] == "cross-entropy"
    assert run.attrs["wideangle_version"] == wa.__version__


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_of_a_sample_is_a_number_of_samples(loss: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(3, 2)), np.array([1, -1, 1])
    weights, readout = rng.normal(size=(4, 2)), rng.normal(size=4)
    times = [0.0, 1.0, 5.0]
    options: dict[str, Any] = {"loss": loss, "rtol": 1e-10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeparabilityWarning)
        repeated = np.array([0, 0, 0, 1, 2, 2])
        found = simulate_two_layer(x, y, weights, readout, times, probabilities=[1 / 2, 1 / 6, 1 / 3], **options)
        expected = simulate_two_layer(x[repeated], y[repeated], weights, readout, times, **options)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.accuracy, expected.accuracy, rtol=1e-14)


@pytest.mark.parametrize("probabilities", [[0.5, 0.5], [1.0, 0.0, 0.0], [0.5, 0.4, 0.2], [0.5, np.nan, 0.5], "x"])
def test_bad_weights_of_samples(probabilities: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="probabilities"):
        simulate_two_layer(np.eye(3), [1, 1, -1], [[0.1] * 3], [0.1], [1.0], probabilities=probabilities)


@pytest.mark.parametrize("options", ["", ", learning_rate=0.125"])
def test_interrupt_leaves_the_process_usable(interrupt: Callable[[str, str, str], str], options: str) -> None:
    setup = f"""
    from wideangle.dynamics import simulate_two_layer as simulate
    def run(trajectories, end):
        return simulate([[1.0], [-1.0]], [1, -1], [[[0.1]]] * trajectories, [0.1], [end]{options}, n_threads=2)
    run(1, 1.0)
    """
    after = "print(int(run(3, 1.0).status.sum()))"
    assert interrupt(setup, "run(200_000, 1e4)" if options else "run(2_000_000, 1e6)", after) == "0\n"
