"""Values of parameters: what a description can hold, and what many cells share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.studies import METHODS, Study
from wideangle.studies._cells import Cell, canonical

GRAM = {"width": 8, "depth": 2}


def gram(**changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 10, "seed": 1, "parameters": {**GRAM, "angle": 0.3}}
    return Study("simulate_gram", **options | changes)


@pytest.fixture
def own(own_module: Callable[[str, str], str]) -> str:
    return f"{own_module('of_values', 'def f(*, seed, first_sample, n_samples, d): return {}')}:f"


def deep(levels: int) -> Any:
    result: Any = 1
    for _ in range(levels):
        result = [result]
    return result


WRONG: list[tuple[Any, type[Exception], str]] = [
    ({"relu", "tanh"}, TypeError, r"got \{.*\(set\); give a list, which has an order"),
    (frozenset([1]), TypeError, r"\(frozenset\); give a list"),
    ([{1, 2}], TypeError, r"\(set\); give a list"),
    (b"ab", TypeError, r"got b'ab' \(bytes\)"),
    (bytearray(b"ab"), TypeError, r"\(bytearray\)"),
    (np.array([b"ab"]), TypeError, r"got b'ab' \(bytes\)"),
    (np.longdouble(0.1), TypeError, r"\(float128\); give such as float64|longdouble"),
    ({1: 2, "1": 3}, TypeError, r"d must have strings for keys, got 1 \(int\); write such as '1'"),
    ({"a": {None: 3}}, TypeError, r"d.a must have strings for keys, got None"),
    (10**4300, ValueError, "d must have at most 4300 digits.* got one of 14285 bits; give"),
    (deep(101), ValueError, "d must hold lists and tables at most 100 deep"),
]


@pytest.mark.parametrize(("value", "error", "message"), WRONG, ids=lambda item: str(type(item)))
def test_values_that_no_file_holds(own: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Study(own, samples=10, seed=1, parameters={"d": value})
    with pytest.raises(error, match=message):
        Study(own, samples=10, seed=1, grid={"d": [value]})


def test_values_that_a_file_holds(own: str) -> None:
    value = {"a": np.arange(3), "b": [None, True, 10**4200, -0.0], "c": xr.DataArray([0.5, 1.0]), "d": np.array(2)}
    expected = {"a": [0, 1, 2], "b": [None, True, 10**4200, -0.0], "c": [0.5, 1.0], "d": 2}
    study = Study(own, samples=10, seed=1, parameters={"d": value})
    assert study.cells[0].parameters == {"d": expected}
    for place in ({"parameters": {"d": deep(99)}}, {"grid": {"d": [deep(100)]}}, {"cells": [{own: {"d": deep(98)}}]}):
        study = Study(own, samples=10, seed=1, **place)
        assert Study.from_dict(study.to_dict()) == study


@pytest.mark.parametrize("values", [{"relu", "tanh"}, b"ab", np.array(3), np.float64(3), xr.DataArray(3.0)], ids=str)
def test_axes_without_an_order(values: Any) -> None:
    with pytest.raises(TypeError, match=r"(?s)grid.activation must be a list, got .* give a list such as"):
        gram(grid={"activation": values})


def test_methods_and_variables_without_an_order(own: str) -> None:
    for method in ({own, "simulate_gram"}, {own: 3}, frozenset([own])):
        with pytest.raises(TypeError, match="method must be a name or a function, or a list of these, got"):
            Study(method, samples=10, seed=1, parameters={"d": 1})
    with pytest.raises(TypeError, match=r"statistics\.variables must be a list of names, got"):
        gram(statistics={"variables": {"gram"}})


@pytest.mark.parametrize(
    "numbers", [np.array([0, 10, 3]), (np.int64(0), np.int64(10), np.int32(3)), xr.DataArray([0, 10, 3])], ids=repr
)
@pytest.mark.parametrize("kind", ["linspace", "range"])
def test_sequences_of_numpy_numbers(own: str, numbers: Any, kind: str) -> None:
    study = Study(own, samples=10, seed=1, grid={"d": {kind: numbers}})
    assert study == Study(own, samples=10, seed=1, grid={"d": {kind: [0, 10, 3]}})


SEQUENCES: list[tuple[dict[str, Any], str]] = [
    ({"linspace": [0, 10**400, 3]}, r"grid.d.linspace must hold finite numbers, got \[0, 10*\.\.\.0*, 3\]"),
    ({"geomspace": [1, 10**400, 3]}, "grid.d.geomspace must hold finite numbers"),
    ({"linspace": [0, 1, 10**400]}, "grid.d.linspace must hold finite numbers"),
    ({"range": [0, 10**400, 1]}, r"grid.d.range has at most 1000000 values, .* got 10*\.\.\.0*; give fewer"),
    ({"range": [0, 10**400, 10**399, 1]}, "grid.d.range must hold three numbers"),
    ({"linspace": [-1e308, 1e308, 3]}, "grid.d.linspace must have values and differences that floats reach"),
    ({"linspace": [True, 3, 3]}, "grid.d.linspace must hold finite numbers"),
    ({"linspace": [0.0, float("inf"), 3]}, "grid.d.linspace must hold finite numbers"),
]


@pytest.mark.parametrize(("sequence", "message"), SEQUENCES, ids=lambda item: str(item)[:30])
def test_sequences_beyond_floats(own: str, sequence: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Study(own, samples=10, seed=1, grid={"d": sequence})


def test_geometric_sequences_at_the_ends_of_floats(own: str) -> None:
    study = Study(own, samples=10, seed=1, grid={"d": {"geomspace": [1e-300, 1e-200, 3]}})
    np.testing.assert_allclose([cell.parameters["d"] for cell in study.cells], [1e-300, 1e-250, 1e-200], rtol=1e-12)
    with pytest.raises(ValueError, match="numbers of the same sign"):
        Study(own, samples=10, seed=1, grid={"d": {"geomspace": [-1e-300, 1e-300, 3]}})


@pytest.mark.parametrize("pair", [(1, 1.0), (0.0, -0.0), ([1, 2], [1.0, 2]), ({"a": 1}, {"a": 1.0}), (10**22, 1e22)])
def test_whole_numbers_are_one_cell_with_and_without_a_point(own: str, pair: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="occurs twice, as whole numbers are the same with and without a point"):
        Study(own, samples=10, seed=1, grid={"d": list(pair)})
    with pytest.raises(ValueError, match="occurs twice"):
        Study(own, samples=10, seed=1, cells=[{"d": value} for value in pair])


def test_other_values_are_other_cells(own: str) -> None:
    values = [1, True, "1", None, "None", [1], ["1"], {"1": 1}, 1.5, [], {}, "", 2**53 + 1, 2.0**53, "\0d\x001"]
    long = [list(range(100)), list(range(1, 101))]
    assert len(Study(own, samples=10, seed=1, grid={"d": values + long}).cells) == len(values) + 2


def test_texts_are_those_of_json(own: str) -> None:
    value = ['\u00e9"\\\n\x7f\U0001f600', 0.1, 1e22, float("inf"), -0.0, {"b": [1, True, None], "a": {}}, 2**80]
    study = Study(own, samples=10, seed=1, grid={"d": [value, *value]})
    for cell in study.cells:
        expected = canonical({"method": cell.method, "parameters": json.loads(json.dumps(cell.parameters))})
        assert cell.text == expected
        assert f'"{cell.quoted}"' == json.dumps(expected)
        assert Cell(cell.method, cell.parameters).text == expected


def test_identities_stay() -> None:
    """Of descriptions that stores hold: written down before texts were shared between cells."""
    import hashlib

    study = gram(grid={"activation": ["relu", "leaky_relu(0.1)"]}, random_numbers="common", block_size=7)
    content = {
        "cells": [cell.text for cell in study.cells],
        "samples": 10,
        "seed": 1,
        "block_size": 7,
        "random_numbers": "common",
        "statistics": {},
        "stop": None,
        "versions": {"simulate_gram": METHODS["simulate_gram"].version},
        "files": [],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert study.identity == hashlib.sha256(text.encode()).hexdigest()


def test_what_cells_share_is_written_and_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from wideangle.studies import _method_training

    checked: list[Any] = []
    check = _method_training._shared

    def counted(*arguments: Any) -> Any:
        checked.append(arguments)
        return check(*arguments)

    monkeypatch.setattr(_method_training, "_shared", counted)
    inputs = np.random.default_rng(3).normal(size=(50, 20))
    data = {"x": inputs.tolist(), "y": np.sign(inputs[:, 0]).tolist()}
    parameters = {"width": 4, "depth": 1, "n_steps": 2, "data": data}
    study = Study(
        "simulate_training",
        samples=10,
        seed=1,
        parameters=parameters,
        grid={"learning_rate": {"linspace": [0.001, 0.1, 200]}},
    )
    assert len(checked) == 1
    written = 0

    def counting(value: Any, **options: Any) -> str:
        nonlocal written
        text = dumps(value, **options)
        written += len(text)
        return text

    dumps = json.dumps
    size = len(dumps(data))
    assert size > 10_000
    monkeypatch.setattr("wideangle.studies._cells.json.dumps", counting)
    assert study.identity
    assert study.plan().n_cells == 200
    assert written < 4 * size
