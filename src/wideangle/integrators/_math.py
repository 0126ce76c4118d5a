"""Elementary functions on lanes, and the same names on floats.

A right-hand side that uses these, or ``math`` and ``numpy`` functions, compiles for lanes and for floats alike. Those
with a polynomial here stay in vector registers; the others call the C library lane by lane. The polynomials are
Chebyshev approximations computed with 40 digits, and the reductions those of P. T. P. Tang, ACM Trans. Math. Softw.
15 (1989) 144 (exp), 16 (1990) 378 (log) and 18 (1992) 211 (expm1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types

from wideangle.integrators._lanes import (
    Lanes,
    add_to_exponent,
    lanes_abs,
    lanes_fma,
    lanes_sqrt,
    map_lanes,
    overload_lanes,
    split_exponent,
    where_lanes,
)

# Adding and subtracting it rounds to an integer, which then stands in the low bits.
_ROUND = 1.5 * 2.0**52
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238  # 32 bits: its product with an exponent is exact
_LN2_LOW = 1.9082149292705877e-10


@njit
def _expm1_reduced(x: Any) -> Any:
    """Return p and k with e^x = (1 + p) 2^k and |ln(1 + p)| <= ln(2)/2, k as float64."""
    k = lanes_fma(x, _LOG2_E, _ROUND) - _ROUND
    high = lanes_fma(k, -_LN2_HIGH, x)
    r = lanes_fma(k, -_LN2_LOW, high)
    rest = lanes_fma(k, -_LN2_LOW, high - r)
    r2 = r * r
    r4 = r2 * r2
    q01 = lanes_fma(r, 0.1666666666666667, 0.5)
    q23 = lanes_fma(r, 0.008333333333326127, 0.04166666666666667)
    q45 = lanes_fma(r, 0.00019841269874849664, 0.0013888888888883742)
    q67 = lanes_fma(r, 2.7557255363379395e-06, 2.4801587325568478e-05)
    q89 = lanes_fma(r, 2.5105232329847944e-08, 2.75572736168118e-07)
    low = lanes_fma(q23, r2, q01)
    middle = lanes_fma(q67, r2, q45)
    high_part = lanes_fma(r2, 2.0914697911867024e-09, q89)
    q = lanes_fma(lanes_fma(high_part, r4, middle), r4, low)
    return r + lanes_fma(q, r2, rest), k


@njit
def _lanes_exp(x: Any) -> Any:
    # Comparisons with NaN are false, and so NaN stays.
    x = where_lanes(x < -746.0, -746.0, where_lanes(x > 710.0, 710.0, x))
    p, k = _expm1_reduced(x)
    # Two factors, for subnormal results and for those that overflow.
    half = lanes_fma(k, 0.5, _ROUND) - _ROUND
    first = add_to_exponent(half + (_ROUND + 1023.0))
    second = add_to_exponent((k - half) + (_ROUND + 1023.0))
    return lanes_fma(p, first, first) * second


@njit
def _lanes_expm1(x: Any) -> Any:
    bounded = where_lanes(x < -40.0, -40.0, where_lanes(x > 710.0, 710.0, x))
    p, k = _expm1_reduced(bounded)
    half = lanes_fma(k, 0.5, _ROUND) - _ROUND
    first = add_to_exponent(half + (_ROUND + 1023.0))
    second = add_to_exponent((k - half) + (_ROUND + 1023.0))
    result = lanes_fma(p, first, first - 1.0 / second) * second
    return where_lanes(x == 0.0, x, result)


@njit
def _lanes_log(x: Any) -> Any:
    subnormal = x < 2.2250738585072014e-308
    m, k = split_exponent(where_lanes(subnormal, x * 2.0**54, x))
    k = where_lanes(subnormal, k - 54.0, k)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    w = z * z
    odd = lanes_fma(
        lanes_fma(lanes_fma(w, 0.13086627556452163, 0.15386239707844115), w, 0.22222222391714783), w, 0.4000000000000088
    )
    even = lanes_fma(
        lanes_fma(lanes_fma(w, 0.1326877300396345, 0.18181795640040438), w, 0.2857142857080361), w, 0.6666666666666666
    )
    rest = z * lanes_fma(odd, z, even)
    # log(1 + f) = f - f^2/2 + s (f^2/2 + R), as 2 s = f - s f.
    square = 0.5 * f * f
    result = lanes_fma(k, _LN2_HIGH, f - (square - lanes_fma(s, square + rest, k * _LN2_LOW)))
    result = where_lanes(x == 0.0, -math.inf, result)
    result = where_lanes(x < 0.0, math.nan, result)
    finite = x < math.inf
    return where_lanes(finite, result, x)


@njit
def _lanes_log1p(x: Any) -> Any:
    u = 1.0 + x
    # What the sum lost, to first order; where u is infinite nothing was lost.
    lost = (x - (u - 1.0)) / u
    return where_lanes(x == 0.0, x, _lanes_log(u) + where_lanes(lanes_abs(lost) < 1.0, lost, 0.0))


@njit
def _lanes_tanh(x: Any) -> Any:
    t = _lanes_expm1(2.0 * where_lanes(x < -20.0, -20.0, where_lanes(x > 20.0, 20.0, x)))
    return t / (t + 2.0)


def _vector_function(scalars: tuple[Any, ...], vector: Any) -> None:
    for scalar in scalars:

        @overload_lanes(scalar)
        def typed(x: types.Type) -> Any:
            return (lambda x: vector(x)) if isinstance(x, Lanes) else None


for _scalars, _vector in (
    ((math.exp, np.exp), _lanes_exp),
    ((math.expm1, np.expm1), _lanes_expm1),
    ((math.log, np.log), _lanes_log),
    ((math.log1p, np.log1p), _lanes_log1p),
    ((math.tanh, np.tanh), _lanes_tanh),
    ((math.sqrt, np.sqrt), lanes_sqrt),
    ((math.fabs, np.abs), lanes_abs),
):
    _vector_function(_scalars, _vector)

for _name, _other in (
    ("sin", "sin"),
    ("cos", "cos"),
    ("tan", "tan"),
    ("asin", "arcsin"),
    ("acos", "arccos"),
    ("atan", "arctan"),
    ("sinh", "sinh"),
    ("cosh", "cosh"),
    ("log2", "log2"),
    ("log10", "log10"),
):
    _vector_function((getattr(math, _name), getattr(np, _other)), map_lanes(getattr(math, _name)))
for _function in (math.erf, math.erfc):
    _vector_function((_function,), map_lanes(_function))
