"""Errors of trained networks and of their chunks beside the predicted power of the width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.representation import chunk_statistics, compare_training, train_widths
from wideangle.representation.training_comparison import _width_decay

pytestmark = pytest.mark.filterwarnings("ignore:features have")


@pytest.fixture(scope="module")
def trained() -> xr.Dataset:
    data = wa.data.load_digits(seed=1)
    return train_widths(data, (8, 12, 32), n_runs=3, until=3, weight_decay=3e-3, keep=[0], seed=1)


@pytest.fixture(scope="module")
def comparison(trained: xr.Dataset) -> xr.Dataset:
    return compare_training(trained, critical_width=4, n_chunks=6, seed=2**64 - 1)


def test_numbers_are_those_of_chunks(trained: xr.Dataset, comparison: xr.Dataset) -> None:
    assert list(comparison.chunk_size.values) == [1, 2, 4, 8, 12, 16, 32]
    layer = trained.sel(kept="last", run=1)
    head = {"readout": layer.readout_12, "bias": layer.bias_12}
    sizes = [1, 2, 4, 8, 12]
    for part in ("train", "test"):
        chunks = chunk_statistics(
            layer[f"{part}_features_12"],
            chunk_sizes=sizes,
            n_chunks=6,
            seed=2**64 - 1,
            targets=layer[f"{part}_targets"],
            **head,
        )
        here = comparison.sel(width=12, run=1)
        np.testing.assert_array_equal(here[f"{part}_error"].sel(chunk_size=sizes), chunks.error_mean)
        if part == "train":
            for name in ("r2", "residual_correlation", "r2_outside", "residual_correlation_outside"):
                np.testing.assert_array_equal(here[name].sel(chunk_size=sizes), chunks[f"{name}_mean"])
        assert here[f"{part}_error"].sel(chunk_size=[16, 32]).isnull().all()
    np.testing.assert_allclose(comparison.full_error, trained.final_test_error, atol=1e-12)


def test_the_asymptotic_error_is_that_of_the_ensemble_of_the_widest(
    trained: xr.Dataset, comparison: xr.Dataset
) -> None:
    total: Any = 0.0
    for run in range(3):
        layer = trained.sel(kept="last", run=run)
        logits = layer.test_features_32.values @ layer.readout_32.values.T + layer.bias_32.values
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        total = total + odds / odds.sum(axis=1, keepdims=True)
    assert float(comparison.asymptotic_error) == (total.argmax(axis=1) != trained.test_targets.values).mean()


def test_kept_and_given_values(trained: xr.Dataset) -> None:
    start = compare_training(
        trained, kept="0", asymptotic_error=0.01, critical_width=4, regress="test", n_chunks=3, seed=1
    )
    assert float(start.asymptotic_error) == 0.01
    np.testing.assert_allclose(start.full_error, trained.test_error.sel(epoch=0), atol=1e-12)
    np.testing.assert_array_equal(start.critical_width, 4.0)
    np.testing.assert_array_equal(start.n_clones.isel(run=0), [2.0, 3.0, 8.0])


def test_networks_that_diverged_are_missing(trained: xr.Dataset) -> None:
    broken = trained.copy(deep=True)
    for name in ("train_features_32", "test_features_32", "readout_32", "bias_32"):
        broken[name][1] = np.nan
    found = compare_training(broken, critical_width=4, n_chunks=3, seed=1)
    assert found.full_error.sel(width=32).isnull().values.tolist() == [False, True, False]
    assert str(found.reason.sel(width=32, run=1).values) == "the network diverged"
    assert found.r2.sel(width=32, run=1).isnull().all()
    assert np.isfinite(float(found.asymptotic_error))
    for name in ("test_features_32", "readout_32"):
        broken[name][:] = np.nan
    with pytest.raises(ValueError, match="all networks of width 32 diverged"):
        compare_training(broken, critical_width=4, n_chunks=3, seed=1)


def test_the_power_of_the_width_and_its_interval() -> None:
    widths = np.array([16, 32, 64, 128, 256])
    rng = np.random.default_rng(1)
    inside, runs = 0, 400
    for _ in range(runs):
        errors = 0.02 + 0.4 * widths[:, None] ** -0.5 * (1.0 + 0.1 * rng.standard_normal((5, 4)))
        decay = _width_decay(errors, widths, 0.02)
        inside += decay.low < -0.5 < decay.high
    # Five sigma around 0.95, and two percent more, as the scatter above the limit is not the same at all widths.
    assert abs(inside / runs - 0.95) < 5.0 * np.sqrt(0.95 * 0.05 / runs) + 0.02
    errors[2, 3] = np.nan
    assert np.isfinite(_width_decay(errors, widths, 0.02).exponent)
    errors[1, 1:3] = np.nan
    assert "fewer than two runs" in _width_decay(errors, widths, 0.02).reason


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"trained": 3}, TypeError, "trained must be the result of train_widths, got int"),
        ({"kept": "1"}, ValueError, "kept must be one of '0', 'last', got '1'"),
        ({"regress": "all"}, ValueError, "regress must be one of"),
        ({"asymptotic_error": 1.0}, ValueError, r"asymptotic_error must lie in \[0, 1\), got 1.0"),
        ({"critical_width": 9}, ValueError, "critical_width must lie between 1 and 8, the least width, got 9"),
        ({"n_chunks": 1}, ValueError, "n_chunks must lie between 2"),
        ({"seed": -1}, ValueError, "seed must lie"),
        ({"n_threads": 0}, ValueError, "n_threads must lie"),
        ({"progress": None}, TypeError, "progress must be True or False"),
    ],
)
def test_bad_arguments(trained: xr.Dataset, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"trained": trained, "seed": 1} | arguments
    with pytest.raises(error, match=message):
        compare_training(given.pop("trained"), **given)
    with pytest.raises(ValueError, match="trained must have at least 2 runs"):
        compare_training(trained.isel(run=[0]), seed=1)


def test_progress(trained: xr.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    compare_training(trained, critical_width=4, n_chunks=2, seed=1, progress=True)
    assert "9.00/9.00" in capsys.readouterr().err
