"""Methods of studies of learning dynamics: blocks are pure, and say what the plain functions say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

Run = Callable[..., Block]
Pure = Callable[..., None]

MANY = 2**40 + 5

MODES: dict[str, Any] = {
    "features": [[1.0, 0.0], [1.0, 1.0], [0.5, 2.0]],
    "probabilities": [0.5, 0.3, 0.2],
    "margins0": [0.01, 0.02],
    "margins0_standard_deviation": [0.5, 1.5],
    "times": [0.0, 1.0, 30.0],
}


def samples(block: Block, name: str) -> Any:
    values = block.variables[name].samples
    assert values is not None
    return values


def total(block: Block, name: str) -> int:
    reduced: Any = block.variables[name].reduced["total"]
    return int(reduced.values)


class TestModes:
    @pytest.mark.parametrize("loss", ["cross-entropy", "exponential", "squared", "hinge"])
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_samples_do_not_depend_on_blocks(self, assert_pure: Pure, loss: str, depth: int) -> None:
        parameters = {**MODES, "loss": loss, "depth": depth}
        assert_pure("simulate_modes", parameters, 70, (1, 16, 3, 31, 19))
        assert_pure("simulate_modes", {**parameters, "times": [4.0]}, 20, (1, 16, 3), first=MANY)

    @pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
    def test_many_modes_do_not_depend_on_blocks(self, assert_pure: Pure, loss: str) -> None:
        rng = np.random.default_rng(1)
        parameters = {
            "features": rng.uniform(0.0, 1.0, (12, 17)).tolist(),
            "probabilities": [1.0 / 12.0] * 12,
            "margins0": [0.01] * 17,
            "margins0_standard_deviation": 0.7,
            "times": [1.0, 3.0, 10.0],
            "loss": loss,
        }
        assert_pure("simulate_modes", parameters, 1100, (7, 1000, 1, 92), first=MANY)

    @pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
    def test_imbalanced_modes_do_not_depend_on_blocks(self, assert_pure: Pure, loss: str) -> None:
        assert_pure("simulate_modes", {**MODES, "loss": loss, "imbalance": [0.1, 0.0]}, 40, (1, 16, 3, 20))

    @pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
    def test_block_is_what_the_function_returns(self, run: Run, loss: str) -> None:
        block = run("simulate_modes", {**MODES, "loss": loss, "imbalance": 0.1}, 11, 50)
        margins = samples(block, "margins")
        plain = wa.dynamics.simulate_modes(
            MODES["features"], MODES["probabilities"], margins[:, :, 0], MODES["times"], loss=loss, imbalance=0.1
        )
        for name, variable in block.variables.items():
            if name != "failed":
                np.testing.assert_allclose(samples(block, name), plain[name].values, rtol=1e-12)
                assert ("trajectory", *variable.dims) == plain[name].dims
        for name in ("mode", "time"):
            np.testing.assert_array_equal(block.coordinates[name], plain[name].values)

    def test_initial_margins_are_lognormal_and_independent(self, run: Run) -> None:
        number = 20_000
        logs = np.log(samples(run("simulate_modes", {**MODES, "times": [0.0]}, 5, number), "margins")[:, :, 0])
        spread = np.array([0.5, 1.5])
        error = spread / np.sqrt(number)
        assert np.all(np.abs(logs.mean(axis=0) - np.log([0.01, 0.02])) < 5.0 * error)
        assert np.all(np.abs(logs.std(axis=0) - spread) < 5.0 * error / np.sqrt(2.0))
        assert abs(np.corrcoef(logs.T)[0, 1]) < 5.0 / np.sqrt(number)
        assert np.unique(logs[:, 0]).size == number

    def test_seeds_and_cells_have_their_own_numbers(self) -> None:
        method = METHODS["simulate_modes"]
        cell = method.prepare(MODES)
        first, second = (
            samples(method.run(cell, 0, 8, seed, Wanted(samples=True)), "margins") for seed in (1, 2**63 + 1)
        )
        assert not np.any(first[:, :, 0] == second[:, :, 0])

    def test_without_spread_all_trajectories_are_the_same(self, run: Run, assert_pure: Pure) -> None:
        parameters = {**MODES, "margins0_standard_deviation": 0.0}
        plain = wa.dynamics.simulate_modes(*(MODES[key] for key in ("features", "probabilities", "margins0", "times")))
        margins = samples(run("simulate_modes", parameters, 3, 9), "margins")
        np.testing.assert_array_equal(margins, np.repeat(plain.margins.values[None], 9, axis=0))
        assert_pure("simulate_modes", parameters, 9, (4, 5))

    def test_failed_trajectories_are_counted_and_not_a_number(self, run: Run) -> None:
        block = run("simulate_modes", {**MODES, "max_steps": 5}, 3, 9)
        assert total(block, "failed") == 9
        assert np.isnan(samples(block, "loss")[:, -1]).all()
        assert total(run("simulate_modes", MODES, 3, 9), "failed") == 0

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"feature": 1}, ValueError, "'simulate_modes' has no 'feature'; did you mean 'features'"),
            ({"probabilities": [0.5, 0.3, 0.3]}, ValueError, "probabilities must sum to 1"),
            (
                {"margins0": [[0.01, 0.02]]},
                ValueError,
                r"must be those of one trajectory, got shapes .*margins0 \(1, 2\)",
            ),
            ({"margins0": [-0.01, 0.02], "depth": 3}, ValueError, "margins0 must not be negative for depth 3"),
            ({"margins0_standard_deviation": -0.5}, ValueError, "margins0_standard_deviation must not be negative"),
            ({"margins0_standard_deviation": [0.5] * 3}, ValueError, "one for each mode"),
            ({"margins0_standard_deviation": 1e3}, ValueError, "lets margins exceed 1e"),
            ({"margins0_standard_deviation": "a"}, TypeError, "margins0_standard_deviation must hold real numbers"),
            ({"times": [1.0, 1.0]}, ValueError, "times must increase"),
            (
                {"loss": "hinge", "features": [[1.0, -1.0], [1.0, 1.0], [1.0, 0.0]]},
                ValueError,
                "features must not be neg",
            ),
            ({"rtol": 1.0}, ValueError, "rtol must lie in"),
            ({"imbalance": 0.1, "depth": 3}, ValueError, "imbalance must be 0 for depth 3"),
        ],
    )
    def test_bad_parameters_are_named(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            METHODS["simulate_modes"].prepare({**MODES, **change})


NEURON: dict[str, Any] = {
    "readout": -0.3,
    "projection": 0.4,
    "readout_standard_deviation": 0.5,
    "projection_standard_deviation": 0.5,
    "time": 30.0,
}
FATES = ("learns", "rescued", "dies", "stays", "undecided")


class TestPhases:
    @pytest.mark.parametrize("loss", ["cross-entropy", "exponential", "squared", "hinge"])
    @pytest.mark.parametrize("method", ["integrate", "closed-form"])
    def test_samples_do_not_depend_on_blocks(self, assert_pure: Pure, loss: str, method: str) -> None:
        parameters = {**NEURON, "loss": loss, "method": method}
        assert_pure("phase_diagram", parameters, 100, (1, 16, 3, 31, 49))
        assert_pure("phase_diagram", parameters, 20, (1, 16, 3), first=MANY)

    @pytest.mark.parametrize("method", ["integrate", "closed-form"])
    def test_one_neuron_is_that_of_the_function(self, run: Run, method: str) -> None:
        parameters = {
            "readout": -0.3, "projection": 0.4, "loss": "hinge", "frequency": 0.5, "input_norm": 2.0, "margin": 0.7,
            "time": 50.0, "method": method, "rtol": 1e-9,
        }  # fmt: skip
        block = run("phase_diagram", parameters, 0, 3)
        options: Any = {key: value for key, value in parameters.items() if key not in ("readout", "projection")}
        plain = wa.dynamics.phase_diagram([-0.3], [0.4], **options)
        for name in ("convergence_time", "turning_time"):
            np.testing.assert_array_equal(samples(block, name), np.repeat(plain[name].values.ravel(), 3))
        assert [total(block, name) for name in FATES] == [0, 3, 0, 0, 0]

    def test_fates_are_those_of_the_initial_values(self, run: Run) -> None:
        number = 4000
        block = run("phase_diagram", {**NEURON, "method": "closed-form", "time": 1e6}, 5, number)
        counts = np.array([total(block, name) for name in FATES])
        assert counts.sum() == number
        rng = np.random.default_rng(1)
        z, u = rng.normal(-0.3, 0.5, 10**6), rng.normal(0.4, 0.5, 10**6)
        active = u > 0.0
        shares = [active & (z >= 0.0), active & (z < 0.0) & (-z < u), active & (-z >= u), ~active, active & (u < 0.0)]
        expected = np.array([each.mean() for each in shares])
        # Both are counts of independent neurons.
        error = np.sqrt(expected * (1.0 - expected) * (1.0 / number + 1e-6))
        assert np.all(np.abs(counts / number - expected) <= 5.0 * error)
        turned = samples(block, "turning_time")
        assert np.count_nonzero(np.isfinite(turned)) == counts[1] + counts[2]

    def test_integration_agrees_with_closed_forms(self, run: Run) -> None:
        both = [run("phase_diagram", {**NEURON, "method": method}, 5, 300) for method in ("integrate", "closed-form")]
        for name in ("convergence_time", "turning_time"):
            first, second = (samples(block, name) for block in both)
            np.testing.assert_allclose(first, second, rtol=1e-6)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"readouts": 1.0}, ValueError, "'phase_diagram' has no 'readouts'; did you mean 'readout'"),
            ({"readout": [0.1, 0.2]}, TypeError, "readout must be a real number"),
            ({"readout_standard_deviation": -1.0}, ValueError, "readout_standard_deviation must not be negative"),
            ({"projection": 1e51}, ValueError, "projection must stay below 1e"),
            ({"frequency": 1.5}, ValueError, "frequency must be at most 1"),
            ({"margin": 0.0}, ValueError, "margin must be positive"),
            ({"method": "exact"}, ValueError, "method must be one of"),
            ({"loss": "hinged"}, ValueError, "loss must be one of"),
        ],
    )
    def test_bad_parameters_are_named(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            METHODS["phase_diagram"].prepare({**NEURON, **change})
