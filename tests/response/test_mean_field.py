"""The mean-field model: its definition step by step, closed forms, networks for which it is exact, and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import lambertw

import wideangle as wa
from wideangle.response._training_results import add_evaluations, training_dataset
from wideangle.response._training_run import TrainingRun

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(9, 2))
PROBE = RNG.normal(size=(4, 2))
Y = np.where(RNG.random(9) < 0.5, -1.0, 1.0)
LABELS = {"squared": RNG.normal(size=9), "cross-entropy": Y, "hinge": Y, "exponential": Y}


def bell(points: Array, samples: Array) -> Array:
    return np.asarray(np.exp(-((points[:, None] - samples[None]) ** 2).sum(axis=2)))


def simulate(data: Any = (X, Y), **options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"kernel": bell, "learning_rate": 0.3, "n_steps": 20} | options
    return wa.response.simulate_mean_field(data, **arguments)


def points_of(result: xr.Dataset) -> Array:
    parts = [result[name].values for name in ("outputs", "probe_outputs") if name in result]
    return np.concatenate(parts, axis=-1)


def slope_of_loss(loss: str, f: float, y: float) -> float:
    """Return dl/df, each loss written out."""
    if loss == "squared":
        return f - y
    if loss == "hinge":
        return -y if y * f < 1 else 0.0
    if loss == "exponential":
        return -y * math.exp(-y * f)
    return -y / (1 + math.exp(y * f))


def follow(
    loss: str, y: Array, kernel: Array, start: Array, order: list[list[int]], alpha: Array, learning_rate: float
) -> list[Array]:
    """The definition, one number after the other."""
    f, states = [float(value) for value in start], [start]
    for batch, plasticity in zip(order, alpha, strict=True):
        slopes = [slope_of_loss(loss, f[s], y[s]) for s in batch]
        for p in range(len(f)):
            change = sum(slope * kernel[p, s] for slope, s in zip(slopes, batch, strict=True)) / len(batch)
            f[p] -= learning_rate * plasticity * change
        states.append(np.array(f))
    return states


# ---- The definition


@pytest.mark.parametrize("loss", ["squared", "cross-entropy", "hinge", "exponential"])
@pytest.mark.parametrize("batch", [1, 3, 6])
def test_steps_are_those_of_the_definition(loss: str, batch: int) -> None:
    kernel, alpha = bell(np.concatenate([X, PROBE]), X), RNG.random(20)
    start, order = RNG.normal(size=(2, 13)), RNG.integers(0, 9, size=(2, 20, batch))
    order[:, 4::5, batch - batch // 3 :] = -1  # smaller batches, down to the size before the last
    result = simulate(
        (X, LABELS[loss]), kernel=kernel, aging=alpha, loss=loss, probe=PROBE, initial=start, order=order, n_runs=2,
        record=1
    )  # fmt: skip
    for run in range(2):
        batches = [[int(s) for s in row if s >= 0] for row in order[run]]
        states = follow(loss, LABELS[loss], kernel, start[run], batches, alpha, 0.3)
        np.testing.assert_allclose(points_of(result)[run], states, rtol=1e-12, atol=1e-13)


def test_the_full_batch_holds_every_sample_once() -> None:
    result = simulate(batch="full", record=1, initial=0.2)
    states = follow("cross-entropy", Y, bell(X, X), np.full(9, 0.2), [list(range(9))] * 20, np.ones(20), 0.3)
    np.testing.assert_allclose(result.outputs[0], states, rtol=1e-12, atol=1e-14)


def test_what_follows_from_the_outputs() -> None:
    kernel = np.diag([1.0, 2.0, 4.0])
    result = simulate(
        (np.array([[2.0], [0.0], [1.0]]), [1, -1, 1]), kernel=kernel, aging=lambda time: 1 / (1 + time), batch="full",
        learning_rate=0.5, n_steps=2, loss="exponential", record=1, initial=[0.1, 0.2, -0.3],
    )  # fmt: skip
    y, f = np.array([1.0, -1.0, 1.0]), result.outputs[0].values
    alpha = 1 / (1 + np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(result.time, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(f[1] - f[0], 0.5 * y * np.exp(-y * f[0]) * [1, 2, 4] / 3, rtol=1e-14)
    np.testing.assert_allclose(result.loss[0], np.exp(-y * f).mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(result.plasticity[0], alpha * 7 / 3, rtol=1e-14)
    np.testing.assert_allclose(result.response[0], alpha * (np.exp(-y * f) * [1, 2, 4]).mean(axis=1), rtol=1e-14)
    assert result.n_domains[0].values.tolist()[0] == 3  # along the line: 0.2, -0.3, 0.1


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([1, 2, 3, 4], 1),
        ([0, 0, 0, 0], 0),
        ([1, -1, 1, -1], 4),
        ([1, 0, 1, -1], 2),
        ([0, 0, -2, 0], 1),
        ([0, 1, 0, -1], 2),
    ],
)
def test_domains_are_intervals_of_one_sign(outputs: list[int], expected: int) -> None:
    # The points lie at 3, 1 (samples), 4, 2 (probes).
    places = np.array([2, 0, 3, 1])
    result = simulate(
        ([[3.0], [1.0]], [1, 1]), probe=[[4.0], [2.0]], initial=np.array(outputs)[places], n_steps=0
    )  # fmt: skip
    assert result.n_domains.values.tolist() == [[expected]]


# ---- Closed forms


def test_full_batch_of_the_squared_loss() -> None:
    r"""f_t = y + (1 - \eta K/N)^t (f_0 - y), and at the probes f_0 - k' K^+ (f_0 - f_t) on the samples."""
    result = simulate(
        (X, LABELS["squared"]),
        loss="squared",
        batch="full",
        probe=PROBE,
        initial=0.3,
        n_steps=3000,
        record=[0, 7, 3000],
    )
    kernel, y, start = bell(X, X), LABELS["squared"], np.full(9, 0.3)
    values, vectors = np.linalg.eigh(kernel)
    for place, t in enumerate((0, 7, 3000)):
        decay = (1 - 0.3 * values / 9) ** t
        f = y + vectors @ (decay * (vectors.T @ (start - y)))
        np.testing.assert_allclose(result.outputs[0, place], f, rtol=0, atol=1e-12)
        # The sum of the residuals of all steps, which the probes answer to.
        total = vectors @ ((1 - decay) / values * (vectors.T @ (start - y)))
        np.testing.assert_allclose(result.probe_outputs[0, place], 0.3 - bell(PROBE, X) @ total, rtol=0, atol=1e-11)


