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
// Lanes are samples, so that everything is straight-line code with a triangular L in the cache; each lane has its own
// order of pivots.
#include "gram_step.hpp"

#include <cstring>

#include "gram_factor.hpp"
#include "gram_neurons.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr double ln2 = 0.69314718055994530942;

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
    switch (at.activation) {
        case Activation::relu: add_neurons<Relu>(at, state.inputs, arrays, stop); break;
        case Activation::abs: add_neurons<Abs>(at, state.inputs, arrays, stop); break;
        default: add_neurons<Linear>(at, state.inputs, arrays, stop);
    }
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
