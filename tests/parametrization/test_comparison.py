"""Networks of finite width beside the predicted first step: rates, extrapolation, and what a wrong prediction does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import comparison, predict_first_step
from wideangle.parametrization.comparison import compare

DATA = np.random.default_rng(5).standard_normal((8, 4))
WIDTHS = (100, 200, 400, 800)


@pytest.mark.parametrize(("n_hidden", "step", "n_samples"), [(2, 1.5, 1), (3, -1.5, 1), (2, 1.0, 2)])
def test_networks_approach_the_prediction_and_the_hybrid(n_hidden: int, step: float, n_samples: int) -> None:
    x0 = DATA[0] if n_samples == 1 else DATA[:n_samples]
    run = compare(n_hidden, x0, DATA[2:5], step=step, widths=WIDTHS, n_networks=300, seed=1)
    assert dict(run.output.sizes) == {"scaling": 2, "width": 4, "network": 300, "input": 3}
    assert np.all(np.abs(run.z) < 5.0)
    # What is left of higher orders are some hundredths at these widths.
    assert abs(run.rate + 0.5) < 5.0 * run.rate_error
    assert abs(run.hybrid_rate + 0.5) < 5.0 * run.hybrid_rate_error + 0.1
    assert run.rate_error < 0.3
    assert run.hybrid_rate_error < 0.15
    assert run.hybrid_gap[-1] < run.gap[-1]


def test_a_wrong_prediction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = predict_first_step
    monkeypatch.setattr(comparison, "predict_first_step", lambda *args, **more: _doubled(right(*args, **more)))
    run = compare(2, DATA[0], DATA[2:5], step=3.0, widths=WIDTHS, n_networks=200, seed=1)
    assert np.all(np.abs(run.z[0]) > 5.0)
    assert run.rate > -0.5 + 5.0 * run.rate_error


def _doubled(predicted: Any) -> Any:
    return predicted.assign(output=2.0 * predicted.output)


@pytest.mark.slow
@pytest.mark.parametrize("n_hidden", [2, 3, 4])
def test_rate_and_limit_of_widths_up_to_thousands(n_hidden: int) -> None:
    for step in (1.0, -2.0):
        run = compare(
            n_hidden,
            DATA[0],
            DATA[1:5],
            step=step,
            widths=(500, 1000, 2000, 4000, 8000),
            n_networks=1000,
            seed=3,
            n_threads=2,
        )
        assert abs(run.rate + 0.5) < 0.1
        assert run.rate_error < 0.08
        assert abs(run.hybrid_rate + 0.5) < 0.1
        assert np.all(np.abs(run.z) < 3.0)


def test_networks_of_pytorch() -> None:
    pytest.importorskip("torch")
    run = compare(2, DATA[0], DATA[2:5], step=1.5, widths=WIDTHS, n_networks=48, seed=2, method="pytorch")
    assert np.all(np.abs(run.z) < 5.0)
    assert abs(run.rate + 0.5) < 5.0 * run.rate_error
    assert run.attrs["method"] == "pytorch"


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


def test_an_input_of_zero_has_no_distance_from_its_limit() -> None:
    run = compare(2, DATA[0], [DATA[1], np.zeros(4)], step=1.0, widths=(20, 40, 80), n_networks=4)
    np.testing.assert_array_equal(run.z[:, 1], 0.0)
    assert np.all(run.z[:, 0] != 0.0)


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
        ({"method": "jax"}, ValueError, "method"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"n_hidden": 2, "step": 1.0} | change
    with pytest.raises(error, match=message):
        compare(arguments.pop("n_hidden"), DATA[0], DATA[1:3], **arguments)
