"""The number of clones, from spectrum and chunks, the exponent of errors, and the verdicts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from wideangle.representation import chunk_statistics, fit_clones, synthetic_clones
from wideangle.representation._decay import fit_decay
from wideangle.representation._generic_chunks import generic_residual, generic_size
from wideangle.representation._signals import find_signals

Array = NDArray[Any]


def statistics(layer: xr.Dataset, **options: Any) -> xr.Dataset:
    return chunk_statistics(
        layer.features, seed=1, readout=layer.readout, bias=layer.bias, targets=layer.targets, **options
    )


def fit_quietly(chunks: xr.Dataset, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_clones(chunks, **options)


def mixtures(n_samples: int, n_signals: int, n_neurons: int, noise: Array | float, seed: int) -> Array:
    """Independent Gaussian mixtures of signals, with noise of its own for each neuron."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_neurons, n_signals)) / np.sqrt(n_signals)
    clean = rng.standard_normal((n_samples, n_signals)) @ mixing.T
    return np.asarray(clean + noise * rng.standard_normal((n_samples, n_neurons)))


def copies(n_samples: int, n_signals: int, n_clones: int, noise: float, seed: int) -> Array:
    """Neurons that repeat single signals, which are ReLUs of a few latents."""
    rng = np.random.default_rng(seed)
    signals = np.maximum(rng.standard_normal((n_samples, 16)) @ rng.standard_normal((16, n_signals)) / 4.0, 0.0)
    repeated = np.tile(signals / signals.std(axis=0), n_clones)
    return np.asarray(repeated + noise * rng.standard_normal(repeated.shape))


@pytest.mark.parametrize("n_clones", [2, 4, 8])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3, 1.0])
def test_clones_are_counted(n_clones: int, noise: float) -> None:
    for latent_dim, seed in ((40, 2), (4, 3)):
        layer = synthetic_clones(5000, latent_dim, n_clones, 32, noise, seed)
        fit = fit_clones(statistics(layer), asymptotic_error=0.0)
        assert fit.attrs["decided"] == 1
        assert fit.attrs["reason"] == ""
        assert (float(fit.critical_width), float(fit.n_clones)) == (32.0, float(n_clones))
        # The second way, random chunks, sees the same width.
        assert 0.9 * n_clones < float(fit.n_clones_low) <= n_clones <= float(fit.n_clones_high) < 1.1 * n_clones
        assert float(fit.r2_limit) == pytest.approx((2.0 - 1.0 / 32) / (2.0 - 1.0 / 32 + noise**2), rel=0.01)
        verdicts = dict(zip(fit.signature.values, fit.verdict.values, strict=True))
        assert verdicts["r2"] == "agrees"
        assert verdicts["training error"] == "not measured"
        assert verdicts["residual correlation"] == ("agrees" if noise else "not measured")


@pytest.mark.parametrize("seed", [3, 25, 28])
def test_a_number_is_tried_though_its_neighbour_is_given_up(seed: int) -> None:
    # Layers in which 33 or 34 signals look likely at first.
    layer = synthetic_clones(20_000, 16, 2, 32, 0.3, seed)
    fit = fit_clones(chunk_statistics(layer.features, seed=seed))
    assert (fit.attrs["decided"], float(fit.critical_width), float(fit.n_clones)) == (1, 32.0, 2.0)


@pytest.mark.parametrize(("n_neurons", "noise"), [(64, 0.3), (128, 1.0), (256, 1.0)])
def test_neurons_that_are_independent_mixtures(n_neurons: int, noise: float) -> None:
    # Noise and scale differ from neuron to neuron.
    rng = np.random.default_rng(5)
    features = mixtures(10_000, 32, n_neurons, noise * np.exp(0.3 * rng.standard_normal(n_neurons)), 6)
    features *= np.exp(rng.standard_normal(n_neurons))
    fit = fit_clones(chunk_statistics(features, seed=1))
    assert float(fit.critical_width) == 32.0
    assert float(fit.n_clones) == n_neurons / 32
    assert list(fit.verdict.values) == ["not measured", "not measured", "agrees", "agrees"]


