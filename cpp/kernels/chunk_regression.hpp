// Ridge regression of a layer on chunks of its neurons, from the covariance alone (arXiv 2106.03485).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_paths.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

template <class T>
struct LayerFeatures {
    const T* values;  // (sample, neuron)
    std::size_t samples, neurons;
};

// means (neuron) and the sums over samples of products of deviations from them (neuron, neuron), all entries. Neither
// depends on the number of threads. False if the watcher, which gets the number of rows done, stopped the run.
template <class T>
bool scatter_matrix(const LayerFeatures<T>&, double* means, double* scatter, const CpuPath&, int threads, const Watcher&);

struct ChunkSweep {
    const double* scatter;  // (neurons, neurons)
    std::size_t neurons, samples;
    const std::int64_t* orders;  // (count, neurons), permutations; a chunk of w neurons is the first w of one
    std::size_t count;
    const std::int64_t* sizes;  // increasing, from 1
    std::size_t n_sizes;
    double ridge;            // added to the diagonal of the scatter matrix of a chunk
    bool ridge_matters;      // if not, residuals are those of least squares
    double offset;           // of the denominators of correlations
};

// One of each (order, size).
struct ChunkRegressionResult {
    double* unexplained;          // residual over total variance, summed over all neurons
    double* unexplained_outside;  // over those that are not in the chunk
    double* correlation;          // mean absolute residual correlation over all pairs of neurons
    double* correlation_outside;  // over pairs outside the chunk; NaN where there are none
};

// False if the watcher, which gets the number of orders done, stopped the run.
bool chunk_regression(const ChunkSweep&, const ChunkRegressionResult&, const CpuPath&, int threads, const Watcher&);

}  // namespace wideangle
