#include "kernel_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace wideangle {

namespace {

constexpr double pi = 3.14159265358979311600;
constexpr std::int64_t features_at_once = 128;  // sums are rounded as sums of that many terms, then of such sums
constexpr std::int64_t tiles_at_once = 8;       // of a strip of rows, the unit of work
constexpr double opposite = 2.0 - 1.0 / 16;     // beyond this gap the angle to the opposite input is found anew

int round_to_even(int exponent) { return exponent - (exponent & 1); }

// Power of two that brings the largest number between 1 and 2; 0 for an input of zeros.
int exponent_of(const double* input, std::int64_t features) {
    double largest = 0;
    for (std::int64_t k = 0; k < features; ++k) largest = std::max(largest, std::fabs(input[k]));
    return largest > 0 ? std::ilogb(largest) : 0;
}

// Products with 2^-exponent for any exponent of a double.
struct Scale {
    explicit Scale(int exponent)
        : half(std::ldexp(1.0, -exponent / 2)), rest(std::ldexp(1.0, -exponent + exponent / 2)) {}
    double operator()(double x) const { return x * half * rest; }
    double half, rest;
};

template <class Term>
double blocked_sum(std::int64_t count, Term term) {
    double total = 0;
    for (std::int64_t start = 0; start < count; start += features_at_once) {
        double sum = 0;
        for (std::int64_t k = start; k < std::min(start + features_at_once, count); ++k) sum += term(k);
        total += sum;
    }
    return total;
}

double scaled_square(const double* input, std::int64_t features, int exponent) {
    const Scale scale(exponent);
    return blocked_sum(features, [&](std::int64_t k) {
        const double x = scale(input[k]);
        return x * x;
    });
}

// 1 + cos of two inputs that are nearly opposite, to the last digits of the inputs as given: what is left of one when
// its part along the other is taken away, each number with a single rounding. Once more, because the part is rounded.
double one_plus_cosine(const double* a, const double* b, std::int64_t features) {
    const Scale scale_a(exponent_of(a, features)), scale_b(exponent_of(b, features));
    const auto first = [&](std::int64_t k) { return scale_a(a[k]); };
    const auto second = [&](std::int64_t k) { return scale_b(b[k]); };
    const double norm_a = blocked_sum(features, [&](std::int64_t k) { return first(k) * first(k); });
    const double norm_b = blocked_sum(features, [&](std::int64_t k) { return second(k) * second(k); });
    const double along = blocked_sum(features, [&](std::int64_t k) { return first(k) * second(k); }) / norm_a;
    const auto rest = [&](std::int64_t k) { return std::fma(-along, first(k), second(k)); };
    const double again = blocked_sum(features, [&](std::int64_t k) { return rest(k) * first(k); }) / norm_a;
    const double sine2 = blocked_sum(features, [&](std::int64_t k) {
        const double across = std::fma(-again, first(k), rest(k));
        return across * across;
    }) / norm_b;
    return sine2 / (1.0 + std::sqrt(1.0 - std::min(sine2, 1.0)));
}

// Unit vectors of the inputs and their squared lengths.
struct Prepared {
    explicit Prepared(const KernelInputs& inputs)
        : inputs(inputs),
          padded((inputs.count + tile_columns - 1) / tile_columns * tile_columns),
          square(static_cast<std::size_t>(inputs.count)),
          exponent(static_cast<std::size_t>(inputs.count)) {
        for (std::int64_t i = 0; i < inputs.count; ++i) {
            const double* input = inputs.values + i * inputs.features;
            exponent[static_cast<std::size_t>(i)] = exponent_of(input, inputs.features);
            square[static_cast<std::size_t>(i)] =
                scaled_square(input, inputs.features, exponent[static_cast<std::size_t>(i)]);
        }
    }

    // Writes the unit vector of input i, `step` apart.
    void unit_vector(std::int64_t i, double* to, std::int64_t step) const {
        const auto at = static_cast<std::size_t>(i);
        const double* input = inputs.values + i * inputs.features;
        const double norm = square[at] > 0 ? std::sqrt(square[at]) : 1.0;
        const Scale scale(exponent[at]);
        for (std::int64_t k = 0; k < inputs.features; ++k) to[k * step] = scale(input[k]) / norm;
    }

