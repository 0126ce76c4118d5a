// Every instruction set against each other, bit by bit, and against a plain scalar model in long double that builds the
// two vectors of activations neuron by neuron from the same random words: none of the lane code, none of its algebra.
#include "cpu_paths.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "threefry.hpp"

using namespace wideangle;

namespace {

using Real = long double;
constexpr Real pi = 3.14159265358979323846264338327950288L;
constexpr Real to_unit = 0x1p-31L;

struct Words {
    std::uint64_t seed, sample;
    std::uint32_t layer;

    std::uint32_t operator()(std::uint32_t purpose, std::uint32_t quad, std::uint32_t word) const {
        using Block = baseline::Words4<std::uint32_t>;
        const Block counter = {{static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32), layer, quad}};
        const Block key = {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32), purpose, 0}};
        return baseline::threefry4x32(counter, key).word[word];
    }
};

std::uint32_t heads(const Words& words, std::uint32_t coins, std::uint32_t step) {
    std::uint32_t result = 0;
    for (std::uint32_t coin = 0; coin < coins; ++coin)
        result += words(1, step << 25 | coin / 128, coin / 32 % 4) >> coin % 32 & 1;
    return result;
}

// Numbers one by one, once there are few of them; only their count matters before.
std::uint32_t binomial(const Words& words, std::uint32_t trials, double p) {
    std::uint32_t successes = 0, place = 0;
    for (; trials > 32 && place < 120; ++place) {
        p *= 2;
        const std::uint32_t ones = heads(words, trials, place);
        if (p >= 1) {
            p -= 1;
            successes += trials - ones;
            trials = ones;
        } else {
            trials -= ones;
        }
    }
    for (std::uint32_t number = 0; number < trials; ++number) {
        double rest = p;
        for (std::uint32_t at = place; at < 120; ++at) {
            rest *= 2;
            const bool digit = rest >= 1;
            if (digit) rest -= 1;
            const bool bit = words(1, 127u << 25 | at / 4, at % 4) >> number & 1;
            if (bit == digit) continue;
            successes += digit;
            break;
        }
    }
    return successes;
}

struct Outcome {
    PairStatus status;
    Real log_sin2, log_norm2, theta;
};

// One layer from the angle theta, for one sample.
Outcome model(Real theta, const AngleLayer& at, std::uint64_t sample) {
    const Words words{at.seed, sample, at.layer};
    const double p = std::fmin(static_cast<double>(theta) * 0.31830988618379067, 1.0 - 0x1p-53);
    const std::uint32_t one = binomial(words, at.width, p);
    const std::uint32_t both = heads(words, at.width - one, 120);
    std::vector<Real> a, b, scale, halves;
    const auto exponential = [](std::uint32_t word) { return -std::log((word >> 1 | 1u) * to_unit); };
    for (std::uint32_t i = 0; i < both; ++i) {
        Real energy, half;
        if (both <= 12) {
            const std::uint64_t w[4] = {words(4, i, 0), words(4, i, 1), words(4, i, 2), words(4, i, 3)};
            energy = -std::log((static_cast<Real>(w[0] << 20 | w[1] >> 12) + 0.5L) * 0x1p-52L);
            half = ((static_cast<Real>(w[2] << 20 | w[3] >> 12) + 0.5L) * 0x1p-52L - 0.5L) * (pi - theta);
        } else {
            energy = exponential(words(2, i / 2, i % 2 * 2));
            half = static_cast<std::int32_t>(words(2, i / 2, i % 2 * 2 + 1)) * 0.5L * to_unit * (pi - theta);
        }
        scale.push_back(std::sqrt(2 * energy));
        halves.push_back(half);
        a.push_back(scale[i] * std::cos(half + theta / 2));
        b.push_back(scale[i] * std::cos(half - theta / 2));
    }
    bool any_a = both > 0, any_b = both > 0;
    for (std::uint32_t i = 0; i < one; ++i) {
        const std::uint32_t word = words(3, i / 2, i % 2 * 2);
        const Real t = theta * (words(3, i / 2, i % 2 * 2 + 1) >> 1 | 1u) * to_unit;
        const Real value = std::sqrt(2 * exponential(word)) * std::sin(t);
        const bool is_a = word & 1;
        (is_a ? any_a : any_b) = true;
        a.push_back(is_a ? value : 0);
        b.push_back(is_a ? 0 : value);
    }
    if (!any_a || !any_b) return {PairStatus::dead, 0, 0, 0};
    if (both == 1 && one == 0) return {PairStatus::collapsed, 0, 0, 0};
    Real norm_a = 0, norm_b = 0, overlap = 0, determinant = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        norm_a += a[i] * a[i];
        norm_b += b[i] * b[i];
        overlap += a[i] * b[i];
        // By pairs of neurons: the difference of products of norms would cancel at small angles.
        for (std::size_t j = 0; j < i; ++j) {
            Real minor = a[i] * b[j] - a[j] * b[i];
            // Below this angle the products agree to the last digit; cos cos - cos cos is sin(theta) sin then.
            if (theta < 1e-9L && i < both && j < both) minor = scale[i] * scale[j] * theta * std::sin(halves[i] - halves[j]);
            determinant += minor * minor;
        }
    }
    return {PairStatus::alive, std::log(determinant / (norm_a * norm_b)),
            std::log(norm_a * at.weight_variance / at.width), std::atan2(std::sqrt(determinant), overlap)};
}

