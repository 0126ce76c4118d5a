// The law of the normals from Threefry's words, and the words one by one against a long double model.
#include "normal.hpp"

#include <cmath>
#include <cstdio>
#include <initializer_list>

#include "check.hpp"
#include "threefry.hpp"

using namespace wideangle::WIDEANGLE_PATH;

namespace {

Words4<Pair<u32>> random_words(std::uint32_t index) {
    constexpr u32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const auto same = [](u32 x) { return Pair<u32>{x, x}; };
    const Pair<u32> indices = {broadcast32(index), broadcast32(index + 1)};
    return threefry4x32(Words4<Pair<u32>>{{indices, same(lane), same(u32{}), same(u32{})}},
                        Words4<Pair<u32>>{{same(broadcast32(7u)), same(u32{}), same(u32{}), same(u32{})}});
}

double worst = 0;

void against_model(std::uint32_t radius_word, std::uint32_t angle_word) {
    const auto pair = normal_pair32(broadcast32(radius_word), broadcast32(angle_word));
    const long double u = (radius_word >> 1 | 1u) * 0x1p-31L;
    const long double radius = (radius_word & 1 ? -1 : 1) * std::sqrt(-2 * std::log(u));
    const long double angle = static_cast<std::int32_t>(angle_word) * 0x1p-32L * 3.14159265358979323846264338327950288L;
    // An exponential is good to 1.5e-7 of 1 + value, which is what its root loses near 0.
    const double tolerance = 4e-7 * (1 + std::fabs(static_cast<double>(radius))) + 2e-7 / (1e-3 + std::fabs(static_cast<double>(radius)));
    CHECK_CLOSE(pair.first[3], static_cast<double>(radius * std::cos(angle)), tolerance);
    CHECK_CLOSE(pair.second[9], static_cast<double>(radius * std::sin(angle)), tolerance);
    if (std::fabs(radius) > 0.1L) {
        worst = std::fmax(worst, std::fabs(pair.first[3] - static_cast<double>(radius * std::cos(angle))));
        worst = std::fmax(worst, std::fabs(pair.second[9] - static_cast<double>(radius * std::sin(angle))));
    }
}

void words() {
    constexpr std::uint32_t edges[] = {0, 1, 2, 3, 0x7fffffffu, 0x80000000u, 0x80000001u, 0xfffffffeu, 0xffffffffu};
    for (std::uint32_t a : edges)
        for (std::uint32_t b : edges) against_model(a, b);
    for (std::uint32_t index = 0; index < 20000; index += 2) {
        const auto bits = random_words(index);
        against_model(bits.word[0].first[0], bits.word[1].first[0]);
        // A pair of words gives what each of the two gives.
        const auto two = normal_pair32(bits.word[2], bits.word[3]);
        const auto one = normal_pair32(bits.word[2].second, bits.word[3].second);
        CHECK(two.first.second[5] == one.first[5] && two.second.second[5] == one.second[5]);
    }
    std::printf("normal_pair32: largest error %.2g\n", worst);
    CHECK_CLOSE(normal_pair32(broadcast32(0u), broadcast32(0u)).first[0], std::sqrt(62 * std::log(2.0)), 3e-6);
}

// Powers, products of the two, tails: sums over many normals against their expectations, within five standard errors.
void law() {
    constexpr int powers = 6;
    constexpr double moment[13] = {1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395};
    constexpr double bounds[] = {1.0, 3.0, 4.0, 4.5, 5.0};
    constexpr std::uint32_t steps = 1u << 20;
    f64 sum[powers + 1] = {}, mixed[3] = {};
    u64 beyond[5] = {};
    for (std::uint32_t index = 0; index < steps; index += 2) {
        const auto bits = random_words(index);
        const auto a = normal_pair32(bits.word[0], bits.word[1]), b = normal_pair32(bits.word[2], bits.word[3]);
        for (const auto& pair : {a, b})
            for (int second = 0; second < 2; ++second)
                for (int half = 0; half < 2; ++half) {
                    const f64 x = widen(second ? pair.first.second : pair.first.first, half);
                    const f64 y = widen(second ? pair.second.second : pair.second.first, half);
                    f64 x_power = x, y_power = y;
                    for (int p = 1; p <= powers; ++p, x_power *= x, y_power *= y) sum[p] += x_power + y_power;
                    mixed[0] += x * y;
                    mixed[1] += (x * x - 1.0) * (y * y - 1.0);
                    mixed[2] += x * x * x * y;
                    for (int i = 0; i < 5; ++i) {
                        beyond[i] -= bits_as<u64>((x > bounds[i]) | (x < -bounds[i]));
                        beyond[i] -= bits_as<u64>((y > bounds[i]) | (y < -bounds[i]));
                    }
                }
    }
    const auto add = [](auto x) { return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7])); };
    const double pairs = 2.0 * steps * lanes, count = 2 * pairs;
    for (int p = 1; p <= powers; ++p)
        CHECK_CLOSE(add(sum[p]) / count, moment[p], 5 * std::sqrt((moment[2 * p] - moment[p] * moment[p]) / count));
    CHECK_CLOSE(add(mixed[0]) / pairs, 0.0, 5 * std::sqrt(1 / pairs));
    CHECK_CLOSE(add(mixed[1]) / pairs, 0.0, 5 * std::sqrt(4 / pairs));
    CHECK_CLOSE(add(mixed[2]) / pairs, 0.0, 5 * std::sqrt(15 / pairs));
    for (int i = 0; i < 5; ++i) {
        const double expected = count * std::erfc(bounds[i] / std::sqrt(2.0));
        const auto found = static_cast<double>(add(beyond[i]));
        std::printf("beyond %.1f sigma: %.0f, expected %.1f\n", bounds[i], found, expected);
        CHECK_CLOSE(found, expected, 5 * std::sqrt(expected));
    }
}

}  // namespace

int main() {
    words();
    law();
    return check::report();
}
