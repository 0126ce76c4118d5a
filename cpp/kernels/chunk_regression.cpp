#include "chunk_regression.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "chunk_elimination.hpp"

namespace wideangle {
namespace {

// A neuron whose residual variance is this part of its own is determined by the chunk: below, rounding is all there is.
constexpr double collinear = 1e-13;

constexpr std::size_t panel_rows = 32;
constexpr std::size_t samples_at_once = 128;
constexpr std::size_t scatter_rows = 64;

std::size_t padded(std::size_t size) { return (size + matrix_lanes - 1) / matrix_lanes * matrix_lanes; }

// Rows apart by an odd number of cache lines, so that those of a panel do not share the sets of the first cache.
std::size_t stride_of(std::size_t size) { return (padded(size) / matrix_lanes | 1) * matrix_lanes; }

using Matrix = std::vector<double>;

// One permutation of the neurons, eliminated one after the other. With S for the scatter matrix in their order, U'U = S_cc,
// X = U'^-1 S_c: and A = S - X'X, residuals of least squares have the scatter matrix A, which is zero in the chunk. A ridge
// L adds Z'Z, where Z = L U (S_cc + L)^-1 U^-1 X: both are sums of squares, and nothing is lost by cancellation. If some
// neurons of the chunk depend on the others, the basis, by coefficients G, L is replaced by L K, K = (1 + G G')^-1.
class Elimination {
  public:
    Elimination(const ChunkSweep& sweep, const CpuPath& path, const std::atomic<bool>& stop)
        : sweep_(sweep), kernels_(*path.chunk), stop_(stop), size_(sweep.neurons), stride_(stride_of(size_)),
          matrix_(size_ * stride_), variance_(size_), spread_(stride_), dependent_(size_) {}

    // Leaves unusable results if it is stopped.
    void run(std::size_t order, const ChunkRegressionResult& to) {
        arrange(sweep_.orders + order * size_);
        std::size_t done = 0;
        for (std::size_t s = 0; s < sweep_.n_sizes; ++s) {
            const auto chunk = static_cast<std::size_t>(sweep_.sizes[s]);
            while (done < chunk && !stop_.load()) {
                const std::size_t end = std::min(chunk, done + panel_rows);
                eliminate(done, end);
                done = end;
            }
            if (stop_.load()) return;
            measure(chunk, order * sweep_.n_sizes + s, to);
        }
    }

  private:
    void arrange(const std::int64_t* order) {
        order_ = order;
        std::fill(dependent_.begin(), dependent_.end(), false);
        for (std::size_t i = 0; i < size_; ++i) {
            const double* const from = sweep_.scatter + static_cast<std::size_t>(order[i]) * size_;
            double* const row = this->row(i);
            for (std::size_t j = i; j < size_; ++j) row[j] = from[order[j]];
            variance_[i] = row[i];
        }
    }

    double* row(std::size_t i) { return matrix_.data() + i * stride_; }
    bool vanishes(std::size_t i) { return !(row(i)[i] > collinear * variance_[i]); }

    void eliminate(std::size_t begin, std::size_t end) {
        for (std::size_t k = begin; k < end; ++k) {
            double* const x = row(k);
            if (vanishes(k)) {
                dependent_[k] = true;
                std::fill(x + k, x + size_, 0.0);
                continue;
            }
            const double pivot = std::sqrt(x[k]);
            for (std::size_t j = k; j < size_; ++j) x[j] /= pivot;
            for (std::size_t i = k + 1; i < end; ++i) kernels_.add(row(i) + i, x + i, -x[i], size_ - i);
        }
        kernels_.update({row(begin), end - begin, matrix_.data(), end, size_, size_, stride_, -1.0});
    }

    void measure(std::size_t chunk, std::size_t place, const ChunkRegressionResult& to) {
        for (std::size_t i = chunk; i < size_; ++i)
            if (vanishes(i)) {
                std::fill(row(i) + i, row(i) + size_, 0.0);
                for (std::size_t k = chunk; k < i; ++k) row(k)[i] = 0.0;
            }
        const double* residual = matrix_.data();
        std::size_t first = chunk;  // rows and columns before are zero
        if (sweep_.ridge_matters) {
            shrink(chunk);
            if (stop_.load()) return;
            residual = shrunk_.data();
            first = 0;
        }
        double inside = 0, outside = 0, total_inside = 0, total_outside = 0;
        for (std::size_t i = 0; i < size_; ++i) {
            const double left = i < first ? 0.0 : residual[i * stride_ + i];
            spread_[i] = std::sqrt(left / degrees());
            (i < chunk ? inside : outside) += left;
            (i < chunk ? total_inside : total_outside) += variance_[i];
        }
        const auto sum = [&](std::size_t from, std::size_t until) {
            return kernels_.correlations({residual, spread_.data(), from, until, size_, stride_, 1.0 / degrees(),
                                          sweep_.offset});
        };
        const double pairs_outside = sum(chunk, size_);
        const double pairs = first < chunk ? pairs_outside + sum(first, chunk) : pairs_outside;
        const auto mean = [](double of, std::size_t neurons) {
            return neurons < 2 ? std::numeric_limits<double>::quiet_NaN()
                               : of / (0.5 * static_cast<double>(neurons) * static_cast<double>(neurons - 1));
        };
        to.unexplained[place] = (inside + outside) / (total_inside + total_outside);
        to.unexplained_outside[place] = outside / total_outside;
        to.correlation[place] = mean(pairs, size_);
        to.correlation_outside[place] = mean(pairs_outside, size_ - chunk);
    }

