// The nonlinearities of wideangle.activations in float64 lanes, values and derivatives, without the C library: only
// additions, products, quotients and integer operations, so that every instruction set and machine gives the same bits.
// Coefficients: tools/generate_polynomials.py.
#pragma once

#include <cstdint>

#include "simd.hpp"
#include "vector_math.hpp"

namespace wideangle {

// In the order of wideangle.activations.ACTIVATIONS.
enum class Activation : int { relu, leaky_relu, abs, linear, erf, tanh, gelu, elu, silu, sin, sigmoid };
constexpr int activation_count = static_cast<int>(Activation::sigmoid) + 1;

// phi(c x) = c phi(x) for every c > 0.
constexpr bool is_homogeneous(Activation kind) { return kind <= Activation::linear; }

namespace WIDEANGLE_PATH {

WIDEANGLE_INLINE f64 magnitude(f64 x) { return bits_as<f64>(bits_as<u64>(x) & 0x7fffffffffffffffULL); }
WIDEANGLE_INLINE f64 with_sign_of(f64 sign, f64 x) {
    constexpr std::uint64_t bit = 0x8000000000000000ULL;
    return bits_as<f64>((bits_as<u64>(x) & ~bit) | (bits_as<u64>(sign) & bit));
}

// exp(x) = scale (1 + rest) with scale = 2^k and |rest| <= sqrt(2) - 1, for -708 <= x <= 709.
struct ExpParts64 {
    f64 scale, rest;
};

WIDEANGLE_INLINE ExpParts64 exp_parts64(f64 x) {
    // (exp(r) - 1 - r)/r^2
    constexpr double coefficient[] = {0.50000000000000010211,    0.16666666666666667452,    0.041666666666624161903,
                                      0.0083333333333300644495,  0.0013888888917196719077,  0.00019841269863040545271,
                                      0.000024801521322368693266, 2.7557268480310025526e-6, 2.7620075879983366586e-7,
                                      2.5100375832561233664e-8};
    constexpr double shifter = 0x1.8p52;  // leaves the nearest integer in the low bits
    const f64 shifted = x * 1.4426950408889634074 + shifter;
    const f64 k = shifted - shifter;
    // ln 2 in two parts: the first has so few bits that its product with k is exact.
    const f64 r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    const f64 scale = bits_as<f64>((bits_as<u64>(shifted) << 52) + 0x3ff0000000000000ULL);
    return {scale, r + r * r * polynomial(r, coefficient)};
}

// For x <= 709; 0 below -708.
WIDEANGLE_INLINE f64 exp64(f64 x) {
    const ExpParts64 parts = exp_parts64(x);
    return keep(~is_less(x, -708.0), parts.scale + parts.scale * parts.rest);
}

// exp(x) - 1 for x <= 709, relatively accurate near 0.
WIDEANGLE_INLINE f64 expm1_64(f64 x) {
    const ExpParts64 parts = exp_parts64(select(is_less(x, -708.0), broadcast64(-708.0), x));
    return parts.scale * parts.rest + (parts.scale - 1.0);
}

WIDEANGLE_INLINE f64 tanh64(f64 x) {
    const f64 below = expm1_64(-2.0 * magnitude(x));
    return with_sign_of(x, below / (below + 2.0));
}

// -ln erfc(a) for 0 <= a <= 6. Weighted for erf: the relative error of erfc grows as erfc falls, and their product stays
// below one unit in the last place of 1.
WIDEANGLE_INLINE f64 minus_log_erfc64(f64 a) {
    // In a - 3, even and odd powers apart: two shorter chains.
    constexpr double even[] = {3.5734543473273582409,     0.015764812672343127772,   0.00047699943592464739712,
                               0.000011341254217639590428, 1.0619978853238525681e-7,  -2.4789655670065417297e-9,
                               2.4016380605935812242e-9,  -1.7753722419256261039e-9, -7.8122569563844837875e-11,
                               6.8375361823367767013e-11, 3.2903271889659922287e-12, 1.1777630687431166512e-14};
    constexpr double odd[] = {0.91009978054985124401,    -0.0027843070693525038856, -0.000077100368537957091961,
                              -1.4116168675009973062e-6, 4.5805704129580144131e-9,  8.2115641177952028465e-9,
                              -8.5518426817977602241e-10, -8.4390118627441003701e-10, 1.1402192493530519118e-10,
                              1.9706199964389214608e-11, 3.0270620483715562354e-13};
    const f64 t = a - 3.0, square = t * t;
    return a * (polynomial(square, even) + t * polynomial(square, odd));
}

WIDEANGLE_INLINE f64 erf64(f64 x) {
    const f64 a = magnitude(x);
    const f64 below = expm1_64(-minus_log_erfc64(select(is_less(6.0, a), broadcast64(6.0), a)));
    return with_sign_of(x, below);
}

// Distribution function of the standard normal, to one unit in the last place of 1; 0 below -6 sqrt(2).
WIDEANGLE_INLINE f64 normal_cdf64(f64 x) {
    const f64 a = magnitude(x) * 0.70710678118654752440;
    const ExpParts64 parts = exp_parts64(-minus_log_erfc64(select(is_less(6.0, a), broadcast64(6.0), a)));
    const f64 tail = 0.5 * keep(~is_less(6.0, a), parts.scale + parts.scale * parts.rest);
    return select(is_less(x, 0.0), tail, 1.0 - tail);
}

// x less a multiple of pi, within pi/2 of 0, and the sign that the parity of the multiple gives sine and cosine. Up to
// 2^30, about 1e9, as good as the digits of x; a larger x is taken for the number of its sign and mantissa between 2^29
// and 2^30, so that the result stays a sine and large random numbers keep their uniform phases.
struct Phase64 {
    f64 rest;
    u64 sign;
};

WIDEANGLE_INLINE Phase64 phase64(f64 x) {
    const u64 bits = bits_as<u64>(x);
    const i64 exponent = bits_as<i64>(bits & 0x7ff0000000000000ULL);
    const i64 far = (exponent > 0x41c0000000000000LL) & (exponent < 0x7ff0000000000000LL);
    const f64 near = bits_as<f64>(bits_as<i64>(bits & 0x800fffffffffffffULL) | 0x41c0000000000000LL);
    x = select(far, near, x);
    constexpr double shifter = 0x1.8p52;
    const f64 shifted = x * 0.31830988618379067154 + shifter;
    const f64 k = shifted - shifter;
    // pi in three parts: the products of k with the first two are exact.
    const f64 rest = ((x - k * 0x1.921fb4p+1) - k * 0x1.4442d0p-23) - k * 0x1.8469898cc5170p-47;
    return {rest, bits_as<u64>(shifted) << 63};
}

WIDEANGLE_INLINE f64 sin64(f64 x) {
    const Phase64 phase = phase64(x);
    return bits_as<f64>(bits_as<u64>(sincos64(phase.rest).sine) ^ phase.sign);
}

// To one unit in the last place of 1.
WIDEANGLE_INLINE f64 cos64(f64 x) {
    const Phase64 phase = phase64(x);
    return bits_as<f64>(bits_as<u64>(sincos64(phase.rest).cosine) ^ phase.sign);
}

// The functors. Derivatives at a kink are the left ones. NaN gives NaN, but for the derivatives of the first four.
struct Relu {
    WIDEANGLE_INLINE f64 value(f64 x) const {
#if defined(__AVX512F__)
        return bits_as<f64>(_mm512_maskz_max_pd(0xff, _mm512_setzero_pd(), bits_as<__m512d>(x)));  // x if that is NaN or -0
#else
        return keep(~is_less(x, 0.0), x);
#endif
    }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return keep(~is_less_equal(x, 0.0), broadcast64(1.0)); }
};

struct LeakyRelu {
    double slope;
    WIDEANGLE_INLINE f64 value(f64 x) const { return select(is_less(x, 0.0), slope * x, x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return select(is_less_equal(x, 0.0), broadcast64(slope), broadcast64(1.0)); }
};

struct Abs {
    WIDEANGLE_INLINE f64 value(f64 x) const { return magnitude(x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return select(is_less_equal(x, 0.0), broadcast64(-1.0), broadcast64(1.0)); }
};

struct Linear {
    WIDEANGLE_INLINE f64 value(f64 x) const { return x; }
    WIDEANGLE_INLINE f64 derivative(f64) const { return broadcast64(1.0); }
};

struct Erf {
    WIDEANGLE_INLINE f64 value(f64 x) const { return erf64(x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return 1.1283791670955125739 * exp64(-(x * x)); }
};

struct Tanh {
    WIDEANGLE_INLINE f64 value(f64 x) const { return tanh64(x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const {
        const f64 fall = exp64(-2.0 * magnitude(x));
        return 4.0 * fall / ((1.0 + fall) * (1.0 + fall));
    }
};

// x times the normal distribution function: absolutely accurate, to one unit in the last place of x.
struct Gelu {
    WIDEANGLE_INLINE f64 value(f64 x) const { return x * normal_cdf64(x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const {
        return normal_cdf64(x) + x * (0.39894228040143267794 * exp64(-0.5 * (x * x)));
    }
};

struct Elu {
    WIDEANGLE_INLINE f64 value(f64 x) const { return select(is_less(x, 0.0), expm1_64(x), x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return select(is_less_equal(0.0, x), broadcast64(1.0), exp64(x)); }
};

struct Silu {
    WIDEANGLE_INLINE f64 value(f64 x) const {
        const f64 fall = exp64(-magnitude(x));
        return x * select(is_less(x, 0.0), fall, broadcast64(1.0)) / (1.0 + fall);
    }
    WIDEANGLE_INLINE f64 derivative(f64 x) const {
        const f64 fall = exp64(-magnitude(x));
        const f64 small = fall / (1.0 + fall), large = 1.0 / (1.0 + fall);
        const i64 left = is_less(x, 0.0);
        const f64 gate = select(left, small, large);
        return gate + gate * select(left, large, small) * x;
    }
};

struct Sin {
    WIDEANGLE_INLINE f64 value(f64 x) const { return sin64(x); }
    WIDEANGLE_INLINE f64 derivative(f64 x) const { return cos64(x); }
};

struct Sigmoid {
    WIDEANGLE_INLINE f64 value(f64 x) const {
        const f64 fall = exp64(-magnitude(x));
        return select(is_less(x, 0.0), fall, broadcast64(1.0)) / (1.0 + fall);
    }
    WIDEANGLE_INLINE f64 derivative(f64 x) const {
        const f64 fall = exp64(-magnitude(x));
        return fall / ((1.0 + fall) * (1.0 + fall));
    }
};

// Calls body with the functor of that kind, so that the loops in it are compiled for each.
template <class Body>
WIDEANGLE_INLINE void with_activation(Activation kind, double slope, Body&& body) {
    switch (kind) {
        case Activation::relu: return body(Relu{});
        case Activation::leaky_relu: return body(LeakyRelu{slope});
        case Activation::abs: return body(Abs{});
        case Activation::linear: return body(Linear{});
        case Activation::erf: return body(Erf{});
        case Activation::tanh: return body(Tanh{});
        case Activation::gelu: return body(Gelu{});
        case Activation::elu: return body(Elu{});
        case Activation::silu: return body(Silu{});
        case Activation::sin: return body(Sin{});
        case Activation::sigmoid: return body(Sigmoid{});
    }
}

}  // namespace WIDEANGLE_PATH
}  // namespace wideangle
