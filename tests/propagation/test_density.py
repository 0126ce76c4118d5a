"""Predicted densities against exact convolutions, direct integration of the printed formulas, and chains."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

import wideangle as wa
from wideangle.propagation import predict_angle_density, predict_angles, rules
from wideangle.propagation._transitions import small_angle_log_density

METHODS = ("finite-width", "finite-width-linear", "small-angle")
FIGURE = wa.MLP(widths=(256,) * 32)
with (Path(__file__).parents[1] / "reference" / "angles.json").open(encoding="utf-8") as _file:
    REFERENCE = json.load(_file)


def printed_theorem1(theta: Any, n: int) -> tuple[Any, Any]:
    """Mean and variance as arXiv 2302.09712 prints them, good to 1e-12 for angles of order 1."""
    s, c, rest = np.sin(theta), np.cos(theta), math.pi - theta
    j11 = (s + rest * c) / (2 * math.pi)
    j22 = (rest * (2 * c**2 + 1) + 3 * s * c) / (2 * math.pi)
    j31 = (3 * rest * c + s * c**2 + 2 * s) / (2 * math.pi)
    d = 8 * j11**2 * j22 - 8 * j11**4 + 4 * j11**2 - 8 * j11 * j31 + j22 + 1
    t, spread = 1 - 4 * j11**2, 4 * j22 - 1 + n
    mean = np.log((n - 1) * t / spread) + 4 * n * (j22 + 1) / spread**2 - 4 * n * d / ((n - 1) * t) ** 2
    variance = 8 * n * (j22 + 1) / spread**2 + 8 * n * d / ((n - 1) * t) ** 2
    return mean, variance - 16 * n * (2 * j11**2 - 4 * j11 * j31 + j22 + 1) / (spread * (n - 1) * t)


def rho(n: int) -> float:
    return math.log((n + 5) / (n - 1)) - 10 * n / (n + 5) ** 2 + 6 * n / (n - 1) ** 2


def truncated_normal(x: Any, mean: Any, variance: Any) -> Any:
    sd = np.sqrt(variance)
    return stats.norm.pdf(x, mean, sd) / stats.norm.cdf(-mean / sd)


@pytest.mark.parametrize("theta0", [1e-300, 1e-12])
@pytest.mark.parametrize("widths", [(256,) * 32, (2, 2**31), (2**31, 2, 50), (5, 5000, 5)])
def test_normals_convolve_at_small_angles(theta0: float, widths: tuple[int, ...]) -> None:
    """Where theta is negligible Approximation 2 is a sum of independent normals; 1e-7 of the peak is the promise."""
    angles = predict_angle_density(wa.MLP(widths), theta0, method="finite-width-linear")
    means = 2 * math.log(theta0) - np.cumsum([rho(n) for n in widths])
    variances = np.cumsum([8 * n / (n + 5) ** 2 for n in widths])
    for index, (mean, sd) in enumerate(zip(means, np.sqrt(variances), strict=True)):
        layer = angles.isel(layer=index)
        # X near -1400 is rounded to 2e-13, and its square root, on which the density stands, likewise.
        tolerance = 1e-7 + 2e-12 / sd
        assert abs(float(layer["mean"]) - mean) < tolerance * sd
        assert abs(float(layer.variance) / sd**2 - 1) < tolerance
        exact = stats.norm.pdf(angles.log_sin2, mean, sd)
        assert_allclose(layer.density, exact, rtol=0, atol=tolerance * stats.norm.pdf(0) / sd)


@pytest.mark.parametrize("n", [2, 3, 10, 300, 513, 20_000])
def test_small_angle_kernel(n: int) -> None:
    """Against the binomial mixture of beta-prime densities, the law of a ratio of gamma variables."""
    reach = 10 * math.isqrt(n) + 10
    counts = np.arange(max(2, n // 2 - reach), min(n, n // 2 + reach) + 1)
    weights = stats.binom.pmf(counts, n, 0.5)
    steps = np.linspace(-12.0, 6.0, 37) * math.sqrt(8.0 / (n + 5.0))
    ratio = np.exp(steps)[:, None]
    mixture = stats.betaprime.pdf(ratio, 0.5 * (counts - 1), 0.5 * counts) * ratio @ (weights / weights.sum())
    # The beta function of that reference loses digits as its arguments grow.
    assert_allclose(np.exp(small_angle_log_density(n, steps)), mixture, rtol=1e-12 * max(10, n))


def test_small_angle_kernel_of_wide_layers_is_normal() -> None:
    """Its standardised third and fourth cumulants are below 1/n."""
    n = 2**31
    mean, variance = rules.small_angle_rule(n)
    steps = mean + math.sqrt(variance) * np.linspace(-5.0, 5.0, 11)
    exact = stats.norm.pdf(steps, mean, math.sqrt(variance))
    assert_allclose(np.exp(small_angle_log_density(n, steps)), exact, rtol=1e-7)


@pytest.mark.parametrize("widths", [(2,) * 12, (3, 40, 2), (256,) * 20, (2**31, 6, 700)])
def test_small_angle_moments_add_up(widths: tuple[int, ...]) -> None:
    """The kernel does not depend on X, so means and variances of the convolution are sums, to the accuracy 1e-7."""
    density = predict_angle_density(wa.MLP(widths), 1e-30, method="small-angle")
    exact = predict_angles(wa.MLP(widths), 1e-30, method="small-angle").sel(layer=slice(1, None))
    sd = np.sqrt(exact.variance)
    assert (np.abs(density["mean"] - exact.log_sin2) < 1e-7 * sd).all()
    assert_allclose(density.variance, exact.variance, rtol=1e-7)


@pytest.mark.parametrize("theta0", [0.7, math.pi / 2, 2.5])
@pytest.mark.parametrize("widths", [(8, 64), (64, 8), (20, 3000)])
def test_two_layers_by_direct_integration(theta0: float, widths: tuple[int, int]) -> None:
    """The second density as the integral over X of the first, in the printed formulas and SciPy's adaptive rule."""
    angles = predict_angle_density(wa.MLP(widths), theta0)
    mean, variance = printed_theorem1(theta0, widths[0])
    assert_allclose(
        angles.density[0],
        truncated_normal(angles.log_sin2, mean, variance),
        rtol=0,
        atol=1e-7 * float(angles.density[0].max()),
    )

    def integrand(s: float, x: float) -> Any:
        theta = np.arcsin(np.exp(-0.5 * s**2))
        return (
            truncated_normal(x, *printed_theorem1(theta, widths[1])) * truncated_normal(-(s**2), mean, variance) * 2 * s
        )

    lowest = mean - 9 * math.sqrt(variance)
    knots = np.sqrt(-np.linspace(min(0.0, mean + 9 * math.sqrt(variance)), lowest, 30))
    second = angles.isel(layer=1)
    sought = float(second["mean"]) + math.sqrt(second.variance) * np.array([-3.0, -1.0, 0.0, 0.6, 1.2])
    for x in second.log_sin2.sel(log_sin2=sought[sought < 0], method="nearest").values:
        exact = sum(integrate.quad(integrand, a, b, args=(x,))[0] for a, b in itertools.pairwise(knots))
        assert abs(float(second.density.sel(log_sin2=x)) - exact) < 1e-7 * float(second.density.max())


