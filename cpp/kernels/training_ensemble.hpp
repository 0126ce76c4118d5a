// Ensembles of small networks in training, on several threads.
#pragma once

#include <cstdint>

#include "network_ensemble.hpp"
#include "ordered_blocks.hpp"
#include "training_step.hpp"

namespace wideangle {

struct TrainingEnsemble {
    TrainingRun run;
    std::uint64_t first_network = 0, networks = 0;
    const double* initial = nullptr;  // (network, parameter)
    int threads = 1;
    const TrainingKernels* kernels = nullptr;
};

struct TrainingResults {
    double* parameters = nullptr;           // (network, record, parameter)
    std::int64_t* diverged_step = nullptr;  // (network)
};

// What becomes of network k: a function of its initial parameters, the run and its number alone. The watcher hears of
// steps of networks. Returns false if it stopped the run, and then leaves the results incomplete.
bool train_networks(const TrainingEnsemble& ensemble, const TrainingResults& results, const Watcher& watcher);

// The samples and noisy labels that such a run takes in these steps: (network, step, batch).
void training_order(const TrainingEnsemble& ensemble, StepRange steps, std::int64_t* indices, double* labels);

// The parameters of networks of simulate_networks, (network, parameter).
void initial_parameters(const NetworkShape& shape, std::uint64_t seed, std::uint64_t first_network,
                        std::uint64_t networks, const DenseKernels& kernels, double* parameters);

}  // namespace wideangle
