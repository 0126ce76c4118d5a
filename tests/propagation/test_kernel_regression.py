"""Predictions of infinitely wide networks against integrated training, scikit-learn and limits known without either."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import wideangle as wa
from wideangle.propagation import nngp_kernel, predict_mean_variance, tangent_kernel

Array = NDArray[np.float64]

NET = wa.MLP((1,) * 2, bias_variance=0.1)


def problem(seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, 3))
    return x, np.stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2]], axis=1), rng.standard_normal((4, 3))


def linearised_training(
    tangent: Array, covariance: Array, y: Array, *, noise: float, time: float
) -> tuple[Array, Array]:
    """Integrate training in parameter space: mean and variance of f at all inputs, the first of which are trained.

    f = f_0 + J (theta - theta_0) with J J^T the tangent kernel. The parameters depend on the outputs at initialisation
    and on the noise of the targets through a matrix, which is integrated along with the mean.
    """
    n = y.shape[0]
    values, vectors = np.linalg.eigh(tangent)
    jacobian = vectors * np.sqrt(np.maximum(values, 0.0))
    size, outputs, parameters = tangent.shape[0], y.shape[1], jacobian.shape[1]
    train = jacobian[:n]

    def flow(_: float, state: Array) -> Array:
        shift = state.reshape(parameters, outputs + size + n)
        error = train @ shift  # change of the outputs for targets, for outputs at initialisation, and for noise
        error[:, :outputs] -= y
        error[:, outputs : outputs + n] += np.eye(n)
        error[:, outputs + size :] -= np.eye(n)
        return np.asarray(-train.T @ error - noise * shift).ravel()

    start = np.zeros(parameters * (outputs + size + n))
    end = solve_ivp(flow, (0.0, time), start, method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    response = jacobian @ end.reshape(parameters, -1)
    of_start = np.eye(size) + response[:, outputs : outputs + size]
    of_noise = response[:, outputs + size :]
    variance = np.einsum("ij,jk,ik->i", of_start, covariance, of_start) + noise * np.sum(of_noise**2, axis=1)
    return response[:, :outputs], variance


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("time", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("name", ["nngp", "tangent"])
def test_against_integrated_training(noise: float, time: float, name: str) -> None:
    x, y, test = problem()
    kernel = functools.partial({"nngp": nngp_kernel, "tangent": tangent_kernel}[name], NET)
    result = predict_mean_variance((x, y), test, kernel=kernel, noise=noise, time=time)
    whole = tangent_kernel(NET, np.concatenate([x, test]))
    covariance = whole.nngp.values
    tangent = whole.kernel.values if name == "tangent" else covariance
    mean, variance = linearised_training(tangent, covariance, y, noise=noise, time=time)
    assert result["mean"].dims == ("test_input", "output")
    assert_allclose(result["mean"], mean[5:], atol=1e-8)
    assert_allclose(result["variance"], variance[5:], atol=1e-8)


@pytest.mark.parametrize("noise", [1e-6, 0.2])
def test_posterior_is_that_of_scikit_learn(noise: float) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    x, y, test = problem(1)
    shape = RBF(0.8)
    model = GaussianProcessRegressor(shape, alpha=noise, optimizer=None).fit(x, y)
    mean, deviation = model.predict(test, return_std=True)
    result = predict_mean_variance((x, y), test, kernel=shape, noise=noise)
    assert_allclose(result["mean"], mean, rtol=1e-9, atol=1e-10)
    assert_allclose(result["variance"], deviation[:, 0] ** 2, rtol=1e-8, atol=1e-10)


def test_posterior_of_networks_by_the_textbook_formula() -> None:
    x, y, test = problem(2)
    result = predict_mean_variance((x, y[:, 0]), test, kernel=functools.partial(nngp_kernel, NET), noise=0.05)
    whole = nngp_kernel(NET, np.concatenate([x, test])).kernel.values
    inverse = np.linalg.inv(whole[:5, :5] + 0.05 * np.eye(5))
    assert result["mean"].dims == ("test_input",)
    assert_allclose(result["mean"], whole[5:, :5] @ inverse @ y[:, 0], rtol=1e-11)
    expected = np.diag(whole[5:, 5:] - whole[5:, :5] @ inverse @ whole[:5, 5:])
    assert_allclose(result["variance"], expected, rtol=1e-11)


def test_from_the_beginning_to_the_end_of_time() -> None:
    x, y, test = problem(3)
    kernel = functools.partial(tangent_kernel, NET)
    times = np.array([0.0, 1e-300, 1e-9, 1.0, 1e6, 1e300])
    result = predict_mean_variance((x, y), test, kernel=kernel, time=times)
    assert result["mean"].dims == ("time", "test_input", "output")
    assert_array_equal(result.time, times)
    assert_array_equal(result["mean"][0], 0.0)
    assert_allclose(result["variance"][0], np.diag(nngp_kernel(NET, test).kernel), rtol=1e-14)
    end = predict_mean_variance((x, y), test, kernel=kernel)
    for variable in ("mean", "variance"):
        assert_allclose(result[variable][-1], end[variable], rtol=1e-13)
        one = predict_mean_variance((x, y), test, kernel=kernel, time=1.0)[variable]
        assert "time" not in one.dims
        assert_array_equal(one, result[variable][3])
    # At first all of the training is a step along the gradient.
    across = tangent_kernel(NET, test, x).kernel.values
    assert_allclose(result["mean"][2], 1e-9 * across @ y, rtol=1e-6)


def test_training_inputs_are_learned() -> None:
    x, y, _ = problem(4)
    for function in (nngp_kernel, tangent_kernel):
        result = predict_mean_variance((x, y), x, kernel=functools.partial(function, NET))
        assert_allclose(result["mean"], y, atol=1e-11)
        assert np.all(result["variance"].values >= 0.0)
        assert_allclose(result["variance"], 0.0, atol=1e-12)


@pytest.mark.parametrize("time", [None, 1.0, 1e300])
@pytest.mark.parametrize("function", [nngp_kernel, tangent_kernel])
def test_repeated_inputs_are_averaged(function: Any, time: float | None) -> None:
    """A singular kernel: two targets for one input act as their mean, learned twice as fast."""
    x, y, test = problem(5)
    repeated = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2] + 1.0])
    result = predict_mean_variance(repeated, test, kernel=functools.partial(function, NET), time=time)
    assert np.all(np.isfinite(result["mean"]))
    assert np.all(np.isfinite(result["variance"]))
    if time != 1.0:
        once = y + np.array([0.5, 0.5, 0.0, 0.0, 0.0])[:, None]
        expected = predict_mean_variance((x, once), test, kernel=functools.partial(function, NET), time=time)
        assert_allclose(result["mean"], expected["mean"], rtol=1e-9)
        assert_allclose(result["variance"], expected["variance"], rtol=1e-9)


def test_a_real_network_trains_as_predicted_by_its_own_kernel() -> None:
    """The kernel of an explicit feature map is that of a linear model, which gradient flow solves in closed form."""
    rng = np.random.default_rng(6)
    x, test, directions = rng.standard_normal((6, 2)), rng.standard_normal((3, 2)), rng.standard_normal((40, 2))
    y = rng.standard_normal(6)

    def features(inputs: Array) -> Array:
        return np.asarray(np.cos(inputs @ directions.T) / math.sqrt(40.0))

    weights = np.zeros(40)
    step, steps = 1e-4, 20_000
    for _ in range(steps):
        weights -= step * features(x).T @ (features(x) @ weights - y)
    result = predict_mean_variance(
        (x, y), test, kernel=lambda a, b=None: features(a) @ features(a if b is None else b).T, time=step * steps
    )
    # Gradient descent is behind the flow by half a step of relative size rate times step.
    assert_allclose(result["mean"], features(test) @ weights, atol=2e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.0, 1e-3, 1.0]), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_learning_only_takes_uncertainty_away(seed: int, noise: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x, test = scale * rng.standard_normal((6, 2)), scale * rng.standard_normal((3, 2))
    x[1] = x[0]
    y = rng.standard_normal(6)
    kernel = functools.partial(nngp_kernel, wa.MLP((1,) * 2))
    result = predict_mean_variance((x, y), test, kernel=kernel, noise=noise, time=[0.0, 1e-6, 1.0, 1e3, 1e9])
    variance = result["variance"].values
    assert np.all(variance >= 0.0)
    assert np.all(np.diff(variance, axis=0) <= 1e-9 * variance[0])
    # Equivariant: targets enter linearly.
    double = predict_mean_variance((x, 2.0 * y), test, kernel=kernel, noise=noise, time=1.0)
    assert_allclose(double["mean"], 2.0 * result["mean"].sel(time=1.0), rtol=1e-12)


def test_many_test_inputs_in_blocks() -> None:
    x, y, _ = problem(7)
    test = np.random.default_rng(8).standard_normal((600, 3))
    kernel = functools.partial(tangent_kernel, NET)
    whole = predict_mean_variance((x, y), test, kernel=kernel, time=2.0)
    part = predict_mean_variance((x, y), test[500:510], kernel=kernel, time=2.0)
    assert_allclose(whole["mean"][500:510], part["mean"], rtol=1e-12)
    assert_allclose(whole["variance"][500:510], part["variance"], rtol=1e-12)


def test_arrays_of_any_kind() -> None:
    kernel = functools.partial(nngp_kernel, NET)
    x, y, test = np.array([[1, 2], [3, -1]]), np.array([1, -1]), np.array([[0, 1]])
    expected = predict_mean_variance((x, y), test, kernel=kernel, noise=0.1)
    for kind in ("f2", ">f8", "i1"):
        result = predict_mean_variance((x.astype(kind), y.astype(kind)), test.astype(kind), kernel=kernel, noise=0.1)
        assert_allclose(result["mean"], expected["mean"], rtol=1e-15)
    frozen = y.copy()
    frozen.setflags(write=False)
    lists = predict_mean_variance((x.tolist(), frozen), xr.DataArray(test), kernel=kernel, noise=np.float32(0.1))
    assert_allclose(lists["mean"], expected["mean"], rtol=1e-7)


def indefinite(a: Array, b: Array | None = None) -> Array:
    return np.asarray(-(a @ (a if b is None else b).T))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": np.ones((2, 2))}, "train must be a pair"),
        ({"train": (np.ones((2, 2)),)}, "train must be a pair"),
        ({"train": (np.ones(2), np.ones(2))}, r"train\[0\] must have shape"),
        ({"train": (np.ones((2, 2)), np.ones(3))}, r"train\[1\] must have a target for each of the 2 inputs"),
        ({"train": (np.ones((2, 2)), np.ones((2, 0)))}, r"train\[1\] must have a target"),
        ({"train": (np.ones((2, 2)), np.ones((2, 1, 1)))}, r"train\[1\] must have a target"),
        ({"train": (np.ones((2, 2)), [1.0, np.nan])}, r"train\[1\] must be finite"),
        ({"test": np.ones((2, 3))}, "test must have as many features as the training inputs, 2"),
        ({"test": np.ones(2)}, "test must have shape"),
        ({"test": np.ones((0, 2))}, "test must have shape"),
        ({"kernel": "nngp"}, "kernel must be a function.*functools.partial"),
        ({"kernel": lambda a, b=None: np.ones((1, 1))}, r"kernel must return an array of shape \(2, 2\)"),
        ({"kernel": lambda a, b=None: np.full((2, 2), np.nan)}, "result of kernel must be finite"),
        ({"kernel": lambda a, b=None: np.array([[1.0, 0.5], [0.1, 1.0]])}, "kernel must be symmetric"),
        ({"kernel": indefinite}, "kernel must be positive semi-definite"),
        ({"kernel": lambda a, b=None: xr.Dataset({"theta": 1})}, "kernel must return a Dataset with 'kernel'"),
        ({"kernel": functools.partial(nngp_kernel, NET, keep="layers")}, "without keep='layers'"),
        ({"noise": -1.0}, "noise must not be negative"),
        ({"noise": np.nan}, "noise must be finite"),
        ({"time": -1.0}, "time must hold one or more times of at least 0"),
        ({"time": []}, "time must hold one or more times"),
        ({"time": np.ones((2, 2))}, "time must hold one or more times"),
        ({"time": np.inf}, "time must be finite"),
        ({"time": "long"}, "time must hold real numbers"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "train": (np.array([[1.0, 0.0], [0.0, 1.0]]), np.ones(2)),
        "test": np.ones((2, 2)),
        "kernel": functools.partial(nngp_kernel, NET),
    } | changed
    train, test = arguments.pop("train"), arguments.pop("test")
    with pytest.raises((TypeError, ValueError), match=message):
        predict_mean_variance(train, test, **arguments)


def test_results_say_where_they_come_from() -> None:
    x, y, test = problem()
    result = predict_mean_variance((x, y), test, kernel=functools.partial(nngp_kernel, NET), time=[1.0, 2.0])
    assert result.attrs["function"] == "wideangle.propagation.predict_mean_variance"
    assert result.attrs["time"] == [1.0, 2.0]
    assert "1902.06720" in result.attrs["source"]