def below_zero(draw: Any, size: int) -> Any:
    """Draw values one by one until each is at most 0."""
    x = draw(np.arange(size))
    while (above := np.flatnonzero(x > 0.0)).size:
        x[above] = draw(above)
    return x


def chain(rng: np.random.Generator, method: str, theta0: float, widths: tuple[int, ...], samples: int) -> Any:
    """Samples of X in every layer, drawn from the law of one layer at a time."""
    x = np.full(samples, 2 * math.log(math.sin(theta0)))
    theta = np.full(samples, theta0)
    layers = []
    for n in widths:

        def draw(index: Any, x: Any = x, theta: Any = theta, n: int = n) -> Any:
            if method == "small-angle":
                active = rng.binomial(n, 0.5, index.size)
                while (lost := np.flatnonzero(active < 2)).size:
                    active[lost] = rng.binomial(n, 0.5, lost.size)
                return x[index] + np.log(rng.chisquare(active - 1) / rng.chisquare(active))
            if method == "finite-width":
                mean, variance = printed_theorem1(theta[index], n)
            else:
                mean, variance = x[index] - 2 / (3 * math.pi) * theta[index] - rho(n), 8 * n / (n + 5) ** 2
            return mean + np.sqrt(variance) * rng.standard_normal(index.size)

        x = below_zero(draw, samples)
        theta = np.arcsin(np.exp(0.5 * x))
        layers.append(x)
    return layers


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("theta0", "widths", "samples"),
    [(0.1, (256,) * 30, 20_000), (1.4, (30, 12, 50), 100_000), (0.4, (4, 100, 7), 100_000)],
)
def test_against_chains(method: str, theta0: float, widths: tuple[int, ...], samples: int) -> None:
    """Mean, variance and distribution function of 20,000 or more chains, at five standard errors."""
    angles = predict_angle_density(wa.MLP(widths), theta0, method=method)
    layers = chain(np.random.default_rng(len(widths)), method, theta0, widths, samples)
    for index in {0, 1, len(widths) - 1}:
        x, layer = layers[index], angles.isel(layer=index)
        deviations = (x - x.mean()) ** 2
        assert abs(x.mean() - float(layer["mean"])) < 5 * x.std() / math.sqrt(samples)
        assert abs(deviations.mean() - float(layer.variance)) < 5 * deviations.std() / math.sqrt(samples)
        grid = layer.log_sin2.values
        cumulative = integrate.cumulative_trapezoid(layer.density.values, grid, initial=0.0)
        distance = stats.kstest(x, lambda values, c=cumulative, g=grid: np.interp(values, g, c)).statistic
        # Dvoretzky, Kiefer, Wolfowitz: exceeded with the two-sided probability of five standard deviations, 6e-7.
        assert distance < math.sqrt(math.log(2 / 5.7e-7) / (2 * samples)) + 1e-4


