// Compiled once per instruction set; see gram_step.hpp.
//
// The chain is exact: given Q, the n rows of pre-activations of m inputs are independent Gaussian vectors h = L g with
// covariance L L^T = sigma_b^2 + sigma_w^2 Q, and the next Q is the mean of phi(h) phi(h)^T. What a layer must do at
// least, per neuron and sixteen samples: m normals (27 vector operations each, and 24 for their random bits), m (m + 1)/2
// products and sums for L g and as many for phi(h) phi(h)^T, all in float64 and so in two vectors each, and m
// activations. For m = 10 and ReLU: 510 operations of float32 or integers, 440 products and sums, 20 activations.
//
// Lanes are samples, so that everything is straight-line code with a triangular L in the cache; each lane has its own
// order of pivots. Float64 throughout but for the normals, which are numbers like any others: Q is often nearly singular.
#include "gram_step.hpp"

#include <cstring>
#include <type_traits>
#include <utility>

#include "lane_counts.hpp"
#include "normal.hpp"

#define WIDEANGLE_JOIN_(a, b) a##b
#define WIDEANGLE_JOIN(a, b) WIDEANGLE_JOIN_(a, b)

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

// As many doubles as a register holds, and the tiles of sums that fit the registers.
#if defined(__AVX512F__)
using Slice = f64;
constexpr int tile = 4, across = 4;
#elif defined(__AVX__)
using Slice = double __attribute__((vector_size(32)));
constexpr int tile = 3, across = 2;
#else
using Slice = double __attribute__((vector_size(16)));
constexpr int tile = 3, across = 2;
#endif
constexpr int slice_lanes = sizeof(Slice) / sizeof(double);

constexpr double ln2 = 0.69314718055994530942;

// ---- Scales

// 2^x for integers x; 0 below -1022, 2^1023 above it.
WIDEANGLE_INLINE f64 power_of_two(f64 x) {
    const f64 bounded = select(x > 1023.0, broadcast64(1023.0), x);
    const f64 shifted = bounded + (0x1.8p52 + 1023.0);
    return keep(x >= -1022.0, bits_as<f64>(bits_as<u64>(shifted) << 52));
}

// The exponent of positive normal numbers.
WIDEANGLE_INLINE f64 exponent_of(f64 x) {
    return bits_as<f64>((bits_as<u64>(x) >> 52) | 0x4330000000000000ULL) - (0x1p52 + 1023.0);
}

WIDEANGLE_INLINE f64 floor_half(f64 x) {
    const f64 rounded = (0.5 * x - 0.25) + 0x1.8p52;
    return rounded - 0x1.8p52;
}

// The covariance of the next layer is 2^(2 half_exponent) (bias + weight gram).
struct CovarianceScale {
    f64 half_exponent, weight, bias;
};

WIDEANGLE_INLINE CovarianceScale covariance_scale(f64 exponent, const GramLayer& at) {
    const f64 of_weight = exponent_of(broadcast64(at.weight_variance));
    const f64 mantissa = at.weight_variance * power_of_two(-of_weight);
    f64 top = exponent + of_weight;
    if (at.bias_variance > 0) {
        const f64 of_bias = exponent_of(broadcast64(at.bias_variance));
        top = select(of_bias > top, of_bias, top);
    }
    const f64 half_exponent = floor_half(top);
    return {half_exponent, mantissa * power_of_two(exponent + of_weight - 2.0 * half_exponent),
            at.bias_variance * power_of_two(-2.0 * half_exponent)};
}

// ---- Factorisation

// Entry index[lane] of each lane.
WIDEANGLE_INLINE f64 gather(const GramLanes* from, i64 index, int half) {
    f64 result;
    for (int lane = 0; lane < 8; ++lane) result[lane] = from[index[lane]].at[8 * half + lane];
    return result;
}

WIDEANGLE_INLINE f64 get(const GramLanes& from, int half) { return load<f64>(from.at + 8 * half); }
WIDEANGLE_INLINE void put(GramLanes& to, int half, f64 x) { store(to.at + 8 * half, x); }

