// The neurons of a layer: normals, rows of L g, the activation, and sums of the products of activations.
//
// What a layer must do at least, per neuron and sixteen samples: m normals (19 vector operations each, and 24 for their
// random bits), m (m + 1)/2 fused products of float32, m activations that are widened, and as many fused products of
// float64 in two vectors each. For m = 10 and ReLU: 425 + 55 + 30 + 110 operations.
// Zen 5 takes four of them a cycle, but only two that multiply or rotate, about 380 of them here: 190 cycles at least,
// measured 240.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "gram_lanes.hpp"
#include "lane_counts.hpp"
#include "normal.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Normals, asked for in order.
class Normals {
  public:
    WIDEANGLE_INLINE explicit Normals(const Stream& stream) : stream_(stream) {
        if constexpr (ahead) next_ = words(0);
    }

    // (input, neuron) of eight neurons. With registers to spare, two quads side by side, and the next words are made
    // while these are used, so that the integer chain of the generator and the floating-point chains of its use overlap.
    WIDEANGLE_INLINE void draw(std::size_t inputs, FloatLanes* to) {
        for (std::size_t i = 0; i < inputs; ++i, to += gram_neurons) {
            if constexpr (ahead) {
                const Words4<Pair<u32>> bits = next_;
                next_ = words(++taken_);
                const auto low = normal_pair32<RoundOnce>(bits.word[0], bits.word[1]);
                const auto high = normal_pair32<RoundOnce>(bits.word[2], bits.word[3]);
                put(to, low.first.first, low.second.first, high.first.first, high.second.first);
                put(to + 4, low.first.second, low.second.second, high.first.second, high.second.second);
            } else {
                for (std::uint32_t quad = 0; quad < 2; ++quad) {
                    const Words4<u32> bits = stream_.quad(index(taken_) + quad, high_index(taken_));
                    const auto low = normal_pair32<RoundOnce>(bits.word[0], bits.word[1]);
                    const auto high = normal_pair32<RoundOnce>(bits.word[2], bits.word[3]);
                    put(to + 4 * quad, low.first, low.second, high.first, high.second);
                }
                ++taken_;
            }
        }
    }

  private:
#ifdef __AVX512F__
    static constexpr bool ahead = true;
#else
    static constexpr bool ahead = false;
#endif
    static std::uint32_t index(std::uint64_t place) { return static_cast<std::uint32_t>(2 * place); }
    static std::uint32_t high_index(std::uint64_t place) { return static_cast<std::uint32_t>(place >> 31); }

    WIDEANGLE_INLINE Words4<Pair<u32>> words(std::uint64_t place) const {
        return stream_.two_quads(index(place), high_index(place));
    }

    static WIDEANGLE_INLINE void put(FloatLanes* to, f32 a, f32 b, f32 c, f32 d) {
        store(to[0].at, a);
        store(to[1].at, b);
        store(to[2].at, c);
        store(to[3].at, d);
    }

    Stream stream_;
    std::uint64_t taken_ = 0;
    Words4<Pair<u32>> next_;
};

// The activations that cost next to nothing and are exact in float32 follow at once; the others come in a pass of their
// own.
template <class Phi>
constexpr bool is_immediate = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

WIDEANGLE_INLINE FloatSlice relu_of(FloatSlice h) {
#if defined(__AVX512F__)
    return bits_as<FloatSlice>(_mm512_maskz_max_ps(0xffff, bits_as<__m512>(h), _mm512_setzero_ps()));
#elif defined(__FMA__)
    return bits_as<FloatSlice>(_mm256_max_ps(bits_as<__m256>(h), _mm256_setzero_ps()));
#else
    return bits_as<FloatSlice>(bits_as<i32>(h) & ~(bits_as<i32>(h) >> 31));
#endif
}

template <class Phi>
WIDEANGLE_INLINE FloatSlice immediate(FloatSlice h) {
    using Bits = std::int32_t __attribute__((vector_size(sizeof(FloatSlice))));
    if constexpr (std::is_same_v<Phi, Relu>) return relu_of(h);
    if constexpr (std::is_same_v<Phi, Abs>) return bits_as<FloatSlice>(bits_as<Bits>(h) & 0x7fffffff);
    return h;
}

