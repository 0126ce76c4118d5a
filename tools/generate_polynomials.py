"""Print the polynomial coefficients of cpp/kernels, with the largest error of each before rounding.

vector_math.hpp, normal.hpp and activations.hpp hold them. Every polynomial but one interpolates its function at
Chebyshev nodes in the variable named, which is within a small factor of the minimax error. Run with mpmath installed:
``python tools/generate_polynomials.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

Function = Callable[[Any], Any]


def interpolate(function: Function, low: Any, high: Any, degree: int) -> tuple[list[Any], Any]:
    """Return the coefficients, constant first, and the largest error relative to the function on a fine grid."""
    count = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    vandermonde = mp.matrix(count, count)
    for i, node in enumerate(nodes):
        for j in range(count):
            vandermonde[i, j] = node**j
    coefficients = list(mp.lu_solve(vandermonde, mp.matrix([function(node) for node in nodes])))
    grid = [low + (high - low) * mp.mpf(i) / 997 for i in range(1, 997)]
    error = max(abs(mp.polyval(coefficients[::-1], x) / function(x) - 1) for x in grid)
    return coefficients, error


def sine_ratio(z: Any) -> Any:
    """sin(x)/x as a function of z = x^2."""
    return mp.sinc(mp.sqrt(z))


def sine_ratio_root2(z: Any) -> Any:
    """sqrt(2) sin(x)/x as a function of z = x^2."""
    return mp.sqrt(2) * sine_ratio(z)


def cosine_root2(z: Any) -> Any:
    """sqrt(2) cos(x) as a function of z = x^2."""
    return mp.sqrt(2) * mp.cos(mp.sqrt(z))


def log_ratio(f: Any) -> Any:
    """log(1 + f)/f."""
    return mp.log1p(f) / f if f else mp.mpf(1)


def log_atanh(s: Any) -> Any:
    """atanh(sqrt s)/sqrt s, from which log m = 2 f (1 + ...) with f = (m - 1)/(m + 1), s = f^2."""
    return mp.atanh(mp.sqrt(s)) / mp.sqrt(s)


def arctangent_ratio(z: Any) -> Any:
    """atan(x)/x as a function of z = x^2."""
    return mp.atan(mp.sqrt(z)) / mp.sqrt(z)


def exponential_rest(r: Any) -> Any:
    """(exp(r) - 1 - r)/r^2."""
    return (mp.expm1(r) - r) / r**2 if r else mp.mpf(1) / 2


def log_erfc_ratio(a: Any) -> Any:
    """-log(erfc(a))/a."""
    return -mp.log(mp.erfc(a)) / a if a else 2 / mp.sqrt(mp.pi)


def erf_weight(a: Any) -> Any:
    """Relative change of erf(a) for a change of log_erfc_ratio(a)."""
    return a * mp.erfc(a) / mp.erf(a)


def fit_weighted(function: Function, weight: Function, low: Any, high: Any, degree: int) -> tuple[list[Any], Any]:
    """Return the coefficients in x - (low + high)/2 of the weighted minimax polynomial and its largest weighted error.

    Lawson's iteration: least squares, with the weights multiplied by the errors they left, tends to the minimax fit.
    """
    count, middle, half = 6 * (degree + 1), (low + high) / 2, (high - low) / 2
    ts = [-mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    values = mp.matrix([function(middle + half * t) for t in ts])
    weights = [weight(middle + half * t) for t in ts]
    basis = mp.matrix([[t**j for j in range(degree + 1)] for t in ts])
    emphasis = [mp.mpf(1)] * count
    best: tuple[list[Any], Any] = ([], mp.inf)
    for _ in range(12):
        scaled = mp.matrix(
            [[e * w * w * x for x in row] for e, w, row in zip(emphasis, weights, basis.tolist(), strict=True)]
        )
        solution = mp.lu_solve(scaled.T * basis, scaled.T * values)
        errors = [abs(w * e) for w, e in zip(weights, basis * solution - values, strict=True)]
        worst = max(errors)
        if worst < best[1]:
            best = ([c / half**j for j, c in enumerate(solution)], worst)
        emphasis = [e * (error / worst + mp.mpf("1e-3")) for e, error in zip(emphasis, errors, strict=True)]
        top = max(emphasis)
        emphasis = [e / top for e in emphasis]
    return best


def main() -> None:
    mp.mp.dps = 80
    half_pi_squared = (mp.pi / 2) ** 2
    root = mp.sqrt(mp.mpf(1) / 2)
    table: list[tuple[str, Function, Any, Any, int, int]] = [
        ("log32: log(1+f)/f, f in [sqrt(1/2)-1, sqrt(2)-1]", log_ratio, root - 1, 2 * root - 1, 8, 9),
        ("sin32: sin(x)/x in x^2, |x| <= pi/2", sine_ratio, mp.mpf(0), half_pi_squared, 4, 9),
        ("cos32: cos(x) in x^2, |x| <= pi/2", lambda z: mp.cos(mp.sqrt(z)), mp.mpf(0), half_pi_squared, 4, 9),
        ("sinc32: sin(x)/x in x^2, 0 <= x <= pi", sine_ratio, mp.mpf(0), mp.pi**2, 7, 9),
        ("sin64: sin(x)/x in x^2, |x| <= pi/2", sine_ratio, mp.mpf(0), half_pi_squared, 9, 20),
        ("cos64: cos(x) in x^2, |x| <= pi/2", lambda z: mp.cos(mp.sqrt(z)), mp.mpf(0), half_pi_squared, 10, 20),
        ("log64: atanh(f)/f in f^2, f <= 3-2 sqrt 2", log_atanh, mp.mpf(0), (3 - 2 * mp.sqrt(2)) ** 2, 8, 20),
        ("atan64: atan(x)/x in x^2, x <= sqrt(2)-1", arctangent_ratio, mp.mpf(0), (mp.sqrt(2) - 1) ** 2, 11, 20),
        ("normal32: sqrt(2) sin(x)/x in x^2", sine_ratio_root2, mp.mpf(0), half_pi_squared, 4, 9),
        ("normal32: sqrt(2) cos(x) in x^2", cosine_root2, mp.mpf(0), half_pi_squared, 4, 9),
        ("exp64: (exp(r)-1-r)/r^2, |r| <= ln(2)/2", exponential_rest, -mp.log(2) / 2, mp.log(2) / 2, 9, 20),
    ]
    for title, function, low, high, degree, digits in table:
        coefficients, error = interpolate(function, low, high, degree)
        print(f"{title}: relative error {mp.nstr(error, 3)}")
        print("    " + ", ".join(mp.nstr(c, digits) for c in coefficients))
    coefficients, error = fit_weighted(log_erfc_ratio, erf_weight, mp.mpf(0), mp.mpf(6), 22)
    print(f"erf64: -log(erfc(a))/a in a - 3, 0 <= a <= 6: relative error of erf {mp.nstr(error, 3)}")
    print("    " + ", ".join(mp.nstr(c, 20) for c in coefficients))


if __name__ == "__main__":
    main()
