#include "group_search.hpp"

#include <algorithm>
#include <vector>

#include "chunk_elimination.hpp"

namespace wideangle {
namespace {

// A swap must multiply the determinants by more than this: what is less is rounding, and might go on for ever.
constexpr double improvement = 1 + 1e-9;

constexpr std::size_t columns = 256, ahead = 16;

// Rows apart by an odd number of cache lines, so that blocks of them do not share the sets of the cache.
std::size_t odd_lines(std::size_t size) { return ((size + matrix_lanes - 1) / matrix_lanes | 1) * matrix_lanes; }

using Numbers = std::vector<double>;

// All groups of one order. A slot is a place of a group, or left over. For a group c with the covariance S: row k of
// C = S_cc^-1 S_c: stands at the slot of neuron k, Q = S_cc^-1, and v = diag(S - S_:c C) are the variances of all neurons given
// the group. Replacing neuron i of c by j multiplies det S_cc by Q_ii v_j + C_ij^2 (derived: det S_cc Q_ii is the determinant
// without i, and v_j + C_ij^2 / Q_ii the variance of j given that).
class Search {
  public:
    Search(const GroupSearch& task, const CpuPath& path, const std::atomic<bool>& stop)
        : task_(task), add_(path.chunk->add), stop_(stop), neurons_(task.neurons), size_(task.size),
          groups_(task.neurons / task.size), left_over_(groups_ * size_), stride_(odd_lines(neurons_)),
          coefficients_(left_over_ * stride_), precision_(left_over_ * size_), diagonal_(left_over_),
          variance_(groups_ * neurons_), member_(left_over_), slot_(neurons_, left_over_), group_(neurons_, groups_),
          dropped_(size_), weight_(size_), block_(columns) {}

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
    double* row(std::size_t slot) { return coefficients_.data() + slot * stride_; }
    double* precision(std::size_t slot) { return precision_.data() + slot * size_; }
    double* variances(std::size_t a) { return variance_.data() + a * neurons_; }
    const double* covariance(std::size_t neuron) const { return task_.covariance + neuron * neurons_; }

    void store(std::int64_t* to) const {
        for (std::size_t i = 0; i < neurons_; ++i)
            to[i] = group_[i] == groups_ ? -1 : static_cast<std::int64_t>(group_[i]);
    }

    void grow(std::size_t a, const std::int64_t* order) {
        for (std::size_t i = 0; i < neurons_; ++i) variances(a)[i] = covariance(i)[i];
        for (std::size_t p = 0; p < size_ && !stop_.load(); ++p) {
            std::size_t best = neurons_;
            for (std::size_t n = 0; n < neurons_; ++n) {
                const auto j = static_cast<std::size_t>(order[n]);
                if (slot_[j] != left_over_) continue;
                if (best == neurons_ || (p > 0 && variances(a)[j] > variances(a)[best])) best = j;
                if (p == 0) break;
            }
            put(a, p, p, best);
            slot_[best] = a * size_ + p;
            group_[best] = a;
        }
    }

