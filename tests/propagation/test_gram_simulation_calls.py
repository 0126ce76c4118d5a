"""What a call of the ensemble of Gram matrices takes, refuses and promises: bits, parts of a run, types, memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths
from wideangle.activations import ACTIVATIONS

Array = NDArray[np.float64]
THREE = np.array([[1.0, 0.6, -0.9], [0.6, 2.0, 0.3], [-0.9, 0.3, 3.0]])


def inputs_of(n_inputs: int) -> Array:
    x = np.random.default_rng(n_inputs).standard_normal((n_inputs, 20))
    gram: Array = x @ x.T / 20
    return gram


def bits(dataset: xr.Dataset) -> dict[str, bytes]:
    return {str(name): variable.values.tobytes() for name, variable in dataset.data_vars.items()}


@pytest.mark.parametrize(("activation", "bias_variance"), [("relu", 0.0), ("relu", 0.1), ("gelu", 0.1), ("sin", 0.0)])
@pytest.mark.parametrize("n_inputs", [2, 5])
def test_every_cpu_path_and_thread_count_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, activation: str, bias_variance: float, n_inputs: int
) -> None:
    net = wa.MLP((7, 30, 12), activation=activation, bias_variance=bias_variance)

    def run(n_threads: int) -> dict[str, bytes]:
        return bits(wa.propagation.simulate_gram(net, inputs_of(n_inputs), n_samples=700, seed=9, n_threads=n_threads))

    expected = run(1)
    for path in cpu_paths():
        monkeypatch.setenv(CPU_PATH_VARIABLE, path)
        assert run(3) == expected


@given(
    first=st.integers(0, 600),
    count=st.integers(1, 300),
    seed=st.integers(0, 2**64 - 1),
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    n_inputs=st.integers(1, 5),
    activation=st.sampled_from(ACTIVATIONS),
    bias_variance=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_sample_k_does_not_depend_on_the_run(
    first: int, count: int, seed: int, widths: list[int], n_inputs: int, activation: str, bias_variance: float
) -> None:
    net = wa.MLP(widths, activation=activation, bias_variance=bias_variance)
    gram0 = inputs_of(n_inputs)
    whole = wa.propagation.simulate_gram(net, gram0, n_samples=first + count, seed=seed, keep="samples")
    part = wa.propagation.simulate_gram(
        net, gram0, n_samples=count, seed=seed, keep="samples", first_sample=first, n_threads=1
    )
    xr.testing.assert_identical(whole.isel(sample=slice(first, None)).drop_attrs(), part.drop_attrs())
    gram = part.gram.values
    assert np.isfinite(gram).all()
    np.testing.assert_array_equal(gram, gram.swapaxes(2, 3))
    full = part["rank"].values == n_inputs
    np.testing.assert_array_equal(np.isfinite(part.log_determinant.values), full)


def test_moments_are_those_of_the_samples() -> None:
    net = wa.MLP((6, 5, 12))
    arguments: dict[str, Any] = {"n_samples": 3000, "seed": 4}
    moments = wa.propagation.simulate_gram(net, THREE, **arguments)
    samples = wa.propagation.simulate_gram(net, THREE, **arguments, keep="samples")
    gram = samples.gram.values
    np.testing.assert_allclose(moments["mean"], gram.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, gram.var(axis=0, ddof=1), rtol=1e-10, atol=1e-25)
    lost = np.maximum.accumulate(samples["rank"].values < 3, axis=1)
    np.testing.assert_array_equal(moments.rank_lost, lost.sum(axis=0))
    for layer in range(4):
        at = moments.sel(layer=layer)
        full = samples["rank"].values[:, layer] == 3
        logs = samples.log_determinant.values[full, layer]
        assert int(at.full_rank) == full.sum()
        np.testing.assert_allclose(at.log_determinant_mean, logs.mean(), rtol=1e-12)
        norms = np.einsum("sii->si", gram[:, layer])
        np.testing.assert_array_equal(at.dead, np.count_nonzero(norms == 0.0, axis=0))
        for i in range(3):
            np.testing.assert_allclose(
                at.log_norm2_mean[i], np.log(norms[norms[:, i] > 0, i]).mean(), rtol=1e-11, atol=1e-14
            )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", ">f8", ">f4", "longdouble"])
def test_any_real_type_and_layout_is_read(dtype: str) -> None:
    integers = np.array([[4, 1, 2], [1, 5, 0], [2, 0, 6]])
    net = wa.MLP((5,))
    expected = wa.propagation.simulate_gram(net, integers.astype(np.float64), n_samples=20, seed=1)
    given_matrix = integers.astype(dtype)
    given_matrix.setflags(write=False)
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, given_matrix, n_samples=20, seed=1), expected)
    strided = np.repeat(np.repeat(integers.astype(dtype), 2, axis=0), 3, axis=1)[::2, ::3]
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, strided, n_samples=20, seed=1), expected)
    nested = integers.tolist()
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, nested, n_samples=20, seed=1), expected)


BAD_MATRICES: list[Any] = [
    np.zeros((0, 0)),
    np.ones(3),
    np.ones((2, 3)),
    np.ones((2, 2, 2)),
    1.0,
    None,
    "gram",
    np.eye(2) * 1j,
    np.array([[1.0, np.nan], [np.nan, 1.0]]),
    np.array([[np.inf, 0.0], [0.0, 1.0]]),
    np.array([[1.0, 0.5], [0.4, 1.0]]),
    np.array([[1.0, 2.0], [2.0, 1.0]]),
    -np.eye(2),
    np.array([[True, False], [False, True]]),
    np.array([["a", "b"], ["c", "d"]]),
    [[1.0, 0.5], [0.5]],
]


@pytest.mark.parametrize("matrix", BAD_MATRICES, ids=lambda value: repr(value)[:40])
def test_bad_matrices_are_refused(matrix: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="gram0"):
        wa.propagation.simulate_gram(wa.MLP((4,)), matrix, n_samples=10, seed=1)


@given(
    matrix=hnp.arrays(
        dtype=st.sampled_from([np.float64, np.float32, np.float16, np.int32]),
        shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_array_is_simulated_or_refused_by_name(matrix: NDArray[Any]) -> None:
    refusal, ensemble = "", None
    try:
        ensemble = wa.propagation.simulate_gram(wa.MLP((4,)), matrix, n_samples=5, seed=1)
    except (ValueError, TypeError) as error:
        refusal = str(error)
    if ensemble is None:
        assert "gram0" in refusal
    else:
        np.testing.assert_allclose(ensemble["mean"][0], matrix, rtol=1e-2, atol=1e-2 * np.abs(matrix).max())
        assert np.isfinite(ensemble.log_norm2_mean.values[~(ensemble.dead.values == 5)]).all()


GOOD: dict[str, Any] = {"net": wa.MLP((4, 4)), "gram0": np.eye(2), "n_samples": 10, "seed": 1}
NAMES = {"count": "n_samples", "first": "first_sample"}


def test_bad_arguments_are_named(bad_argument: tuple[str, Any]) -> None:
    name, value = NAMES.get(bad_argument[0], bad_argument[0]), bad_argument[1]
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_gram(**(GOOD | {name: value}))


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_samples = .*GiB.*keep='moments'"):
        wa.propagation.simulate_gram(wa.MLP((4,) * 100), np.eye(4), n_samples=10**13, seed=1, keep="samples")
    with pytest.raises(ValueError, match=r"gram0 with 100 inputs.*GiB"):
        wa.propagation.simulate_gram(wa.MLP((4,) * 10**6), np.eye(100), n_samples=10, seed=1)


def test_result_survives_a_file(tmp_path: Path) -> None:
    for keep in ("moments", "samples"):
        result = wa.propagation.simulate_gram(wa.MLP((9, 4)), THREE, n_samples=50, seed=2**64 - 1, keep=keep)
        result.to_netcdf(tmp_path / f"{keep}.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / f"{keep}.nc", engine="h5netcdf") as again:
            xr.testing.assert_equal(again.load(), result)
            assert again.attrs["seed"] == str(2**64 - 1)


def test_memory_does_not_grow_with_samples(peak_memory: Callable[[str], int]) -> None:
    code = """
    import numpy as np
    import wideangle as wa
    x = np.random.default_rng(1).standard_normal((6, 9))
    wa.propagation.simulate_gram(wa.MLP((8,) * 5), x @ x.T, n_samples=1_000_000, seed=1)
    """
    assert peak_memory(code) < 180 * 2**20


@pytest.mark.parametrize(("width", "n_inputs"), [(64, 3), (2**31, 2), (2**31, 64)])
def test_interrupt_leaves_the_process_usable(
    interrupt: Callable[[str, str, str], str], width: int, n_inputs: int
) -> None:
    rest = interrupt(
        "import numpy as np, wideangle as wa",
        f"wa.propagation.simulate_gram(wa.MLP(({width},)), np.eye({n_inputs}), n_samples=10**12, seed=1)",
        "print(int(wa.propagation.simulate_gram(wa.MLP((8,)), np.eye(2), n_samples=10, seed=1).full_rank[0]))",
    )
    assert rest == "10\n"


def test_progress_reaches_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    wa.propagation.simulate_gram(wa.MLP((8,)), np.eye(3), n_samples=1000, seed=1, progress=True)
    assert "1.00k/1.00k" in capsys.readouterr().err
