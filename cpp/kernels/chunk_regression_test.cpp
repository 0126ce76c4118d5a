// Against regressions by explicit inverses, for generic, duplicated, constant and dependent neurons; threads and paths.
#include "chunk_regression.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "check.hpp"

using namespace wideangle;

namespace {

using Numbers = std::vector<double>;
using LongNumbers = std::vector<long double>;

const Watcher go_on = [](std::uint64_t) { return true; };

// Features (sample, neuron), the last but two a duplicate, the last but one constant, the last a sum of others.
Numbers features(std::size_t samples, std::size_t neurons, std::uint64_t seed) {
    Numbers result(samples * neurons);
    for (std::size_t n = 0; n < samples; ++n) {
        double* const row = result.data() + n * neurons;
        double shared = 0;
        for (std::size_t j = 0; j < neurons; ++j) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            row[j] = static_cast<double>(seed >> 11) * 0x1p-52 - 1 + 0.5 * shared;
            shared = j == 0 ? row[0] : shared;
        }
        row[neurons - 3] = row[1];
        row[neurons - 2] = 3.0;
        row[neurons - 1] = row[0] + 2 * row[2];
    }
    return result;
}

// (matrix + ridge)^-1 in extended precision, by Gauss-Jordan elimination.
LongNumbers inverse(LongNumbers m, std::size_t n, long double ridge) {
    LongNumbers result(n * n);
    for (std::size_t i = 0; i < n; ++i) m[i * n + i] += ridge, result[i * n + i] = 1;
    for (std::size_t k = 0; k < n; ++k) {
        std::size_t best = k;
        for (std::size_t i = k; i < n; ++i)
            if (std::fabs(m[i * n + k]) > std::fabs(m[best * n + k])) best = i;
        for (std::size_t j = 0; j < n; ++j) std::swap(m[k * n + j], m[best * n + j]), std::swap(result[k * n + j], result[best * n + j]);
        const long double pivot = m[k * n + k];
        for (std::size_t j = 0; j < n; ++j) m[k * n + j] /= pivot, result[k * n + j] /= pivot;
        for (std::size_t i = 0; i < n; ++i) {
            if (i == k) continue;
            const long double factor = m[i * n + k];
            for (std::size_t j = 0; j < n; ++j)
                m[i * n + j] -= factor * m[k * n + j], result[i * n + j] -= factor * result[k * n + j];
        }
    }
    return result;
}

struct Values {
    double unexplained, unexplained_outside, correlation, correlation_outside;
};

// From residuals of every sample.
Values directly(const Numbers& x, std::size_t samples, std::size_t neurons, const std::int64_t* order, std::size_t chunk,
                double ridge, double offset) {
    LongNumbers centred(x.begin(), x.end());
    for (std::size_t j = 0; j < neurons; ++j) {
        long double mean = 0;
        for (std::size_t n = 0; n < samples; ++n) mean += centred[n * neurons + j] / static_cast<long double>(samples);
        for (std::size_t n = 0; n < samples; ++n) centred[n * neurons + j] -= mean;
    }
    const auto at = [&](std::size_t n, std::size_t i) { return centred[n * neurons + static_cast<std::size_t>(order[i])]; };
    const auto product = [&](std::size_t i, std::size_t j) {
        long double sum = 0;
        for (std::size_t n = 0; n < samples; ++n) sum += at(n, i) * at(n, j);
        return sum;
    };
    LongNumbers inner(chunk * chunk);
    for (std::size_t a = 0; a < chunk; ++a)
        for (std::size_t b = 0; b < chunk; ++b) inner[a * chunk + b] = product(a, b);
    const LongNumbers m = inverse(inner, chunk, ridge);
    LongNumbers residual(samples * neurons);
    for (std::size_t j = 0; j < neurons; ++j) {
        LongNumbers coefficient(chunk);
        for (std::size_t a = 0; a < chunk; ++a)
            for (std::size_t b = 0; b < chunk; ++b) coefficient[a] += m[a * chunk + b] * product(b, j);
        for (std::size_t n = 0; n < samples; ++n) {
            residual[n * neurons + j] = at(n, j);
            for (std::size_t a = 0; a < chunk; ++a) residual[n * neurons + j] -= coefficient[a] * at(n, a);
        }
    }
    const auto left = [&](std::size_t i, std::size_t j) {
        long double sum = 0;
        for (std::size_t n = 0; n < samples; ++n) sum += residual[n * neurons + i] * residual[n * neurons + j];
        return sum / static_cast<long double>(samples - 1);
    };
    long double some = 0, all = 0, some_outside = 0, all_outside = 0, pairs = 0, pairs_outside = 0;
    for (std::size_t i = 0; i < neurons; ++i) {
        const long double own = left(i, i), whole = product(i, i) / static_cast<long double>(samples - 1);
        some += own, all += whole;
        if (i >= chunk) some_outside += own, all_outside += whole;
        for (std::size_t j = i + 1; j < neurons; ++j) {
            const long double term = std::fabs(left(i, j)) / (std::sqrt(own * left(j, j)) + offset);
            pairs += term;
            if (i >= chunk) pairs_outside += term;
        }
    }
    const auto mean = [](long double sum, std::size_t count) {
        return static_cast<double>(sum / (0.5L * static_cast<long double>(count * (count - 1))));
    };
    return {static_cast<double>(some / all), static_cast<double>(some_outside / all_outside), mean(pairs, neurons),
            mean(pairs_outside, neurons - chunk)};
}

