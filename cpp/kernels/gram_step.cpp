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
    DoubleSlice weight[double_slices], bias[double_slices];
    for_slices([&](int slice) {
        weight[slice] = all_lanes(1.0);
        bias[slice] = DoubleSlice{};
    });
    const Pivots pivots = factorise(state, weight, bias, scratch, stop);
    const double times_exponent = static_cast<double>(state.inputs) * ln2;
    for_slices([&](int slice) {
        const DoubleSlice exponent = get(state.exponent, slice);
        put(state.effective_rank, slice, participation(state, slice));
        put(state.log_determinant, slice, pivots.log_determinant[slice] + exponent * times_exponent);
        for (int lane = 0; lane < slice_lanes; ++lane)
            state.rank.at[slice_lanes * slice + lane] = static_cast<std::uint32_t>(pivots.rank[slice][lane]);
        const CovarianceScale scale = covariance_scale(exponent, next);
        weight[slice] = scale.weight;
        bias[slice] = scale.bias;
    });
    if (next.bias_variance > 0) factorise(state, weight, bias, scratch, stop);
}

// The rows of L in float32 and their scales.
inline void scale_rows(const GramState& state, const GramLayer& at, const StepArrays& to) {
    const bool bounded =
        at.activation == Activation::erf || at.activation == Activation::tanh || at.activation == Activation::sin;
    const DoubleSlice unit = all_lanes(1.0), most = all_lanes(500.0);  // 2^500 is as good as infinity
    for (int slice = 0; slice < double_slices; ++slice) {
        const CovarianceScale scale = covariance_scale(get(state.exponent, slice), at);
        const DoubleSlice root = at.bias_variance > 0 ? unit : root_of(scale.weight);
        for (std::size_t k = 0; k < state.inputs; ++k) {
            const GramLanes* const row = state.factor + triangle_size(k);
            DoubleSlice norm{};
            for (std::size_t j = 0; j <= k; ++j) {
                const DoubleSlice entry = get(row[j], slice) * root;
                norm += entry * entry;
            }
            const LongSlice positive = is_positive(norm);
            const DoubleSlice shift = floor_half(exponent_of(select(positive, norm, unit)));
            const DoubleSlice by = power_of_two(-shift) * root;
            const DoubleSlice exponent = select(positive, scale.half_exponent + shift, all_lanes(gram_zero_exponent));
            const DoubleSlice argument = larger(select(most < exponent, most, exponent), -most);
            const LongSlice stays = bounded ? is_positive(argument) : LongSlice{};
            put(to.scale[k].before, slice, power_of_two(argument));
            put(to.scale[k].after, slice, select(stays, unit, power_of_two(-argument)));
            put(to.scale[k].out, slice, keep(~stays, exponent));
            for (std::size_t j = 0; j <= k; ++j)
                put_narrowed(to.factor[triangle_index(k, j)], slice, get(row[j], slice) * by);
        }
    }
}

// Makes the scales of all rows the largest of them, which it returns, so that the largest entry of the sums is that of
// the diagonal.
inline GramLanes join_scales(std::size_t inputs, const StepArrays& arrays, double weight) {
    GramLanes out = arrays.scale[0].out;
    for_slices([&](int slice) {
        for (std::size_t k = 1; k < inputs; ++k)
            put(out, slice, larger(get(out, slice), get(arrays.scale[k].out, slice)));
        for (std::size_t k = 0; k < inputs; ++k)
            put(arrays.scale[k].out, slice, power_of_two(get(arrays.scale[k].out, slice) - get(out, slice)));
        for (std::size_t k = 0; k < inputs; ++k) {
            const DoubleSlice row = get(arrays.scale[k].out, slice) * weight;
            for (std::size_t l = 0; l <= k; ++l) {
                GramLanes& entry = arrays.sums[triangle_index(k, l)];
                put(entry, slice, get(entry, slice) * row * get(arrays.scale[l].out, slice));
            }
        }
    });
    return out;
}

