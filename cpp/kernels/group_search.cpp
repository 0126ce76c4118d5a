#include "group_search.hpp"

#include <algorithm>
#include <vector>

#include "chunk_elimination.hpp"

namespace wideangle {
namespace {

// A swap must multiply the determinants by more than this: what is less is rounding, and might go on for ever.
constexpr double improvement = 1 + 1e-9;

using Numbers = std::vector<double>;

// All groups of one order. For a group c with the covariance S: row k of C = S_cc^-1 S_c: stands at its neuron, Q = S_cc^-1,
// and v = diag(S - S_:c C) are the variances of all neurons given the group. Replacing neuron i of c by j multiplies det S_cc
// by Q_ii v_j + C_ij^2 (derived: det S_cc Q_ii is the determinant without i, and v_j + C_ij^2 / Q_ii the variance of j given
// that). One neuron more or less in a group changes C by a rank-one matrix, at 2 size x neurons multiply-adds.
class Search {
  public:
    Search(const GroupSearch& task, const CpuPath& path, const std::atomic<bool>& stop)
        : task_(task), add_(path.chunk->add), stop_(stop), neurons_(task.neurons), size_(task.size),
          groups_(task.neurons / task.size), coefficients_(neurons_ * neurons_), precision_(groups_ * size_ * size_),
          variance_(groups_ * neurons_), members_(groups_ * size_), group_(neurons_, groups_), place_(neurons_),
          diagonal_(neurons_, 1.0), residual_(neurons_) {}

    // Leaves unusable results if it is stopped.
    void run(std::size_t k, const GroupSearchResult& to) {
        const std::int64_t* const order = task_.orders + k * neurons_;
        for (std::size_t a = 0; a < groups_ && !stop_.load(); ++a) grow(a, order);
        store(to.greedy + k * neurons_);
        std::int64_t swaps = 0, before = -1;
        while (before < swaps && !stop_.load()) {
            before = swaps;
            for (std::size_t n = 0; n < neurons_ && !stop_.load(); ++n) swaps += exchange(static_cast<std::size_t>(order[n]));
        }
        store(to.group + k * neurons_);
        to.n_swaps[k] = swaps;
    }

  private:
    double* row(std::size_t neuron) { return coefficients_.data() + neuron * neurons_; }
    double* variances(std::size_t a) { return variance_.data() + a * neurons_; }
    std::size_t* members(std::size_t a) { return members_.data() + a * size_; }
    double* precision(std::size_t a, std::size_t p) { return precision_.data() + (a * size_ + p) * size_; }
    const double* covariance(std::size_t neuron) const { return task_.covariance + neuron * neurons_; }

    void store(std::int64_t* to) const {
        for (std::size_t i = 0; i < neurons_; ++i) to[i] = group_[i] == groups_ ? -1 : static_cast<std::int64_t>(group_[i]);
    }

    void grow(std::size_t a, const std::int64_t* order) {
        for (std::size_t i = 0; i < neurons_; ++i) variances(a)[i] = covariance(i)[i];
        for (std::size_t p = 0; p < size_ && !stop_.load(); ++p) {
            std::size_t best = neurons_;
            for (std::size_t n = 0; n < neurons_; ++n) {
                const auto j = static_cast<std::size_t>(order[n]);
                if (group_[j] != groups_) continue;
                if (best == neurons_ || (p > 0 && variances(a)[j] > variances(a)[best])) best = j;
                if (p == 0) break;
            }
            insert(a, p, p, best);
        }
    }