def test_one_sample_under_cross_entropy() -> None:
    """Small steps follow f + e^f = 1 + K t, f = 1 + Kt - W(e^(1 + Kt)), with an error of first order in them."""
    errors = []
    for steps in (4000, 8000):
        result = simulate(([[0.0]], [1]), kernel=[[2.0]], learning_rate=10 / steps, n_steps=steps, record=(0, steps))
        exact = 21.0 - lambertw(math.exp(21.0)).real
        errors.append(result.outputs.values[0, 1, 0] - exact)
    assert 0 < errors[0] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.02)


def test_margin_of_hinge_stops_at_one() -> None:
    result = simulate(([[0.0]], [-1]), kernel=[[1.0]], loss="hinge", learning_rate=0.25, n_steps=10, record=1)
    np.testing.assert_array_equal(result.outputs[0, :, 0], -np.minimum(0.25 * np.arange(11), 1.0))


# ---- Networks for which the model is exact


def assert_exact(state: xr.Dataset, probe: Array, **options: Any) -> None:
    result = wa.response.simulate_mean_field(None, kernel=state, probe=probe, **options)
    change = result.change.isel(time=-1).values
    assert np.all(change > 0.1)
    np.testing.assert_allclose(result.outputs, result.network_outputs, rtol=0, atol=1e-12 * change.max())
    outputs = state.outputs.values.reshape(result.network_outputs.shape)
    np.testing.assert_allclose(result.network_outputs, outputs, rtol=0, atol=1e-13 * change.max())
    np.testing.assert_allclose(result.probe_outputs, result.probe_network_outputs, rtol=0, atol=1e-12 * change.max())
    np.testing.assert_allclose(result.plasticity, result.plasticity.isel(time=[0] * result.sizes["time"]), rtol=1e-12)


