"""The mean-field model: its definition step by step, closed forms, and what it shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import lambertw

import wideangle as wa

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


def line_of_points(number: int) -> Array:
    return np.linspace(-1, 1, number)[:, None]


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