struct Pivots {
    f64 log_determinant;
    i64 rank;
};

// Cholesky's factor of bias + weight gram for the eight lanes of a half, with pivoting: the next row is the one with the
// largest part of its diagonal entry left, and once no row has more than the tolerance the rest is zero. (In a fixed
// order a row can be dropped that later ones still depend on.) Column by column, from the left.
WIDEANGLE_INLINE Pivots factorise(const GramState& state, f64 weight, f64 bias, int half, GramLanes* scratch,
                                  const std::atomic<bool>& stop) {
    const std::size_t inputs = state.inputs;
    GramLanes* const covariance = scratch;
    GramLanes* const columns = covariance + inputs * inputs;  // (input, column), inputs in their own order
    GramLanes* const rest = columns + inputs * inputs;        // of the diagonal
    GramLanes* const inverse = rest + inputs;                 // of the diagonal, or 0
    GramLanes* const part = inverse + inputs;                 // rest times inverse, or -1 once used
    for (std::size_t i = 0; i < inputs; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            const f64 entry = bias + weight * get(state.gram[triangle_index(i, j)], half);
            put(covariance[i * inputs + j], half, entry);
            put(covariance[j * inputs + i], half, entry);
        }
        const f64 diagonal = get(covariance[i * inputs + i], half);
        const i64 positive = diagonal > 0.0;
        put(rest[i], half, diagonal);
        put(inverse[i], half, keep(positive, 1.0 / select(positive, diagonal, broadcast64(1.0))));
        put(part[i], half, keep(positive, broadcast64(1.0)));
    }
    Pivots result{};
    const auto width = static_cast<std::int64_t>(inputs);
    for (std::size_t k = 0; k < inputs; ++k) {
        if (stop.load(std::memory_order_relaxed)) break;
        f64 largest_part = broadcast64(-1.0), pivot{};
        i64 row{};
        for (std::size_t i = 0; i < inputs; ++i) {
            const i64 larger = get(part[i], half) > largest_part;
            largest_part = select(larger, get(part[i], half), largest_part);
            pivot = select(larger, get(rest[i], half), pivot);
            row = (larger & static_cast<std::int64_t>(i)) | (~larger & row);
        }
        const i64 sound = largest_part > gram_rank_tolerance;
        const f64 root = square_root(select(sound, pivot, broadcast64(1.0)));
        const f64 scale = keep(sound, 1.0 / root);
        for (std::size_t j = 0; j < k; ++j)
            put(state.factor[triangle_index(k, j)], half, gather(columns + j, row * width, half));
        put(state.factor[triangle_index(k, k)], half, keep(sound, root));
        for (int lane = 0; lane < 8; ++lane) state.order[k].at[8 * half + lane] = static_cast<std::uint32_t>(row[lane]);
        result.rank -= sound;
        result.log_determinant += log64(select(sound, pivot, broadcast64(1.0)));
        for (std::size_t i = 0; i < inputs; ++i) {
            f64 sum = gather(covariance + i * inputs, row, half);
            for (std::size_t j = 0; j < k; ++j)
                sum -= get(columns[i * inputs + j], half) * get(state.factor[triangle_index(k, j)], half);
            const i64 is_pivot = row == static_cast<std::int64_t>(i);
            const i64 used = (get(part[i], half) < 0.0) | is_pivot;
            const f64 entry = keep(~used, sum * scale);
            const f64 left = get(rest[i], half) - entry * entry;
            put(columns[i * inputs + k], half, entry);
            put(rest[i], half, left);
            put(part[i], half, select(used, broadcast64(-1.0), left * get(inverse[i], half)));
        }
    }
    return result;
}

