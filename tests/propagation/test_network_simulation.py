from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import wideangle as wa
from wideangle import _core
from wideangle.activations import ACTIVATIONS
from wideangle.network import NetworkWeights

RNG = np.random.default_rng(5)


def sweep(network: NetworkWeights, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Post-activations of every layer and the output last, in float64, by NumPy's matrix product."""
    values, result = np.asarray(x, dtype=np.float64), []
    biases = network.biases or [0.0] * len(network.weights)
    for matrix, bias, phi in zip(network.weights, biases, network.activations, strict=True):
        values = phi.value(values @ matrix.astype(np.float64).T + bias)
        result.append(values)
    return result


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "leaky_relu(-0.5)"])
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
def test_outputs_are_those_of_the_weights(activation: str, bias_variance: float) -> None:
    net = wa.MLP((40, 17, 64), activation=activation, weight_variance=1.6, bias_variance=bias_variance)
    x = RNG.normal(size=(11, 9))
    ensemble = wa.propagation.simulate_outputs(net, x, n_networks=6, seed=3, outputs=2, keep="layers")
    for k in range(6):
        network = wa.propagation.materialize(net, 9, k, seed=3, outputs=2)
        assert (network.biases is None) == (bias_variance == 0.0)
        *layers, output = sweep(network, x)
        np.testing.assert_allclose(ensemble.outputs.sel(network=k), output, rtol=0, atol=1e-6 * np.abs(output).max())
        for layer, values in enumerate(layers, start=1):
            size = np.abs(values).max()
            found = ensemble[f"layer_{layer}"].sel(network=k)
            np.testing.assert_allclose(found, values, rtol=0, atol=1e-6 * size)
            gram = ensemble.gram.sel(network=k, layer=layer)
            np.testing.assert_allclose(gram, values @ values.T / net.widths[layer - 1], rtol=0, atol=2e-6 * size**2)
    np.testing.assert_allclose(
        ensemble.gram.sel(layer=0), np.broadcast_to(x @ x.T / 9, (6, 11, 11)), rtol=1e-14, atol=1e-15
    )


def test_a_deep_network_keeps_float32_accuracy() -> None:
    net = wa.MLP((256,) * 32)
    x = np.random.default_rng(5).normal(size=(3, 64))
    outputs = wa.propagation.simulate_outputs(net, x, n_networks=12, seed=8).outputs
    # A sum of 256 numbers in float32 is off by some sqrt(256/12) halves of its last place, and 33 layers add up like a
    # random walk: five standard deviations, in units of what the readout has to add up.
    allowed = 5.0 * np.sqrt(33 * 256 / 12.0) * 2.0**-25
    for k in range(12):
        *_, hidden, expected = sweep(wa.propagation.materialize(net, 64, k, seed=8), x)
        size = np.sqrt(2.0 * np.mean(hidden**2, axis=-1))
        assert np.max(np.abs(outputs.sel(network=k).values[:, 0] - expected[:, 0]) / size) < allowed


@pytest.mark.parametrize("activation", ["relu", "gelu", "sin", "leaky_relu(0.2)"])
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
def test_tangent_kernel_is_that_of_autograd(activation: str, bias_variance: float) -> None:
    torch = pytest.importorskip("torch")
    functions = {
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "sin": torch.sin,
        "leaky_relu(0.2)": lambda z: torch.nn.functional.leaky_relu(z, 0.2),
    }
    net = wa.MLP((12, 7), activation=activation, weight_variance=1.6, bias_variance=bias_variance)
    x = RNG.normal(size=(3, 5))
    found = wa.propagation.simulate_outputs(net, x, n_networks=3, seed=3, outputs=2, keep="tangent").tangent_kernel
    for k in range(3):
        network = wa.propagation.materialize(net, 5, k, seed=3, outputs=2)
        scales = [math.sqrt(1.6 / matrix.shape[1]) for matrix in network.weights]
        parameters = [torch.tensor(w.astype(np.float64) / s) for w, s in zip(network.weights, scales, strict=True)]
        if network.biases is not None:
            biases = [b for b in network.biases if b is not None]
            parameters += [torch.tensor(b.astype(np.float64) / math.sqrt(bias_variance)) for b in biases]
        for parameter in parameters:
            parameter.requires_grad_()
        gradients = []
        for row in x:
            values = torch.tensor(row)
            for layer, scale in enumerate(scales):
                values = scale * parameters[layer] @ values
                if network.biases is not None:
                    values = values + math.sqrt(bias_variance) * parameters[3 + layer]
                values = functions[activation](values) if layer < 2 else values
            gradient = torch.autograd.grad(values[0], parameters, allow_unused=True)
            gradients.append(torch.cat([part.ravel() for part in gradient]).numpy())
        expected = np.array(gradients) @ np.array(gradients).T
        np.testing.assert_allclose(found.sel(network=k), expected, rtol=0, atol=2e-6 * expected.max())


