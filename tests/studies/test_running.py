"""Runs: results are those of the methods called directly, in arrays that xarray opens."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies import Study, StudyWarning, run

OWN = """
import numpy as np
import xarray as xr

def numbers(*, first_sample, n_samples, seed, scale=1.0, size=2):
    rows = [np.random.Generator(np.random.Philox(key=seed, counter=[k, 1, 0, 0])).standard_normal(size)
            for k in range(first_sample, first_sample + n_samples)]
    return {"x": scale * np.array(rows), "total": np.array(rows).sum(axis=1)}

def labelled(*, first_sample, n_samples, seed, n_times):
    x = numbers(first_sample=first_sample, n_samples=n_samples, seed=seed, size=n_times)["x"]
    return xr.Dataset({"path": (("sample", "time"), x)}, {"time": 0.5 * np.arange(n_times)})

def sometimes(*, first_sample, n_samples, seed, fails):
    if fails:
        raise FloatingPointError("no such luck")
    return {"x": np.ones(n_samples)}
"""


@pytest.fixture
def own(own_module: Callable[[str, str], str]) -> str:
    """The name of the module with the methods."""
    return own_module("own_methods", OWN)


def angles(**changes: Any) -> Study:
    arguments: dict[str, Any] = {
        "samples": 1000,
        "seed": 1,
        "parameters": {"theta0": 0.3},
        "grid": {"width": [6, 12], "depth": [2, 3]},
        "block_size": 150,
    }
    return Study("simulate_angles", **arguments | changes)


def test_results_are_those_of_the_method(tmp_path: Path) -> None:
    statistics = {"quantiles": [0.1, 0.5], "histograms": {"log_sin2": [-8.0, 0.0, 16]}, "samples": True}
    study = angles(statistics=statistics)
    results = run(study, tmp_path / "angles.zarr", progress=False)
    opened = xr.open_zarr(tmp_path / "angles.zarr")
    assert results.load().identical(opened.load())
    assert results.sizes["cell"] == 4
    np.testing.assert_array_equal(results.width, [6, 6, 12, 12])
    np.testing.assert_array_equal(results.status, 0)
    np.testing.assert_array_equal(results.n_samples, 1000)
    for k, cell in enumerate(study.cells):
        net = wa.MLP((cell.parameters["width"],) * cell.parameters["depth"])
        direct = wa.propagation.simulate_angles(net, 0.3, n_samples=1000, seed=study.seed_of(cell), keep="samples")
        found = results.isel(cell=k, layer=slice(0, net.depth + 1))
        x = direct.log_sin2.values
        np.testing.assert_array_equal(found.log_sin2.values, x)
        counts = np.isfinite(x)
        np.testing.assert_array_equal(found.log_sin2_count, counts.sum(axis=0))
        np.testing.assert_array_equal(found.survivors, counts.sum(axis=0))
        inside = np.where(counts, x, np.nan)
        # Sums of 1000 numbers round by less than 1e-13 of their size.
        np.testing.assert_allclose(found.log_sin2_mean, np.nanmean(inside, axis=0), rtol=1e-13)
        # NumPy's variance of equal numbers is the square of the rounding of their mean, up to (1e-13)**2.
        np.testing.assert_allclose(found.log_sin2_variance, np.nanvar(inside, axis=0, ddof=1), rtol=1e-11, atol=1e-26)
        for layer in range(net.depth + 1):
            column = x[np.isfinite(x[:, layer]), layer]
            # NumPy's last bin holds its right end.
            expected = np.histogram(column[column < 0.0], 16, (-8.0, 0.0))[0]
            np.testing.assert_array_equal(found.log_sin2_histogram[layer], expected)
            assert int(found.log_sin2_overflow[layer]) == np.sum(column >= 0.0)
            exact = np.quantile(column, [0.1, 0.5], method="inverted_cdf")
            np.testing.assert_allclose(found.log_sin2_quantile[layer], exact, rtol=1e-3)
        assert np.all(np.isnan(results.log_sin2_mean.isel(cell=k, layer=slice(net.depth + 1, None))))


def test_moments_of_the_kernel_are_those_of_samples(tmp_path: Path) -> None:
    plain = run(angles(), tmp_path / "plain.zarr", progress=False)
    sampled = run(angles(statistics={"quantiles": [0.5]}), tmp_path / "sampled.zarr", progress=False)
    for name in ("log_sin2_mean", "log_sin2_variance", "log_sin2_mean_standard_error", "log_norm2_variance"):
        np.testing.assert_allclose(plain[name], sampled[name], rtol=1e-10, atol=1e-25)
    for name in ("survivors", "collapsed", "dead", "log_sin2_count"):
        np.testing.assert_array_equal(plain[name], sampled[name])


def test_provenance(tmp_path: Path) -> None:
    study = angles(name="angles by width")
    results = run(study, tmp_path / "angles.zarr", progress=False)
    assert results.attrs["identity"] == study.identity
    assert results.attrs["title"] == "angles by width"
    assert Study.from_dict(json.loads(results.attrs["study"])) == study
    assert json.loads(results.attrs["versions"])["wideangle"] == wa.__version__


def test_function_of_ones_own(tmp_path: Path, own: str) -> None:
    study = Study(f"{own}:numbers", samples=50, seed=3, grid={"scale": [1.0, 2.0]}, block_size=7)
    results = run(study, tmp_path / "own.zarr", progress=False)
    module = importlib.import_module(own)
    for k, cell in enumerate(study.cells):
        direct = module.numbers(first_sample=0, n_samples=50, seed=study.seed_of(cell), **cell.parameters)
        np.testing.assert_allclose(results.x_mean[k], direct["x"].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(results.total_variance[k], direct["total"].var(ddof=1), rtol=1e-12)


def test_datasets_bring_dimensions(tmp_path: Path, own: str) -> None:
    study = Study(f"{own}:labelled", samples=20, seed=3, grid={"n_times": [3, 5]}, block_size=6)
    results = run(study, tmp_path / "own.zarr", progress=False)
    assert results.path_mean.dims == ("cell", "time")
    np.testing.assert_array_equal(results.time, 0.5 * np.arange(5))
    np.testing.assert_array_equal(results.path_count, [[20, 20, 20, 0, 0], [20] * 5])


def test_cells_that_fail_leave_the_others(tmp_path: Path, own: str) -> None:
    study = Study(f"{own}:sometimes", samples=20, seed=3, grid={"fails": [False, True]}, block_size=5)
    with pytest.warns(StudyWarning, match=r"1 of 2 cells failed, .* cell 1 .*FloatingPointError: no such luck"):
        results = run(study, tmp_path / "own.zarr", progress=False)
    np.testing.assert_array_equal(results.status, [0, 2])
    np.testing.assert_array_equal(results.x_count, [20, 0])


def test_stopping_rule(tmp_path: Path) -> None:
    """Cells end at the first power of two of blocks at which all standard errors are small enough."""
    stop = {"variable": "log_sin2", "standard_error": 0.04, "min_samples": 1}
    study = angles(samples=20_000, block_size=100, stop=stop)
    results = run(study, tmp_path / "stop.zarr", progress=False)
    for k, cell in enumerate(study.cells):
        net = wa.MLP((cell.parameters["width"],) * cell.parameters["depth"])
        for blocks in 2 ** np.arange(8):
            direct = wa.propagation.simulate_angles(net, 0.3, n_samples=100 * int(blocks), seed=study.seed_of(cell))
            if float(direct.mean_standard_error.max()) <= 0.04:
                break
        assert int(results.n_samples[k]) == 100 * blocks
    np.testing.assert_array_equal(results.status, 0)
    assert len(set(results.n_samples.values.tolist())) > 1
    # The budget ends what the rule does not.
    small = angles(samples=250, block_size=100, stop=stop | {"standard_error": 1e-9})
    np.testing.assert_array_equal(run(small, tmp_path / "small.zarr", progress=False).n_samples, 250)


def test_stopping_rule_of_an_unknown_variable(tmp_path: Path, walk: Callable[..., dict[str, Any]]) -> None:
    # What a user's function returns is unknown before its first block.
    study = Study.from_dict(walk(stop={"variable": "y", "standard_error": 0.1}))
    with pytest.warns(StudyWarning, match=r"stop\.variable must be a variable of the method, got 'y'"):
        run(study, tmp_path / "stop.zarr", progress=False)


def test_time_limit_keeps_what_is_finished(tmp_path: Path) -> None:
    study = angles(samples=10**9, block_size=10**5)
    results = run(study, tmp_path / "angles.zarr", progress=False, max_time=0.5)
    done = results.n_samples.values.copy()
    assert 0 < done.sum() < 4 * 10**9
    assert results.status[0] == 1
    assert results.status[3] == 3
    more = run(study, tmp_path / "angles.zarr", progress=False, max_time=0.5)
    assert np.all(more.n_samples.values >= done)
    assert more.n_samples.sum() > done.sum()


def test_finished_store_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "angles.zarr"
    first = run(angles(), path, progress=False).load()
    times = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    assert run(angles(), path, progress=False).load().identical(first)
    assert times == {file: file.stat().st_mtime_ns for file in path.rglob("*")}


def test_bar_shows_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(angles(), tmp_path / "angles.zarr")
    assert "4.00k/4.00k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"study": {"method": "simulate_angles"}}, TypeError, "study must be a wideangle.studies.Study"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"max_time": 0.0}, ValueError, "max_time must be positive"),
        ({"executor": 3}, TypeError, "executor must be None, an executor"),
        ({"repair": "yes"}, TypeError, "repair must be True or False"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(**{"study": angles(), "store": tmp_path / "angles.zarr", **arguments})
    assert not (tmp_path / "angles.zarr").exists()


def test_memory_of_all_threads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wideangle.studies._executors.available_threads", lambda: 4)
    study = angles(samples=10**12, block_size=10**6, statistics={"quantiles": [0.5]})
    largest = study.plan().largest_block_bytes
    pools = (None, ThreadPoolExecutor(4), ProcessPoolExecutor(4))
    # A machine with room for three of these blocks.
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 3 * largest}[name])
    match = r"4 blocks of up to 1000000 samples at a time need .* GiB and this machine has"
    for pool in pools:
        with pytest.raises(ValueError, match=match), pool or nullcontext():
            run(study, tmp_path / "angles.zarr", executor=pool, progress=False)
        assert not (tmp_path / "angles.zarr").exists()


def test_executors_are_left_open(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        run(angles(), tmp_path / "angles.zarr", executor=pool, progress=False)
        assert pool.submit(int, "3").result() == 3


def test_pairs_that_collapse_do_not_count(tmp_path: Path) -> None:
    """Whether the kernel reduces its samples, or they are reduced afterwards."""
    parameters = {"theta0": 1.0, "width": 2, "depth": 6}
    histograms = {"log_sin2": [-5.0, 0.0, 5]}
    kernel = angles(grid={}, parameters=parameters, statistics={"histograms": histograms})
    sampled = angles(grid={}, parameters=parameters, statistics={"histograms": histograms, "quantiles": [0.01, 0.5]})
    one, other = (run(s, tmp_path / f"{k}.zarr", progress=False) for k, s in enumerate((kernel, sampled)))
    assert int(one.collapsed[0, -1]) > 100
    for name in ("log_sin2_histogram", "log_sin2_underflow", "log_sin2_overflow", "log_sin2_count", "collapsed"):
        np.testing.assert_array_equal(one[name], other[name])
    assert np.all(np.isfinite(other.log_sin2_quantile))


def test_rules_are_not_looked_at_too_early(tmp_path: Path, own: str) -> None:
    """Two equal samples have a standard error of 0, as has an event that was not seen yet."""
    stop = {"variable": "x", "standard_error": 0.1}
    arguments: dict[str, Any] = {"samples": 5000, "seed": 1, "grid": {"fails": [False]}, "block_size": 2}
    early = Study(f"{own}:sometimes", stop=stop | {"min_samples": 3}, **arguments)
    assert run(early, tmp_path / "early.zarr", progress=False).n_samples.item() == 4
    usual = Study(f"{own}:sometimes", stop=stop, **arguments)
    assert run(usual, tmp_path / "usual.zarr", progress=False).n_samples.item() == 1024
    short = Study(f"{own}:sometimes", stop=stop, **{**arguments, "samples": 10})
    assert run(short, tmp_path / "short.zarr", progress=False).n_samples.item() == 10


def test_rules_do_not_wait_for_samples_that_all_cells_need(tmp_path: Path) -> None:
    """What must be there before a rule is looked at is one round of tasks, not one for each power of two."""
    tasks: list[Any] = []

    class Noting(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            tasks.extend(args)
            return super().submit(fn, *args, **kwargs)

    study = angles(samples=10**4, block_size=10, stop={"variable": "log_sin2", "standard_error": 100.0})
    with Noting(1) as pool:
        results = run(study, tmp_path / "angles.zarr", executor=pool, progress=False)
    np.testing.assert_array_equal(results.n_samples, 1280)
    units = [unit for task in tasks for unit in task.units]
    assert {unit.cell for unit in units} == set(range(4))
    blocks = sum(unit.node.end(1000) - unit.node.first for unit in units)
    assert blocks == 4 * 128
    assert len(units) < 4 * 4


def test_small_blocks_end_in_time(tmp_path: Path) -> None:
    """What a block takes beside its samples counts: else tasks of blocks of one sample would take minutes."""
    study = angles(samples=10**7, block_size=1)
    results = run(study, tmp_path / "angles.zarr", progress=False, max_time=0.2)
    # By the estimate of the samples alone, the first task would have had a million blocks.
    assert 0 < int(results.n_samples.sum()) < 200_000
