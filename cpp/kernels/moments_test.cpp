#include "moments.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"

using wideangle::CentralMoments;

namespace {

// Central sums in long double, from the definition.
CentralMoments by_definition(const std::vector<double>& values) {
    long double mean = 0, m2 = 0, m3 = 0, m4 = 0;
    for (double x : values) mean += x;
    mean /= static_cast<long double>(values.size());
    for (double x : values) {
        const long double d = x - mean;
        m2 += d * d;
        m3 += d * d * d;
        m4 += d * d * d * d;
    }
    return {static_cast<double>(values.size()), static_cast<double>(mean), static_cast<double>(m2),
            static_cast<double>(m3), static_cast<double>(m4)};
}

std::vector<double> skewed(int count, double offset, std::uint64_t state) {
    std::vector<double> values;
    for (int i = 0; i < count; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        values.push_back(offset - std::log((static_cast<double>(state >> 12) + 0.5) * 0x1p-52));
    }
    return values;
}

void check_equal(const CentralMoments& got, const CentralMoments& expected, double tolerance) {
    CHECK(got.count == expected.count);
    CHECK_CLOSE(got.mean, expected.mean, 4e-16 * std::fabs(expected.mean));
    CHECK_CLOSE(got.m2, expected.m2, tolerance * expected.m2);
    CHECK_CLOSE(got.m3, expected.m3, tolerance * std::pow(expected.m2, 1.5));
    CHECK_CLOSE(got.m4, expected.m4, tolerance * expected.m4);
}

void blocks_and_merges(double offset, double tolerance) {
    std::vector<double> all;
    CentralMoments merged;
    for (int block = 0; block < 40; ++block) {
        const std::vector<double> values = skewed((block * 37) % 257, offset, static_cast<std::uint64_t>(block) + 1);
        all.insert(all.end(), values.begin(), values.end());
        alignas(64) double buffer[264];
        std::copy(values.begin(), values.end(), buffer);
        const CentralMoments part = wideangle::WIDEANGLE_PATH::central_moments(buffer, static_cast<int>(values.size()));
        if (!values.empty()) check_equal(part, by_definition(values), tolerance);
        merged.merge(part);
    }
    check_equal(merged, by_definition(all), tolerance);
}

}  // namespace

int main() {
    blocks_and_merges(0.0, 1e-14);
    // Mean a million times the spread: what is lost is the rounding of the values themselves, not a difference of sums.
    blocks_and_merges(1e6, 1e-9);
    CentralMoments none;
    none.merge({});
    CHECK(none.count == 0);
    return check::report();
}
