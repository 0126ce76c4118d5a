// Sixteen samples of the Gram matrix chain in registers: how they are cut, read and written, and their powers of two.
#pragma once

#include <cstdint>
#include <utility>

#include "gram_step.hpp"
#include "simd.hpp"

namespace wideangle::WIDEANGLE_PATH {

// As much as a register holds, and the tiles of sums that fit the registers.
#if defined(__AVX512F__)
using FloatSlice = f32;
using DoubleSlice = f64;
constexpr int tile = 4, across = 4;
#elif defined(__FMA__)
using FloatSlice = float __attribute__((vector_size(32)));
WIDEANGLE_INLINE FloatSlice fused(FloatSlice a, FloatSlice b, FloatSlice c) { return fused_register(a, b, c); }
using DoubleSlice = double __attribute__((vector_size(32)));
constexpr int tile = 3, across = 2;
#else
using FloatSlice = f32;
using DoubleSlice = double __attribute__((vector_size(16)));
constexpr int tile = 3, across = 2;
#endif

struct alignas(64) FloatLanes {
    float at[gram_lanes];
};

WIDEANGLE_INLINE f64 get(const GramLanes& from, int half) { return load<f64>(from.at + 8 * half); }
WIDEANGLE_INLINE void put(GramLanes& to, int half, f64 x) { store(to.at + 8 * half, x); }

// Calls body with the constants 0, 1, ... below count: loops that must be gone before arrays can live in registers.
template <int count, class Body>
WIDEANGLE_INLINE void unrolled(Body&& body) {
    [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
        (body(std::integral_constant<int, i>{}), ...);
    }(std::make_integer_sequence<int, count>{});
}

template <class Slice, class Lanes>
WIDEANGLE_INLINE Slice get_slice(const Lanes& from, int slice) {
    return load<Slice>(from.at + static_cast<int>(sizeof(Slice) / sizeof from.at[0]) * slice);
}
template <class Slice, class Lanes>
WIDEANGLE_INLINE void put_slice(Lanes& to, int slice, Slice x) {
    store(to.at + static_cast<int>(sizeof(Slice) / sizeof to.at[0]) * slice, x);
}
template <class Slice>
constexpr int slices = static_cast<int>(gram_lanes * sizeof(Slice{}[0]) / sizeof(Slice));

// Stores one slice of floats as doubles.
WIDEANGLE_INLINE void put_widened(GramLanes& to, int slice, FloatSlice x) {
#if defined(__FMA__) && !defined(__AVX512F__)
    put_slice(to, 2 * slice, __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1, 2, 3), DoubleSlice));
    put_slice(to, 2 * slice + 1, __builtin_convertvector(__builtin_shufflevector(x, x, 4, 5, 6, 7), DoubleSlice));
#else
    static_cast<void>(slice);
    put(to, 0, widen(x, 0));
    put(to, 1, widen(x, 1));
#endif
}

// ---- Powers of two

// 2^x for integers x; 0 below -1022, 2^1023 above it.
WIDEANGLE_INLINE f64 power_of_two(f64 x) {
    const f64 bounded = select(is_less(1023.0, x), broadcast64(1023.0), x);
    const f64 shifted = bounded + (0x1.8p52 + 1023.0);
    return keep(is_less_equal(-1022.0, x), bits_as<f64>(bits_as<u64>(shifted) << 52));
}

// The exponent of positive normal numbers.
WIDEANGLE_INLINE f64 exponent_of(f64 x) {
    return bits_as<f64>((bits_as<u64>(x) >> 52) | 0x4330000000000000ULL) - (0x1p52 + 1023.0);
}

WIDEANGLE_INLINE f64 floor_half(f64 x) {
    const f64 rounded = (0.5 * x - 0.25) + 0x1.8p52;
    return rounded - 0x1.8p52;
}

}  // namespace wideangle::WIDEANGLE_PATH