double worst_x = 0, worst_norm = 0, worst_theta = 0;

// The tolerance is a few units of float32, of sums whose terms are good to one; an exponential is good to 1e-7 of 1 +
// value, which weighs more where a single small one makes up the norm.
void against_model(double theta, std::uint32_t width, std::uint64_t seed, std::uint64_t first_sample) {
    const std::atomic<bool> stop{false};
    const AngleLayer at{seed, first_sample, 3, width, 1.7};
    AngleState state = initial_angle_state(theta);
    cpu_paths[cpu_path_count - 1].angle_step(state, at, stop);
    for (int lane = 0; lane < angle_lanes; ++lane) {
        const Outcome expected = model(theta, at, first_sample + static_cast<std::uint64_t>(lane));
        CHECK(state.status[lane] == static_cast<std::uint32_t>(expected.status));
        if (expected.status != PairStatus::alive) continue;
        CHECK_CLOSE(state.log_sin2[lane], static_cast<double>(expected.log_sin2), 3e-6);
        const double norm = std::exp(static_cast<double>(expected.log_norm2)) * width / at.weight_variance;
        CHECK_CLOSE(state.log_norm2[lane], static_cast<double>(expected.log_norm2), 1e-6 + 2e-7 / norm);
        CHECK_CLOSE(state.theta[lane] / static_cast<double>(expected.theta), 1.0, 2e-6);
        CHECK_CLOSE(2 * std::log(std::sin(state.theta[lane])), state.log_sin2[lane], 1e-6);
        CHECK_CLOSE(state.sine_half[lane] / std::sin(state.theta[lane] / 2), 1.0, 1e-15);
        CHECK_CLOSE(state.cosine_half[lane], std::cos(state.theta[lane] / 2), 1e-15);
        worst_x = std::fmax(worst_x, std::fabs(state.log_sin2[lane] - static_cast<double>(expected.log_sin2)));
        worst_norm = std::fmax(worst_norm, std::fabs(state.log_norm2[lane] - static_cast<double>(expected.log_norm2)));
        worst_theta = std::fmax(worst_theta, std::fabs(state.theta[lane] / static_cast<double>(expected.theta) - 1));
    }
}

void paths_agree(double theta, std::uint32_t width, std::uint64_t seed, std::uint64_t first_sample) {
    const std::atomic<bool> stop{false};
    AngleState expected{};
    bool first = true;
    for (int path = 0; path < cpu_path_count; ++path) {
        if (!cpu_paths[path].supported()) continue;
        AngleState state = initial_angle_state(theta);
        for (std::uint32_t layer = 1; layer <= 5; ++layer)
            cpu_paths[path].angle_step(state, {seed, first_sample, layer, width, 2.0}, stop);
        if (first) expected = state;
        first = false;
        CHECK(std::memcmp(&state, &expected, sizeof state) == 0);
    }
}

void start() {
    // sin^2 at the double next to pi, from its known distance to pi.
    const double nearest_pi = 3.14159265358979311600;
    CHECK_CLOSE(initial_angle_state(nearest_pi).log_sin2[0], 2 * std::log(1.22464679914735317723e-16), 1e-13);
    CHECK_CLOSE(initial_angle_state(1e-300).log_sin2[7], -600 * std::log(10.0), 1e-12);
    CHECK_CLOSE(initial_angle_state(5e-324).log_sin2[7], 2 * std::log(5e-324), 1e-12);
    CHECK_CLOSE(initial_angle_state(2.0).log_sin2[7], 2 * std::log(std::sin(2.0)), 1e-15);
}

// X goes on where theta has underflowed: 400 layers of 16 neurons from 1e-300.
void far_down() {
    const std::atomic<bool> stop{false};
    AngleState state = initial_angle_state(1e-300);
    for (std::uint32_t layer = 1; layer <= 400; ++layer)
        cpu_paths[0].angle_step(state, {5, 0, layer, 16, 2.0}, stop);
    int alive = 0;
    for (int lane = 0; lane < angle_lanes; ++lane) {
        if (state.status[lane] != 0) continue;
        ++alive;
        CHECK(state.theta[lane] < 1e-308);
        CHECK(state.log_sin2[lane] < -1420 && state.log_sin2[lane] > -1500);
    }
    std::printf("%d pairs alive after 400 layers\n", alive);
}

}  // namespace

int main() {
    start();
    const double angles[] = {3.14159265358979311600, 3.1, 2.0, 1.5707963267948966, 0.7, 0.1, 1e-3, 1e-9, 1e-100, 1e-300};
    std::uint64_t seed = 11;
    for (double theta : angles)
        for (std::uint32_t width : {1u, 2u, 3u, 5u, 12u, 25u, 33u, 64u, 100u, 257u}) {
            against_model(theta, width, seed, 16 * seed);
            paths_agree(theta, width, seed++, 0xfffffffffff0ULL);
        }
    for (double theta : {1.2, 0.01}) {
        against_model(theta, 1500, 0xffffffffffffffffULL, 1ULL << 40);
        paths_agree(theta, 40000, seed++, 0);
    }
    far_down();
    std::printf("against the model: X within %.2g, log norm %.2g, theta %.2g relative\n", worst_x, worst_norm, worst_theta);
    int paths = 0;
    for (int path = 0; path < cpu_path_count; ++path) paths += cpu_paths[path].supported();
    std::printf("%d CPU paths compared\n", paths);
    return check::report();
}