@pytest.mark.parametrize("n_clones", [2, 4, 8])
def test_random_chunks_of_copies_miss_some(n_clones: int) -> None:
    # Each neuron repeats one of 32 signals: 32 of the right neurons know them all, but random ones do not.
    fit = fit_clones(chunk_statistics(copies(10_000, 32, n_clones, 0.1, 1), seed=1))
    assert float(fit.n_clones) == n_clones
    assert float(fit.critical_width_low) == 32.0
    assert float(fit.critical_width_high) > 1.2 * 32
    assert fit.verdict.values[2] == "disagrees"


def narrow(n_neurons: int, n_clones: int = 4, noise: float = 0.3) -> Array:
    layer = synthetic_clones(10_000, 16, n_clones, 32, noise, 1)
    return np.asarray(layer.features.values[:, :n_neurons])


def neighbours(n_neurons: int, n_samples: int, correlation: float, seed: int) -> Array:
    places = np.arange(n_neurons)
    factor = np.linalg.cholesky(correlation ** np.abs(places[:, None] - places))
    return np.asarray(np.random.default_rng(seed).standard_normal((n_samples, n_neurons)) @ factor.T)


def decaying(n_neurons: int, length: float) -> Array:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((n_neurons, n_neurons)))[0]
    return np.asarray(rng.standard_normal((5000, n_neurons)) * np.exp(-np.arange(n_neurons) / length) @ rotation.T)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        *[(narrow(n), "") for n in (8, 16, 24, 32, 40)],
        *[(narrow(n, 8, 1.0), "") for n in (16, 24, 40)],
        (narrow(32, 1), ""),
        (narrow(32, 1, 2.0), ""),
        (mixtures(10_000, 32, 48, 0.5, 1), ""),
        (np.random.default_rng(1).standard_normal((5000, 64)), "neurons share no signal"),
        # Neurons that determine each other without noise, but ever less.
        (decaying(64, 0.5), "goes to zero without a gap"),
        (decaying(256, 3.0), "goes to zero without a gap"),
        (synthetic_clones(5000, 16, 4, 32, 9e-6, 1).features.values, "goes to zero without a gap"),
        (1e-160 * narrow(128), "0 independent neurons"),
        (mixtures(10_000, 32, 64, 3.0, 1), "the weakest of .* so near the noise"),
        (mixtures(60, 8, 64, 0.3, 1), "60 samples of .* are too few"),
        # 60 samples are linear functions of any 59 neurons, which says nothing of signals.
        (np.random.default_rng(1).standard_normal((60, 128)), "60 samples of .* are too few"),
        # Ever weaker signals: there is no number of them.
        (mixtures(10_000, 64, 64, 0.1, 1) @ np.diag(1.0 / np.arange(1, 65)) @ mixtures(64, 64, 64, 0.0, 2), ""),
    ],
)
@pytest.mark.filterwarnings("ignore:features have 60 samples")
def test_too_little_to_decide(features: Array, reason: str) -> None:
    chunks = chunk_statistics(features, seed=1, n_chunks=5)
    with pytest.warns(UserWarning, match=f"cannot decide: .*{reason}"):
        fit = fit_clones(chunks)
    assert fit.attrs["decided"] == 0
    assert fit.attrs["reason"]
    for name in ("critical_width", "n_clones", "n_clones_low", "n_clones_high", "exponent"):
        assert np.isnan(float(fit[name]))
    assert set(fit.verdict.values) == {"not measured"}


@pytest.mark.parametrize(("n_neurons", "n_samples", "correlation"), [(16, 1000, 0.3), (16, 300, 0.5), (32, 2000, 0.3)])
def test_correlations_of_neighbours_rarely_pass_for_clones(n_neurons: int, n_samples: int, correlation: float) -> None:
    # There is no number of signals; few neurons may look as if there were one.
    found = [
        find_signals(np.cov(neighbours(n_neurons, n_samples, correlation, seed).T), n_samples) for seed in range(20)
    ]
    assert sum(not each.reason for each in found) <= 2


def test_exact_copies_and_constants_are_not_clones_of_their_own() -> None:
    layer = synthetic_clones(4000, 16, 4, 16, 0.3, 1)
    x = layer.features.values
    # Constant neurons do not count; nor do neurons that others determine change the number of signals.
    more = np.c_[x, np.full((4000, 3), 2.0), x[:, 0], x[:, 1] - x[:, 2]]
    fit = fit_clones(chunk_statistics(more, seed=1))
    assert float(fit.critical_width) == 16.0
    assert float(fit.n_clones) == 66 / 16


