// Inputs through networks with given weights, on several threads.
#pragma once

#include <cstddef>
#include <vector>

#include "forward_layer.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

template <class T>
struct ForwardLayer {
    const T* weights;  // (network, unit, input), C order
    const T* bias;     // (network, unit), or null
    std::size_t inputs, units;
    Activation activation;
    double slope;
    T* kept;  // activations (network, input, unit), or null
};

template <class T>
struct ForwardSweep {
    std::vector<ForwardLayer<T>> layers;
    std::size_t networks;
    const T* x;  // (input, feature), of every network
    std::size_t n_inputs;
    const ForwardKernels<T>* kernels;
    int threads;  // at most; a short sweep takes fewer
};

// By (network, layer, input), layer 0 being the input itself.
struct ForwardStatistics {
    double* norms;      // mean square of the activations
    double* active;     // fraction of units whose pre-activation is positive; of the components of x in layer 0
    double* overlaps;   // cosines (network, layer, input, input), NaN where a vector is zero; or null
};

// The watcher is not asked in a short sweep. Returns false if it stopped the sweep, and then leaves the outputs incomplete.
template <class T>
bool forward(const ForwardSweep<T>& sweep, const ForwardStatistics& statistics, const Watcher& watcher);

}  // namespace wideangle