    KernelInputs inputs;
    std::int64_t padded;          // count, rounded up to whole tiles
    std::vector<double> square;   // over 2^(2 exponent)
    std::vector<int> exponent;
};

class Run {
  public:
    explicit Run(const KernelPairs& pairs)
        : pairs_(pairs),
          symmetric_(pairs.second.values == nullptr),
          features_(pairs.first.features),
          first_(pairs.first),
          second_(symmetric_ ? pairs.first : pairs.second),
          rows_(static_cast<std::size_t>(first_.padded * features_)),
          columns_(static_cast<std::size_t>(second_.padded * features_)) {
        for (std::int64_t i = 0; i < first_.inputs.count; ++i) first_.unit_vector(i, rows_.data() + i * features_, 1);
        for (std::int64_t j = 0; j < second_.inputs.count; ++j)
            second_.unit_vector(j, columns_.data() + j / tile_columns * tile_columns * features_ + j % tile_columns,
                                tile_columns);
    }

    // Calls visit(tile, row, column, shape) for every tile of pairs that has one on or above the diagonal.
    template <class Visit>
    bool each_tile(const Visit& visit, const Watcher& watcher) {
        const std::int64_t n_rows = first_.inputs.count, n_columns = second_.inputs.count;
        const std::int64_t strips = (n_rows + tile_rows - 1) / tile_rows;
        const std::int64_t chunk = tiles_at_once * tile_columns;
        const std::int64_t chunks = (n_columns + chunk - 1) / chunk;
        const auto work = [&](std::uint64_t block, const BlockContext& context) {
            KernelTile tile{};
            const std::int64_t row = static_cast<std::int64_t>(block) / chunks * tile_rows;
            const std::int64_t start = static_cast<std::int64_t>(block) % chunks * chunk;
            for (std::int64_t column = start; column < std::min(start + chunk, n_columns); column += tile_columns) {
                if (context.stop.load(std::memory_order_relaxed)) break;
                if (symmetric_ && column + tile_columns <= row) continue;
                const TileShape shape = {static_cast<int>(std::min<std::int64_t>(tile_rows, n_rows - row)),
                                         static_cast<int>(std::min<std::int64_t>(tile_columns, n_columns - column))};
                start_tile(tile, row, column, shape);
                visit(tile, row, column, shape, context.stop);
                context.done.fetch_add(static_cast<std::uint64_t>(shape.rows * shape.columns));
            }
            return char{};
        };
        OrderedBlocks<char> blocks(static_cast<std::uint64_t>(strips * chunks), pairs_.threads, work, [](char&&) {});
        return blocks.finish(watcher);
    }

    // Writes value(entry) of the tile to the matrix, and to its mirror image.
    template <class Value>
    void write(double* matrix, std::int64_t row, std::int64_t column, TileShape shape, const Value& value) const {
        const std::int64_t n_columns = second_.inputs.count;
        for (int r = 0; r < shape.rows; ++r) {
            const std::int64_t diagonal = symmetric_ ? row + r - column : 0;
            const int from = static_cast<int>(std::clamp<std::int64_t>(diagonal, 0, shape.columns));
            double* to = matrix + (row + r) * n_columns + column;
            for (int c = from; c < shape.columns; ++c) to[c] = value(r, c);
        }
        if (!symmetric_) return;
        for (int c = 0; c < shape.columns; ++c) {
            const int end = static_cast<int>(std::clamp<std::int64_t>(column + c - row, 0, shape.rows));
            double* to = matrix + (column + c) * n_columns + row;
            for (int r = 0; r < end; ++r) to[r] = value(r, c);
        }
    }

    const Prepared& first() const { return first_; }
    const Prepared& second() const { return second_; }

  private:
    void start_tile(KernelTile& tile, std::int64_t row, std::int64_t column, TileShape shape) const {
        std::fill(tile.gap, tile.gap + tile_size, 0.0);
        for (std::int64_t k = 0; k < features_; k += features_at_once)
            pairs_.path->kernel_distance(tile, shape, rows_.data() + row * features_ + k, features_,
                                         columns_.data() + column * features_ + k * tile_columns,
                                         std::min(features_at_once, features_ - k));
        double largest = 0;
        for (int at = 0; at < shape.rows * tile_columns; ++at) {
            const double gap = tile.gap[at] * 0.5, far = 2.0 - gap;
            largest = gap > largest ? gap : largest;
            tile.gap[at] = gap;
            tile.far[at] = far;
            tile.cosine[at] = 1.0 - gap;
        }
        if (largest > opposite) refine_opposites(tile, row, column, shape);
    }