@pytest.mark.parametrize("layer", [1, 2, 4])
def test_weights_and_biases_have_their_variances(layer: int) -> None:
    net = wa.MLP((1,) * (layer - 1) + (100_000,), weight_variance=1.7, bias_variance=0.3)
    networks = [wa.propagation.materialize(net, 1, k, seed=6) for k in range(4)]
    weights = np.stack([network.weights[layer - 1] for network in networks]).ravel().astype(np.float64)
    all_biases = [network.biases[layer - 1] for network in networks if network.biases is not None]
    biases = np.stack([b for b in all_biases if b is not None]).ravel().astype(np.float64)
    for numbers, variance in ((weights, 1.7), (biases, 0.3)):
        assert numbers.size == 400_000
        squares = numbers**2 / variance
        assert abs(squares.mean() - 1.0) < 5 * math.sqrt(2 / numbers.size)
        assert abs((squares**2).mean() - 3.0) < 5 * math.sqrt(96 / numbers.size)
        assert abs(numbers.mean()) < 5 * math.sqrt(variance / numbers.size)
    assert abs(np.corrcoef(weights, biases)[0, 1]) < 5 / math.sqrt(weights.size)


def test_one_layer_has_the_law_of_gaussian_weights() -> None:
    # f = sqrt(s/n) sum_i w_i relu(h_i), h ~ N(0, s |x|^2/d): E f^2 = s q/2, and E f^4 = 3 (E f^2)^2 (1 + 5/n).
    net, n, q = wa.MLP((20,), weight_variance=1.5), 20, 1.5 * 2.5
    x = np.array([[1.0, 2.0, 0.0, math.sqrt(5.0)]])
    n_networks = 200_000
    f = wa.propagation.simulate_outputs(net, x, n_networks=n_networks, seed=2).outputs.values.ravel()
    second, fourth = 1.5 * q / 2, 3 * (1.5 * q / 2) ** 2 * (1 + 5 / n)
    for power, expected in ((1, 0.0), (2, second), (3, 0.0), (4, fourth)):
        values = f**power
        assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(n_networks), power
    assert abs((f**2).mean() - 1.01 * second) > 2 * (f**2).std() / math.sqrt(n_networks)


def test_biases_add_their_variance_to_every_layer() -> None:
    net = wa.MLP((30, 30), activation="linear", weight_variance=0.8, bias_variance=0.5)
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    f = wa.propagation.simulate_outputs(net, x, n_networks=100_000, seed=4).outputs.values[:, :, 0]
    product = f[:, 0] * f[:, 1]
    expected = 0.5 * (1 + 0.8 + 0.8**2)
    assert abs(product.mean() - expected) < 5 * product.std() / math.sqrt(len(product))
    square = f[:, 0] ** 2
    assert abs(square.mean() - (expected + 0.8**3 / 2)) < 5 * square.std() / math.sqrt(len(square))


def test_outputs_and_networks_are_independent() -> None:
    net, x = wa.MLP((16,)), np.ones((1, 4))
    f = wa.propagation.simulate_outputs(net, x, n_networks=50_000, seed=4, outputs=2).outputs.values[:, 0, :]
    pairs = [f[:, 0] * f[:, 1], f[1:, 0] * f[:-1, 0]]
    other = wa.propagation.simulate_outputs(net, x, n_networks=50_000, seed=5, outputs=2).outputs.values[:, 0, :]
    pairs.append(f[:, 0] * other[:, 0])
    for product in pairs:
        assert abs(product.mean()) < 5 * product.std() / math.sqrt(len(product))