struct Result {
    explicit Result(std::size_t size) : unexplained(size), unexplained_outside(size), correlation(size), correlation_outside(size) {}
    ChunkRegressionResult to() {
        return {unexplained.data(), unexplained_outside.data(), correlation.data(), correlation_outside.data()};
    }
    Numbers unexplained, unexplained_outside, correlation, correlation_outside;
};

void agrees_with_residuals(const CpuPath& path, std::size_t neurons, double ridge) {
    constexpr std::size_t samples = 60, orders = 3;
    const Numbers x = features(samples, neurons, 5);
    Numbers means(neurons), scatter(neurons * neurons);
    CHECK(scatter_matrix<double>({x.data(), samples, neurons}, means.data(), scatter.data(), path, 2, go_on));
    // The mean of equal numbers is not exactly their value; the caller knows which neurons are constant.
    for (std::size_t j = 0; j < neurons; ++j) scatter[j * neurons + neurons - 2] = scatter[(neurons - 2) * neurons + j] = 0;
    std::vector<std::int64_t> order(orders * neurons), sizes = {1, 2, 5, static_cast<std::int64_t>(neurons) - 3};
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t k = 0; k < orders; ++k)
        for (std::size_t j = 0; j < neurons; ++j) order[k * neurons + j] = static_cast<std::int64_t>((j * (k + 1) * 7 + 11 * k) % neurons);
    ChunkSweep sweep{scatter.data(), neurons, samples, order.data(), orders, sizes.data(), sizes.size(), ridge, true, 1e-8};
    Result result(orders * sizes.size());
    CHECK(chunk_regression(sweep, result.to(), path, 2, go_on));
    for (std::size_t k = 0; k < orders; ++k)
        for (std::size_t s = 0; s < sizes.size(); ++s) {
            const Values expected = directly(x, samples, neurons, order.data() + k * neurons, static_cast<std::size_t>(sizes[s]), ridge, 1e-8);
            const std::size_t at = k * sizes.size() + s;
            CHECK_CLOSE(result.unexplained[at], expected.unexplained, 1e-11);
            CHECK_CLOSE(result.unexplained_outside[at], expected.unexplained_outside, 1e-11);
            CHECK_CLOSE(result.correlation[at], expected.correlation, 1e-9);
            CHECK_CLOSE(result.correlation_outside[at], expected.correlation_outside, 1e-9);
        }
    Result again(orders * sizes.size());
    CHECK(chunk_regression(sweep, again.to(), path, 1, go_on));
    CHECK(again.correlation == result.correlation);
    CHECK(again.unexplained == result.unexplained);
    Numbers other_means(neurons), other(neurons * neurons), one_thread(neurons * neurons);
    CHECK(scatter_matrix<double>({x.data(), samples, neurons}, other_means.data(), one_thread.data(), path, 1, go_on));
    CHECK(scatter_matrix<double>({x.data(), samples, neurons}, other_means.data(), other.data(), path, 3, go_on));
    CHECK(one_thread == other);
}

}  // namespace

int main() {
    for (int p = 0; p < cpu_path_count; ++p) {
        if (!cpu_paths[p].supported()) continue;
        for (const std::size_t neurons : {11, 30, 75})
            for (const double ridge : {1e-8, 1e-2, 10.0}) agrees_with_residuals(cpu_paths[p], neurons, ridge);
    }
    return check::report();
}