    void refine_opposites(KernelTile& tile, std::int64_t row, std::int64_t column, TileShape shape) const {
        for (int r = 0; r < shape.rows; ++r)
            for (int c = 0; c < shape.columns; ++c) {
                const int at = r * tile_columns + c;
                if (tile.gap[at] <= opposite) continue;
                tile.far[at] = one_plus_cosine(first_.inputs.values + (row + r) * features_,
                                               second_.inputs.values + (column + c) * features_, features_);
                tile.gap[at] = 2.0 - tile.far[at];
                tile.cosine[at] = tile.far[at] - 1.0;
            }
    }

    const KernelPairs& pairs_;
    const bool symmetric_;
    const std::int64_t features_;
    const Prepared first_, second_;
    std::vector<double> rows_;     // unit vectors, one after the other
    std::vector<double> columns_;  // by tiles of columns, in each by features
};

// The layers of a network, with what a tile needs to go through them.
class Layers {
  public:
    Layers(const KernelNetwork& network, std::int64_t features)
        : network_(network), features_(static_cast<double>(features)), biased_(network.bias_variance > 0) {
        const double squares = 1.0 + network.slope * network.slope;
        const double gain = network.weight_variance * (0.5 * squares);
        power_ = round_to_even(std::ilogb(gain));
        phi_.gain = std::ldexp(gain, -power_);
        phi_.unit = std::ldexp(1.0, -power_);
        phi_.knee = (1.0 - network.slope) * (1.0 - network.slope) / (pi * squares);
        phi_.turned = (1.0 + network.slope) * (1.0 + network.slope) / squares;
        phi_.flip = 2.0 * network.slope / squares;
        between_rescales_ = std::max(1, 128 / (std::abs(power_) + 2));
    }

    // Norms of inputs `start`, ... of a set at layer 0, written from place `at` on.
    void start_norms(TileNorms& norms, const Prepared& inputs, std::int64_t start, int count, int at) const {
        int bias_exponent = 0;
        const double bias = std::frexp(network_.bias_variance, &bias_exponent);
        for (int i = 0; i < count; ++i) {
            const auto from = static_cast<std::size_t>(start + i);
            int exponent = 0;
            const double square = std::frexp(network_.weight_variance / features_ * inputs.square[from], &exponent);
            exponent += 2 * inputs.exponent[from];
            // In units of the larger of the two; the other may vanish beside it.
            const bool active_larger = square > 0 && (!biased_ || exponent > bias_exponent);
            const int common = round_to_even(active_larger ? exponent : bias_exponent);
            const double active = std::ldexp(square, exponent - common);
            norms.bias[at + i] = std::ldexp(bias, bias_exponent - common);
            norms.square[at + i] = active + norms.bias[at + i];
            norms.weight[at + i] = biased_ ? std::sqrt(active / norms.square[at + i]) : 1.0;
            norms.shift[at + i] = biased_ ? std::sqrt(norms.bias[at + i] / norms.square[at + i]) : 0.0;
            norms.exponent[at + i] = common;
        }
    }

    // Takes a tile of angles of inputs through all layers. emit(norms) is called where a result is due.
    template <class Emit>
    void run(const CpuPath& path, KernelTile& tile, TileShape shape, TileNorms& norms, bool every_layer,
             const std::atomic<bool>& stop, const Emit& emit) const {
        if (biased_) add_first_bias(tile, shape, norms);
        std::copy(tile.cosine, tile.cosine + tile_size, tile.tangent);
        if (every_layer || network_.depth == 0) emit(0);
        for (int layer = 1; layer <= network_.depth; ++layer) {
            path.kernel_norm(norms, phi_, biased_);
            for (std::int64_t& exponent : norms.exponent) exponent += power_;
            // Without a positive slope no angle of a hidden layer is obtuse.
            path.kernel_step(tile, shape, phi_, norms, network_.slope > 0 || layer == 1, biased_);
            if (layer % between_rescales_ == 0) rescale(norms);
            if (every_layer || layer == network_.depth) emit(layer);
            if (layer % 256 == 0 && stop.load(std::memory_order_relaxed)) return;
        }
    }

  private:
    static void add_first_bias(KernelTile& tile, TileShape shape, const TileNorms& norms) {
        for (int r = 0; r < shape.rows; ++r)
            for (int c = 0; c < tile_columns; ++c) {
                const int at = r * tile_columns + c, other = tile_rows + c;
                const double product = norms.weight[r] * norms.weight[other];
                const double along = norms.weight[r] - norms.weight[other];
                const double across = norms.shift[r] - norms.shift[other], sum = norms.shift[r] + norms.shift[other];
                tile.gap[at] = product * tile.gap[at] + 0.5 * (along * along + across * across);
                tile.far[at] = product * tile.far[at] + 0.5 * (along * along + sum * sum);
                // Of the two, the one that subtracts less from 1.
                tile.cosine[at] = tile.gap[at] > 1.0 ? tile.far[at] - 1.0 : 1.0 - tile.gap[at];
            }
    }