CASES: list[dict[str, Any]] = [
    {"batch": 1, "loss": "cross-entropy"},
    {"batch": 1, "loss": "squared", "noise": 0.5},
    {"batch": 4, "loss": "hinge", "replacement": False, "noise": 0.2},
    {"batch": 4, "loss": "exponential", "noise": 0.1, "learning_rate": 0.004},
    {"batch": "full", "loss": "squared"},
    {"batch": "full", "loss": "cross-entropy", "noise": 0.1},
]


@pytest.mark.parametrize("case", CASES)
def test_a_network_linear_in_what_is_trained(case: dict[str, Any]) -> None:
    """Linear units below a frozen readout: the very samples and labels of the training, noise included."""
    net = wa.MLP((7,), activation="linear", bias_variance=0.5)
    state = wa.response.simulate_training(
        net, (X, LABELS[case["loss"]]), n_networks=20, n_steps=300, seed=3, readout="frozen", first_network=2,
        **({"learning_rate": 0.02} | case)
    )  # fmt: skip
    assert_exact(state, PROBE)
    # Any networks, out of order, and from a later record on.
    assert_exact(state.isel(network=[4, 5, 17, 1], time=slice(2, None)), PROBE)
    assert_exact(state.isel(network=3), PROBE)


@pytest.mark.parametrize("case", CASES[:4])
def test_a_network_with_frozen_features(case: dict[str, Any]) -> None:
    loss, noise = wa.losses.parse_loss(case["loss"]), case.get("noise", 0.0)
    order = "drawn" if case.get("replacement", True) else "permuted"
    run = TrainingRun(
        x=X, y=LABELS[loss.name], widths=(30, 20), activation=wa.activations.parse_activation("relu"), loss=loss,
        weight_rates=(0.0, 0.0, 0.5), bias_rates=(0.0, 0.0, 2.0), learning_rate=0.02, n_steps=200, records=(0, 10, 200),
        order=order, batch=case["batch"], seed=8, noise=noise,
    )  # fmt: skip
    parameters, diverged = run.train(RNG.normal(size=(3, 90 + 620 + 21)) / 3)
    state = training_dataset(run, parameters, diverged, 0)
    add_evaluations(state, run, parameters, (), n_threads=1)
    state.attrs = {
        "activation": "relu", "loss": loss.name, "weight_rates": [0.0, 0.0, 0.5], "bias_rates": [0.0, 0.0, 2.0],
        "learning_rate": 0.02, "batch": case["batch"], "replacement": str(order == "drawn"), "noise": noise, "seed": 8,
        "method": "descent",
    }  # fmt: skip
    assert_exact(state, PROBE)


# ---- Networks in general


def line_of_points(number: int) -> Array:
    return np.linspace(-1, 1, number)[:, None]


