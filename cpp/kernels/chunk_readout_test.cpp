// The scores of every instruction set against long double, sample by sample; ties, threads, what stops.
#include "chunk_readout.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "check.hpp"
#include "check_numbers.hpp"

using namespace wideangle;

namespace {

using Real = long double;

using check::Numbers;

template <class T>
struct Case {
    std::size_t samples, neurons, classes, permutations;
    std::vector<std::int64_t> sizes;
    int threads = 2;
    double scale = 1;  // of the readout

    std::vector<T> features{};
    std::vector<double> readout{}, bias{}, loss{};
    std::vector<std::int64_t> targets{}, orders{}, correct{};

    std::size_t prefix() const { return static_cast<std::size_t>(sizes.back()); }  // of a permutation, all that is needed

    void fill(std::uint64_t seed) {
        Numbers next(seed);
        features.resize(samples * neurons);
        for (T& value : features) value = static_cast<T>(next());
        readout.resize(classes * neurons);
        for (double& value : readout) value = scale * next();
        bias.resize(classes);
        for (double& value : bias) value = scale * next();
        targets.resize(samples);
        for (std::int64_t& value : targets) value = static_cast<std::int64_t>(next.below(classes));
        for (std::size_t k = 0; k < permutations; ++k) {
            std::vector<std::int64_t> order(neurons);
            std::iota(order.begin(), order.end(), 0);
            for (std::size_t i = 0; i < prefix(); ++i) std::swap(order[i], order[i + next.below(neurons - i)]);
            orders.insert(orders.end(), order.begin(), order.begin() + static_cast<std::ptrdiff_t>(prefix()));
        }
    }