// Rows `first` on of L g for a block of neurons, and phi of them if it is immediate.
template <class Phi, int rows, bool top>
WIDEANGLE_INLINE void transform_rows(const FloatLanes* factor, std::size_t first, const FloatLanes* normals,
                                     GramLanes* values) {
    const FloatLanes* row[rows];
    unrolled<rows>([&](auto r) { row[r()] = factor + triangle_size(first + r()); });
    for (int slice = 0; slice < slices<FloatSlice>; ++slice)
        for (int neuron = 0; neuron < gram_neurons; neuron += across) {
            FloatSlice sum[rows][across];
            // Column k of the rows from begin on; the first column of all sets the sums.
            const auto add = [&](std::size_t k, auto begin, auto is_first) __attribute__((always_inline)) {
                FloatSlice normal[across];
                unrolled<across>([&](auto c) __attribute__((always_inline)) {
                    normal[c()] = get_slice<FloatSlice>(normals[k * gram_neurons + neuron + c()], slice);
                });
                unrolled<rows - begin()>([&](auto r) __attribute__((always_inline)) {
                    const auto entry = get_slice<FloatSlice>(row[begin() + r()][k], slice);
                    unrolled<across>([&](auto c) __attribute__((always_inline)) {
                        FloatSlice& to = sum[begin() + r()][c()];
                        to = is_first() ? FloatSlice(entry * normal[c()]) : fused(entry, normal[c()], to);
                    });
                });
            };
            if constexpr (!top) {
                add(0, std::integral_constant<int, 0>{}, std::true_type{});
                for (std::size_t k = 1; k < first; ++k) add(k, std::integral_constant<int, 0>{}, std::false_type{});
            }
            unrolled<rows>([&](auto k) __attribute__((always_inline)) {
                add(first + k(), k, std::bool_constant<top && k() == 0>{});
            });
            unrolled<across>([&](auto c) __attribute__((always_inline)) {
                GramLanes* const to = values + first * gram_neurons + neuron + c();
                unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                    put_widened(to[r() * gram_neurons], slice, immediate<Phi>(sum[r()][c()]));
                });
            });
        }
}

// a * b + c for products that are exact.
WIDEANGLE_INLINE DoubleSlice add_exact_product(DoubleSlice a, DoubleSlice b, DoubleSlice c) {
#if defined(__AVX512F__)
    return bits_as<f64>(_mm512_fmadd_pd(bits_as<__m512d>(a), bits_as<__m512d>(b), bits_as<__m512d>(c)));
#elif defined(__FMA__)
    return bits_as<DoubleSlice>(_mm256_fmadd_pd(bits_as<__m256d>(a), bits_as<__m256d>(b), bits_as<__m256d>(c)));
#else
    return a * b + c;
#endif
}

// Adds the products of the inputs `row` on with the `columns` before them that start at `column` and, if diagonal, with
// each other, over the first `count` neurons.
template <int rows, int columns, bool diagonal>
WIDEANGLE_INLINE void add_products(const GramLanes* values, std::size_t row, std::size_t column, int count,
                                   GramLanes* sums) {
    constexpr int width = columns + (diagonal ? rows : 0);
    GramLanes* sum_row[rows];
    unrolled<rows>([&](auto r) { sum_row[r()] = sums + triangle_index(row + r(), column); });
    for (int slice = 0; slice < slices<DoubleSlice>; ++slice) {
        DoubleSlice sum[rows][width];
        const auto each = [&](auto&& body) __attribute__((always_inline)) {
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                unrolled<(diagonal ? columns + r() + 1 : columns)>([&](auto c) __attribute__((always_inline)) { body(r, c); });
            });
        };
        each([&](auto r, auto c) __attribute__((always_inline)) { sum[r()][c()] = get_slice<DoubleSlice>(sum_row[r()][c()], slice); });
        for (int neuron = 0; neuron < count; ++neuron) {
            DoubleSlice left[rows], right[width];
            unrolled<rows>([&](auto r) __attribute__((always_inline)) { left[r()] = get_slice<DoubleSlice>(values[(row + r()) * gram_neurons + neuron], slice); });
            unrolled<width>([&](auto c) __attribute__((always_inline)) {
                if constexpr (c() < columns)
                    right[c()] = get_slice<DoubleSlice>(values[(column + c()) * gram_neurons + neuron], slice);
                else
                    right[c()] = left[c() - columns];
            });
            each([&](auto r, auto c) __attribute__((always_inline)) {
                sum[r()][c()] = add_exact_product(left[r()], right[c()], sum[r()][c()]);
            });
        }
        each([&](auto r, auto c) __attribute__((always_inline)) { put_slice(sum_row[r()][c()], slice, sum[r()][c()]); });
    }
}

