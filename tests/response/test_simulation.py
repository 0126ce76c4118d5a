"""Ensembles in training: what is returned, what it may not depend on, what is random, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle import _core
from wideangle.response._training_results import samples_met

RNG = np.random.default_rng(11)
Array = np.ndarray[Any, Any]
X = RNG.normal(size=(12, 2))
Y = np.sign(X[:, 0] + 0.3)
NET = wa.MLP((20,), bias_variance=0.3)


def simulate(data: Any = (X, Y), net: Any = NET, **options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"n_networks": 5, "n_steps": 20, "learning_rate": 0.1, "seed": 7} | options
    return wa.response.simulate_training(net, data, **arguments)


def parameters_of(state: xr.Dataset) -> list[xr.DataArray]:
    return [state[name] for name in state if str(name).startswith(("weights_", "biases_"))]


# ---- What is returned


def test_networks_start_as_those_of_the_ensembles_at_initialisation() -> None:
    state = simulate(net=wa.MLP((6, 5), bias_variance=0.2), first_network=3)
    for k in state.network.values:
        network = wa.propagation.materialize(wa.MLP((6, 5), bias_variance=0.2), 2, int(k), seed=7)
        for layer in range(3):
            start = state.sel(network=k).isel(time=0)
            np.testing.assert_array_equal(start[f"weights_{layer + 1}"], network.weights[layer])
            assert network.biases is not None
            np.testing.assert_array_equal(start[f"biases_{layer + 1}"], network.biases[layer])


def test_dimensions_coordinates_and_attributes() -> None:
    state = simulate(
        net=wa.MLP((6, 5)), keep=("tangent_kernel", "hidden_activations"), first_network=2, record=(0, 3, 20)
    )
    assert dict(state.sizes) == {
        "sample": 12, "feature": 2, "network": 5, "time": 3, "unit_1": 6, "unit_2": 5, "output": 1, "other_sample": 12,
    }  # fmt: skip
    assert state.weights_1.dims == ("network", "time", "unit_1", "feature")
    assert state.weights_2.dims == ("network", "time", "unit_2", "unit_1")
    assert state.weights_3.dims == ("network", "time", "output", "unit_2")
    assert state.biases_3.dims == ("network", "time", "output")
    assert state.tangent_kernel.dims == ("network", "time", "sample", "other_sample")
    assert state.hidden_activations.dims == ("network", "time", "sample", "unit_2")
    np.testing.assert_array_equal(state.network, [2, 3, 4, 5, 6])
    np.testing.assert_array_equal(state.step, [0, 3, 20])
    np.testing.assert_allclose(state.time, [0, 0.3, 2.0], rtol=1e-15)
    assert state.attrs["loss"] == "cross-entropy"
    assert state.attrs["weight_rates"] == [1.0, 1.0, 1.0]
    assert (state.status == 0).all()
    assert (state.diverged_step == -1).all()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, [0, 1, 2, 4, 8, 16, 20]),
        (7, [0, 7, 14, 20]),
        (20, [0, 20]),
        ((5,), [5]),
        (np.array(7), [0, 7, 14, 20]),
        (np.array([0, 19]), [0, 19]),
    ],
)
def test_records(record: Any, expected: list[int]) -> None:
    np.testing.assert_array_equal(simulate(record=record).step, expected)


def test_no_steps_give_the_initial_networks() -> None:
    state = simulate(n_steps=0)
    np.testing.assert_array_equal(state.step, [0])
    np.testing.assert_array_equal(state.weights_1, simulate().weights_1.isel(time=[0]))


def test_a_state_survives_a_file(tmp_path: Any) -> None:
    state = simulate(keep=("tangent_kernel",), seed=2**64 - 1)
    state.to_netcdf(tmp_path / "state.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "state.nc", engine="h5netcdf") as again:
        xr.testing.assert_identical(again.load().drop_attrs(), state.drop_attrs())
        indices, _ = samples_met(again)
        np.testing.assert_array_equal(indices, samples_met(state)[0])


def test_training_lowers_the_loss_and_the_labels_as_given_count() -> None:
    state = simulate(n_networks=50, n_steps=2000, noise=0.1, batch=1, learning_rate=0.02)
    assert state.loss.isel(time=-1).mean() < 0.5 * state.loss.isel(time=0).mean()
    margins = state.outputs.values * Y
    np.testing.assert_allclose(state.loss, np.log1p(np.exp(-margins)).mean(axis=-1), rtol=1e-12)


def test_labelled_data_of_two_classes() -> None:
    labels = (Y > 0).astype(int)
    data = wa.data.LabelledData(X, labels, X[:2], labels[:2], name="two halves")
    state = simulate(data)
    np.testing.assert_array_equal(state.y, Y)
    np.testing.assert_array_equal(state.x, X.astype(np.float32))


# ---- What it may not depend on

RUNS = [
    {"batch": 1},
    {"batch": 1, "activation": "erf", "noise": 0.2},
    {"batch": 5, "replacement": False, "noise": 0.1},
    {"batch": "full", "net": wa.MLP((6, 5), activation="gelu")},
    {"batch": 4, "loss": "squared", "noise": 0.5},
]


def assert_same_bits(one: xr.Dataset, other: xr.Dataset) -> None:
    for a, b in zip(parameters_of(one), parameters_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a.network, b.network)


@pytest.mark.parametrize("options", RUNS, ids=str)
def test_same_bits_for_any_threads_parts_and_records(options: dict[str, Any]) -> None:
    whole = simulate(n_networks=40, n_threads=1, **options)
    assert_same_bits(whole, simulate(n_networks=40, n_threads=2, **options))
    parts = [simulate(n_networks=n, first_network=first, **options) for first, n in ((0, 16), (16, 24))]
    assert_same_bits(whole, xr.concat(parts, "network"))
    uneven = [simulate(n_networks=n, first_network=first, **options) for first, n in ((0, 5), (5, 35))]
    assert_same_bits(whole, xr.concat(uneven, "network"))
    every = simulate(n_networks=40, record=1, **options)
    assert_same_bits(whole, every.isel(time=whole.step.values))
    shorter = simulate(n_networks=40, **(options | {"n_steps": 16}))
    assert_same_bits(whole.isel(time=slice(0, 6)), shorter)


def test_parts_put_together_are_the_whole() -> None:
    whole = simulate(n_networks=7, batch=1, keep=("tangent_kernel",))
    parts = [simulate(n_networks=n, first_network=k, batch=1, keep=("tangent_kernel",)) for k, n in ((0, 3), (3, 4))]
    together = xr.concat(parts, "network")
    xr.testing.assert_equal(together, whole)
    calls: list[Callable[[xr.Dataset], xr.Dataset]] = [
        lambda state: wa.response.training_response(state, X, X[:3]),
        wa.response.feature_space,
        lambda state: wa.response.fragility(state.isel(time=-1), X[:2], radius=0.1),
        lambda state: wa.response.simulate_mean_field(None, kernel=state, probe=X[:2]),
    ]
    for call in calls:
        xr.testing.assert_equal(call(together), call(whole))
    runs = [wa.response.simulate_mean_field(None, kernel=part, probe=X[:2]) for part in parts]
    xr.testing.assert_equal(xr.concat(runs, "network"), calls[-1](whole))


@pytest.mark.parametrize("options", RUNS, ids=str)
def test_same_bits_on_every_instruction_set(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for path in _core.cpu_paths():
        monkeypatch.setenv("WIDEANGLE_CPU_PATH", path)
        runs.append(simulate(n_networks=20, **options))
    for run in runs[1:]:
        assert_same_bits(runs[0], run)


def test_another_seed_or_network_is_another_run() -> None:
    state = simulate(n_networks=2, batch=1, n_steps=200)
    assert not np.array_equal(*samples_met(state)[0])
    other = simulate(n_networks=2, batch=1, n_steps=200, seed=8)
    assert not np.array_equal(samples_met(state)[0], samples_met(other)[0])
    assert not np.array_equal(state.weights_1, other.weights_1)


# ---- What is random


def test_samples_are_drawn_independently_and_evenly() -> None:
    indices, labels = samples_met(simulate(n_networks=100, n_steps=3000, batch=4, record=(0,)))
    assert indices.shape == (100, 3000, 4)
    np.testing.assert_array_equal(labels, Y[indices])
    total = indices.size
    counts = np.bincount(indices.ravel(), minlength=12)
    assert np.abs(counts - total / 12).max() < 5 * math.sqrt(total / 12 * 11 / 12)
    # Neighbours in a batch, in time and among networks coincide as often as chance has it.
    for one, other in (
        (indices[..., 0], indices[..., 1]),
        (indices[..., 3], indices[..., 0]),
        (indices[:, 1:, 0], indices[:, :-1, 3]),
        (indices[1:], indices[:-1]),
    ):
        assert abs((one == other).mean() - 1 / 12) < 5 * math.sqrt(11 / 144 / one.size)


def test_permutations_hold_every_sample_once_and_change() -> None:
    state = simulate(n_networks=60, n_steps=90, batch=5, replacement=False, record=(0,))
    indices, labels = samples_met(state)
    assert (indices[:, 2::3, 2:] == -1).all()
    assert np.isnan(labels[:, 2::3, 2:]).all()
    epochs = indices.reshape(60, 30, 15)[..., :12]
    np.testing.assert_array_equal(np.sort(epochs, axis=-1), np.broadcast_to(np.arange(12), epochs.shape))
    assert len({tuple(order) for order in epochs.reshape(-1, 12)}) == 60 * 30
    # Every sample is as likely in every place.
    places = np.stack([(epochs == sample).sum(axis=(0, 1)) for sample in range(12)])
    assert np.abs(places - 150).max() < 5.5 * math.sqrt(150 * 11 / 12)


def test_label_noise_is_normal_for_the_squared_loss() -> None:
    state = simulate(n_networks=40, n_steps=2500, batch="full", loss="squared", noise=0.3, record=(0,))
    _, labels = samples_met(state)
    noise = (labels - Y).ravel() / 0.3
    n = noise.size
    for power, mean, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs((noise**power).mean() - mean) < 5 * math.sqrt(variance / n), power
    noise = noise.reshape(40, 2500, 12)
    for one, other in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])):
        assert abs((one * other).mean()) < 5 / math.sqrt(one.size)


def test_flags_of_numpy_are_flags() -> None:
    options: dict[str, Any] = {"n_networks": 3, "batch": 5}
    plain = simulate(replacement=False, biases=False, **options)
    other = simulate(replacement=np.False_, biases=np.False_, **options)
    assert plain.attrs == other.attrs
    np.testing.assert_array_equal(samples_met(plain)[0], samples_met(other)[0])


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_labels_flip_with_their_probability(probability: float) -> None:
    _, labels = samples_met(simulate(n_networks=40, n_steps=2500, batch=3, noise=probability, record=(0,)))
    indices, _ = samples_met(simulate(n_networks=40, n_steps=2500, batch=3, record=(0,)))
    flipped = labels != Y[indices]
    spread = 5 * math.sqrt(probability * (1 - probability) / flipped.size)
    assert abs(flipped.mean() - probability) <= spread
    # Visits of one sample by one network do not share a flip.
    both = (flipped[:, 1:] & flipped[:, :-1]).mean()
    assert abs(both - probability**2) <= 5 * math.sqrt(probability**2 / flipped.size)


# ---- Divergence


def test_a_network_that_diverges_is_marked_and_the_others_go_on() -> None:
    net = wa.MLP((20,), weight_variance=40.0)
    options: dict[str, Any] = {"net": net, "loss": "squared", "n_networks": 64, "n_steps": 3000, "batch": 1}
    state = simulate(learning_rate=0.02, record=1, **options)
    lost = state.status.values == 1
    assert 0 < lost.sum() < 64
    np.testing.assert_array_equal(lost, state.diverged_step >= 0)
    finite = np.isfinite(state.weights_1).all(["unit_1", "feature"]).values
    for k in range(64):
        step = int(state.diverged_step[k])
        assert finite[k, :step].all() if lost[k] else finite[k].all()
        assert not finite[k, step:].any() if lost[k] else True
    # Those that are well have the bits that they have in other company.
    for k in np.flatnonzero(~lost)[:3]:
        alone = simulate(learning_rate=0.02, record=1, **(options | {"n_networks": 1, "first_network": int(k)}))
        np.testing.assert_array_equal(alone.weights_1[0], state.weights_1[k])


def test_where_a_run_ends_does_not_change_what_is_found_of_networks() -> None:
    net = wa.MLP((20,), weight_variance=40.0)
    options: dict[str, Any] = {"net": net, "loss": "squared", "n_networks": 64, "batch": 1, "learning_rate": 0.02}
    whole = simulate(n_steps=300, record=1, **options)
    lost = np.flatnonzero((whole.status == 1).values)
    assert len(lost) > 2
    for last in sorted({int(whole.diverged_step[k]) + shift for k in lost[:3] for shift in (-1, 0, 1)}):
        short = simulate(n_steps=last, record=1, **options)
        np.testing.assert_array_equal(short.weights_1, whole.weights_1.isel(time=slice(0, last + 1)))
        expected = whole.diverged_step.where(whole.diverged_step <= last, -1)
        np.testing.assert_array_equal(short.diverged_step, expected)
        # No network that is told to be well has an answer that is not.
        assert np.isfinite(short.outputs.values[(short.status == 0).values]).all()


@pytest.mark.parametrize("batch", [1, 3, "full"])
def test_a_network_that_has_diverged_before_its_start(batch: Any) -> None:
    start = simulate(n_networks=20).isel(time=0)
    start["weights_2"][3] = np.nan
    start["weights_2"][17] = 1e200
    for method in ("descent", "flow") if batch == "full" else ("descent",):
        run = simulate(initial=start, n_networks=20, start_step=4, batch=batch, method=method, record=(0, 20))
        assert set(run.network.values[run.status == 1]) == {3, 17}
        np.testing.assert_array_equal(run.diverged_step[[3, 17]], 4)
        assert np.isnan(run.outputs.sel(network=[3, 17])).all()
        assert np.isfinite(run.outputs.isel(network=[0, 2, 4, 16, 18])).all()


def test_a_rate_that_is_far_too_large_ends_in_nan_and_not_in_an_error() -> None:
    for loss in ("squared", "exponential", "cross-entropy", "hinge"):
        for batch in (1, 3):
            state = simulate(learning_rate=1e300, loss=loss, batch=batch, n_steps=50)
            assert (state.status == 1).all()
            assert np.isnan(state.weights_1.isel(time=-1)).all()
            assert np.isnan(state.loss.isel(time=-1)).all()
            assert np.isfinite(state.loss.isel(time=0)).all()


# ---- Bad input

THREE_CLASSES = wa.data.LabelledData(X, np.arange(12) % 3, X, np.arange(12) % 3, name="three")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": "relu"}, r"network must be a wideangle\.MLP"),
        ({"data": X}, r"data must be a pair"),
        ({"data": (X,)}, r"data must be a pair"),
        ({"data": (X[0], Y)}, r"x must have shape \(input, feature\)"),
        ({"data": (X[:0], Y[:0])}, r"x must have shape"),
        ({"data": (X[:, :0], Y)}, r"x must have shape"),
        ({"data": (X, Y[:5])}, r"y must hold one label for each of the 12 rows of x, got shape \(5,\)"),
        ({"data": (X, Y[:, None])}, r"y must hold one label"),
        ({"data": (np.where(X > 1, np.nan, X), Y)}, r"x must be finite, got nan at"),
        ({"data": (X, np.where(Y > 0, np.inf, Y)), "loss": "squared"}, r"y must be finite, got inf"),
        ({"data": (X + 1j, Y)}, r"x must hold real numbers"),
        ({"data": (X, Y.astype(str))}, r"y must hold real numbers"),
        ({"data": (X, np.where(np.arange(12) == 4, 0.0, Y))}, r"y\[4\] = 0; give -1 and 1"),
        ({"data": (X, (Y + 1) / 2), "loss": "hinge"}, r"-1 or 1 for the hinge loss, got y\[\d+\] = 0; give -1 and 1"),
        ({"n_networks": 0}, r"n_networks"),
        ({"n_networks": 10**13}, r"n_networks = \d+ with \d+ records needs .*GiB"),
        ({"n_steps": -1}, r"n_steps must lie between"),
        ({"n_steps": 2.5}, r"n_steps must be an integer"),
        ({"batch": 13}, r"batch must lie between 1 and 12, got 13; .*of which data has 12"),
        ({"batch": 0}, r"batch must lie between"),
        ({"batch": "mini"}, r"batch must be 'full' or an integer"),
        ({"batch": 1.0}, r"batch must be an integer"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive"),
        ({"learning_rate": math.nan}, r"learning_rate must be finite"),
        ({"loss": "mse"}, r"loss must be one of 'cross-entropy'"),
        ({"activation": "swish"}, r"activation must be one of 'relu'"),
        ({"noise": -0.1}, r"noise must be between 0 and 1"),
        ({"noise": 1.1}, r"noise must be between 0 and 1 for the cross-entropy loss, got 1.1"),
        ({"noise": -1.0, "loss": "squared"}, r"noise must be 0 or more"),
        ({"seed": -1}, r"seed"),
        ({"record": (0, 21)}, r"record\[1\] must lie between 0 and 20, got 21; .*n_steps = 20"),
        ({"record": (3, 3)}, r"record must hold increasing numbers"),
        ({"record": 0}, r"record must lie between 1 and 20"),
        ({"record": "all"}, r"record must be an integer"),
        ({"method": "adam"}, r"method must be one of"),
        ({"readout": "none"}, r"readout must be one of 'trained', 'frozen'"),
        ({"biases": 1}, r"biases must be True, False or 'hidden'"),
        ({"biases": "some"}, r"biases must be True, False or 'hidden'"),
        ({"replacement": "yes"}, r"replacement must be True or False"),
        ({"parametrization": "mup"}, r"parametrization must be one of"),
        ({"keep": ("kernel",)}, r"keep must hold names from 'tangent_kernel'"),
        ({"keep": 3}, r"keep must be a sequence"),
        ({"first_network": -1}, r"first_network"),
        ({"n_threads": 0}, r"n_threads"),
        ({"data": THREE_CLASSES}, r"two classes.*labels -1 and 1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(**options)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(">f8"),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.tolist(),
    ],
)
def test_any_layout_gives_the_same(change: Callable[[Array], Any]) -> None:
    assert_same_bits(simulate(), simulate((change(X), change(Y))))
    X.flags.writeable = False
    assert_same_bits(simulate(), simulate((X, Y)))


def test_small_types_are_taken_as_they_are() -> None:
    whole = np.rint(X * 4)
    for kind in ("f2", "i1", "f4", "i8"):
        assert_same_bits(simulate((whole, Y)), simulate((whole.astype(kind), Y.astype(kind))))


# ---- Progress and Ctrl-C


def test_progress_counts_steps_of_networks(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(progress=True, n_networks=10, n_steps=100)
    assert "1.00k/1.00k" in capsys.readouterr().err


def test_ctrl_c_leaves_the_process_usable(interrupt: Callable[[str, str, str], str]) -> None:
    setup = "import numpy as np, wideangle as wa; x, y, net = np.eye(2), np.array([1, -1]), wa.MLP((20,))"
    call = "wa.response.simulate_training(net, (x, y), n_networks=5, n_steps={}, learning_rate=0.1, seed=1, batch={})"
    for batch in ("1", "'full'"):
        after = f"print({call.format(3, batch)}.sizes['time'])"
        assert interrupt(setup, call.format(10**12, batch), after) == "4\n"
