// A thread takes a network, or, where there are few, some of its blocks of points: it evaluates all the other points, then
// block after block. Inputs and their scalar products are the same for every network, and made ready once.
#include "evaluation_ensemble.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

namespace wideangle {
namespace {

constexpr std::size_t line_bytes = 64, tile_size = block_points * block_points;
constexpr double worth_a_block = 1e5;  // operations, about 10 us

using Doubles = std::unique_ptr<double[], decltype(&std::free)>;

Doubles aligned(std::size_t count) {
    const std::size_t bytes = (count * sizeof(double) + line_bytes - 1) / line_bytes * line_bytes;
    Doubles data(static_cast<double*>(std::aligned_alloc(line_bytes, bytes)), &std::free);
    if (!data && bytes > 0) throw std::bad_alloc();
    return data;
}

constexpr std::size_t blocks_of(std::size_t count) { return (count + block_points - 1) / block_points; }

class Run {
  public:
    Run(const Evaluation& evaluation, const EvaluationResults& to)
        : run_(evaluation),
          to_(to),
          shape_(evaluation.shape),
          features_(shape_.sizes[0]),
          pairs_(to.kernel != nullptr || to.readout_part != nullptr || to.hidden_part != nullptr || to.response != nullptr),
          symmetric_(evaluation.others.values == nullptr),
          others_(symmetric_ ? evaluation.points : evaluation.others),
          row_blocks_(blocks_of(run_.points.count)),
          column_blocks_(pairs_ ? blocks_of(others_.count) : 0),
          rows_(pack(run_.points)) {
        if (!pairs_) return;
        if (!symmetric_) columns_ = pack(others_);
        input_products_ = aligned(row_blocks_ * column_blocks_ * tile_size);
        for (std::size_t row = 0; row < row_blocks_; ++row)
            for (std::size_t column = 0; column < column_blocks_; ++column)
                run_.kernels->products(x_of_row(row), x_of_column(column), features_, products_of(row, column));
    }

    bool finish(const Watcher& watcher) {
        const auto threads = static_cast<std::size_t>(std::max(run_.threads, 1));
        const std::size_t wanted = (8 * threads + run_.networks - 1) / run_.networks;
        const std::size_t groups = std::min(wanted, row_blocks_), items = run_.networks * groups;
        const auto at_least = static_cast<std::size_t>(worth_a_block / operations() * static_cast<double>(items)) + 1;
        const std::size_t chunk = std::clamp(items / (threads * 16), std::size_t{1}, at_least);
        for (std::size_t i = 0; i < threads; ++i) scratch_.push_back(nullptr);
        OrderedBlocks<int> work(
            (items + chunk - 1) / chunk, run_.threads,
            [&](std::uint64_t block, const BlockContext& context) {
                std::unique_ptr<Scratch>& scratch = scratch_[static_cast<std::size_t>(context.thread)];
                if (!scratch) scratch = std::make_unique<Scratch>(*this);
                const std::size_t first = static_cast<std::size_t>(block) * chunk;
                for (std::size_t item = first; item < std::min(first + chunk, items); ++item) {
                    const std::size_t group = item % groups;
                    run_rows(item / groups, group * row_blocks_ / groups, (group + 1) * row_blocks_ / groups, *scratch, context);
                }
                return 0;
            },
            [](int&&) {});
        return work.finish(watcher);
    }

  private:
    struct Scratch {
        explicit Scratch(const Run& run)
            : row(aligned(run.shape_.block_values())),
              columns(aligned(run.column_blocks_ * run.shape_.block_values())),
              changes(aligned(2 * run.widest() * block_points)) {}
        Doubles row, columns, changes;
    };

    // One network at the points of some blocks.
    void run_rows(std::size_t network, std::size_t first, std::size_t last, const Scratch& scratch, const BlockContext& context) {
        const double* const parameters = run_.parameters + network * shape_.parameters();
        const std::size_t size = shape_.block_values();
        for (std::size_t column = 0; column < column_blocks_ && !context.stop; ++column) {
            double* const values = scratch.columns.get() + column * size;
            run_.kernels->forward(shape_, parameters, x_of_column(column), values);
            if (needs_column_derivatives()) run_.kernels->backward(shape_, parameters, values);
        }
        for (std::size_t row = first; row < last && !context.stop; ++row) {
            double* values = scratch.row.get();
            if (symmetric_ && pairs_) {
                values = scratch.columns.get() + row * size;
            } else {
                run_.kernels->forward(shape_, parameters, x_of_row(row), values);
                if (pairs_ || to_.diagonal != nullptr) run_.kernels->backward(shape_, parameters, values);
            }
            write_points(network, row, values);
            if (pairs_) run_pairs(network, row, values, scratch, context);
            context.done.fetch_add(rows_of(row), std::memory_order_relaxed);
        }
    }

