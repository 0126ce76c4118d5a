// Ensembles of random networks with real weights, on several threads: what they make of given inputs.
#pragma once

#include <cstdint>
#include <vector>

#include "dense_layer.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

struct NetworkShape {
    std::uint32_t input_dim = 0;
    std::vector<std::uint32_t> widths;
    std::uint32_t outputs = 1;
    Activation activation = Activation::relu;
    double slope = 0;
    double weight_variance = 2, bias_variance = 0;
};

// Layer l = 1 ... L+1 of one network; L+1 is the linear readout.
DenseLayer dense_layer_of(const NetworkShape& shape, std::uint64_t seed, std::uint64_t network, std::uint32_t layer);

struct NetworkEnsemble {
    NetworkShape shape;
    std::uint64_t seed = 0;
    std::uint64_t first_network = 0, networks = 0;
    std::uint32_t inputs = 0;
    const double* x = nullptr;        // (input, input_dim) in C order
    const double* tangent = nullptr;  // likewise, a direction for each input, or null
    int threads = 1;
    const DenseKernels* kernels = nullptr;
};

// Where to put what was asked for, in C order; the rest is null.
struct NetworkResults {
    double* outputs = nullptr;      // (network, input, output)
    double* gram = nullptr;         // (network, layer 0...L, input, input): mean over the units of phi_i phi_j
    std::vector<float*> layers;     // for each hidden layer (network, input, unit): post-activations
    // Logarithms of squared norms, (network, layer 0...L+1, input). Of the gradient of the first output with respect to
    // the input (layer 0), to z^l, and to itself; of what a tangent at the input becomes, in phi(z^l) and in the outputs.
    double* log_gradient2 = nullptr;
    double* log_tangent2 = nullptr;
    // (network, input, input): the gradients of the first output with respect to all weights and biases, as standard
    // normal numbers before their scale, multiplied with each other: the network's tangent kernel.
    double* tangent_kernel = nullptr;
};

// The watcher hears of networks. Returns false if it stopped the run, and then leaves the outputs incomplete.
bool simulate_networks(const NetworkEnsemble& ensemble, const NetworkResults& results, const Watcher& watcher);

}  // namespace wideangle