// (tr Q)^2/tr(Q^2), 0 for Q = 0.
WIDEANGLE_INLINE f64 participation(const GramState& state, int half) {
    f64 trace{}, squares{};
    for (std::size_t i = 0; i < state.inputs; ++i) {
        f64 row{};
        for (std::size_t j = 0; j < i; ++j) {
            const f64 entry = get(state.gram[triangle_index(i, j)], half);
            row += entry * entry;
        }
        const f64 diagonal = get(state.gram[triangle_index(i, i)], half);
        trace += diagonal;
        squares += 2.0 * row + diagonal * diagonal;
    }
    const i64 positive = trace > 0.0;
    return keep(positive, trace * trace / select(positive, squares, broadcast64(1.0)));
}

void measure(GramState& state, const GramLayer& next, GramLanes* scratch, const std::atomic<bool>& stop) {
    const auto inputs = static_cast<double>(state.inputs);
    for (int half = 0; half < 2; ++half) {
        put(state.effective_rank, half, participation(state, half));
        const Pivots pivots = factorise(state, broadcast64(1.0), f64{}, half, scratch, stop);
        const f64 exponent = get(state.exponent, half);
        put(state.log_determinant, half, pivots.log_determinant + exponent * (inputs * ln2));
        for (int lane = 0; lane < 8; ++lane)
            state.rank.at[8 * half + lane] = static_cast<std::uint32_t>(pivots.rank[lane]);
        if (next.bias_variance > 0) {
            const CovarianceScale scale = covariance_scale(exponent, next);
            factorise(state, scale.weight, scale.bias, half, scratch, stop);
        }
    }
}

// ---- Neurons

WIDEANGLE_INLINE void put_normals(GramLanes& to, f32 x) {
    put(to, 0, widen(x, 0));
    put(to, 1, widen(x, 1));
}

// Words for eight normals at a time, asked for in order. With registers to spare the next ones are made while these are
// used, so that the integer chain of the generator and the floating-point chains of its use overlap.
class NormalWords {
  public:
    WIDEANGLE_INLINE explicit NormalWords(const Stream& stream) : stream_(stream) {
        if constexpr (ahead) next_ = at(0);
    }

    WIDEANGLE_INLINE Words4<Pair<u32>> take() {
        if constexpr (!ahead) return at(taken_++);
        const Words4<Pair<u32>> words = next_;
        next_ = at(++taken_);
        return words;
    }

  private:
#ifdef __AVX512F__
    static constexpr bool ahead = true;
#else
    static constexpr bool ahead = false;
#endif
    WIDEANGLE_INLINE Words4<Pair<u32>> at(std::uint64_t place) const {
        return stream_.two_quads(static_cast<std::uint32_t>(2 * place), static_cast<std::uint32_t>(place >> 31));
    }

    Stream stream_;
    std::uint64_t taken_ = 0;
    Words4<Pair<u32>> next_;
};

// The next normals (input, neuron), of eight neurons.
WIDEANGLE_INLINE void draw(NormalWords& words, std::size_t inputs, GramLanes* normals) {
    for (std::size_t i = 0; i < inputs; ++i, normals += gram_neurons) {
        const Words4<Pair<u32>> bits = words.take();
        const auto low = normal_pair32(bits.word[0], bits.word[1]), high = normal_pair32(bits.word[2], bits.word[3]);
        put_normals(normals[0], low.first.first);
        put_normals(normals[1], low.second.first);
        put_normals(normals[2], high.first.first);
        put_normals(normals[3], high.second.first);
        put_normals(normals[4], low.first.second);
        put_normals(normals[5], low.second.second);
        put_normals(normals[6], high.first.second);
        put_normals(normals[7], high.second.second);
    }
}

WIDEANGLE_INLINE Slice get_slice(const GramLanes& from, int slice) { return load<Slice>(from.at + slice_lanes * slice); }
WIDEANGLE_INLINE void put_slice(GramLanes& to, int slice, Slice x) { store(to.at + slice_lanes * slice, x); }
constexpr int slices = gram_lanes / slice_lanes;

// Calls body with the constants 0, 1, ... below count: loops that must be gone before arrays can live in registers.
template <int count, class Body>
WIDEANGLE_INLINE void unrolled(Body&& body) {
    [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
        (body(std::integral_constant<int, i>{}), ...);
    }(std::make_integer_sequence<int, count>{});
}

