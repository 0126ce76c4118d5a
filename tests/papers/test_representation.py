"""The reproduction of arXiv 2106.03485: verdicts on planted numbers, what is trained, full extent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.data import LabelledData
from wideangle.papers._frame import Reproduction
from wideangle.papers.representation import Job, Measurements
from wideangle.papers.representation_claims import (
    clone_power,
    critical_widths,
    excess_error,
    independent_correlation,
    judge,
)
from wideangle.papers.representation_panels import CLASSES, LAST, PARITY, ZERO, odd_or_even

pytest.importorskip("torch")

WIDTHS, SIZES, RUNS = np.array([32, 64, 128, 256]), 2 ** np.arange(9), 4
N_TRAIN = 1000
JITTER = 1.0 + 1e-4 * np.array([-1.0, 1.0, 0.5, -0.5])  # Of runs: intervals are narrow, but not empty.


def planted() -> Measurements:
    """Return what clones of 16 neurons would give with weight decay, and nothing redundant without it."""
    shape = (2, 2, 2, len(WIDTHS), RUNS, len(SIZES))
    size, width = SIZES.astype(float), WIDTHS[:, None, None].astype(float)
    inside = np.where(width >= SIZES, 1.0, np.nan)
    run = JITTER[:, None]
    excess = np.where((width > SIZES), 0.01 * (size / 16.0) ** -4.0, 0.0) * inside * run
    # Without weight decay, 0.1 at any size.
    alone = np.where((width > SIZES), 0.1, 0.0) * inside * run
    curves = {name: np.empty(shape) for name in ("train_error", "test_error", "r2", "residual_correlation")}
    independent = np.sqrt(2.0 / (np.pi * (N_TRAIN - 1 - 64)))
    for decay in (0, 1):
        for moment in (0, 1):
            clones = decay == 0 and moment == 1
            curves["train_error"][:, decay, moment] = excess if clones else alone
            curves["test_error"][:, decay, moment] = (0.02 + 0.1 * size**-0.5) * inside * run
            curves["r2"][:, decay, moment] = (0.99 if clones else 0.5) * inside * run
            curves["residual_correlation"][:, decay, moment] = (1.2 if clones else 6.0) * independent * inside * run
    dims = ("task", "decay", "moment", "width", "run", "chunk_size")
    coordinates = {
        "task": [CLASSES, PARITY],
        "decay": [3e-3, 0.0],
        "moment": [ZERO, LAST],
        "width": WIDTHS,
        "run": np.arange(RUNS),
    }
    chunks = xr.Dataset(
        {name: (dims, values) for name, values in curves.items()},
        {**coordinates, "chunk_size": SIZES},
        {"n_train_samples": N_TRAIN},
    )
    for name in ("r2", "residual_correlation"):
        chunks[f"{name}_outside"] = chunks[name]
    ones = np.ones((2, len(WIDTHS), 1))
    chunks["chunk_exponent"] = (("task", "width", "run"), -0.5 * ones * JITTER)
    for name, value in (("", -0.5), ("_low", -0.55), ("_high", -0.45)):
        chunks[f"width_exponent{name}"] = ("task", np.full(2, value))
    chunks["asymptotic_error"] = ("task", np.full(2, 0.02))
    chunks["decided"] = (("task", "width", "run"), np.ones((2, len(WIDTHS), RUNS), dtype=np.int8))
    test = np.broadcast_to((0.02 + 0.1 * WIDTHS[:, None] ** -0.5) * JITTER, (2, 2, len(WIDTHS), RUNS))
    networks = xr.Dataset(
        {
            "final_test_error": (("task", "decay", "width", "run"), test),
            "ensemble_test_error": (("task", "decay", "width", "run"), test - 0.001 * JITTER),
            "final_test_loss": (("task", "decay", "width", "run"), 2.0 * test),
            "ensemble_test_loss": (("task", "decay", "width", "run"), 1.9 * test * JITTER),
            "n_members": (("task", "decay", "width"), np.broadcast_to(WIDTHS // 32, (2, 2, len(WIDTHS)))),
        },
        {name: values for name, values in coordinates.items() if name != "moment"},
    )
    kinds = ("n_clones", "noise", "run")
    r2 = np.linspace(0.1, 1.0, 3)
    synthetic = xr.Dataset(
        {
            "relative_error": (kinds, np.zeros((2, 2, RUNS))),
            "exponent_estimate": (kinds, np.full((2, 2, RUNS), -0.5) * JITTER),
            "r2": ((*kinds, "chunk_size"), np.broadcast_to(r2, (2, 2, RUNS, 3))),
            "r2_generic": ((*kinds, "chunk_size"), np.broadcast_to(r2 + 0.001, (2, 2, RUNS, 3))),
        },
        {"n_clones": [2, 4], "noise": [0.1, 1.0], "run": np.arange(RUNS), "chunk_size": [1, 4, 16]},
    )
    return Measurements(networks=networks, chunks=chunks, synthetic=synthetic)


def verdicts(measurements: Measurements, part: str) -> set[str]:
    """Return the verdicts on the claims of both tasks whose statements have these words."""
    found = {claim.verdict for claim in judge(measurements) if part in claim.statement}
    assert found, part
    return found


def with_chunks(measurements: Measurements, name: str, value: Any, **where: Any) -> Measurements:
    chunks = measurements.chunks.copy(deep=True)
    chunks[name].loc[where] = value
    return replace(measurements, chunks=chunks)


def with_networks(measurements: Measurements, name: str, value: Any, **where: Any) -> Measurements:
    networks = measurements.networks.copy(deep=True)
    networks[name].loc[where] = value
    return replace(measurements, networks=networks)


def with_synthetic(measurements: Measurements, name: str, value: Any, **where: Any) -> Measurements:
    synthetic = measurements.synthetic.copy(deep=True)
    synthetic[name].loc[where] = value
    return replace(measurements, synthetic=synthetic)


def test_planted_clones_agree_with_everything() -> None:
    assert {claim.verdict for claim in judge(planted())} == {"agrees"}
    assert len(judge(planted())) == 32


END = {"decay": 3e-3, "moment": LAST}
ALONE = {"decay": 0.0, "moment": LAST}
JUDGED = {"width": 256, "chunk_size": 64}


@pytest.mark.parametrize(
    ("change", "name", "value", "where", "part"),
    [
        (with_chunks, "train_error", 0.02, {**END, **JUDGED}, "of 256 neurons classify"),
        (with_chunks, "r2_outside", 0.8, {**END, **JUDGED}, "they know the rest of the layer"),
        (with_chunks, "residual_correlation_outside", 0.06, {**END, **JUDGED}, "independent noise; mean"),
        (with_chunks, "decided", 0, {}, "few signals"),
        (with_chunks, "r2_outside", 0.995, {"decay": 3e-3, "moment": ZERO}, "comes after the training error is zero"),
        (with_chunks, "r2_outside", 0.95, ALONE, "it takes weight decay"),
        (with_chunks, "train_error", 0.001, ALONE, "without it they do not classify"),
        (with_chunks, "residual_correlation_outside", 0.01, ALONE, "less correlated with weight decay"),
        (with_chunks, "chunk_exponent", -1.0, {}, "so does the error of chunks"),
        (with_chunks, "test_error", 0.06, {**END, **JUDGED}, "err as networks of that width do"),
        (with_networks, "final_test_error", 0.06, {"width": 256}, "wider networks generalise better"),
        (with_networks, "ensemble_test_error", 0.01, {"width": 256}, "one network of width 256 is as good"),
        (with_networks, "ensemble_test_loss", 0.02, {"width": 256}, "so is its cross-entropy"),
        (with_synthetic, "relative_error", -0.2, {"noise": 1.0}, "number of synthetic clones"),
        (with_synthetic, "exponent_estimate", -0.6, {"n_clones": 4}, "synthetic chunks goes like"),
        (with_synthetic, "r2", 0.5, {"chunk_size": 16}, "generic neurons"),
    ],
)
def test_verdicts_turn_with_the_measurement(change: Any, name: str, value: float, where: Any, part: str) -> None:
    assert verdicts(planted(), part) == {"agrees"}
    assert verdicts(change(planted(), name, value, **where), part) == {"disagrees"}


def test_powers_of_the_width_have_their_own_interval() -> None:
    part = "the test error of networks approaches"
    assert verdicts(with_chunks(planted(), "width_exponent_low", -0.9), part) == {"not resolved"}
    steep = with_chunks(with_chunks(planted(), "width_exponent_low", -0.9), "width_exponent_high", -0.7)
    assert verdicts(with_chunks(steep, "width_exponent", -0.8), part) == {"disagrees"}


@pytest.mark.parametrize(
    ("change", "name", "part"),
    [
        (with_chunks, "width_exponent", "the test error of networks approaches"),
        (with_chunks, "r2_outside", "they know the rest"),
        (with_chunks, "train_error", "number of clones is proportional"),
        (with_networks, "ensemble_test_error", "one network of width 256 is as good"),
        (with_synthetic, "relative_error", "number of synthetic clones"),
        (with_synthetic, "exponent_estimate", "synthetic chunks goes like"),
    ],
)
def test_what_is_not_measured_is_not_resolved(change: Any, name: str, part: str) -> None:
    measurements = change(planted(), name, np.nan)
    assert verdicts(measurements, part) == {"not resolved"}
    texts = {claim.measured_text for claim in judge(measurements) if part in claim.statement}
    assert all(re.fullmatch(r"not measured( \([^\[]*\))?", text) for text in texts), texts


def test_critical_widths_are_those_of_planted_clones() -> None:
    chunks = planted().chunks.isel(task=0, decay=0).sel(moment=LAST)
    np.testing.assert_allclose(critical_widths(chunks), 16.0, rtol=1e-3)
    np.testing.assert_allclose(clone_power(chunks), 1.0, atol=1e-3)
    assert float(np.nanmax(np.abs(excess_error(chunks).sel(chunk_size=32, width=32)))) == 0.0
    # Nothing is redundant: every layer is one clone, and the critical width goes with the width.
    alone = planted().chunks.isel(task=0, decay=1).sel(moment=LAST)
    np.testing.assert_allclose(critical_widths(alone).mean("run"), WIDTHS * 2.0**-0.1, rtol=1e-2)
    np.testing.assert_allclose(clone_power(alone), 0.0, atol=1e-3)
    assert verdicts(replace(planted(), chunks=planted().chunks.isel(decay=[1, 1])), "is proportional to") == {
        "disagrees"
    }


def test_correlation_of_independent_residuals() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((N_TRAIN, 40))
    found = np.abs(np.asarray(np.corrcoef(noise, rowvar=False))[np.triu_indices(40, 1)])
    expected = independent_correlation(planted().chunks, N_TRAIN + 64)
    assert abs(found.mean() - expected) < 5.0 * found.std() / np.sqrt(found.size)


def test_tasks_share_their_samples() -> None:
    x = np.arange(12.0).reshape(6, 2)
    both = LabelledData(x, np.arange(6), x + 1.0, np.arange(6)[::-1], name="six")
    task = odd_or_even(both)
    np.testing.assert_array_equal(task.x_train, both.x_train)
    np.testing.assert_array_equal(task.x_test, both.x_test)
    assert (task.y_train.tolist(), task.y_test.tolist()) == ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0])
    assert (task.n_classes, task.name) == (2, "six, odd or even")


def test_what_is_trained(reduced_representation: Any) -> None:
    result: Reproduction[Measurements] = reduced_representation.result
    networks, chunks = result.measurements.networks, result.measurements.chunks
    assert networks["decay"].values.tolist() == chunks["decay"].values.tolist() == [3e-3, 0.0]
    assert networks["width"].values.tolist() == [8, 16, 32]
    assert (networks["status"] == 0).all()
    # The largest chunks are the networks, and know themselves.
    last = chunks.sel(moment=LAST)
    for width in (8, 16, 32):
        whole = last.sel(width=width, chunk_size=width)
        np.testing.assert_allclose(whole["test_error"], networks["final_test_error"].sel(width=width), atol=1e-12)
        np.testing.assert_allclose(whole["r2"], 1.0, atol=1e-6)
        assert np.isnan(last["r2"].sel(width=width, chunk_size=SIZES[(width < SIZES) & (SIZES <= 32)])).all()
    assert (chunks["train_error"].sel(moment=ZERO, width=32, chunk_size=32) == 0.0).all()


def test_full_extent(tmp_path: Path) -> None:
    job = Job.prepare(out=tmp_path, full=True)
    assert (job.widths, job.n_runs) == ((32, 64, 128, 256, 512), 10)
    assert "10 networks of two hidden layers for each of the widths 32, 64, 128, 256, 512" in job.description


def test_data_must_have_classes(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 10, dtype="uint8").reshape(10, 2, 3)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=np.zeros(10, int), x_test=images, y_test=np.zeros(10, int))
    with pytest.raises(ValueError, match="data must have at least two classes, got 1"):
        Job.prepare(data=tmp_path / "one.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
