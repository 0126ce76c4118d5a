// Covariance and tangent kernel of infinitely wide networks of a piecewise linear activation, for all pairs of inputs.
#pragma once

#include <cstdint>

#include "cpu_paths.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

// `count` inputs of `features` numbers, one after the other.
struct KernelInputs {
    const double* values;
    std::int64_t count;
    std::int64_t features;
};

// second.values is null for all pairs of first; then the results are exactly symmetric.
struct KernelPairs {
    KernelInputs first, second;
    int threads;
    const CpuPath* path;
};

struct KernelNetwork {
    double slope;  // phi(x) = slope x for x < 0, x for x > 0
    double weight_variance, bias_variance;
    int depth;  // hidden layers
};

// Rows by inputs of first, columns by inputs of second; with every_layer, one such matrix a layer, layer 0 first.
struct KernelResult {
    double* covariance;
    double* tangent;  // may be null
    bool every_layer;
};

// False if the watcher stopped the run. weight_variance (1 + slope^2)/2 must lie between 1e-100 and 1e100.
bool kernel_matrix(const KernelPairs&, const KernelNetwork&, const KernelResult&, const Watcher&);

// 1 - cos(angle) of every pair where that is at most 1, else -(1 + cos(angle)), -0 included: both ends of the range of
// angles keep their digits.
bool kernel_gaps(const KernelPairs&, double* signed_gaps, const Watcher&);

// Squared length of an input, which may leave the range of doubles.
double squared_norm(const double* input, std::int64_t features);

}  // namespace wideangle