def test_the_plasticity_is_that_of_the_networks() -> None:
    x = line_of_points(8)
    state = wa.response.simulate_training(
        wa.MLP((20,), bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=4, n_steps=400, batch=1, learning_rate=0.1,
        seed=1, keep=("tangent_kernel",)
    )  # fmt: skip
    result = wa.response.simulate_mean_field((x, np.sign(x[:, 0])), kernel=state)
    diagonal = np.einsum("ktss->kts", state.tangent_kernel.values)
    alpha = (diagonal / diagonal[:, :1]).mean(axis=2)
    start = diagonal[:, :1].mean(axis=2)
    assert alpha.max() > 1.2
    np.testing.assert_allclose(result.plasticity, alpha * start, rtol=1e-12)
    constant = wa.response.simulate_mean_field(None, kernel=state, aging=1.0)
    np.testing.assert_allclose(constant.plasticity, np.broadcast_to(start, alpha.shape), rtol=1e-12)
    # What the aging is worth: networks whose kernels grow learn faster.
    assert float(result.error.isel(time=-1).median()) < 0.7 * float(constant.error.isel(time=-1).median())


def test_the_plasticity_is_linear_between_the_records() -> None:
    x = line_of_points(8)
    state = wa.response.simulate_training(
        wa.MLP((20,), bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=1, n_steps=100, batch=1, learning_rate=0.1,
        seed=1, record=(10, 25, 100)
    )  # fmt: skip
    result = wa.response.simulate_mean_field(None, kernel=state)
    plasticity = result.plasticity.values[0]
    assert abs(np.diff(plasticity)).min() > 0.01
    alpha = np.interp(np.arange(10, 100), [10, 25, 100], plasticity / plasticity[0])
    expected = wa.response.simulate_mean_field(None, kernel=state, aging=alpha)
    np.testing.assert_allclose(result.outputs, expected.outputs, rtol=1e-11)


def test_samples_without_influence_do_not_count() -> None:
    """One that no unit is active on, without biases that are trained, has a kernel of 0 with every other."""
    x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([1.0, 1.0, -1.0])
    state = wa.response.simulate_training(
        wa.MLP((2,)), (x, y), n_networks=40, n_steps=50, learning_rate=0.05, seed=3, biases=False, batch=1
    )
    result = wa.response.simulate_mean_field(None, kernel=state)
    assert np.isfinite(result.outputs).all()
    weights = state.weights_1.isel(time=0).values[..., 0]
    dead = (weights > 0).all(axis=1)
    assert dead.any()
    np.testing.assert_array_equal(result.outputs[dead, :, 0], 0.0)


def test_the_error_is_of_first_order_in_the_change_of_the_kernels_shape() -> None:
    """Networks of other widths, whose kernels change by other amounts while they learn the same."""
    x, errors, changes = line_of_points(10), [], []
    for width in (20, 320):
        state = wa.response.simulate_training(
            wa.MLP((width,), bias_variance=1.0), (x, np.sign(np.sin(3 * x[:, 0]))), n_networks=40, n_steps=2000,
            batch=1, learning_rate=0.04 / width, seed=1, record=(0, 2000), keep=("tangent_kernel",)
        )  # fmt: skip
        result = wa.response.simulate_mean_field(None, kernel=state, probe=line_of_points(21)).isel(time=-1)
        errors.append(float((result.error / result.change).median()))
        kernel = state.tangent_kernel.values
        diagonal = np.einsum("ktss->kt", kernel)
        moved = kernel[:, 1] - (diagonal[:, 1] / diagonal[:, 0])[:, None, None] * kernel[:, 0]
        drift = np.linalg.norm(moved, axis=(1, 2)) / np.linalg.norm(kernel[:, 0], axis=(1, 2))
        changes.append(float(np.median(drift)))
    assert errors[0] > 50 * errors[1]
    assert math.log(errors[0] / errors[1]) / math.log(changes[0] / changes[1]) == pytest.approx(1.0, abs=0.15)


# ---- What the model shows


def test_alternating_labels_split_the_interval() -> None:
    """A local kernel and labels that alternate: one domain in the beginning, then ever more, one for each sample."""
    n = 12
    x, y = line_of_points(n), np.array([1.0, -1.0] * (n // 2))

    def local(points: Array, samples: Array) -> Array:
        return np.asarray(np.exp(-8 * np.abs(points - samples.T)))

    result = simulate(
        (x, y), kernel=local, probe=line_of_points(201), initial=0.5, learning_rate=0.05, n_steps=4000, n_runs=20,
        record=20, seed=2
    )  # fmt: skip
    domains = result.n_domains.values
    assert np.all(domains[:, 0] == 1)
    assert np.all(domains[:, -1] == n)
    mean = domains.mean(axis=0)
    assert mean[5] < 5 < 9 < mean[20]
    # With so wide a kernel that no response is local, the same training does not split anything.
    wide = simulate((x, y), kernel=lambda a, b: np.ones((len(a), len(b))), probe=line_of_points(201), n_steps=4000)
    assert np.all(wide.n_domains <= 1)


def test_relearning_takes_longer_the_later_it_begins() -> None:
    r"""Loss of plasticity: one sample of the squared loss, \alpha = (1 + t/\tau)^-\gamma, learnt and then flipped.

    From f = y the label -y is learnt, f = 0 crossed, once \prod (1 - \eta k \alpha) < 1/2: that many steps exactly.
    """
    eta, tau, gamma, k = 0.02, 2.0, 0.7, 1.5
    needed = []
    for flip in (0, 100, 400, 1600):
        result = simulate(
            ([[0.0]], [-1.0]), kernel=[[k]], loss="squared", learning_rate=eta, n_steps=600, start_step=flip,
            initial=1.0, aging=lambda time: (1 + time / tau) ** -gamma, record=1
        )  # fmt: skip
        needed.append(int(np.argmax(result.outputs.values[0, :, 0] < 0)))
        product, steps = 1.0, 0
        while product >= 0.5:
            product *= 1 - eta * k * (1 + eta * (flip + steps) / tau) ** -gamma
            steps += 1
        assert needed[-1] == steps
    assert needed == sorted(needed)
    assert needed[-1] > 4 * needed[0]


# ---- What results may not depend on


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": 4, "order": "permuted", "noise": 0.2},
        {"batch": "full", "noise": 0.1},
        {"order": np.arange(60).reshape(30, 2) % 9, "noise": 0.3},
    ],
)
def test_same_bits_for_any_threads_number_of_runs_and_records(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"n_runs": 40, "n_steps": 30, "probe": PROBE, "seed": 6, "record": (3, 30)} | options
    whole = simulate(**arguments, n_threads=1)
    for other in ({"n_threads": 3}, {"n_runs": 5, "n_threads": 2}, {"record": (3, 10, 11, 30), "n_threads": 2}):
        part = simulate(**(arguments | other)).sel(step=[3, 30])
        np.testing.assert_array_equal(points_of(part), points_of(whole)[: part.sizes["run"]])
    assert not np.array_equal(*points_of(whole)[:2, -1]) or options.get("batch") == "full"


def test_the_blocks_of_steps_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"n_runs": 3, "batch": 2, "order": "permuted", "noise": 0.2, "record": 7, "n_steps": 50}
    whole = simulate(**arguments)
    monkeypatch.setattr("wideangle.response._mean_field_running._VISITS", 50)
    np.testing.assert_array_equal(points_of(simulate(**arguments)), points_of(whole))


@pytest.mark.parametrize("options", [{}, {"batch": 4, "order": "permuted"}, {"batch": 2, "noise": 0.2}])
def test_a_run_goes_on_where_it_ended(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "n_runs": 3, "probe": PROBE, "aging": lambda time: np.exp(-time), "seed": 4, **options
    }  # fmt: skip
    whole = simulate(n_steps=30, **arguments)
    first = simulate(n_steps=13, **arguments)
    second = simulate(n_steps=17, start_step=13, initial=points_of(first)[:, -1], **arguments)
    np.testing.assert_array_equal(points_of(second)[:, -1], points_of(whole)[:, -1])
    assert second.step.values[[0, -1]].tolist() == [13, 30]
    assert second.time[-1] == whole.time[-1]


def test_a_run_that_diverges_is_marked_and_the_others_go_on() -> None:
    start = np.zeros((3, 9))
    start[1, 2] = -800.0 * Y[2]
    order = np.full(20, 2)
    result = simulate(loss="exponential", initial=start, n_runs=3, order=order, record=1)
    assert result.status.values.tolist() == [0, 1, 0]
    assert result.diverged_step.values.tolist() == [-1, 1, -1]
    assert np.isnan(result.outputs.values[1, 1:]).all()
    assert np.isfinite(result.outputs.values[1, 0]).all()
    alone = simulate(loss="exponential", initial=start[::2], n_runs=2, order=order, record=1)
    np.testing.assert_array_equal(result.outputs[::2], alone.outputs)
    np.testing.assert_array_equal(np.isnan(result.loss), np.isnan(result.outputs[..., 0]))
    np.testing.assert_array_equal(np.isnan(result.plasticity), np.isnan(result.outputs[..., 0]))


def test_steps_that_are_too_large_end_in_nan() -> None:
    result = simulate((X, LABELS["squared"]), loss="squared", learning_rate=1e30, n_steps=100, n_runs=4)
    assert np.all(result.status == 1)
    assert np.all(result.diverged_step > 0)
    assert not np.isfinite(result.outputs.isel(time=-1)).any()


@pytest.mark.parametrize("change", [lambda a: a.astype(">f8"), np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]])
def test_any_layout_gives_the_same(change: Callable[[Array], Array]) -> None:
    kernel, start = bell(np.concatenate([X, PROBE]), X), RNG.normal(size=(2, 13))
    arguments = [X, Y, kernel, start, PROBE]
    expected, actual = (
        points_of(simulate((x, y), kernel=k, initial=s, probe=p, n_runs=2, noise=0.1))
        for x, y, k, s, p in (arguments, map(change, arguments))
    )
    np.testing.assert_array_equal(actual, expected)


