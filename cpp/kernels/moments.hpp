// Count, mean and central sums of powers up to the fourth: mergeable, so that partial results of any length add up.
#pragma once

#include <cstdint>

#include "simd.hpp"

namespace wideangle {

struct CentralMoments {
    double count = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;

    // Pebay, SAND2008-6212, eqs. 2.1 and 3.1 for two sets.
    void merge(const CentralMoments& other) {
        if (other.count == 0) return;
        if (count == 0) {
            *this = other;
            return;
        }
        const double total = count + other.count;
        const double delta = other.mean - mean;
        const double step = delta / total;
        const double product = count * other.count;
        const double between = delta * step * product;
        m4 += other.m4 + between * step * step * (count * count - product + other.count * other.count) +
              6 * step * step * (count * count * other.m2 + other.count * other.count * m2) +
              4 * step * (count * other.m3 - other.count * m3);
        m3 += other.m3 + between * step * (count - other.count) + 3 * step * (count * other.m2 - other.count * m2);
        m2 += other.m2 + between;
        mean += step * other.count;
        count = total;
    }
};

namespace WIDEANGLE_PATH {

WIDEANGLE_INLINE double total(f64 x) {
    return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}

// Two passes over a block that fits the cache; values must be readable (and may be anything) up to the next multiple
// of 8.
WIDEANGLE_INLINE CentralMoments central_moments(double* values, int count) {
    CentralMoments result;
    if (count == 0) return result;
    const int padded = (count + 7) / 8 * 8;
    for (int i = count; i < padded; ++i) values[i] = 0;
    f64 sum{};
    for (int i = 0; i < padded; i += 8) sum += load<f64>(values + i);
    result.count = count;
    result.mean = total(sum) / count;
    for (int i = count; i < padded; ++i) values[i] = result.mean;
    f64 sum1{}, sum2{}, sum3{}, sum4{};
    for (int i = 0; i < padded; i += 8) {
        const f64 d = load<f64>(values + i) - result.mean;
        const f64 square = d * d;
        sum1 += d;
        sum2 += square;
        sum3 += square * d;
        sum4 += square * square;
    }
    // The mean was rounded: take what is left of the first central sum out of the others, to first order.
    const double shift = total(sum1) / count;
    result.mean += shift;
    result.m2 = total(sum2) - count * shift * shift;
    result.m3 = total(sum3) - 3 * shift * total(sum2);
    result.m4 = total(sum4) - 4 * shift * total(sum3);
    return result;
}

}  // namespace WIDEANGLE_PATH
}  // namespace wideangle
