"""Learning times and margins against integrals in 40 digits, which share no code with the package."""

from __future__ import annotations

from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest

import wideangle as wa
from wideangle.losses import LOSSES

time_to = wa.dynamics.predict_learning_time
margin_at = wa.dynamics.predict_margin

FORCES: dict[str, Any] = {
    "cross-entropy": lambda m: 1 / (1 + mpmath.exp(m)),
    "hinge": lambda m: mpmath.mpf(1),
    "squared": lambda m: 1 - m,
    "exponential": lambda m: mpmath.exp(-m),
}
BREAKS = (-20, -5, -2, -1, -0.1, -1e-4, 0, 1e-100, 1e-20, 1e-4, 0.1, 0.5, 0.9, 0.99, 1.01, 1.1, 2, 5, 10, 20, 40, 100)


def speed(m: Any, depth: int, imbalance: float) -> Any:
    if depth == 2:
        return mpmath.sqrt(mpmath.mpf(imbalance) ** 2 + 4 * m * m)
    return depth * m ** (2 - mpmath.mpf(2) / depth)


@cache
def exact_time(margin: float, margin0: float, loss: str, depth: int = 2, imbalance: float = 0.0) -> Any:
    """Return the integral of dm/(g h) in 40 digits, in the time that a force of 1 would take."""
    c = mpmath.mpf(imbalance)
    free: Any
    back: Any
    if depth == 1:
        free, back = (lambda m: m), (lambda s: s)
    elif depth == 2 and imbalance > 0.0:
        free, back = (lambda m: mpmath.asinh(2 * m / c) / 2), (lambda s: c / 2 * mpmath.sinh(2 * s))
    elif depth == 2:
        free, back = (lambda m: mpmath.log(m) / 2), (lambda s: mpmath.exp(2 * s))
    else:
        k = 1 - mpmath.mpf(2) / depth
        free, back = (lambda m: -(m**-k) / (k * depth)), (lambda s: (-k * depth * s) ** (-1 / k))
    lo, hi = sorted((mpmath.mpf(margin0), mpmath.mpf(margin)))
    candidates = [mpmath.mpf(b) for b in BREAKS] + [hi - b for b in (1, 2, 4, 8, 16, 32, 64)]
    crossing = depth == 1 or imbalance > 0.0
    points = [lo, *sorted({b for b in candidates if lo < b < hi and (b > 0 or crossing)}), hi]
    total = mpmath.quad(lambda s: 1 / FORCES[loss](back(s)), [free(m) for m in points], method="gauss-legendre")
    return total if margin > margin0 else -total


def cases(loss: str) -> list[tuple[float, float, int, float]]:
    """Margins, initial margins, depths and imbalances in all regions of the formulas."""
    pairs = [(0.3, 1e-300), (0.9, 1e-5), (0.2, 0.2 * (1 + 1e-12)), (0.02, 0.7), (0.999, 0.4)]
    crossing = [
        (0.5, -0.3),
        (0.8, -30.0),
        (-0.2, -3.0),
        (1e-9, -1e-7),
        (-7.0, -7.0 * (1 + 1e-13)),
        (0.0, -0.1),
        (1e-40, -0.3),
    ]
    if loss == "squared":
        pairs += [(1.2, 40.0), (3.0, 2.5), (1.01, 1.3), (0.499, 0.45)]
    elif loss != "hinge":
        pairs += [(3.0, 0.5), (30.0, 1e-3), (700.0, 2.0), (55.0, 54.9), (0.5, 90.0)]
        crossing += [(20.0, -20.0), (-60.0, -200.0)]
    balanced = [(m, m0, depth, 0.0) for depth in (1, 2, 3, 4, 10) for m, m0 in pairs]
    linear = [(m, m0, 1, 0.0) for m, m0 in crossing]
    imbalanced = [(m, m0, 2, c) for c in (1e-60, 1e-3, 0.4, 1e4) for m, m0 in pairs + crossing]
    return balanced + linear + imbalanced


@pytest.mark.parametrize("loss", LOSSES)
def test_times_are_the_integrals(loss: str) -> None:
    with mpmath.workdps(40):
        for margin, margin0, depth, imbalance in cases(loss):
            expected = exact_time(margin, margin0, loss, depth, imbalance)
            found = time_to(margin, margin0, loss=loss, depth=depth, imbalance=imbalance)
            error = abs(found / float(expected) - 1.0)
            assert error < 5e-14, (margin, margin0, depth, imbalance, float(found), float(expected))


