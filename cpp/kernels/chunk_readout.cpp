// A block of work is a group of orders for a group of samples: what it returns and packs is small, and there are several
// blocks even for few samples or few orders.
#include "chunk_readout.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace wideangle {
namespace {

constexpr std::size_t group_samples = 64, group_orders = 128, line_bytes = 64;

template <class T>
auto aligned(std::size_t count) {
    struct Free {
        void operator()(T* data) const { std::free(data); }
    };
    const std::size_t bytes = (count * sizeof(T) + line_bytes - 1) / line_bytes * line_bytes;
    std::unique_ptr<T[], Free> data(static_cast<T*>(std::aligned_alloc(line_bytes, bytes)));
    if (!data) throw std::bad_alloc();
    return data;
}

template <class T>
ReadoutFunction<T> kernel(const CpuPath& path) {
    if constexpr (sizeof(T) == sizeof(float)) {
        return path.readout_float;
    } else {
        return path.readout_double;
    }
}

struct BlockScores {
    std::size_t first_order;
    std::vector<std::int64_t> correct;
    std::vector<double> loss;
};

template <class T>
class Run {
  public:
    Run(const ChunkReadout<T>& chunks, const ChunkScores& scores)
        : chunks_(chunks), scores_(scores), transposed_(aligned<double>(chunks.neurons * chunks.classes)) {
        for (std::size_t neuron = 0; neuron < chunks.neurons; ++neuron)
            for (std::size_t c = 0; c < chunks.classes; ++c)
                transposed_[neuron * chunks.classes + c] = chunks.readout[c * chunks.neurons + neuron];
        const std::size_t count = chunks.permutations * chunks.n_sizes;
        std::fill_n(scores.correct, count, 0);
        std::fill_n(scores.loss, count, 0.0);
    }

    bool finish(const Watcher& watcher) {
        const std::size_t blocks = sample_groups() * ((chunks_.permutations + group_orders - 1) / group_orders);
        return OrderedBlocks<BlockScores>(
                   blocks, chunks_.threads,
                   [this](std::uint64_t block, const BlockContext& context) { return run_block(block, context); },
                   [this](BlockScores&& part) { add(part); })
            .finish(watcher);
    }

  private:
    std::size_t sample_groups() const { return (chunks_.samples + group_samples - 1) / group_samples; }

    BlockScores run_block(std::size_t block, const BlockContext& context) const {
        const std::size_t sample = block % sample_groups() * group_samples;
        const std::size_t order = block / sample_groups() * group_orders;
        const std::size_t orders = std::min(group_orders, chunks_.permutations - order);
        BlockScores result{order, std::vector<std::int64_t>(orders * chunks_.n_sizes),
                           std::vector<double>(orders * chunks_.n_sizes)};
        const auto packed = aligned<T>(readout_lanes * chunks_.neurons);
        const auto logits = aligned<double>(readout_lanes * chunks_.classes);
        kernel<T>(*chunks_.path)({chunks_.features + sample * chunks_.neurons,
                                  chunks_.targets + sample,
                                  std::min(group_samples, chunks_.samples - sample),
                                  chunks_.neurons,
                                  transposed_.get(),
                                  chunks_.bias,
                                  chunks_.classes,
                                  chunks_.orders + order * chunks_.order_stride,
                                  orders,
                                  chunks_.order_stride,
                                  chunks_.sizes,
                                  chunks_.n_sizes,
                                  packed.get(),
                                  logits.get(),
                                  result.correct.data(),
                                  result.loss.data(),
                                  context.stop,
                                  context.done});
        return result;
    }

    void add(const BlockScores& part) const {
        const std::size_t first = part.first_order * chunks_.n_sizes;
        for (std::size_t i = 0; i < part.loss.size(); ++i) {
            scores_.correct[first + i] += part.correct[i];
            scores_.loss[first + i] += part.loss[i];
        }
    }

    const ChunkReadout<T>& chunks_;
    const ChunkScores& scores_;
    decltype(aligned<double>(0)) transposed_;  // (neurons, classes)
};

}  // namespace

template <class T>
bool chunk_readout(const ChunkReadout<T>& chunks, const ChunkScores& scores, const Watcher& watcher) {
    return Run<T>(chunks, scores).finish(watcher);
}

template bool chunk_readout(const ChunkReadout<float>&, const ChunkScores&, const Watcher&);
template bool chunk_readout(const ChunkReadout<double>&, const ChunkScores&, const Watcher&);

}  // namespace wideangle