    double degrees() const { return static_cast<double>(sweep_.samples - 1); }

    // A + Z'Z of all neurons, to shrunk_.
    void shrink(std::size_t chunk) {
        std::vector<std::size_t> basis, rest;
        for (std::size_t k = 0; k < chunk; ++k) (dependent_[k] ? rest : basis).push_back(k);
        const std::size_t rank = basis.size();
        // Coefficients U^-1 X of all neurons on the basis.
        Matrix y(rank * stride_);
        for (std::size_t a = rank; a-- > 0 && !stop_.load();) {
            const double* const x = row(basis[a]);
            double* const to = y.data() + a * stride_;
            std::copy(x + basis[a], x + size_, to + basis[a]);
            for (std::size_t b = a + 1; b < rank; ++b) kernels_.add(to, y.data() + b * stride_, -x[basis[b]], size_);
            for (std::size_t j = 0; j < size_; ++j) to[j] /= x[basis[a]];
        }
        // The penalty K, and S_cc + L K in the basis.
        const std::size_t side = stride_of(rank);
        Matrix penalty(rank * side), normal(rank * side);
        for (std::size_t a = 0; a < rank; ++a) penalty[a * side + a] = 1.0;
        if (!rest.empty()) invert_penalty(y, rest, penalty, rank, side);
        for (std::size_t a = 0; a < rank; ++a)
            for (std::size_t b = a; b < rank; ++b)
                normal[a * side + b] = sweep_.scatter[static_cast<std::size_t>(order_[basis[a]]) * size_ +
                                                      static_cast<std::size_t>(order_[basis[b]])] +
                                       sweep_.ridge * penalty[a * side + b];
        if (!rest.empty()) y = product(penalty, y, rank, side);
        factor(normal, rank, side);
        solve(normal, y, rank, side, stride_);
        // Z = L U y: row a needs only those from a on.
        for (std::size_t a = 0; a < rank && !stop_.load(); ++a) {
            const double* const x = row(basis[a]);
            double* const to = y.data() + a * stride_;
            for (std::size_t j = 0; j < size_; ++j) to[j] *= x[basis[a]];
            for (std::size_t b = a + 1; b < rank; ++b) kernels_.add(to, y.data() + b * stride_, x[basis[b]], size_);
            for (std::size_t j = 0; j < size_; ++j) to[j] *= sweep_.ridge;
        }
        if (stop_.load()) return;
        shrunk_.assign(size_ * stride_, 0.0);
        for (std::size_t i = chunk; i < size_; ++i)
            std::copy(row(i) + i, row(i) + size_, shrunk_.data() + i * stride_ + i);
        kernels_.update({y.data(), rank, shrunk_.data(), 0, size_, size_, stride_, 1.0});
    }

    // K = (1 + G G')^-1, all entries, where the columns of G are those of y that belong to the dependent neurons.
    void invert_penalty(const Matrix& y, const std::vector<std::size_t>& rest, Matrix& penalty, std::size_t rank,
                        std::size_t side) {
        Matrix gram = penalty;
        for (std::size_t a = 0; a < rank && !stop_.load(); ++a)
            for (std::size_t b = a; b < rank; ++b)
                for (const std::size_t j : rest) gram[a * side + b] += y[a * stride_ + j] * y[b * stride_ + j];
        factor(gram, rank, side);
        solve(gram, penalty, rank, side, side);
    }

    Matrix product(const Matrix& symmetric, const Matrix& y, std::size_t rank, std::size_t side) {
        Matrix result(y.size());
        for (std::size_t a = 0; a < rank && !stop_.load(); ++a)
            for (std::size_t b = 0; b < rank; ++b)
                kernels_.add(result.data() + a * stride_, y.data() + b * stride_, symmetric[a * side + b], size_);
        return result;
    }

    // Upper triangular C with C'C the given matrix, in its place.
    void factor(Matrix& matrix, std::size_t rank, std::size_t side) {
        for (std::size_t k = 0; k < rank && !stop_.load(); ++k) {
            double* const x = matrix.data() + k * side;
            const double pivot = std::sqrt(std::max(x[k], std::numeric_limits<double>::min()));
            for (std::size_t j = k; j < rank; ++j) x[j] /= pivot;
            for (std::size_t i = k + 1; i < rank; ++i) kernels_.add(matrix.data() + i * side + i, x + i, -x[i], rank - i);
        }
    }

