"""Methods that fail in a cell, or return what does not fit: a status, a warning, and the others finished."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies._journal import Journal
from wideangle.studies.study import Study

Write = Callable[[str, str], str]

METHOD = """
import sys

import numpy as np

def method(*, cell, seed, first_sample, n_samples):
    k = np.arange(first_sample, first_sample + n_samples, dtype=float)
    if cell == 1 and first_sample >= {first}:
        {wrong}
    return {{"x": k, "pair": np.stack([k, -k], axis=1)}}
"""

WRONG = {
    "raises": ("raise ZeroDivisionError('of cell one')", "ZeroDivisionError: of cell one"),
    "memory": ("raise MemoryError('too much')", "MemoryError: too much"),
    "exits": ("sys.exit('the end')", "SystemExit: the end"),
    "shape": ("return {'x': k, 'pair': np.stack([k, k, k], axis=1)}", "same shapes"),
    "dimensions": (
        "return {'x': np.stack([k, k], axis=1), 'pair': np.stack([k, -k], axis=1)}",
        "same variables and dim",
    ),
    "variables": ("return {'x': k}", "same variables"),
    "too few": ("return {'x': k[1:], 'pair': np.stack([k, -k], axis=1)[1:]}", "must return 50 samples"),
    "too many": ("k = np.append(k, 0.0); return {'x': k, 'pair': np.stack([k, -k], axis=1)}", "must return 50 samples"),
    "complex": ("return {'x': k + 1j, 'pair': np.stack([k, -k], axis=1)}", "real numbers"),
    "nothing": ("return None", "arrays by name"),
    "empty": ("return {}", "must return at least one variable, got none"),
    "empty block": (
        "from wideangle.studies import Block; return Block({})",
        "must return at least one variable, got none",
    ),
}


def run(study: Study, store: Path, **options: Any) -> Any:
    return wa.studies.run(study, store, progress=False, **options)


def study_of(name: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 500, "seed": 1, "block_size": 50, "grid": {"cell": [0, 1, 2]}}
    return Study(f"{name}:method", **{**options, **changes})


# What differs from the first block on is a method like any other.
@pytest.mark.parametrize(
    ("wrong", "first"), [*((wrong, 350) for wrong in WRONG), *((wrong, 0) for wrong in ("raises", "too few", "empty"))]
)
def test_one_cell_fails(wrong: str, first: int, own_module: Write, tmp_path: Path) -> None:
    text, message = WRONG[wrong]
    name = f"wrong_{wrong.replace(' ', '_')}_{first}"
    own_module(name, METHOD.format(first=first, wrong=text))
    store = tmp_path / "store"
    for _ in range(2):  # It is tried again, and fails again.
        with pytest.warns(wa.studies.StudyWarning, match=f"1 of 3 cells failed.*cell = 1.*{message}"):
            results = run(study_of(name), store)
        assert results.status.values.tolist() == [0, 2, 0]
        assert results.n_samples.values[[0, 2]].tolist() == [500, 500]
        assert results.n_samples.values[1] <= 450
        np.testing.assert_allclose(results.x_mean.values[[0, 2]], 249.5, rtol=1e-14)
        results.close()
    journal = Journal(store / "journal.sqlite")
    assert [failure.cell for failure in journal.failures()] == [1]
    journal.close()


def test_a_cell_that_failed_is_tried_again(own_module: Write, tmp_path: Path) -> None:
    text = """
    import pathlib
    import numpy as np

    def method(*, cell, folder, seed, first_sample, n_samples):
        if cell == 1 and first_sample >= 100 and not pathlib.Path(folder, "mended").exists():
            raise OSError("a file is missing")
        return {"x": np.arange(first_sample, first_sample + n_samples, dtype=float) + cell}
    """
    own_module("fails_at_first", text)
    study = study_of("fails_at_first", parameters={"folder": str(tmp_path)})
    with pytest.warns(wa.studies.StudyWarning, match="a file is missing"):
        run(study, tmp_path / "store").close()
    (tmp_path / "mended").touch()
    with run(study, tmp_path / "store") as results, run(study, tmp_path / "other") as others:
        assert results.status.values.tolist() == [0, 0, 0]
        assert results.identical(others)


WIDE = """
import numpy as np

