"""The forward sweep against NumPy in float64 with bounds from its condition, against PyTorch, and against itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths

Array = NDArray[Any]

PHI: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: np.maximum(z, 0.0),
    "leaky_relu(0.2)": lambda z: np.where(z > 0, z, 0.2 * z),
    "abs": np.abs,
    "linear": lambda z: z,
    "erf": special.erf,
    "tanh": np.tanh,
    "gelu": lambda z: z * special.ndtr(z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
    "silu": lambda z: z * special.expit(z),
    "sin": np.sin,
    "sigmoid": special.expit,
}
STEEPEST = 1.13  # of all of them: erf has 2/sqrt(pi), gelu 1.129


def draw(
    sizes: tuple[int, ...], *, networks: int | None, inputs: int, dtype: str, biased: bool, seed: int = 0
) -> tuple[list[Array], list[Array] | None, Array]:
    rng = np.random.default_rng(seed)
    front = () if networks is None else (networks,)
    weights = [
        (rng.normal(size=(*front, n_out, n_in)) * np.sqrt(2.0 / n_in)).astype(dtype)
        for n_in, n_out in itertools.pairwise(sizes)
    ]
    biases = [rng.normal(size=(*front, n_out)).astype(dtype) for n_out in sizes[1:]] if biased else None
    return weights, biases, rng.normal(size=(inputs, sizes[0])).astype(dtype)


def swept(
    weights: list[Array], biases: list[Array] | None, x: Array, names: list[str], unit: float
) -> list[tuple[Array, Array]]:
    """Activations in float64 and a bound on the error of a sweep with that unit roundoff, layer by layer.

    A sum of n products is off by at most (n + 2) roundings of the sum of their sizes (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1), and an activation by a few of its value; both grow by |W| and the slope.
    """
    h, error = x.astype(np.float64), np.zeros(x.shape)
    result = [(h, error)]
    for layer, (matrix, name) in enumerate(zip(weights, names, strict=True)):
        w = np.swapaxes(matrix.astype(np.float64), -1, -2)
        b = 0.0 if biases is None else biases[layer].astype(np.float64)[..., None, :]
        with np.errstate(all="ignore"):
            z, terms = h @ w + b, np.abs(h) @ np.abs(w) + np.abs(b)
            error = STEEPEST * (error @ np.abs(w) + (w.shape[-2] + 3) * unit * terms)
            h = PHI[name](z)
        error = error + 4 * unit * np.abs(h)
        result.append((h, error))
    return result


def assert_swept(sweep: xr.Dataset, model: list[tuple[Array, Array]]) -> None:
    *hidden, outputs = model[1:]
    np.testing.assert_array_less(np.abs(sweep.outputs - outputs[0]), outputs[1] + 1e-300)
    for layer, (h, error) in enumerate(hidden, start=1):
        np.testing.assert_array_less(np.abs(sweep[f"layer_{layer}"] - h), error + 1e-300)


def assert_statistics(sweep: xr.Dataset, x: Array, names: list[str]) -> None:
    """Norms, overlaps and active fractions are those of the activations that the sweep itself gives."""
    layers = [x, *(sweep[f"layer_{layer}"].values for layer in range(1, sweep.layer.size - 1)), sweep.outputs.values]
    unit = 1e-15 if x.dtype == np.float64 else 5e-7  # in float32, up to eight squares are added in float32
    for layer, h in enumerate(layers):
        h = h.astype(np.float64)
        at = sweep.sel(layer=layer)
        np.testing.assert_allclose(at.norms, np.broadcast_to((h**2).mean(-1), at.norms.shape), rtol=unit * 4)
        gram = h @ np.swapaxes(h, -1, -2)
        norm = np.sqrt(np.einsum("...ii->...i", gram))
        with np.errstate(invalid="ignore"):
            cosine = np.broadcast_to(gram / norm[..., :, None] / norm[..., None, :], at.overlaps.shape)
        np.testing.assert_allclose(at.overlaps, cosine, rtol=0, atol=1e-13)
        # Where the activation has the sign of its argument, it tells which units are active.
        if layer == 0 or names[layer - 1] in ("relu", "linear", "erf", "tanh", "leaky_relu(0.2)", "elu", "silu"):
            np.testing.assert_array_equal(
                at.active_fraction, np.broadcast_to((h > 0).mean(-1), at.active_fraction.shape)
            )


@pytest.mark.parametrize("networks", [None, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PHI)
def test_every_activation_agrees_with_numpy(name: str, dtype: str, networks: int | None) -> None:
    sizes = (13, 40, 40, 35, 6)
    names = [*[name] * 3, "linear"]
    for inputs in (1, 2, 3, 4, 21):
        weights, biases, x = draw(sizes, networks=networks, inputs=inputs, dtype=dtype, biased=True, seed=inputs)
        sweep = wa.propagation.forward(weights, x, activation=name, biases=biases, keep="layers", overlaps=True)
        assert sweep.outputs.dtype == dtype
        assert_swept(sweep, swept(weights, biases, x, names, float(np.finfo(dtype).eps) / 2))
        assert_statistics(sweep, x, names)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("path", cpu_paths())
def test_every_path_and_number_of_threads_agrees_with_numpy(
    path: str, n_threads: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CPU_PATH_VARIABLE, path)
    # Many networks; one that is worth sharing out among threads; inputs in many panels.
    for sizes, networks, inputs in (((20, 33, 4), 50, 9), ((600, 1500, 700, 3), None, 12), ((50, 60, 3), None, 700)):
        weights, biases, x = draw(sizes, networks=networks, inputs=inputs, dtype=dtype, biased=True)
        sweep = wa.propagation.forward(weights, x, biases=biases, keep="layers", overlaps=True, n_threads=n_threads)
        names = [*["relu"] * (len(weights) - 1), "linear"]
        assert_swept(sweep, swept(weights, biases, x, names, float(np.finfo(dtype).eps) / 2))
        assert_statistics(sweep, x, names)


@pytest.mark.parametrize("inputs", [1, 10, 64])
def test_agrees_with_torch(inputs: int) -> None:
    torch = pytest.importorskip("torch")
    model = wa.reference.build_mlp((64,) * 8, n_inputs=64, n_outputs=10, seed=inputs)
    x = np.random.default_rng(inputs).normal(size=(inputs, 64)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.tensor(x)).numpy()
    sweep = wa.propagation.forward(model, x)
    weights = [parameter.detach().numpy() for parameter in model.parameters()]
    # Both are within the bound.
    *_, (_, error) = swept(weights, None, x, [*["relu"] * 8, "linear"], float(np.finfo(np.float32).eps) / 2)
    np.testing.assert_array_less(np.abs(sweep.outputs - expected), 2 * error)
    # And the bound is far from reached: this tells them from a different network.
    np.testing.assert_allclose(sweep.outputs, expected, atol=1e-5)
    assert abs(expected).max() > 0.1


def test_modules_are_read_in_every_form() -> None:
    pytest.importorskip("torch")
    models = [wa.reference.build_mlp((9, 5), n_inputs=4, n_outputs=2, seed=seed) for seed in (1, 2, 3)]
    x = np.random.default_rng(0).normal(size=(6, 4))
    together = wa.propagation.forward(models, x)
    assert dict(together.outputs.sizes) == {"network": 3, "input": 6, "output": 2}
    for k, model in enumerate(models):
        network = wa.reference.from_torch(model)
        for one in (model, network, list(network.weights), tuple(network.weights)):
            np.testing.assert_array_equal(wa.propagation.forward(one, x).outputs, together.outputs[k])


def test_each_layer_may_have_its_own_activation() -> None:
    weights, biases, x = draw((5, 8, 7, 6), networks=None, inputs=4, dtype="float64", biased=True)
    names = ["tanh", "relu", "abs"]
    sweep = wa.propagation.forward(weights, x, activation=names, biases=biases, keep="layers")
    assert_swept(sweep, swept(weights, biases, x, names, 2.0**-53))
    assert sweep.attrs["activation"] == names


def test_one_layer_is_a_linear_map() -> None:
    sweep = wa.propagation.forward([np.array([[2.0, -1.0]])], np.array([[3.0, 4.0], [0.0, 1.0]]))
    assert sweep.outputs.values.tolist() == [[2.0], [-1.0]]
    assert sweep.norms.values.tolist() == [[12.5, 0.5], [4.0, 1.0]]
    assert sweep.active_fraction.values.tolist() == [[1.0, 0.5], [1.0, 0.0]]
    np.testing.assert_allclose(sweep.overlaps[:, 0, 1], [0.8, -1.0], rtol=1e-15)


def test_dimensions_and_attributes(tmp_path: Path) -> None:
    weights, biases, x = draw((4, 5, 6, 2), networks=3, inputs=7, dtype="float32", biased=True)
    sweep = wa.propagation.forward(weights, x, biases=biases, keep="layers")
    assert {str(name): variable.dims for name, variable in sweep.data_vars.items()} == {
        "outputs": ("network", "input", "output"),
        "norms": ("network", "layer", "input"),
        "active_fraction": ("network", "layer", "input"),
        "overlaps": ("network", "layer", "input", "input_"),
        "layer_1": ("network", "input", "unit_1"),
        "layer_2": ("network", "input", "unit_2"),
    }
    assert sweep.layer.values.tolist() == [0, 1, 2, 3]
    sweep.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sweep.nc", engine="h5netcdf") as read:
        assert read.attrs["sizes"].tolist() == [4, 5, 6, 2]
        assert read.attrs["function"] == "wideangle.propagation.forward"
        xr.testing.assert_identical(read.drop_attrs(), sweep.drop_attrs())


def test_overlaps_come_by_themselves_where_they_are_few() -> None:
    weights, _, x = draw((4, 2), networks=None, inputs=224, dtype="float32", biased=False)
    for inputs, networks, present in ((223, 1, True), (224, 1, False), (10, 500, True), (10, 501, False)):
        stack = [np.repeat(weights[0][None], networks, axis=0)]
        assert ("overlaps" in wa.propagation.forward(stack, x[:inputs])) == present
    assert "overlaps" in wa.propagation.forward(weights, x, overlaps=True)
    assert "overlaps" not in wa.propagation.forward(weights, x[:2], overlaps=False)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_type_and_layout_do_not_matter(data: st.DataObject) -> None:
    n_layers, inputs = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    sizes = [data.draw(st.integers(1, 40)) for _ in range(n_layers + 1)]
    networks = data.draw(st.sampled_from([None, 1, 3]))
    weights, biases, x = draw(tuple(sizes), networks=networks, inputs=inputs, dtype="float64", biased=True)
    kinds = st.sampled_from(["float16", "float32", ">f4", "float64", ">f8", "longdouble", "int8", ">i4", "uint16"])

    def disguise(array: Array) -> Array:
        kind = data.draw(kinds)
        plain = np.abs(array * 4) if kind == "uint16" else array * 4
        plain = plain.astype(kind)
        layout = data.draw(st.sampled_from(["c", "fortran", "strided", "reversed", "read-only"]))
        if layout == "fortran":
            return np.asfortranarray(plain)
        if layout == "strided":
            return np.repeat(plain, 2, axis=-1)[..., ::2]
        if layout == "reversed":
            return np.ascontiguousarray(plain[..., ::-1])[..., ::-1]
        if layout == "read-only":
            plain.flags.writeable = False
        return plain

    given_weights, given_x = [disguise(matrix) for matrix in weights], disguise(x)
    given_biases = [data.draw(st.sampled_from([None, disguise(bias)])) for bias in biases or []]
    sweep = wa.propagation.forward(given_weights, given_x, biases=given_biases, overlaps=True, keep="layers")

    floats = [array.dtype for array in (*given_weights, *given_biases) if array is not None and array.dtype.kind == "f"]
    dtype = np.dtype(np.float32 if floats and max(kind.itemsize for kind in floats) <= 4 else np.float64)
    assert sweep.outputs.dtype == dtype
    plain = [np.array(matrix, dtype, order="C") for matrix in given_weights]
    plain_biases = [
        np.zeros(matrix.shape[:-1], dtype) if bias is None else np.array(bias, dtype)
        for bias, matrix in zip(given_biases, plain, strict=True)
    ]
    names = [*["relu"] * (n_layers - 1), "linear"]
    plain_x = np.array(given_x, dtype)
    assert_swept(sweep, swept(plain, plain_biases, plain_x, names, float(np.finfo(dtype).eps) / 2))
    assert_statistics(sweep, plain_x, names)


@pytest.mark.parametrize("inputs", [1, 3])
def test_undefined_and_infinite_numbers_propagate(inputs: int) -> None:
    x = np.ones((inputs, 2), np.float32)
    weights = [np.array([[np.inf, 0], [-np.inf, 0], [np.nan, 0], [1, 1]], np.float32)]
    sweep = wa.propagation.forward([*weights, np.eye(4, dtype=np.float32)], x, keep="layers", overlaps=True)
    np.testing.assert_array_equal(sweep.layer_1, [[np.inf, 0.0, np.nan, 2.0]] * inputs)
    assert np.isnan(sweep.norms[1:]).all()
    assert np.isnan(sweep.overlaps[1:]).all()
    np.testing.assert_array_equal(sweep.active_fraction[1], 0.5)


def test_overflow_is_infinite_and_norms_are_not() -> None:
    x = np.full((3, 4), 1e30)
    sweep = wa.propagation.forward([np.full((2, 4), 1e5, np.float32), np.full((1, 2), 1e30, np.float32)], x)
    np.testing.assert_array_equal(sweep.outputs, np.inf)
    # Squares beyond float32: 4e35 is one of the numbers, 1.6e71 its square.
    np.testing.assert_allclose(sweep.norms[1], (4e35) ** 2, rtol=1e-6)
    beyond = wa.propagation.forward([np.ones((1, 1), np.float32)], np.array([[1e300]]))
    np.testing.assert_array_equal(beyond.outputs, np.inf)


def test_deep_networks_of_large_weights_give_no_nan() -> None:
    # 16 layers with weight_variance 256: norms grow by 2**7 a layer.
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(64, 64)).astype(np.float32) * 2 for _ in range(16)]
    sweep = wa.propagation.forward(weights, rng.normal(size=(3, 64)))
    assert np.isfinite(sweep.norms).all()
    assert np.isfinite(sweep.overlaps).all()


def test_weights_are_not_copied() -> None:
    weights, biases, _ = draw((4, 5, 6), networks=None, inputs=1, dtype="float32", biased=True)
    network = wa.NetworkWeights(weights, biases=biases)
    assert all(np.shares_memory(mine, given) for mine, given in zip(network.weights, weights, strict=True))


GOOD: dict[str, Any] = {"weights": [np.ones((3, 2)), np.ones((1, 3))], "x": np.ones((4, 2))}
BAD = [
    ("x", np.ones(2), "dimension"),
    ("x", np.ones((4, 3)), "2 features"),
    ("x", np.ones((0, 2)), "empty"),
    ("x", np.ones((4, 2), complex), "real numbers"),
    ("x", [["a", "b"]], "real numbers"),
    ("x", None, "real numbers"),
    ("x", [[1.0], [1.0, 2.0]], "could not be read"),
    ("weights", [], "at least one layer"),
    ("weights", np.ones((3, 2)), "sequence of arrays"),
    ("weights", "weights", "sequence of arrays"),
    ("weights", None, "sequence of arrays"),
    ("weights", [np.ones((3, 2)), np.ones((1, 2))], r"weights\[1\].*transposed"),
    ("weights", [np.ones((3, 2)), np.ones((2, 1, 3))], r"weights\[1\].*same networks"),
    ("weights", [np.ones((3, 2)), np.ones((0, 3))], r"weights\[1\].*empty"),
    ("weights", [np.ones((3, 2), complex)], r"weights\[0\].*real numbers"),
    ("weights", [np.ones(3)], r"weights\[0\].*dimension"),
    ("biases", [np.ones(3)], "2 entries"),
    ("biases", [np.ones(3), np.ones(2)], r"biases\[1\]"),
    ("biases", 1.0, "sequence"),
    ("activation", "softplus", "activation"),
    ("activation", ["relu"], "one name or 2"),
    ("activation", 3, "activation"),
    ("keep", "all", "keep"),
    ("overlaps", 1, "overlaps"),
    ("n_threads", 0, "n_threads"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_bad_arguments_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"(?=.*{name}).*{message}"):
        wa.propagation.forward(**{**GOOD, name: value})


def test_a_network_object_keeps_its_own_activation_and_biases() -> None:
    network = wa.NetworkWeights(GOOD["weights"], activation="tanh")
    own: tuple[dict[str, Any], ...] = ({"activation": "relu"}, {"biases": [None, None]})
    for arguments in own:
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be None"):
            wa.propagation.forward(network, GOOD["x"], **arguments)


def test_too_many_overlaps_for_memory_are_refused() -> None:
    x = np.broadcast_to(np.ones((1, 2)), (3_000_000, 2))
    with pytest.raises(ValueError, match="GiB"):
        wa.propagation.forward(GOOD["weights"], x, overlaps=True)


@pytest.mark.parametrize("layers", [60_000, 3])
def test_ctrl_c_stops_the_sweep(interrupt: Callable[[str, str, str], str], layers: int) -> None:
    # One panel of inputs whose layers are shared by threads, and many panels.
    inputs = 64 if layers > 3 else 2_000_000
    setup = f"""
    import numpy as np, wideangle as wa
    weights = [np.eye(1024, dtype=np.float32)] * {layers}
    x = np.ones(({inputs}, 1), np.float32)
    weights[0] = np.ones((1024, 1), np.float32)
    weights[-1] = np.ones((1, 1024), np.float32)
    """
    after = "print(float(wa.propagation.forward([np.ones((1, 1))], [[2.0]]).outputs[0, 0]))"
    assert interrupt(setup, "wa.propagation.forward(weights, x, n_threads=2)", after) == "2.0\n"