@pytest.mark.parametrize("loss", LOSSES)
def test_margins_solve_for_the_time(loss: str) -> None:
    """The exact time of the margin found is the time asked for, but for rounding of either."""
    with mpmath.workdps(40):
        for margin, margin0, depth, imbalance in cases(loss):
            time = float(exact_time(margin, margin0, loss, depth, imbalance))
            if time < 0.0 or (loss == "squared" and abs(margin - 1.0) < 0.02 and imbalance == 0.0):
                continue
            found = float(margin_at(time, margin0, loss=loss, depth=depth, imbalance=imbalance))
            slope = abs(FORCES[loss](mpmath.mpf(margin)) * speed(mpmath.mpf(margin), depth, imbalance))
            allowed = 1e-14 * abs(margin) + 5e-14 * time * float(slope)
            assert abs(found - margin) < allowed, (margin, found, margin0, depth, imbalance)


def test_cross_entropy_is_the_formula_of_the_paper() -> None:
    m, m0, rate = 5.0, 0.2, 0.3
    with mpmath.workdps(40):
        bracket = mpmath.log(mpmath.mpf(m) / mpmath.mpf(m0)) + mpmath.ei(m) - mpmath.ei(m0)
        expected = float(bracket / (2 * mpmath.mpf(rate)))
    assert time_to(m, m0, rate=rate) == pytest.approx(expected, rel=1e-14)


def test_times_span_the_range_of_floats() -> None:
    times = 10.0 ** np.arange(-300.0, 301.0, 25.0)
    for margin0 in (1e-300, 1e-3, 1.0):
        for loss in ("cross-entropy", "exponential"):
            margins = margin_at(times, margin0, loss=loss)
            assert np.all(np.diff(margins) >= 0.0)
            slope = 2.0 * margins * np.exp(-margins)
            if loss == "cross-entropy":
                slope /= 1.0 + np.exp(-margins)
            missed = np.abs(time_to(margins, margin0, loss=loss) - times) * slope
            assert np.all(missed < 1e-14 * margins + 5e-14 * times * slope)


def test_rate_divides_the_time() -> None:
    rates = np.array([1e-200, 1e-3, 7.0, 1e250])
    for loss in ("hinge", "cross-entropy", "exponential"):
        expected = time_to(0.9, 0.01, loss=loss) / rates
        np.testing.assert_allclose(time_to(0.9, 0.01, rate=rates, loss=loss), expected, rtol=1e-13)
        np.testing.assert_allclose(margin_at(expected, 0.01, rate=rates, loss=loss), 0.9, rtol=1e-12)
    # e^900 is no float, e^900/1e200 is one; and a time of 1e300 at rate 1e300 is beyond them.
    assert time_to(900.0, 1.0, rate=1e200) == pytest.approx(float(mpmath.ei(900) / 2 / mpmath.mpf("1e200")), rel=2e-13)
    reached = margin_at(1e300, 1.0, rate=1e300)
    assert reached == pytest.approx(np.log(2.0) + 600 * np.log(10.0) + np.log(reached) - 1.0 / reached, rel=1e-8)


def test_what_exceeds_floats_or_is_never_reached_is_infinite() -> None:
    assert time_to(800.0, 0.1) == np.inf
    np.testing.assert_array_equal(time_to([1.0 + 1e-12, 3.0], 0.1, loss="hinge"), [np.inf, np.inf])
    np.testing.assert_array_equal(time_to([1.0, 2.0], 0.1, loss="squared"), [np.inf, np.inf])
    np.testing.assert_array_equal(time_to([1.0, 0.5], 2.0, loss="squared"), [np.inf, np.inf])
    np.testing.assert_array_equal(time_to([0.5, 1.0, 2.0], 1.0, loss="hinge"), [np.inf, 0.0, np.inf])


def test_times_add_up_and_change_sign() -> None:
    for loss in LOSSES:
        there, back = time_to(0.8, 0.1, loss=loss), time_to(0.1, 0.8, loss=loss)
        assert there == -back > 0.0
        assert time_to(0.3, 0.1, loss=loss) + time_to(0.8, 0.3, loss=loss) == pytest.approx(there, rel=1e-13)
        assert time_to(0.3, 0.3, loss=loss) == 0.0
    assert time_to(2.0, 5.0, loss="squared") > 0.0 > time_to(5.0, 2.0, loss="squared")


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_hinge_freezes_at_exactly_one(depth: int) -> None:
    needed = time_to(1.0, 1e-4, loss="hinge", depth=depth)
    after = np.array([1.0, 1.0 + 1e-10, 2.0, 1e300]) * needed
    np.testing.assert_array_equal(margin_at(after, 1e-4, loss="hinge", depth=depth), 1.0)
    assert margin_at(needed * (1.0 - 1e-5), 1e-4, loss="hinge", depth=depth) < 1.0
    np.testing.assert_array_equal(margin_at([0.0, 5.0], 3.0, loss="hinge", depth=depth), 3.0)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_squared_loss_ends_at_one_from_either_side(depth: int) -> None:
    for start in (1e-3, 0.6, 1.4, 2.5, 1e4):
        found = margin_at([*np.linspace(0.5, 30.0, 200), 1e4, 1e300], start, loss="squared", depth=depth)
        assert found[-1] == 1.0
        assert np.all(np.diff(np.abs(found - 1.0)) <= 3e-16)
    assert margin_at(1e9, 1.0, loss="squared", depth=depth) == 1.0