    // Puts neuron j at place p of group a, of which places below `filled` are taken: instead of the neuron there if p is one
    // of them. Both change C by a matrix of rank one. Columns go in blocks, which stay in the cache.
    void put(std::size_t a, std::size_t p, std::size_t filled, std::size_t j) {
        const std::size_t first = a * size_;
        const bool replaces = p < filled;
        const double* const from = covariance(j);
        const double old_precision = replaces ? precision(first + p)[p] : 1;
        // Without the old neuron: what its row adds to others, coefficients of j, and its variance.
        double left = from[j], dropped_part = 0;
        for (std::size_t q = 0; q < filled; ++q) {
            if (q == p) continue;
            const double s = from[member_[first + q]];
            dropped_[q] = replaces ? precision(first + q)[p] / old_precision : 0;
            weight_[q] = row(first + q)[j] - (replaces ? dropped_[q] * row(first + p)[j] : 0);
            left -= s * weight_[q];
            dropped_part += s * dropped_[q];
        }
        double* const own = row(first + p);
        double* const v = variances(a);
        for (std::size_t begin = 0; begin < neurons_; begin += columns) {
            const std::size_t count = std::min(columns, neurons_ - begin);
            double* const residual = block_.data();
            std::copy(from + begin, from + begin + count, residual);
            for (std::size_t q = 0; q < filled; ++q)
                if (q != p) add_(residual, row(first + q) + begin, -from[member_[first + q]], count);
            if (replaces) {
                add_(residual, own + begin, dropped_part, count);
                for (std::size_t i = 0; i < count; ++i) v[begin + i] += own[begin + i] * own[begin + i] / old_precision;
                for (std::size_t q = 0; q < filled; ++q)
                    if (q != p) add_(row(first + q) + begin, own + begin, -dropped_[q], count);
            }
            for (std::size_t i = 0; i < count; ++i) {
                v[begin + i] -= residual[i] * residual[i] / left;
                own[begin + i] = residual[i] / left;
            }
            for (std::size_t q = 0; q < filled; ++q)
                if (q != p) add_(row(first + q) + begin, own + begin, -weight_[q], count);
        }
        update_precision(first, p, filled, left);
        member_[first + p] = j;
    }

    void update_precision(std::size_t first, std::size_t p, std::size_t filled, double left) {
        double* const own = precision(first + p);
        for (std::size_t q = 0; q < filled; ++q) {
            if (q == p) continue;
            double* const other = precision(first + q);
            for (std::size_t r = 0; r < filled; ++r)
                if (r != p) other[r] += weight_[q] * weight_[r] / left - (p < filled ? dropped_[q] * own[r] : 0);
            other[p] = -weight_[q] / left;
        }
        for (std::size_t r = 0; r < filled; ++r) own[r] = -weight_[r] / left;
        own[p] = 1 / left;
        for (std::size_t q = 0; q < filled; ++q) diagonal_[first + q] = precision(first + q)[q];
        diagonal_[first + p] = own[p];
    }

    // Swaps neuron i with the one that gains most, if any does.
    bool exchange(std::size_t i) {
        const std::size_t here = slot_[i];
        if (here == left_over_) return false;
        const std::size_t a = group_[i];
        const double* const own = row(here);
        const double* const v = variances(a);
        const double own_precision = diagonal_[here];
        std::size_t best = neurons_;
        double gain = improvement;
        for (std::size_t j = 0; j < neurons_; ++j) {
            const std::size_t there = slot_[j], b = group_[j];
            // A column of C: each number is on a page of its own.
            if (j + ahead < neurons_ && slot_[j + ahead] != left_over_) __builtin_prefetch(row(slot_[j + ahead]) + i);
            if (b == a) continue;
            double factor = own_precision * v[j] + own[j] * own[j];
            if (there != left_over_) {
                const double back = row(there)[i];
                factor *= diagonal_[there] * variance_[b * neurons_ + i] + back * back;
            }
            if (factor > gain) gain = factor, best = j;
        }
        if (best == neurons_) return false;
        const std::size_t there = slot_[best];
        put(a, here % size_, size_, best);
        if (there != left_over_) put(there / size_, there % size_, size_, i);
        std::swap(slot_[i], slot_[best]);
        std::swap(group_[i], group_[best]);
        return true;
    }

    const GroupSearch& task_;
    void (*const add_)(double*, const double*, double, std::size_t);
    const std::atomic<bool>& stop_;
    const std::size_t neurons_, size_, groups_, left_over_, stride_;
    Numbers coefficients_, precision_, diagonal_, variance_;  // C, Q, its diagonal and v
    std::vector<std::size_t> member_, slot_, group_;          // neurons by slot; slots and groups by neuron
    Numbers dropped_, weight_, block_;
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
