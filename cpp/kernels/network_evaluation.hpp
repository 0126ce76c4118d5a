// Networks with a linear scalar output at blocks of points: outputs, derivatives, products of gradients, and what a step
// of gradient descent on one sample does to the output elsewhere. What the ensemble calls, once per instruction set.
//
// A block holds 32 points; its values are rows of them, unit after unit. Of every number the sum is over units in their
// order, whatever the place of a point in its block.
#pragma once

#include <cstddef>
#include <vector>

#include "activations.hpp"

namespace wideangle {

constexpr std::size_t block_points = 32;

struct ScalarNetwork {
    std::vector<std::size_t> sizes;  // features, units of each hidden layer, 1
    Activation activation;
    double slope;
    std::vector<double> weight_rates, bias_rates;  // of each layer, the readout last

    std::size_t hidden_layers() const { return sizes.size() - 2; }
    std::size_t parameters() const {
        std::size_t count = 0;
        for (std::size_t l = 1; l < sizes.size(); ++l) count += sizes[l] * (sizes[l - 1] + 1);
        return count;
    }
    // What a block keeps: pre-activations, activations and derivatives of the output by the pre-activations of one hidden
    // layer after the other, then the outputs.
    std::size_t block_values() const {
        std::size_t count = block_points;
        for (std::size_t l = 1; l <= hidden_layers(); ++l) count += 3 * sizes[l] * block_points;
        return count;
    }
    // Parameters of a layer are its weights, row by row, and its biases.
    std::size_t parameters_of(std::size_t layer) const { return sizes[layer] * (sizes[layer - 1] + 1); }
};

// The products of gradients of the points of two blocks, in parts.
struct TangentCall {
    const ScalarNetwork& shape;
    const double* row_values;
    const double* column_values;
    const double* input_products;  // of the inputs, (32, 32)
    std::size_t rows, columns;     // how many of the block there are
    std::size_t stride;            // of rows in what is written
    double *kernel, *readout_part, *hidden_part;  // each may be null
};

// A step on one sample, seen by the points of a block.
struct StepCall {
    const ScalarNetwork& shape;
    const double* parameters;
    const double* sample_values;   // of the block that holds the sample, with derivatives
    std::size_t sample;            // in that block
    double loss_derivative, learning_rate;
    const double* input_products;  // of the sample with the points, (32)
    const double* values;          // of the points
    double* scratch;               // twice as many numbers as the widest layer has in a block
    double* response;              // change of the outputs over the learning rate, (32)
};

struct EvaluationKernels {
    // Inputs (feature, point) to pre-activations, activations and outputs.
    void (*forward)(const ScalarNetwork&, const double* parameters, const double* x, double* values);
    // Derivatives, from what forward has left.
    void (*backward)(const ScalarNetwork&, const double* parameters, double* values);
    // Scalar products of the points of two blocks of `units` rows, (32, 32).
    void (*products)(const double* rows, const double* columns, std::size_t units, double* to);
    // The kernel of each point with itself, the same bits as in `tangent`.
    void (*diagonal)(const ScalarNetwork&, const double* x, const double* values, double* to);
    void (*tangent)(const TangentCall&);
    void (*step)(const StepCall&);
};

}  // namespace wideangle
