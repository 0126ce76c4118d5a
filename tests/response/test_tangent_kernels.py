"""Tangent kernels against derivatives taken by other means, closed forms, and what must hold exactly."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths

Array = NDArray[Any]
MakeState = Callable[..., xr.Dataset]
Function = Callable[[Array], Array]


def complex_functions() -> dict[str, Function]:
    """Activations for complex numbers: the branch of a kink is that of the real part."""
    from scipy.special import erf

    return {
        "relu": lambda z: np.where(z.real > 0, z, 0.0),
        "leaky_relu(0.2)": lambda z: np.where(z.real > 0, z, 0.2 * z),
        "abs": lambda z: np.where(z.real > 0, z, -z),
        "linear": lambda z: z,
        "erf": erf,
        "tanh": np.tanh,
        "gelu": lambda z: 0.5 * z * (1.0 + erf(z / math.sqrt(2.0))),
        "elu": lambda z: np.where(z.real > 0, z, np.expm1(z)),
        "silu": lambda z: z / (1.0 + np.exp(-z)),
        "sin": np.sin,
    }


def output(layers: list[tuple[Array, Array]], x: Array, phi: Function) -> Array:
    h = x
    for weights, biases in layers[:-1]:
        h = phi(h @ weights.T + biases)
    weights, biases = layers[-1]
    return (h @ weights.T + biases)[:, 0]


def gradients(layers: list[tuple[Array, Array]], x: Array, phi: Function) -> list[Array]:
    """Derivatives (input, parameter) for each matrix and vector, by complex steps, exact to rounding."""
    result = []
    for layer in range(len(layers)):
        for which in range(2):
            columns = []
            for place in np.ndindex(layers[layer][which].shape):
                moved = [[part.astype(complex) for part in parts] for parts in layers]
                moved[layer][which][place] += 1e-30j
                columns.append(output([(w, b) for w, b in moved], x.astype(complex), phi).imag / 1e-30)
            result.append(np.stack(columns, axis=1))
    return result


@pytest.mark.parametrize("sizes", [(2, 20, 1), (1, 1, 1), (3, 7, 5, 1), (2, 4, 6, 3, 1)])
@pytest.mark.parametrize("activation", list(complex_functions()))
def test_derivatives_by_every_parameter(
    make_state: MakeState, layers_of: Callable[..., Any], activation: str, sizes: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    weight_rates, bias_rates = random.uniform(0.1, 2.0, (2, len(sizes) - 1))
    weight_rates[0] = bias_rates[-1] = 0.0
    state = make_state(sizes, activation=activation, weight_rates=weight_rates, bias_rates=bias_rates, n_networks=2)
    x, other = random.normal(size=(5, sizes[0])), random.normal(size=(9, sizes[0]))
    result = wa.response.tangent_kernel(state, x, other, parts=True)
    assert result.kernel.dims == ("network", "time", "input", "input_")
    for network, time in np.ndindex(2, 2):
        layers = layers_of(state.isel(network=network, time=time))
        phi = complex_functions()[activation]
        products = [a @ b.T for a, b in zip(gradients(layers, x, phi), gradients(layers, other, phi), strict=True)]
        rates = np.stack([weight_rates, bias_rates], axis=1).ravel()
        terms = [rate * product for rate, product in zip(rates, products, strict=True)]
        found = result.isel(network=network, time=time)
        scale = max(1.0, float(np.abs(products).max()))
        for name, expected in (("hidden_part", terms[:-2]), ("readout_part", terms[-2:]), ("kernel", terms)):
            np.testing.assert_allclose(found[name], sum(expected), rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_autograd(make_state: MakeState, layers_of: Callable[..., Any], activation: str) -> None:
    torch = pytest.importorskip("torch")
    state = make_state((3, 8, 6, 1), activation=activation, n_networks=1, times=(0.0,)).isel(network=0, time=0)
    parameters = [torch.tensor(part) for parts in layers_of(state) for part in parts]

    def f(parameters: list[Any], x: Any) -> Any:
        for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = getattr(torch, activation)(weights @ x + biases)
        return (parameters[-2] @ x + parameters[-1])[0]

    x = np.random.default_rng(2).normal(size=(7, 3))
    jacobians = torch.func.vmap(torch.func.grad(f), (None, 0))(parameters, torch.tensor(x))
    flat = torch.cat([part.reshape(len(x), -1) for part in jacobians], dim=1)
    np.testing.assert_allclose(wa.response.tangent_kernel(state, x).kernel, (flat @ flat.T).numpy(), rtol=1e-12)


def test_a_network_by_hand() -> None:
    # z = (x_1 - 2 x_2 + 1, 3 x_2), f = 2 relu(z_1) - relu(z_2) + 5; at (1, 0): z = (2, 0), at (2, 1): z = (1, 3).
    network = wa.NetworkWeights([[[1, -2], [0, 3]], [[2, -1]]], biases=[[1, 0], [5]])
    kernel = wa.response.tangent_kernel(network, [[1, 0], [2, 1]], parts=True)
    # Readout: h = (2, 0), (1, 3), and 1 for the bias. Hidden: D = (2, 0), (2, -1), and x.x' + 1 = 2, 3, 6.
    assert kernel.readout_part.values.tolist() == [[5, 3], [3, 11]]
    assert kernel.hidden_part.values.tolist() == [[8, 12], [12, 30]]
    assert kernel.kernel.values.tolist() == [[13, 15], [15, 41]]


def test_closed_form_of_one_hidden_layer(make_state: MakeState) -> None:
    # f = sum a s(w x + b): sum s s' + 1 of the readout, (x x' + 1) sum a^2 s' s' of the hidden layer.
    state = make_state((2, 20, 1), n_networks=50, times=(0.0,)).isel(time=0)
    x = np.random.default_rng(3).normal(size=(12, 2))
    h = np.tanh(np.einsum("kuf,pf->kpu", state.weights_1, x) + state.biases_1.values[:, None])
    slopes = state.weights_2.values * (1.0 - h**2)
    kernel = wa.response.tangent_kernel(state, x, parts=True)
    np.testing.assert_allclose(kernel.readout_part, h @ h.swapaxes(1, 2) + 1.0, rtol=1e-12)
    hidden = (x @ x.T + 1.0) * (slopes @ slopes.swapaxes(1, 2))
    np.testing.assert_allclose(kernel.hidden_part, hidden, rtol=0, atol=1e-13 * np.abs(hidden).max())


@pytest.mark.parametrize("sizes", [(2, 20, 1), (5, 30, 9, 1)])
def test_exactly_symmetric_positive_and_the_sum_of_its_parts(make_state: MakeState, sizes: tuple[int, ...]) -> None:
    state = make_state(sizes, activation="relu")
    x = np.random.default_rng(4).normal(size=(70, sizes[0]))
    kernel = wa.response.tangent_kernel(state, x, parts=True)
    values = kernel.kernel.values
    assert np.array_equal(values, values.swapaxes(-1, -2))
    assert np.array_equal(values, kernel.readout_part + kernel.hidden_part)
    assert np.array_equal(values, wa.response.tangent_kernel(state, x, x.copy()).kernel)
    eigenvalues = np.linalg.eigvalsh(values)
    assert np.all(eigenvalues[..., 0] > -1e-13 * eigenvalues[..., -1])
    # A bit of an entry depends on its two inputs alone, whatever the blocks and the remainders.
    for rows, columns in ((1, 1), (31, 33), (32, 65), (33, 2)):
        part = wa.response.tangent_kernel(state, x[-rows:], x[:columns])
        assert np.array_equal(part.kernel, values[..., -rows:, :columns])


def test_threads_and_instruction_sets(make_state: MakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_state((3, 13, 6, 1), activation="gelu")
    x = np.random.default_rng(5).normal(size=(45, 3))
    kernel = wa.response.tangent_kernel(state, x, parts=True)
    for threads in (1, 2, 5):
        assert kernel.identical(wa.response.tangent_kernel(state, x, parts=True, n_threads=threads))
    for path in cpu_paths():
        monkeypatch.setitem(os.environ, CPU_PATH_VARIABLE, path)
        assert kernel.identical(wa.response.tangent_kernel(state, x, parts=True))


@pytest.mark.parametrize("widths", [(40,), (512, 512)])
def test_the_limit_of_infinite_width(widths: tuple[int, ...]) -> None:
    # With one hidden layer the mean is that of the limit at any width; with two, it is off by some 1/width.
    net = wa.MLP(widths, bias_variance=0.3)
    angles = np.linspace(0.0, np.pi, 6)
    x = np.stack([np.cos(angles), 1.5 * np.sin(angles)], axis=1)
    number = 2000 if len(widths) == 1 else 100
    networks = [wa.propagation.materialize(net, 2, k, seed=7) for k in range(number)]
    weights = [np.stack([network.weights[layer] for network in networks]) for layer in range(len(widths) + 1)]
    biases = [np.stack([network.biases[layer] for network in networks]) for layer in range(len(widths) + 1)]  # type: ignore[index]
    units = ["feature", *(f"unit_{layer}" for layer in range(1, len(widths) + 1)), "output"]
    state = xr.Dataset(
        attrs={
            "activation": "relu",
            "weight_rates": [2.0 / fan_in for fan_in in (2, *widths)],
            "bias_rates": [0.3] * len(weights),
        }
    )
    for layer in range(1, len(units)):
        state[f"weights_{layer}"] = (("network", units[layer], units[layer - 1]), weights[layer - 1])
        state[f"biases_{layer}"] = (("network", units[layer]), biases[layer - 1])
    kernels = wa.response.tangent_kernel(state, x).kernel
    # The kernels of the same networks in float32, computed while their weights are drawn.
    drawn = wa.propagation.simulate_outputs(net, x, n_networks=number, seed=7, keep="tangent")
    np.testing.assert_allclose(kernels, drawn.tangent_kernel, rtol=0, atol=2e-5 * float(kernels.max()))
    limit = wa.propagation.tangent_kernel(net, x).kernel
    error = kernels.std("network", ddof=1) / math.sqrt(number)
    z = np.abs(kernels.mean("network") - limit) / error
    assert z.max() < 5.0
    assert float((error / limit).min()) < 0.02


def test_a_diverged_network_leaves_the_others(make_state: MakeState) -> None:
    state = make_state()
    whole = wa.response.tangent_kernel(state, [[1.0, 2.0]]).kernel
    for name in ("weights_1", "biases_1", "weights_2", "biases_2"):
        state[name][1, 1] = np.nan
    kernel = wa.response.tangent_kernel(state, [[1.0, 2.0]], parts=True)
    assert np.isnan(kernel.kernel[1, 1]).all()
    assert int(np.isnan(kernel.kernel).sum()) == 1
    assert np.array_equal(kernel.kernel[::2], whole[::2])


def test_selections_and_coordinates(make_state: MakeState) -> None:
    state = make_state()
    x = state.x.values
    whole = wa.response.tangent_kernel(state, x)
    one = wa.response.tangent_kernel(state.isel(network=1, time=0), x)
    assert one.kernel.dims == ("input", "input_")
    assert np.array_equal(one.kernel, whole.kernel[1, 0])
    assert whole.network.values.tolist() == [10, 11, 12]
    assert whole.step.dims == ("time",)
    assert whole.attrs["loss"] == "cross-entropy"
    assert whole.attrs["function"] == "wideangle.response.tangent_kernel"
    weights = [state[f"weights_{layer}"].values[:, 0] for layer in (1, 2)]
    biases = [state[f"biases_{layer}"].values[:, 0] for layer in (1, 2)]
    network = wa.NetworkWeights(weights, biases=biases, activation="tanh")
    assert np.array_equal(wa.response.tangent_kernel(network, x).kernel, whole.kernel[:, 0])


def test_arrays_of_every_kind(make_state: MakeState) -> None:
    state = make_state((2, 5, 1), n_networks=1)
    x = np.array([[1, 2], [-3, 0], [4, 1]])
    expected = wa.response.tangent_kernel(state, x.astype(float)).kernel
    readonly = x.astype(float)
    readonly.flags.writeable = False
    for given in (x, x.tolist(), x.astype(np.float16), x.astype(">f8"), np.asfortranarray(x), readonly, x.astype("i1")):
        assert np.array_equal(wa.response.tangent_kernel(state, given).kernel, expected)
    strided = np.repeat(np.repeat(x.astype(float), 2, axis=0), 3, axis=1)[::2, ::3]
    assert np.array_equal(wa.response.tangent_kernel(state, strided).kernel, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [[1.0]]}, ValueError, r"x must have the 2 feature\(s\) .* got shape \(1, 1\)"),
        ({"x": [1.0, 2.0]}, ValueError, "x must have shape"),
        ({"x": np.zeros((0, 2))}, ValueError, "no side 0"),
        ({"x": [[np.nan, 1.0]]}, ValueError, "x must be finite"),
        ({"x": [[1j, 1.0]]}, TypeError, "x must hold real numbers"),
        ({"other": [[1.0, 2.0, 3.0]]}, ValueError, "other must have the 2 feature"),
        ({"other": "all"}, TypeError, "other must hold real numbers"),
        ({"parts": 1}, TypeError, "parts must be True or False"),
        ({"n_threads": 0}, ValueError, "n_threads must lie between"),
        ({"progress": "yes"}, TypeError, "progress must be True or False"),
        ({"state": None}, TypeError, "state must be a Dataset"),
    ],
)
def test_bad_arguments(make_state: MakeState, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wa.response.tangent_kernel(**({"state": make_state(), "x": [[1.0, 2.0]]} | arguments))


def test_what_does_not_fit_into_memory(make_state: MakeState) -> None:
    with pytest.raises(ValueError, match=r"6 states at 300000 x 300000 points need .* GiB"):
        wa.response.tangent_kernel(make_state(), np.zeros((300_000, 2)))


def test_progress(make_state: MakeState, capsys: pytest.CaptureFixture[str]) -> None:
    wa.response.tangent_kernel(make_state(), np.zeros((50, 2)), progress=True)
    assert "300/300" in capsys.readouterr().err
