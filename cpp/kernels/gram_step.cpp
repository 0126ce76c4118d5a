// Compiled once per instruction set; see gram_step.hpp.
//
// The chain is exact: given Q, the n rows of pre-activations of m inputs are independent Gaussian vectors h = L g with
// covariance L L^T = sigma_b^2 + sigma_w^2 Q, and the next Q is the mean of phi(h) phi(h)^T.
//
// Where float32 is enough. Q is often nearly singular, so it is summed and factored in float64. But g, h and phi(h) are
// float32: rounding L leaves its diagonal, and so the determinant, as it is to 1e-7, and rounding h and phi(h) adds to
// each pivot about the square of 1e-7, less than the tolerance below which pivots count as zero. Products of such values
// are exact in float64, so that a fused sum of them has the same bits as one that is not.
//
// What a layer must do at least, per neuron and sixteen samples: m normals (19 vector operations each, and 24 for their
// random bits), m (m + 1)/2 fused products of float32, m activations that are widened, and as many fused products of
// float64 in two vectors each. For m = 10 and ReLU: 425 + 55 + 30 + 110 operations.
//
// Lanes are samples, so that everything is straight-line code with a triangular L in the cache; each lane has its own
// order of pivots.
#include "gram_step.hpp"

#include <cstring>
#include <type_traits>
#include <utility>

#include "lane_counts.hpp"
#include "normal.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

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

constexpr double ln2 = 0.69314718055994530942;

// ---- Scales

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
        top = select(is_less(top, of_bias), of_bias, top);
    }
    const f64 half_exponent = floor_half(top);
    return {half_exponent, mantissa * power_of_two(exponent + of_weight - 2.0 * half_exponent),
            at.bias_variance * power_of_two(-2.0 * half_exponent)};
}

// ---- Factorisation

// Entry index[lane] of each lane. Lane by lane, which is faster than the instruction for it.
WIDEANGLE_INLINE f64 gather(const GramLanes* from, i64 index, int half) {
    const double* const at = from->at + 8 * half;
    const auto entry = [&](int lane) { return at[gram_lanes * index[lane] + lane]; };
    return f64{entry(0), entry(1), entry(2), entry(3), entry(4), entry(5), entry(6), entry(7)};
}

struct Pivots {
    f64 log_determinant[2];
    i64 rank[2];
};

