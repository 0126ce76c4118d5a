// Accuracy and loss of chunks of a layer (arXiv 2106.03485) under a given linear readout, on several threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_paths.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

// For each order of the neurons the first sizes[0], sizes[1], ... of them are a chunk.
template <class T>
struct ChunkReadout {
    const T* features;  // (samples, neurons)
    std::size_t samples, neurons;
    const double* readout;  // (classes, neurons)
    const double* bias;     // (classes)
    std::size_t classes;
    const std::int64_t* targets;  // (samples)
    const std::int64_t* orders;   // (permutations, order_stride)
    std::size_t permutations, order_stride;
    const std::int64_t* sizes;  // increasing; the last is at most order_stride
    std::size_t n_sizes;
    const CpuPath* path;
    int threads;
};

// By (permutation, size). The logits are the bias and the sum over the chunk of feature times readout, in float64.
struct ChunkScores {
    std::int64_t* correct;  // samples whose first largest logit is that of the target
    double* loss;           // sum over samples of the cross-entropy
};

// The watcher sees pairs of a sample and a permutation. Returns false if it stopped the run, and then leaves the scores
// incomplete. They do not depend on the number of threads.
template <class T>
bool chunk_readout(const ChunkReadout<T>& chunks, const ChunkScores& scores, const Watcher& watcher);

}  // namespace wideangle
