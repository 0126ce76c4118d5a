"""The ensemble against tables made without its algebra, against exact one-layer laws, and against itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths

REFERENCE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "reference" / "angles.json").read_text(encoding="utf-8")
)
SIGMA = 5.0


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"theta0={case['theta0']:.2g}")
def test_moments_agree_with_plain_simulation(case: dict[str, Any]) -> None:
    n_samples = 400_000
    ensemble = wa.propagation.simulate_angles(
        wa.MLP(case["widths"]), case["theta0"], n_samples=n_samples, seed=20230209
    )
    for row in case["layers"]:
        at = ensemble.sel(layer=row["layer"])
        mean_error = math.hypot(float(at.mean_standard_error), row["mean_se"])
        assert abs(float(at["mean"]) - row["mean"]) < SIGMA * mean_error
        variance_error = math.hypot(float(at.variance_standard_error), row["var_se"])
        assert abs(float(at.variance) - row["var"]) < SIGMA * variance_error
        # The norm's own standard errors: normal theory for the mean, and for the variance twice that of a Gaussian,
        # which covers the excess kurtosis of ln chi^2 down to five neurons.
        inverse = 1 / row["survivors"] + 1 / float(at.survivors)
        norm_variance = row["log_norm2_var"]
        assert abs(float(at.log_norm2_mean) - row["log_norm2_mean"]) < SIGMA * math.sqrt(norm_variance * inverse)
        assert abs(float(at.log_norm2_variance) - norm_variance) < 2 * SIGMA * norm_variance * math.sqrt(2 * inverse)
        for name in ("collapsed", "dead"):
            pooled = (row[name] + int(at[name])) / (case["samples"] + n_samples)
            error = math.sqrt(pooled * (1 - pooled) * (1 / case["samples"] + 1 / n_samples))
            assert abs(row[name] / case["samples"] - int(at[name]) / n_samples) <= SIGMA * error
        assert int(at.survivors + at.collapsed + at.dead) == n_samples


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"theta0={case['theta0']:.2g}")
def test_quantiles_agree_with_plain_simulation(case: dict[str, Any]) -> None:
    samples = wa.propagation.simulate_angles(
        wa.MLP(case["widths"]), case["theta0"], n_samples=100_000, seed=7, keep="samples"
    )
    for row in case["layers"]:
        x = samples.log_sin2.sel(layer=row["layer"]).values
        x = x[np.isfinite(x)]
        for name, quantile in row["quantiles"].items():
            p = float(name)
            # The share below a sampled quantile is binomial in both samples, whatever the law. A right angle has
            # positive probability, and the table rounds its logarithm, so an atom at 0 may lie on either side.
            error = math.sqrt(p * (1 - p) * (1 / x.size + 1 / row["survivors"]))
            assert np.mean(x < quantile - 1e-12) - p < SIGMA * error
            assert np.mean(x <= quantile + 1e-12) - p > -SIGMA * error


def small_angle_law(n: int) -> dict[str, float]:
    """Mean and variance of ln(chi2_{K-1}/chi2_K) and of ln(2 chi2_K/n), K ~ Binomial(n, 1/2) given K >= 2."""
    k = np.arange(2, n + 1)
    weight = stats.binom.pmf(k, n, 0.5)
    weight = weight / weight.sum()

    def mixture(mean: Any, variance: Any) -> tuple[float, float]:
        centre = float(weight @ mean)
        return centre, float(weight @ (variance + (mean - centre) ** 2))

    drift = special.digamma((k - 1) / 2) - special.digamma(k / 2)
    spread = special.polygamma(1, (k - 1) / 2) + special.polygamma(1, k / 2)
    norm = special.digamma(k / 2) + math.log(4 / n)
    x_mean, x_variance = mixture(drift, spread)
    norm_mean, norm_variance = mixture(norm, special.polygamma(1, k / 2))
    return {"mean": x_mean, "variance": x_variance, "norm_mean": norm_mean, "norm_variance": norm_variance}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5, 12, 14, 26, 100])
def test_one_layer_at_small_angle_is_bartlett(n: int) -> None:
    n_samples = 10_000_000
    theta0 = 1e-12
    at = wa.propagation.simulate_angles(wa.MLP((n,)), theta0, n_samples=n_samples, seed=n).sel(layer=1)
    law = small_angle_law(n)
    assert abs(float(at["mean"]) - 2 * math.log(theta0) - law["mean"]) < SIGMA * float(at.mean_standard_error)
    assert abs(float(at.variance) - law["variance"]) < SIGMA * float(at.variance_standard_error)
    survivors = float(at.survivors)
    norm_error = math.sqrt(law["norm_variance"] / survivors)
    assert abs(float(at.log_norm2_mean) - law["norm_mean"]) < SIGMA * norm_error
    # Only neurons active on both inputs are left at this angle: none is death, one is collapse.
    for name, probability in (("dead", 0.5**n), ("collapsed", n * 0.5**n)):
        error = math.sqrt(probability * (1 - probability) * n_samples)
        assert abs(int(at[name]) - n_samples * probability) <= SIGMA * error + 0.5


@pytest.mark.parametrize("n", [4, 13, 40])
def test_one_layer_distribution_at_small_angle(n: int) -> None:
    theta0 = 1e-9
    samples = wa.propagation.simulate_angles(wa.MLP((n,)), theta0, n_samples=400_000, seed=3 + n, keep="samples")
    x = samples.log_sin2.sel(layer=1).values
    x = x[np.isfinite(x)] - 2 * math.log(theta0)
    k = np.arange(2, n + 1)
    weight = stats.binom.pmf(k, n, 0.5) / stats.binom.sf(1, n, 0.5)
    grid = np.linspace(-60.0, 60.0, 200_001)
    ratio = np.exp(grid)
    cdf = sum(w * stats.f.cdf(ratio * m / (m - 1), m - 1, m) for w, m in zip(weight, k, strict=True))
    assert stats.kstest(x, lambda at: np.interp(at, grid, cdf)).pvalue > 1e-6


@pytest.mark.parametrize("n", [3, 20])
def test_opposite_inputs_become_orthogonal(n: int) -> None:
    # At pi every neuron is active on exactly one input, so the overlap is zero and X = 0 unless one input died.
    n_samples = 200_000
    samples = wa.propagation.simulate_angles(wa.MLP((n,)), math.pi, n_samples=n_samples, seed=n, keep="samples")
    alive = samples.status.values == 0
    assert np.all(samples.log_sin2.sel(layer=1).values[alive] == 0.0)
    probability = 2 * 0.5**n
    error = math.sqrt(probability * (1 - probability) * n_samples)
    assert abs(np.count_nonzero(~alive) - probability * n_samples) <= SIGMA * error + 0.5
    assert not np.any(samples.status.values == 1)


def test_float32_sums_do_not_bias_wide_layers() -> None:
    # One layer of 20,000 neurons from a right angle: the overlap is 1/pi of the norms, up to fluctuations.
    n, n_samples = 20_000, 4096
    at = wa.propagation.simulate_angles(wa.MLP((n,)), math.pi / 2, n_samples=n_samples, seed=5).sel(layer=1)
    sin2 = 1 - (1 / math.pi) ** 2
    # The 1/n term of E ln sin^2 is of order 1 in units of 1/n.
    assert abs(float(at["mean"]) - math.log(sin2)) < SIGMA * float(at.mean_standard_error) + 3 / n


def bits(dataset: xr.Dataset) -> dict[str, bytes]:
    return {str(name): variable.values.tobytes() for name, variable in dataset.data_vars.items()}


@pytest.mark.parametrize("keep", ["moments", "samples"])
def test_every_cpu_path_and_thread_count_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    assert "baseline" in cpu_paths()
    net = wa.MLP((7, 30, 200, 12))

    def run(n_threads: int) -> dict[str, bytes]:
        return bits(wa.propagation.simulate_angles(net, 2.0, n_samples=3000, seed=9, keep=keep, n_threads=n_threads))

    expected = run(1)
    for path in cpu_paths():
        monkeypatch.setenv(CPU_PATH_VARIABLE, path)
        assert run(3) == expected


def test_unknown_cpu_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CPU_PATH_VARIABLE, "sse9")
    with pytest.raises(ValueError, match=r"WIDEANGLE_CPU_PATH.*baseline.*sse9"):
        wa.propagation.simulate_angles(wa.MLP((4,)), 1.0, n_samples=1, seed=0)


@given(
    first=st.integers(0, 700),
    count=st.integers(1, 400),
    seed=st.integers(0, 2**64 - 1),
    theta0=st.floats(1e-300, math.pi),
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_sample_k_does_not_depend_on_the_run(
    first: int, count: int, seed: int, theta0: float, widths: list[int]
) -> None:
    net = wa.MLP(widths)
    whole = wa.propagation.simulate_angles(net, theta0, n_samples=first + count, seed=seed, keep="samples")
    part = wa.propagation.simulate_angles(
        net, theta0, n_samples=count, seed=seed, keep="samples", first_sample=first, n_threads=1
    )
    xr.testing.assert_identical(whole.isel(sample=slice(first, None)).drop_attrs(), part.drop_attrs())
    alive = part.status == 0
    assert bool((part.log_sin2.where(alive, 0.0) <= 0.0).all())
    assert bool(np.isfinite(part.log_sin2.where(alive, 0.0)).all())
    assert bool(np.isfinite(part.log_norm2.where(alive, 0.0)).all())


def test_other_seeds_layers_and_samples_are_independent() -> None:
    net = wa.MLP((64, 64))
    first = wa.propagation.simulate_angles(net, 1e-6, n_samples=100_000, seed=1, keep="samples")
    second = wa.propagation.simulate_angles(net, 1e-6, n_samples=100_000, seed=2, keep="samples")
    step1 = np.diff(first.log_sin2.values, axis=1)
    step2 = np.diff(second.log_sin2.values, axis=1)
    bound = SIGMA / math.sqrt(100_000)
    assert abs(np.corrcoef(step1[:, 0], step1[:, 1])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:, 0], step2[:, 0])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:-1, 0], step1[1:, 0])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:-16, 0], step1[16:, 0])[0, 1]) < bound


def test_moments_are_those_of_the_samples() -> None:
    net = wa.MLP((8, 5, 12))
    arguments: dict[str, Any] = {"n_samples": 5000, "seed": 4}
    moments = wa.propagation.simulate_angles(net, 0.9, **arguments, histogram=(-6.0, 0.0, 24))
    samples = wa.propagation.simulate_angles(net, 0.9, **arguments, keep="samples")
    for layer in range(4):
        x = samples.log_sin2.sel(layer=layer).values
        alive = np.isfinite(x)
        at = moments.sel(layer=layer)
        assert int(at.survivors) == alive.sum()
        assert int(at.dead) == np.isnan(x).sum()
        assert int(at.collapsed) == np.isneginf(x).sum()
        np.testing.assert_allclose(at["mean"], x[alive].mean(), rtol=1e-13)
        np.testing.assert_allclose(at.variance, x[alive].var(ddof=1), rtol=1e-11, atol=1e-25)
        norm = samples.log_norm2.sel(layer=layer).values
        np.testing.assert_allclose(at.log_norm2_mean, norm[alive].mean(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(at.log_norm2_variance, norm[alive].var(ddof=1), rtol=1e-11)
        counts, _ = np.histogram(x[alive], bins=24, range=(-6.0, 0.0))
        np.testing.assert_array_equal(at.histogram.values[:-1], counts[:-1])
        assert int(at.histogram.sum() + at.underflow + at.overflow) == alive.sum()
        assert int(at.underflow) == np.count_nonzero(x[alive] < -6.0)
    assert float(samples.log_norm2.sel(layer=0).max()) == 0.0


def test_standard_errors_cover_repeated_runs() -> None:
    net = wa.MLP((20,) * 3)
    runs = [
        wa.propagation.simulate_angles(net, 0.5, n_samples=2000, seed=1, first_sample=2000 * i).sel(layer=3)
        for i in range(400)
    ]
    for name in ("mean", "variance"):
        values = np.array([float(run[name]) for run in runs])
        quoted = np.mean([float(run[f"{name}_standard_error"]) for run in runs])
        # The spread of 400 runs is known to 1/sqrt(800) = 3.5 %.
        assert abs(values.std(ddof=1) / quoted - 1) < SIGMA / math.sqrt(800)


def test_weight_variance_scales_the_norm_alone() -> None:
    he = wa.propagation.simulate_angles(wa.MLP((30, 30)), 0.4, n_samples=500, seed=2)
    other = wa.propagation.simulate_angles(wa.MLP((30, 30), weight_variance=3.0), 0.4, n_samples=500, seed=2)
    np.testing.assert_array_equal(he["mean"], other["mean"])
    np.testing.assert_allclose(other.log_norm2_mean - he.log_norm2_mean, np.arange(3) * math.log(1.5), atol=1e-12)


def test_result_survives_a_file(tmp_path: Path) -> None:
    result = wa.propagation.simulate_angles(
        wa.MLP((9, 4)), 0.7, n_samples=200, seed=2**64 - 1, histogram=(-5.0, 0.0, 8)
    )
    result.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.load(), result)
        assert again.attrs["seed"] == str(2**64 - 1)
        assert list(again.attrs["widths"]) == [9, 4]


def test_memory_does_not_grow_with_samples(peak_memory: Callable[[str], int]) -> None:
    code = """
    import wideangle as wa
    net = wa.MLP((64,) * 10)
    wa.propagation.simulate_angles(net, 0.1, n_samples=1_000_000, seed=1, histogram=(-20, 0, 400))
    """
    assert peak_memory(code) < 150 * 2**20


@pytest.mark.parametrize("widths", ["(64,) * 10", "(2**31,)"])
def test_interrupt_leaves_the_process_usable(interrupt: Callable[[str, str, str], str], widths: str) -> None:
    rest = interrupt(
        "import wideangle as wa",
        f"wa.propagation.simulate_angles(wa.MLP({widths}), 0.1, n_samples=10**12, seed=1)",
        "print(int(wa.propagation.simulate_angles(wa.MLP((8,)), 0.1, n_samples=10, seed=1).survivors[0]))",
    )
    assert rest == "10\n"


def test_progress_reaches_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    wa.propagation.simulate_angles(wa.MLP((8,)), 0.1, n_samples=1000, seed=1, progress=True)
    assert "1.00k/1.00k" in capsys.readouterr().err


GOOD: dict[str, Any] = {"net": wa.MLP((4, 4)), "theta0": 0.5, "n_samples": 10, "seed": 1}
NAMES = {"count": "n_samples", "first": "first_sample"}
BAD = [
    *[("theta0", value) for value in (0, -0.1, math.nan, math.inf, 3.1416, 4, "0.1", None, True, 1j, [0.1])],
    *[("histogram", value) for value in (5, (0.0, 1.0), (1.0, 0.0, 4), (0.0, math.nan, 4), (0.0, 1.0, 0), "abc")],
    ("net", wa.MLP((4,), bias_variance=0.1)),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_arguments_are_named(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_angles(**(GOOD | {name: value}))


def test_bad_arguments_of_every_ensemble_are_named(bad_argument: tuple[str, Any]) -> None:
    name, value = NAMES.get(bad_argument[0], bad_argument[0]), bad_argument[1]
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_angles(**(GOOD | {name: value}))


def test_samples_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_samples = .*GiB.*keep='moments'"):
        wa.propagation.simulate_angles(wa.MLP((4,) * 100), 0.5, n_samples=10**14, seed=1, keep="samples")