    bool run(const CpuPath& path, const Watcher& watcher = [](std::uint64_t) { return true; }) {
        correct.assign(permutations * sizes.size(), -1);
        loss.assign(correct.size(), -1.0);
        const ChunkReadout<T> chunks{features.data(), samples, neurons, readout.data(), bias.data(), classes, targets.data(),
                                     orders.data(), permutations, prefix(), sizes.data(), sizes.size(), &path, threads};
        return chunk_readout(chunks, {correct.data(), loss.data()}, watcher);
    }
};

// What is right in exact arithmetic, unless two logits are closer than their roundings: w + 2 of their terms' magnitudes.
template <class T>
bool scores_agree(const Case<T>& c) {
    constexpr Real unit = std::numeric_limits<double>::epsilon();
    bool good = true;
    for (std::size_t k = 0; k < c.permutations; ++k)
        for (std::size_t s = 0; s < c.sizes.size(); ++s) {
            std::int64_t least = 0, most = 0;
            Real loss = 0, bound = 0;
            for (std::size_t n = 0; n < c.samples; ++n) {
                const auto target = static_cast<std::size_t>(c.targets[n]);
                std::vector<Real> logits(c.classes);
                Real terms = 0;
                for (std::size_t j = 0; j < c.classes; ++j) {
                    logits[j] = c.bias[j];
                    Real magnitude = std::fabs(logits[j]);
                    for (std::int64_t i = 0; i < c.sizes[s]; ++i) {
                        const auto neuron = static_cast<std::size_t>(c.orders[k * c.prefix() + static_cast<std::size_t>(i)]);
                        const Real term = static_cast<Real>(c.features[n * c.neurons + neuron]) * c.readout[j * c.neurons + neuron];
                        logits[j] += term;
                        magnitude += std::fabs(term);
                    }
                    terms = std::fmax(terms, magnitude);
                }
                const Real error = static_cast<Real>(c.sizes[s] + 2) * unit * terms;
                Real best = logits[0], others = -std::numeric_limits<Real>::infinity();
                for (std::size_t j = 0; j < c.classes; ++j) {
                    best = std::fmax(best, logits[j]);
                    if (j != target) others = std::fmax(others, logits[j]);
                }
                Real sum = 0;
                for (const Real logit : logits) sum += std::exp(logit - best);
                const Real lost = best - logits[target] + std::log(sum);
                loss += lost;
                bound += 2 * error + 10 * unit * (1 + std::fabs(lost));
                least += logits[target] > others + 2 * error;
                most += logits[target] > others - 2 * error;
            }
            const std::size_t at = k * c.sizes.size() + s;
            good &= least <= c.correct[at] && c.correct[at] <= most;
            good &= most - least <= static_cast<std::int64_t>(c.samples / 50);  // or the check says nothing
            good &= std::fabs(c.loss[at] - loss) <= bound + static_cast<Real>(c.samples) * unit * loss;
        }
    return good;
}

template <class T>
void agree(const CpuPath& path, Case<T> c) {
    c.fill(c.samples * 1000 + c.neurons * 10 + c.classes);
    CHECK(c.run(path));
    CHECK(scores_agree(c));
}

template <class T>
void check_shapes(const CpuPath& path) {
    for (const std::size_t samples : {1, 7, 8, 15, 16, 17, 64, 65, 200})
        for (const std::size_t classes : {2, 3, 10, 23}) agree<T>(path, {samples, 13, classes, 3, {1, 2, 5, 13}});
    for (std::size_t classes = 1; classes <= 21; ++classes) agree<T>(path, {20, 9, classes, 2, {0, 3, 7}});
    agree<T>(path, {3, 1, 2, 1, {1}});
    agree<T>(path, {70, 300, 10, 2, {1, 299}});
    agree<T>(path, {70, 6, 4, 300, {2, 3, 4, 5, 6}});  // more orders than a group has
    agree<T>(path, {30, 40, 5, 4, {40}, 1, 1e3});      // exponentials from 1 to 0
}

// Classes with the same readout have the same logits, in whatever tile they are: only the first of them is found.
void check_ties(const CpuPath& path) {
    for (const std::size_t classes : {2, 7, 10, 24}) {
        Case<float> c{50, 20, classes, 2, {1, 20}};
        c.fill(classes);
        for (std::size_t j = 1; j < classes; ++j) {
            c.bias[j] = c.bias[0];
            for (std::size_t i = 0; i < c.neurons; ++i) c.readout[j * c.neurons + i] = c.readout[i];
        }
        std::int64_t first = 0;
        for (const std::int64_t target : c.targets) first += target == 0;
        CHECK(c.run(path));
        for (const std::int64_t correct : c.correct) CHECK(correct == first);
        for (const double loss : c.loss) CHECK_CLOSE(loss, 50 * std::log(static_cast<double>(classes)), 1e-12);
    }
}

// The last bits too.
void check_threads(const CpuPath& path) {
    Case<float> c{500, 30, 6, 200, {1, 10, 30}, 1};
    c.fill(5);
    CHECK(c.run(path));
    const std::vector<double> loss = c.loss;
    const std::vector<std::int64_t> correct = c.correct;
    for (const int threads : {2, 3, 64}) {
        c.threads = threads;
        std::uint64_t last = 0;
        CHECK(c.run(path, [&last](std::uint64_t done) { last = done; return true; }));
        CHECK(c.loss == loss && c.correct == correct);
        CHECK(last == c.samples * c.permutations);
    }
}

void check_stop(const CpuPath& path) {
    Case<double> c{2000, 200, 10, 2000, {1, 200}};
    c.fill(1);
    std::uint64_t seen = 0;
    CHECK(!c.run(path, [&seen](std::uint64_t done) { seen = done; return false; }));
    CHECK(seen < c.samples * c.permutations);
}

}  // namespace

int main() {
    for (int i = 0; i < cpu_path_count; ++i) {
        const CpuPath& path = cpu_paths[i];
        if (!path.supported()) continue;
        check_shapes<float>(path);
        check_shapes<double>(path);
        check_ties(path);
        check_threads(path);
        check_stop(path);
    }
    return check::report();
}
