"""The tutorial on studies: its files and commands do what it says, in its order."""

from __future__ import annotations

import math
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.cli import main

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "studies.md"


def blocks(language: str, page: Path = TUTORIAL) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in text.split("\n")) for indent, text in found]


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    angles, *more, balls = blocks("toml")
    # The numbers of samples are those of a laptop, with time to spare.
    Path("angles.toml").write_text(angles.replace("200_000", "2_000"), encoding="utf-8")
    Path("balls.toml").write_text(balls, encoding="utf-8")
    (module,) = (block for block in blocks("python") if "def inside" in block)
    Path("balls.py").write_text(module, encoding="utf-8")
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    own = [words[1:] for words in commands if words[0] == "wideangle" and "--dask" not in words]
    names = ["plan", "run", "status", "status", "run", "resume", "report", "run"]
    assert [words[1] for words in own] == names
    for words in own:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert not stopped.value.code, words
    capsys.readouterr()
    assert Path("angles-report.html").is_file()
    with xr.open_zarr("balls.zarr", chunks=None) as results:
        volumes = 2.0 ** results["dimension"] * results["inside_mean"]
        errors = 2.0 ** results["dimension"] * results["inside_mean_standard_error"]
        assert (results["inside_mean_standard_error"] <= 2e-4).all()
        difference = np.abs(volumes - [2.0, math.pi, 4.0 * math.pi / 3.0, math.pi**2 / 2.0])
        assert (difference <= 5.0 * errors).all()
    for snippet in more:
        is_whole = snippet.startswith("method = ")
        Path("more.toml").write_text(snippet if is_whole else angles + snippet, encoding="utf-8")
        wa.studies.Study.from_toml("more.toml").plan()


def test_several_methods_as_the_tutorial_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (toml,) = (block for block in blocks("toml") if block.startswith("method = ["))
    Path("both.toml").write_text(toml, encoding="utf-8")
    namespace: dict[str, Any] = {"wa": wa}
    exec(next(block for block in blocks("python") if "both.zarr" in block), namespace)
    capsys.readouterr()
    assert namespace["two"] == wa.studies.Study.from_toml("both.toml")
    both = namespace["both"]
    is_gram = both["method"].values == "simulate_gram"
    assert is_gram.tolist() == [False] * 2 + [True] * 4
    np.testing.assert_array_equal(np.isnan(both["theta0"]), is_gram)
    np.testing.assert_array_equal(np.isnan(both["angle"]), ~is_gram)
    np.testing.assert_array_equal(np.isnan(both["log_sin2_mean"][:, -1]), is_gram)
    np.testing.assert_array_equal(both["log_sin2_count"][:, -1] == 0, is_gram)
    gram = both.where(both["method"] == "simulate_gram", drop=True)
    assert gram.sizes["cell"] == 4


def test_the_file_and_the_python_of_the_tutorial_are_one_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "angles.toml").write_text(blocks("toml")[0], encoding="utf-8")
    namespace: dict[str, object] = {}
    exec(next(block for block in blocks("python") if "wa.studies.Study(" in block), namespace)
    capsys.readouterr()
    assert namespace["study"] == wa.studies.Study.from_toml(tmp_path / "angles.toml")


def test_results_are_written_again_as_the_tutorial_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("angles.toml").write_text(blocks("toml")[0].replace("200_000", "2_000"), encoding="utf-8")
    namespace: dict[str, Any] = {"wa": wa, "study": wa.studies.Study.from_toml("angles.toml")}
    exec(next(block for block in blocks("python") if "to_zarr" in block), namespace)
    capsys.readouterr()
    with xr.open_zarr("grid.zarr", chunks=None) as again:
        assert (again.sizes["width"], again.sizes["depth"]) == (3, 4)
        xr.testing.assert_equal(again.load(), namespace["grid"].load())
    namespace["grid"].to_netcdf("grid.nc")
    with xr.open_dataset("grid.nc") as again:
        np.testing.assert_array_equal(again["log_sin2_mean"], namespace["grid"]["log_sin2_mean"])
    if int(version("zarr").split(".")[0]) >= 3:
        with pytest.raises(TypeError, match="Expected a BytesBytesCodec"):
            namespace["results"].to_zarr("other.zarr")


def test_the_scripts_for_clusters_compile() -> None:
    scripts = blocks("py")
    assert len(scripts) == 2
    for script in scripts:
        compile(script, "script", "exec")


def test_the_method_of_the_tutorial_is_a_function_of_the_sample() -> None:
    namespace: dict[str, object] = {}
    exec(next(block for block in blocks("python") if "def inside" in block), namespace)
    inside = namespace["inside"]
    assert callable(inside)
    whole = inside(dimension=3, seed=2**64 - 1, first_sample=2**40, n_samples=100)
    part = inside(dimension=3, seed=2**64 - 1, first_sample=2**40 + 37, n_samples=63)
    for name, values in whole.items():
        np.testing.assert_array_equal(values[37:], part[name])


def test_the_study_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (toml,) = blocks("toml", ROOT / "README.md")
    Path("angles.toml").write_text(toml.replace("100_000", "1_000"), encoding="utf-8")
    lines = [line for block in blocks("sh", ROOT / "README.md") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("wideangle study")]
    assert [words[1] for words in commands] == ["plan", "run", "report"]
    for words in commands:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert not stopped.value.code
    capsys.readouterr()
    assert wa.studies.status("angles.zarr").cells["complete"] == 6