// Rows `first` on of L g for a block of neurons.
template <int rows, bool top>
WIDEANGLE_INLINE void transform_rows(const GramLanes* factor, std::size_t first, const GramLanes* normals,
                                     GramLanes* values) {
    const GramLanes* row[rows];
    unrolled<rows>([&](auto r) { row[r()] = factor + triangle_size(first + r()); });
    for (int slice = 0; slice < slices; ++slice)
        for (int neuron = 0; neuron < gram_neurons; neuron += across) {
            Slice sum[rows][across];
            // Column k of the rows from begin on; the first column of all sets the sums.
            const auto add = [&](std::size_t k, auto begin, auto is_first) __attribute__((always_inline)) {
                Slice normal[across];
                unrolled<across>([&](auto c) __attribute__((always_inline)) {
                    normal[c()] = get_slice(normals[k * gram_neurons + neuron + c()], slice);
                });
                unrolled<rows - begin()>([&](auto r) __attribute__((always_inline)) {
                    const Slice entry = get_slice(row[begin() + r()][k], slice);
                    unrolled<across>([&](auto c) __attribute__((always_inline)) {
                        const Slice product = entry * normal[c()];
                        Slice& to = sum[begin() + r()][c()];
                        to = is_first() ? product : to + product;
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
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                unrolled<across>([&](auto c) __attribute__((always_inline)) {
                    put_slice(values[(first + r()) * gram_neurons + neuron + c()], slice, sum[r()][c()]);
                });
            });
        }
}

// Adds the products of rows `row` on and `column` on over the first `count` neurons; of a tile on the diagonal the part
// below it.
template <int rows, bool diagonal>
WIDEANGLE_INLINE void add_products(const GramLanes* values, std::size_t row, std::size_t column, int count,
                                   GramLanes* sums) {
    constexpr int columns = diagonal ? rows : tile;
    GramLanes* sum_row[rows];
    unrolled<rows>([&](auto r) { sum_row[r()] = sums + triangle_index(row + r(), column); });
    for (int slice = 0; slice < slices; ++slice) {
        Slice sum[rows][columns];
        const auto each = [&](auto&& body) __attribute__((always_inline)) {
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                unrolled<(diagonal ? r() + 1 : columns)>([&](auto c) __attribute__((always_inline)) { body(r, c); });
            });
        };
        each([&](auto r, auto c) __attribute__((always_inline)) { sum[r()][c()] = get_slice(sum_row[r()][c()], slice); });
        for (int neuron = 0; neuron < count; ++neuron) {
            Slice left[rows], right[columns];
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                left[r()] = get_slice(values[(row + r()) * gram_neurons + neuron], slice);
            });
            unrolled<columns>([&](auto c) __attribute__((always_inline)) {
                if constexpr (diagonal)
                    right[c()] = left[c()];
                else
                    right[c()] = get_slice(values[(column + c()) * gram_neurons + neuron], slice);
            });
            each([&](auto r, auto c) __attribute__((always_inline)) { sum[r()][c()] += left[r()] * right[c()]; });
        }
        each([&](auto r, auto c) __attribute__((always_inline)) { put_slice(sum_row[r()][c()], slice, sum[r()][c()]); });
    }
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

// What the pre-activations must be multiplied by before phi, and phi by after: 2^500 is as good as infinity.
struct ValueScale {
    f64x2 before, after;
};

template <class Phi>
constexpr bool homogeneous = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, LeakyRelu> ||
                                std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

template <class Phi>
WIDEANGLE_INLINE void activate(Phi phi, const ValueScale& scale, GramLanes* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        f64x2 h = {{get(values[i], 0), get(values[i], 1)}};
        if constexpr (homogeneous<Phi>) {
            h = {{phi.value(h.half[0]), phi.value(h.half[1])}};
        } else {
            h = {{phi.value(h.half[0] * scale.before.half[0]), phi.value(h.half[1] * scale.before.half[1])}};
            h = {{h.half[0] * scale.after.half[0], h.half[1] * scale.after.half[1]}};
        }
        put(values[i], 0, h.half[0]);
        put(values[i], 1, h.half[1]);
    }
}

