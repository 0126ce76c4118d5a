"""Networks of finite width beside the predicted first step: rates, extrapolation, and what a wrong prediction does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import comparison, predict_first_step
from wideangle.parametrization.comparison import _extrapolate, _rate, compare

DATA = np.random.default_rng(5).standard_normal((8, 4))
WIDTHS = (100, 200, 400, 800)


def test_rates_of_known_powers() -> None:
    rng = np.random.default_rng(0)
    slopes, errors = [], []
    for _ in range(200):
        squares = rng.chisquare(3, (4, 16)) / np.array(WIDTHS)[:, None]
        slope, error = _rate(squares, np.array(WIDTHS, float))
        slopes.append(slope)
        errors.append(error)
    assert abs(np.mean(slopes) + 0.5) < 5.0 * np.std(slopes) / np.sqrt(200)
    # A jackknife's error is right to within some per cent.
    assert abs(np.mean(errors) / np.std(slopes) - 1.0) < 0.25


def test_extrapolation_of_known_lines() -> None:
    rng = np.random.default_rng(1)
    m = np.array(WIDTHS, float)
    z = []
    for _ in range(300):
        roots = np.sqrt(m)[:, None, None]
        outputs = 2.0 + (3.0 + rng.standard_normal((2, 4, 12, 1))) / roots
        intercept, error = _extrapolate(outputs, m)
        z.append((intercept - 2.0) / error)
    assert abs(np.mean(z)) < 5.0 / np.sqrt(600)
    assert abs(np.std(z) - 1.0) < 0.15


@pytest.mark.parametrize(("n_hidden", "step", "n_samples"), [(2, 1.5, 1), (3, -1.5, 1), (2, 1.0, 2)])
def test_networks_approach_the_prediction_and_the_hybrid(n_hidden: int, step: float, n_samples: int) -> None:
    x0 = DATA[0] if n_samples == 1 else DATA[:n_samples]
    run = compare(n_hidden, x0, DATA[2:5], step=step, widths=WIDTHS, n_networks=24, seed=1)
    assert dict(run.output.sizes) == {"scaling": 2, "width": 4, "network": 24, "input": 3}
    assert np.all(np.abs(run.z) < 5.0)
    # The next order, 1/m, bends the lines: by some tenths at these widths.
    assert abs(run.rate + 0.5) < 5.0 * run.rate_error + 0.2
    assert abs(run.hybrid_rate + 0.5) < 5.0 * run.hybrid_rate_error + 0.2
    assert run.hybrid_gap[-1] < run.gap[-1]


def test_a_wrong_prediction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = predict_first_step
    monkeypatch.setattr(comparison, "predict_first_step", lambda *args, **more: _doubled(right(*args, **more)))
    run = compare(2, DATA[0], DATA[2:5], step=3.0, widths=WIDTHS, n_networks=24, seed=1)
    assert np.all(np.abs(run.z[0]) > 5.0)
    assert abs(run.rate) < 0.2


def _doubled(predicted: Any) -> Any:
    return predicted.assign(output=2.0 * predicted.output)


def test_one_hidden_layer_is_the_same_in_both_scalings() -> None:
    run = compare(1, DATA[0], DATA[2:5], step=1.0, widths=WIDTHS[:3], n_networks=4)
    np.testing.assert_allclose(run.output.sel(scaling="hp"), run.output.sel(scaling="ip-llr"), rtol=1e-4, atol=1e-5)


def test_networks_without_a_gap_have_no_rate() -> None:
    # Powers of a power of four are exact.
    run = compare(1, [1.0, 2.0], [0.5, 1.0], step=1.0, widths=(16, 64, 256), n_networks=3)
    np.testing.assert_array_equal(run.hybrid_gap, 0.0)
    assert np.isnan(run.hybrid_rate)
    assert np.isnan(run.hybrid_rate_error)
    assert np.isfinite(run.rate)


def test_repeats_and_takes_a_point() -> None:
    one, same = (compare(2, DATA[0], DATA[1], step=1.0, widths=(20, 40, 80), n_networks=3, seed=4) for _ in range(2))
    assert one.identical(same)
    assert one.output.dims == ("scaling", "width", "network")
    assert one.attrs["widths"] == [20, 40, 80]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": (10, 20)}, ValueError, "at least 3"),
        ({"widths": (10, 30, 20)}, ValueError, "increase"),
        ({"widths": 100}, TypeError, "widths"),
        ({"widths": (1, 2, 3)}, ValueError, r"widths\[0\]"),
        ({"n_networks": 1}, ValueError, "n_networks"),
        ({"step": 0.0}, ValueError, "step"),
        ({"n_hidden": 0}, ValueError, "n_hidden"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"n_hidden": 2, "step": 1.0} | change
    with pytest.raises(error, match=message):
        compare(arguments.pop("n_hidden"), DATA[0], DATA[1:3], **arguments)
