// What a Gram matrix says: Cholesky's factor of the covariance of the next layer, the determinant and the ranks.
#pragma once

#include <atomic>

#include "gram_lanes.hpp"
#include "vector_math.hpp"

namespace wideangle::WIDEANGLE_PATH {

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
inline Pivots factorise(const GramState& state, f64x2 weight, f64x2 bias, GramLanes* scratch,
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

}  // namespace wideangle::WIDEANGLE_PATH
