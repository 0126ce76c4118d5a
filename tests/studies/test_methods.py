"""Methods of studies of networks at initialisation: blocks are pure, and say what the plain functions say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.statistics import Histogram
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

Run = Callable[..., Block]
Pure = Callable[..., None]
Same = Callable[..., None]

MANY = 2**40 + 5


def reduced(block: Block, name: str, kind: str) -> Any:
    return block.variables[name].reduced[kind]


ANGLES: dict[str, Any] = {"width": 8, "depth": 6, "theta0": 0.3}


class TestAngles:
    def test_samples_do_not_depend_on_blocks(self, assert_pure: Pure) -> None:
        assert_pure("simulate_angles", ANGLES, 100, (1, 16, 3, 31, 49))
        assert_pure("simulate_angles", ANGLES, 40, (1, 16, 3, 20), first=MANY)

    def test_block_is_what_the_function_returns(self, run: Run) -> None:
        block = run("simulate_angles", {**ANGLES, "weight_variance": 1.5}, 11, 300)
        plain = wa.propagation.simulate_angles(
            wa.MLP((8,) * 6, weight_variance=1.5), 0.3, n_samples=300, seed=7, first_sample=11, keep="samples"
        )
        for name in ("log_sin2", "log_norm2"):
            np.testing.assert_array_equal(block.variables[name].samples, plain[name].values)
        np.testing.assert_array_equal(block.coordinates["layer"], plain.layer.values)

    def test_moments_and_counts_are_those_of_the_samples(self, run: Run, assert_same_moments: Same) -> None:
        wanted = Wanted(histograms={"log_sin2": (-12.0, -1.0, 40)})
        parameters = {"widths": [3, 5, 4, 6], "theta0": 0.3}  # narrow, so that pairs collapse and die
        fast = run("simulate_angles", parameters, 5, 700, wanted)
        full = run("simulate_angles", parameters, 5, 700)
        for name in ("log_sin2", "log_norm2"):
            samples = full.variables[name].samples
            assert samples is not None
            assert fast.variables[name].samples is None
            assert_same_moments(reduced(fast, name, "moments"), samples)
        assert reduced(full, "dead", "total").values[-1] > 0
        assert reduced(full, "collapsed", "total").values[-1] > 0
        for name in ("survivors", "collapsed", "dead"):
            np.testing.assert_array_equal(reduced(fast, name, "total").values, reduced(full, name, "total").values)
        samples = full.variables["log_sin2"].samples
        assert samples is not None
        expected_bins = Histogram.from_samples(samples, -12.0, -1.0, 40, where=np.isfinite(samples))
        bins = reduced(fast, "log_sin2", "histogram")
        for field in ("counts", "underflow", "overflow"):
            np.testing.assert_array_equal(getattr(bins, field), getattr(expected_bins, field))

    def test_samples_are_returned_only_where_something_needs_them(self, run: Run) -> None:
        def has_samples(wanted: Wanted) -> bool:
            block = run("simulate_angles", ANGLES, 0, 5, wanted)
            prepared = METHODS["simulate_angles"].prepare(ANGLES)
            needed = any(variable.samples is not None for variable in block.variables.values())
            assert needed == bool(METHODS["simulate_angles"].bytes_per_sample(prepared, wanted))
            return needed

        assert not has_samples(Wanted())
        assert not has_samples(Wanted(histograms={"log_sin2": (-9.0, 0.0, 5)}))
        assert has_samples(Wanted(histograms={"log_norm2": (-9.0, 9.0, 5)}))
        assert has_samples(Wanted(quantiles=(0.5,)))
        assert not has_samples(Wanted(quantiles=(0.5,), variables=("dead",)))

    def test_only_what_is_wanted_is_returned(self, run: Run) -> None:
        block = run("simulate_angles", ANGLES, 0, 5, Wanted(variables=("log_norm2", "dead")))
        assert sorted(block.variables) == ["dead", "log_norm2"]

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"theta": 0.1}, ValueError, "'simulate_angles' has no 'theta'; did you mean 'theta0'"),
            ({"theta0": None}, TypeError, "theta0 must be a real number"),
            ({"theta0": 4.0}, ValueError, "theta0 must lie in"),
            ({"width": 0}, ValueError, "width must lie between 1"),
            ({"width": 2.5}, TypeError, "width must be an integer"),
            ({"depth": True}, TypeError, "depth must be an integer"),
            ({"activation": "tanh"}, ValueError, "'relu', got 'tanh'"),
            ({"activation": ["relu"]}, TypeError, "activation must be a string"),
            ({"bias_variance": 0.1}, ValueError, "bias_variance must be 0"),
            ({"weight_variance": 0.0}, ValueError, "weight_variance must be positive"),
            ({"widths": [4, 4]}, ValueError, "width and depth, or widths"),
        ],
    )
    def test_bad_parameters_are_named(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            METHODS["simulate_angles"].prepare({**ANGLES, **change})

    @pytest.mark.parametrize("missing", ["theta0", "width", "depth"])
    def test_missing_parameters_are_named(self, missing: str) -> None:
        parameters = {key: value for key, value in ANGLES.items() if key != missing}
        with pytest.raises(ValueError, match=f"needs the parameter '{missing}'"):
            METHODS["simulate_angles"].prepare(parameters)

    def test_cached_checks_tell_numbers_from_booleans(self) -> None:
        METHODS["simulate_angles"].prepare({**ANGLES, "weight_variance": 1})
        with pytest.raises(TypeError, match="weight_variance must be a real number"):
            METHODS["simulate_angles"].prepare({**ANGLES, "weight_variance": True})


THREE = [[1.0, 0.5, 0.2], [0.5, 2.0, 0.1], [0.2, 0.1, 0.5]]
GRAM: dict[str, Any] = {"widths": [7, 9, 5], "gram0": THREE, "activation": "tanh", "bias_variance": 0.3}
GRAM_DIMS = {"gram": 4, "log_norm2": 3, "log_determinant": 2, "effective_rank": 2}


class TestGram:
    @pytest.mark.parametrize(
        "parameters",
        [GRAM, {"width": 6, "depth": 4, "angle": 0.5}, {"width": 2, "depth": 4, "gram0": THREE}],
        ids=["tanh", "pair", "narrow"],
    )
    def test_samples_do_not_depend_on_blocks(self, assert_pure: Pure, parameters: dict[str, Any]) -> None:
        assert_pure("simulate_gram", parameters, 100, (1, 16, 3, 31, 49))
        assert_pure("simulate_gram", parameters, 40, (1, 16, 3, 20), first=MANY)

    def test_block_is_what_the_function_returns(self, run: Run) -> None:
        block = run("simulate_gram", GRAM, 11, 50)
        net = wa.MLP((7, 9, 5), activation="tanh", bias_variance=0.3)
        plain = wa.propagation.simulate_gram(net, THREE, n_samples=50, seed=7, first_sample=11, keep="samples")
        for name in ("gram", "log_determinant"):
            np.testing.assert_array_equal(block.variables[name].samples, plain[name].values)
            assert block.variables[name].dims == plain[name].dims[1:]
        for name in ("layer", "input", "input_"):
            np.testing.assert_array_equal(block.coordinates[name], plain[name].values)

    @pytest.mark.parametrize(
        "parameters",
        [GRAM, {"width": 4, "depth": 5, "angle": 0.5}, {"width": 2, "depth": 4, "gram0": THREE}],
        ids=["tanh", "pair", "narrow"],
    )
    def test_moments_and_counts_are_those_of_the_samples(
        self, run: Run, assert_same_moments: Same, parameters: dict[str, Any]
    ) -> None:
        fast = run("simulate_gram", parameters, 5, 400, Wanted())
        full = run("simulate_gram", parameters, 5, 400)
        for name, ndim in GRAM_DIMS.items():
            samples = full.variables[name].samples
            assert samples is not None
            assert samples.ndim == ndim == len(full.variables[name].dims) + 1
            assert_same_moments(reduced(fast, name, "moments"), samples)
        for name in ("full_rank", "rank_lost", "dead"):
            np.testing.assert_array_equal(reduced(fast, name, "total").values, reduced(full, name, "total").values)

    def test_narrow_networks_lose_rank_and_inputs(self, run: Run) -> None:
        block = run("simulate_gram", {"width": 2, "depth": 4, "gram0": THREE}, 5, 400, Wanted())
        assert reduced(block, "rank_lost", "total").values.tolist() == [0, 400, 400, 400, 400]
        assert 0 < reduced(block, "dead", "total").values[4, 0] < 400

    def test_angle_and_correlation_are_gram_matrices(self) -> None:
        method = METHODS["simulate_gram"]
        for inputs in ({"angle": 0.5}, {"correlation": np.cos(0.5)}):
            prepared = method.prepare({"width": 6, "depth": 4, **inputs})
            np.testing.assert_array_equal(prepared.gram0, [[1.0, np.cos(0.5)], [np.cos(0.5), 1.0]])

    def test_norms_beyond_float64_are_not_lost_in_samples(self, run: Run) -> None:
        parameters = {"width": 64, "depth": 40, "weight_variance": 1e-20, "angle": 1.0}
        fast = run("simulate_gram", parameters, 0, 8, Wanted())
        assert reduced(fast, "log_norm2", "moments").mean[-1, 0] < -1500.0
        with pytest.raises(ValueError, match="leave the range of float64; ask for moments alone"):
            run("simulate_gram", parameters, 0, 8)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"gram": 0.1}, ValueError, "'simulate_gram' has no 'gram'; did you mean 'gram0'"),
            ({"gram0": [[1.0, 2.0], [2.0, 1.0]]}, ValueError, "gram0 must be positive semi-definite"),
            ({"gram0": [[1.0, 2.0], [2.0]]}, ValueError, "gram0 could not be read"),
            ({"gram0": lambda: 1}, TypeError, "gram0 must be real numbers"),
            ({"angle": 0.5}, ValueError, "one of gram0, angle and correlation, got gram0 and angle"),
            ({"activation": "relo"}, ValueError, "activation must be one of"),
        ],
    )
    def test_bad_parameters_are_named(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            METHODS["simulate_gram"].prepare({**GRAM, **change})

    @pytest.mark.parametrize(("name", "value"), [("angle", 4.0), ("angle", -0.1), ("correlation", 1.1)])
    def test_impossible_pairs_are_named(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must lie in"):
            METHODS["simulate_gram"].prepare({"width": 3, "depth": 2, name: value})

    def test_inputs_are_needed(self) -> None:
        with pytest.raises(ValueError, match="one of gram0, angle and correlation, got none"):
            METHODS["simulate_gram"].prepare({"width": 3, "depth": 2})