    void rescale(TileNorms& norms) const {
        for (int i = 0; i < tile_norms; ++i) {
            if (!(norms.square[i] > 0)) continue;
            const int shift = round_to_even(std::ilogb(norms.square[i]));
            norms.square[i] = std::ldexp(norms.square[i], -shift);
            norms.exponent[i] += shift;
            // Anew: it may have vanished beside a norm that has shrunk since.
            norms.bias[i] = std::ldexp(network_.bias_variance,
                                       static_cast<int>(std::clamp<std::int64_t>(-norms.exponent[i], -5000, 5000)));
        }
    }

    KernelNetwork network_;
    double features_;
    bool biased_;
    int power_;
    int between_rescales_;
    PiecewiseLinear phi_{};
};

// The two norms of every pair, as a factor of what is in their units.
struct Factors {
    explicit Factors(const TileNorms& norms, TileShape shape) {
        for (int i = 0; i < tile_norms; ++i) {
            root[i] = std::sqrt(norms.square[i]);
            exponent[i] = norms.exponent[i] / 2;
            const bool used = i < tile_rows ? i < shape.rows : i - tile_rows < shape.columns;
            if (used && std::abs(exponent[i]) > 400) plain = false;
            factor[i] = std::ldexp(root[i], static_cast<int>(std::clamp<std::int64_t>(exponent[i], -400, 400)));
        }
    }

    double small(int row, int column, double value) const { return factor[row] * factor[tile_rows + column] * value; }

    double any(int row, int column, double value) const {
        const int other = tile_rows + column;
        const std::int64_t power = std::clamp<std::int64_t>(exponent[row] + exponent[other], -5000, 5000);
        return std::ldexp(root[row] * root[other] * value, static_cast<int>(power));
    }

    double root[tile_norms], factor[tile_norms];
    std::int64_t exponent[tile_norms];
    bool plain = true;
};

}  // namespace

bool kernel_matrix(const KernelPairs& pairs, const KernelNetwork& network, const KernelResult& result,
                   const Watcher& watcher) {
    Run run(pairs);
    const Layers layers(network, pairs.first.features);
    const std::int64_t size = run.first().inputs.count * run.second().inputs.count;
    const auto visit = [&](KernelTile& tile, std::int64_t row, std::int64_t column, TileShape shape,
                           const std::atomic<bool>& stop) {
        TileNorms norms{};
        std::fill(norms.square, norms.square + tile_norms, 1.0);
        layers.start_norms(norms, run.first(), row, shape.rows, 0);
        layers.start_norms(norms, run.second(), column, shape.columns, tile_rows);
        layers.run(*pairs.path, tile, shape, norms, result.every_layer, stop, [&](int layer) {
            const Factors factors(norms, shape);
            const std::int64_t offset = result.every_layer ? layer * size : 0;
            const auto write = [&](double* matrix, const double* entries) {
                if (factors.plain)
                    run.write(matrix + offset, row, column, shape,
                              [&](int r, int c) { return factors.small(r, c, entries[r * tile_columns + c]); });
                else
                    run.write(matrix + offset, row, column, shape,
                              [&](int r, int c) { return factors.any(r, c, entries[r * tile_columns + c]); });
            };
            write(result.covariance, tile.cosine);
            if (result.tangent != nullptr) write(result.tangent, tile.tangent);
        });
    };
    return run.each_tile(visit, watcher);
}

bool kernel_gaps(const KernelPairs& pairs, double* signed_gaps, const Watcher& watcher) {
    Run run(pairs);
    const auto visit = [&](KernelTile& tile, std::int64_t row, std::int64_t column, TileShape shape,
                           const std::atomic<bool>&) {
        run.write(signed_gaps, row, column, shape, [&](int r, int c) {
            const int at = r * tile_columns + c;
            return tile.gap[at] > 1.0 ? -tile.far[at] : tile.gap[at];
        });
    };
    return run.each_tile(visit, watcher);
}

double squared_norm(const double* input, std::int64_t features) {
    const int exponent = exponent_of(input, features);
    return std::ldexp(scaled_square(input, features, exponent), 2 * exponent);
}

}  // namespace wideangle