@pytest.mark.parametrize("depth", [2, 3])
def test_arguments_broadcast_and_elements_do_not_depend_on_each_other(depth: int) -> None:
    rng = np.random.default_rng(0)
    margins0, times = rng.uniform(1e-3, 2.0, (3, 1)), 10.0 ** rng.uniform(-3.0, 6.0, (1, 50))
    imbalances = rng.choice([0.0, 1e-4, 3.0], (3, 50)) if depth == 2 else np.zeros((3, 50))
    found = margin_at(times, margins0, imbalance=imbalances, depth=depth)
    back = time_to(found, margins0, imbalance=imbalances, depth=depth)
    assert found.shape == back.shape == (3, 50)
    for i, j in np.ndindex(3, 50):
        one = margin_at(times[0, j], margins0[i, 0], imbalance=imbalances[i, j], depth=depth)
        assert isinstance(one, float)
        assert one == found[i, j]
        assert time_to(one, margins0[i, 0], imbalance=imbalances[i, j], depth=depth) == back[i, j]


def test_kinds_of_arrays() -> None:
    expected = time_to([2.0, 4.0], 1.0)
    for margins in (
        np.array([2, 4]),
        np.array([2, 4], "f2"),
        np.array([4.0, 2.0], dtype=">f8")[::-1],
        np.array([2, 4], "u1"),
    ):
        np.testing.assert_array_equal(time_to(margins, 1), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin0": 0.0}, "margin0 must be positive where imbalance is 0, got 0.0"),
        ({"margin0": -0.1}, "margin0 must be positive"),
        ({"margin": -0.1}, "margin must be positive"),
        ({"margin": np.nan}, "margin must be finite"),
        ({"margin0": [0.1, np.inf]}, "margin0 must be finite"),
        ({"margin": 1e101}, r"margin must be finite and at most 1e\+100"),
        ({"margin": []}, "margin must not be empty"),
        ({"margin": [1.0, 2.0], "margin0": [0.1, 0.2, 0.3]}, r"margin \(2,\), margin0 \(3,\)"),
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"rate": -1.0}, "rate must be positive"),
        ({"loss": "mse"}, "loss must be one of"),
        ({"depth": 0}, "depth must lie between 1"),
        ({"depth": 3, "imbalance": 0.1}, "imbalance must be 0 for depth 3"),
        ({"imbalance": [0.0, 1.0], "margin0": [-0.1, -0.1]}, "margin0 must be positive where"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_to(**{"margin": 0.5, "margin0": 0.1, **arguments})


@pytest.mark.parametrize("bad", [1j, "0.5", None, True])
def test_bad_types_are_named(bad: Any) -> None:
    with pytest.raises(TypeError, match="margin must hold real numbers"):
        time_to(bad, 0.1)
    with pytest.raises(TypeError, match="time must hold real numbers"):
        margin_at(bad, 0.1)
    with pytest.raises(TypeError, match="depth must be an integer"):
        time_to(0.5, 0.1, depth=2.0)  # type: ignore[arg-type]


def test_extreme_starts() -> None:
    """Where squares, products or quotients of the arguments leave the range of floats, results do not."""
    hyperbolic = float(mpmath.mpf("0.5e-173") * mpmath.sinh(mpmath.mpf("0.6")))
    for loss in ("hinge", "squared"):  # a force of 1 at such margins
        found = margin_at(0.3, -1e-280, loss=loss, imbalance=1e-173)
        assert found == pytest.approx(hyperbolic, rel=1e-14)
        assert time_to(found, -1e-280, loss=loss, imbalance=1e-173) == pytest.approx(0.3, rel=1e-14)
    # e^m dm = dt from far below: m = ln t, whatever the start.
    assert margin_at(1e-100, -1e30, loss="exponential", depth=1) == pytest.approx(-100 * np.log(10.0), rel=1e-14)
    assert margin_at(5.0, -1e50, loss="squared", depth=1) == pytest.approx(-1e50 * np.exp(-5.0), rel=1e-14)
    assert margin_at(500.0, -1e50, loss="squared", depth=1) == 1.0


def test_negative_times_are_refused() -> None:
    with pytest.raises(ValueError, match=r"time must not be negative, got -1\.0"):
        margin_at([1.0, -1.0], 0.1)
