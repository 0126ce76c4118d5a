// Sixteen lanes in the compiler's own vector types. The same source is compiled once per instruction set, each time in
// a namespace of its own (WIDEANGLE_PATH), so that no inline function of a wider set can be linked into a narrower one.
// Only IEEE additions, products, quotients and square roots are used, without contraction, so every path gives the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_FMA)
#include <arm_neon.h>
#endif

#ifndef WIDEANGLE_PATH
#define WIDEANGLE_PATH baseline
#endif

#ifndef WIDEANGLE_INLINE
#define WIDEANGLE_INLINE inline __attribute__((always_inline))
#endif

// Makes name_avx2 of name_ and WIDEANGLE_PATH, which macros do not join before they are replaced.
#define WIDEANGLE_JOIN_(a, b) a##b
#define WIDEANGLE_JOIN(a, b) WIDEANGLE_JOIN_(a, b)

namespace wideangle::WIDEANGLE_PATH {

constexpr int lanes = 16;

using f32 = float __attribute__((vector_size(64)));
using u32 = std::uint32_t __attribute__((vector_size(64)));
using i32 = std::int32_t __attribute__((vector_size(64)));
using f64 = double __attribute__((vector_size(64)));
using u64 = std::uint64_t __attribute__((vector_size(64)));
using i64 = std::int64_t __attribute__((vector_size(64)));
using f32half = float __attribute__((vector_size(32)));
using i32half = std::int32_t __attribute__((vector_size(32)));

// As many doubles as a register holds, for loops whose sums are to stay there: compilers keep wider vectors in memory.
#if defined(__AVX512F__)
using r64 = f64;
#elif defined(__AVX__)
using r64 = double __attribute__((vector_size(32)));
#else
using r64 = double __attribute__((vector_size(16)));
#endif

// Integers as wide as the doubles of V.
template <class V>
struct Words {
    typedef std::int64_t Signed __attribute__((vector_size(sizeof(V))));  // GCC forgets the size in a using
    typedef std::uint64_t Unsigned __attribute__((vector_size(sizeof(V))));
};
template <class V>
using signed_of = typename Words<V>::Signed;
template <class V>
using unsigned_of = typename Words<V>::Unsigned;

// Sixteen doubles: lanes 0-7 and lanes 8-15.
struct f64x2 {
    f64 half[2];
};

template <class To, class From>
WIDEANGLE_INLINE To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

WIDEANGLE_INLINE f32 as_f32(i32 x) { return bits_as<f32>(x); }
WIDEANGLE_INLINE i32 as_i32(f32 x) { return bits_as<i32>(x); }
WIDEANGLE_INLINE i32 as_i32(u32 x) { return bits_as<i32>(x); }
WIDEANGLE_INLINE f32 to_float(i32 x) { return __builtin_convertvector(x, f32); }

WIDEANGLE_INLINE f32 broadcast32(float x) { return x - f32{}; }
WIDEANGLE_INLINE u32 broadcast32(std::uint32_t x) { return x - u32{}; }
template <class V>
WIDEANGLE_INLINE V broadcast(double x) {
    return x - V{};
}
WIDEANGLE_INLINE f64 broadcast64(double x) { return broadcast<f64>(x); }

template <class V, class Element>
WIDEANGLE_INLINE V load(const Element* from) {
    V to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

template <class V, class Element>
WIDEANGLE_INLINE void store(Element* to, V from) {
    std::memcpy(to, &from, sizeof from);
}

// What a register holds of a wider vector or row of numbers.
template <class Part, class Whole>
WIDEANGLE_INLINE Part get_part(const Whole& from, int part) {
    return load<Part>(reinterpret_cast<const char*>(&from) + part * static_cast<int>(sizeof(Part)));
}
template <class Part, class Whole>
WIDEANGLE_INLINE void set_part(Whole& to, int part, Part x) {
    store(reinterpret_cast<char*>(&to) + part * static_cast<int>(sizeof(Part)), x);
}

// Two independent vectors side by side. Written operation by operation, their dependency chains overlap, which the
// processor's own window is too short to do for chains as long as a block of Threefry.
template <class V>
struct Pair {
    V first, second;
};

#define WIDEANGLE_PAIR_OPERATOR(op)                                                 \
    template <class V>                                                              \
    WIDEANGLE_INLINE Pair<V> operator op(const Pair<V>& x, const Pair<V>& y) {      \
        return {x.first op y.first, x.second op y.second};                          \
    }                                                                               \
    template <class V, class Scalar>                                                \
    WIDEANGLE_INLINE Pair<V> operator op(const Pair<V>& x, Scalar y) {              \
        return {x.first op y, x.second op y};                                       \
    }                                                                               \
    template <class V, class Scalar>                                                \
        requires std::is_arithmetic_v<Scalar>                                       \
    WIDEANGLE_INLINE Pair<V> operator op(Scalar x, const Pair<V>& y) {              \
        return {x op y.first, x op y.second};                                       \
    }
WIDEANGLE_PAIR_OPERATOR(+)
WIDEANGLE_PAIR_OPERATOR(-)
WIDEANGLE_PAIR_OPERATOR(*)
WIDEANGLE_PAIR_OPERATOR(/)
WIDEANGLE_PAIR_OPERATOR(&)
WIDEANGLE_PAIR_OPERATOR(|)
WIDEANGLE_PAIR_OPERATOR(^)
WIDEANGLE_PAIR_OPERATOR(<<)
WIDEANGLE_PAIR_OPERATOR(>>)
#undef WIDEANGLE_PAIR_OPERATOR

template <class V>
WIDEANGLE_INLINE Pair<V> operator-(const Pair<V>& x) {
    return {-x.first, -x.second};
}
template <class V>
WIDEANGLE_INLINE Pair<V> operator~(const Pair<V>& x) {
    return {~x.first, ~x.second};
}

template <class V, class Other>
WIDEANGLE_INLINE Pair<V>& operator+=(Pair<V>& x, const Other& y) {
    return x = x + y;
}
template <class V, class Other>
WIDEANGLE_INLINE Pair<V>& operator-=(Pair<V>& x, const Other& y) {
    return x = x - y;
}

template <class V>
struct Words<Pair<V>> {
    using Signed = Pair<signed_of<V>>;
    using Unsigned = Pair<unsigned_of<V>>;
};

WIDEANGLE_INLINE Pair<f32> as_f32(const Pair<i32>& x) { return {as_f32(x.first), as_f32(x.second)}; }
WIDEANGLE_INLINE Pair<i32> as_i32(const Pair<f32>& x) { return {as_i32(x.first), as_i32(x.second)}; }
WIDEANGLE_INLINE Pair<i32> as_i32(const Pair<u32>& x) { return {as_i32(x.first), as_i32(x.second)}; }
WIDEANGLE_INLINE Pair<f32> to_float(const Pair<i32>& x) { return {to_float(x.first), to_float(x.second)}; }

// a where the mask is set, else b. Bit by bit: compilers take the conditional operator on vectors wider than the
// registers apart lane by lane.
WIDEANGLE_INLINE u32 select(i32 mask, u32 a, u32 b) {
    const u32 bits = bits_as<u32>(mask);
    return (a & bits) | (b & ~bits);
}
WIDEANGLE_INLINE f32 select(i32 mask, f32 a, f32 b) {
    return bits_as<f32>(select(mask, bits_as<u32>(a), bits_as<u32>(b)));
}
template <class V>
WIDEANGLE_INLINE V select(signed_of<V> mask, V a, V b) {
    return bits_as<V>((bits_as<signed_of<V>>(a) & mask) | (bits_as<signed_of<V>>(b) & ~mask));
}

// Comparisons of doubles. By registers: compilers take those of wider vectors apart lane by lane.
template <class Compare>
WIDEANGLE_INLINE signed_of<r64> compare_registers(r64 a, r64 b, Compare compare) {
    return compare(a, b);
}
template <class V, class Compare>
WIDEANGLE_INLINE Pair<signed_of<V>> compare_registers(const Pair<V>& a, const Pair<V>& b, Compare compare) {
    return {compare_registers(a.first, b.first, compare), compare_registers(a.second, b.second, compare)};
}
#if !defined(__AVX512F__)
template <class Compare>
WIDEANGLE_INLINE i64 compare_registers(f64 a, f64 b, Compare compare) {
#if defined(__AVX__)
    const auto low = compare(__builtin_shufflevector(a, a, 0, 1, 2, 3), __builtin_shufflevector(b, b, 0, 1, 2, 3));
    const auto high = compare(__builtin_shufflevector(a, a, 4, 5, 6, 7), __builtin_shufflevector(b, b, 4, 5, 6, 7));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    const auto first = compare(__builtin_shufflevector(a, a, 0, 1), __builtin_shufflevector(b, b, 0, 1));
    const auto second = compare(__builtin_shufflevector(a, a, 2, 3), __builtin_shufflevector(b, b, 2, 3));
    const auto third = compare(__builtin_shufflevector(a, a, 4, 5), __builtin_shufflevector(b, b, 4, 5));
    const auto fourth = compare(__builtin_shufflevector(a, a, 6, 7), __builtin_shufflevector(b, b, 6, 7));
    return __builtin_shufflevector(__builtin_shufflevector(first, second, 0, 1, 2, 3),
                                   __builtin_shufflevector(third, fourth, 0, 1, 2, 3), 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}
#endif
#define WIDEANGLE_COMPARISON(name, op)                                             \
    template <class V>                                                             \
    WIDEANGLE_INLINE signed_of<V> name(V a, V b) {                                 \
        return compare_registers(a, b, [](auto x, auto y) { return x op y; });     \
    }                                                                              \
    template <class V>                                                             \
    WIDEANGLE_INLINE signed_of<V> name(V a, double b) {                            \
        return name(a, broadcast<V>(b));                                           \
    }                                                                              \
    template <class V>                                                             \
    WIDEANGLE_INLINE signed_of<V> name(double a, V b) {                            \
        return name(broadcast<V>(a), b);                                           \
    }
WIDEANGLE_COMPARISON(is_less, <)
WIDEANGLE_COMPARISON(is_less_equal, <=)
WIDEANGLE_COMPARISON(is_unequal, !=)
#undef WIDEANGLE_COMPARISON

// a < b as unsigned integers, through the signed comparison that every instruction set has.
WIDEANGLE_INLINE i32 less(u32 a, u32 b) { return bits_as<i32>(a ^ 0x80000000u) < bits_as<i32>(b ^ 0x80000000u); }
WIDEANGLE_INLINE i32 less(std::uint32_t a, u32 b) { return less(broadcast32(a), b); }

// a where the mask is set, else +0.
WIDEANGLE_INLINE f32 keep(i32 mask, f32 a) { return bits_as<f32>(bits_as<i32>(a) & mask); }
template <class V>
WIDEANGLE_INLINE V keep(signed_of<V> mask, V a) {
    return bits_as<V>(bits_as<signed_of<V>>(a) & mask);
}

// Lane masks of 32-bit lanes, widened for the two halves of doubles.
WIDEANGLE_INLINE i64 widen_mask(i32 mask, int half) {
    i32half part;
    std::memcpy(&part, reinterpret_cast<const char*>(&mask) + 32 * half, sizeof part);
    return __builtin_convertvector(part, i64);
}

// By shuffles, because a copy through memory would keep x there in the loop before.
WIDEANGLE_INLINE f64 widen(f32 x, int half) {
    const f32half low = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
    const f32half high = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
#if defined(__AVX512F__)
    return bits_as<f64>(_mm512_maskz_cvtps_pd(0xff, bits_as<__m256>(half == 0 ? low : high)));  // GCC 12 would convert by fours
#else
    return __builtin_convertvector(half == 0 ? low : high, f64);
#endif
}

WIDEANGLE_INLINE u64 widen_bits(u32 x, int half) {
    using u32half = std::uint32_t __attribute__((vector_size(32)));
    u32half part;
    std::memcpy(&part, reinterpret_cast<const char*>(&x) + 32 * half, sizeof part);
    return __builtin_convertvector(part, u64);
}

WIDEANGLE_INLINE f32 narrow(f64x2 x) {
    const f32half low = __builtin_convertvector(x.half[0], f32half);
    const f32half high = __builtin_convertvector(x.half[1], f32half);
    f32 to;
    std::memcpy(&to, &low, sizeof low);
    std::memcpy(reinterpret_cast<char*>(&to) + sizeof low, &high, sizeof high);
    return to;
}

WIDEANGLE_INLINE std::uint32_t largest(u32 x) {
    std::uint32_t lane[lanes];
    store(lane, x);
    std::uint32_t result = 0;
    for (int i = 0; i < lanes; ++i) result = lane[i] > result ? lane[i] : result;
    return result;
}

WIDEANGLE_INLINE std::uint32_t smallest(u32 x) {
    std::uint32_t lane[lanes];
    store(lane, x);
    std::uint32_t result = lane[0];
    for (int i = 1; i < lanes; ++i) result = lane[i] < result ? lane[i] : result;
    return result;
}

WIDEANGLE_INLINE f32 square_root(f32 x) {
#if defined(__AVX__) && !defined(__AVX512F__)
    const f32half low = _mm256_sqrt_ps(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7));
    const f32half high = _mm256_sqrt_ps(__builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    f32 result;
    for (int i = 0; i < lanes; ++i) result[i] = __builtin_sqrtf(x[i]);
    return result;
#endif
}
WIDEANGLE_INLINE Pair<f32> square_root(const Pair<f32>& x) { return {square_root(x.first), square_root(x.second)}; }

WIDEANGLE_INLINE f64 square_root(f64 x) {
#if defined(__AVX__) && !defined(__AVX512F__)
    const auto low = _mm256_sqrt_pd(__builtin_shufflevector(x, x, 0, 1, 2, 3));
    const auto high = _mm256_sqrt_pd(__builtin_shufflevector(x, x, 4, 5, 6, 7));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    f64 result;
    for (int i = 0; i < 8; ++i) result[i] = __builtin_sqrt(x[i]);
    return result;
#endif
}

// a * b + c, rounded once.
#if defined(__AVX512F__)
WIDEANGLE_INLINE f32 fused(f32 a, f32 b, f32 c) { return bits_as<f32>(_mm512_fmadd_ps(bits_as<__m512>(a), bits_as<__m512>(b), bits_as<__m512>(c))); }
#elif defined(__FMA__)
using Register = __m256;
WIDEANGLE_INLINE Register fused_register(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
WIDEANGLE_INLINE f32 fused(f32 a, f32 b, f32 c) {
    const f32half low = fused_register(__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7),
                                       __builtin_shufflevector(b, b, 0, 1, 2, 3, 4, 5, 6, 7),
                                       __builtin_shufflevector(c, c, 0, 1, 2, 3, 4, 5, 6, 7));
    const f32half high = fused_register(__builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15),
                                        __builtin_shufflevector(b, b, 8, 9, 10, 11, 12, 13, 14, 15),
                                        __builtin_shufflevector(c, c, 8, 9, 10, 11, 12, 13, 14, 15));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#elif defined(__ARM_FEATURE_FMA)
using Register = float32x4_t;
WIDEANGLE_INLINE Register fused_register(Register a, Register b, Register c) { return vfmaq_f32(c, a, b); }
WIDEANGLE_INLINE f32 fused(f32 a, f32 b, f32 c) {
    f32 result;
    for (std::size_t at = 0; at < sizeof result; at += sizeof(Register)) {
        Register part[3];
        std::memcpy(&part[0], reinterpret_cast<const char*>(&a) + at, sizeof(Register));
        std::memcpy(&part[1], reinterpret_cast<const char*>(&b) + at, sizeof(Register));
        std::memcpy(&part[2], reinterpret_cast<const char*>(&c) + at, sizeof(Register));
        part[0] = fused_register(part[0], part[1], part[2]);
        std::memcpy(reinterpret_cast<char*>(&result) + at, &part[0], sizeof(Register));
    }
    return result;
}
#else
// The product is exact in double. Rounding the sum to odd there (the last bit set when something was cut off) makes the
// rounding to float32 the only one that counts.
WIDEANGLE_INLINE f64 sum_to_odd(f64 product, f64 c) {
    const f64 sum = product + c;
    const f64 of_c = sum - product;
    const f64 error = (product - (sum - of_c)) + (c - of_c);
    // An even sum is off by its last place: upwards in magnitude if the error has the sum's sign, else downwards. Masks
    // by arithmetic where there is one, as compilers take comparisons apart lane by lane.
    const i64 even = (bits_as<i64>(sum) & 1) - 1;
    const i64 step = 1 - 2 * bits_as<i64>((bits_as<u64>(error) ^ bits_as<u64>(sum)) >> 63);
    return bits_as<f64>(bits_as<i64>(sum) + (is_unequal(error, f64{}) & even & step));
}
WIDEANGLE_INLINE f32 fused(f32 a, f32 b, f32 c) {
    f64x2 sum;
    for (int h = 0; h < 2; ++h) sum.half[h] = sum_to_odd(widen(a, h) * widen(b, h), widen(c, h));
    return narrow(sum);
}
#endif

}  // namespace wideangle::WIDEANGLE_PATH
