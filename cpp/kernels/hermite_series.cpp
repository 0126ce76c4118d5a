// Compiled once per instruction set; see hermite_series.hpp. A term costs an entry 6 to 12 operations: the sum, or the
// sum of 1 - c^k over 1 - c, and the derivative, by Horner's scheme.
#include "hermite_series.hpp"

#include "simd.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr int lanes64 = 8;
constexpr int group_vectors = hermite_group / lanes64;
constexpr int most_jumps = 64;

// Vectors whose chains of dependent operations run side by side, as many as the registers hold.
#if defined(__AVX512F__)
constexpr int together = 4;
#elif defined(__AVX2__)
constexpr int together = 2;
#else
constexpr int together = 1;
#endif

// Below this gap 1 - sum a_k a_k c^k is summed as differences, which do not cancel.
constexpr double near = 1.0 / 64;
// Powers of c below 1e-20 are left out.
constexpr double log_negligible = 46.0;

// Powers c^n for the jumps n of a series, and the sums 1 + c + ... + c^(n-1).
struct Jumps {
    f64 power[2][most_jumps], sum[2][most_jumps];  // n = 2^j, and n = 2^j - 1

    WIDEANGLE_INLINE void fill(f64 c, int count) {
        power[0][0] = c;
        sum[0][0] = broadcast64(1.0);
        power[1][0] = broadcast64(1.0);
        sum[1][0] = f64{};
        for (int j = 1; j < count; ++j) {
            power[0][j] = power[0][j - 1] * power[0][j - 1];
            sum[0][j] = sum[0][j - 1] * (1.0 + power[0][j - 1]);
            power[1][j] = power[1][j - 1] * power[0][j - 1];
            sum[1][j] = sum[1][j - 1] + power[1][j - 1] * sum[0][j - 1];
        }
    }
};

struct Group {
    alignas(64) double cosine[hermite_group], gap[hermite_group], product[hermite_group], slope[hermite_group];
};

// `last` is the number of terms that count. product becomes 1 - the expectation.
template <bool differences>
WIDEANGLE_INLINE void sum(const HermiteSeries& series, std::int64_t last, int jumps, const double* row,
                          const double* column, std::int64_t stride, Group& group, int first_vector) {
    f64 c[together], total[together] = {}, share[together] = {}, slope[together] = {}, apart[together] = {};
    Jumps table[together];
    for (int v = 0; v < together; ++v) {
        c[v] = load<f64>(group.cosine + (first_vector + v) * lanes64);
        table[v].fill(c[v], jumps);
    }
    for (std::int64_t n = last; n-- > 0;) {
        const double own = row[n + 1], weighted = own * series.weight[n], degree = series.degree[n];
        const double* others = column + (n + 1) * stride + first_vector * lanes64;
        const int jump = n + 1 < last ? series.jump[n] : 0;
        const int kind = jump < 0, size = jump < 0 ? -jump : jump;
        for (int v = 0; v < together; ++v) {
            const f64 other = load<f64>(others + v * lanes64);
            const f64 term = other * weighted;
            const f64 power = table[v].power[kind][size];
            if constexpr (differences) {
                const f64 difference = other - own;
                total[v] = total[v] * power + share[v] * table[v].sum[kind][size];
                share[v] += term;
                apart[v] += difference * difference * series.weight[n];
            } else {
                total[v] = total[v] * power + term;
            }
            slope[v] = slope[v] * power + term * degree;
        }
    }
    for (int v = 0; v < together; ++v) {
        const int at = (first_vector + v) * lanes64;
        const f64 other = load<f64>(column + at);
        if constexpr (differences) {
            const f64 difference = other - row[0];
            const f64 quotient = total[v] * c[v] + share[v];
            const f64 distance = apart[v] + difference * difference;
            store(group.product + at, 0.5 * distance + load<f64>(group.gap + at) * quotient);
        } else {
            store(group.product + at, 1.0 - (total[v] * c[v] + other * row[0]));
        }
        store(group.slope + at, slope[v]);
    }
}

void hermite(const HermiteSeries& series, const double* row, const double* column, std::int64_t stride,
             std::int64_t columns, double* gaps, double* slopes) {
    int jumps = 1;
    for (std::int64_t n = 0; n < series.terms; ++n) {
        const int size = series.jump[n] < 0 ? -series.jump[n] : series.jump[n];
        jumps = size + 1 > jumps ? size + 1 : jumps;
    }
    for (std::int64_t start = 0; start < columns; start += hermite_group) {
        const int count = static_cast<int>(columns - start < hermite_group ? columns - start : hermite_group);
        Group group{};
        double smallest = 2.0, steepest = 0.0;
        for (int i = 0; i < count; ++i) {
            // Of an odd activation the opposite input is the mirror image: take the acute angle of the two.
            const double from = gaps[start + i], size = __builtin_fabs(from);
            const bool obtuse = __builtin_signbit(from) && !series.odd;
            group.gap[i] = obtuse ? 2.0 - size : size;
            group.cosine[i] = obtuse ? size - 1.0 : 1.0 - size;
            smallest = group.gap[i] < smallest ? group.gap[i] : smallest;
            const double absolute = __builtin_fabs(group.cosine[i]);
            steepest = absolute > steepest ? absolute : steepest;
        }
        // c^k < exp(-k (1 - |c|)).
        std::int64_t last = 0;
        const double reach = log_negligible / (1.0 - steepest);
        while (last < series.terms && series.degree[last] <= reach) ++last;
        for (int v = 0; v < group_vectors && v * lanes64 < count; v += together) {
            if (smallest < near)
                sum<true>(series, series.terms, jumps, row, column + start, stride, group, v);
            else
                sum<false>(series, last, jumps, row, column + start, stride, group, v);
        }
        for (int i = 0; i < count; ++i) {
            // Rounding can leave less than nothing of a difference, never much.
            const double gap = group.product[i] > 0.0 ? group.product[i] : 0.0;
            const bool turned = __builtin_signbit(gaps[start + i]) && series.odd;
            gaps[start + i] = turned ? -gap : gap > 1.0 ? -(2.0 - gap < 0.0 ? 0.0 : 2.0 - gap) : gap;
            slopes[start + i] = group.slope[i];
        }
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

void WIDEANGLE_JOIN(hermite_, WIDEANGLE_PATH)(const HermiteSeries& series, const double* row, const double* column,
                                             std::int64_t stride, std::int64_t columns, double* gaps, double* slopes) {
    WIDEANGLE_PATH::hermite(series, row, column, stride, columns, gaps, slopes);
}

}  // namespace wideangle
