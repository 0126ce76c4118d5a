"""Print the polynomial coefficients of cpp/kernels/vector_math.hpp, with the largest error of each before rounding.

Every polynomial interpolates its function at Chebyshev nodes in the variable named, which is within a small factor of
the minimax error. Run with mpmath installed: ``python tools/generate_polynomials.py``.
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


def log_ratio(f: Any) -> Any:
    """log(1 + f)/f."""
    return mp.log1p(f) / f if f else mp.mpf(1)


def log_atanh(s: Any) -> Any:
    """atanh(sqrt s)/sqrt s, from which log m = 2 f (1 + ...) with f = (m - 1)/(m + 1), s = f^2."""
    return mp.atanh(mp.sqrt(s)) / mp.sqrt(s)


def arctangent_ratio(z: Any) -> Any:
    """atan(x)/x as a function of z = x^2."""
    return mp.atan(mp.sqrt(z)) / mp.sqrt(z)


def main() -> None:
    mp.mp.dps = 60
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
    ]
    for title, function, low, high, degree, digits in table:
        coefficients, error = interpolate(function, low, high, degree)
        print(f"{title}: relative error {mp.nstr(error, 3)}")
        print("    " + ", ".join(mp.nstr(c, digits) for c in coefficients))


if __name__ == "__main__":
    main()
