"""Networks of finite width beside the training at infinite width: what is returned, and what a wrong limit does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import compare_training, limit_comparison, simulate_limit

DATA = np.random.default_rng(5).standard_normal((8, 4))
SMALL: dict[str, Any] = {"widths": (10, 20, 40), "n_networks": 4, "n_particles": 64, "n_replicas": 4}


def test_rates_and_limits_step_by_step() -> None:
    run = compare_training(
        2,
        DATA[:2],
        [1.0, -1.0],
        DATA[2:5],
        n_steps=3,
        learning_rate=0.5,
        first_learning_rate=1.5,
        widths=(125, 250, 500, 1000, 2000),
        n_networks=200,
        seed=1,
    )
    assert np.all(np.abs(run.z) < 5.0)
    assert np.all(np.abs(run.rate + 0.5) < 5.0 * run.rate_error)
    assert np.all(run.rate_error < 0.25)
    assert np.all(np.abs(run.hybrid_rate + 0.5) < 5.0 * run.hybrid_rate_error + 0.1)
    assert np.all(run.limit_error < 0.1 * run.gap.min())
    assert np.all(run.gap[:, -1] < 0.5 * run.gap[:, 0])
    # The limit stands for every step, the first one included.
    expected = simulate_limit(
        *(2, DATA[:2], [1.0, -1.0], DATA[2:5]),
        n_steps=3,
        learning_rate=0.5,
        first_learning_rate=1.5,
        n_particles=2**12,
        seed=1,
    )
    np.testing.assert_array_equal(run.limit, expected.output[1:])


def test_a_wrong_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def delayed(*args: Any, **more: Any) -> Any:
        right = simulate_limit(*args, **more)
        return right.assign(output=right.output.shift(step=1, fill_value=0.0))

    monkeypatch.setattr(limit_comparison, "simulate_limit", delayed)
    run = compare_training(
        *(2, DATA[:2], [1.0, -1.0], DATA[2:5]),
        n_steps=2,
        learning_rate=1.0,
        first_learning_rate=3.0,
        widths=(125, 250, 500, 1000),
        n_networks=200,
    )
    assert np.all(np.abs(run.z).max(("scaling", "input")) > 7.0)
    assert np.all(run.rate > -0.5 + 3.0 * run.rate_error)


@pytest.mark.parametrize("method", ["conditional", "pytorch"])
def test_names_and_shapes(method: Any) -> None:
    if method == "pytorch":
        pytest.importorskip("torch")
    rates: dict[str, Any] = {"n_steps": 2, "learning_rate": 0.5, "method": method}
    run = compare_training(2, DATA[:3], [0, 2, 1], loss="cross-entropy", n_outputs=3, **rates, **SMALL)
    sizes = {"step": 2, "scaling": 2, "width": 3, "network": 4, "input": 3, "unit": 3}
    assert dict(run.output.sizes) == sizes
    assert run.limit.dims == ("step", "input", "unit")
    assert run.z.dims == ("step", "scaling", "input", "unit")
    assert run.rate.dims == ("step",)
    assert run.gap.dims == ("step", "width")
    assert run.step.values.tolist() == [1, 2]
    assert run.attrs["widths"] == [10, 20, 40]
    assert run.attrs["method"] == method
    same = compare_training(2, DATA[:3], [0, 2, 1], loss="cross-entropy", n_outputs=3, n_threads=2, **rates, **SMALL)
    assert run.identical(same)
    point = compare_training(2, DATA[0], 1.0, **rates, **SMALL)
    assert point.output.dims == ("step", "scaling", "width", "network")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": (10, 20)}, ValueError, "at least 3"),
        ({"n_networks": 1}, ValueError, "n_networks"),
        ({"method": "jax"}, ValueError, "method"),
        ({"n_steps": 0}, ValueError, "n_steps"),
        ({"n_particles": 100}, ValueError, "power of two"),
        ({"y0": [1.0]}, ValueError, "y0"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"y0": [1.0, -1.0], "n_steps": 2, "learning_rate": 0.5} | SMALL | change
    with pytest.raises(error, match=message):
        compare_training(2, DATA[:2], arguments.pop("y0"), **arguments)
