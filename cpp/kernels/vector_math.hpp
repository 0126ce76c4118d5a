// The few functions the kernels need, in lanes. Coefficients: tools/generate_polynomials.py. Float32 lanes are good to
// about one unit in the last place of the largest value; float64 lanes to a few.
#pragma once

#include "simd.hpp"

namespace wideangle::WIDEANGLE_PATH {

// How a * b + c is rounded: twice, or once, which is cheaper where there is an instruction for it.
struct RoundTwice {
    template <class A, class B, class C>
    static WIDEANGLE_INLINE auto multiply_add(const A& a, const B& b, const C& c) {
        return a * b + c;
    }
};
struct RoundOnce {
    static WIDEANGLE_INLINE f32 lanes_of(f32 x) { return x; }
    static WIDEANGLE_INLINE f32 lanes_of(float x) { return broadcast32(x); }
    static WIDEANGLE_INLINE Pair<f32> pair_of(const Pair<f32>& x) { return x; }
    static WIDEANGLE_INLINE Pair<f32> pair_of(float x) { return {broadcast32(x), broadcast32(x)}; }

    template <class B, class C>
    static WIDEANGLE_INLINE f32 multiply_add(f32 a, B b, C c) {
        return fused(a, lanes_of(b), lanes_of(c));
    }
    template <class B, class C>
    static WIDEANGLE_INLINE Pair<f32> multiply_add(const Pair<f32>& a, const B& b, const C& c) {
        const Pair<f32> factor = pair_of(b), term = pair_of(c);
        return {fused(a.first, factor.first, term.first), fused(a.second, factor.second, term.second)};
    }
};

template <class Rounding = RoundTwice, class V, class Scalar, int count>
WIDEANGLE_INLINE V polynomial(V x, const Scalar (&coefficient)[count]) {
    V result = Rounding::multiply_add(x, coefficient[count - 1], coefficient[count - 2]);
    for (int i = count - 3; i >= 0; --i) result = Rounding::multiply_add(result, x, coefficient[i]);
    return result;
}

// A standard exponential from bits 2-31 of a word: -log u with u = (2j + 1)/2^31, so the largest value is 21.5.
// Word is u32 or a pair of them.
template <class Rounding = RoundTwice, class Word>
WIDEANGLE_INLINE auto exponential32(Word word) {
    constexpr float coefficient[] = {-0.999999974f, 0.499999964f,  -0.333341933f, 0.250013522f, -0.199559334f,
                                     0.165779929f,  -0.149774013f, 0.142692582f,  -0.0853331308f};
    constexpr std::int32_t root_half = 0x3f3504f3;
    const auto above = as_i32(to_float(as_i32((word >> 1) | 1u))) - root_half;
    const auto f = as_f32((above & 0x7fffff) + root_half) - 1.0f;
    return Rounding::multiply_add(f, polynomial<Rounding>(f, coefficient),
                                  (31.0f - to_float(above >> 23)) * 0.693147181f);
}

template <class Float>
struct SinCos32 {
    Float sine, cosine;
};

// |x| <= pi/2; Float is f32 or a pair of them.
template <class Float>
WIDEANGLE_INLINE SinCos32<Float> sincos32(Float x) {
    constexpr float sine[] = {0.999999996f, -0.166666579f, 0.00833305017f, -0.000198090174f, 2.60510764e-6f};
    constexpr float cosine[] = {0.999999953f, -0.499999048f, 0.0416635732f, -0.00138536295f, 2.31524167e-5f};
    const Float square = x * x;
    return {x * polynomial(square, sine), polynomial(square, cosine)};
}

// (sin x)/x from x^2, 0 <= x <= pi.
template <class Float>
WIDEANGLE_INLINE Float sine_ratio32(Float square) {
    constexpr float coefficient[] = {1.0f,          -0.166666667f,   0.00833333314f,  -0.000198412544f,
                                     2.7556702e-6f, -2.50386819e-8f, 1.58964745e-10f, -6.61012374e-13f};
    return polynomial(square, coefficient);
}

// Natural logarithm of positive normal numbers; V is f64 or a narrower vector of doubles.
template <class V>
WIDEANGLE_INLINE V log64(V x) {
    using Bits = unsigned_of<V>;
    constexpr double coefficient[] = {0.33333333333333329194, 0.20000000000003746966,  0.14285714284409563472,
                                      0.11111111338464770133, 0.090908868690081529074, 0.076935804630670399495,
                                      0.066243815417300579441, 0.066310518370109045488};
    constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcdULL;
    constexpr std::uint64_t one = 0x3ff0000000000000ULL;
    const Bits biased = (bits_as<Bits>(x) - root_half + one) >> 52;
    const V exponent = bits_as<V>(biased | 0x4330000000000000ULL) - (0x1p52 + 1023.0);
    const V m = bits_as<V>(bits_as<Bits>(x) + one - (biased << 52));
    const V f = (m - 1.0) / (m + 1.0);
    const V square = f * f;
    // ln 2 in two parts: the first has so few bits that its product with the exponent is exact.
    const V rest = 2.0 * f * square * polynomial(square, coefficient) + exponent * 1.90821492927058770002e-10;
    return exponent * 6.93147180369123816490e-01 + (2.0 * f + rest);
}

template <class V>
struct SinCos64 {
    V sine, cosine;
};

// |x| <= pi/2.
template <class V>
WIDEANGLE_INLINE SinCos64<V> sincos64(V x) {
    constexpr double sine[] = {1.0,
                               -0.16666666666666666664,
                               0.0083333333333333330029,
                               -0.00019841269841269669838,
                               2.7557319223940712718e-6,
                               -2.5052108378602196518e-8,
                               1.6059043206300947692e-10,
                               -7.6471277399664175376e-13,
                               2.8102145350022102887e-15,
                               -7.9825189617838324184e-18};
    constexpr double cosine[] = {1.0,
                                 -0.5,
                                 0.041666666666666666653,
                                 -0.001388888888888888803,
                                 0.000024801587301587023018,
                                 -2.7557319223933182873e-7,
                                 2.0876756981650187251e-9,
                                 -1.1470745126551045284e-11,
                                 4.7794543863335556949e-14,
                                 -1.5612261954095733e-16,
                                 3.9912534976993913397e-19};
    const V square = x * x;
    return {x * polynomial(square, sine), polynomial(square, cosine)};
}

// Angle of the point (x, y) with x, y >= 0, not both zero.
WIDEANGLE_INLINE f64 arctangent64(f64 y, f64 x) {
    constexpr double coefficient[] = {0.99999999999999999874, -0.33333333333333121163,  0.19999999999940891462,
                                      -0.14285714279250244942, 0.11111110744919658237,  -0.090908968090640270761,
                                      0.076920453309022249521, -0.066629518136291900881, 0.058468782973308725201,
                                      -0.050351024566015518428, 0.037965257453865936236, -0.017805397205419445228};
    const i64 steep = y > x;
    const f64 ratio = select(steep, x, y) / select(steep, y, x);
    const i64 past = ratio > 0.41421356237309503;
    const f64 q = select(past, (ratio - 1.0) / (ratio + 1.0), ratio);
    const f64 angle = q * polynomial(q * q, coefficient) + keep(past, broadcast64(0.78539816339744831));
    return select(steep, 1.57079632679489662 - angle, angle);
}

}  // namespace wideangle::WIDEANGLE_PATH
