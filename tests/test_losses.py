from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from wideangle.losses import LOSSES, Loss, parse_loss

MARGINS = (-1e4, -800.0, -40.0, -3.0, -1e-9, 0.0, 1e-9, 0.7, 1.0, 2.0, 40.0, 700.0, 1e4)

EXACT = {
    "cross-entropy": lambda m: mpmath.log1p(mpmath.exp(-m)),
    "hinge": lambda m: max(mpmath.mpf(0), 1 - m),
    "squared": lambda m: (1 - m) ** 2 / 2,
    "exponential": lambda m: mpmath.exp(-m),
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_those_of_the_definition(name: str) -> None:
    with mpmath.workdps(40):
        expected = [float(EXACT[name](mpmath.mpf(m))) for m in MARGINS]  # 10**4343 is inf as a float
    np.testing.assert_allclose(parse_loss(name).value(MARGINS), expected, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_force_is_minus_the_derivative_of_the_value(name: str) -> None:
    margins = [m for m in MARGINS if m != 1.0]
    with mpmath.workdps(60):
        slopes = [-mpmath.diff(EXACT[name], mpmath.mpf(m), h=mpmath.mpf("1e-25")) for m in margins]
        expected = [float(slope) for slope in slopes]
    # Finite differences leave 1e-25 in absolute value, where the force itself can be smaller.
    np.testing.assert_allclose(parse_loss(name).force(margins), expected, rtol=1e-14, atol=1e-24)


def test_small_forces_keep_their_relative_accuracy() -> None:
    with mpmath.workdps(40):
        expected = [float(1 / (1 + mpmath.exp(m))) for m in (30, 300, 700)]
    np.testing.assert_allclose(parse_loss("cross-entropy").force([30.0, 300.0, 700.0]), expected, rtol=1e-15)


def test_hinge_is_at_rest_at_its_kink() -> None:
    below = np.nextafter(1.0, 0.0)
    np.testing.assert_array_equal(parse_loss("hinge").force([below, 1.0, 1.5]), [1.0, 0.0, 0.0])


@pytest.mark.parametrize("name", LOSSES)
def test_name_and_loss_parse_to_the_same(name: str) -> None:
    loss = parse_loss(name)
    assert str(loss) == name
    assert parse_loss(loss) is loss
    assert loss == Loss(name)


@pytest.mark.parametrize("name", LOSSES)
def test_any_kind_of_array_gives_float64(name: str) -> None:
    loss = parse_loss(name)
    for margins in (3, np.arange(4), np.arange(4, dtype=">f4")[::-2], np.array([[0.5]], "f2")):
        value, force = loss.value(margins), loss.force(margins)
        assert value.dtype == force.dtype == np.float64
        assert value.shape == force.shape == np.shape(margins)


@pytest.mark.parametrize("bad", ["mse", "Hinge", ""])
def test_unknown_names_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="objective must be one of 'cross-entropy', 'hinge'"):
        parse_loss(bad, name="objective")


@pytest.mark.parametrize("bad", [None, 1, ["hinge"]])
def test_what_is_no_name_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="loss must be a string"):
        parse_loss(bad)
