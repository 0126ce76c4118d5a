"""Verdicts follow from the two ranges alone; texts and Datasets carry every number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from wideangle.reports import Claim, claims_dataset, claims_table

INF = math.inf


@pytest.mark.parametrize(
    ("interval", "allowed", "verdict"),
    [
        ((-0.5, 0.5), (-1.0, 1.0), "agrees"),
        ((-1.0, 1.0), (-1.0, 1.0), "agrees"),
        ((0.5, 1.5), (-1.0, 1.0), "not resolved"),
        ((-3.0, 3.0), (-1.0, 1.0), "not resolved"),
        ((1.1, 1.5), (-1.0, 1.0), "disagrees"),
        ((-1.5, -1.1), (-1.0, 1.0), "disagrees"),
        ((0.2, 0.4), (0.1, INF), "agrees"),
        ((0.0, 0.05), (0.1, INF), "disagrees"),
        ((0.0, 0.2), (0.1, INF), "not resolved"),
        ((0.3, 0.3), (-INF, 0.2), "disagrees"),
    ],
)
def test_verdict(interval: tuple[float, float], allowed: tuple[float, float], verdict: str) -> None:
    assert Claim("A number.", sum(interval) / 2, interval, allowed).verdict == verdict


@pytest.mark.parametrize(
    ("interval", "allowed"),
    [((1.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((math.nan, 1.0), (0.0, 1.0)), ((0.0, math.nan), (0.0, 1.0))],
)
def test_a_reversed_or_undefined_range_is_refused(interval: tuple[float, float], allowed: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Claim("A number.", 0.5, interval, allowed)


def test_texts() -> None:
    claim = Claim("A number.", -0.01234, (-0.02, 0.0), (-0.5, 0.5), "z = -3")
    assert claim.measured_text == "-0.0123 [-0.02, 0] (z = -3)"
    assert claim.allowed_text == "-0.5 to 0.5"
    assert Claim("A number.", 3e-9, (3e-9, 3e-9), (0.001, INF)).measured_text == "3e-09"
    assert Claim("A number.", 1.0, (1.0, 1.0), (-INF, 2.0)).allowed_text == "at most 2"
    nothing = Claim("A number.", math.nan, (-INF, INF), (-0.5, 0.5))
    assert (nothing.measured_text, nothing.verdict) == ("not measured", "not resolved")
    assert replace(nothing, note="two runs").measured_text == "not measured (two runs)"
    with pytest.raises(ValueError, match="statement must not be empty"):
        Claim("", 0.0, (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("width", [70, 100, 160])
def test_table_wraps_and_loses_nothing(width: int) -> None:
    statement = "The infinite-width limit misses the mean of the simulated networks by more than a tenth."
    claims = [Claim(statement, 0.25, (0.24, 0.26), (0.1, INF), "+90 standard errors"), Claim("B.", 0, (0, 0), (1, 2))]
    table = claims_table(claims, width=width)
    lines = table.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split("  ")[0] for line in lines if line[0] != " "] == ["VERDICT", "agrees", "disagrees"]
    assert set(statement.split()) <= set(table.split())


def test_dataset_holds_every_number() -> None:
    claims = [Claim("First.", 0.2, (0.1, 0.3), (0.0, INF), "n = 5"), Claim("Second.", 7.0, (7.0, 7.0), (-1.0, 1.0))]
    dataset = claims_dataset(claims)
    assert dataset["statement"].values.tolist() == ["First.", "Second."]
    assert dataset["verdict"].values.tolist() == ["agrees", "disagrees"]
    assert dataset["note"].values.tolist() == ["n = 5", ""]
    numbers = ["measured", "interval_low", "interval_high", "allowed_low", "allowed_high"]
    assert [dataset[name].values.tolist() for name in numbers] == [
        [0.2, 7.0],
        [0.1, 7.0],
        [0.3, 7.0],
        [0.0, -1.0],
        [INF, 1.0],
    ]