template <class Phi>
void add_neurons(Phi phi, const GramLayer& at, std::size_t inputs, const ValueScale& scale, const GramLanes* factor,
                 GramLanes* sums, GramLanes* normals, GramLanes* values, const std::atomic<bool>& stop) {
    NormalWords words(Stream({at.seed, at.first_sample, at.layer, at.width, at.weight_variance}, gram_normals));
    for (std::uint64_t neuron = 0; neuron < at.width; neuron += gram_neurons) {
        const std::uint64_t left = at.width - neuron;
        const int count = left < gram_neurons ? static_cast<int>(left) : gram_neurons;
        draw(words, inputs, normals);
        with_rows(inputs, 0, [&](auto rows) { transform_rows<rows(), true>(factor, 0, normals, values); });
        for (std::size_t row = tile; row < inputs; row += tile)
            with_rows(inputs, row, [&](auto rows) { transform_rows<rows(), false>(factor, row, normals, values); });
        activate(phi, scale, values, inputs * gram_neurons);
        for (std::size_t row = 0; row < inputs; row += tile) {
            if (stop.load(std::memory_order_relaxed)) return;
            with_rows(inputs, row, [&](auto rows) {
                for (std::size_t column = 0; column < row; column += tile)
                    add_products<rows(), false>(values, row, column, count, sums);
                add_products<rows(), true>(values, row, row, count, sums);
            });
        }
    }
}

// From the order of the pivots to that of the inputs, scaled so that the largest diagonal entry lies in [1, 2).
void set_gram(GramState& state, const GramLanes* sums, double factor, f64x2 exponent) {
    const std::size_t inputs = state.inputs;
    for (std::size_t k = 0; k < inputs; ++k)
        for (std::size_t l = 0; l <= k; ++l)
            for (int lane = 0; lane < gram_lanes; ++lane) {
                const std::uint32_t i = state.order[k].at[lane], j = state.order[l].at[lane];
                state.gram[i > j ? triangle_index(i, j) : triangle_index(j, i)].at[lane] =
                    sums[triangle_index(k, l)].at[lane];
            }
    for (int half = 0; half < 2; ++half) {
        f64 largest_norm{};
        for (std::size_t i = 0; i < inputs; ++i) {
            const f64 norm = get(state.gram[triangle_index(i, i)], half);
            largest_norm = select(norm > largest_norm, norm, largest_norm);
        }
        largest_norm = largest_norm * factor;
        const i64 positive = largest_norm > 0.0;
        const f64 shift = exponent_of(select(positive, largest_norm, broadcast64(1.0)));
        const f64 scale = factor * power_of_two(-shift);
        for (std::size_t i = 0; i < triangle_size(inputs); ++i)
            put(state.gram[i], half, get(state.gram[i], half) * scale);
        put(state.exponent, half, select(positive, exponent.half[half] + shift, broadcast64(gram_zero_exponent)));
    }
}