def test_arrays_are_neither_written_to_nor_need_to_be_writable() -> None:
    arrays = [X.copy(), Y.copy(), bell(X, X), np.ones(9), np.ones(20), np.arange(20) % 9]
    for array in arrays:
        array.flags.writeable = False
    x, y, kernel, start, alpha, order = arrays
    for options in ({"order": order}, {"batch": "full"}):
        result = simulate((x, y), kernel=kernel, initial=start, aging=alpha, **options)
        assert np.isfinite(result.outputs).all()


def test_small_types_are_taken_as_they_are() -> None:
    kernel = np.eye(9, dtype="f2") * 2
    plain = simulate(kernel=kernel.astype(float), initial=1.0, order=np.arange(20) % 9)
    small = simulate((X, Y.astype("i1")), kernel=kernel, initial=np.int8(1), order=(np.arange(20) % 9).astype("u1"))
    np.testing.assert_array_equal(small.outputs, plain.outputs)


# ---- Aging


def fit(chosen: str, scale: float = 1.0, **dims: Any) -> xr.Dataset:
    laws = ["constant", "exponential", "power law"]
    result: xr.Dataset = xr.Dataset(
        {
            "tau": ("law", [np.nan, 2.0 * scale, 3.0 * scale]),
            "gamma": ("law", [np.nan, np.nan, 0.5]),
            "chosen": ((), chosen),
        },
        {"law": laws},
    ).expand_dims(**dims)
    return result


