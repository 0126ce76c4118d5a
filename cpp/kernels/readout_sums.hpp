// Running sums of a linear readout over neurons in given orders: what chunk_readout calls, once per instruction set.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace wideangle {

// Samples that any path takes at once; a multiple of what each takes.
constexpr std::size_t readout_lanes = 16;

// Some samples under some orders.
template <class T>
struct ReadoutCall {
    const T* features;  // (samples, neurons)
    const std::int64_t* targets;
    std::size_t samples, neurons;
    const double* readout;  // (neurons, classes)
    const double* bias;
    std::size_t classes;
    const std::int64_t* orders;  // (permutations, order_stride)
    std::size_t permutations, order_stride;
    const std::int64_t* sizes;  // increasing; the last is at most order_stride
    std::size_t n_sizes;
    T* packed;             // room for readout_lanes * neurons
    double* logits;        // room for readout_lanes * classes
    std::int64_t* correct;  // (permutations, n_sizes), added to, as the loss
    double* loss;
    const std::atomic<bool>& stop;     // if set meanwhile the sums are left unusable
    std::atomic<std::uint64_t>& done;  // pairs of a sample and a permutation
};

template <class T>
using ReadoutFunction = void (*)(const ReadoutCall<T>&);

}  // namespace wideangle
