// Against determinants in extended precision: what grows, and that no swap of the outcome would raise them; threads and paths.
#include "group_search.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "check.hpp"
#include "check_numbers.hpp"

using namespace wideangle;

namespace {

using Numbers = std::vector<double>;
using Groups = std::vector<std::int64_t>;

const Watcher go_on = [](std::uint64_t) { return true; };

// Generic mixtures of signals, and noise; the last two neurons are noise alone.
Numbers mixtures(std::size_t neurons, std::size_t signals, std::uint64_t seed) {
    check::Numbers draw(seed);
    Numbers loadings(neurons * signals), result(neurons * neurons);
    for (std::size_t i = 0; i + 2 < neurons; ++i)
        for (std::size_t k = 0; k < signals; ++k) loadings[i * signals + k] = draw();
    for (std::size_t i = 0; i < neurons; ++i)
        for (std::size_t j = 0; j < neurons; ++j) {
            double& sum = result[i * neurons + j];
            sum = i == j;
            for (std::size_t k = 0; k < signals; ++k) sum += loadings[i * signals + k] * loadings[j * signals + k];
        }
    return result;
}

// By Gaussian elimination.
long double log_determinant(const Numbers& covariance, std::size_t neurons, const std::vector<std::size_t>& members) {
    const std::size_t n = members.size();
    std::vector<long double> m(n * n);
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b) m[a * n + b] = covariance[members[a] * neurons + members[b]];
    long double sum = 0;
    for (std::size_t k = 0; k < n; ++k) {
        sum += std::log(m[k * n + k]);
        for (std::size_t i = k + 1; i < n; ++i) {
            const long double factor = m[i * n + k] / m[k * n + k];
            for (std::size_t j = k; j < n; ++j) m[i * n + j] -= factor * m[k * n + j];
        }
    }
    return sum;
}

std::vector<std::size_t> members_of(const std::int64_t* group, std::size_t neurons, std::int64_t a) {
    std::vector<std::size_t> result;
    for (std::size_t i = 0; i < neurons; ++i)
        if (group[i] == a) result.push_back(i);
    return result;
}

long double total(const Numbers& covariance, std::size_t neurons, const std::int64_t* group, std::size_t groups) {
    long double sum = 0;
    for (std::size_t a = 0; a < groups; ++a)
        sum += log_determinant(covariance, neurons, members_of(group, neurons, static_cast<std::int64_t>(a)));
    return sum;
}

struct Result {
    Result(std::size_t count, std::size_t neurons) : greedy(count * neurons), group(count * neurons), swaps(count) {}
    GroupSearchResult to() { return {greedy.data(), group.data(), swaps.data()}; }
    Groups greedy, group, swaps;
};

void grows_by_the_most_unknown(const Numbers& covariance, std::size_t neurons, std::size_t size, const std::int64_t* order,
                               const std::int64_t* greedy) {
    std::vector<bool> taken(neurons);
    for (std::size_t a = 0; a < neurons / size; ++a) {
        std::vector<std::size_t> group;
        for (std::size_t p = 0; p < size; ++p) {
            std::size_t best = neurons;
            long double most = 0;
            for (std::size_t n = 0; n < neurons; ++n) {
                const auto j = static_cast<std::size_t>(order[n]);
                if (taken[j]) continue;
                std::vector<std::size_t> with = group;
                with.push_back(j);
                const long double value = p == 0 ? 0 : log_determinant(covariance, neurons, with);
                if (best == neurons || value > most) best = j, most = value;
            }
            taken[best] = true;
            group.push_back(best);
            CHECK(greedy[best] == static_cast<std::int64_t>(a));
        }
    }
    for (std::size_t i = 0; i < neurons; ++i) CHECK(taken[i] == (greedy[i] >= 0));
}

void no_swap_helps(const Numbers& covariance, std::size_t neurons, std::size_t groups, const std::int64_t* group) {
    const long double reached = total(covariance, neurons, group, groups);
    Groups swapped(group, group + neurons);
    for (std::size_t i = 0; i < neurons; ++i)
        for (std::size_t j = 0; j < i; ++j) {
            if (group[i] == group[j]) continue;
            std::swap(swapped[i], swapped[j]);
            CHECK(total(covariance, neurons, swapped.data(), groups) < reached + 1e-8L);
            std::swap(swapped[i], swapped[j]);
        }
}

void searches(const CpuPath& path, std::size_t neurons, std::size_t size, std::uint64_t seed) {
    constexpr std::size_t count = 3;
    const Numbers covariance = mixtures(neurons, size, seed);
    Groups orders(count * neurons);
    check::Numbers draw(seed + 1);
    for (std::size_t k = 0; k < count; ++k) {
        std::int64_t* const order = orders.data() + k * neurons;
        std::iota(order, order + neurons, 0);
        for (std::size_t n = neurons; n > 1; --n) std::swap(order[n - 1], order[draw.below(n)]);
    }
    const GroupSearch task{covariance.data(), neurons, orders.data(), count, size};
    Result result(count, neurons);
    CHECK(group_search(task, result.to(), path, 2, go_on));
    const std::size_t groups = neurons / size;
    for (std::size_t k = 0; k < count; ++k) {
        const std::int64_t *greedy = result.greedy.data() + k * neurons, *group = result.group.data() + k * neurons;
        grows_by_the_most_unknown(covariance, neurons, size, orders.data() + k * neurons, greedy);
        no_swap_helps(covariance, neurons, groups, group);
        for (std::size_t a = 0; a < groups; ++a)
            CHECK(members_of(group, neurons, static_cast<std::int64_t>(a)).size() == size);
        const long double gain = total(covariance, neurons, group, groups) - total(covariance, neurons, greedy, groups);
        CHECK(result.swaps[k] == 0 ? gain == 0 : gain > 0);
    }
    Result again(count, neurons);
    CHECK(group_search(task, again.to(), path, 1, go_on));
    CHECK(again.group == result.group);
    CHECK(again.swaps == result.swaps);
}

}  // namespace

int main() {
    for (int p = 0; p < cpu_path_count; ++p) {
        if (!cpu_paths[p].supported()) continue;
        for (const std::uint64_t seed : {1, 2}) {
            searches(cpu_paths[p], 12, 5, seed);
            searches(cpu_paths[p], 18, 6, seed);
            searches(cpu_paths[p], 9, 1, seed);
            searches(cpu_paths[p], 29, 4, seed);
        }
    }
    return check::report();
}