// From sums over neurons, in the order of the pivots, to the matrix, scaled so that its largest diagonal entry lies in
// [1, 2).
inline void set_gram(GramState& state, const StepArrays& from, double weight) {
    const std::size_t inputs = state.inputs;
    const GramLanes out = join_scales(inputs, from, weight);
    for (int slice = 0; slice < double_slices; ++slice) {
        DoubleSlice largest_norm{};
        for (std::size_t k = 0; k < inputs; ++k)
            largest_norm = larger(largest_norm, get(from.sums[triangle_index(k, k)], slice));
        const LongSlice positive = is_positive(largest_norm);
        const DoubleSlice shift = exponent_of(select(positive, largest_norm, all_lanes(1.0)));
        const DoubleSlice scale = power_of_two(-shift);
        for (std::size_t i = 0; i < inputs; ++i) {
            const LongSlice row = get_widened(state.place[i], slice);
            for (std::size_t j = 0; j <= i; ++j) {
                const LongSlice column = get_widened(state.place[j], slice);
                const LongSlice swaps = row < column;
                const LongSlice high = (swaps & column) | (~swaps & row), low = (swaps & row) | (~swaps & column);
                const LongSlice index = (high * (high + 1) >> 1) + low;
                put(state.gram[triangle_index(i, j)], slice, gather(from.sums, index * gram_lanes, slice) * scale);
            }
        }
        put(state.exponent, slice,
            select(positive, 2.0 * get(out, slice) + shift, all_lanes(gram_zero_exponent)));
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
    const auto for_all = [&](auto&& body) {
        for (int state = first; state < last; ++state)
            for_slices([&](int slice) { body(states[state], slice, state * gram_lanes + slice_lanes * slice); });
    };

    // The power of two in two steps: its exponent may be twice what a double holds.
    alignas(64) double scale[2][gram_block];
    for_all([&](const GramState& state, int slice, int at) {
        const DoubleSlice exponent = get(state.exponent, slice);
        const DoubleSlice part = floor_half(exponent);
        store(scale[0] + at, power_of_two(part));
        store(scale[1] + at, power_of_two(exponent - part));
    });
    for (std::size_t entry = 0; entry < triangle_size(inputs); ++entry) {
        for_all([&](const GramState& state, int slice, int at) {
            store(values + at, get(state.gram[entry], slice) * load<DoubleSlice>(scale[0] + at) * load<DoubleSlice>(scale[1] + at));
        });
        to.gram[entry] = central_moments(values + begin, end - begin);
    }
    for (std::size_t i = 0; i < inputs; ++i) {
        for_all([&](const GramState& state, int slice, int at) {
            const DoubleSlice norm = get(state.gram[triangle_index(i, i)], slice);
            store(mask + at, norm);
            store(values + at, log64(select(is_positive(norm), norm, all_lanes(1.0))) + get(state.exponent, slice) * ln2);
        });
        to.log_norm2[i] = moments_where(values, mask, begin, end);
    }
    for_all([&](const GramState& state, int slice, int at) {
        store(values + at, get(state.log_determinant, slice));
        for (int lane = 0; lane < slice_lanes; ++lane) mask[at + lane] = state.rank.at[slice_lanes * slice + lane] == inputs;
    });
    to.log_determinant = moments_where(values, mask, begin, end);
    for_all([&](const GramState& state, int slice, int at) { store(values + at, get(state.effective_rank, slice)); });
    to.effective_rank = moments_where(values, values, begin, end);
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const GramKernels WIDEANGLE_JOIN(gram_step_, WIDEANGLE_PATH);
const GramKernels WIDEANGLE_JOIN(gram_step_, WIDEANGLE_PATH) = {WIDEANGLE_PATH::measure, WIDEANGLE_PATH::step,
                                                               WIDEANGLE_PATH::reduce};

}  // namespace wideangle
