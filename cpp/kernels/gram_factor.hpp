// What a Gram matrix says: Cholesky's factor of the covariance of the next layer, the determinant and the ranks.
#pragma once

#include <atomic>

#include "gram_lanes.hpp"
#include "vector_math.hpp"

namespace wideangle::WIDEANGLE_PATH {

// The covariance of the next layer is 2^(2 half_exponent) (bias + weight gram).
struct CovarianceScale {
    DoubleSlice half_exponent, weight, bias;
};

WIDEANGLE_INLINE CovarianceScale covariance_scale(DoubleSlice exponent, const GramLayer& at) {
    const DoubleSlice of_weight = exponent_of(all_lanes(at.weight_variance));
    const DoubleSlice mantissa = at.weight_variance * power_of_two(-of_weight);
    DoubleSlice top = exponent + of_weight;
    if (at.bias_variance > 0) top = larger(top, exponent_of(all_lanes(at.bias_variance)));
    const DoubleSlice half_exponent = floor_half(top);
    return {half_exponent, mantissa * power_of_two(exponent + of_weight - 2.0 * half_exponent),
            at.bias_variance * power_of_two(-2.0 * half_exponent)};
}

// Entry index[lane] of each lane of a slice, counted in doubles. Lane by lane, which is faster than the instruction for it.
WIDEANGLE_INLINE DoubleSlice gather(const GramLanes* from, LongSlice index, int slice) {
    const double* const at = from->at + slice_lanes * slice;
    return [&]<int... lane>(std::integer_sequence<int, lane...>) __attribute__((always_inline)) {
        return DoubleSlice{at[index[lane] + lane]...};
    }(std::make_integer_sequence<int, slice_lanes>{});
}

struct Pivots {
    DoubleSlice log_determinant[double_slices];
    LongSlice rank[double_slices];
};

// The input of the next row, found while the parts are brought up to date.
struct BestPivot {
    DoubleSlice part = all_lanes(-1.0), pivot{};
    LongSlice row{};

    WIDEANGLE_INLINE void offer(DoubleSlice other_part, DoubleSlice other_pivot, std::size_t i) {
        const LongSlice larger = part < other_part;
        part = select(larger, other_part, part);
        pivot = select(larger, other_pivot, pivot);
        row = (larger & static_cast<std::int64_t>(i)) | (~larger & row);
    }
};

// Cholesky's factor of bias + weight gram with pivoting: the next row is the one with the largest part of its diagonal
// entry left, and once no row has more than the tolerance the rest is zero. (In a fixed order a row can be dropped that
// later ones still depend on.) Column by column, from the left; the slices side by side, because each is one long chain.
inline Pivots factorise(const GramState& state, const DoubleSlice (&weight)[double_slices],
                        const DoubleSlice (&bias)[double_slices], GramLanes* scratch, const std::atomic<bool>& stop) {
    const std::size_t inputs = state.inputs;
    GramLanes* const covariance = scratch;
    GramLanes* const columns = covariance + inputs * inputs;  // (input, column), inputs in their own order
    GramLanes* const rest = columns + inputs * inputs;        // of the diagonal
    GramLanes* const inverse = rest + inputs;                 // of the diagonal, or 0
    GramLanes* const part = inverse + inputs;                 // rest times inverse, or -1 once used
    BestPivot best[double_slices];
    for (std::size_t i = 0; i < inputs; ++i)
        for_slices([&](int slice) {
            for (std::size_t j = 0; j <= i; ++j) {
                const DoubleSlice entry = bias[slice] + weight[slice] * get(state.gram[triangle_index(i, j)], slice);
                put(covariance[i * inputs + j], slice, entry);
                put(covariance[j * inputs + i], slice, entry);
            }
            const DoubleSlice diagonal = get(covariance[i * inputs + i], slice), one = all_lanes(1.0);
            const LongSlice positive = is_positive(diagonal);
            put(rest[i], slice, diagonal);
            put(inverse[i], slice, keep(positive, 1.0 / select(positive, diagonal, one)));
            put(part[i], slice, keep(positive, one));
            best[slice].offer(keep(positive, one), diagonal, i);
        });
    Pivots result{};
    const DoubleSlice tolerance = all_lanes(gram_rank_tolerance(inputs));
    for (std::size_t k = 0; k < inputs; ++k) {
        if (stop.load(std::memory_order_relaxed)) break;
        GramLanes* const factor_row = state.factor + triangle_size(k);
        DoubleSlice scale[double_slices];
        LongSlice row[double_slices];
        for_slices([&](int slice) {
            const LongSlice sound = tolerance < best[slice].part;
            const DoubleSlice pivot = select(sound, best[slice].pivot, all_lanes(1.0));
            const DoubleSlice root = root_of(pivot);
            scale[slice] = keep(sound, 1.0 / root);
            put(factor_row[k], slice, keep(sound, root));
            result.log_determinant[slice] += log64(pivot);
            result.rank[slice] -= sound;
            for (int i = 0; i < slice_lanes; ++i) {
                const int lane = slice_lanes * slice + i;
                const auto row_of_lane = static_cast<std::size_t>(best[slice].row[i]);
                state.place[row_of_lane].at[lane] = static_cast<std::uint32_t>(k);
                part[row_of_lane].at[lane] = -1;
            }
            row[slice] = best[slice].row * static_cast<std::int64_t>(inputs * gram_lanes);
            for (std::size_t j = 0; j < k; ++j) put(factor_row[j], slice, gather(columns + j, row[slice], slice));
            best[slice] = BestPivot{};
        });
        for (std::size_t i = 0; i < inputs; ++i) {
            DoubleSlice sum[double_slices];
            for_slices([&](int slice) { sum[slice] = gather(covariance + i, row[slice], slice); });
            for (std::size_t j = 0; j < k; ++j)
                for_slices([&](int slice) { sum[slice] -= get(columns[i * inputs + j], slice) * get(factor_row[j], slice); });
            for_slices([&](int slice) {
                const DoubleSlice before = get(part[i], slice);
                const LongSlice used = before < DoubleSlice{};
                const DoubleSlice entry = keep(~used, sum[slice] * scale[slice]);
                const DoubleSlice left = get(rest[i], slice) - entry * entry;
                const DoubleSlice left_part = keep(is_positive(left), left * get(inverse[i], slice));
                const DoubleSlice after = select(used, all_lanes(-1.0), left_part);
                put(columns[i * inputs + k], slice, entry);
                put(rest[i], slice, left);
                put(part[i], slice, after);
                best[slice].offer(after, left, i);
            });
        }
    }
    return result;
}

// (tr Q)^2/tr(Q^2), 0 for Q = 0.
WIDEANGLE_INLINE DoubleSlice participation(const GramState& state, int slice) {
    DoubleSlice trace{}, squares{};
    for (std::size_t i = 0; i < state.inputs; ++i) {
        DoubleSlice row{};
        for (std::size_t j = 0; j < i; ++j) {
            const DoubleSlice entry = get(state.gram[triangle_index(i, j)], slice);
            row += entry * entry;
        }
        const DoubleSlice diagonal = get(state.gram[triangle_index(i, i)], slice);
        trace += diagonal;
        squares += 2.0 * row + diagonal * diagonal;
    }
    const LongSlice positive = is_positive(trace);
    return keep(positive, trace * trace / select(positive, squares, all_lanes(1.0)));
}

}  // namespace wideangle::WIDEANGLE_PATH
