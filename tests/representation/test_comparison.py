"""Estimates beside the truth of synthetic clones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.representation import chunk_statistics, compare, fit_clones, synthetic_clones


@pytest.fixture(scope="module")
def comparison() -> xr.Dataset:
    return compare((2, 3, 8), (0.1, 1.0), width=16, n_samples=8000, n_runs=3, seed=2**64 - 1)


def test_clones_are_counted_and_errors_are_the_derived_ones(comparison: xr.Dataset) -> None:
    assert dict(comparison.sizes) == {"n_clones": 3, "noise": 2, "run": 3, "chunk_size": comparison.sizes["chunk_size"]}
    np.testing.assert_array_equal(comparison.relative_error, 0.0)
    np.testing.assert_array_equal(comparison.critical_width_estimate, 16.0)
    assert (comparison.n_clones_estimate_low <= comparison.n_clones_estimate).all()
    # Of 18 intervals of 95 %, three or more miss by chance in 6 % of cases; they are meant for layers drawn at random.
    assert comparison.exponent_covered.sum() >= 16
    ratio = (comparison.error / comparison.error_predicted).sel(chunk_size=slice(16, None))
    # One layer scatters by its single boundary, of which 14 other signals are taken at random: up to ten percent.
    assert abs(ratio.mean("run").sel(n_clones=8).mean().item() - 1.0) < 0.05
    assert (abs(ratio.sel(n_clones=8) - 1.0) < 0.3).all()
    assert abs((comparison.r2 - comparison.r2_generic).sel(chunk_size=slice(16, None))).max() < 0.02


def test_sizes_reach_to_each_layer(comparison: xr.Dataset) -> None:
    sizes = comparison.chunk_size.values
    assert {1, 2, 4, 8, 16, 19, 32, 48, 128} <= set(sizes)
    for n in (2, 3, 8):
        known = comparison.error.sel(n_clones=n).notnull().all(["noise", "run"])
        np.testing.assert_array_equal(known, sizes <= 16 * n)


def test_runs_are_layers_of_successive_seeds(comparison: xr.Dataset) -> None:
    layer = synthetic_clones(8000, 16, 3, 16, 1.0, 1)
    sizes = comparison.chunk_size.values[comparison.chunk_size.values <= 48]
    chunks = chunk_statistics(
        layer.features, chunk_sizes=sizes, seed=1, readout=layer.readout, bias=layer.bias, targets=layer.targets
    )
    fit = fit_clones(chunks, asymptotic_error=0.0)
    here = comparison.sel(n_clones=3, noise=1.0, run=2)
    assert float(here.exponent_estimate) == float(fit.exponent)
    np.testing.assert_array_equal(here.error.values[: len(sizes)], chunks.error_mean)


def test_what_cannot_be_decided_is_missing_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loud = compare((2,), (5.0,), width=8, n_samples=300, n_runs=1, seed=1)
    assert loud.n_clones_estimate.isnull().all()
    assert loud.relative_error.isnull().all()
    assert not loud.exponent_covered.any()
    assert loud.error.notnull().all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_clones": (1, 2)}, ValueError, r"n_clones\[0\] must lie between 2 and"),
        ({"n_clones": (4, 2)}, ValueError, "n_clones must hold increasing numbers"),
        ({"n_clones": 4}, TypeError, "n_clones must be a sequence of integers"),
        ({"noise": (-0.1, 1.0)}, ValueError, r"noise must lie in \[0,"),
        ({"noise": (1.0, 0.5)}, ValueError, "noise must increase"),
        ({"width": 1}, ValueError, "width must lie"),
        ({"n_samples": 20}, ValueError, "n_samples must lie between 34 and"),
        ({"n_runs": 0}, ValueError, "n_runs must lie"),
        ({"n_chunks": 1}, ValueError, "n_chunks must lie between 2 and"),
        ({"n_threads": 0}, ValueError, "n_threads must lie"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"seed": -1}, ValueError, "seed must lie"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare(**({"seed": 1} | arguments))


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    compare((2,), (0.5,), width=8, n_samples=500, n_runs=2, seed=1, progress=True)
    assert "2/2" in capsys.readouterr().err.replace(".00", "")
