"""Training of many architectures, and the list of them that the figure uses."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import wideangle as wa
from wideangle.propagation.figure_architectures import ARCHITECTURES

pytest.importorskip("torch")

SMALL = [(12, 12), (20,), (6, 9, 6), (8,) * 4]


@pytest.fixture(scope="module")
def digits() -> wa.data.LabelledData:
    return wa.data.load_digits(seed=1)


def train(architectures: Any, data: wa.data.LabelledData, **options: Any) -> Any:
    return wa.propagation.train_architectures(architectures, data, **{"n_runs": 2, "seed": 5, "steps": 15, **options})


def test_dataset_holds_what_is_promised(digits: wa.data.LabelledData, tmp_path: Path) -> None:
    import xarray as xr

    found = train(SMALL, digits)
    assert found["architecture"].values.tolist() == ["12x2", "20x1", "6-9-6", "8x4"]
    assert found["depth"].values.tolist() == [2, 1, 3, 4]
    assert found["n_parameters"].values.tolist() == [1032, 1480, 552, 784]
    assert found["predictor"].values.tolist() == ["finite-width", "infinite-width"]
    for name in ("accuracy", "train_loss", "status"):
        assert found[name].dims == ("architecture", "run")
        assert found[name].shape == (4, 2)
    assert not found["status"].any()
    assert len(np.unique(found["train_loss"])) == 8
    assert found.attrs["data"] == "digits"
    assert found.attrs["seed"] == 5
    assert found.attrs["steps"] == 15
    found.to_netcdf(tmp_path / "found.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "found.nc"), found)


def test_accuracy_and_loss_are_those_of_the_reference_network(digits: wa.data.LabelledData) -> None:
    # Well trained, the accuracy of a network exceeds any that a mistaken pairing with labels could reach.
    found = train([(64, 64)], digits, n_runs=1, steps=300)
    assert found["accuracy"].item() > 0.93
    # The loss over the last 30 steps, of a curve that begins near ln 10 and ends near 0.1.
    assert 0.0 < found["train_loss"].item() < 0.25
    early = train([(64, 64)], digits, n_runs=1, steps=1)
    assert early["train_loss"].item() > 1.5


def test_predictions_are_those_for_orthogonal_inputs(digits: wa.data.LabelledData) -> None:
    found = train([(60, 60), (50, 50)], digits, n_runs=1, steps=1)["log_sin2"]
    rng = np.random.default_rng(0)
    n_samples, width = 4000, 60
    log_sin2 = np.empty(n_samples)
    for sample in range(n_samples):
        both = np.eye(2)
        for _ in range(2):
            both = np.maximum(both @ rng.normal(size=(both.shape[1], width)), 0.0)
        (a, c), (_, b) = both @ both.T
        log_sin2[sample] = math.log1p(-(c**2) / (a * b))
    finite, infinite = found.values[:, 0]
    # The theorem neglects terms of order 1/n^2, some 40/n^2 in two layers; infinite width neglects those of 1/n too.
    error = 5.0 * log_sin2.std() / math.sqrt(n_samples) + 40.0 / width**2
    assert abs(finite - log_sin2.mean()) < error < 0.8 * abs(infinite - finite)
    # cos(theta_1) = 1/pi, and the arc-cosine map once more from there.
    theta = math.acos(1.0 / math.pi)
    cosine = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / math.pi
    np.testing.assert_allclose(found.sel(predictor="infinite-width").values, math.log1p(-(cosine**2)), rtol=1e-12)


def test_correlations_are_those_of_mean_accuracy(digits: wa.data.LabelledData) -> None:
    found = train([*SMALL, (40, 40), (10,) * 8, (5, 5)], digits, steps=40)
    accuracy = found["accuracy"].mean("run")
    for row, predictor in enumerate(found["predictor"].values):
        prediction = found["log_sin2"].sel(predictor=predictor)
        for name, coefficient in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
            np.testing.assert_allclose(found[name].values[row], coefficient(prediction, accuracy)[0], atol=1e-12)
            assert found[f"{name}_low"].values[row] < found[f"{name}_high"].values[row]
    for name in ("spearman", "kendall"):
        finite, infinite = found[name].values
        assert found[f"{name}_difference"].item() == finite - infinite
        assert found[f"{name}_difference_low"].item() <= found[f"{name}_difference_high"].item()
    assert found["n_ranked"].item() == 7


def test_a_run_depends_on_its_seed_widths_and_number_alone(digits: wa.data.LabelledData) -> None:
    many = train(SMALL, digits, n_runs=3)
    few = train([SMALL[2], SMALL[0]], digits, n_runs=2)
    for name in ("accuracy", "train_loss"):
        expected = many[name].sel(architecture=["6-9-6", "12x2"], run=[0, 1])
        np.testing.assert_array_equal(few[name].values, expected.values)
    other = train([SMALL[2]], digits, n_runs=1, seed=6)
    assert other["train_loss"].values[0, 0] != few["train_loss"].values[0, 0]


def test_every_run_has_its_own_seeds(digits: wa.data.LabelledData, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def record(*_: Any, seed: int, **__: Any) -> wa.reference.TrainingResult:
        seeds.append(seed)
        return wa.reference.TrainingResult(accuracy=0.5, train_loss=np.ones(1), steps=1, seconds=0.0, status=0)

    monkeypatch.setattr("wideangle.propagation.training.build_mlp", record)
    monkeypatch.setattr("wideangle.propagation.training.train_classifier", record)
    train([(8,), (8, 8), (8, 9), (9, 8), (8, 8, 8)], digits, n_runs=9)
    assert len(seeds) == len(set(seeds)) == 2 * 5 * 9


def test_one_architecture_that_diverges_leaves_the_others_alone(digits: wa.data.LabelledData) -> None:
    # At this learning rate each layer multiplies by some hundred or more: thirty of them overflow, two do not.
    found = train([(20,), (20,) * 30, (30,), (40,)], digits, n_runs=1, steps=5, learning_rate=100.0)
    np.testing.assert_array_equal(found["status"].values[:, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(np.isnan(found["accuracy"].values[:, 0]), [False, True, False, False])
    assert found["n_ranked"].item() == 3
    assert np.isfinite(found["spearman"].values[0])


def test_a_single_architecture_has_no_rank(digits: wa.data.LabelledData) -> None:
    found = train([(10,)], digits, n_runs=1, steps=2)
    assert np.isfinite(found["accuracy"].item())
    assert np.isnan(found["spearman"].values).all()
    assert np.isnan(found["kendall_difference_high"].item())


@pytest.mark.slow
def test_processes_change_nothing(digits: wa.data.LabelledData, capfd: pytest.CaptureFixture[str]) -> None:
    alone = train(SMALL, digits)
    shared = train(SMALL, digits, n_workers=2, progress=True)
    for name in alone.data_vars:
        np.testing.assert_array_equal(alone[name].values, shared[name].values)
    assert "8/8" in capfd.readouterr().err


INTERRUPTED = """
    import sys
    import wideangle as wa

    if __name__ == "__main__":
        data = wa.data.load_digits(seed=1)
        try:
            wa.propagation.train_architectures(
                [(5,), (60,) * 60], data, n_runs=1, seed=1, steps=5000, n_workers=int(sys.argv[1]), progress=True
            )
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_interrupt_ends_training_and_its_processes(tmp_path: Path, n_workers: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    command = [sys.executable, str(script), str(n_workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stderr is not None

        def read_until(expected: bytes) -> None:
            seen = b""
            while expected not in seen:
                some = process.stderr.read(1) if process.stderr else b""
                assert some, seen.decode()
                seen += some

        try:
            # The small network is done, and the large one under way.
            read_until(b"1/2")
            # To the first process alone: it has to end the others.
            os.kill(process.pid, signal.SIGINT)
            read_until(b"stopped")
            # The pipe closes when the last process that holds it has ended; the bar never reached the large network.
            assert not process.stderr.read().strip()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"list_of_widths": []}, ValueError, "list_of_widths must name at least one architecture"),
        ({"list_of_widths": "85x2"}, TypeError, "list_of_widths must be a sequence of sequences"),
        ({"list_of_widths": (85, 2)}, TypeError, r"list_of_widths\[0\] must be a sequence of integers, got 85"),
        ({"list_of_widths": [(85, 0)]}, ValueError, r"list_of_widths\[0\]\[1\]"),
        ({"list_of_widths": [(5,), (6,), [5]]}, ValueError, r"list_of_widths\[2\] must differ .* 5x1 again"),
        ({"list_of_widths": [(5, 1)]}, ValueError, "at least 2 for method 'finite-width', got 1"),
        ({"data": "digits"}, TypeError, "data must be a LabelledData"),
        ({"n_runs": 0}, ValueError, "n_runs"),
        ({"seed": -1}, ValueError, "seed"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate"),
        ({"n_workers": 0}, ValueError, "n_workers"),
        ({"progress": 1}, TypeError, "progress"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
    digits: wa.data.LabelledData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def untouched(*_: Any, **__: Any) -> None:
        pytest.fail("training began")

    monkeypatch.setattr("wideangle.propagation.training.build_mlp", untouched)
    good: dict[str, Any] = {"list_of_widths": [(5,)], "data": digits, "n_runs": 1, "seed": 1, "steps": 1}
    call = {**good, **arguments}
    with pytest.raises(error, match=message):
        wa.propagation.train_architectures(call.pop("list_of_widths"), call.pop("data"), **call)


def test_the_45_architectures_span_what_the_figure_shows() -> None:
    assert len(ARCHITECTURES) == len(set(ARCHITECTURES)) == 45
    for width, depth in ((85, 2), (100, 10), (30, 15), (15, 30), (75, 35), (50, 50)):
        assert (width,) * depth in ARCHITECTURES
    prediction = np.array(
        [wa.propagation.predict_angles(wa.MLP(widths), math.pi / 2)["log_sin2"].values[-1] for widths in ARCHITECTURES]
    )
    assert -14.0 < prediction.min() < -13.0
    assert -0.4 < prediction.max() < -0.2
    sizes = [np.array([784, *widths, 10]) for widths in ARCHITECTURES]
    weights = np.log10([(size[1:] * size[:-1]).sum() for size in sizes])
    assert 4.0 <= weights.min() < 4.05
    assert 5.75 < weights.max() <= 5.81
    # No stretch of either axis is empty, and similar numbers of weights meet predictions far apart.
    assert np.diff(np.sort(np.log(-prediction))).max() < 0.5
    assert np.diff(np.sort(weights)).max() < 0.2
    for low in np.arange(4.0, 5.2, 0.2):
        inside = prediction[(weights >= low) & (weights < low + 0.2)]
        assert inside.min() < 5.0 * inside.max()
    assert abs(stats.spearmanr(prediction, weights)[0]) < 0.4