def method(*, cell, seed, first_sample, n_samples):
    return {"x": np.zeros((n_samples, 100 if cell == 1 else 1))}
"""


def test_results_that_no_journal_can_hold(own_module: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module("wide", WIDE)
    monkeypatch.setattr("wideangle.studies._packing._MOST", 4000)
    with pytest.warns(wa.studies.StudyWarning, match="1 of 3 cells failed.*the results of a cell take .* fewer bins"):
        results = run(study_of("wide"), tmp_path / "store")
    assert results.status.values.tolist() == [0, 2, 0]
    results.close()


NO_TEXT = """
import numpy as np

class WithoutText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def method(*, cell, seed, first_sample, n_samples):
    if cell == 1:
        raise {error}
    return {{"x": np.arange(first_sample, first_sample + n_samples, dtype=float)}}
"""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (r"OSError('no file \udcff')", r"OSError: no file \udcff"),
        (r"OSError('a\0b\x1b[31m\nline')", "OSError: a\\x00b\\x1b[31m\nline"),
        ("WithoutText()", "WithoutText: an error without text, as its own text raises RuntimeError"),
    ],
)
def test_messages_that_are_no_text(error: str, expected: str, own_module: Write, tmp_path: Path) -> None:
    """They are written with escapes, and the other cells are there."""
    own_module("no_text", NO_TEXT.format(error=error))
    for _ in range(2):
        with pytest.warns(wa.studies.StudyWarning, match="1 of 3 cells failed"):
            results = run(study_of("no_text"), tmp_path / "store")
        assert results.status.values.tolist() == [0, 2, 0]
        results.close()
    found = wa.studies.status(tmp_path / "store")
    assert [failure.message for failure in found.failures] == [expected]
    str(found).encode()
    assert wa.studies.write_report(tmp_path / "store").is_file()


def test_samples_of_another_type_are_not_rounded(own_module: Write, tmp_path: Path) -> None:
    text = """
    import numpy as np

    def method(*, cell, seed, first_sample, n_samples):
        k = np.arange(first_sample, first_sample + n_samples)
        return {"x": k if cell == 1 and first_sample < 50 else k + 0.5}
    """
    own_module("other_types", text)
    with pytest.warns(wa.studies.StudyWarning, match="same shapes and types"):
        run(study_of("other_types", statistics={"samples": True}), tmp_path / "store").close()


def test_samples_alone_can_be_kept(own_module: Write, tmp_path: Path) -> None:
    own_module("samples_alone", METHOD.format(first=10**9, wrong="pass"))
    study = study_of("samples_alone", statistics={"samples": True, "moments": False})
    with run(study, tmp_path / "store") as results:
        np.testing.assert_array_equal(results.pair.values[1, :, 1], -np.arange(500.0))


def test_coordinates_that_change_are_a_failure(own_module: Write, tmp_path: Path) -> None:
    text = """
    import numpy as np
    import xarray as xr

    def method(*, cell, seed, first_sample, n_samples):
        time = np.array([0.0, np.nan if cell == 0 else 1.0 + (cell == 1 and first_sample > 100)])
        return xr.Dataset({"x": (("sample", "time"), np.ones((n_samples, 2)))}, {"time": time})
    """
    own_module("other_times", text)
    with pytest.warns(wa.studies.StudyWarning, match="same coordinates, got 'time'"):
        results = run(study_of("other_times"), tmp_path / "store")
    assert results.status.values.tolist() == [0, 2, 0]
    results.close()


def test_values_that_are_not_finite_do_not_count(own_module: Write, tmp_path: Path) -> None:
    text = """
    import numpy as np

    def method(*, cell, seed, first_sample, n_samples):
        k = np.arange(first_sample, first_sample + n_samples, dtype=float)
        if cell == 1:
            k[k % 5 == 0] = np.nan
            k[k % 5 == 1] = np.inf
        if cell == 2:
            k[:] = np.nan
        return {"x": k}
    """
    own_module("not_finite", text)
    study = study_of("not_finite", statistics={"histograms": {"x": [0.0, 500.0, 5]}, "quantiles": [0.5]})
    with run(study, tmp_path / "store") as results:
        assert results.status.values.tolist() == [0, 0, 0]
        assert results.n_samples.values.tolist() == [500] * 3
        assert results.x_count.values.tolist() == [500, 300, 0]
        assert results.x_histogram.values.tolist() == [[100] * 5, [60] * 5, [0] * 5]
        assert results.x_overflow.values.tolist() == [0, 0, 0]
        assert results.x_mean.values[1] == pytest.approx(np.mean([k for k in range(500) if k % 5 > 1]), rel=1e-14)
        assert np.isnan(results.x_mean.values[2])
        assert np.isnan(results.x_quantile.values[2]).all()


def test_a_method_whose_source_changes_is_another_study(own_module: Write, tmp_path: Path) -> None:
    own_module("changing", METHOD.format(first=0, wrong="pass"))
    before = study_of("changing")
    run(before, tmp_path / "store", max_time=1e-9).close()
    own_module("changing", METHOD.format(first=0, wrong="k = k + 1.0"))
    study = study_of("changing")
    assert study.identity != before.identity
    with pytest.raises(wa.studies.StoreError, match="the code of its method has changed"):
        run(study, tmp_path / "store")


def test_a_file_that_is_edited_later_is_not_what_runs(own_module: Write) -> None:
    own_module("edited", METHOD.format(first=0, wrong="pass"))
    before = study_of("edited").identity
    source = Path(sys.modules["edited"].__file__ or "")
    source.write_text(METHOD.format(first=0, wrong="k = k + 1.0"), encoding="utf-8")
    assert study_of("edited").identity == before


ENDS = """
import sys

