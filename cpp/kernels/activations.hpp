// The nonlinearities of wideangle.activations in float64 lanes, values and derivatives, without the C library: only
// additions, products, quotients and integer operations, so that every instruction set and machine gives the same bits.
// Coefficients: tools/generate_polynomials.py.
#pragma once

#include <cstdint>
#include <limits>

#include "simd.hpp"
#include "vector_math.hpp"

namespace wideangle {

// In the order of wideangle.activations.ACTIVATIONS.
enum class Activation : int { relu, leaky_relu, abs, linear, erf, tanh, gelu, elu, silu, sin, sigmoid };
constexpr int activation_count = static_cast<int>(Activation::sigmoid) + 1;

// phi(c x) = c phi(x) for every c > 0.
constexpr bool is_homogeneous(Activation kind) { return kind <= Activation::linear; }

namespace WIDEANGLE_PATH {

// Of doubles in V: f64, a narrower vector, or a pair of such.
constexpr std::uint64_t sign_bit = 0x8000000000000000, bits_of_one = 0x3ff0000000000000;
template <class V>
WIDEANGLE_INLINE V magnitude(V x) { return bits_as<V>(bits_as<unsigned_of<V>>(x) & ~sign_bit); }
template <class V>
WIDEANGLE_INLINE V with_sign_of(V sign, V x) {
    return bits_as<V>((bits_as<unsigned_of<V>>(x) & ~sign_bit) | (bits_as<unsigned_of<V>>(sign) & sign_bit));
}

// exp(x) = scale (1 + rest) with scale = 2^k and |rest| <= sqrt(2) - 1, for -708 <= x <= 709.
template <class V>
struct ExpParts64 {
    V scale, rest;
};

template <class V>
WIDEANGLE_INLINE ExpParts64<V> exp_parts64(V x) {
    // (exp(r) - 1 - r)/r^2
    constexpr double coefficient[] = {0.50000000000000010211,    0.16666666666666667452,    0.041666666666624161903,
                                      0.0083333333333300644495,  0.0013888888917196719077,  0.00019841269863040545271,
                                      0.000024801521322368693266, 2.7557268480310025526e-6, 2.7620075879983366586e-7,
                                      2.5100375832561233664e-8};
    constexpr double shifter = 0x1.8p52;  // leaves the nearest integer in the low bits
    const V shifted = x * 1.4426950408889634074 + shifter;
    const V k = shifted - shifter;
    // ln 2 in two parts: the first has so few bits that its product with k is exact.
    const V r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    const V scale = bits_as<V>((bits_as<unsigned_of<V>>(shifted) << 52) + bits_of_one);
    return {scale, r + r * r * polynomial(r, coefficient)};
}

// For x <= 709; 0 below -708.
template <class V>
WIDEANGLE_INLINE V exp64(V x) {
    const ExpParts64 parts = exp_parts64(x);
    return keep(~is_less(x, -708.0), parts.scale + parts.scale * parts.rest);
}

// exp(x) - 1 for x <= 709, relatively accurate near 0.
template <class V>
WIDEANGLE_INLINE V expm1_64(V x) {
    const ExpParts64 parts = exp_parts64(select(is_less(x, -708.0), broadcast<V>(-708.0), x));
    return parts.scale * parts.rest + (parts.scale - 1.0);
}

template <class V>
WIDEANGLE_INLINE V tanh64(V x) {
    const V below = expm1_64(-2.0 * magnitude(x));
    return with_sign_of(x, below / (below + 2.0));
}

// -ln erfc(a) for 0 <= a <= 6. Weighted for erf: the relative error of erfc grows as erfc falls, and their product stays
// below one unit in the last place of 1.
template <class V>
WIDEANGLE_INLINE V minus_log_erfc64(V a) {
    // In a - 3, even and odd powers apart: two shorter chains.
    constexpr double even[] = {3.5734543473273582409,     0.015764812672343127772,   0.00047699943592464739712,
                               0.000011341254217639590428, 1.0619978853238525681e-7,  -2.4789655670065417297e-9,
                               2.4016380605935812242e-9,  -1.7753722419256261039e-9, -7.8122569563844837875e-11,
                               6.8375361823367767013e-11, 3.2903271889659922287e-12, 1.1777630687431166512e-14};
    constexpr double odd[] = {0.91009978054985124401,    -0.0027843070693525038856, -0.000077100368537957091961,
                              -1.4116168675009973062e-6, 4.5805704129580144131e-9,  8.2115641177952028465e-9,
                              -8.5518426817977602241e-10, -8.4390118627441003701e-10, 1.1402192493530519118e-10,
                              1.9706199964389214608e-11, 3.0270620483715562354e-13};
    const V t = a - 3.0, square = t * t;
    return a * (polynomial(square, even) + t * polynomial(square, odd));
}

template <class V>
WIDEANGLE_INLINE V erf64(V x) {
    const V a = magnitude(x);
    const V below = expm1_64(-minus_log_erfc64(select(is_less(6.0, a), broadcast<V>(6.0), a)));
    return with_sign_of(x, below);
}

// Distribution function of the standard normal, to one unit in the last place of 1; 0 below -6 sqrt(2).
template <class V>
WIDEANGLE_INLINE V normal_cdf64(V x) {
    const V a = magnitude(x) * 0.70710678118654752440;
    const ExpParts64 parts = exp_parts64(-minus_log_erfc64(select(is_less(6.0, a), broadcast<V>(6.0), a)));
    const V tail = 0.5 * keep(~is_less(6.0, a), parts.scale + parts.scale * parts.rest);
    return select(is_less(x, 0.0), tail, 1.0 - tail);
}

// x less a multiple of pi, within pi/2 of 0, and the sign that the parity of the multiple gives sine and cosine. Up to
// 2^30, about 1e9, as good as the digits of x; a larger x is taken for the number of its sign and mantissa between 2^29
// and 2^30, so that the result stays a sine and large random numbers keep their uniform phases.
template <class V>
struct Phase64 {
    V rest;
    unsigned_of<V> sign;
};

template <class V>
WIDEANGLE_INLINE Phase64<V> phase64(V x) {
    const V size = magnitude(x);
    constexpr std::uint64_t kept = 0x800fffffffffffff, exponent = 0x41c0000000000000;
    const V near = bits_as<V>((bits_as<unsigned_of<V>>(x) & kept) | exponent);
    x = select(is_less_equal(0x1p30, size) & is_less(size, std::numeric_limits<double>::infinity()), near, x);
    constexpr double shifter = 0x1.8p52;
    const V shifted = x * 0.31830988618379067154 + shifter;
    const V k = shifted - shifter;
    // pi in three parts: the products of k with the first two are exact.
    const V rest = ((x - k * 0x1.921fb4p+1) - k * 0x1.4442d0p-23) - k * 0x1.8469898cc5170p-47;
    return {rest, bits_as<unsigned_of<V>>(shifted) << 63};
}

template <class V>
WIDEANGLE_INLINE V sin64(V x) {
    const Phase64 phase = phase64(x);
    return bits_as<V>(bits_as<unsigned_of<V>>(sincos64(phase.rest).sine) ^ phase.sign);
}

// To one unit in the last place of 1.
template <class V>
WIDEANGLE_INLINE V cos64(V x) {
    const Phase64 phase = phase64(x);
    return bits_as<V>(bits_as<unsigned_of<V>>(sincos64(phase.rest).cosine) ^ phase.sign);
}

// The functors. Derivatives at a kink are the left ones. NaN gives NaN, but for the derivatives of the first four.
struct Relu {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const {
#if defined(__AVX512F__)
        return bits_as<V>(_mm512_maskz_max_pd(0xff, _mm512_setzero_pd(), bits_as<__m512d>(x)));  // x if that is NaN or -0
#else
        return keep(~is_less(x, 0.0), x);
#endif
    }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const { return keep(~is_less_equal(x, 0.0), broadcast<V>(1.0)); }
};

struct LeakyRelu {
    double slope;
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return select(is_less(x, 0.0), slope * x, x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        return select(is_less_equal(x, 0.0), broadcast<V>(slope), broadcast<V>(1.0));
    }
};

struct Abs {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return magnitude(x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        return select(is_less_equal(x, 0.0), broadcast<V>(-1.0), broadcast<V>(1.0));
    }
};

struct Linear {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return x; }
    template <class V>
    WIDEANGLE_INLINE V derivative(V) const { return broadcast<V>(1.0); }
};

struct Erf {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return erf64(x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const { return 1.1283791670955125739 * exp64(-(x * x)); }
};

struct Tanh {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return tanh64(x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        const V fall = exp64(-2.0 * magnitude(x));
        return 4.0 * fall / ((1.0 + fall) * (1.0 + fall));
    }
};

// x times the normal distribution function: absolutely accurate, to one unit in the last place of x.
struct Gelu {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return x * normal_cdf64(x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        return normal_cdf64(x) + x * (0.39894228040143267794 * exp64(-0.5 * (x * x)));
    }
};

struct Elu {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return select(is_less(x, 0.0), expm1_64(x), x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const { return select(is_less_equal(0.0, x), broadcast<V>(1.0), exp64(x)); }
};

struct Silu {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const {
        const V fall = exp64(-magnitude(x));
        return x * select(is_less(x, 0.0), fall, broadcast<V>(1.0)) / (1.0 + fall);
    }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        const V fall = exp64(-magnitude(x));
        const V small = fall / (1.0 + fall), large = 1.0 / (1.0 + fall);
        const signed_of<V> left = is_less(x, 0.0);
        const V gate = select(left, small, large);
        return gate + gate * select(left, large, small) * x;
    }
};

struct Sin {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const { return sin64(x); }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const { return cos64(x); }
};

struct Sigmoid {
    template <class V>
    WIDEANGLE_INLINE V value(V x) const {
        const V fall = exp64(-magnitude(x));
        return select(is_less(x, 0.0), fall, broadcast<V>(1.0)) / (1.0 + fall);
    }
    template <class V>
    WIDEANGLE_INLINE V derivative(V x) const {
        const V fall = exp64(-magnitude(x));
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