    // y = (C'C)^-1 y, whose rows have `length` numbers.
    void solve(const Matrix& factor, Matrix& y, std::size_t rank, std::size_t side, std::size_t length) {
        const auto entry = [&](std::size_t a, std::size_t b) { return factor[a * side + b]; };
        const auto divide = [&](std::size_t a) {
            for (std::size_t j = 0; j < length; ++j) y[a * length + j] /= entry(a, a);
        };
        for (std::size_t a = 0; a < rank && !stop_.load(); ++a) {
            for (std::size_t b = 0; b < a; ++b)
                kernels_.add(y.data() + a * length, y.data() + b * length, -entry(b, a), length);
            divide(a);
        }
        for (std::size_t a = rank; a-- > 0 && !stop_.load();) {
            for (std::size_t b = a + 1; b < rank; ++b)
                kernels_.add(y.data() + a * length, y.data() + b * length, -entry(a, b), length);
            divide(a);
        }
    }

    const ChunkSweep& sweep_;
    const ChunkKernels& kernels_;
    const std::atomic<bool>& stop_;
    const std::size_t size_, stride_;
    const std::int64_t* order_ = nullptr;
    Matrix matrix_, variance_, spread_, shrunk_;
    std::vector<bool> dependent_;
};

struct Done {};

}  // namespace

bool chunk_regression(const ChunkSweep& sweep, const ChunkRegressionResult& to, const CpuPath& path, int threads,
                      const Watcher& watcher) {
    const auto work = [&](std::uint64_t order, const BlockContext& context) {
        Elimination(sweep, path, context.stop).run(static_cast<std::size_t>(order), to);
        context.done += 1;
        return Done{};
    };
    return OrderedBlocks<Done>(sweep.count, threads, work, [](Done&&) {}).finish(watcher);
}

template <class T>
bool scatter_matrix(const LayerFeatures<T>& features, double* means, double* scatter, const CpuPath& path, int threads,
                    const Watcher& watcher) {
    const std::size_t samples = features.samples, neurons = features.neurons, stride = stride_of(neurons);
    std::fill(means, means + neurons, 0.0);
    const auto add_block = [&](std::uint64_t block, const BlockContext&) {
        Matrix sums(neurons);
        const std::size_t begin = static_cast<std::size_t>(block) * samples_at_once;
        for (std::size_t n = begin; n < std::min(samples, begin + samples_at_once); ++n)
            for (std::size_t j = 0; j < neurons; ++j) sums[j] += static_cast<double>(features.values[n * neurons + j]);
        return sums;
    };
    const auto deliver = [&](Matrix&& sums) {
        for (std::size_t j = 0; j < neurons; ++j) means[j] += sums[j];
    };
    const std::uint64_t blocks = (samples + samples_at_once - 1) / samples_at_once;
    const auto silent = [&](std::uint64_t) { return watcher(0); };
    if (!OrderedBlocks<Matrix>(blocks, threads, add_block, deliver).finish(silent)) return false;
    for (std::size_t j = 0; j < neurons; ++j) means[j] /= static_cast<double>(samples);

    const auto rows = [&](std::uint64_t block, const BlockContext& context) {
        const std::size_t first = static_cast<std::size_t>(block) * scatter_rows;
        const std::size_t last = std::min(neurons, first + scatter_rows);
        // Columns from `first` on, which is a multiple of the lanes.
        Matrix deviations(samples_at_once * stride), sums((last - first) * stride);
        for (std::size_t begin = 0; begin < samples && !context.stop.load(); begin += samples_at_once) {
            const std::size_t depth = std::min(samples - begin, samples_at_once);
            for (std::size_t n = 0; n < depth; ++n) {
                const T* const from = features.values + (begin + n) * neurons;
                double* const to = deviations.data() + n * stride;
                for (std::size_t j = first; j < neurons; ++j) to[j - first] = static_cast<double>(from[j]) - means[j];
            }
            path.chunk->update({deviations.data(), depth, sums.data(), 0, last - first, neurons - first, stride, 1.0});
        }
        for (std::size_t i = first; i < last; ++i)
            for (std::size_t j = i; j < neurons; ++j)
                scatter[i * neurons + j] = scatter[j * neurons + i] = sums[(i - first) * stride + j - first];
        context.done += last - first;
        return Done{};
    };
    const std::uint64_t row_blocks = (neurons + scatter_rows - 1) / scatter_rows;
    return OrderedBlocks<Done>(row_blocks, threads, rows, [](Done&&) {}).finish(watcher);
}

template bool scatter_matrix(const LayerFeatures<float>&, double*, double*, const CpuPath&, int, const Watcher&);
template bool scatter_matrix(const LayerFeatures<double>&, double*, double*, const CpuPath&, int, const Watcher&);

}  // namespace wideangle