@pytest.mark.parametrize(("theta0", "widths"), [(0.1, (256,) * 32), (1.0, (10**6,) * 32), (0.5, (30,) * 10)])
def test_gaussian_closure_is_close(theta0: float, widths: tuple[int, ...]) -> None:
    """The chain of Theorem 1 and its Gaussian closure differ by less than 1 % of the standard deviation."""
    angles = predict_angle_density(wa.MLP(widths), theta0)
    closed = predict_angles(wa.MLP(widths), theta0).sel(layer=slice(1, None))
    sd = np.sqrt(closed.variance)
    assert (np.abs(angles["mean"] - closed.log_sin2) < 0.01 * sd).all()
    assert (np.abs(np.sqrt(angles.variance) / sd - 1) < 0.01).all()
    if widths[0] > 30:
        # Nothing is cut off at 0 in the first layer.
        assert_allclose(angles["mean"][0], closed.log_sin2[0], rtol=1e-12)
        assert_allclose(angles.variance[0], closed.variance[0], rtol=1e-9)


def test_the_figure() -> None:
    """Layer 30 of the figure spreads by 0.834 and 0.844 under the published laws; 0.95 without the contraction."""
    for method, sd in (("finite-width", 0.834), ("finite-width-linear", 0.844)):
        angles = predict_angle_density(FIGURE, 0.1, method=method)
        assert round(math.sqrt(angles.variance.sel(layer=30)), 3) == sd
        assert_allclose(angles.density.integrate("log_sin2"), 1.0, rtol=1e-10)
        assert_allclose((angles.density * angles.log_sin2).integrate("log_sin2"), angles["mean"], rtol=1e-10)
        assert_allclose(np.diff(angles.log_sin2), np.ptp(angles.log_sin2.values) / 2000, rtol=1e-9)


def remainders(n: int) -> tuple[float, float]:
    """What Theorem 1 leaves out of mean and variance at angle 0, where the exact law is known: O(1/n^2)."""
    shift, variance = rules.theorem1(np.zeros(1), n)
    exact_shift, exact_variance = rules.small_angle_rule(n)
    return abs(float(shift[0]) - exact_shift), abs(float(variance[0]) - exact_variance)


@pytest.mark.parametrize("layer", [1, 10, 30])
def test_quantiles_of_the_reference_ensemble(layer: int) -> None:
    """Theorem 1 is off in mean and variance by its remainders, and so the quantile z standard deviations out by z times
    the error of the standard deviation; five standard errors of the sample quantile on top."""
    entry = REFERENCE[0]
    predicted = predict_angle_density(wa.MLP(entry["widths"]), entry["theta0"]).sel(layer=layer)
    grid, density = predicted.log_sin2.values, predicted.density.values
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0.0)
    mean_bound, variance_bound = layer * np.array(remainders(256))
    sd = math.sqrt(float(predicted.variance))
    for name, observed in entry["layers"][layer - 1]["quantiles"].items():
        level = float(name)
        quantile = float(np.interp(level, cumulative, grid))
        error = math.sqrt(level * (1 - level) / entry["samples"]) / float(np.interp(quantile, grid, density))
        bound = mean_bound + abs(stats.norm.ppf(level)) * variance_bound / (2 * sd) + 5 * error
        assert abs(quantile - observed) < bound


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("theta0", [math.pi / 2, math.pi - 1e-3, math.pi])
def test_widest_layers_and_largest_angles(theta0: float, method: str) -> None:
    """At theta0 = pi the first density of Theorem 1 is 6e-94 wide at -2e-90, and yet the coordinate resolves it."""
    angles = predict_angle_density(wa.MLP([2**31] * 3), theta0, method=method)
    closed = predict_angles(wa.MLP([2**31] * 3), theta0, method=method).sel(layer=slice(1, None))
    assert_allclose(angles.density.integrate("log_sin2"), 1.0, rtol=1e-3)
    if method == "finite-width":
        assert_allclose(angles["mean"], closed.log_sin2, rtol=1e-8)
        assert_allclose(angles.variance, closed.variance, rtol=1e-6)


