// Every instruction set against each other, bit by bit, and against plain sums of powers in long double.
#include "cpu_paths.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.hpp"

using namespace wideangle;

namespace {

using Real = long double;
constexpr std::int64_t columns = 45, stride = 64;  // not a whole number of groups

struct Case {
    std::vector<double> degree, weight, row, column;
    std::vector<std::int32_t> jump;
    bool odd;

    HermiteSeries series() const {
        return {static_cast<std::int64_t>(degree.size()), degree.data(), weight.data(), jump.data(), odd};
    }
};

double uniform(std::uint64_t& state) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(state >> 11) * 0x1p-53;
}

// Degrees one by one, then in pairs or alone further and further apart; coefficients of unit length.
Case make(bool odd, bool apart) {
    Case result;
    result.odd = odd;
    int degree = 1, spacing = 2;
    while (degree < 3000) {
        const int step = odd ? spacing : degree % 2 == 0 ? 1 : spacing - 1;
        int code = 0;
        while ((1 << code) < step) ++code;
        if ((1 << code) != step) {
            code = 0;
            while ((1 << code) - 1 < step) ++code;
            code = -code;
        }
        result.degree.push_back(degree);
        result.weight.push_back(spacing / 2);
        result.jump.push_back(code);
        degree += step;
        if (degree > 64 * spacing && degree % (4 * spacing) == (odd ? 1 : 0)) spacing *= 2;
    }
    std::uint64_t seed = 3;
    const std::size_t terms = result.degree.size();
    result.row.resize(terms + 1);
    result.column.resize((terms + 1) * stride);
    for (std::int64_t j = -1; j < stride; ++j) {
        std::uint64_t own = apart ? seed + 17 * static_cast<std::uint64_t>(j + 1) : seed;
        Real sum = 0;
        std::vector<double> values(terms + 1);
        for (std::size_t n = 0; n <= terms; ++n) {
            const double k = n == 0 ? 1 : result.degree[n - 1];
            values[n] = n == 0 && odd ? 0.0 : (0.5 + uniform(own)) * std::pow(k, -0.8);
            sum += static_cast<Real>(values[n]) * values[n] * (n == 0 ? 1 : result.weight[n - 1]);
        }
        for (std::size_t n = 0; n <= terms; ++n) {
            const double value = values[n] / static_cast<double>(std::sqrt(sum));
            (j < 0 ? result.row[n] : result.column[n * stride + static_cast<std::size_t>(j)]) = value;
        }
    }
    return result;
}

// Over all sizes, or wide throughout: a group with small gaps is summed in another way than one without.
double gap_at(std::int64_t j, bool wide) {
    const double power = static_cast<double>(j % 30);
    const double size = wide ? 0.02 + 0.03 * power : j == 0 ? 0.0 : std::pow(10.0, -0.5 * power);
    return j % 3 == 2 ? -size : size;
}

void against_model(const Case& test, bool wide) {
    std::vector<double> gaps, slopes(columns);
    for (std::int64_t j = 0; j < columns; ++j) gaps.push_back(gap_at(j, wide));
    const CpuPath& path = cpu_paths[cpu_path_count - 1];
    path.hermite(test.series(), test.row.data(), test.column.data(), stride, columns, gaps.data(), slopes.data());
    for (std::int64_t j = 0; j < columns; ++j) {
        const auto at = static_cast<std::size_t>(j);
        const double from = gap_at(j, wide);
        const Real gap = std::signbit(from) ? 2 + static_cast<Real>(from) : from;
        const Real cosine = std::signbit(from) ? -1 - static_cast<Real>(from) : 1 - static_cast<Real>(from);
        // 1 - c^k from the logarithm of c, which knows small gaps.
        const Real logarithm = gap < 0.5L ? std::log1p(-gap) : std::log(std::fabs(cosine));
        Real missing = 0, slope = 0;
        for (std::size_t n = 0; n < test.row.size(); ++n) {
            const Real k = n == 0 ? 0 : test.degree[n - 1], weight = n == 0 ? 1 : test.weight[n - 1];
            const Real a = test.row[n], b = test.column[n * stride + at];
            const bool negative = cosine < 0 && std::fmod(k, 2.0L) == 1;
            const Real shrunk = negative ? 1 + std::exp(k * logarithm) : -std::expm1(k * logarithm);
            const Real one_less = cosine == 0 ? (k > 0) : shrunk;
            missing += weight * ((a - b) * (a - b) / 2 + a * b * one_less);
            if (n > 0) slope += weight * k * a * b * (cosine == 0 ? (k == 1) : (1 - one_less) / cosine);
        }
        const Real opposite = 2 - missing;
        // The sum of the squares is 1 to a few units of rounding only.
        if (std::signbit(gaps[at]))
            CHECK_CLOSE(-gaps[at], static_cast<double>(opposite), 1e-14);
        else
            CHECK_CLOSE(gaps[at], static_cast<double>(missing), 1e-13 * static_cast<double>(missing));
        CHECK_CLOSE(slopes[at], static_cast<double>(slope), 1e-13 * (1 + std::fabs(static_cast<double>(slope))));
    }
}

void paths_agree(const Case& test, bool wide) {
    std::vector<double> expected_gaps, expected_slopes;
    for (int path = 0; path < cpu_path_count; ++path) {
        if (!cpu_paths[path].supported()) continue;
        std::vector<double> gaps, slopes(columns);
        for (std::int64_t j = 0; j < columns; ++j) gaps.push_back(gap_at(j, wide));
        cpu_paths[path].hermite(test.series(), test.row.data(), test.column.data(), stride, columns, gaps.data(),
                                slopes.data());
        if (expected_gaps.empty()) {
            expected_gaps = gaps;
            expected_slopes = slopes;
        }
        CHECK(std::memcmp(gaps.data(), expected_gaps.data(), columns * sizeof(double)) == 0);
        CHECK(std::memcmp(slopes.data(), expected_slopes.data(), columns * sizeof(double)) == 0);
    }
}

// Opposite inputs of an odd activation stay opposite, equal inputs equal, to the sign of zero.
void ends() {
    const Case test = make(true, false);
    double gaps[2] = {0.0, -0.0}, slopes[2];
    cpu_paths[cpu_path_count - 1].hermite(test.series(), test.row.data(), test.column.data(), stride, 2, gaps, slopes);
    CHECK(gaps[0] == 0 && !std::signbit(gaps[0]));
    CHECK(gaps[1] == 0 && std::signbit(gaps[1]));
    CHECK(slopes[0] == slopes[1]);
}

}  // namespace

int main() {
    for (bool odd : {false, true})
        for (bool apart : {false, true}) {
            const Case test = make(odd, apart);
            for (bool wide : {false, true}) {
                against_model(test, wide);
                paths_agree(test, wide);
            }
        }
    ends();
    return check::report();
}
