"""Stores that are looked at where neither the methods of their studies are, nor the files that these read."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import wideangle as wa
from wideangle.cli import main
from wideangle.studies import Study, run

OWN = """
import time

import numpy as np

def slow(*, first_sample, n_samples, seed, scale):
    time.sleep(0.6)
    return {"x": scale * np.arange(first_sample, first_sample + n_samples)}

slow.cost = lambda *, scale: 0.6 / 10
"""


@pytest.fixture
def begun(own_module: Callable[[str, str], str], tmp_path: Path) -> Path:
    """A store of a study that was stopped, whose module is gone."""
    name = own_module("gone_methods", OWN)
    study = Study(f"{name}:slow", samples=100, seed=1, block_size=10, grid={"scale": [1.0, 2.0]})
    run(study, tmp_path / "own.zarr", progress=False, max_time=0.5).close()
    path = Path(importlib.import_module(name).__file__ or "")
    path.unlink()
    del sys.modules[name]
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="cannot be imported"):
        study.plan()
    return tmp_path / "own.zarr"


def code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_without_the_module(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = wa.studies.status(begun)
    assert found.state == "stopped"
    assert 0 < found.samples_done < 200
    assert found.seconds_left > 0.0
    results = wa.studies.load(begun)
    # Two threads began the first two blocks of the first cell.
    np.testing.assert_allclose(results.x_mean.values[0], np.arange(int(results.n_samples[0])).mean(), rtol=1e-14)
    assert results.attrs["identity"] == found.identity
    assert "gone_methods:slow" in wa.studies.write_report(begun).read_text(encoding="utf-8")
    assert code("study", "status", begun) == 0
    assert "of 200 samples" in capsys.readouterr().out


def test_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(there)
    np.savez("data.npz", x=np.eye(2), y=np.array([1.0, -1.0]))
    file = there / "training.toml"
    file.write_text(
        'method = "simulate_training"\nsamples = 100\nseed = 1\nblock_size = 10\n'
        'parameters = { data = "data.npz", width = 4, depth = 1, n_steps = 3 }\n'
        "grid = { learning_rate = [0.1, 0.2] }\n",
        encoding="utf-8",
    )
    run(Study.from_toml(file), there / "training.zarr", progress=False, max_time=1e-9).close()
    expected = wa.studies.status(there / "training.zarr")
    monkeypatch.chdir(here)
    assert str(wa.studies.status(there / "training.zarr")) == str(expected)
    assert wa.studies.load(there / "training.zarr").n_samples.values.tolist() == [0, 0]
    assert code("study", "status", file) == 0
    printed = capsys.readouterr()
    assert "not begun" in printed.out
    assert "cannot be told here" in printed.err
    assert code("study", "report", file) == 0
    # What goes on needs them.
    assert code("study", "resume", file) == 2
    assert "data.npz" in capsys.readouterr().err
