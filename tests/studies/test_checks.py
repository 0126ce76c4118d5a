"""Studies that cannot work are refused when they are described, with argument, value and remedy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from wideangle.studies import Study


def angles(**changes: Any) -> Study:
    arguments: dict[str, Any] = {"samples": 100, "seed": 1, "parameters": {"theta0": 0.1, "depth": 3, "width": 4}}
    return Study("simulate_angles", **arguments | changes)


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"range": [1, 10**11, 1]}, "99999999999"),
        ({"range": [10**30, 1, -1]}, "9" * 30),
        ({"linspace": [0.1, 1, 10**12]}, "1000000000000"),
        ({"geomspace": [0.1, 1, 10**12]}, "1000000000000"),
        (itertools.count(1), "more"),
    ],
    ids=str,
)
def test_axes_longer_than_memory_are_refused_before_they_are_made(values: Any, number: str) -> None:
    with pytest.raises(ValueError, match=f"grid.width.* at most 1000000 values.* got {number}; give fewer"):
        angles(parameters={"theta0": 0.1, "depth": 3}, grid={"width": values})


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ({"geomspace": [16, 64, 3]}, [16, 32, 64]),
        ({"geomspace": [1, 3**20, 21]}, [3**k for k in range(21)]),
        ({"geomspace": [-8, -1, 4]}, [-8, -4, -2, -1]),
        ({"linspace": [16, 64, 4]}, [16, 32, 48, 64]),
        ({"linspace": [64, 64, 1]}, [64]),
        ({"linspace": [16.0, 64, 4]}, [16.0, 32.0, 48.0, 64.0]),
        ({"linspace": [1, 2, 3]}, [1.0, 1.5, 2.0]),
        ({"range": [5, 0, -2]}, [5, 3, 1]),
    ],
    ids=str,
)
def test_sequences_of_whole_numbers_are_integers(sequence: dict[str, Any], expected: list[float]) -> None:
    from wideangle.studies._cells import axis

    found = axis("x", sequence)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_misspelt_sequences_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'linspace'"):
        angles(grid={"width": {"linsapce": [16, 64, 4]}})
