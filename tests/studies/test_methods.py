"""The methods of the package in studies: blocks are pure, and say what the plain functions say."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.statistics import Histogram, Moments, Total
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

SAMPLES = Wanted(samples=True)
MANY = 2**40 + 5


def run(name: str, parameters: dict[str, Any], first: int, number: int, wanted: Wanted = SAMPLES) -> Block:
    """Return a block of a cell, from parameters that have been pickled, as on a worker."""
    method = METHODS[name]
    prepared = pickle.loads(pickle.dumps(method.prepare(parameters)))
    return method.run(prepared, first, number, 7, wanted)


def joined(name: str, parameters: dict[str, Any], first: int, sizes: Iterable[int]) -> tuple[dict[str, Any], Any]:
    """Return the samples of blocks one after the other, and the sums of the totals."""
    samples: dict[str, list[Any]] = {}
    totals: dict[str, Total] = {}
    for size in sizes:
        for key, variable in run(name, parameters, first, size).variables.items():
            if variable.samples is None:
                total = variable.reduced["total"]
                assert isinstance(total, Total)
                totals[key] = totals[key].merge(total) if key in totals else total
            else:
                assert len(variable.samples) == size
                samples.setdefault(key, []).append(variable.samples)
        first += size
    return {key: np.concatenate(parts) for key, parts in samples.items()}, totals


def assert_pure(name: str, parameters: dict[str, Any], number: int, sizes: tuple[int, ...], first: int = 3) -> None:
    """Compare one block with many, bit by bit."""
    assert sum(sizes) == number
    whole, total = joined(name, parameters, first, [number])
    parts, totals = joined(name, parameters, first, sizes)
    assert whole.keys() == parts.keys()
    assert total.keys() == totals.keys()
    assert whole or total
    for key, values in whole.items():
        assert values.tobytes() == parts[key].tobytes(), key
    for key, each in total.items():
        np.testing.assert_array_equal(each.values, totals[key].values, err_msg=key)


def reduced(block: Block, name: str, kind: str) -> Any:
    return block.variables[name].reduced[kind]


ANGLES = {"width": 8, "depth": 6, "theta0": 0.3}


class TestAngles:
    def test_samples_do_not_depend_on_blocks(self) -> None:
        assert_pure("simulate_angles", ANGLES, 100, (1, 16, 3, 31, 49))
        assert_pure("simulate_angles", ANGLES, 40, (1, 16, 3, 20), first=MANY)

    def test_block_is_what_the_function_returns(self) -> None:
        block = run("simulate_angles", {**ANGLES, "weight_variance": 1.5}, 11, 300)
        plain = wa.propagation.simulate_angles(
            wa.MLP((8,) * 6, weight_variance=1.5), 0.3, n_samples=300, seed=7, first_sample=11, keep="samples"
        )
        for name in ("log_sin2", "log_norm2"):
            np.testing.assert_array_equal(block.variables[name].samples, plain[name].values)
        np.testing.assert_array_equal(block.coordinates["layer"], plain.layer.values)

    def test_moments_and_counts_are_those_of_the_samples(self) -> None:
        wanted = Wanted(histograms={"log_sin2": (-12.0, -1.0, 40)})
        parameters = {"widths": [3, 5, 4, 6], "theta0": 0.3}  # narrow, so that pairs collapse and die
        fast = run("simulate_angles", parameters, 5, 700, wanted)
        full = run("simulate_angles", parameters, 5, 700)
        for name in ("log_sin2", "log_norm2"):
            samples = full.variables[name].samples
            assert samples is not None
            assert fast.variables[name].samples is None
            expected = Moments.from_samples(samples, where=np.isfinite(samples))
            found = reduced(fast, name, "moments")
            np.testing.assert_array_equal(found.count, expected.count)
            for field in ("mean", "m2", "m3", "m4"):
                scale = np.sqrt(expected.variance) ** {"mean": 1, "m2": 2, "m3": 3, "m4": 4}[field] * expected.count
                error = np.abs(getattr(found, field) - getattr(expected, field))
                assert np.all(error[1:] <= 1e-12 * scale[1:]), (name, field)
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

    def test_samples_are_returned_only_where_something_needs_them(self) -> None:
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

    def test_only_what_is_wanted_is_returned(self) -> None:
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
