// The vectors of a panel (forward_layer.hpp), as wide as the processor's registers, and how cells become sums. Compiled
// once per instruction set, where multiplications and additions may be fused.
#pragma once

#include <cstddef>
#include <utility>

#include "forward_layer.hpp"
#include "simd.hpp"

namespace wideangle::WIDEANGLE_PATH {

#if defined(__AVX512F__)
constexpr std::size_t vector_bytes = 64;
#elif defined(__AVX__)
constexpr std::size_t vector_bytes = 32;
#else
constexpr std::size_t vector_bytes = 16;
#endif
constexpr bool many_registers = vector_bytes == 64;

template <class T>
constexpr int width_of = vector_bytes / sizeof(T);
template <class T>
constexpr int cell = static_cast<int>(cell_units<T>);
// Inputs of a vector, whatever T is.
constexpr int vector_inputs = vector_bytes / 16;
// Vectors of a strip: with four units, sums that leave registers for a vector of inputs and the weights.
constexpr int most_vectors = many_registers ? 6 : 3;

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
using Lanes = Vector<LaneCount<T>>;
using Doubles = Vector<double>;

// A cell of weights for every input of a vector.
WIDEANGLE_INLINE Vector<float> for_all_inputs(const float* from) {
#if defined(__AVX512F__)
    return _mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from));
#elif defined(__AVX__)
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
#else
    return load<Vector<float>>(from);
#endif
}
WIDEANGLE_INLINE Vector<double> for_all_inputs(const double* from) {
#if defined(__AVX512F__)
    return _mm512_maskz_broadcast_f64x2(0xff, _mm_loadu_pd(from));
#elif defined(__AVX__)
    return _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(from));
#else
    return load<Vector<double>>(from);
#endif
}

// The same of the first `count` numbers, zeros after them.
template <class T>
WIDEANGLE_INLINE Vector<T> for_all_inputs(const T* from, std::size_t count) {
    T padded[cell<T>] = {};
    std::memcpy(padded, from, count * sizeof(T));
    return for_all_inputs(padded);
}

// Neighbours of every `block` lanes of x and y in turn: the first halves of the blocks, or the second.
template <int lanes, int block, bool second, class V>
WIDEANGLE_INLINE V interleaved(V x, V y) {
    return [x, y]<int... I>(std::integer_sequence<int, I...>) {
        return __builtin_shufflevector(
            x, y, ((I & 1) * lanes + I / block * block + (second ? block / 2 : 0) + I % block / 2)...);
    }(std::make_integer_sequence<int, lanes>{});
}

// Of `block` vectors the sums of each block of lanes: lane i of a block of the result comes from the block of x[i].
template <class V, int lanes, int block>
WIDEANGLE_INLINE V block_sums(const V* x) {
    static_assert(block == 2 || block == 4);
    if constexpr (block == 2) {
        return interleaved<lanes, 2, false>(x[0], x[1]) + interleaved<lanes, 2, true>(x[0], x[1]);
    } else {
        // Pairs of sums: of x[0] and x[2] in the even lanes, so that the last step puts them in order.
        const V even = interleaved<lanes, 4, false>(x[0], x[2]) + interleaved<lanes, 4, true>(x[0], x[2]);
        const V odd = interleaved<lanes, 4, false>(x[1], x[3]) + interleaved<lanes, 4, true>(x[1], x[3]);
        return interleaved<lanes, 4, false>(even, odd) + interleaved<lanes, 4, true>(even, odd);
    }
}

// Vectors of doubles that hold what a vector of T holds.
template <class T>
constexpr int parts = sizeof(double) / sizeof(T);

template <int part, class T>
WIDEANGLE_INLINE Doubles widened(Vector<T> x) {
    if constexpr (sizeof(T) == sizeof(double)) {
        return x;
    } else {
#if defined(__AVX512F__)  // for which GCC converts eight numbers in two halves
        return _mm512_maskz_cvtps_pd(0xff, _mm512_maskz_extractf32x8_ps(0xff, x, part));
#else
        return [x]<int... I>(std::integer_sequence<int, I...>) {
            return __builtin_convertvector(__builtin_shufflevector(x, x, (part * width_of<double> + I)...), Doubles);
        }(std::make_integer_sequence<int, width_of<double>>{});
#endif
    }
}

}  // namespace wideangle::WIDEANGLE_PATH
