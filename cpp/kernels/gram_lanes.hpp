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
constexpr int tile = 4, across = 4;
#elif defined(__FMA__)
using FloatSlice = float __attribute__((vector_size(32)));
WIDEANGLE_INLINE FloatSlice fused(FloatSlice a, FloatSlice b, FloatSlice c) { return fused_register(a, b, c); }
constexpr int tile = 3, across = 2;
#else
using FloatSlice = f32;
constexpr int tile = 3, across = 2;
#endif
using DoubleSlice = r64;

struct alignas(64) FloatLanes {
    float at[gram_lanes];
};

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
    store(to.at, widen(x, 0));
    store(to.at + 8, widen(x, 1));
#endif
}

// ---- Slices of doubles

using LongSlice = signed_of<DoubleSlice>;
constexpr int double_slices = slices<DoubleSlice>;
constexpr int slice_lanes = gram_lanes / double_slices;

WIDEANGLE_INLINE DoubleSlice get(const GramLanes& from, int slice) { return get_slice<DoubleSlice>(from, slice); }
WIDEANGLE_INLINE void put(GramLanes& to, int slice, DoubleSlice x) { put_slice(to, slice, x); }
WIDEANGLE_INLINE LongSlice get_widened(const GramFlags& from, int slice) {
    using Words = std::uint32_t __attribute__((vector_size(sizeof(std::uint32_t) * slice_lanes)));
    return __builtin_convertvector(load<Words>(from.at + slice_lanes * slice), LongSlice);
}
// Rounded to float32.
WIDEANGLE_INLINE void put_narrowed(FloatLanes& to, int slice, DoubleSlice x) {
    using Floats = float __attribute__((vector_size(sizeof(float) * slice_lanes)));
    store(to.at + slice_lanes * slice, __builtin_convertvector(x, Floats));
}
WIDEANGLE_INLINE DoubleSlice all_lanes(double x) { return broadcast<DoubleSlice>(x); }

WIDEANGLE_INLINE DoubleSlice larger(DoubleSlice a, DoubleSlice b) { return select(a < b, b, a); }
WIDEANGLE_INLINE LongSlice is_positive(DoubleSlice x) { return x > DoubleSlice{}; }

WIDEANGLE_INLINE DoubleSlice root_of(DoubleSlice x) {
#if defined(__AVX__) && !defined(__AVX512F__)
    return _mm256_sqrt_pd(x);
#else
    DoubleSlice result;
    for (int i = 0; i < slice_lanes; ++i) result[i] = __builtin_sqrt(x[i]);
    return result;
#endif
}

// Calls body(slice) for all of them, one after the other in the code where that keeps them in registers.
template <class Body>
WIDEANGLE_INLINE void for_slices(Body&& body) {
    if constexpr (double_slices <= 4)
        unrolled<double_slices>([&](auto slice) __attribute__((always_inline)) { body(slice()); });
    else
        for (int slice = 0; slice < double_slices; ++slice) body(slice);
}

// ---- Powers of two

// 2^x for integers x; 0 below -1022, 2^1023 above it.
WIDEANGLE_INLINE DoubleSlice power_of_two(DoubleSlice x) {
    const DoubleSlice most = all_lanes(1023.0);
    const DoubleSlice shifted = select(most < x, most, x) + (0x1.8p52 + 1023.0);
    return keep(x >= all_lanes(-1022.0), bits_as<DoubleSlice>(bits_as<LongSlice>(shifted) << 52));
}

// The exponent of positive normal numbers.
WIDEANGLE_INLINE DoubleSlice exponent_of(DoubleSlice x) {
    return bits_as<DoubleSlice>((bits_as<LongSlice>(x) >> 52) | 0x4330000000000000LL) - (0x1p52 + 1023.0);
}

WIDEANGLE_INLINE DoubleSlice floor_half(DoubleSlice x) {
    const DoubleSlice rounded = (0.5 * x - 0.25) + 0x1.8p52;
    return rounded - 0x1.8p52;
}

}  // namespace wideangle::WIDEANGLE_PATH