    void write_points(std::size_t network, std::size_t row, const double* values) const {
        const std::size_t count = rows_of(row), place = network * run_.points.count + row * block_points;
        if (to_.outputs != nullptr)
            std::copy_n(values + shape_.block_values() - block_points, count, to_.outputs + place);
        if (to_.diagonal != nullptr) {
            double all[block_points];
            run_.kernels->diagonal(shape_, x_of_row(row), values, all);
            std::copy_n(all, count, to_.diagonal + place);
        }
        for (std::size_t l = 1; l <= to_.activations.size(); ++l) {
            const std::size_t units = shape_.sizes[l];
            const double* const from = values + units * block_points;
            values += 3 * units * block_points;
            if (to_.activations[l - 1] == nullptr) continue;
            double* const to = to_.activations[l - 1] + place * units;
            for (std::size_t point = 0; point < count; ++point)
                for (std::size_t unit = 0; unit < units; ++unit) to[point * units + unit] = from[unit * block_points + point];
        }
    }

    void run_pairs(std::size_t network, std::size_t row, const double* values, const Scratch& scratch, const BlockContext& context) const {
        const std::size_t place = (network * run_.points.count + row * block_points) * others_.count;
        const auto at = [](double* array, std::size_t offset) { return array != nullptr ? array + offset : nullptr; };
        for (std::size_t column = 0; column < column_blocks_ && !context.stop; ++column) {
            const std::size_t to = place + column * block_points;
            if (to_.kernel != nullptr || to_.readout_part != nullptr || to_.hidden_part != nullptr)
                run_.kernels->tangent({shape_, values, scratch.columns.get() + column * shape_.block_values(),
                                       products_of(row, column), rows_of(row), columns_of(column), others_.count,
                                       at(to_.kernel, to), at(to_.readout_part, to), at(to_.hidden_part, to)});
            if (to_.response == nullptr) continue;
            for (std::size_t sample = 0; sample < rows_of(row); ++sample) {
                double all[block_points];
                step(network, row, sample, values, products_of(row, column) + sample * block_points,
                     scratch.columns.get() + column * shape_.block_values(), scratch, all);
                std::copy_n(all, columns_of(column), to_.response + to + sample * others_.count);
            }
        }
        if (to_.own_response != nullptr) run_own_steps(network, row, values, scratch);
    }

    void run_own_steps(std::size_t network, std::size_t row, const double* values, const Scratch& scratch) const {
        alignas(line_bytes) double products[tile_size];
        run_.kernels->products(x_of_row(row), x_of_row(row), features_, products);
        for (std::size_t sample = 0; sample < rows_of(row); ++sample) {
            double all[block_points];
            step(network, row, sample, values, products + sample * block_points, values, scratch, all);
            to_.own_response[network * run_.points.count + row * block_points + sample] = all[sample];
        }
    }

    void step(std::size_t network, std::size_t row, std::size_t sample, const double* values, const double* products,
              const double* of_points, const Scratch& scratch, double* response) const {
        const std::size_t place = network * run_.points.count + row * block_points + sample;
        run_.kernels->step({shape_, run_.parameters + network * shape_.parameters(), values, sample, to_.loss_derivatives[place],
                            to_.learning_rate, products, of_points, scratch.changes.get(), response});
    }

    // Steps alone do without.
    bool needs_column_derivatives() const {
        return symmetric_ || to_.kernel != nullptr || to_.readout_part != nullptr || to_.hidden_part != nullptr;
    }

    double operations() const {
        const auto points = static_cast<double>(run_.points.count);
        return static_cast<double>(run_.networks) * static_cast<double>(shape_.parameters()) * points *
               (pairs_ ? static_cast<double>(others_.count) : 1.0);
    }
    std::size_t widest() const { return *std::max_element(shape_.sizes.begin() + 1, shape_.sizes.end()); }

    // (block, feature, point), zeros where there is no point.
    Doubles pack(const Points& points) const {
        Doubles to = aligned(blocks_of(points.count) * features_ * block_points);
        std::fill_n(to.get(), blocks_of(points.count) * features_ * block_points, 0.0);
        for (std::size_t point = 0; point < points.count; ++point) {
            double* const first = to.get() + point / block_points * features_ * block_points + point % block_points;
            for (std::size_t k = 0; k < features_; ++k) first[k * block_points] = points.values[point * features_ + k];
        }
        return to;
    }
    const double* x_of_row(std::size_t block) const { return rows_.get() + block * features_ * block_points; }
    const double* x_of_column(std::size_t block) const {
        return (symmetric_ ? rows_ : columns_).get() + block * features_ * block_points;
    }
    double* products_of(std::size_t row, std::size_t column) const {
        return input_products_.get() + (row * column_blocks_ + column) * tile_size;
    }
    std::size_t rows_of(std::size_t block) const { return std::min(block_points, run_.points.count - block * block_points); }
    std::size_t columns_of(std::size_t block) const { return std::min(block_points, others_.count - block * block_points); }

    const Evaluation& run_;
    const EvaluationResults& to_;
    const ScalarNetwork& shape_;
    const std::size_t features_;
    const bool pairs_, symmetric_;
    const Points others_;
    const std::size_t row_blocks_, column_blocks_;
    Doubles rows_, columns_{nullptr, &std::free}, input_products_{nullptr, &std::free};
    std::vector<std::unique_ptr<Scratch>> scratch_;
};

}  // namespace

bool evaluate(const Evaluation& evaluation, const EvaluationResults& to, const Watcher& watcher) {
    return Run(evaluation, to).finish(watcher);
}

}  // namespace wideangle