@pytest.mark.parametrize("activation", ["relu", "gelu", "sin"])
def test_every_cpu_path_and_thread_count_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, activation: str) -> None:
    net = wa.MLP((37, 20), activation=activation, bias_variance=0.1)
    x = RNG.normal(size=(5, 12))
    results, weights = set(), set()
    for path in _core.cpu_paths():
        monkeypatch.setenv("WIDEANGLE_CPU_PATH", path)
        weights.add(wa.propagation.materialize(net, 12, 4, seed=7).weights[1].tobytes())
        for n_threads in (1, 3):
            run = wa.propagation.simulate_outputs(net, x, n_networks=700, seed=7, n_threads=n_threads, keep="layers")
            results.add(b"".join(run[name].values.tobytes() for name in ("outputs", "gram", "layer_1", "layer_2")))
    assert len(results) == len(weights) == 1


def test_network_k_does_not_depend_on_the_run() -> None:
    net, x = wa.MLP((33, 9)), RNG.normal(size=(4, 6))
    whole = wa.propagation.simulate_outputs(net, x, n_networks=3000, seed=7)
    part = wa.propagation.simulate_outputs(net, x[2:3], n_networks=20, seed=7, first_network=1500)
    xr.testing.assert_identical(
        whole.outputs.sel(network=part.network).isel(input=[2]).drop_vars("input"), part.outputs.drop_vars("input")
    )


@pytest.mark.parametrize("variance", [1.0, 2.0, 16.0, 256.0])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_variance_gives_nan(variance: float, activation: str) -> None:
    net = wa.MLP((32,) * 16, activation=activation, weight_variance=variance)
    run = wa.propagation.simulate_outputs(net, np.eye(4), n_networks=20, seed=1, keep="gram")
    assert np.isfinite(run.outputs).all()
    assert np.isfinite(run.gram).all()


def test_chain_of_ten_thousand_layers_stays_finite() -> None:
    net = wa.MLP((24,) * 10_000, activation="abs", weight_variance=1.0)
    run = wa.propagation.simulate_outputs(
        net, np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), n_networks=1, seed=1, keep="gram"
    )
    log_norm2 = np.log(run.gram.isel(network=0, input=0, input_=0).values)
    assert np.isfinite(log_norm2[:5000]).all()
    assert np.isfinite(run.outputs).all()
    # ln(chi2_24 / 24) a layer: mean psi(12) - ln 12, variance psi'(12).
    assert abs(log_norm2[5000] - 5000 * (2.442661663 - math.log(12))) < 5 * math.sqrt(5000 * 0.0868988)
    assert (run.gram.isel(input=2) == 0).all()
    np.testing.assert_array_equal(run.outputs.isel(input=0), run.outputs.isel(input=1))


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e300, 1.5e308])
@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_inputs_of_any_size(scale: float, activation: str) -> None:
    net = wa.MLP((6, 5), activation=activation, weight_variance=0.5)
    x = np.array([[scale, 0.0, -scale / 2]])
    run = wa.propagation.simulate_outputs(net, x, n_networks=5, seed=1)
    for k in range(5):
        *_, expected = sweep(wa.propagation.materialize(net, 3, k, seed=1), x)
        size = max(np.abs(expected).max(), min(scale, 1.0))
        np.testing.assert_allclose(run.outputs.sel(network=k), expected, rtol=1e-5, atol=1e-6 * size)


def test_result_survives_a_file(tmp_path: Path) -> None:
    run = wa.propagation.simulate_outputs(wa.MLP((8, 4)), np.eye(2), n_networks=3, seed=2**64 - 1, keep="layers")
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), run)


def test_progress_reaches_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    wa.propagation.simulate_outputs(wa.MLP((8,)), np.eye(2), n_networks=1000, seed=1, progress=True)
    assert "1.00k/1.00k" in capsys.readouterr().err


