"""Synthetic clones have the structure that they are said to have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from wideangle.representation import synthetic_clones

Array = NDArray[Any]


def mixtures(layer: xr.Dataset) -> list[Array]:
    """What neurons mix, one matrix a clone, in the order of its neurons in the layer."""
    clone = layer.clone.values
    return [layer.mixing.values[clone == a] for a in range(layer.attrs["n_clones"])]


@pytest.mark.parametrize(("latent_dim", "width"), [(3, 24), (24, 24), (40, 24), (1, 1)])
def test_signals_are_exactly_uncorrelated(latent_dim: int, width: int) -> None:
    layer = synthetic_clones(500, latent_dim, 2, width, 0.3, 1)
    s = layer.signals.values
    assert s.shape == (500, width)
    np.testing.assert_allclose(s.mean(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(s.T @ s / 500, np.eye(width), atol=1e-12)


def test_signals_are_latents_first_and_then_not_linear_in_them() -> None:
    # The ReLUs are made orthogonal to the latents. Squares of the latents see them, and a Gaussian has none of it.
    few, many = (synthetic_clones(20_000, d, 1, 4, 0.0, 3).signals.values for d in (2, 4))
    for s, n_latents in ((few, 2), (many, 4)):
        squares = np.c_[s[:, :2] ** 2 - 1.0, s[:, 0] * s[:, 1]]
        seen = np.abs(s.T @ squares / len(s)).max(axis=1)
        # Five sigma of a mean of x^3 - x, of variance 10, and more than enough for the other products.
        assert (seen[:n_latents] < 5.0 * np.sqrt(10.0 / len(s))).all()
        assert (seen[n_latents:] > 0.2).all()


def test_covariance_of_features_is_that_of_the_mixtures_plus_noise() -> None:
    n_samples, noise = 20_000, 0.7
    layer = synthetic_clones(n_samples, 5, 3, 16, noise, 2)
    q = layer.mixing.values
    measured = layer.features.values.T @ layer.features.values / n_samples
    expected = q @ q.T + noise**2 * np.eye(len(q))
    # Signals are exact in the sample: what scatters is noise with signals and noise with noise.
    power = np.diag(q @ q.T)
    signal_noise = noise**2 * (power[:, None] + power) * (1.0 + np.eye(len(q)))
    spread = np.sqrt((signal_noise + noise**4 * (1.0 + np.eye(len(q)))) / n_samples)
    z = (measured - expected) / spread
    assert np.abs(z).max() < 5.0
    assert np.sqrt((z**2).mean()) > 0.5  # the bound is not loose


def test_each_clone_mixes_the_task_with_rows_of_an_orthogonal_matrix() -> None:
    layer = synthetic_clones(300, 4, 3, 12, 0.0, 5)
    s, x = layer.signals.values, layer.features.values
    for a, m in enumerate(mixtures(layer)):
        assert set(m[:, 0]) == {-1.0, 1.0}
        np.testing.assert_allclose(m[:, 1:].T @ m[:, 1:], np.eye(11), atol=1e-13)
        assert np.linalg.matrix_rank(m) == 12
        found = np.linalg.lstsq(s, x[:, layer.clone.values == a], rcond=None)[0].T
        np.testing.assert_allclose(found, m, atol=1e-12)


@pytest.mark.parametrize(("n_clones", "width"), [(7, 8), (3, 2), (2, 1), (1, 8)])
def test_other_signals_neither_cancel_nor_add_up_in_the_readout(n_clones: int, width: int) -> None:
    layer = synthetic_clones(50, 3, n_clones, width, 0.0, 7)
    sums = np.array([m[:, 0] @ m[:, 1:] for m in mixtures(layer)]).reshape(n_clones, width - 1)
    fits = min(n_clones, width - 1)
    np.testing.assert_allclose(sums[:fits] @ sums[:fits].T, (width - 1) * np.eye(fits), atol=1e-12)


def test_mixtures_are_uniform_otherwise() -> None:
    # Entries of a Haar matrix of size 8 have mean 0 and variance 1/8, as have those given what signs read of it.
    layer = synthetic_clones(50, 3, 400, 8, 0.0, 7)
    order = np.argsort(layer.clone.values, kind="stable")
    m = layer.mixing.values[order].reshape(400, 8, 8)
    assert np.abs(m[:, :, 0].mean(axis=0)).max() < 5.0 / np.sqrt(400)
    q = m[:, :, 1:]
    assert np.abs(q.mean(axis=0)).max() < 5.0 / np.sqrt(8 * 400)
    # The variance of the square of an entry is 2 / (8 * 8) * 7 / 10.
    assert np.abs((q**2).mean(axis=0) - 1.0 / 8.0).max() < 5.0 * np.sqrt(2.0 / 64.0 * 0.7 / 400)
    products = np.einsum("aij,aij->a", q[:-1:2], q[1::2])
    assert abs(products.mean()) < 5.0 * np.sqrt(7.0 / 8.0 / 200)
    assert 0.5 < (products**2).mean() / (7.0 / 8.0) < 1.5


def test_noise_of_clones_is_independent() -> None:
    n_samples = 5000
    layer = synthetic_clones(n_samples, 4, 4, 10, 0.2, 11)
    xi = (layer.features.values - layer.signals.values @ layer.mixing.values.T) / 0.2
    z = (xi.T @ xi / n_samples - np.eye(40)) * np.sqrt(n_samples / (1.0 + np.eye(40)))
    assert np.abs(z).max() < 5.0
    assert np.abs(xi.mean(axis=0)).max() < 5.0 / np.sqrt(n_samples)
    z = xi.T @ layer.signals.values / np.sqrt(n_samples)
    assert np.abs(z).max() < 5.0


def test_neurons_are_in_random_order() -> None:
    layer = synthetic_clones(100, 4, 4, 25, 0.2, 1)
    clone = layer.clone.values
    assert clone.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(clone), [25] * 4)
    # Neighbours of one clone: 24 of the 99 pairs expected, standard deviation about 4.2, 96 if the order were kept.
    assert abs((clone[1:] == clone[:-1]).sum() - 24) < 21
    other = synthetic_clones(100, 4, 4, 25, 0.2, 2).clone.values
    assert (clone != other).any()


@pytest.mark.parametrize(("latent_dim", "noise"), [(16, 0.0), (16, 0.5), (16, 2.0), (4, 0.5)])
def test_errors_of_chunks_are_the_derived_ones(latent_dim: int, noise: float) -> None:
    n_clones, width, n_samples = 8, 16, 10_000
    ratios = []
    sizes = np.array([16, 32, 64, 128])
    for seed in range(12):
        layer = synthetic_clones(n_samples, latent_dim, n_clones, width, noise, seed)
        rng = np.random.default_rng(seed)
        wrong = np.empty((30, 4))
        for k in range(30):
            order = rng.permutation(n_clones * width)
            for place, w in enumerate(sizes):
                read = layer.features.values[:, order[:w]] @ layer.readout.values[1, order[:w]]
                wrong[k, place] = ((read > 0.0) != layer.targets.values).mean()
        ratios.append(wrong.mean(axis=0) / (np.arctan(np.sqrt((1.0 - 1.0 / width + noise**2) / sizes)) / np.pi))
    mean, error = np.mean(ratios, axis=0), np.std(ratios, axis=0, ddof=1) / np.sqrt(12)
    # The mean of a root is less than the root of a mean: by 1/8 of the relative variance of the squared disturbance,
    # 2 / (width - 1) for signals, as for chunks of independent neurons. ReLUs are not Gaussian, so allow for as much.
    assert (
        np.abs(mean - 1.0) < 5.0 * error + 2.0 * 2.0 / 8.0 / (width - 1) + (0.1 if latent_dim < width else 0.0)
    ).all()
    assert (error < 0.05).all()
    # The exponent does not depend on that.
    slopes = np.polyfit(np.log(sizes), np.log(np.array(ratios)).T, 1)[0]
    assert abs(slopes.mean()) < 5.0 * slopes.std(ddof=1) / np.sqrt(12) + 0.01
    assert slopes.std(ddof=1) < 0.1


def test_labels_and_readout_are_those_of_the_task() -> None:
    layer = synthetic_clones(3000, 4, 5, 8, 1.0, 3)
    task = layer.signals.values[:, 0]
    np.testing.assert_array_equal(layer.targets.values, task > 0.0)
    difference = layer.features.values @ (layer.readout.values[1] - layer.readout.values[0])
    # What a sum over 40 neurons reads beside the task: 35 of 40 from other signals, and the noise.
    assert abs((difference - task).var() / ((35.0 + 40.0) / 40.0**2) - 1.0) < 5.0 * np.sqrt(2.0 / 3000)


def test_clones_and_labels_do_not_depend_on_the_number_of_clones_or_the_noise() -> None:
    one, three = (synthetic_clones(200, 4, n, 9, 0.4, 8) for n in (1, 3))
    np.testing.assert_array_equal(one.targets, three.targets)
    first = three.isel(neuron=three.clone.values == 0)
    apart = np.abs(first.mixing.values[:, None] - one.mixing.values).max(axis=2)
    order = apart.argmin(axis=1)  # the same rows in another order
    np.testing.assert_allclose(apart.min(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(first.features.values, one.features.values[:, order], atol=1e-12)
    loud = synthetic_clones(200, 4, 1, 9, 2.0, 8)
    np.testing.assert_array_equal(loud.signals, one.signals)


def test_seeds() -> None:
    first, again, other = (synthetic_clones(200, 4, 3, 9, 0.4, seed) for seed in (2**64 - 1, 2**64 - 1, 0))
    xr.testing.assert_identical(first, again)
    assert (first.features.values != other.features.values).all()


def test_result_describes_itself_and_goes_to_a_file(tmp_path: Any) -> None:
    layer = synthetic_clones(np.int64(60), 4, 3, 9, np.float32(0.5), 2**64 - 1)
    assert {name: tuple(layer[name].dims) for name in layer.data_vars} == {
        "features": ("sample", "neuron"),
        "signals": ("sample", "signal"),
        "targets": ("sample",),
        "readout": ("class", "neuron"),
        "bias": ("class",),
        "clone": ("neuron",),
        "mixing": ("neuron", "signal"),
    }
    assert dict(layer.sizes) == {"sample": 60, "neuron": 27, "signal": 9, "class": 2}
    assert layer.attrs["asymptotic_error"] == 0.0
    assert layer.features.dtype == np.float64
    assert not layer.bias.values.any()
    assert (layer.attrs["noise"], layer.attrs["n_clones"], layer.attrs["width"]) == (0.5, 3, 9)
    assert layer.attrs["seed"] == str(2**64 - 1)
    layer.to_netcdf(tmp_path / "layer.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "layer.nc", engine="h5netcdf") as read:
        np.testing.assert_array_equal(read.features, layer.features)


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("n_samples", 0, ValueError, "n_samples must lie between 1 and"),
        ("n_samples", 1e4, TypeError, "n_samples must be an integer"),
        ("n_samples", 17, ValueError, r"n_samples must be at least width \+ 2 = 18 .* got 17"),
        ("latent_dim", 0, ValueError, "latent_dim must lie"),
        ("latent_dim", True, TypeError, "latent_dim must be an integer"),
        ("n_clones", 0, ValueError, "n_clones must lie"),
        ("n_clones", 2.0, TypeError, "n_clones must be an integer"),
        ("width", 0, ValueError, "width must lie"),
        ("width", "16", TypeError, "width must be an integer"),
        ("noise", -0.1, ValueError, r"noise must lie in \[0, 1e\+06\], got -0.1"),
        ("noise", 1e7, ValueError, "noise must lie in"),
        ("noise", float("nan"), ValueError, "noise must be finite"),
        ("noise", 1j, TypeError, "noise must be a real number"),
        ("noise", np.ones(3), TypeError, "noise must be a real number"),
        ("seed", -1, ValueError, "seed must lie"),
        ("seed", None, TypeError, "seed must be an integer"),
        ("n_clones", 2**31, ValueError, "clones of this size take about .* GiB .* give fewer samples or neurons"),
    ],
)
def test_bad_arguments(argument: str, value: Any, error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "n_samples": 100,
        "latent_dim": 4,
        "n_clones": 3,
        "width": 16,
        "noise": 0.5,
        "seed": 1,
        argument: value,
    }
    with pytest.raises(error, match=message):
        synthetic_clones(**arguments)


def test_dependent_signals_are_refused() -> None:
    # ReLUs of one variable cannot be independent where only forty samples tell their kinks apart.
    with pytest.raises(ValueError, match=r"width = 38 signals of 1 latent\(s\) are not independent in 40 samples"):
        synthetic_clones(40, 1, 2, 38, 0.5, 1)
    # As many signals as the sample can hold are possible where the latents are many.
    s = synthetic_clones(40, 100, 1, 38, 0.5, 1).signals.values
    np.testing.assert_allclose(s.T @ s / 40, np.eye(38), atol=1e-12)
