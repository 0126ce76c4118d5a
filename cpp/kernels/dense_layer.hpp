// One fully connected layer of one random network: its weights are made sixteen rows and a few columns at a time, used,
// and forgotten. What a network is made of is compiled once per instruction set.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "activations.hpp"

namespace wideangle {

constexpr std::uint32_t row_lanes = 16;     // rows of a tile
constexpr std::uint32_t input_block = 8;    // inputs that a tile meets at once
constexpr std::uint32_t column_block = 8;   // columns come in groups of so many

constexpr std::size_t padded(std::size_t count, std::size_t block) { return (count + block - 1) / block * block; }

// Weight (i, j) is a normal number of variance weight_variance in float32, a function of (seed, network, layer, i, j).
struct DenseLayer {
    std::uint64_t seed;
    std::uint64_t network;
    std::uint32_t layer;  // 1 for the first
    std::uint32_t fan_in, fan_out;
    float weight_variance;
    float bias_variance;
};

// Values of a layer for several inputs, in the order in which the tiles meet them: (block of inputs, unit, input of the
// block), zero where there is no unit or input. Each input has a power of two of its own, so that no depth or variance
// leaves the range of float32: the true value is value * 2^exponent.
struct PackedValues {
    float* value;    // packed_size(units, inputs)
    int* exponent;   // (input)
};

constexpr std::size_t packed_size(std::size_t units, std::size_t inputs) {
    return padded(inputs, input_block) * padded(units, row_lanes);
}
constexpr std::size_t packed_index(std::size_t units, std::size_t unit, std::size_t input) {
    return (input / input_block * padded(units, row_lanes) + unit) * input_block + input % input_block;
}

// z(input, unit) = sum_j W(unit, j) x(j, input), and b(unit) for the first `biased` inputs; rows of
// padded(fan_out, row_lanes) doubles; true values.
using DenseForwardFunction = void (*)(const DenseLayer&, const PackedValues& x, std::uint32_t inputs,
                                      std::uint32_t biased, double* z, const std::atomic<bool>& stop);

// y(input, j) = sum_i W(i, j) g(i, input), rows of padded(fan_in, row_lanes) doubles; true values.
using DenseBackwardFunction = void (*)(const DenseLayer&, const PackedValues& g, std::uint32_t inputs, double* y,
                                       const std::atomic<bool>& stop);

// The weights in C order (fan_out, fan_in) and the biases (fan_out), the same numbers.
using DenseWeightsFunction = void (*)(const DenseLayer&, float* weights, float* biases);

// phi(z) and, unless null, phi'(z) in place of z and into slopes, both (input, unit) as z is; zero beyond the units.
using ActivateFunction = void (*)(Activation, double slope, std::uint32_t units, std::uint32_t inputs, double* z,
                                  double* slopes);

// Rounds values (input, unit) to float32 with a power of two for each input.
using PackFunction = void (*)(std::uint32_t units, std::uint32_t inputs, const double* values, const PackedValues& to);

// sum over units of v(i, unit) v(j, unit), for all pairs of inputs; C order (inputs, inputs).
using GramFunction = void (*)(std::uint32_t units, std::uint32_t inputs, const double* values, double* gram);

struct DenseKernels {
    DenseForwardFunction forward;
    DenseBackwardFunction backward;
    DenseWeightsFunction weights;
    ActivateFunction activate;
    PackFunction pack;
    GramFunction gram;
};

}  // namespace wideangle
