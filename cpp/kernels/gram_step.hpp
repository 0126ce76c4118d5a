// One layer of the Gram matrix chain for sixteen samples: what the ensemble calls, once per instruction set.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "activations.hpp"
#include "moments.hpp"

namespace wideangle {

constexpr int gram_lanes = 16;
constexpr int gram_neurons = 8;  // drawn and used together

// Pivots below this part of their diagonal entry count as zero: the rounding of pre-activations to float32 leaves about
// inputs times 1e-15 of it.
constexpr double gram_rank_tolerance(std::size_t inputs) {
    return 0x1p-40 * (inputs > 16 ? static_cast<double>(inputs) / 16 : 1);
}

// The lower triangle of a matrix by rows.
constexpr std::size_t triangle_size(std::size_t inputs) { return inputs * (inputs + 1) / 2; }
constexpr std::size_t triangle_index(std::size_t row, std::size_t column) { return triangle_size(row) + column; }

// Sixteen numbers, one a sample.
struct alignas(64) GramLanes {
    double at[gram_lanes];
};
struct alignas(64) GramFlags {
    std::uint32_t at[gram_lanes];
};

// Stands for the exponent of a matrix of zeros, below that of any bias.
constexpr double gram_zero_exponent = -4096;

// Sixteen samples after some layer; whoever makes one owns the arrays. The Gram matrix Q = phi(z) phi(z)^T/n is kept as
// gram 2^exponent, so that it can grow or shrink without end.
struct GramState {
    std::size_t inputs = 0;
    GramLanes* gram = nullptr;     // packed
    GramLanes* factor = nullptr;   // packed, rows and columns in the order of the pivots: of the matrix, or if there are
                                   // biases of the next covariance
    GramFlags* place = nullptr;    // of each input in the factor
    GramLanes exponent{};          // an integer
    GramLanes log_determinant{};   // ln det Q, meaningless unless rank is the number of inputs
    GramLanes effective_rank{};    // (tr Q)^2/tr(Q^2), or 0 where Q is 0
    GramFlags rank{};              // number of pivots above the tolerance
};

struct GramLayer {
    std::uint64_t seed;
    std::uint64_t first_sample;  // a multiple of 16
    std::uint32_t layer;         // 1 for the first hidden layer
    std::uint32_t width;
    Activation activation;
    double slope, weight_variance, bias_variance;
};

// What the kernels need of scratch: for the neurons, or for the factorisation.
constexpr std::size_t gram_scratch_size(std::size_t inputs) {
    const std::size_t neurons = 2 * gram_neurons * inputs + 2 * triangle_size(inputs) + 3 * inputs;
    const std::size_t factorisation = 2 * inputs * inputs + 3 * inputs;
    return neurons > factorisation ? neurons : factorisation;
}

// What a range of samples contributes.
struct GramReduction {
    CentralMoments* gram;              // [packed]
    CentralMoments* log_norm2;         // [inputs] ln of the diagonal of Q, over samples where it is not 0
    CentralMoments log_determinant{};  // over samples of full rank
    CentralMoments effective_rank{};   // over samples with Q != 0
};

// From gram and exponent to factor, place, log_determinant, effective_rank and rank.
using GramMeasureFunction = void (*)(GramState&, const GramLayer& next, GramLanes* scratch,
                                     const std::atomic<bool>& stop);

// Advances by one layer and measures. If stop is set meanwhile the state is left unusable.
using GramStepFunction = void (*)(GramState&, const GramLayer&, GramLanes* scratch, const std::atomic<bool>& stop);

// Reduces samples begin to end, counted from the first lane of the first state; at most gram_block of them.
constexpr int gram_block = 256;
using GramReduceFunction = void (*)(const GramState* states, int begin, int end, GramReduction& to);

struct GramKernels {
    GramMeasureFunction measure;
    GramStepFunction step;
    GramReduceFunction reduce;
};

}  // namespace wideangle