void step(GramState& state, const GramLayer& at, GramLanes* scratch, const std::atomic<bool>& stop) {
    const std::size_t inputs = state.inputs, entries = triangle_size(inputs);
    GramLanes* const normals = scratch;
    GramLanes* const values = normals + gram_neurons * inputs;
    GramLanes* const factor = values + gram_neurons * inputs;
    GramLanes* const sums = factor + entries;

    ValueScale value_scale;
    f64x2 exponent;
    const bool bounded =
        at.activation == Activation::erf || at.activation == Activation::tanh || at.activation == Activation::sin;
    for (int half = 0; half < 2; ++half) {
        const CovarianceScale scale = covariance_scale(get(state.exponent, half), at);
        const f64 unit = broadcast64(1.0), most = broadcast64(500.0);
        f64 by = select(scale.half_exponent > most, most, scale.half_exponent);
        by = select(by < -most, -most, by);
        const i64 stays = bounded ? by > 0.0 : i64{};
        value_scale.before.half[half] = power_of_two(by);
        value_scale.after.half[half] = select(stays, unit, power_of_two(-by));
        exponent.half[half] = keep(~stays, 2.0 * scale.half_exponent);
        const f64 root = at.bias_variance > 0 ? unit : square_root(scale.weight);
        for (std::size_t i = 0; i < entries; ++i) put(factor[i], half, get(state.factor[i], half) * root);
    }
    std::memset(sums, 0, entries * sizeof *sums);
    with_activation(at.activation, at.slope, [&](auto phi) {
        add_neurons(phi, at, inputs, value_scale, factor, sums, normals, values, stop);
    });
    if (stop.load(std::memory_order_relaxed)) return;
    set_gram(state, sums, 1.0 / static_cast<double>(at.width), exponent);
    measure(state, at, scratch, stop);
}

// ---- Moments

// Moments of the samples begin to end of which the mask, if any, is not zero.
WIDEANGLE_INLINE CentralMoments moments_where(const double* values, const double* mask, int begin, int end) {
    alignas(64) double chosen[gram_block + 8];
    int count = 0;
    for (int i = begin; i < end; ++i) {
        chosen[count] = values[i];
        count += mask[i] != 0.0;
    }
    return central_moments(chosen, count);
}

void reduce(const GramState* states, int begin, int end, GramReduction& to) {
    const std::size_t inputs = states->inputs;
    const int first = begin / gram_lanes, last = (end + gram_lanes - 1) / gram_lanes;
    alignas(64) double values[gram_block + 8], mask[gram_block];
    const auto for_halves = [&](auto&& body) {
        for (int state = first; state < last; ++state)
            for (int half = 0; half < 2; ++half) body(states[state], half, state * gram_lanes + 8 * half);
    };

    // The power of two in two steps: its exponent may be twice what a double holds.
    alignas(64) double scale[2][gram_block];
    for_halves([&](const GramState& state, int half, int at) {
        const f64 exponent = get(state.exponent, half);
        const f64 part = floor_half(exponent);
        store(scale[0] + at, power_of_two(part));
        store(scale[1] + at, power_of_two(exponent - part));
    });
    for (std::size_t entry = 0; entry < triangle_size(inputs); ++entry) {
        for_halves([&](const GramState& state, int half, int at) {
            store(values + at, get(state.gram[entry], half) * load<f64>(scale[0] + at) * load<f64>(scale[1] + at));
        });
        to.gram[entry] = central_moments(values + begin, end - begin);
    }
    for (std::size_t i = 0; i < inputs; ++i) {
        for_halves([&](const GramState& state, int half, int at) {
            const f64 norm = get(state.gram[triangle_index(i, i)], half);
            store(mask + at, norm);
            store(values + at, log64(select(norm > 0.0, norm, broadcast64(1.0))) + get(state.exponent, half) * ln2);
        });
        to.log_norm2[i] = moments_where(values, mask, begin, end);
    }
    for_halves([&](const GramState& state, int half, int at) {
        store(values + at, get(state.log_determinant, half));
        for (int lane = 0; lane < 8; ++lane) mask[at + lane] = state.rank.at[8 * half + lane] == inputs;
    });
    to.log_determinant = moments_where(values, mask, begin, end);
    for_halves([&](const GramState& state, int half, int at) { store(values + at, get(state.effective_rank, half)); });
    to.effective_rank = moments_where(values, values, begin, end);
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const GramKernels WIDEANGLE_JOIN(gram_step_, WIDEANGLE_PATH);
const GramKernels WIDEANGLE_JOIN(gram_step_, WIDEANGLE_PATH) = {WIDEANGLE_PATH::measure, WIDEANGLE_PATH::step,
                                                               WIDEANGLE_PATH::reduce};

}  // namespace wideangle