def test_narrow_layers_get_more_points() -> None:
    """The first layer is 16,000 times narrower than the second; evenly spaced points would all miss it."""
    angles = predict_angle_density(wa.MLP([2**31, 10]), 1.0)
    sd = math.sqrt(float(angles.variance[0]))
    within = np.abs(angles.log_sin2 - angles["mean"][0]) < 5 * sd
    assert int(within.sum()) in (80, 81)
    assert_allclose(angles.density.integrate("log_sin2"), 1.0, rtol=1e-5)


def test_layout_and_provenance() -> None:
    angles = predict_angle_density(wa.MLP([30, 20]), 0.5, n_points=301)
    assert angles.density.dims == ("layer", "log_sin2")
    assert angles.density.shape == (2, 301)
    assert angles["mean"].dims == angles.variance.dims == ("layer",)
    assert_array_equal(angles.layer, [1, 2])
    assert angles.attrs["method"] == "finite-width"
    assert angles.attrs["n_points"] == 301
    assert "2302.09712" in angles.attrs["source"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(2, 2**31), min_size=1, max_size=3),
    st.one_of(st.floats(1e-300, math.pi), st.floats(-300.0, 0.0).map(lambda exponent: 10.0**exponent)),
    st.sampled_from(METHODS),
)
def test_every_density_is_one(widths: list[int], theta0: float, method: str) -> None:
    angles = predict_angle_density(wa.MLP(widths), theta0, method=method)
    x = angles.log_sin2.values
    assert (np.diff(x) > 0).all()
    assert x[-1] <= 0.0
    assert np.isfinite(angles.density).all()
    assert (angles.density >= 0.0).all()
    assert (angles["mean"] < 0.0).all()
    assert (angles.variance > 0.0).all()
    # With at least 8 points per standard deviation, a jump of height up to 1.3/sd costs half a spacing at most.
    assert_allclose(angles.density.integrate("log_sin2"), 1.0, atol=0.08)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, 10**6), min_size=2, max_size=4), st.floats(0.01, 3.0), st.sampled_from(METHODS))
def test_a_layer_knows_nothing_of_those_after_it(widths: list[int], theta0: float, method: str) -> None:
    whole = predict_angle_density(wa.MLP(widths), theta0, method=method)
    part = predict_angle_density(wa.MLP(widths[:-1]), theta0, method=method)
    assert_array_equal(part["mean"], whole["mean"][:-1])
    assert_array_equal(part.variance, whole.variance[:-1])


def test_infinite_width_has_no_density() -> None:
    with pytest.raises(ValueError, match=r"^method must have fluctuations, got 'infinite-width'.*or predict_angles"):
        predict_angle_density(FIGURE, 0.1, method="infinite-width")


@pytest.mark.parametrize("method", METHODS)
def test_width_one(method: str) -> None:
    with pytest.raises(ValueError, match=r"^widths\[2\] must be at least 2 for method .*, got 1;.*widen it"):
        predict_angle_density(wa.MLP([5, 5, 1]), 0.5, method=method)


@pytest.mark.parametrize("bad", [-1, 0, 15, 10**7 + 1, 10**30])
def test_points_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"^n_points must lie between 16 and 10000000, got {bad}; give"):
        predict_angle_density(FIGURE, 0.1, n_points=bad)


@settings(deadline=None)
@given(st.one_of(st.floats(max_value=0.0), st.floats(min_value=math.nextafter(math.pi, 4.0)), st.just(math.nan)))
def test_theta0_out_of_range(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"^theta0 must .* got {re.escape(repr(bad))}; give the angle"):
        predict_angle_density(FIGURE, bad)


def test_other_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"^n_points must be an integer, got 100.0"):
        predict_angle_density(FIGURE, 0.1, n_points=100.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^method must be one of .*, got 'exact'"):
        predict_angle_density(FIGURE, 0.1, method="exact")
    with pytest.raises(TypeError, match=r"^net must be a wideangle.MLP"):
        predict_angle_density([256], 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"bias_variance must be 0, got 0.1;"):
        predict_angle_density(wa.MLP([30], bias_variance=0.1), 0.1)