def test_dead_neurons_and_the_form_of_the_dataset_do_not_matter() -> None:
    layer = synthetic_clones(5000, 16, 4, 32, 0.3, 1)
    plain = fit_clones(statistics(layer), asymptotic_error=0.0)
    turned = statistics(layer)
    turned = turned.transpose(*reversed(list(turned.dims))).isel(chunk_size=slice(None, None, -1))
    other = fit_clones(turned, asymptotic_error=0.0, training=turned).sortby("chunk_size")
    known = ["measured", "critical_width_low", "critical_width_high", "exponent"]
    xr.testing.assert_allclose(plain[known].isel(signature=slice(1, None)), other[known].isel(signature=slice(1, None)))
    assert float(other.measured[0]) > 0.0
    dead = np.c_[layer.features.values, np.ones((5000, 150))]
    fit = fit_clones(chunk_statistics(dead, seed=1))
    assert float(fit.n_clones) == 4.0
    assert float(fit.n_clones_low) > 3.6
    assert list(fit.verdict.values[2:]) == ["agrees", "agrees"]


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e30])
def test_scales_of_features(scale: float) -> None:
    layer = synthetic_clones(5000, 16, 4, 32, 0.3, 1)
    chunks = chunk_statistics(scale * layer.features, seed=1, ridge=0.0)
    fit = fit_clones(chunks)
    assert float(fit.n_clones) == 4.0
    assert list(fit.verdict.values[2:]) == ["agrees", "agrees"]


def test_few_signals_and_training_without_the_whole_layer_are_not_measured() -> None:
    layer = synthetic_clones(5000, 4, 16, 2, 0.3, 1)
    fit = fit_clones(statistics(layer), asymptotic_error=0.0, training=statistics(layer, chunk_sizes=[2, 8]))
    assert float(fit.n_clones) == 16.0
    assert [str(fit.verdict[place].values) for place in (0, 2)] == ["not measured", "not measured"]
    assert np.isnan(float(fit.n_clones_low))


def test_the_law_of_generic_chunks_against_random_projections() -> None:
    # A covariance with directions of its eigenvectors at random, and regressions on its first neurons by hand.
    rng = np.random.default_rng(1)
    size = 300
    eigenvalues = np.r_[np.full(60, 5.0), np.geomspace(1.0, 1e-3, 240)]
    left = []
    sizes = np.array([1, 30, 60, 100, 200, 299])
    for _ in range(10):
        q = np.linalg.qr(rng.standard_normal((size, size)))[0]
        s = q * eigenvalues @ q.T
        left.append([np.trace(s - s[:, :w] @ np.linalg.solve(s[:w, :w], s[:w])) for w in sizes])
    mean, error = np.mean(left, axis=0), np.std(left, axis=0, ddof=1) / np.sqrt(10)
    predicted = generic_residual(eigenvalues, sizes)
    # The law is that of many neurons: what is beside it is of the order of a neuron more or less.
    step = np.abs(
        generic_residual(eigenvalues, sizes - 0.5) - generic_residual(eigenvalues, np.minimum(sizes + 0.5, 299.5))
    )
    assert (np.abs(mean - predicted) < 5.0 * error + step).all()
    np.testing.assert_allclose(generic_size(eigenvalues, predicted), sizes, rtol=1e-9)
    assert generic_residual(eigenvalues, 0.0) == pytest.approx(eigenvalues.sum(), rel=1e-9)


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_generic_r2_is_that_of_random_chunks(noise: float) -> None:
    chunks = statistics(synthetic_clones(5000, 16, 8, 32, noise, 1))
    fit = fit_clones(chunks, asymptotic_error=0.0)
    gap = np.abs((chunks.r2_mean - fit.r2_generic).values)
    # Not for one or two neurons, each of which knows the task, which is half of the variance.
    assert gap[3:5].max() < 0.005
    assert gap[5:].max() < 0.005
    assert fit.r2_generic.values[-1] == pytest.approx(1.0)