    // Puts neuron j at place p of group a, of which the places before `filled` are taken.
    void insert(std::size_t a, std::size_t p, std::size_t filled, std::size_t j) {
        const double* const from = covariance(j);
        std::copy(from, from + neurons_, residual_.begin());
        for (std::size_t q = 0; q < filled; ++q)
            if (q != p) add_(residual_.data(), row(members(a)[q]), -from[members(a)[q]], neurons_);
        const double left = residual_[j];
        double* const v = variances(a);
        for (std::size_t i = 0; i < neurons_; ++i) v[i] -= residual_[i] * residual_[i] / left;
        double* const own = row(j);
        for (std::size_t i = 0; i < neurons_; ++i) own[i] = residual_[i] / left;
        double* const q_own = precision(a, p);
        for (std::size_t q = 0; q < filled; ++q) {
            if (q == p) continue;
            const double weight = row(members(a)[q])[j];
            q_own[q] = -weight / left;
        }
        q_own[p] = 1 / left;
        for (std::size_t q = 0; q < filled; ++q) {
            if (q == p) continue;
            double* const other = row(members(a)[q]);
            const double weight = other[j];
            for (std::size_t r = 0; r < filled; ++r)
                if (r != p) precision(a, q)[r] -= weight * q_own[r];
            precision(a, q)[p] = q_own[q];
            add_(other, own, -weight, neurons_);
            diagonal_[members(a)[q]] = precision(a, q)[q];
        }
        diagonal_[j] = q_own[p];
        members(a)[p] = j;
        group_[j] = a;
        place_[j] = p;
    }

    // Takes the neuron at place p out of the full group a.
    void remove(std::size_t a, std::size_t p) {
        const std::size_t i = members(a)[p];
        const double* const own = row(i);
        const double* const q_own = precision(a, p);
        double* const v = variances(a);
        for (std::size_t j = 0; j < neurons_; ++j) v[j] += own[j] * own[j] / q_own[p];
        for (std::size_t q = 0; q < size_; ++q) {
            if (q == p) continue;
            const double factor = precision(a, q)[p] / q_own[p];
            add_(row(members(a)[q]), own, -factor, neurons_);
            for (std::size_t r = 0; r < size_; ++r)
                if (r != p) precision(a, q)[r] -= factor * q_own[r];
        }
        diagonal_[i] = 1;
        group_[i] = groups_;
    }

    // Swaps neuron i with the one that gains most, if any does.
    bool exchange(std::size_t i) {
        const std::size_t a = group_[i];
        if (a == groups_) return false;
        const double* const own = row(i);
        const double* const v = variances(a);
        std::size_t best = neurons_;
        double gain = improvement;
        for (std::size_t j = 0; j < neurons_; ++j) {
            const std::size_t b = group_[j];
            if (b == a) continue;
            double factor = diagonal_[i] * v[j] + own[j] * own[j];
            if (b != groups_) {
                const double back = row(j)[i];
                factor *= diagonal_[j] * variances(b)[i] + back * back;
            }
            if (factor > gain) gain = factor, best = j;
        }
        if (best == neurons_) return false;
        const std::size_t b = group_[best], p = place_[i], q = place_[best];
        remove(a, p);
        if (b != groups_) remove(b, q);
        insert(a, p, size_, best);
        if (b != groups_) insert(b, q, size_, i);
        return true;
    }

    const GroupSearch& task_;
    void (*const add_)(double*, const double*, double, std::size_t);
    const std::atomic<bool>& stop_;
    const std::size_t neurons_, size_, groups_;
    Numbers coefficients_, precision_, variance_;
    std::vector<std::size_t> members_, group_, place_;  // group_ is groups_ for neurons that are left over
    Numbers diagonal_, residual_;                       // Q_ii of each neuron in its group
};

struct Done {};

}  // namespace

bool group_search(const GroupSearch& task, const GroupSearchResult& to, const CpuPath& path, int threads,
                  const Watcher& watcher) {
    const auto work = [&](std::uint64_t order, const BlockContext& context) {
        Search(task, path, context.stop).run(static_cast<std::size_t>(order), to);
        context.done += 1;
        return Done{};
    };
    return OrderedBlocks<Done>(task.count, threads, work, [](Done&&) {}).finish(watcher);
}

}  // namespace wideangle
