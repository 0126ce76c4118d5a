"""Aging with a constant kernel: closed forms against integration, high precision and training."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from wideangle.response import predict_aging

Array = NDArray[np.float64]
LOSSES = ("squared", "cross-entropy", "exponential", "hinge")

FORCES: dict[str, Any] = {
    "squared": lambda m: 1.0 - m,
    "cross-entropy": lambda m: 1.0 / (1.0 + np.exp(m)),
    "exponential": lambda m: np.exp(-m),
    "hinge": lambda m: (m < 1.0) * 1.0,
}


def samples(n: int = 6, features: int = 8, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features))
    return np.asarray(x @ x.T), np.where(rng.random(n) < 0.5, -1.0, 1.0), np.asarray(0.1 * np.arange(n))


@pytest.mark.parametrize("loss", ["squared", "cross-entropy", "exponential"])
@pytest.mark.parametrize("margin", [-3.0, 0.0, 2.0])
def test_one_margin_against_integration(loss: str, margin: float) -> None:
    time = np.append(0.0, np.logspace(-3, 2, 11))
    found = predict_aging(loss, time, kernel=1.7, margin=margin)
    wanted = solve_ivp(
        lambda t, m: 1.7 * FORCES[loss](m), (0.0, 100.0), [margin], method="DOP853", t_eval=time, rtol=1e-12, atol=1e-13
    ).y[0]
    np.testing.assert_allclose(found["margin"], wanted, rtol=0, atol=3e-10)
    np.testing.assert_allclose(found["response"], 1.7 * found["force"], rtol=1e-14)


def test_cross_entropy_against_high_precision() -> None:
    """m + e^m = c + K t, from forces of almost 1 to times of 1e300."""
    time = np.append(0.0, 10.0 ** np.arange(-12.0, 301.0, 52.0))
    with mpmath.workdps(40):
        for margin in (-1000.0, -3.0, 0.5, 20.0, 39.0, 41.0, 700.0, 800.0):
            for kernel in (1e-8, 2.0, 1e9):
                found = predict_aging("cross-entropy", time, kernel=kernel, margin=margin)
                for t, m, exponent in zip(time, found["margin"].values, found["local_exponent"].values, strict=True):
                    drive = mpmath.mpf(kernel) * mpmath.mpf(t)
                    total = mpmath.mpf(margin) + mpmath.exp(margin) + drive
                    wanted = solve_margin(total)
                    assert abs(m - wanted) <= 1e-15 * max(1, abs(wanted))
                    u = mpmath.exp(wanted)
                    assert exponent == pytest.approx(float(drive * u / (1 + u) ** 2), rel=1e-12)


def solve_margin(total: Any) -> Any:
    low, high = mpmath.mpf(-2000), mpmath.mpf(1000)
    low = min(low, total - 1)
    for _ in range(150):
        middle = (low + high) / 2
        low, high = (middle, high) if middle + mpmath.exp(middle) < total else (low, middle)
    return (low + high) / 2


def test_leading_correction() -> None:
    """It takes the error of the exponent 1 to that of the next order, ln^2(Kt)/(Kt)^2."""
    time = np.array([1e3, 1e5, 1e7])
    found = predict_aging("cross-entropy", time, kernel=0.4, margin=-1.0)
    rest = found["local_exponent"] - 1.0 - found["correction"]
    assert np.all(np.abs(rest) < 3.0 * (np.log(0.4 * time) / (0.4 * time)) ** 2)
    assert np.all(np.abs(found["correction"]) > 10.0 * np.abs(rest))


def test_exponential_loss_is_a_power_law() -> None:
    found = predict_aging("exponential", [0.0, 1.0, 1e200], kernel=3.0, margin=0.7)
    tau = math.exp(0.7) / 3.0
    assert found["tau"].item() == pytest.approx(tau, rel=1e-14)
    np.testing.assert_allclose(found["force"], math.exp(-0.7) / (1.0 + found["time"] / tau), rtol=1e-12)
    np.testing.assert_allclose(found["local_exponent"], found["time"] / (found["time"] + tau), rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "cross-entropy", "exponential"])
def test_several_samples_against_integration(loss: str) -> None:
    kernel, labels, margin = samples()
    matrix = kernel * np.outer(labels, labels) / len(labels)
    time = np.append(0.0, np.logspace(-3, 2.5, 12))
    found = predict_aging(loss, time, kernel=kernel, labels=labels, margin=margin)
    wanted = solve_ivp(
        lambda t, m: matrix @ FORCES[loss](m),
        (0.0, time[-1]),
        margin,
        method="LSODA",
        t_eval=time,
        rtol=1e-12,
        atol=1e-13,
    ).y
    np.testing.assert_allclose(found["margin"], wanted, rtol=0, atol=1e-9)
    slope = np.gradient(np.log(found["mean_force"].values[1:8]), np.log(time[1:8]))
    np.testing.assert_allclose(found["mean_exponent"].values[2:7], -slope[1:-1], atol=0.15 * np.abs(slope).max())


def test_order_of_times_does_not_matter() -> None:
    kernel, labels, _ = samples()
    there = predict_aging("cross-entropy", [0.0, 1.0, 100.0], kernel=kernel, labels=labels)
    back = predict_aging("cross-entropy", [100.0, 0.0, 1.0], kernel=kernel, labels=labels)
    np.testing.assert_allclose(there["margin"].values[:, [2, 0, 1]], back["margin"], rtol=1e-8)


@pytest.mark.parametrize("loss", ["cross-entropy", "exponential"])
def test_late_exponents(loss: str) -> None:
    """Samples at the margin of the kernel machine fall as 1/t, the others with their margins in its units."""
    kernel, labels, margin = samples()
    found = predict_aging(loss, [1e250], kernel=kernel, labels=labels, margin=margin)
    np.testing.assert_allclose(found["local_exponent"].isel(time=0), found["gamma"], rtol=1e-6)
    assert found["gamma"].min().item() == pytest.approx(1.0, abs=1e-9)
    assert found["gamma"].max().item() > 1.2


def test_one_direction_of_many_samples_is_learned() -> None:
    """A kernel of rank 1: margins 1, 2, 3 in one direction, so exponents 1, 2, 3."""
    found = predict_aging("cross-entropy", [1e100], kernel=np.outer([1, 2, 3], [1, 2, 3]))
    np.testing.assert_allclose(found["gamma"], [1, 2, 3], rtol=1e-9)
    np.testing.assert_allclose(found["local_exponent"].isel(time=0), [1, 2, 3], rtol=1e-6)


def test_labels_that_contradict() -> None:
    """Two of three equal inputs are 1: forces end at 1/3, 2/3, 1/3, where the output is ln 2."""
    found = predict_aging("cross-entropy", [0.0, 1e5, 1e300], kernel=np.ones((3, 3)), labels=[1, -1, 1])
    np.testing.assert_allclose(found["force"].isel(time=slice(1, None)).T, [[1 / 3, 2 / 3, 1 / 3]] * 2, rtol=1e-9)
    assert np.all(np.isnan(found["gamma"]))
    ended = predict_aging("hinge", [0.0, 1e5], kernel=np.ones((2, 2)), labels=[1, -1])
    assert np.all(np.isinf(ended["tau"]))
    assert np.all(ended["force"] == 1.0)
    for loss in LOSSES:
        against = predict_aging(loss, [0.0, 1e5], kernel=np.ones((2, 2)), labels=[1, -1])
        assert against["law"] == "constant"
        assert np.all(against["force"].isel(time=0) == against["force"].isel(time=1))
        assert predict_aging(loss, [0.0], kernel=np.ones((2, 2)))["law"] != "constant"


def test_times_may_be_equal() -> None:
    kernel = np.eye(2) + 0.2
    found = predict_aging("cross-entropy", [1.0, 1.0, 0.0, 5.0, 0.0], kernel=kernel)
    plain = predict_aging("cross-entropy", [0.0, 1.0, 5.0], kernel=kernel)
    np.testing.assert_array_equal(found["force"], plain["force"].isel(time=[1, 1, 0, 2, 0]))


def test_tensors() -> None:
    """With gradients or without, as the arrays they hold."""
    torch = pytest.importorskip("torch")
    time, matrix = np.array([0.0, 1.0]), np.eye(2) + 0.2
    for kernel in (2.0, matrix):
        plain = predict_aging("cross-entropy", time, kernel=kernel)
        for grad in (False, True):
            found = predict_aging(
                "cross-entropy",
                torch.tensor(time, requires_grad=grad),
                kernel=torch.tensor(kernel, dtype=torch.float64, requires_grad=grad),
                margin=torch.zeros(np.shape(kernel)[:1], dtype=torch.float64, requires_grad=grad),
            )
            xr.testing.assert_identical(found, plain)


def test_hinge_ends_at_a_finite_time() -> None:
    found = predict_aging("hinge", [0.0, 0.34, 0.36, 1e300], kernel=2.0, margin=0.3)
    assert found["tau"].item() == pytest.approx(0.35, rel=1e-14)
    assert found["force"].values.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_hinge_of_several_samples_against_small_steps() -> None:
    """Steps of size eta keep margins within eta times the speed, through samples that are held at 1 by two sides."""
    kernel, labels, margin = samples()
    matrix = kernel * np.outer(labels, labels) / len(labels)
    assert matrix.min() < 0.0
    eta, m, kept = 1e-4, margin.copy(), {}
    for step in range(120_001):
        if step % 10_000 == 0:
            kept[step * eta] = m.copy()
        m = m + eta * matrix @ (m < 1.0)
    found = predict_aging("hinge", list(kept), kernel=kernel, labels=labels, margin=margin)
    bound = 5.0 * eta * np.abs(matrix).sum()
    np.testing.assert_allclose(found["margin"].T, list(kept.values()), rtol=0, atol=bound)
    held = (found["force"] > 0.0) & (found["force"] < 1.0)
    assert held.any(), "the case must have a sample that is held at 1"
    ends = predict_aging("hinge", [1e3], kernel=kernel, labels=labels, margin=margin)
    assert np.all(ends["force"] == 0.0)
    assert 12.0 < ends["tau"].max().item() < 1e3


@pytest.mark.parametrize("loss", LOSSES)
def test_training_with_frozen_hidden_layer(loss: str) -> None:
    """Steps of a network whose readout alone is trained: the difference to the flow is linear in their size."""
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((5, 2)), np.array([1.0, -1.0, 1.0, 1.0, -1.0])
    hidden = np.tanh(x @ rng.standard_normal((2, 30)) + rng.standard_normal(30)) / math.sqrt(30)
    readout, time = rng.standard_normal(30), 3.0
    kernel = hidden @ hidden.T + 1.0
    wanted = predict_aging(loss, [time], kernel=kernel, labels=labels, margin=labels * (hidden @ readout))
    errors = []
    for n_steps in (1000, 2000):
        a, b = readout.copy(), 0.0
        for _ in range(n_steps):
            push = labels * FORCES[loss](labels * (hidden @ a + b)) / len(labels)
            a, b = a + time / n_steps * push @ hidden, b + time / n_steps * push.sum()
        errors.append(np.abs(labels * (hidden @ a + b) - wanted["margin"].values[:, 0]).max())
    assert errors[1] < 5e-3
    if loss != "hinge":  # whose difference is that of the last step across 1
        assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)


def test_stable_learning_rate() -> None:
    """Descent on a squared loss shrinks below the rate and grows above it."""
    kernel, labels, _ = samples()
    rate = predict_aging("squared", [0.0], kernel=kernel, labels=labels)["stable_learning_rate"].item()
    matrix = kernel * np.outer(labels, labels) / len(labels)
    for factor, shrinks in ((0.98, True), (1.02, False)):
        growth = np.abs(np.linalg.eigvalsh(np.eye(6) - factor * rate * matrix)).max()
        assert (growth < 1.0) == shrinks


def test_steps_of_descent_on_the_squared_loss() -> None:
    """Real steps, to the last digits, and the difference of the rates to those of the flow."""
    kernel, labels, margin = samples()
    matrix = kernel * np.outer(labels, labels) / len(labels)
    rate = 0.3 / np.linalg.eigvalsh(matrix)[-1]
    residual, kept = 1.0 - margin, []
    for _ in range(41):
        kept.append(residual)
        residual = residual - rate * matrix @ residual
    time = rate * np.arange(41.0)
    found = predict_aging("squared", time, kernel=kernel, labels=labels, margin=margin, learning_rate=rate)
    np.testing.assert_allclose(found["force"].T, kept, rtol=0, atol=1e-13)
    flow = predict_aging("squared", time, kernel=kernel, labels=labels, margin=margin)
    scaled = rate * flow["rate"]
    np.testing.assert_allclose(found["rate"] / flow["rate"], 1.0 + scaled / 2.0 + scaled**2 / 3.0, rtol=0.02)
    assert found["rate"][0] / flow["rate"][0] > 1.18
    slope = np.gradient(np.log(np.abs(found["force"].isel(sample=0))), np.log(np.maximum(time, 1e-9)))
    np.testing.assert_allclose(found["local_exponent"].isel(sample=0)[20:40], -slope[20:40], rtol=0.05)
    one = predict_aging("squared", [0.0, 0.25, 2.5], kernel=2.0, learning_rate=0.25)
    np.testing.assert_allclose(one["force"], [1.0, 0.5, 0.5**10], rtol=1e-14)
    assert one["rate"].item() == pytest.approx(math.log(2.0) / 0.25, rel=1e-14)
    assert (one.attrs["learning_rate"], flow.attrs["learning_rate"]) == (0.25, 0.0)


def test_result_is_described() -> None:
    kernel, labels, _ = samples()
    for loss in LOSSES:
        single = predict_aging(loss, [0.0, 1.0], kernel=1.0)
        several = predict_aging(loss, [0.0, 1.0], kernel=kernel, labels=labels)
        assert single["force"].dims == ("time",)
        assert several["force"].dims == ("sample", "time")
        assert "kernel" in several.attrs["fails"]
        assert str(several["law"].item()) == str(single["law"].item())


@pytest.mark.parametrize(
    "kernel", [np.eye(2, dtype=np.float16), np.eye(2, dtype=">f8"), np.eye(4, dtype=int)[::2, ::2], [[1, 0], [0, 1]]]
)
def test_kinds_of_arrays(kernel: Any) -> None:
    found = predict_aging("squared", np.array([0, 2], dtype=">i4"), kernel=kernel)
    np.testing.assert_allclose(found["force"].isel(time=1), math.exp(-1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "relu"}, "loss must be one of"),
        ({"time": [-1.0]}, "time must not be negative"),
        ({"time": [np.nan]}, "time must be finite"),
        ({"time": []}, "time must not be empty"),
        ({"kernel": 0.0}, "kernel must lie between"),
        ({"kernel": -1.0}, "kernel must lie between"),
        ({"kernel": [[1.0, 2.0], [2.0, 1.0]]}, "positive semi-definite"),
        ({"kernel": [[1.0, 0.5], [0.0, 1.0]]}, "symmetric"),
        ({"kernel": np.ones((2, 3))}, "square"),
        ({"kernel": np.zeros((2, 2))}, "not 0"),
        ({"kernel": np.eye(2), "labels": [0, 1]}, "labels must hold 2 values"),
        ({"kernel": np.eye(2), "margin": [0.0, 0.0, 0.0]}, "margin must hold a number for each of 2"),
        ({"learning_rate": 1.0}, "learning_rate must lie below 1 over the largest rate, 1, got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "learning_rate must be"),
        ({"learning_rate": "0.1"}, "learning_rate must be"),
        ({"loss": "cross-entropy", "learning_rate": 0.1}, "learning_rate is for the squared loss"),
        ({"labels": [1]}, "labels are for a kernel of several samples"),
        ({"loss": "exponential", "margin": -800.0}, "margin must be at least -700"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"loss": "squared", "time": [0.0], "kernel": 1.0} | change
    with pytest.raises((TypeError, ValueError), match=message):
        predict_aging(arguments.pop("loss"), arguments.pop("time"), **arguments)
