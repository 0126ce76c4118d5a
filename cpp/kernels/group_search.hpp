// Neurons of a layer in groups of equal size that carry as much information as they can: greedy growth, then exchanges.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_paths.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

struct GroupSearch {
    const double* covariance;  // (neurons, neurons), positive definite, in units in which the noise of each neuron is 1
    std::size_t neurons;
    const std::int64_t* orders;  // (count, neurons), permutations: who comes first
    std::size_t count;
    std::size_t size;  // neurons of a group
};

struct GroupSearchResult {
    std::int64_t* greedy;    // (count, neurons): groups from 0, and -1 for neurons that are left over
    std::int64_t* group;     // the same after exchanges
    std::int64_t* n_swaps;   // (count)
};

// For each order: grows groups one after the other, each from the first neuron left in the order by the neuron whose
// variance given the group is the largest; then swaps pairs of neurons of different groups, or one of a group and one left
// over, as long as that raises the sum over groups of log det(covariance). False if the watcher, which gets the number of
// orders done, stopped the run.
bool group_search(const GroupSearch&, const GroupSearchResult&, const CpuPath&, int threads, const Watcher&);

}  // namespace wideangle