def power_law(exponent: float, limit: float, seed: int = 0, scatter: float = 0.05, n_chunks: int = 40) -> xr.Dataset:
    """Statistics of 8 clones of 32 whose errors follow a power, with relative scatter between chunks."""
    chunks = statistics(synthetic_clones(2000, 16, 8, 32, 0.3, 1), n_chunks=n_chunks)
    rng = np.random.default_rng(seed)
    w = chunks.chunk_size.values[:, None]
    amplitude = 2.0 * (1.0 + scatter * np.sqrt(1.0 - w / 256) * rng.standard_normal((len(w), n_chunks)))
    changed: xr.Dataset = chunks.assign(error=(("chunk_size", "chunk"), limit + amplitude * w**exponent))
    return changed


@pytest.mark.parametrize("exponent", [-0.5, -1.0, -0.3])
@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_a_power_is_found(exponent: float, limit: float) -> None:
    exact = power_law(exponent, limit, scatter=1e-6)
    for given in (limit, None):
        fit = fit_clones(exact, asymptotic_error=given)
        # With a free limit, as fine as the grid of limits.
        assert float(fit.exponent) == pytest.approx(exponent, abs=1e-5 if given is not None else 0.03)
        np.testing.assert_allclose(fit.error_fit[5:], exact.error.mean("chunk")[5:], rtol=1e-2)
    fit = fit_clones(power_law(exponent, limit), asymptotic_error=limit)
    assert float(fit.exponent_low) < exponent < float(fit.exponent_high)
    assert float(fit.exponent_high) - float(fit.exponent_low) < 0.3
    verdict = str(fit.verdict.sel(signature="test error").values)
    assert (
        verdict
        in {-0.5: ("agrees", "not resolved"), -1.0: ("disagrees",), -0.3: ("disagrees", "not resolved")}[exponent]
    )
    assert str(fit_clones(exact, asymptotic_error=limit).verdict.sel(signature="test error").values) == (
        "agrees" if exponent == -0.5 else "disagrees"
    )


@pytest.mark.parametrize("sizes", [(32, 64, 128, 256), (160, 192, 224, 256)])
def test_intervals_of_the_exponent_cover(sizes: tuple[int, ...]) -> None:
    # Layers drawn at random: neurons with disturbances in 31 dimensions; errors are lengths of their means.
    rng = np.random.default_rng(3)
    inside, runs = 0, 300
    for _ in range(runs):
        layer = rng.standard_normal((256, 31))
        sums = np.array([np.cumsum(layer[rng.permutation(256)], axis=0)[np.array(sizes) - 1] for _ in range(40)])
        errors = 0.3 * np.linalg.norm(sums, axis=2) / np.array(sizes)
        decay = fit_decay(errors, np.array(sizes), 256, 0.0, confidence=0.95, seed=1)
        inside += decay.low < -0.5 < decay.high
    # Five sigma of a binomial of 0.95.
    assert abs(inside / runs - 0.95) < 5.0 * np.sqrt(0.95 * 0.05 / runs)


@pytest.mark.slow
@pytest.mark.parametrize("n_clones", [2, 4, 8])
@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
def test_errors_of_synthetic_chunks_go_like_the_root_of_the_width(n_clones: int, noise: float) -> None:
    exponents = []
    sizes = np.unique(np.round(np.geomspace(32, 32 * n_clones, 4 * int(np.log2(n_clones)) + 1)).astype(int))
    for seed in range(4):
        layer = synthetic_clones(50_000, 16, n_clones, 32, noise, seed)
        fit = fit_clones(statistics(layer, chunk_sizes=sizes, n_chunks=100), asymptotic_error=0.0)
        assert float(fit.n_clones) == n_clones
        assert float(fit.exponent_low) < -0.5 < float(fit.exponent_high)
        exponents.append(float(fit.exponent))
    # The derived error, an arcus tangent, has -0.48 to -0.5 on average over these sizes; layers scatter by up to 0.025.
    assert abs(np.mean(exponents) + 0.5) < 0.05
    assert np.std(exponents, ddof=1) < 0.05