// Few rows together with the triangle at their end: alone it has too few sums to hide how long each takes.
template <int rows>
WIDEANGLE_INLINE void add_products_of_rows(const GramLanes* values, std::size_t row, int count, GramLanes* sums) {
    const std::size_t joined = rows < tile && row > 0 ? tile : 0;
    for (std::size_t column = 0; column + joined < row; column += tile)
        add_products<rows, tile, false>(values, row, column, count, sums);
    if (rows < tile && joined > 0)
        add_products<rows, tile, true>(values, row, row - tile, count, sums);
    else
        add_products<rows, 0, true>(values, row, row, count, sums);
}

// Calls body(constant) with the constant min(tile, inputs - first).
template <class Body>
WIDEANGLE_INLINE void with_rows(std::size_t inputs, std::size_t first, Body&& body) {
    switch (inputs - first) {
        case 1: return body(std::integral_constant<int, 1>{});
        case 2: return body(std::integral_constant<int, 2>{});
        case 3: return body(std::integral_constant<int, 3>{});
        default: return body(std::integral_constant<int, tile>{});
    }
}

// Each row of L has a power of two of its own, so that inputs of any norms fit float32: the pre-activations of a row are
// 2^exponent h, and its activations 2^out phi.
struct RowScale {
    GramLanes before, after;  // of phi: phi(before h) after, unless phi is homogeneous
    GramLanes out;
};

template <class Phi>
WIDEANGLE_INLINE void activate_lanes(Phi phi, const RowScale* scale, GramLanes* values, std::size_t inputs) {
    for (std::size_t row = 0; row < inputs; ++row)
        for (int neuron = 0; neuron < gram_neurons; ++neuron, ++values) {
            f64x2 value = {{load<f64>(values->at), load<f64>(values->at + 8)}};
            if constexpr (std::is_same_v<Phi, LeakyRelu>) {
                value = {{phi.value(value.half[0]), phi.value(value.half[1])}};
            } else {
                for (int h = 0; h < 2; ++h)
                    value.half[h] = phi.value(value.half[h] * load<f64>(scale[row].before.at + 8 * h)) *
                                    load<f64>(scale[row].after.at + 8 * h);
            }
            const f32 rounded = narrow(value);
            store(values->at, widen(rounded, 0));
            store(values->at + 8, widen(rounded, 1));
        }
}

// The activations that are not immediate.
inline void activate(const GramLayer& at, const RowScale* scale, GramLanes* values, std::size_t inputs) {
    with_activation(at.activation, at.slope, [&](auto phi) {
        if constexpr (!is_immediate<decltype(phi)>) activate_lanes(phi, scale, values, inputs);
    });
}

struct StepArrays {
    FloatLanes *normals, *factor;
    GramLanes *values, *sums;
    RowScale* scale;

    StepArrays(GramLanes* scratch, std::size_t inputs) {
        values = scratch;
        sums = values + gram_neurons * inputs;
        scale = reinterpret_cast<RowScale*>(sums + triangle_size(inputs));
        normals = reinterpret_cast<FloatLanes*>(scale + inputs);
        factor = normals + gram_neurons * inputs;
    }
};

// Phi is immediate: Linear stands for those that come in a pass of their own.
template <class Phi>
void add_neurons(const GramLayer& at, std::size_t inputs, const StepArrays& in, const std::atomic<bool>& stop) {
    Normals stream(Stream({at.seed, at.first_sample, at.layer, at.width, at.weight_variance}, gram_normals));
    for (std::uint64_t neuron = 0; neuron < at.width; neuron += gram_neurons) {
        const std::uint64_t left = at.width - neuron;
        const int count = left < gram_neurons ? static_cast<int>(left) : gram_neurons;
        stream.draw(inputs, in.normals);
        with_rows(inputs, 0, [&](auto rows) {
            transform_rows<Phi, rows(), true>(in.factor, 0, in.normals, in.values);
        });
        for (std::size_t row = tile; row < inputs; row += tile)
            with_rows(inputs, row, [&](auto rows) {
                transform_rows<Phi, rows(), false>(in.factor, row, in.normals, in.values);
            });
        if constexpr (std::is_same_v<Phi, Linear>) activate(at, in.scale, in.values, inputs);
        for (std::size_t row = 0; row < inputs; row += tile) {
            if (stop.load(std::memory_order_relaxed)) return;
            with_rows(inputs, row, [&](auto rows) {
                add_products_of_rows<rows()>(in.values, row, count, in.sums);
            });
        }
    }
}

}  // namespace wideangle::WIDEANGLE_PATH
