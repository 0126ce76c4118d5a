"""Predictions against ensembles: the z-scores are what they say, and tell right laws from wrong ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa

METHODS = ("infinite-width", "finite-width", "finite-width-linear", "small-angle")


@pytest.fixture(scope="module")
def comparison() -> xr.Dataset:
    return wa.propagation.compare_angles(wa.MLP((40,) * 6), 1e-8, n_samples=200_000, seed=3)


def test_parts_are_those_of_the_two_functions(comparison: xr.Dataset) -> None:
    net = wa.MLP((40,) * 6)
    ensemble = wa.propagation.simulate_angles(net, 1e-8, n_samples=200_000, seed=3)
    for name in ("mean", "variance", "mean_standard_error", "variance_standard_error"):
        np.testing.assert_array_equal(comparison[f"ensemble_{name}"], ensemble[name])
    for name in ("survivors", "collapsed", "dead"):
        np.testing.assert_array_equal(comparison[name], ensemble[name])
    assert tuple(comparison.predictor.values) == METHODS
    for method in METHODS:
        prediction = wa.propagation.predict_angles(net, 1e-8, method=method)
        at = comparison.sel(predictor=method)
        np.testing.assert_array_equal(at.log_sin2, prediction.log_sin2)
        np.testing.assert_array_equal(at.variance, prediction.variance)
        expected = (ensemble["mean"] - prediction.log_sin2)[1:] / ensemble.mean_standard_error[1:]
        np.testing.assert_allclose(at.z_mean[1:], expected, rtol=1e-12)
        expected = (ensemble.variance - prediction.variance)[1:] / ensemble.variance_standard_error[1:]
        np.testing.assert_allclose(at.z_variance[1:], expected, rtol=1e-12)
        assert math.isnan(at.z_mean[0])
        assert math.isnan(at.z_variance[0])


def test_exact_law_passes_and_approximations_are_told_apart(comparison: xr.Dataset) -> None:
    # At 1e-8 the digamma law is exact; the others lack terms of order 1/n^2 or all of 1/n, seen 200,000 networks deep.
    exact = comparison.sel(predictor="small-angle")
    assert float(abs(exact.z_mean[1:]).max()) < 5
    assert float(abs(exact.z_variance[1:]).max()) < 5
    for method in ("infinite-width", "finite-width", "finite-width-linear"):
        other = comparison.sel(predictor=method)
        assert float(abs(other.z_mean[1:]).min()) > 5
        assert float(abs(other.z_variance[1:]).min()) > 5


def test_exact_passes_at_narrow_widths() -> None:
    """Collapsing pairs and unequal layers included; the published rule, off by half a unit of X, does not pass."""
    methods = ("exact", "expansion", "finite-width")
    result = wa.propagation.compare_angles(wa.MLP((6, 9, 4, 12)), 2.6, n_samples=400_000, seed=11, methods=methods)
    assert float(abs(result.z_mean.sel(predictor="exact")[1:]).max()) < 5
    assert float(abs(result.z_variance.sel(predictor="exact")[1:]).max()) < 5
    for method in ("expansion", "finite-width"):
        assert float(abs(result.z_mean.sel(predictor=method)[1:]).min()) > 5


def test_chosen_methods_keep_their_order() -> None:
    chosen = ["small-angle", "infinite-width"]
    result = wa.propagation.compare_angles(wa.MLP((8,)), 0.1, n_samples=10, seed=1, methods=chosen)
    assert result.predictor.values.tolist() == chosen
    assert result.attrs["methods"] == chosen


@pytest.mark.parametrize("methods", [(), "small-angle", ("guess",), (1,), ("small-angle", "small-angle"), None])
def test_bad_methods_are_named(methods: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"methods.*small-angle"):
        wa.propagation.compare_angles(wa.MLP((8,)), 0.1, n_samples=10, seed=1, methods=methods)


@pytest.mark.parametrize(("name", "value"), [("n_samples", 0), ("seed", -1), ("n_threads", 0), ("progress", 2)])
def test_bad_arguments_are_named(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"n_samples": 10, "seed": 1, name: value}
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.compare_angles(wa.MLP((8,)), 0.1, **arguments)
