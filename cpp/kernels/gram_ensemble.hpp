// Ensembles of Gram matrix chains on several threads, reduced as they run.
#pragma once

#include <cstdint>
#include <vector>

#include "angle_step.hpp"
#include "gram_step.hpp"
#include "moments.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

struct GramEnsemble {
    std::size_t inputs = 0;
    std::vector<double> gram0;  // lower triangle by rows
    std::vector<std::uint32_t> widths;
    Activation activation = Activation::relu;
    double slope = 0, weight_variance = 2, bias_variance = 0;
    std::uint64_t seed = 0;
    std::uint64_t first_sample = 0, samples = 0;
    int threads = 1;
    const GramKernels* kernels = nullptr;
    // For two inputs, ReLU and no biases: the angle between them, if neither is 0 and their matrix has rank 2. The chain is
    // then that of the angle, which resolves any determinant; pairs that collapse or die go on as matrices.
    AngleStepFunction angle_step = nullptr;
    double theta0 = 0;
};

// By layer 0...L, each layer's in a row: the lower triangle by rows, or the inputs.
struct GramMoments {
    std::vector<CentralMoments> gram;
    std::vector<CentralMoments> log_norm2;        // ln of the diagonal, over samples where it is not 0
    std::vector<CentralMoments> log_determinant;  // over samples of full rank
    std::vector<CentralMoments> effective_rank;   // over samples with a matrix other than 0
    std::vector<std::uint64_t> rank_lost;         // samples below full rank at or before the layer
};

// Where to put every sample, in C order, or null.
struct GramSamples {
    double* gram = nullptr;             // (sample, layer, input, input)
    double* log_determinant = nullptr;  // (sample, layer), -inf below full rank
    std::int32_t* rank = nullptr;       // (sample, layer)
};

// Result of sample k: a function of (seed, k, gram0, network) alone. The moments do not depend on the number of threads.
// The watcher hears of samples. Returns false if it stopped the run, and then leaves the outputs incomplete.
bool simulate_gram(const GramEnsemble& ensemble, GramMoments& moments, const GramSamples& samples,
                   const Watcher& watcher);

}  // namespace wideangle
