// Many networks of one shape, given by their parameters, at the same points: outputs, hidden activations, tangent kernels,
// and responses to single steps; on several threads.
#pragma once

#include <cstddef>
#include <vector>

#include "cpu_paths.hpp"
#include "network_evaluation.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

// (point, feature), in C order.
struct Points {
    const double* values;
    std::size_t count;
};

struct Evaluation {
    ScalarNetwork shape;
    const double* parameters;  // (network, parameter): weights row by row, then biases, layer after layer
    std::size_t networks;
    Points points, others;  // others.values is null where the points themselves take their place
    const EvaluationKernels* kernels;
    int threads;
};

// What is null is not computed.
struct EvaluationResults {
    double* outputs = nullptr;                    // (network, point)
    std::vector<double*> activations;             // (network, point, unit) of each hidden layer; empty for none
    double* diagonal = nullptr;                   // (network, point): kernel of a point with itself
    double *kernel = nullptr, *readout_part = nullptr, *hidden_part = nullptr;  // (network, point, other)
    // Steps on each point alone.
    const double* loss_derivatives = nullptr;     // (network, point): what is given, of the loss by the output
    double learning_rate = 0;
    double* response = nullptr;                   // (network, point, other): change of the output over the learning rate
    double* own_response = nullptr;               // (network, point): the same at the point itself
};

// The watcher gets the number of points done, over all networks. Returns false if it stopped the run.
bool evaluate(const Evaluation&, const EvaluationResults&, const Watcher&);

}  // namespace wideangle