@pytest.mark.parametrize(
    ("chosen", "law"),
    [
        ("constant", lambda t: np.ones_like(t)),
        ("exponential", lambda t: np.exp(-t / 2)),
        ("power law", lambda t: (1 + t / 3) ** -0.5),
    ],
)
def test_the_law_of_a_fit(chosen: str, law: Callable[[Array], Array]) -> None:
    expected = simulate(aging=law, start_step=5)
    for aging in (fit(chosen), fit(chosen, factor=["response", "kernel"])):
        result = simulate(aging=aging, start_step=5)
        np.testing.assert_allclose(result.outputs, expected.outputs, rtol=1e-13)
        np.testing.assert_allclose(result.plasticity[0], law(result.time.values), rtol=1e-13)


# ---- What is refused


def trained(**options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"n_networks": 3, "n_steps": 4, "learning_rate": 0.1, "seed": 1} | options
    return wa.response.simulate_training(wa.MLP((5,)), (X, Y), **arguments)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kernel": np.eye(8)}, r"kernel must have shape \(9, 9\), got \(8, 8\)"),
    ({"kernel": np.eye(9), "probe": PROBE}, r"kernel must have shape \(13, 9\)"),
    ({"kernel": np.ones(9)}, "kernel must have 2 dimension"),
    ({"kernel": np.full((9, 9), np.nan)}, r"kernel must be finite, got kernel\[0, 0\] = nan"),
    ({"kernel": "bell"}, "kernel must hold real numbers"),
    ({"kernel": np.eye(9) * 1j}, "kernel must hold real numbers"),
    ({"kernel": lambda a, b: np.ones(len(a))}, r"kernel\(points, samples\) must have 2 dimension"),
    ({"kernel": lambda a, b: np.ones((9, 8))}, r"kernel\(points, samples\) must have shape \(9, 9\), got \(9, 8\)"),
    ({"kernel": lambda a, b: np.full((9, 9), np.inf)}, r"kernel\(points, samples\) must be finite"),
    ({"aging": -0.1}, "aging must not be negative, got -0.1"),
    ({"aging": math.nan}, "aging must be finite"),
    ({"aging": "slow"}, "aging must"),
    ({"aging": np.ones(19)}, r"aging must hold one number of each step, shape \(20,\), got \(19,\)"),
    ({"aging": np.r_[np.ones(19), -1]}, "aging must not be negative, got -1 at place 19"),
    ({"aging": np.r_[np.ones(19), np.nan]}, r"aging must be finite, got aging\[19\] = nan"),
    ({"aging": lambda time: 1.0}, r"aging\(time\) must have 1 dimension"),
    ({"aging": lambda time: time[1:]}, r"aging\(time\) must hold one number of each time, shape \(21,\), got \(20,\)"),
    ({"aging": lambda time: -time}, r"aging\(time\) must not be negative, got -0.3 at place 1"),
    ({"aging": fit("undecided")}, "aging must have chosen a law, got 'undecided'"),
    ({"aging": fit("none")}, "aging must have chosen a law, got 'none': none fits the responses"),
    ({"aging": fit("exponential", scale=-1e-3)}, r"aging\(time\) must be finite"),
    ({"aging": fit("power law", scale=-1e-3)}, r"aging\(time\) must be finite"),
    ({"aging": fit("power law", factor=["response"])}, "aging must hold the factor 'kernel'"),
    ({"aging": fit("power law", network=[0, 1])}, "aging must be of one response"),
    ({"aging": xr.Dataset()}, "aging must hold chosen, tau and gamma, and lacks"),
    ({"loss": "linear"}, "loss must be one of"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"learning_rate": None}, "learning_rate must be given"),
    ({"n_steps": None}, "n_steps must be given"),
    ({"n_steps": -1}, "n_steps must lie between"),
    ({"n_steps": 2.5}, "n_steps must be an integer"),
    ({"n_runs": 0}, "n_runs must lie between"),
    ({"probe": np.ones((3, 3))}, r"probe must have the 2 feature\(s\) of the data"),
    ({"probe": np.ones(3)}, "probe must have shape"),
    ({"initial": np.ones(8)}, r"initial must have shape \(9,\) or \(1, 9\), got \(1, 8\)"),
    ({"initial": np.full(9, np.inf)}, "initial must be finite"),
    ({"initial": 1e200}, "initial must be finite and at most 1e[+]100"),
    ({"batch": 10}, "batch must lie between 1 and 9"),
    ({"batch": "half"}, "batch must be 'full' or an integer"),
    ({"order": "sorted"}, "order must be one of 'permuted'"),
    ({"order": np.zeros(19, int)}, r"order must have 20 step\(s\) and 1 run\(s\), or no axis .*, got shape \(19,\)"),
    ({"order": np.zeros((2, 20, 1), int)}, r"order must have 20 step\(s\) and 1 run\(s\)"),
    ({"order": np.full(20, 9)}, "order must hold samples from 0 to 8"),
    ({"order": np.full((20, 2), -1)}, "order must hold samples from 0 to 8, and -1 only to fill up a batch"),
    ({"order": np.tile([0, -1, 1], (20, 1))}, "-1 only to fill up a batch"),
    ({"order": np.zeros(20)}, "order must hold integers"),
    ({"order": np.zeros(20, int), "batch": 1}, "batch must be left out"),
    ({"seed": -1}, "seed must lie between"),
    ({"noise": 1.5}, "noise must be between 0 and 1"),
    ({"start_step": -1}, "start_step must lie between"),
    ({"record": (0, 21)}, r"record\[1\] must lie between 0 and 20"),
    ({"n_threads": 0}, "n_threads must lie between"),
    ({"progress": 1}, "progress must be True or False"),
    ({"data": (X, Y[:-1])}, "y must hold one label for each of the 9 rows"),
    ({"data": (X, Y * 2)}, "y must be -1 or 1"),
    ({"data": None}, "data must be a pair"),
    ({"n_steps": 10**12, "aging": np.cos}, "aging at each of 1000000000000 steps needs"),
    ({"n_steps": 10**12, "record": 1}, "record = 1 makes 1000000000001 records, which need"),
    ({"n_runs": 10**9, "n_steps": 64}, "n_runs = 1000000000 with 8 records needs"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(**options)


def without(state: xr.Dataset, attribute: str) -> xr.Dataset:
    result: xr.Dataset = state.copy()
    del result.attrs[attribute]
    return result


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s.drop_vars("x"), {}, "must hold its loss and its training data x and y"),
        (lambda s: s.drop_vars("biases_2"), {}, "lacks biases_2"),
        (lambda s: without(s, "batch"), {}, r"lacks \['batch'\]"),
        (lambda s: s.isel(time=[0]), {}, "records of increasing steps"),
        (lambda s: s.isel(time=1), {}, "records of increasing steps"),
        (lambda s: s.isel(time=slice(None, None, -1)), {}, "records of increasing steps"),
        (lambda s: s.assign_attrs(method="flow"), {}, "method 'descent', got 'flow'"),
        (lambda s: s.where(s.status > 5).assign(x=s.x, y=s.y), {}, "networks that have not diverged"),
        (lambda s: s, {"n_steps": 4, "seed": 1}, "n_steps, seed must be left out"),
        (lambda s: s, {"data": (X, -Y)}, "data must be what the networks of kernel were trained on"),
    ],
)
def test_a_state_that_will_not_do_is_refused(change: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.simulate_mean_field(**({"data": None, "kernel": change(trained())} | options))


def test_networks_that_have_diverged_are_left_out_and_counted() -> None:
    state = trained(n_networks=6, first_network=4)
    state["weights_1"][1, 3:] = np.nan
    result = wa.response.simulate_mean_field(None, kernel=state)
    assert result.attrs["dropped_networks"] == [5]
    assert result.network.values.tolist() == [4, 6, 7, 8, 9]
    whole = wa.response.simulate_mean_field(None, kernel=trained(n_networks=6, first_network=4))
    np.testing.assert_array_equal(result.outputs, whole.outputs.sel(network=result.network))


# ---- Files, progress and Ctrl-C


@pytest.mark.parametrize("probe", [None, PROBE])
def test_results_survive_a_file(tmp_path: Any, probe: Array | None) -> None:
    result = wa.response.simulate_mean_field(None, kernel=trained(), probe=probe)
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as again:
        xr.testing.assert_equal(again.load(), result)


def test_progress_counts_steps_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(progress=True, n_runs=10, n_steps=100)
    assert "1.00k/1.00k" in capsys.readouterr().err


def test_ctrl_c_leaves_the_process_usable(interrupt: Callable[[str, str, str], str]) -> None:
    setup = "import numpy as np, wideangle as wa; x, y, k = np.eye(3), np.array([1, -1, 1]), np.eye(3)"
    call = "wa.response.simulate_mean_field((x, y), kernel=k, n_runs=3, n_steps={}, learning_rate=0.1, batch={})"
    for batch in ("1", "'full'"):
        compiled = f"; {call.format(3, batch)}"
        after = f"print({call.format(3, batch)}.sizes['time'])"
        assert interrupt(setup + compiled, call.format(10**12, batch), after) == "4\n"


@pytest.mark.parametrize(
    ("selected", "match"),
    [
        (lambda state: state.isel(sample=slice(0, 4)), "all the samples that its networks were trained on"),
        (lambda state: state.isel(sample=slice(None, None, -1)), "in their order"),
        (lambda state: state.isel(network=[0]).drop_vars("network"), "must have the coordinate network"),
    ],
)
def test_states_whose_samples_cannot_be_drawn_again_are_refused(selected: Any, match: str) -> None:
    x = np.linspace(-1.0, 1.0, 6)[:, None]
    state = wa.response.simulate_training(
        wa.MLP((3,)), (x, np.sign(x[:, 0])), n_networks=2, n_steps=4, batch=1, learning_rate=0.01, seed=1
    )
    wa.response.simulate_mean_field(None, kernel=state)
    with pytest.raises(ValueError, match=match):
        wa.response.simulate_mean_field(None, kernel=selected(state))