def test_verdict_on_the_training_error() -> None:
    chunks = power_law(-0.5, 0.0)
    perfect = chunks.assign(error=chunks.error * 0.0)
    wrong = perfect.assign(error=perfect.error + 0.05 * (perfect.chunk_size == 32))
    verdicts = [
        str(fit_clones(chunks, asymptotic_error=0.0, training=each).verdict[0].values) for each in (perfect, wrong)
    ]
    assert verdicts == ["agrees", "disagrees"]


def test_a_critical_width_can_be_given() -> None:
    chunks = statistics(synthetic_clones(4000, 16, 1, 64, 0.5, 1))
    fit = fit_clones(chunks, asymptotic_error=0.0, critical_width=8)
    assert (float(fit.critical_width), float(fit.n_clones)) == (8.0, 8.0)
    assert fit.attrs["decided"] == 0
    assert np.isfinite(float(fit.exponent))


def test_an_exponent_that_cannot_be_fitted() -> None:
    chunks = statistics(synthetic_clones(4000, 16, 2, 32, 0.5, 1))
    with pytest.warns(
        UserWarning, match="cannot decide: .* 2 chunk sizes from the critical width on, and it takes 4; give"
    ):
        fit = fit_clones(chunks)
    assert float(fit.n_clones) == 2.0
    assert np.isnan(float(fit.exponent))
    assert "it takes 4" in fit.attrs["exponent_reason"]
    with pytest.warns(UserWarning, match="only 0 chunk sizes .* errors above the asymptotic error of 0.5"):
        fit_clones(chunks, asymptotic_error=0.5)


def test_results_are_the_same_each_time_and_go_to_a_file(tmp_path: Any) -> None:
    chunks = statistics(synthetic_clones(3000, 16, 4, 16, 0.5, 1))
    first, again = (fit_clones(chunks, asymptotic_error=0.0) for _ in range(2))
    xr.testing.assert_identical(first, again)
    chunks.to_netcdf(tmp_path / "chunks.nc", engine="h5netcdf")
    first.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "chunks.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(fit_clones(read, asymptotic_error=0.0), first)


def test_bad_arguments() -> None:
    layer = synthetic_clones(500, 4, 4, 8, 0.5, 1)
    chunks, bare = statistics(layer), chunk_statistics(layer.features, seed=1)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"statistics": layer.features.values}, TypeError, "statistics must be a Dataset, got ndarray"),
        (
            {"statistics": layer},
            ValueError,
            r"statistics must be statistics of chunks, got a Dataset without \['covariance",
        ),
        ({"statistics": statistics(layer, n_chunks=1)}, ValueError, "statistics must hold at least 2 chunks"),
        ({"asymptotic_error": -0.1}, ValueError, r"asymptotic_error must lie in \[0, 1\), got -0.1"),
        ({"asymptotic_error": "0"}, TypeError, "asymptotic_error must be a real number"),
        ({"statistics": bare, "asymptotic_error": 0.0}, ValueError, "asymptotic_error needs errors of chunks"),
        ({"critical_width": 33}, ValueError, "critical_width must lie between 1 and the 32 neurons, got 33"),
        ({"critical_width": True}, TypeError, "critical_width must be a real number"),
        ({"training": bare}, ValueError, "training must have errors of chunks"),
        ({"training": 3}, TypeError, "training must be a Dataset"),
        (
            {"training": statistics(synthetic_clones(500, 4, 2, 8, 0.5, 1))},
            ValueError,
            "training must be of the same layer",
        ),
        ({"statistics": chunks.isel(chunk=0)}, ValueError, "statistics must hold at least 2 chunks"),
    ]
    for given, error, message in cases:
        arguments = {"statistics": chunks} | given
        with pytest.raises(error, match=message):
            fit_clones(arguments.pop("statistics"), **arguments)


def test_layers_without_a_number_of_signals_are_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each step of a trial takes one QR factorisation. Five trials of up to five rounds take 400.
    steps = []
    qr = np.linalg.qr

    def counted(matrix: Array) -> Any:
        steps.append(matrix.shape)
        return qr(matrix)

    covariance = np.cov(neighbours(128, 2000, 0.3, 0).T)
    monkeypatch.setattr(np.linalg, "qr", counted)
    found = find_signals(covariance, 2000)
    assert "so near the noise" in found.reason
    assert 0 < len(steps) < 100