@pytest.mark.parametrize("widths", ["(64,) * 4", "(2**20, 2**20)"])
def test_interrupt_leaves_the_process_usable(interrupt: Callable[[str, str, str], str], widths: str) -> None:
    rest = interrupt(
        "import numpy as np, wideangle as wa",
        f"wa.propagation.simulate_outputs(wa.MLP({widths}), np.eye(2), n_networks=10**8, seed=1)",
        "print(wa.propagation.simulate_outputs(wa.MLP((8,)), np.eye(2), n_networks=10, seed=1).outputs.size)",
    )
    assert rest == "20\n"


@pytest.mark.slow
def test_memory_does_not_hold_the_ensemble(peak_memory: Callable[[str], int]) -> None:
    code = """
    import numpy as np
    import wideangle as wa
    x = np.random.default_rng(0).normal(size=(10, 64))
    wa.propagation.simulate_outputs(wa.MLP((512,) * 3), x, n_networks=10_000, seed=1)
    """
    assert peak_memory(code) < 200 * 2**20


NET, X = wa.MLP((5, 4)), np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    "x",
    [
        X.astype(np.float32),
        X.astype(np.float16),
        X.astype(np.int32),
        X.astype(">f8"),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X.tolist(),
    ],
    ids=["float32", "float16", "int32", "big-endian", "fortran", "strided", "lists"],
)
def test_inputs_of_any_layout_are_the_same(x: Any) -> None:
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    found = wa.propagation.simulate_outputs(NET, x, n_networks=3, seed=1)
    xr.testing.assert_identical(found, wa.propagation.simulate_outputs(NET, X, n_networks=3, seed=1))


GOOD: dict[str, Any] = {"net": NET, "x": X, "n_networks": 10, "seed": 1}
NAMES = {"count": "n_networks", "first": "first_network"}
BAD = [
    *[
        ("x", value)
        for value in (X[0], X[None], 1.0, X * 1j, X > 1, "x", None, X[:0], X[:, :0], np.full((2, 2), np.nan))
    ],
    ("x", np.array([[1.0, math.inf]])),
    ("x", [[1.0], [1.0, 2.0]]),
    *[("outputs", value) for value in (0, -1, 1.5, None, 2**40)],
    ("net", wa.MLP((4,), weight_variance=1e-40)),
    ("n_networks", 10**13),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_arguments_are_named(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_outputs(**(GOOD | {name: value}))


def test_bad_arguments_of_every_ensemble_are_named(bad_argument: tuple[str, Any]) -> None:
    name, value = NAMES.get(bad_argument[0], bad_argument[0]), bad_argument[1]
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_outputs(**(GOOD | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("net", None), ("input_dim", 0), ("input_dim", 2.5), ("k", -1), ("k", 1.0), ("seed", -1), ("outputs", 0)],
)
def test_bad_arguments_of_materialize_are_named(name: str, value: Any) -> None:
    good: dict[str, Any] = {"net": NET, "input_dim": 4, "k": 0, "seed": 1, "outputs": 1}
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.materialize(**(good | {name: value}))


def test_weights_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="GiB"):
        wa.propagation.materialize(wa.MLP((2**20, 2**20)), 4, 0, seed=1)
    with pytest.raises(ValueError, match=r"inputs.*GiB"):
        wa.propagation.simulate_outputs(wa.MLP((2**31,)), np.eye(4), n_networks=1, seed=1)


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", ">f8", "i4", "u1"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
    )
)
def test_any_array_is_simulated_or_refused(x: np.ndarray[Any, Any]) -> None:
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x.astype(np.float64)).all():
        with pytest.raises((TypeError, ValueError), match="x must"):
            wa.propagation.simulate_outputs(NET, x, n_networks=2, seed=1)
        return
    run = wa.propagation.simulate_outputs(NET, x, n_networks=2, seed=1)
    assert run.outputs.shape == (2, len(x), 1)
    for k in range(2):
        network = wa.propagation.materialize(NET, x.shape[1], k, seed=1)
        *_, expected = sweep(network, x)
        scale = np.abs(x.astype(np.float64)).max(axis=1, keepdims=True)
        assert (np.abs(run.outputs.sel(network=k) - expected) <= 1e-5 * scale).all() or not np.isfinite(expected).all()