// Cholesky's factor of bias + weight gram with pivoting: the next row is the one with the largest part of its diagonal
// entry left, and once no row has more than the tolerance the rest is zero. (In a fixed order a row can be dropped that
// later ones still depend on.) Column by column, from the left; the halves side by side, because each is one long chain.
WIDEANGLE_INLINE Pivots factorise(const GramState& state, f64x2 weight, f64x2 bias, GramLanes* scratch,
                                  const std::atomic<bool>& stop) {
    const std::size_t inputs = state.inputs;
    GramLanes* const covariance = scratch;
    GramLanes* const columns = covariance + inputs * inputs;  // (input, column), inputs in their own order
    GramLanes* const rest = columns + inputs * inputs;        // of the diagonal
    GramLanes* const inverse = rest + inputs;                 // of the diagonal, or 0
    GramLanes* const part = inverse + inputs;                 // rest times inverse, or -1 once used
    for (std::size_t i = 0; i < inputs; ++i)
        for (int half = 0; half < 2; ++half) {
            for (std::size_t j = 0; j <= i; ++j) {
                const f64 entry = bias.half[half] + weight.half[half] * get(state.gram[triangle_index(i, j)], half);
                put(covariance[i * inputs + j], half, entry);
                put(covariance[j * inputs + i], half, entry);
            }
            const f64 diagonal = get(covariance[i * inputs + i], half);
            const i64 positive = is_less(0.0, diagonal);
            put(rest[i], half, diagonal);
            put(inverse[i], half, keep(positive, 1.0 / select(positive, diagonal, broadcast64(1.0))));
            put(part[i], half, keep(positive, broadcast64(1.0)));
        }
    Pivots result{};
    const double tolerance = gram_rank_tolerance(inputs);
    const auto width = static_cast<std::int64_t>(inputs);
    // The next row, found while the parts are brought up to date.
    struct Best {
        f64 part = broadcast64(-1.0), pivot{};
        i64 row{};

        WIDEANGLE_INLINE void offer(f64 other_part, f64 other_pivot, std::size_t i) {
            const i64 larger = is_less(part, other_part);
            part = select(larger, other_part, part);
            pivot = select(larger, other_pivot, pivot);
            row = (larger & static_cast<std::int64_t>(i)) | (~larger & row);
        }
    } best[2];
    for (std::size_t i = 0; i < inputs; ++i)
        for (int half = 0; half < 2; ++half) best[half].offer(get(part[i], half), get(rest[i], half), i);
    for (std::size_t k = 0; k < inputs; ++k) {
        if (stop.load(std::memory_order_relaxed)) break;
        GramLanes* const factor_row = state.factor + triangle_size(k);
        f64 scale[2];
        const i64 row[2] = {best[0].row, best[1].row};
        for (int half = 0; half < 2; ++half) {
            const i64 sound = is_less(tolerance, best[half].part);
            const f64 safe = select(sound, best[half].pivot, broadcast64(1.0));
            const f64 root = square_root(safe);
            scale[half] = keep(sound, 1.0 / root);
            for (std::size_t j = 0; j < k; ++j) put(factor_row[j], half, gather(columns + j, row[half] * width, half));
            put(factor_row[k], half, keep(sound, root));
            for (int lane = 0; lane < 8; ++lane) {
                state.place[row[half][lane]].at[8 * half + lane] = static_cast<std::uint32_t>(k);
                part[row[half][lane]].at[8 * half + lane] = -1;
            }
            result.rank[half] -= sound;
            result.log_determinant[half] += log64(safe);
            best[half] = Best{};
        }
        for (std::size_t i = 0; i < inputs; ++i) {
            f64 sum[2] = {gather(covariance + i * inputs, row[0], 0), gather(covariance + i * inputs, row[1], 1)};
            for (std::size_t j = 0; j < k; ++j) {
                sum[0] -= get(columns[i * inputs + j], 0) * get(factor_row[j], 0);
                sum[1] -= get(columns[i * inputs + j], 1) * get(factor_row[j], 1);
            }
            for (int half = 0; half < 2; ++half) {
                const i64 used = is_less(get(part[i], half), 0.0);
                const f64 entry = keep(~used, sum[half] * scale[half]);
                const f64 left = get(rest[i], half) - entry * entry;
                const f64 left_part = keep(is_less(0.0, left), left * get(inverse[i], half));
                put(columns[i * inputs + k], half, entry);
                put(rest[i], half, left);
                put(part[i], half, select(used, broadcast64(-1.0), left_part));
                best[half].offer(get(part[i], half), left, i);
            }
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
    const i64 positive = is_less(0.0, trace);
    return keep(positive, trace * trace / select(positive, squares, broadcast64(1.0)));
}

void measure(GramState& state, const GramLayer& next, GramLanes* scratch, const std::atomic<bool>& stop) {
    const Pivots pivots = factorise(state, {{broadcast64(1.0), broadcast64(1.0)}}, f64x2{}, scratch, stop);
    for (int half = 0; half < 2; ++half) {
        const f64 exponent = get(state.exponent, half);
        put(state.effective_rank, half, participation(state, half));
        put(state.log_determinant, half,
            pivots.log_determinant[half] + exponent * (static_cast<double>(state.inputs) * ln2));
        for (int lane = 0; lane < 8; ++lane)
            state.rank.at[8 * half + lane] = static_cast<std::uint32_t>(pivots.rank[half][lane]);
    }
    if (next.bias_variance > 0) {
        const CovarianceScale low = covariance_scale(get(state.exponent, 0), next);
        const CovarianceScale high = covariance_scale(get(state.exponent, 1), next);
        factorise(state, {{low.weight, high.weight}}, {{low.bias, high.bias}}, scratch, stop);
    }
}

// ---- Neurons

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

// The activations that cost next to nothing and are exact in float32 follow at once; the others come in a pass of their
// own.
template <class Phi>
constexpr bool is_immediate = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

template <class Phi>
WIDEANGLE_INLINE FloatSlice immediate(FloatSlice h) {
    using Bits = std::int32_t __attribute__((vector_size(sizeof(FloatSlice))));
    if constexpr (std::is_same_v<Phi, Relu>) return bits_as<FloatSlice>(bits_as<Bits>(h) & ~(bits_as<Bits>(h) >> 31));
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
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                unrolled<across>([&](auto c) __attribute__((always_inline)) {
                    put_widened(values[(first + r()) * gram_neurons + neuron + c()], slice,
                                immediate<Phi>(sum[r()][c()]));
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

// Adds the products of rows `row` on and `column` on over the first `count` neurons; of a tile on the diagonal the part
// below it.
template <int rows, bool diagonal>
WIDEANGLE_INLINE void add_products(const GramLanes* values, std::size_t row, std::size_t column, int count,
                                   GramLanes* sums) {
    constexpr int columns = diagonal ? rows : tile;
    GramLanes* sum_row[rows];
    unrolled<rows>([&](auto r) { sum_row[r()] = sums + triangle_index(row + r(), column); });
    for (int slice = 0; slice < slices<DoubleSlice>; ++slice) {
        DoubleSlice sum[rows][columns];
        const auto each = [&](auto&& body) __attribute__((always_inline)) {
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                unrolled<(diagonal ? r() + 1 : columns)>([&](auto c) __attribute__((always_inline)) { body(r, c); });
            });
        };
        each([&](auto r, auto c) __attribute__((always_inline)) { sum[r()][c()] = get_slice<DoubleSlice>(sum_row[r()][c()], slice); });
        for (int neuron = 0; neuron < count; ++neuron) {
            DoubleSlice left[rows], right[columns];
            unrolled<rows>([&](auto r) __attribute__((always_inline)) {
                left[r()] = get_slice<DoubleSlice>(values[(row + r()) * gram_neurons + neuron], slice);
            });
            unrolled<columns>([&](auto c) __attribute__((always_inline)) {
                if constexpr (diagonal)
                    right[c()] = left[c()];
                else
                    right[c()] = get_slice<DoubleSlice>(values[(column + c()) * gram_neurons + neuron], slice);
            });
            each([&](auto r, auto c) __attribute__((always_inline)) { 
                sum[r()][c()] = add_exact_product(left[r()], right[c()], sum[r()][c()]);
             });
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

// Each row of L has a power of two of its own, so that inputs of any norms fit float32: the pre-activations of a row are
// 2^exponent h, and its activations 2^out phi.
struct RowScale {
    GramLanes before, after;  // of phi: phi(before h) after, unless phi is homogeneous
    GramLanes out;
};

template <class Phi>
WIDEANGLE_INLINE void activate(Phi phi, const RowScale* scale, GramLanes* values, std::size_t inputs) {
    for (std::size_t row = 0; row < inputs; ++row)
        for (int neuron = 0; neuron < gram_neurons; ++neuron, ++values) {
            f64x2 value = {{get(*values, 0), get(*values, 1)}};
            if constexpr (std::is_same_v<Phi, LeakyRelu>) {
                value = {{phi.value(value.half[0]), phi.value(value.half[1])}};
            } else {
                value = {{phi.value(value.half[0] * get(scale[row].before, 0)),
                          phi.value(value.half[1] * get(scale[row].before, 1))}};
                value = {{value.half[0] * get(scale[row].after, 0), value.half[1] * get(scale[row].after, 1)}};
            }
            const f32 rounded = narrow(value);
            put(*values, 0, widen(rounded, 0));
            put(*values, 1, widen(rounded, 1));
        }
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

template <class Phi>
void add_neurons(Phi phi, const GramLayer& at, std::size_t inputs, const StepArrays& in, const std::atomic<bool>& stop) {
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
        if constexpr (!is_immediate<Phi>) activate(phi, in.scale, in.values, inputs);
        for (std::size_t row = 0; row < inputs; row += tile) {
            if (stop.load(std::memory_order_relaxed)) return;
            with_rows(inputs, row, [&](auto rows) {
                for (std::size_t column = 0; column < row; column += tile)
                    add_products<rows(), false>(in.values, row, column, count, in.sums);
                add_products<rows(), true>(in.values, row, row, count, in.sums);
            });
        }
    }
}

// The rows of L in float32 and their scales.
WIDEANGLE_INLINE void scale_rows(const GramState& state, const GramLayer& at, const StepArrays& to) {
    const bool bounded =
        at.activation == Activation::erf || at.activation == Activation::tanh || at.activation == Activation::sin;
    const f64 unit = broadcast64(1.0), most = broadcast64(500.0);  // 2^500 is as good as infinity
    f64x2 root, half_exponent;
    for (int half = 0; half < 2; ++half) {
        const CovarianceScale scale = covariance_scale(get(state.exponent, half), at);
        half_exponent.half[half] = scale.half_exponent;
        root.half[half] = at.bias_variance > 0 ? unit : square_root(scale.weight);
    }
    for (std::size_t k = 0; k < state.inputs; ++k) {
        const GramLanes* const row = state.factor + triangle_size(k);
        f64x2 by;
        for (int half = 0; half < 2; ++half) {
            f64 norm{};
            for (std::size_t j = 0; j <= k; ++j) {
                const f64 entry = get(row[j], half) * root.half[half];
                norm += entry * entry;
            }
            const i64 positive = is_less(0.0, norm);
            const f64 shift = floor_half(exponent_of(select(positive, norm, unit)));
            by.half[half] = power_of_two(-shift) * root.half[half];
            const f64 exponent = select(positive, half_exponent.half[half] + shift, broadcast64(gram_zero_exponent));
            f64 argument = select(is_less(most, exponent), most, exponent);
            argument = select(is_less(argument, -most), -most, argument);
            const i64 stays = bounded ? is_less(0.0, argument) : i64{};
            put(to.scale[k].before, half, power_of_two(argument));
            put(to.scale[k].after, half, select(stays, unit, power_of_two(-argument)));
            put(to.scale[k].out, half, keep(~stays, exponent));
        }
        for (std::size_t j = 0; j <= k; ++j)
            store(to.factor[triangle_index(k, j)].at,
                  narrow({{get(row[j], 0) * by.half[0], get(row[j], 1) * by.half[1]}}));
    }
}

// From sums over neurons, in the order of the pivots, to the matrix, scaled so that its largest diagonal entry lies in
// [1, 2).
WIDEANGLE_INLINE void set_gram(GramState& state, const StepArrays& from, double weight) {
    const std::size_t inputs = state.inputs;
    for (int half = 0; half < 2; ++half) {
        f64 out = get(from.scale[0].out, half);
        for (std::size_t k = 1; k < inputs; ++k) {
            const f64 other = get(from.scale[k].out, half);
            out = select(is_less(out, other), other, out);
        }
        f64 largest_norm{};
        for (std::size_t k = 0; k < inputs; ++k) {
            const f64 row = power_of_two(get(from.scale[k].out, half) - out) * weight;
            for (std::size_t l = 0; l <= k; ++l) {
                GramLanes& entry = from.sums[triangle_index(k, l)];
                put(entry, half, get(entry, half) * row * power_of_two(get(from.scale[l].out, half) - out));
            }
            const f64 norm = get(from.sums[triangle_index(k, k)], half);
            largest_norm = select(is_less(largest_norm, norm), norm, largest_norm);
        }
        const i64 positive = is_less(0.0, largest_norm);
        const f64 shift = exponent_of(select(positive, largest_norm, broadcast64(1.0)));
        const f64 scale = power_of_two(-shift);
        for (std::size_t i = 0; i < inputs; ++i) {
            const i64 row = bits_as<i64>(widen_bits(load<u32>(state.place[i].at), half));
            for (std::size_t j = 0; j <= i; ++j) {
                const i64 column = bits_as<i64>(widen_bits(load<u32>(state.place[j].at), half));
                const i64 swaps = row < column;
                const i64 high = (swaps & column) | (~swaps & row), low = (swaps & row) | (~swaps & column);
                put(state.gram[triangle_index(i, j)], half,
                    gather(from.sums, (high * (high + 1) >> 1) + low, half) * scale);
            }
        }
        put(state.exponent, half, select(positive, 2.0 * out + shift, broadcast64(gram_zero_exponent)));
    }
}

void step(GramState& state, const GramLayer& at, GramLanes* scratch, const std::atomic<bool>& stop) {
    const StepArrays arrays(scratch, state.inputs);
    scale_rows(state, at, arrays);
    std::memset(arrays.sums, 0, triangle_size(state.inputs) * sizeof *arrays.sums);
    with_activation(at.activation, at.slope, [&](auto phi) { add_neurons(phi, at, state.inputs, arrays, stop); });
    if (stop.load(std::memory_order_relaxed)) return;
    set_gram(state, arrays, 1.0 / static_cast<double>(at.width));
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
            store(values + at, log64(select(is_less(0.0, norm), norm, broadcast64(1.0))) + get(state.exponent, half) * ln2);
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