import numpy as np

def method(*, cell, seed, first_sample, n_samples):
    if cell == 1 and first_sample >= 350:
        {end}
    return {{"x": np.arange(first_sample, first_sample + n_samples, dtype=float)}}
"""


@pytest.mark.parametrize("place", ["threads", "processes", "Dask threads"])
def test_a_function_that_ends_the_process_fails_in_its_cell(
    place: str, elsewhere: dict[str, Any], own_module: Write, tmp_path: Path
) -> None:
    name = own_module(f"exits_in_{place.replace(' ', '_')}", ENDS.format(end="sys.exit(3)"))
    with (
        elsewhere[place](1) if place in elsewhere else nullcontext() as executor,
        pytest.warns(wa.studies.StudyWarning, match="1 of 3 cells failed.*SystemExit: 3"),
    ):
        results = run(study_of(name), tmp_path / "store", executor=executor)
    assert results.status.values.tolist() == [0, 2, 0]
    results.close()


UNREADABLE = """
import numpy as np

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def method(*, cell, seed, first_sample, n_samples):
    if cell == 1:
        raise Silent
    if cell == 2:
        open("/nowhere/" + "\\udcff")
    return {"x": np.arange(first_sample, first_sample + n_samples, dtype=float)}
"""


def test_errors_whose_text_cannot_be_shown_or_stored(own_module: Write, tmp_path: Path) -> None:
    own_module("unreadable", UNREADABLE)
    with pytest.warns(wa.studies.StudyWarning, match=r"2 of 3 cells failed, .*1\): Silent: an error without text"):
        results = run(study_of("unreadable"), tmp_path / "store")
    assert results.status.values.tolist() == [0, 2, 2]
    results.close()
    message = wa.studies.status(tmp_path / "store").failures[1].message
    assert message.startswith("FileNotFoundError: ")
    assert "udcff" in message


def test_ctrl_c_in_a_function_ends_the_run(own_module: Write, tmp_path: Path) -> None:
    own_module("interrupted", ENDS.format(end="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        run(study_of("interrupted"), tmp_path / "store")
    assert wa.studies.status(tmp_path / "store").failures == ()


def test_a_module_that_ends_the_process_cannot_be_a_method(own_module: Write) -> None:
    own_module("a_program", "import sys\nmethod = len\nsys.exit(2)")
    with pytest.raises(ValueError, match=r"as its module ends the process \(SystemExit\(2\)\); put .*__main__"):
        study_of("a_program")
