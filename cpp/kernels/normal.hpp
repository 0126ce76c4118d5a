// Standard normals in float32 lanes, two from two random words (Box and Muller, Annals of Mathematical Statistics 29,
// 1958).
#pragma once

#include "simd.hpp"
#include "vector_math.hpp"

namespace wideangle::WIDEANGLE_PATH {

template <class Float>
struct NormalPair {
    Float first, second;
};

// The radius from bits 1-31 of the first word, so that it goes up to 6.55; the angle from the second: uniform on a half
// circle, with bit 0 of the first word to choose which half. Word is u32 or a pair of them. 54 vector operations for two
// normals: 29 in the exponential, 1 root, 2 for the sign, 2 for the angle, 18 for sine and cosine, 2 products. With
// RoundOnce, which gives other last digits, 37.
template <class Rounding = RoundTwice, class Word, class Scale>
WIDEANGLE_INLINE auto scaled_normal_pair32(Word radius_word, Word angle_word, Scale scaled) {
    // sqrt(2) sin(x)/x and sqrt(2) cos(x) in x^2, |x| <= pi/2: the root of 2E without another product.
    constexpr float sine[] = {1.41421356f, -0.235702137f, 0.0117847126f, -0.000280141811f, 3.68417855e-6f};
    constexpr float cosine[] = {1.4142135f, -0.707105435f, 0.0589211902f, -0.00195919908f, 3.27424616e-5f};
    const auto root = square_root(scaled(exponential32<Rounding>(radius_word)));
    const auto radius = as_f32(as_i32(root) ^ as_i32(radius_word << 31));
    const auto x = to_float(as_i32(angle_word)) * 7.3145904e-10f;  // pi / 2^32
    const auto square = x * x;
    using Float = decltype(square * square);
    return NormalPair<Float>{radius * polynomial<Rounding>(square, cosine),
                             radius * (x * polynomial<Rounding>(square, sine))};
}

template <class Rounding = RoundTwice, class Word>
WIDEANGLE_INLINE auto normal_pair32(Word radius_word, Word angle_word) {
    return scaled_normal_pair32<Rounding>(radius_word, angle_word, [](auto square) { return square; });
}

// Of a variance other than 1, for one product more.
template <class Rounding = RoundTwice, class Word>
WIDEANGLE_INLINE auto normal_pair32(Word radius_word, Word angle_word, float variance) {
    return scaled_normal_pair32<Rounding>(radius_word, angle_word, [variance](auto square) { return square * variance; });
}

}  // namespace wideangle::WIDEANGLE_PATH
