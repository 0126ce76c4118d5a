// Whole matrices: ragged edges, symmetry, threads, layers, norms out of range, nearly opposite inputs, interruption.
#include "kernel_matrix.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.hpp"

using namespace wideangle;

namespace {

const Watcher go_on = [](std::uint64_t) { return true; };
const CpuPath& last_path() { return cpu_paths[cpu_path_count - 1]; }

std::vector<double> inputs(std::int64_t count, std::int64_t features, std::uint64_t seed) {
    std::vector<double> result;
    for (std::int64_t i = 0; i < count * features; ++i) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        result.push_back(static_cast<double>(seed >> 11) * 0x1p-52 - 1);
    }
    return result;
}

struct Both {
    std::vector<double> covariance, tangent;
};

Both compute(const std::vector<double>& x1, const std::vector<double>* x2, std::int64_t features,
             const KernelNetwork& network, bool every_layer = false, int threads = 1,
             const CpuPath& path = last_path()) {
    const auto count = [&](const std::vector<double>& x) { return static_cast<std::int64_t>(x.size()) / features; };
    KernelPairs pairs{{x1.data(), count(x1), features}, {}, threads, &path};
    if (x2 != nullptr) pairs.second = {x2->data(), count(*x2), features};
    const std::int64_t size = count(x1) * (x2 ? count(*x2) : count(x1)) * (every_layer ? network.depth + 1 : 1);
    const std::vector<double> empty(static_cast<std::size_t>(size), NAN);
    Both result{empty, empty};
    CHECK(kernel_matrix(pairs, network, {result.covariance.data(), result.tangent.data(), every_layer}, go_on));
    return result;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void every_way_gives_the_same_bits() {
    for (std::int64_t count : {1, 15, 16, 17, 64, 65, 130, 600}) {
        const std::int64_t features = count % 3 == 0 ? 300 : 5;
        const std::vector<double> x = inputs(count, features, 1);
        for (const KernelNetwork network : {KernelNetwork{0.0, 2.0, 0.0, 3}, KernelNetwork{0.3, 1.2, 0.4, 3}}) {
            const Both half = compute(x, nullptr, features, network);
            const Both whole = compute(x, &x, features, network);
            const Both threads = compute(x, nullptr, features, network, false, 3);
            CHECK(same(half.covariance, whole.covariance) && same(half.tangent, whole.tangent));
            CHECK(same(half.covariance, threads.covariance) && same(half.tangent, threads.tangent));
            for (int path = 0; path < cpu_path_count; ++path) {
                if (!cpu_paths[path].supported()) continue;
                const Both other = compute(x, nullptr, features, network, false, 2, cpu_paths[path]);
                CHECK(same(half.covariance, other.covariance) && same(half.tangent, other.tangent));
            }
            if (count > 130) continue;
            const Both layers = compute(x, nullptr, features, network, true);
            const std::size_t size = static_cast<std::size_t>(count * count);
            CHECK(std::memcmp(layers.tangent.data() + 3 * size, half.tangent.data(), size * sizeof(double)) == 0);
            const KernelNetwork shallow = {network.slope, network.weight_variance, network.bias_variance, 1};
            const Both one = compute(x, nullptr, features, shallow);
            CHECK(std::memcmp(layers.covariance.data() + size, one.covariance.data(), size * sizeof(double)) == 0);
        }
    }
}

// One ReLU layer of nearly opposite inputs of two features: K = |x||y|/pi (sin t - t cos t), t the angle from x to -y.
void nearly_opposite() {
    for (double t : {1e-3, 1e-6, 1e-9, 1e-12}) {
        const std::vector<double> x = {3.0, 4.0}, y = {-3.0 - 4.0 * t, -4.0 + 3.0 * t};
        // The rounding of y is its own; take the angle of what was stored.
        const long double cross = 3.0L * y[1] - 4.0L * y[0], dot = 3.0L * y[0] + 4.0L * y[1];
        const long double angle = std::atan2(cross < 0 ? -cross : cross, -dot);
        const Both result = compute(x, &y, 2, {0.0, 2.0, 0.0, 1});
        const long double norm = 5.0L * std::hypot(static_cast<long double>(y[0]), static_cast<long double>(y[1]));
        const long double square = angle * angle;
        const long double excess = angle * square * (1 / 3.0L - square / 30 + square * square / 840);
        const double expected = static_cast<double>(norm * excess / 3.14159265358979323846264338327950288L);
        CHECK_CLOSE(result.covariance[0] / expected, 1.0, 1e-14);
    }
}

void norms_of_any_size() {
    // 10,000 layers of a gain of 1 and of others whose kernel leaves the range, or comes from beyond it.
    const std::vector<double> x = {1e-200, 2e-200, 0.0, 0.0, 3e200, 1e200}, unit = {1.0, 2.0, 0.0, 0.0, 3.0, 1.0};
    const Both deep = compute(unit, nullptr, 2, {0.0, 2.0, 0.0, 10000});
    CHECK_CLOSE(deep.covariance[0], 5.0, 1e-11);
    CHECK_CLOSE(deep.tangent[0] / 50005.0, 1.0, 1e-11);
    CHECK(deep.covariance[1] == 0 && deep.tangent[4] == 0);
    const Both far = compute(x, nullptr, 2, {0.0, 2.0, 0.0, 2});
    const Both near = compute(unit, nullptr, 2, {0.0, 2.0, 0.0, 2});
    CHECK_CLOSE(far.covariance[2] / near.covariance[2], 1.0, 1e-15);
    CHECK_CLOSE(far.tangent[6] / near.tangent[6], 1.0, 1e-15);
    CHECK(std::isinf(far.covariance[8]) && far.covariance[0] == 0 && far.tangent[4] == 0);
    const std::vector<double> tiny = {0x1p-400, 0.0};
    CHECK_CLOSE(compute(tiny, nullptr, 2, {0.0, 256.0, 0.0, 100}).covariance[0] / (128.0 * 0x1p-100), 1.0, 1e-15);
    const Both grown = compute(tiny, nullptr, 2, {0.0, 256.0, 1e-3, 100});
    CHECK(grown.covariance[0] > 1e-3 * 0x1p700 && std::isfinite(grown.tangent[0]));
    CHECK(std::isinf(compute(unit, nullptr, 2, {0.0, 256.0, 0.0, 10000}).covariance[0]));
    for (double value : compute(unit, nullptr, 2, {0.0, 256.0, 1.0, 10000}).tangent) CHECK(!std::isnan(value));
    // With a gain below 1 the norm settles at bias/(1 - gain), whatever it was.
    for (double value : compute(x, nullptr, 2, {0.0, 1.0, 0.5, 10000}).covariance) CHECK_CLOSE(value, 1.0, 1e-12);
    // Subnormal inputs have angles too.
    const std::vector<double> subnormal = {5e-324, 0.0, 5e-324, 5e-324};
    std::vector<double> gaps(4);
    const KernelPairs pairs{{subnormal.data(), 2, 2}, {}, 1, &last_path()};
    CHECK(kernel_gaps(pairs, gaps.data(), go_on));
    CHECK_CLOSE(gaps[1], 1 - std::sqrt(0.5), 1e-15);
    CHECK(squared_norm(x.data(), 2) == 0 && squared_norm(unit.data(), 2) == 5);
    CHECK(std::isinf(squared_norm(x.data() + 4, 2)));
}

void gaps_keep_their_sign() {
    const std::vector<double> x = {1.0, 2.0, -1.0, -2.0, 2.0, -1.0};
    std::vector<double> gaps(9);
    const KernelPairs pairs{{x.data(), 3, 2}, {}, 2, &last_path()};
    CHECK(kernel_gaps(pairs, gaps.data(), go_on));
    CHECK(gaps[0] == 0 && !std::signbit(gaps[0]));
    CHECK(gaps[1] == 0 && std::signbit(gaps[1]) && std::signbit(gaps[3]));
    CHECK_CLOSE(gaps[2], 1.0, 1e-15);
}

void a_watcher_stops_the_run() {
    const std::vector<double> x = inputs(400, 3, 2);
    std::vector<double> out(400 * 400);
    const KernelPairs pairs{{x.data(), 400, 3}, {}, 2, &last_path()};
    const Watcher stop = [](std::uint64_t) { return false; };
    CHECK(!kernel_matrix(pairs, {0.0, 2.0, 0.0, 1000000}, {out.data(), nullptr, false}, stop));
}

}  // namespace

int main() {
    every_way_gives_the_same_bits();
    nearly_opposite();
    norms_of_any_size();
    gaps_keep_their_sign();
    a_watcher_stops_the_run();
    return check::report();
}
